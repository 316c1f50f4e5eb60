"""What Langflow's users see while servers of the data tier are lost (scenario `data`).

4   masters of Redis are killed with builds and background jobs in flight: each ends once, no node is restarted
5   light load while PostgreSQL's leader and Redis' masters are lost: errors by class, seconds, no node is restarted
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tools.drills.core import Drill, DrillError, Lab, count_text, say
from tools.drills.data_tier import Tier
from tools.drills.front import Front
from tools.drills.load import GOOD, UNCOUNTED, BackgroundJobs, ExecutionCounter, Load, Outcome, counting, loaded

CACHE, QUEUE = "cache", "queue"
PORTS = {CACHE: 6379, QUEUE: 6380}
# What one node bears beside the data tier on two cores.
LIGHT = {"get": 4.0, "run": 0.5, "stream": 0.1}
# Builds and jobs: how often one is started, and how long each works.
BUILD_EVERY, JOB_EVERY = 3.0, 6.0
BUILD_SECONDS, JOB_SECONDS = 12, 15
PIECES = 4 * BUILD_SECONDS
# Work that is started before a server is lost, and after it.
BEFORE_FAULT, AFTER_FAULT = 20.0, 25.0
# A mark is set so long before a server is lost that what was sent before the mark has ended.
LEAD = 12.0
# How long a host stays away, and how long a node is watched after all is well.
AWAY, QUIET = 45.0, 20.0
# In how many seconds a node has to be well again, and to stay so.
WELL_WITHIN = {"postgresql-killed": 30, "postgresql-host-lost": 60, "redis": 30}
# Every job has an end by then: what a dead worker has left is found by its 45 s old sign of life, every 15 s.
PATIENCE = 180.0

ENDED = ("completed", "failed", "cancelled", "timed_out")
# Events of a background job that tell its end.
LAST_EVENTS = ("end", "error", "run_failed", "run_cancelled", "run_timed_out")
ROWS = """
SELECT coalesce(json_agg(found), '[]') FROM (
  SELECT job.job_id AS id, job.status, job.finished_timestamp IS NOT NULL AS finished,
         (SELECT count(*) FROM job_events WHERE job_events.job_id = job.job_id AND event_type IN ({events})) AS ends
  FROM job WHERE flow_id = '{flow}') AS found
"""


# --- builds ----------------------------------------------------------------------------------------------------------


@dataclass
class Build:
    """A build and what its client was told about it."""

    token: str
    pieces: int = 0
    posted: float = 0.0
    job: str = ""
    refused: str = ""
    # Names of the events that tell an end, in order.
    ends: list[str] = field(default_factory=list)
    # Numbers of the pieces, in order.
    seen: list[int] = field(default_factory=list)
    broke: str = ""
    closed: float = 0.0

    @property
    def outcome(self) -> str:
        """How it ended for its client."""
        if self.refused:
            return "refused"
        if not self.closed:
            return "open"
        if len(self.ends) > 1:
            return "told twice"
        return self.ends[0] if self.ends else "not told"

    def take(self, name: str, data: Any) -> None:
        """An event of its stream."""
        if name in ("end", "error"):
            self.ends.append(name)
        elif name == "token" and isinstance(data, Mapping):
            self.seen += [int(number) for number in re.findall(r"\bseq=(\d+)", str(data.get("chunk", "")))]


def lost_pieces(build: Build) -> int:
    """Pieces that never came, of a build that ended well."""
    return len(set(range(1, build.pieces + 1)) - set(build.seen)) if build.outcome == "end" else 0


def repeated_pieces(build: Build) -> int:
    return len(build.seen) - len(set(build.seen))


def in_flight(builds: Iterable[Build], moment: float) -> int:
    """Builds that had begun at some moment and had not ended."""
    return sum(1 for build in builds if build.job and build.posted <= moment and not 0 < build.closed <= moment)


@dataclass
class Builds:
    """Builds one after the other, each with a client of its own that follows it to its end."""

    front: Front
    flow: str
    every: float = BUILD_EVERY
    run_id: str = field(default_factory=lambda: f"{int(time.time()):x}")
    found: list[Build] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def _follow(self, build: Build) -> None:
        text = f"{build.token} pieces={build.pieces}" if build.pieces else f"{build.token} sleep={BUILD_SECONDS}"
        try:
            build.posted = time.time()
            build.job = self.front.door(timeout=40).start_build(self.flow, text, build.token)
        except Exception as error:  # each build that was not taken is counted
            build.refused = str(error)
            build.closed = time.time()
            return
        try:
            for event in self.front.door(timeout=150).build_events(build.job):
                build.take(event.name, event.data)
        except Exception as error:  # each stream that broke is counted
            build.broke = str(error)
        build.closed = time.time()

    def _go(self) -> None:
        while not self._over.is_set():
            number = len(self.found) + 1
            build = Build(f"build-{self.run_id}-{number:04d}", PIECES if number % 2 else 0)
            self.found.append(build)
            thread = threading.Thread(target=self._follow, args=(build,), daemon=True)
            self._threads.append(thread)
            thread.start()
            self._over.wait(self.every)

    def start(self) -> None:
        threading.Thread(target=self._go, daemon=True).start()

    def stop(self, patience: float = 200.0) -> None:
        """Start no more, and wait until every client has heard the end or has given up."""
        self._over.set()
        deadline = time.monotonic() + patience
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))


# --- what the database says ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A job as the table has it."""

    id: str
    status: str
    finished: bool
    # Events of the durable log that tell its end; builds have no such log.
    ends: int

    @property
    def over(self) -> bool:
        return self.status in ENDED and self.finished


