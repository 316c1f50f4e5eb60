"""Tasks while what carries them is taken away (scenario `celery`): 200 for each fault, on two worker hosts.

worker-killed  kill -9 of a worker        host-lost   a whole worker host       redis   the master that has the queue
node-rolls     a roll of Langflow         api         restarts of the API       roll    a rolling restart of the workers
beat-lost      the host of the beat that leads
control        late acknowledgement and recovery are off: kill -9 of a worker must lose tasks

A client submits tasks of mixed lengths and guarantees through the front door, and looks at all of them all the time.
How often each was executed is known from a counter in the drill's own process. A schedule fires all the while.
"""

from __future__ import annotations

import json
import shlex
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tools.drills import data_tier
from tools.drills.core import Drill, DrillError, Lab, count_text, say
from tools.drills.data_jobs import QUEUE, Redis, lose_host
from tools.drills.front import Front
from tools.drills.load import ExecutionCounter, counting, quantile
from tools.drills.tasks_ledger import (
    AT_MOST_ONCE,
    GUARANTEES,
    Fire,
    Task,
    broken,
    by_guarantee,
    judge_schedule,
    mixed,
    open_tasks,
    read_counters,
    read_fire,
    taken,
    there_between,
    times_text,
)

SCENARIO = "celery"
COUNT = 200
# Seconds over which tasks are submitted, and from the first one to the fault.
SPREAD, LEAD = 30.0, 12.0
# A fault that takes its time meets tasks for longer.
LONG_SPREAD = 150.0
# Every task has an end by then, and keeps it for so long.
PATIENCE, QUIET = 420.0, 12.0
# The schedule: every so many seconds; the beat looks once a tick, and its lock ends by itself after so long.
EVERY, TICK, LOCK = 5, 1.0, 5.0
# How long Redis may be without a master.
FAILOVER = 30.0
API = "/tasks/v1"
SCHEDULES = "/etc/flowfleet/celery/schedules.json"
CONFIG = "/etc/flowfleet/celery/config.json"
TOOL = "/usr/local/bin/flowfleet-tasks"
WORKER, BEAT, SERVER = (f"celery-{part}.service" for part in ("worker@main", "beat", "api"))
NETS_OFF = {"celery_settings": {"recovery": {"acks_late": False, "sweep": 0}}}
LEADER = (
    "from flowfleet_tasks import config, store; found = store.Store(config.load()); "
    "print(found.client.get(found.key('leader')) or '')"
)
ENVIRONMENT = (
    f"FLOWFLEET_TASKS_CONFIG={CONFIG}",
    "FLOWFLEET_TASKS_CREDENTIALS=/etc/flowfleet/celery/credentials",
)


# --- the tier --------------------------------------------------------------------------------------------------------


