"""What can be broken in a lab so that an alert tells of it: one case for each word of the field `drill`."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.drills.alert_stage import Stage, Struck
from tools.drills.core import DrillError

LANGFLOW = "langflow.service"
BEAT = "celery-beat.service"
SHORT_DAYS = 3
CRASH_EVERY = 20
# More than prometheus_threshold_latency_seconds of the scenario; so many at the same time that enough of them end soon.
SLOW_SECONDS, SLOW_RUNS = 40, 10
# Several clients are refused meanwhile. The exporter is one of them: what was counted is seen after that.
REFUSED_SECONDS = 25
# What the roles call their units on the hosts that monitor.
PROMETHEUS, ALERTMANAGER = "langflow-prometheus.service", "langflow-alertmanager.service"


@dataclass(frozen=True)
class Case:
    """A fault, and how it is put right. Repairing what is not broken does nothing."""

    what: str
    strike: Callable[[Stage], Struck]
    repair: Callable[[Stage], None]
    # Seconds until what was done is what the rule is about: the window it looks at, and a threshold that is an age.
    ripens: float = 0.0
    threshold: str = ""
    # Groups that somebody must be in.
    groups: tuple[str, ...] = ()
    # Not at the same time as other faults of its tier.
    alone: bool = False
    # Has a drill of its own.
    special: bool = False


# --- things that go on until they are told to stop -------------------------------------------------------------------


@dataclass
class Requests:
    """Requests of the controller, one after the other in threads, for as long as a fault lasts."""

    threads: list[threading.Thread] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    flow: str = ""
    front: Any = None

    def start(self, stage: Stage, text: str, parallel: int, every: float) -> None:
        from tools.drills.front import Front

        self.over.clear()
        self.front = Front.of(stage.lab)
        self.flow = self.front.import_flow("")

        def go(number: int) -> None:
            from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_api

            client, count = self.front.door(timeout=90), 0
            while not self.over.wait(every):
                count += 1
                try:
                    client.run(self.flow, f"alert-{number}-{count} {text}", f"alert-{number}-{count}")
                except _langflow_api.ApiError:
                    # That it fails is what the fault is about.
                    continue

        self.threads = [threading.Thread(target=go, args=(number,), daemon=True) for number in range(parallel)]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(100)
        self.threads = []
        if self.flow:
            flow, self.flow = self.flow, ""
            self.front.delete_flow(flow)


FAILING, SLOW, HANGING = Requests(), Requests(), Requests()


def requests(source: Requests, text: str, parallel: int, every: float) -> Callable[[Stage], Struck]:
    def strike(stage: Stage) -> Struck:
        source.start(stage, text, parallel, every)
        return Struck(time.time())

    return strike


# --- the tier of seconds ---------------------------------------------------------------------------------------------


def at_the_door(stage: Stage, moment: float) -> Struck:
    """Told by what users see, so a load balancer is named and no node."""
    return Struck(moment, {"instance": set(stage.lab.balancers)})


def all_nodes_stopped(stage: Stage) -> Struck:
    return at_the_door(stage, stage.stop(stage.lab.nodes, LANGFLOW).moment)


def databases(stage: Stage) -> list[str]:
    """The server's unit, whatever its version."""
    found = stage.known_units(stage.lab.data, "postgresql@*-main.service")
    return found or stage.known_units(stage.lab.data, "patroni.service")


def database_stopped(stage: Stage) -> Struck:
    return Struck(stage.stop([stage.lab.data], *databases(stage)).moment, {"instance": {stage.lab.data}})


def redis_units(stage: Stage) -> list[str]:
    return stage.known_units(stage.hosts("redis")[0], "redis-*.service")


def nodes_hang(stage: Stage) -> Struck:
    """Processes that are there and answer nothing, while users ask."""
    HANGING.start(stage, "", parallel=2, every=1.0)
    return at_the_door(stage, stage.signal(stage.lab.nodes, "SIGSTOP", LANGFLOW).moment)


def nodes_go_on(stage: Stage) -> None:
    stage.signal(stage.lab.nodes, "SIGCONT", LANGFLOW)
    HANGING.stop()


def redis_stopped(stage: Stage) -> Struck:
    """Those who use it are named as well."""
    hosts = stage.hosts("redis")[:1]
    return Struck(stage.stop(hosts, *redis_units(stage)).moment, {"instance": {*hosts, *stage.hosts("celery")}})


PROBE_FLOW = "flowfleet-probe"


def rename_probe(stage: Stage, old: str, new: str) -> Struck:
    moment = time.time()
    stage.psql(f"UPDATE flow SET endpoint_name = '{new}' WHERE endpoint_name = '{old}'")
    return Struck(moment)