def read_rows(text: str) -> dict[str, Row]:
    return {row["id"]: Row(**row) for row in json.loads(text)}


def rows_of(tier: Tier, flow: str) -> dict[str, Row]:
    """All jobs of a flow, from the server that leads."""
    sql = ROWS.format(events=", ".join(f"'{name}'" for name in LAST_EVENTS), flow=flow)
    return read_rows(tier.lab.inside(tier.leader(), "psql", "-XAtq", "-U", "postgres", "-d", "langflow", "-c", sql))


def wait_rows(tier: Tier, flow: str, patience: float = PATIENCE) -> dict[str, Row]:
    """The jobs of a flow once all have ended, or when patience has."""
    deadline = time.monotonic() + patience
    while True:
        rows = rows_of(tier, flow)
        if all(row.over for row in rows.values()) or time.monotonic() > deadline:
            return rows
        time.sleep(3)


def changed_ends(first: Mapping[str, Row], later: Mapping[str, Row]) -> list[str]:
    """Jobs that had ended and are something else now."""
    return sorted(name for name, row in first.items() if row.over and later.get(name) != row)


def statuses(rows: Mapping[str, Row]) -> dict[str, int]:
    return dict(Counter(row.status if row.over else f"{row.status}, no end" for row in rows.values()))


# --- is a node well, and is it the same ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """One question about a node's health."""

    began: float
    ended: float
    good: bool


def well_after(looks: Sequence[Look], moment: float) -> float | None:
    """Seconds from a moment to the answer since which all were good; None if the last one was not."""
    later = [look for look in looks if look.ended >= moment]
    if not later or not later[-1].good:
        return None
    bad = [number for number, look in enumerate(later) if not look.good]
    return round(later[bad[-1] + 1].ended - moment, 1) if bad else 0.0


def unwell(looks: Sequence[Look]) -> float:
    """Seconds from each bad answer's question to the next good answer, added up."""
    total, began = 0.0, None
    for look in looks:
        if look.good:
            total += look.ended - began if began is not None else 0.0
            began = None
        elif began is None:
            began = look.began
    return round(total, 1)


@dataclass
class Watch:
    """Asks a node for its health all the time, past load balancers."""

    front: Front
    node: str
    every: float = 0.5
    looks: list[Look] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def _go(self) -> None:
        client = self.front.node(self.node, timeout=10)
        while not self._over.is_set():
            began = time.time()
            try:
                client.health()
                good = True
            except Exception:  # every answer that is not good counts the same
                good = False
            self.looks.append(Look(began, time.time(), good))
            self._over.wait(self.every)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join(15)