@dataclass
class Tier:
    """The hosts that work on tasks, and the way in for those who submit them."""

    lab: Lab
    front: Front

    def __post_init__(self) -> None:
        self.data = data_tier.Tier(self.lab)

    @property
    def hosts(self) -> list[str]:
        return self.lab.groups["celery"]

    @property
    def alive(self) -> list[str]:
        return [host for host in self.hosts if self.data.running(host)]

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of any answer of the API; 0 and a reason without one."""
        from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_api

        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = None
        if body is not None:
            sent, given["Content-Type"] = json.dumps(body).encode(), "application/json"
        anything = tuple(range(200, 600))
        try:
            answer = self.front.door(timeout=40).request(method, API + path, body=sent, headers=given, expect=anything)
            return answer.status, answer.json()
        except _langflow_api.ApiError as error:
            return error.status or 0, {"error": {"message": str(error)}}

    def runs(self, **wanted: str) -> list[dict[str, Any]] | None:
        """The newest 400 runs of the user; nothing if the API does not tell."""
        query = "&".join(f"{name}={value}" for name, value in {**wanted, "limit": "400"}.items())
        status, shown = self.call("GET", f"/runs?{query}")
        return list(shown["runs"]) if status == 200 else None

    # --- looking

    def shows(self, host: str, unit: str) -> str:
        """What differs when a unit has been started again."""
        return self.lab.inside(host, "systemctl", "show", unit, "--property=MainPID,InvocationID", check=False)

    def all_show(self, unit: str) -> dict[str, str]:
        return {host: self.shows(host, unit) for host in self.hosts}

    def counters(self) -> dict[str, float]:
        """The tier's own counters, which every host of the API knows."""
        for host in self.alive:
            text = self.data.shell(host, "curl -sf -m 10 http://127.0.0.1:9540/metrics", check=False)
            if "flowfleet_tasks_up 1" in text:
                return read_counters(text)
        raise DrillError("no host of the API tells its figures")

    def leader(self) -> str:
        """The host whose beat leads."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for host in self.alive:
                argv = ["env", *ENVIRONMENT, "/opt/celery/current/bin/python", "-I", "-c", LEADER]
                found = self.lab.inside(host, *argv, check=False).split("/")[0]
                if found in self.hosts:
                    return found
            time.sleep(0.5)
        raise DrillError("no beat leads")

    def ready(self, host: str) -> bool:
        """Whether worker, beat and API of a host work."""
        units = self.data.shell(host, f"systemctl is-active {WORKER} {BEAT} {SERVER}", check=False).split()
        return units == ["active"] * 3 and self.data.shell(host, f"{TOOL} ping && echo yes", check=False).endswith(
            "yes"
        )

    def settled(self, timeout: float = 240) -> float:
        """Wait until all parts work on all hosts; the seconds that took."""
        began = time.monotonic()
        waiting = list(self.hosts)
        while waiting := [host for host in waiting if not self.ready(host)]:
            if time.monotonic() - began > timeout:
                raise DrillError(f"the tasks tier of {', '.join(waiting)} does not work within {timeout:g} s")
            time.sleep(1)
        return time.monotonic() - began

    # --- doing

    def kill(self, host: str, unit: str = WORKER) -> None:
        """SIGKILL for all processes of a unit."""
        self.lab.inside(host, "systemctl", "kill", "--signal=SIGKILL", unit)

    def start_missing(self) -> None:
        """Start every host that was taken away."""
        for host in self.hosts:
            if not self.data.running(host):
                self.data.start_host(host)

    def nets_off(self) -> bool:
        """Whether a control has left a host without its nets."""
        text = [self.data.shell(host, f"cat {CONFIG}", check=False) for host in self.hosts]
        return any(not json.loads(found).get("recovery", {}).get("acks_late", True) for found in text if found)

    def write_schedules(self, text: str) -> None:
        """Give all beats other schedules; they read the file when it changes."""
        command = f"printf %s {shlex.quote(text)} > {SCHEDULES}.new && chown root:celery {SCHEDULES}.new"
        command += f" && chmod 0640 {SCHEDULES}.new && mv {SCHEDULES}.new {SCHEDULES}"
        for host in self.alive:
            self.data.shell(host, command)

    @contextmanager
    def scheduled(self, name: str, flow: str) -> Iterator[None]:
        """A schedule while the block runs, from its first run on."""
        entry = {"name": name, "flow": flow, "every": EVERY, "input": name}
        before = self.data.shell(self.alive[0], f"cat {SCHEDULES}")
        self.write_schedules(json.dumps({"timezone": "UTC", "schedules": [entry]}))
        try:
            deadline = time.monotonic() + 60
            while not self.runs(schedule=name):
                if time.monotonic() > deadline:
                    raise DrillError(f"the schedule {name} does not fire")
                time.sleep(0.5)
            yield
        finally:
            self.write_schedules(before)


# --- the client ------------------------------------------------------------------------------------------------------


@dataclass
class Client:
    """Submits tasks as a careful client does, and looks at all of them until each has an end."""

    tier: Tier
    flow: str
    tasks: list[Task]
    spread: float = SPREAD
    patience: float = PATIENCE
    looks: int = 0
    blind: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def _ask(self, task: Task) -> None:
        """Submit until there is a yes: asking again with the same key makes no second run."""
        token = str(uuid.uuid5(uuid.NAMESPACE_URL, task.token))
        deadline = time.monotonic() + self.patience
        while not self._over.is_set():
            status, shown = self.tier.call("POST", "/runs", task.body(self.flow), Idempotency_Key=token)
            if status in (200, 202):
                task.run_id, task.taken = str(shown["id"]), time.time()
                return
            task.refusals.append(f"{status} {shown.get('error', {}).get('message', '')}"[:200])
            if status not in (0, 429, 502, 503, 504) or time.monotonic() > deadline:
                return
            time.sleep(1)

    def _submit(self) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(max_workers=16) as pool:
            for number, task in enumerate(self.tasks):
                if self._over.wait(max(0.0, began + number * self.spread / len(self.tasks) - time.monotonic())):
                    return
                task.asked = time.time()
                pool.submit(self._ask, task)

    def look(self) -> bool:
        """See how all tasks are now; False if the API does not tell."""
        shown = self.tier.runs()
        if shown is None:
            self.blind += 1
            return False
        self.looks += 1
        now, states = time.time(), {run["id"]: run["state"] for run in shown}
        for task in taken(self.tasks):
            if task.run_id in states:
                task.see(states[task.run_id], now)
            elif now - task.taken > 5 and not task.end:
                self._look_for(task)
        return True

    def _look_for(self, task: Task) -> None:
        """One that is not among the newest ones: if it is gone, it is submitted again as the documentation says."""
        status, shown = self.tier.call("GET", f"/runs/{task.run_id}")
        if status == 200:
            task.see(shown["state"], time.time())
        elif status == 404:
            task.forgotten += 1
            self._ask(task)

    def _watch(self) -> None:
        while not self._over.wait(2.0):
            self.look()

    def start(self) -> None:
        for work in (self._submit, self._watch):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def submitted(self) -> bool:
        return not self._threads[0].is_alive()

    def in_flight(self) -> int:
        """How many of its tasks have no end now."""
        self.look()
        return len(open_tasks(self.tasks))

    def finish(self, still: float = 0.0) -> float:
        """Wait until all tasks have ended, or nothing has changed for some seconds; the seconds that took."""
        began = moved = time.monotonic()
        before = -1
        while not self.submitted or open_tasks(self.tasks):
            left = len(open_tasks(self.tasks))
            now = time.monotonic()
            moved = now if left != before or not self.submitted else moved
            before = left
            if now - began > self.patience or (still and now - moved > still):
                break
            time.sleep(1)
        return time.monotonic() - began

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)


# --- one fault -------------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """What a fault may use, and what it has seen."""

    drill: Drill
    tier: Tier
    client: Client
    before: dict[str, float]
    began: float = 0.0

    def strike(self, what: str, lasting: bool = False) -> None:
        """Note that it happens now, and how many tasks it meets; what lasts meets more later, see met()."""
        busy = self.client.in_flight()
        say(f"  {what}, with {busy} tasks in flight")
        self.began = time.time()
        self.drill.note("fault", {"what": what, "in_flight": busy})
        if not lasting:
            self.drill.check("tasks in flight when it happened", busy >= 5, busy, "5 or more")

    def met(self) -> None:
        """Count the tasks that were there while it lasted; without any, nothing was proven."""
        found = len(there_between(self.client.tasks, self.began, time.time()))
        self.drill.check("tasks in flight while it lasted", found >= 5, found, "5 or more")

    def revived(self) -> float:
        """Runs that were taken over from a worker that is gone."""
        return self.tier.counters().get("revived_total", 0) - self.before.get("revived_total", 0)

    def restarted(self, unit: str, before: Mapping[str, str], hosts: Sequence[str]) -> None:
        """The unit was started again on some hosts."""
        same = [host for host in hosts if before[host] == self.tier.shows(host, unit)]
        text = f"{len(hosts) - len(same)} of {len(hosts)}"
        self.drill.check(f"hosts on which {unit} was started again", not same, text, f"{len(hosts)}")


@dataclass(frozen=True)
class Fault:
    """Something that is taken away, and what is known of it."""

    title: str
    # It happens; what is returned is done when all tasks have ended.
    act: Callable[[Case], Callable[[], None] | None]
    spread: float = SPREAD
    lead: float = LEAD
    # How late a schedule may be.
    late: float = 2 * TICK
    # Whether everything that may be tried again has to succeed.
    succeed: bool = True
    # Whether the tier's own counters have to know each end: what was acknowledged may be lost with a master.
    counted: bool = True


def worker_killed(case: Case) -> Callable[[], None]:
    before = case.tier.all_show(WORKER)
    host = case.tier.hosts[0]
    case.strike(f"kill -9 of the worker on {host}")
    case.tier.kill(host)

    def afterwards() -> None:
        case.restarted(WORKER, before, [host])
        found = case.revived()
        case.drill.check("runs that another process took over", found > 0, f"{found:g}", "1 or more")

    return afterwards


def take_host(case: Case, host: str, what: str) -> None:
    case.strike(f"{what} {host} is lost")
    lose_host(case.tier.data, host)


def host_lost(case: Case) -> Callable[[], None]:
    leader = case.tier.leader()
    host = next(name for name in case.tier.hosts if name != leader)
    take_host(case, host, "the worker host")

    def afterwards() -> None:
        found = case.revived()
        case.drill.check("runs that another host took over", found > 0, f"{found:g}", "1 or more")
        case.drill.check("the host was away until the last task had ended", host not in case.tier.alive, host, "yes")

    return afterwards


def beat_lost(case: Case) -> Callable[[], None]:
    leader = case.tier.leader()
    take_host(case, leader, "the host of the beat that leads,")

    def afterwards() -> None:
        found = case.tier.leader()
        case.drill.check("another beat leads", found != leader, f"{leader} -> {found}", f"not {leader}")

    return afterwards


def redis_lost(case: Case) -> Callable[[], None]:
    redis = Redis(case.tier.data)
    redis.settled()
    master = redis.masters()[QUEUE]
    case.strike(f"kill -9 of the master of the queue on {master}")
    redis.kill(QUEUE, master)

    def afterwards() -> None:
        redis.settled()
        found = redis.masters()[QUEUE]
        case.drill.check("another host is master", found != master, f"{master} -> {found}", f"not {master}")

    return afterwards


def node_rolls(case: Case) -> None:
    before = case.tier.lab.starts()
    case.strike("a roll of Langflow", lasting=True)
    # The workers have a case of their own.
    play = case.tier.lab.playbook(
        "rolling_restart",
        *("-e", "rollout_reset=true", "-e", "celery_restart_mode=start"),
        folder=case.drill.folder,
    )
    case.met()
    ended_well(case, play)
    after = case.tier.lab.starts()
    changed = sum(before[node] != after[node] for node in before)
    case.drill.check("nodes that were restarted", changed == len(before), f"{changed} of {len(before)}", "all")


def ended_well(case: Case, play: Any) -> None:
    if play.status:
        say(play.tail())
    case.drill.check("the playbook succeeded", play.status == 0, f"status {play.status}, {play.seconds:g} s", "0")


def api_restarts(case: Case) -> None:
    before = case.tier.all_show(SERVER)
    case.strike("restarts of the API, the second one by kill -9")
    for number, host in enumerate(case.tier.hosts):
        if number % 2:
            case.tier.kill(host, SERVER)
        else:
            case.tier.lab.inside(host, "systemctl", "restart", SERVER)
        time.sleep(4)
    case.tier.settled()
    case.restarted(SERVER, before, case.tier.hosts)


def workers_roll(case: Case) -> None:
    before = case.tier.all_show(WORKER)
    case.strike("a rolling restart of the workers")
    play = case.tier.lab.playbook("celery_restart", "-e", "celery_restart_mode=always", folder=case.drill.folder)
    ended_well(case, play)
    case.restarted(WORKER, before, case.tier.hosts)


FAULTS = {
    "worker-killed": Fault("kill -9 of a worker", worker_killed),
    "host-lost": Fault("a worker host is lost", host_lost),
    # To ask who is master takes its time; submissions have to go on after that.
    "redis": Fault("Redis fails over", redis_lost, spread=75.0, late=FAILOVER, succeed=False, counted=False),
    "node-rolls": Fault("Langflow's nodes roll", node_rolls, spread=LONG_SPREAD, lead=20.0),
    "api": Fault("the API restarts", api_restarts),
    "roll": Fault("the workers roll", workers_roll, spread=90.0, lead=15.0),
    "beat-lost": Fault("the host of the beat dies", beat_lost, late=LOCK + 2 * TICK),
}


# --- verdicts --------------------------------------------------------------------------------------------------------


def check_tasks(drill: Drill, tasks: Sequence[Task], executions: Mapping[str, int], succeed: bool = True) -> None:
    """Each has one end, none is lost, none was executed more or less often than promised."""
    n = len(tasks)
    not_taken = [task for task in tasks if not task.run_id]
    drill.check("tasks that were not taken", not not_taken, count_text(len(not_taken), n), "0")
    lost = open_tasks(tasks)
    drill.check("tasks without an end", not lost and n > 0, count_text(len(lost), n), "0")
    changed = [task for task in tasks if task.changed]
    drill.check("tasks whose end changed", not changed, count_text(len(changed), n), "0")
    found = by_guarantee(tasks, executions)
    drill.note("guarantees", found)
    for guarantee in GUARANTEES:
        own = [task for task in tasks if task.guarantee == guarantee]
        wrong = broken(own, executions)
        wanted = (
            "as often as it takes, 1 if it succeeded"
            if guarantee == "at_least_once"
            else "at most 1, 1 if it succeeded"
        )
        row = found[guarantee]
        measured = f"{times_text(row['executions'])} (n = {row['n']}), ends: {ends_text(row['ends'])}"
        drill.check(f"executions, {guarantee}", not wrong, measured, wanted)
    # At most once gives up in doubt, and says so.
    sure = [task for task in tasks if task.guarantee != AT_MOST_ONCE]
    bad = [task for task in sure if task.end != "succeeded"]
    if succeed:
        drill.check("tasks that may be tried again and did not succeed", not bad, count_text(len(bad), len(sure)), "0")
    drill.note("not_succeeded", [vars(task) for task in tasks if task.end != "succeeded"])
    drill.note("forgotten", sum(task.forgotten for task in tasks))
    refused = [text for task in tasks for text in task.refusals]
    drill.note("refused", dict(Counter(refused)))


def ends_text(ends: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(ends.items())) or "none"


def check_times(drill: Drill, tasks: Sequence[Task], began: float) -> None:
    """How long tasks took, and how long after the fault the last one ended."""
    seconds = [task.ended - task.asked for task in tasks if task.ended]
    times = {f"p{part}": round(quantile(seconds, part / 100) or 0.0, 1) for part in (50, 95, 100)}
    drill.note("seconds_from_order_to_end", times)
    drill.note("last_end_after_fault", round(max((task.ended for task in tasks), default=began) - began, 1))


def check_schedule(
    drill: Drill, fires: Sequence[Fire], since: float, until: float, executions: int, late: float
) -> None:
    """Each due time has one run, which was executed once, in time."""
    found = judge_schedule(EVERY, since, until, fires)
    drill.note("schedule", {"due": found.due, "latest": found.latest, "missing": found.missing, "twice": found.twice})
    wrong = len(found.missing) + len(found.twice) + len(found.strange)
    drill.check("due times that did not fire exactly once", found.once, count_text(wrong, found.due), "0")
    drill.check(
        "executions of the schedule", executions == len(fires), f"{executions} of {len(fires)} runs", "one for each"
    )
    drill.check(
        "latest fire",
        found.latest <= late,
        f"{found.latest:g} s after its time (n = {found.due})",
        f"within {late:g} s",
    )


def check_counters(
    drill: Drill, before: Mapping[str, float], after: Mapping[str, float], ends: int, sure: bool
) -> None:
    """The tier has counted as many ends as there were: none ended twice."""
    told = {name: after.get(name, 0) - before.get(name, 0) for name in sorted({*before, *after})}
    drill.note("counters", told)
    counted = told.get("runs_total", 0)
    if sure:
        drill.check("ends that the tier counted", counted == ends, f"{counted:g}", f"{ends}, one for each run")


# --- the drills ------------------------------------------------------------------------------------------------------


@contextmanager
def drill_flow(front: Front, counter: ExecutionCounter) -> Iterator[str]:
    flow = front.import_flow(counter.url)
    try:
        yield flow
    finally:
        front.delete_flow(flow)


def until_over(tier: Tier, name: str, moment: float, patience: float = 60.0) -> list[dict[str, Any]]:
    """The runs of a schedule, once all that were due before a moment have ended or patience has."""
    deadline = time.monotonic() + patience
    while True:
        runs = tier.runs(schedule=name) or []
        own = [run for run in runs if read_fire(run).due <= moment]
        ended = all(run["state"] in ("succeeded", "failed", "cancelled", "unknown") for run in own)
        if (runs and ended) or time.monotonic() > deadline:
            return runs
        time.sleep(1)


def drill_fault(tier: Tier, drill: Drill, counter: ExecutionCounter, flow: str, fault: Fault, count: int) -> None:
    """Tasks and a schedule, and in the midst of them a fault."""
    name = f"{drill.name}-{int(time.time()):x}"
    tier.settled()
    before = tier.counters()
    with tier.scheduled(name, flow):
        client = Client(tier, flow, mixed(count, name), fault.spread)
        case = Case(drill, tier, client, before)
        since = time.time()
        client.start()
        try:
            time.sleep(fault.lead)
            afterwards = fault.act(case)
            seconds = client.finish()
            say(
                f"  all tasks have ended after {seconds:.0f} s more"
                if not open_tasks(client.tasks)
                else "  not all ended"
            )
            if afterwards:
                afterwards()
        finally:
            tier.start_missing()
        tier.settled()
        client.finish()
        until = time.time()
        # What is due at the very end gets its time, and ends that are not final would change now.
        time.sleep(QUIET)
        client.stop()
        client.look()
    runs = until_over(tier, name, time.time())
    after = tier.counters()
    executions = dict(counter.counts)
    drill.note("n", count)
    check_tasks(drill, client.tasks, executions, fault.succeed)
    check_times(drill, client.tasks, case.began)
    check_schedule(drill, [read_fire(run) for run in runs], since, until, executions.get(name, 0), fault.late)
    check_counters(drill, before, after, count + len(runs), fault.counted)
    drill.note("looks", {"good": client.looks, "without_answer": client.blind})


def drill_control(tier: Tier, drill: Drill, counter: ExecutionCounter, flow: str, count: int) -> None:
    """The same kill without the nets: what is called lost above has to be seen here."""
    name = f"{drill.name}-{int(time.time()):x}"
    client = Client(tier, flow, mixed(count, name))
    case = Case(drill, tier, client, {})
    tier.lab.must("celery", "-e", json.dumps(NETS_OFF), folder=drill.folder)
    try:
        tier.settled()
        client.start()
        time.sleep(LEAD)
        case.strike(f"without its nets: kill -9 of the worker on {tier.hosts[0]}")
        tier.kill(tier.hosts[0])
        client.finish(still=45.0)
        lost = open_tasks(client.tasks)
        states = dict(Counter(task.seen[-1] if task.seen else "unseen" for task in lost))
        drill.note("n", count)
        drill.note("lost_states", states)
        drill.check("tasks that were lost", len(lost) > 0, f"{len(lost)} of {count} {states}", "1 or more")
    finally:
        tier.lab.must("celery", folder=drill.folder)
    tier.settled()
    client.finish()
    client.stop()
    client.look()
    left = open_tasks(client.tasks)
    drill.check("tasks without an end once the nets are back", not left, count_text(len(left), count), "0")
    wrong = broken(client.tasks, counter.counts)
    drill.check("guarantees that were not kept", not wrong, count_text(len(wrong), count), "0")


def drill_of(name: str) -> Callable[[Lab], Drill]:
    """The drill of one fault, or the control."""

    def run(lab: Lab) -> Drill:
        fault = FAULTS.get(name)
        drill = Drill(f"celery-{name}", fault.title if fault else "control: kill -9 without the nets below a run")
        front = Front.of(lab)
        tier = Tier(lab, front)
        count = lab.repeat or COUNT
        release = tier.data.shell(tier.hosts[0], "readlink /opt/celery/current", check=False)
        drill.note("tasks_release", release.rsplit("/", 1)[-1])
        with counting(lab, drill, name) as counter, drill_flow(front, counter) as flow:
            if fault:
                drill_fault(tier, drill, counter, flow, fault, count)
            else:
                drill_control(tier, drill, counter, flow, count)
        return drill

    return run


NAMES = (*FAULTS, "control")


def prepare(lab: Lab) -> None:
    """A cluster that is well, with all nets; what a broken drill has left is put right."""
    lab.up()
    tier = Tier(lab, Front.of(lab))
    tier.start_missing()
    well = all(lab.healthy(node) for node in lab.nodes) and all(tier.ready(host) for host in tier.hosts)
    if not well or tier.nets_off():
        lab.must("site", "-e", "rollout_reset=true")
    lab.wait_healthy()
    Redis(tier.data).settled()
    tier.settled()