def probe_back(stage: Stage) -> None:
    rename_probe(stage, f"{PROBE_FLOW}-away", PROBE_FLOW)


def pooler(stage: Stage) -> list[str]:
    return stage.known_units(stage.lab.nodes[0], "langflow-pgbouncer.service")


# --- the tier of minutes ---------------------------------------------------------------------------------------------


def cpu_burned(stage: Stage) -> Struck:
    """All cores of the machine. The hosts of a lab share them, so that every one of them sees it."""
    loops = 'for n in $(seq "$(nproc)"); do (while :; do :; done) & done; wait'
    return Struck(stage.run_aside(stage.last_node, "cpu", loops).moment, {"instance": set(stage.lab.addresses)})


def unit_crashes(stage: Stage) -> Struck:
    """A service that is killed again and again, and comes back each time."""
    host = stage.hosts("celery")[0]
    loop = f"while :; do systemctl kill --signal=SIGKILL {BEAT}; sleep {CRASH_EVERY}; done"
    return Struck(stage.run_aside(host, "crash", loop).moment, {"instance": {host}, "name": {BEAT}})


def unit_stays(stage: Stage) -> None:
    host = stage.hosts("celery")[0]
    stage.stop_aside(host, "crash")
    stage.start([host], BEAT)


DROPIN = f"/run/systemd/system/{BEAT}.d"


def unit_gave_up(stage: Stage) -> Struck:
    """A service that is not restarted any more."""
    host = stage.hosts("celery")[-1]
    text = r"[Service]\nRestart=no\n"
    stage.shell(host, f"mkdir -p {DROPIN}; printf '{text}' > {DROPIN}/drill.conf; systemctl daemon-reload")
    moment = stage.signal([host], "SIGKILL", BEAT).moment
    return Struck(moment, {"instance": {host}, "name": {BEAT}})


def unit_tries_again(stage: Stage) -> None:
    host = stage.hosts("celery")[-1]
    stage.shell(host, f"rm -rf {DROPIN}; systemctl daemon-reload")
    stage.start([host], BEAT)


CERTIFICATE = "/etc/flowfleet/tls/nginx.crt"
KEY = "/etc/flowfleet/tls/nginx.key"
METRICS = "langflow-host-metrics.service"