@contextmanager
def watching(front: Front) -> Iterator[dict[str, Watch]]:
    """A watch for each node."""
    found = {node: Watch(front, node) for node in front.lab.nodes}
    for watch in found.values():
        watch.__enter__()
    try:
        yield found
    finally:
        for watch in found.values():
            watch.__exit__()


def processes(lab: Lab) -> dict[str, str]:
    """What would differ if a node, or one of its workers, had been restarted."""
    command = (
        "systemctl show langflow.service --property=NRestarts,MainPID,ExecMainStartTimestampMonotonic;"
        " pgrep --parent $(systemctl show langflow.service --property=MainPID --value) | sort -n | xargs"
    )
    return {name: " ".join(lab.inside(name, "sh", "-c", command).split()) for name in lab.nodes}


def check_same(drill: Drill, label: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """No node and no worker was restarted."""
    other = {name: [before[name], after[name]] for name in before if before[name] != after[name]}
    drill.check(
        f"{label}nodes with a restart of the service or of a worker",
        not other,
        f"{len(other)} of {len(before)}{f': {other}' if other else ''}",
        "0, by start time, NRestarts and processes",
    )


def check_well(drill: Drill, label: str, watches: Mapping[str, Watch], moment: float, within: float) -> None:
    """Every node is well again in time, without help."""
    seconds = {name: well_after(watch.looks, moment) for name, watch in watches.items()}
    n = sum(1 for watch in watches.values() for look in watch.looks if look.ended >= moment)
    drill.note(f"{label}well_after_seconds".replace(": ", "_"), seconds)
    text = ", ".join(f"{name} {'not' if value is None else f'{value:g} s'}" for name, value in seconds.items())
    good = all(value is not None and value <= within for value in seconds.values())
    drill.check(f"{label}every node is well again", good, f"{text} (n = {n} answers)", f"within {within:g} s")


# --- Redis -----------------------------------------------------------------------------------------------------------


@dataclass
class Redis:
    """The replicated Redis of a lab, asked from an application host."""

    tier: Tier

    def _options(self, *names: str) -> dict[str, Any]:
        lab = self.tier.lab
        return {
            "hosts": [{"name": name, "address": lab.addresses[name]} for name in lab.groups["redis"]],
            "instances": [{"name": name, "port": PORTS[name]} for name in names or PORTS],
            # Ansible looks it up: it is no argument of a process.
            "password": "{{ lookup('flowfleet.langflow.secret', 'redis_admin_password') }}",
        }

    def settled(self, timeout: float = 180) -> float:
        """Wait until all servers and sentinels agree and are caught up; the seconds that took."""
        began = time.monotonic()
        options = {**self._options(), "wait": True, "timeout": timeout}
        self.tier.lab.do(self.tier.client, "redis_replication_info", options)
        return time.monotonic() - began

    def masters(self) -> dict[str, str]:
        """The master of each instance."""
        found = self.tier.lab.do(self.tier.client, "redis_replication_info", self._options())
        masters = {name: str(view["master"] or "") for name, view in found["instances"].items()}
        if not all(masters.values()):
            raise DrillError(f"there has to be a master of each: {masters}")
        return masters

    def move(self, name: str, away_from: str) -> None:
        """Hand a master role over as a planned restart does."""
        self.tier.lab.do(self.tier.client, "redis_failover", {**self._options(name), "host": away_from})

    def kill(self, name: str, host: str) -> float:
        """SIGKILL for a server; the moment before it."""
        moment = time.time()
        self.tier.lab.inside(host, "systemctl", "kill", "--signal=SIGKILL", f"redis-{name}.service")
        return moment


def lose_host(tier: Tier, host: str) -> float:
    """A host that is gone without a farewell: no packet of it reaches anybody any more."""
    moment = time.time()
    tier.shell(host, "ip link set eth0 down")
    tier.kill_host(host)
    return moment


# --- 4 ---------------------------------------------------------------------------------------------------------------


@contextmanager
def flows(front: Front, counter: ExecutionCounter, count: int) -> Iterator[list[str]]:
    """Some copies of the drills' flow: the table of jobs is told apart by them."""
    found = [front.import_flow(counter.url) for _number in range(count)]
    try:
        yield found
    finally:
        for flow in found:
            front.delete_flow(flow)


def check_builds(drill: Drill, label: str, builds: Sequence[Build], moment: float) -> None:
    """Every client of a build that was taken was told one end."""
    taken = [build for build in builds if not build.refused]
    outcomes = dict(Counter(build.outcome for build in builds))
    refused = [build for build in builds if build.refused]
    streamed = [build for build in taken if build.pieces and build.outcome == "end"]
    sent = sum(build.pieces for build in streamed)
    drill.note(
        f"{label}_clients",
        {
            "sent": len(builds),
            "in_flight": in_flight(builds, moment),
            "outcomes": outcomes,
            "refused": dict(Counter(build.refused for build in refused)),
            "refused_for_seconds": round(max(b.closed for b in refused) - min(b.posted for b in refused), 1)
            if refused else 0.0,
            "broke": dict(Counter(build.broke for build in taken if build.broke)),
            "pieces": sent,
            "pieces_lost": sum(lost_pieces(build) for build in streamed),
            "pieces_repeated": sum(repeated_pieces(build) for build in streamed),
        },
    )  # fmt: skip
    busy = in_flight(builds, moment)
    drill.check(f"{label}: builds in flight when it happened", busy > 2, busy, "3 or more")
    once = sum(1 for build in taken if build.outcome in ("end", "error"))
    drill.check(
        f"{label}: builds whose client was not told exactly one end",
        once == len(taken) > 0,
        f"{count_text(len(taken) - once, len(taken))} {outcomes}",
        "0",
    )


def check_rows(drill: Drill, label: str, what: str, rows: Mapping[str, Row], later: Mapping[str, Row]) -> None:
    """Every job has ended, and stays what it is."""
    n = len(rows)
    drill.note(f"{label}_{what}".replace(" ", "_"), statuses(later))
    unfinished = sum(1 for row in later.values() if not row.over)
    drill.check(
        f"{label}: {what} without an end in the database",
        not unfinished and n > 0,
        f"{count_text(unfinished, n)} {statuses(later)}",
        "0",
    )
    other = changed_ends(rows, later)
    drill.check(f"{label}: {what} that changed after their end", not other, count_text(len(other), n), "0")


def queue_case(
    drill: Drill,
    redis: Redis,
    front: Front,
    label: str,
    fault: Callable[[str], float],
    repair: Callable[[str], None],
) -> None:
    """Builds and background jobs, and in the midst of them the master of the queue is lost."""
    tier, lab = redis.tier, redis.tier.lab
    redis.settled()
    master, leader = redis.masters()[QUEUE], tier.leader()
    if master == leader:
        # What is lost here is Redis; drill 5 loses both.
        redis.move(QUEUE, master)
        master = redis.masters()[QUEUE]
    say(f"  {label}: the master of the queue is {master}, the leader of PostgreSQL {leader}")
    before = processes(lab)
    with counting(lab, drill, label) as counter, flows(front, counter, 2) as (build_flow, job_flow):
        builds = Builds(front, build_flow)
        jobs = BackgroundJobs(front, job_flow, every=JOB_EVERY, seconds=JOB_SECONDS)
        with watching(front) as watches:
            builds.start()
            jobs.start()
            time.sleep(BEFORE_FAULT)
            moment = fault(master)
            time.sleep(AFTER_FAULT)
            builds.stop()
            jobs.stop()
            repair(master)
            rows = {flow: wait_rows(tier, flow) for flow in (build_flow, job_flow)}
            settled = redis.settled()
            tier.settled()
            time.sleep(QUIET)
        later = {flow: rows_of(tier, flow) for flow in (build_flow, job_flow)}
        executions = dict(counter.counts)
    new = redis.masters()[QUEUE]
    drill.note(f"{label}_masters", [master, new])
    drill.check(f"{label}: another host is master", new != master, f"{master} -> {new}", f"not {master}")
    check_builds(drill, label, builds.found, moment)
    check_rows(drill, label, "builds", rows[build_flow], later[build_flow])
    check_rows(drill, label, "background jobs", rows[job_flow], later[job_flow])
    unknown = sorted(set(jobs.jobs.values()) - set(later[job_flow]))
    twice = [name for name, row in later[job_flow].items() if row.ends != 1]
    drill.check(
        f"{label}: background jobs whose log does not tell exactly one end",
        not twice and not unknown and len(jobs.jobs) > 0,
        f"{count_text(len(twice) + len(unknown), len(jobs.jobs))}, {len(jobs.refused)} not taken",
        "0",
    )
    drill.note(f"{label}_jobs_refused", jobs.refused)
    more = {token: count for token, count in executions.items() if count > 1}
    drill.check(f"{label}: executed twice", not more and len(executions) > 0, count_text(len(more), len(executions)),
                "0, by the counter")  # fmt: skip
    check_well(drill, f"{label}: ", watches, moment, WELL_WITHIN["redis"])
    drill.note(f"{label}_unwell_seconds", {name: unwell(watch.looks) for name, watch in watches.items()})
    drill.note(f"{label}_settled_seconds", round(settled, 1))
    check_same(drill, f"{label}: ", before, processes(lab))


def good_gap(entries: Iterable[Mapping[str, Any]]) -> float:
    """The longest time between two good answers, from when they came."""
    ends = sorted(entry["due"] + entry["latency"] for entry in entries if entry["class"] in GOOD)
    return round(max((later - sooner for sooner, later in zip(ends, ends[1:], strict=False)), default=0.0), 1)


def trouble(entries: Iterable[Mapping[str, Any]]) -> float:
    """Seconds from the first request that failed to the answer of the last one."""
    bad = [entry for entry in entries if entry["class"] not in ("ok", *UNCOUNTED)]
    if not bad:
        return 0.0
    return round(max(entry["due"] + entry["latency"] for entry in bad) - min(entry["due"] for entry in bad), 1)


def figures(outcome: Outcome, window: str) -> dict[str, Any]:
    """What each kind of request has met in a window."""
    found = {}
    for kind in sorted({entry["load"] for entry in outcome.requests}):
        rows = [entry for entry in outcome.requests if entry["load"] == kind and entry["window"] == window]
        found[kind] = {
            **outcome.of(kind, window),
            "seconds_of_failures": trouble(rows),
            "seconds_without_good_answer": good_gap(rows),
        }
    return found


def check_errors(drill: Drill, outcome: Outcome, window: str) -> None:
    """How many requests failed, by class, for how long."""
    rows = figures(outcome, window)
    drill.note(f"{window}_requests", rows)
    for kind, row in rows.items():
        say(
            f"  {window}: {kind:<6} {row['failed']:>3} of {row['n']:>4} failed {row['classes']}, for "
            f"{row['seconds_of_failures']:g} s; without a good answer for {row['seconds_without_good_answer']:g} s"
        )
    row = outcome.of(window=window)
    bad = {name: count for name, count in row["classes"].items() if name != "ok"}
    gap = max((found["seconds_without_good_answer"] for kind, found in rows.items() if kind == "get"), default=0.0)
    drill.check(
        f"{window}: failed requests by class",
        row["n"] > 0,
        f"{row['failed']} of {row['n']} {bad or ''}; {gap:g} s without a good answer".replace("  ", " "),
        "counted",
    )


def check_quiet(drill: Drill, outcome: Outcome, window: str) -> None:
    """Nothing fails once all is well."""
    row = outcome.of(window=window)
    drill.check(f"{window}: failed requests", row["failed"] == 0 < row["n"], count_text(row["failed"], row["n"]), "0")


def after(name: str) -> str:
    """The name of the window behind another one."""
    return f"after-{name}"


def under_fault(
    load: Load,
    watches: Mapping[str, Watch],
    name: str,
    fault: Callable[[], float],
    repair: Callable[[], None],
    settle: Callable[[], Any],
    patience: float,
) -> float:
    """Something is lost under load and given back; the moment when it was lost."""
    load.mark(name)
    time.sleep(LEAD)
    moment = fault()
    deadline = moment + patience
    # So long that a node that falters again is seen.
    time.sleep(15)
    while time.time() < deadline and not all(well_after(w.looks, moment) is not None for w in watches.values()):
        time.sleep(0.5)
    repair()
    settle()
    time.sleep(3)
    load.mark(after(name))
    time.sleep(QUIET)
    return moment


@contextmanager
def light_load(
    lab: Lab, drill: Drill, front: Front, label: str, rates: Mapping[str, float]
) -> Iterator[tuple[Load, list[Outcome]]]:
    """Load, and its outcome in the list when the block has ended well."""
    found: list[Outcome] = []
    with (
        counting(lab, drill, label) as counter,
        loaded(lab, front, counter, drill, label=label, rates=rates, warm=20) as load,
    ):
        yield load, found
        found.append(load.stop())


def cache_case(drill: Drill, redis: Redis, front: Front) -> None:
    """Runs and health checks, and in the midst of them the master of the cache is killed."""
    tier, lab, name = redis.tier, redis.tier.lab, "cache-killed"
    redis.settled()
    master, before = redis.masters()[CACHE], processes(lab)
    rates = {"get": 2.0, "run": 1.0}
    with light_load(lab, drill, front, name, rates) as (load, found), watching(front) as watches:
        moment = under_fault(load, watches, name, lambda: redis.kill(CACHE, master), lambda: None, redis.settled, 120)
    outcome = found[0]
    new = redis.masters()[CACHE]
    drill.note(f"{name}_masters", [master, new])
    drill.check(f"{name}: another host is master", new != master, f"{master} -> {new}", f"not {master}")
    check_errors(drill, outcome, name)
    runs = figures(outcome, name)["run"]
    drill.check(
        f"{name}: failed runs, and seconds in which they failed",
        runs["n"] > 0,
        f"{runs['failed']} of {runs['n']}, {runs['seconds_of_failures']:g} s",
        "counted",
    )
    check_quiet(drill, outcome, after(name))
    drill.check(f"{name}: executed twice", outcome.doubles == 0, count_text(outcome.doubles, runs["n"]), "0")
    check_well(drill, f"{name}: ", watches, moment, WELL_WITHIN["redis"])
    drill.note(f"{name}_unwell_seconds", {node: unwell(watch.looks) for node, watch in watches.items()})
    check_same(drill, f"{name}: ", before, processes(lab))
    tier.settled()


def control_case(drill: Drill, redis: Redis, front: Front) -> None:
    """A node is killed instead: what the other cases call good must not be seen here."""
    tier, lab, label = redis.tier, redis.tier.lab, "control"
    before = processes(lab)
    with counting(lab, drill, label) as counter, flows(front, counter, 1) as (flow,):
        builds = Builds(front, flow)
        builds.start()
        time.sleep(BEFORE_FAULT)
        moment = time.time()
        for node in lab.nodes:
            lab.inside(node, "systemctl", "kill", "--signal=SIGKILL", "langflow.service")
        time.sleep(1)
        builds.stop(60)
        rows = rows_of(tier, flow)
        lab.wait_healthy()
        later = wait_rows(tier, flow)
        other = [name for name, text in processes(lab).items() if text != before[name]]
    untold = sum(1 for build in builds.found if build.outcome == "not told")
    busy = in_flight(builds.found, moment)
    drill.check(
        f"{label}: builds of a killed node whose client was not told an end", untold > 0, f"{untold} of {busy}", "> 0"
    )
    open_rows = sum(1 for row in rows.values() if not row.over)
    drill.check(f"{label}: builds without an end in the database", open_rows > 0, f"{open_rows} of {len(rows)}", "> 0")
    drill.check(f"{label}: the restart is seen", other == lab.nodes, ", ".join(other) or "not seen", "every node")
    drill.note(f"{label}_builds_in_the_end", statuses(later))


def drill_4(lab: Lab) -> Drill:
    drill = Drill("data-4", "masters of Redis are lost with builds and background jobs in flight")
    tier, front = Tier(lab), Front.of(lab)
    redis = Redis(tier)
    try:
        queue_case(drill, redis, front, "queue-killed", lambda host: redis.kill(QUEUE, host), lambda _host: None)
        queue_case(drill, redis, front, "queue-host-lost", lambda host: lose_host(tier, host), tier.start_host)
        cache_case(drill, redis, front)
        control_case(drill, redis, front)
    finally:
        tier.repair()
    return drill


# --- 5 ---------------------------------------------------------------------------------------------------------------


def drill_5(lab: Lab) -> Drill:
    drill = Drill("data-5", "light load while leaders of the data tier are lost")
    tier, front = Tier(lab), Front.of(lab)
    redis = Redis(tier)
    lost: list[str] = []
    # Where everything was when it was lost.
    places: dict[str, Any] = {}

    def place(name: str) -> str:
        places[name] = {"postgresql": tier.leader(), **redis.masters()}
        say(f"  {name}: {places[name]}")
        return str(places[name]["postgresql"])

    def kill_postgresql() -> float:
        return tier.kill_postmaster(leader)

    def lose_leader() -> float:
        lost.append(leader)
        return lose_host(tier, leader)

    def give_back() -> None:
        time.sleep(AWAY)
        tier.start_host(lost[-1])

    def kill_masters() -> float:
        masters = places["redis"]
        moments = [redis.kill(name, masters[name]) for name in PORTS]
        return moments[0]

    def settle() -> None:
        tier.settled()
        redis.settled()

    cases: dict[str, tuple[Callable[[], float], Callable[[], None]]] = {
        "postgresql-killed": (kill_postgresql, lambda: None),
        "postgresql-host-lost": (lose_leader, give_back),
        "redis": (kill_masters, lambda: None),
    }
    drill.note("load_per_second", dict(LIGHT))
    settle()
    before = processes(lab)
    moments: dict[str, float] = {}
    try:
        with watching(front) as watches:
            with light_load(lab, drill, front, "load", LIGHT) as (load, found):
                for name, (fault, repair) in cases.items():
                    leader = place(name)
                    moments[name] = under_fault(load, watches, name, fault, repair, settle, 180)
                same = processes(lab)
                # Control: what is called good above must not be seen when a node is killed.
                load.mark("control")
                time.sleep(LEAD)
                for node in lab.nodes:
                    lab.inside(node, "systemctl", "kill", "--signal=SIGKILL", "langflow.service")
                control = time.time()
                time.sleep(5)
                lab.wait_healthy()
                load.mark(after("control"))
            ended = {name: list(watch.looks) for name, watch in watches.items()}
    finally:
        tier.repair()
    outcome = found[0]
    drill.note("places", places)
    drill.note("requests", outcome.facts())
    spans = [*moments.items(), ("control", control)]
    for (name, moment), (_next, until) in zip(spans, spans[1:], strict=False):
        check_errors(drill, outcome, name)
        span = {node: Watch(front, node, looks=[look for look in looks if look.ended < until - LEAD])
                for node, looks in ended.items()}  # fmt: skip
        check_well(drill, f"{name}: ", span, moment, WELL_WITHIN[name])
        check_quiet(drill, outcome, after(name))
    runs = sum(outcome.of(kind)["n"] for kind in ("run", "stream"))
    drill.check("executed twice", outcome.doubles == 0, count_text(outcome.doubles, runs), "0, by the counter")
    check_same(drill, "", before, same)
    drill.check("the generator kept its pace", not outcome.doubts, outcome.doubts or "yes", "yes")
    row = outcome.of(window="control")
    drill.check(
        "control: failures are seen when a node is killed", row["failed"] > 0, f"{row['failed']} of {row['n']}", "> 0"
    )
    other = [name for name, text in processes(lab).items() if text != same[name]]
    drill.check("control: the restart is seen", other == lab.nodes, ", ".join(other) or "not seen", "every node")
    return drill