def certificate_short(stage: Stage) -> Struck:
    """The same certificate of the same authority, but for its end."""
    host = stage.lab.balancers[0]
    authority = stage.lab.template("{{ langflow_fleet_pki_dir }}/ca")
    phrase = stage.lab.template("{{ lookup('flowfleet.langflow.secret', 'ca_passphrase') }}")
    request = f"openssl x509 -in {CERTIFICATE} -x509toreq -copy_extensions copyall -signkey {KEY} 2>/dev/null"
    argv = [
        "openssl",
        "x509",
        "-req",
        "-CA",
        f"{authority}.crt",
        "-CAkey",
        f"{authority}.key",
        "-days",
        str(SHORT_DAYS),
    ]
    argv += ["-copy_extensions", "copyall", "-passin", "env:DRILL_PHRASE"]
    done = subprocess.run(
        argv, input=stage.shell(host, request), env={**os.environ, "DRILL_PHRASE": str(phrase)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise DrillError(f"no certificate of {SHORT_DAYS} days: {done.stderr[-300:]}")
    stage.shell(host, f"test -e {CERTIFICATE}.drill || cp -p {CERTIFICATE} {CERTIFICATE}.drill")
    moment = time.time()
    stage.put(host, done.stdout, f"{CERTIFICATE}.new")
    stage.shell(host, f"cat {CERTIFICATE}.new > {CERTIFICATE}; rm {CERTIFICATE}.new; {SEEN}")
    return Struck(moment, {"instance": {host}})


SEEN = f"systemctl reload nginx.service; systemctl start {METRICS}"


def certificate_back(stage: Stage) -> None:
    host = stage.lab.balancers[0]
    stage.shell(host, f"if test -e {CERTIFICATE}.drill; then mv {CERTIFICATE}.drill {CERTIFICATE}; {SEEN}; fi")


WORKERS = "celery-worker@*.service"


def queue_stuck(stage: Stage) -> Struck:
    """Nobody takes what is submitted."""
    from tools.drills.front import Front

    for host in stage.hosts("celery"):
        stage.stop([host], *stage.known_units(host, WORKERS))
    front = Front.of(stage.lab)
    FAILING_TASKS.append(front.import_flow(""))
    moment = time.time()
    for number in range(3):
        body = {"flow": FAILING_TASKS[-1], "input": f"alert-task-{number}"}
        front.door().call("POST", "/tasks/v1/runs", body, expect=(200, 201, 202))
    return Struck(moment)


FAILING_TASKS: list[str] = []


def queue_taken(stage: Stage) -> None:
    from tools.drills.front import Front

    for host in stage.hosts("celery"):
        names = stage.known_units(host, WORKERS)
        if names:
            stage.start([host], *names)
    if FAILING_TASKS:
        # The workers are given the time to take what lies there before its flow goes.
        time.sleep(20)
        Front.of(stage.lab).delete_flow(FAILING_TASKS.pop())


def connections_used(stage: Stage) -> Struck:
    """Sessions that do nothing, until more than nine in ten are taken."""
    wanted = int(int(stage.psql("SHOW max_connections")) * 0.92) - int(
        stage.psql("SELECT count(*) FROM pg_stat_activity")
    )
    one = "(sleep 3600 | psql -XAtq -d langflow >/dev/null 2>&1)"
    script = f"for n in $(seq {max(wanted, 1)}); do {one} & done; wait"
    moment = stage.run_aside(stage.lab.data, "connections", script, "postgres").moment
    return Struck(moment, {"instance": {stage.lab.data}})


def transaction_open(stage: Stage) -> Struck:
    script = "(echo 'BEGIN; SELECT txid_current();'; sleep 7200) | psql -XAtq -d langflow"
    moment = stage.run_aside(stage.lab.data, "transaction", script, "postgres").moment
    return Struck(moment, {"instance": {stage.lab.data}})


def config_broken(stage: Stage) -> Struck:
    """A file of rules that Prometheus refuses when it is told to read it."""
    host = stage.monitors[-1]
    moment = time.time()
    stage.shell(host, f"echo 'groups: nonsense' > /etc/prometheus/rules/drill.yml; systemctl reload {PROMETHEUS}")
    return Struck(moment, {"instance": {host}})


def config_mended(stage: Stage) -> None:
    host = stage.monitors[-1]
    stage.shell(
        host,
        "if test -e /etc/prometheus/rules/drill.yml; then rm /etc/prometheus/rules/drill.yml;"
        f" systemctl reload {PROMETHEUS}; fi",
    )


def job_stuck(stage: Stage) -> Struck:
    """A background job that nobody takes, made of one that was done."""
    from tools.drills.front import Front

    front = Front.of(stage.lab)
    flow = front.import_flow("")
    job = front.start_job(flow, "alert-job")
    deadline = time.monotonic() + 60
    while front.job_status(job) != "completed" and time.monotonic() < deadline:
        time.sleep(1)
    moment = time.time()
    STUCK.append((flow, job))
    stage.psql(f"UPDATE job SET status = 'queued', created_timestamp = now() - interval '1 day' WHERE job_id = '{job}'")
    return Struck(moment)


STUCK: list[tuple[str, str]] = []


# --- logs and traces -------------------------------------------------------------------------------------------------

LOG_STORE, LOG_SHIPPER = "elasticsearch.service", "log-shipper.service"
LOG_DATA = "/var/lib/elasticsearch"
FILLER = f"{LOG_DATA}/drill-filler"


def log_store_stopped(stage: Stage) -> Struck:
    """Nobody takes lines; every host has some that wait."""
    return Struck(stage.stop(stage.hosts("logging"), LOG_STORE).moment, {"instance": set(stage.lab.addresses)})


def log_disk_filled(stage: Stage) -> Struck:
    """Nearly all of the room on the file system of Elasticsearch is taken by something else."""
    host = stage.hosts("logging")[0]
    # Any other file system is that of the machine.
    if stage.shell(host, f"findmnt -n -o FSTYPE --mountpoint {LOG_DATA}", check=False) != "tmpfs":
        raise DrillError(f"{host}: {LOG_DATA} is no file system of the lab's own, so it is not filled")
    moment = time.time()
    room = f"$(( $(df --output=avail -B1 {LOG_DATA} | tail -1) - $(df --output=size -B1 {LOG_DATA} | tail -1) / 50 ))"
    stage.shell(host, f"test -e {FILLER} || fallocate -l {room} {FILLER}")
    return Struck(moment, {"instance": {host}})


def log_disk_emptied(stage: Stage) -> None:
    for host in stage.hosts("logging")[:1]:
        stage.shell(host, f"rm -f {FILLER}")


def job_gone(stage: Stage) -> None:
    from tools.drills.front import Front

    while STUCK:
        flow, job = STUCK.pop()
        stage.psql(f"DELETE FROM job WHERE job_id = '{job}'")
        Front.of(stage.lab).delete_flow(flow)


def clients_rejected(stage: Stage) -> Struck:
    """No further client for a while. The session that says so takes it back, too: a new one would be refused."""
    host = stage.hosts("redis")[0]
    port = stage.lab.template("{{ redis_cache_port | default(6379) }}", host)
    user = stage.lab.template("{{ redis_admin_user | default('admin') }}", host)
    password = stage.lab.template("{{ lookup('flowfleet.langflow.secret', 'redis_admin_password') }}", host)
    stage.put(host, f"{password}\n", "/run/drill-redis", mode="0600")
    talk = (
        "old=$(CLI CONFIG GET maxclients | tail -1);"
        f" (echo CONFIG SET maxclients 1; sleep {REFUSED_SECONDS}; echo CONFIG SET maxclients $old) | CLI;"
        " rm -f /run/drill-redis"
    )
    client = f"redis-cli --tls --cacert /etc/flowfleet/tls/ca.crt -p {port} --user {user} --no-auth-warning"
    script = f"export REDISCLI_AUTH=$(cat /run/drill-redis); {talk.replace('CLI', client)}"
    return Struck(stage.run_aside(host, "redis", script).moment, {"instance": {host}})


def clients_taken(stage: Stage) -> None:
    """It ends by itself."""
    for _attempt in range(60):
        if not stage.units(stage.hosts("redis")[0], "drill-redis.service"):
            return
        time.sleep(1.5)


def archive_stuck(stage: Stage) -> Struck:
    """The repository is not there, and there is something to archive."""
    host = stage.hosts("backup")[0]
    moment = stage.stop([host], "pgbackrest.service").moment
    stage.psql("SELECT pg_switch_wal()")
    return Struck(moment, {"instance": {stage.lab.data}})


def alertmanager_stopped(stage: Stage) -> Struck:
    """Two alerts: the one that is gone, and the other one, which sees nobody else."""
    return Struck(stage.stop(stage.monitors[-1:], ALERTMANAGER).moment, {"instance": set(stage.monitors)})


def receiver_refuses(stage: Stage) -> Struck:
    """The receiver of the dead-man's switch, until the repair: always due, and the way for all others stays open."""
    moment = time.time()
    stage.sink.fail(seconds=3600, status=400, path="/watchdog")
    return Struck(moment, {"instance": set(stage.monitors)})


def nothing(_stage: Stage) -> None:
    """Nothing to put right."""


def no_fault(_stage: Stage) -> Struck:
    return Struck(time.time())


# --- the list --------------------------------------------------------------------------------------------------------

CASES: Mapping[str, Case] = {
    # seconds
    "host_killed": Case(
        "an application host is gone, all at once",
        lambda stage: stage.kill_host(stage.last_node),
        lambda stage: stage.start_host(stage.last_node),
    ),
    "node_stopped": Case(
        "one node of Langflow stops, the others serve",
        lambda stage: stage.stop([stage.last_node], LANGFLOW),
        lambda stage: stage.start([stage.last_node], LANGFLOW),
    ),
    "backends_stopped": Case(
        "all nodes of Langflow stop", all_nodes_stopped, lambda stage: stage.start(stage.lab.nodes, LANGFLOW)
    ),
    "front_stopped": Case(
        "Nginx of a load balancer stops",
        lambda stage: stage.stop([stage.lab.balancers[0]], "nginx.service"),
        lambda stage: stage.start([stage.lab.balancers[0]], "nginx.service"),
    ),
    "database_stopped": Case(
        "PostgreSQL stops", database_stopped, lambda stage: stage.start([stage.lab.data], *databases(stage))
    ),
    "redis_stopped": Case(
        "both instances of Redis stop",
        redis_stopped,
        lambda stage: stage.start(stage.hosts("redis")[:1], *redis_units(stage)),
        groups=("redis",),
    ),
    "api_hangs": Case("Langflow's processes are there and answer nothing", nodes_hang, nodes_go_on),
    "tasks_stopped": Case(
        "the API of the tasks tier stops on every host",
        lambda stage: stage.stop(stage.hosts("celery"), "celery-api.service"),
        lambda stage: stage.start(stage.hosts("celery"), "celery-api.service"),
        groups=("celery",),
    ),
    "pooler_stopped": Case(
        "PgBouncer of a node stops",
        lambda stage: stage.stop(stage.lab.nodes[:1], *pooler(stage)),
        lambda stage: stage.start(stage.lab.nodes[:1], *pooler(stage)),
    ),
    "prometheus_stopped": Case(
        "one Prometheus of the pair stops",
        lambda stage: stage.stop(stage.monitors[-1:], PROMETHEUS),
        lambda stage: stage.start(stage.monitors[-1:], PROMETHEUS),
        groups=("monitoring",),
    ),
    "alertmanager_stopped": Case(
        "one Alertmanager of the pair stops",
        alertmanager_stopped,
        lambda stage: stage.start(stage.monitors[-1:], ALERTMANAGER),
        groups=("monitoring",),
    ),
    "flow_broken": Case(
        "the synthetic flow cannot be found, while everything else is well",
        lambda stage: rename_probe(stage, PROBE_FLOW, f"{PROBE_FLOW}-away"),
        probe_back,
    ),
    "exporter_stopped": Case("exporters stop, one kind after the other (drill 4)", no_fault, nothing, special=True),
    "watchdog": Case("nothing is broken, and that is told all the time (drill 6)", no_fault, nothing, special=True),
    "log_store_stopped": Case(
        "Elasticsearch stops on every host",
        log_store_stopped,
        lambda stage: stage.start(stage.hosts("logging"), LOG_STORE),
        threshold="prometheus_threshold_log_age",
        groups=("logging",),
    ),
    "log_shipper_stopped": Case(
        "the shipper of a host stops",
        lambda stage: stage.stop([stage.last_node], LOG_SHIPPER),
        lambda stage: stage.start([stage.last_node], LOG_SHIPPER),
        groups=("logging",),
    ),
    # minutes
    "log_disk_filled": Case(
        "the disk of Elasticsearch is full", log_disk_filled, log_disk_emptied, groups=("logging",), alone=True
    ),
    "cpu_burned": Case(
        "all cores are busy with nothing",
        cpu_burned,
        lambda stage: stage.stop_aside(stage.last_node, "cpu"),
        # The rule looks at the last minute.
        ripens=60,
        # What is timed beside it would be late.
        alone=True,
    ),
    "unit_crashes": Case(
        "a service crashes again and again",
        unit_crashes,
        unit_stays,
        # Three times, with the pauses that systemd makes.
        ripens=CRASH_EVERY * 5,
        groups=("celery",),
    ),
    "unit_gave_up": Case("a service is not restarted any more", unit_gave_up, unit_tries_again, groups=("celery",)),
    "certificate_short": Case(
        f"the front door has a certificate of {SHORT_DAYS} days", certificate_short, certificate_back
    ),
    "queue_stuck": Case(
        "tasks are submitted and nobody takes them",
        queue_stuck,
        queue_taken,
        threshold="prometheus_threshold_queue_age",
        ripens=30,
        groups=("celery",),
    ),
    "connections_used": Case(
        "nine in ten sessions of PostgreSQL are taken",
        connections_used,
        lambda stage: stage.stop_aside(stage.lab.data, "connections"),
    ),
    "transaction_open": Case(
        "a transaction stays open",
        transaction_open,
        lambda stage: stage.stop_aside(stage.lab.data, "transaction"),
        threshold="prometheus_threshold_transaction_seconds",
    ),
    "errors_5xx": Case(
        "runs fail, one after the other",
        requests(FAILING, "error=1", parallel=2, every=0.5),
        lambda _stage: FAILING.stop(),
        ripens=60,
    ),
    "latency_slow": Case(
        "runs take longer than the objective says",
        requests(SLOW, f"sleep={SLOW_SECONDS}", parallel=SLOW_RUNS, every=0.2),
        lambda _stage: SLOW.stop(),
        # Until enough of them have ended.
        ripens=SLOW_SECONDS + 60,
    ),
    "config_broken": Case("Prometheus refuses its configuration", config_broken, config_mended, groups=("monitoring",)),
    "notify_broken": Case(
        "a receiver of Alertmanager refuses",
        receiver_refuses,
        lambda stage: stage.sink.fail(seconds=0),
        # The dead-man's switch is told once a minute.
        ripens=60,
        groups=("lab_sink",),
    ),
    "jobs_stuck": Case("a background job waits for a day", job_stuck, job_gone),
    "clients_rejected": Case(
        "Redis takes no further client",
        clients_rejected,
        clients_taken,
        # And the next look.
        ripens=REFUSED_SECONDS + 15,
        groups=("redis",),
        alone=True,
    ),
    "archive_stuck": Case(
        "the repository of the backups is gone",
        archive_stuck,
        lambda stage: stage.start(stage.hosts("backup")[:1], "pgbackrest.service"),
        threshold="prometheus_threshold_archive_age",
        ripens=60,
        groups=("backup",),
    ),
}
