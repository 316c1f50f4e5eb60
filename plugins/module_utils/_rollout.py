# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""What a rolling change wants, how far it came and whether it may go on, in one file that outlives its controller.

A state is plain data, so that the file can be read by people and other programs. Each step is a function that takes a
state and gives the next one, or raises L(Refused). Only L(StateFile) touches the disk.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import glob
import json
import os
import secrets
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _lock

SCHEMA = 1
WORKING = ("begun", "drain", "stop", "start", "gate")
BROKEN = ("failed", "rolled_back")
RECORDED = (*WORKING[1:], "enabled", *BROKEN)
PHASES = ("pending", *WORKING, "enabled", *BROKEN)
STATUSES = ("running", "stopped", "given_up", "finished")
HISTORY_KEPT = 20
DURATIONS_KEPT = 50
TRAIL_KEPT = 40
ATTEMPTS_KEPT = 5
LOG_KEPT = 100
# How far before a roll its requests are compared with.
BEFORE_SECONDS = 300.0
GIVEN_UP = "-given-up"
WAY_OUT = "`-e rollout_reset=true`"
# Stands for the run of a plan that was made in check mode and therefore kept nowhere.
CHECK_RUN = "check"

State = dict[str, Any]
Clock = Callable[[], datetime.datetime]


class Refused(Exception):
    """The step must not be taken now; the message says why and what to do."""


class CorruptState(Exception):
    """The file is there and is not a state this version understands."""


def utc_now() -> datetime.datetime:
    """The present moment."""
    return datetime.datetime.now(datetime.UTC)


def stamp(moment: datetime.datetime) -> str:
    """A moment as the file keeps it."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_between(earlier: str | None, later: datetime.datetime) -> float:
    """Never negative, even when a clock was set back."""
    if earlier is None:
        return 0.0
    return max(0.0, round((later - datetime.datetime.fromisoformat(earlier)).total_seconds(), 3))


# --- batches ----------------------------------------------------------------------------------------------------------


def batch_size(item: Any, total: int) -> int:
    """One item of Ansible's C(serial) as a number of hosts; 0 or less stands for all that are left."""
    if isinstance(item, str) and item.endswith("%"):
        try:
            share = int(item[:-1])
        except ValueError:
            raise ValueError(f"{item!r} is not a percentage") from None
        return int((share / 100.0) * total) or 1
    if isinstance(item, (int, str)) and not isinstance(item, bool):
        try:
            return int(item)
        except ValueError:
            pass
    raise ValueError(f"a batch is a number or a percentage, got {item!r}")


def rollout_batches(hosts: Iterable[str], spec: Any) -> list[list[str]]:
    """Split I(hosts) as a play with C(serial: spec) does: percentages are of all hosts, the last item repeats."""
    left = list(dict.fromkeys(str(host) for host in hosts))
    items = list(spec) if isinstance(spec, (list, tuple)) else [spec]
    total = len(left)
    sizes = [batch_size(item, total) for item in items] or [0]
    batches: list[list[str]] = []
    while left:
        size = sizes[min(len(batches), len(sizes) - 1)]
        size = size if size > 0 else len(left)
        batches.append(left[:size])
        left = left[size:]
    return batches


@dataclasses.dataclass(frozen=True)
class Batch:
    """Hosts that are changed together, and what still serves meanwhile."""

    hosts: tuple[str, ...]
    serving_before: int
    serving_during: int

    def result(self, number: int) -> dict[str, Any]:
        """For people and plays."""
        return {
            "number": number,
            "hosts": list(self.hosts),
            "serving_before": self.serving_before,
            "serving_during": self.serving_during,
        }


def plan_batches(order: Sequence[str], spec: Any, healthy: Iterable[str], minimum: int) -> list[Batch]:
    """The batches of I(spec), each split further where it would leave fewer than I(minimum) hosts that serve.

    A host counts as serving when it is healthy now or was in an earlier batch.
    """
    serving = set(healthy)
    result = []
    for wanted in rollout_batches(order, spec):
        left = list(wanted)
        while left:
            spare = len(serving) - minimum
            taken: list[str] = []
            for host in left:
                if host in serving:
                    if spare <= 0:
                        break
                    spare -= 1
                taken.append(host)
            if not taken or len(serving - set(taken)) < minimum:
                raise Refused(
                    f"{len(serving)} hosts serve and {minimum} have to: {left[0]} cannot be taken out. "
                    "Heal or add a host, or lower the minimum"
                )
            result.append(Batch(tuple(taken), len(serving), len(serving - set(taken))))
            serving |= set(taken)
            left = left[len(taken) :]
    return result


# --- state ------------------------------------------------------------------------------------------------------------


def empty_state() -> State:
    """Nothing has happened yet."""
    return {
        "schema": SCHEMA,
        "revision": 0,
        "breaker": {"open": False},
        "run": None,
        "history": [],
        "durations": {"host": [], "first_batch": [], "batch": []},
        "phase_durations": {},
    }


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise CorruptState(what)


def _check_moment(value: Any, what: str) -> None:
    try:
        moment = datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise CorruptState(f"{what} is not a time") from None
    _expect(moment.tzinfo is not None, f"{what} has no time zone")


def _check_run(run: Any) -> None:
    _expect(isinstance(run, dict), "run is not a mapping")
    for name in ("id", "operation", "digest", "who"):
        _expect(isinstance(run.get(name), str), f"run.{name} is not text")
    for name in ("started", "updated"):
        _check_moment(run.get(name), f"run.{name}")
    _expect(run.get("status") in STATUSES, "run.status is unknown")
    for name in ("minimum", "attempt", "current"):
        _expect(isinstance(run.get(name), int), f"run.{name} is not a number")
    _expect(isinstance(run.get("order"), list), "run.order is not a list")
    hosts = run.get("hosts")
    _expect(isinstance(hosts, dict) and set(hosts) == set(run["order"]), "run.hosts does not fit run.order")
    for name, host in hosts.items():
        _expect(isinstance(host, dict) and host.get("phase") in PHASES, f"the phase of {name} is unknown")
        _expect(isinstance(host.get("timings"), dict), f"the timings of {name} are no mapping")
        _expect(isinstance(host.get("trail", []), list), f"the trail of {name} is no list")
        for moment in ("since", "begun"):
            if host.get(moment) is not None:
                _check_moment(host[moment], f"{moment} of {name}")
    for name in ("log", "attempts"):
        _expect(isinstance(run.get(name, []), list), f"run.{name} is no list")
    batches = run.get("batches")
    _expect(isinstance(batches, list) and all(isinstance(batch, list) for batch in batches), "run.batches is no list")
    _expect(all(host in hosts for batch in batches for host in batch), "run.batches names unknown hosts")
    _expect(-1 <= run["current"] < max(1, len(batches)), "run.current is no batch")
    if run.get("batch_started") is not None:
        _check_moment(run["batch_started"], "run.batch_started")


def check_state(state: Any) -> State:
    """The same state, if all that the steps rely on is there."""
    _expect(isinstance(state, dict), "it is not a mapping")
    schema = state.get("schema")
    _expect(isinstance(schema, int) and schema > 0, "it has no schema number")
    _expect(schema <= SCHEMA, f"it has schema {schema}, and this version of the collection knows up to {SCHEMA}")
    _expect(isinstance(state.get("revision"), int), "revision is not a number")
    breaker = state.get("breaker")
    _expect(isinstance(breaker, dict) and isinstance(breaker.get("open"), bool), "breaker does not say if it is open")
    _expect(isinstance(state.get("history"), list), "history is not a list")
    durations = state.get("durations")
    _expect(
        isinstance(durations, dict)
        and all(isinstance(durations.get(name), list) for name in empty_state()["durations"])
        and all(isinstance(value, (int, float)) for values in durations.values() for value in values),
        "durations are no lists of numbers",
    )
    phases = state.get("phase_durations", {})
    _expect(
        isinstance(phases, dict)
        and all(isinstance(values, list) for values in phases.values())
        and all(isinstance(value, (int, float)) for values in phases.values() for value in values),
        "phase_durations are no lists of numbers",
    )
    if state.get("run") is not None:
        _check_run(state["run"])
    return dict(state)


def parse_state(text: bytes) -> State:
    """A state from the content of the file."""
    try:
        return check_state(json.loads(text.decode("utf-8")))
    except UnicodeDecodeError:
        raise CorruptState("it is not text") from None
    except ValueError as exc:
        raise CorruptState(f"it is not JSON ({exc})") from None


def format_state(state: State) -> str:
    """The content of the file."""
    return json.dumps(state, indent=2, ensure_ascii=False) + "\n"


# --- steps ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a roll is for."""

    operation: str
    digest: str
    hosts: tuple[str, ...]
    spec: Any
    minimum: int = 0
    healthy: tuple[str, ...] | None = None
    who: str = ""
    lease: float = 900.0

    def is_plan_of(self, run: Mapping[str, Any]) -> bool:
        """The same change of the same hosts. How they are cut into batches may differ."""
        return (run["operation"], run["digest"]) == (self.operation, self.digest) and set(run["order"]) == set(
            self.hosts
        )


@dataclasses.dataclass
class Plan:
    """What will happen next, in this order."""

    batches: list[Batch]
    skipped: list[str] = dataclasses.field(default_factory=list)
    interrupted: dict[str, str] = dataclasses.field(default_factory=dict)
    broken: dict[str, str] = dataclasses.field(default_factory=dict)
    resumed: bool = False
    estimate: float | None = None
    phases: dict[str, float] = dataclasses.field(default_factory=dict)
    batch_estimates: list[float | None] = dataclasses.field(default_factory=list)
    taken_up: dict[str, Any] | None = None
    attempts: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    now: str = ""

    @property
    def order(self) -> list[str]:
        """All hosts that will be changed."""
        return [host for batch in self.batches for host in batch.hosts]

    def result(self) -> dict[str, Any]:
        """For people and plays."""
        return {
            "order": self.order,
            "batches": [batch.result(number) for number, batch in enumerate(self.batches, 1)],
            "serial": [len(batch.hosts) for batch in self.batches],
            "skipped": self.skipped,
            "interrupted": self.interrupted,
            "broken": self.broken,
            "resumed": self.resumed,
            "estimated_seconds": self.estimate,
            "estimated_batches": self.batch_estimates,
            "estimated_phases": self.phases,
            "taken_up": self.taken_up,
            "attempts": self.attempts,
            "now": self.now,
        }


def describe_run(run: Mapping[str, Any]) -> str:
    """A run in one phrase."""
    return f"{run['operation']} to {run['digest']} on {', '.join(run['order'])}, begun {run['started']} by {run['who']}"


def refuse_when_open(state: State) -> None:
    """Nothing starts and no batch begins while the breaker is open."""
    breaker = state["breaker"]
    if breaker["open"]:
        raise Refused(
            f"the circuit breaker is open since {breaker.get('since')}: {breaker.get('reason')}. "
            f"Find the cause, then run again with {WAY_OUT}"
        )


def _middle(run: Mapping[str, Any]) -> dict[str, str]:
    """Hosts that were left in the middle, with the phase they were left in."""
    found = {}
    for name in run["order"]:
        host = run["hosts"][name]
        phase = host["phase"] if host["phase"] in WORKING else host.get("interrupted")
        if phase and host["phase"] in (*WORKING, "pending"):
            found[name] = phase
    return found


def estimate_batches(state: State, count: int) -> list[float | None]:
    """Seconds that each of the next batches will take if they take what earlier ones took."""
    known = state["durations"]
    first, later = (
        round(statistics.median(values), 1) if (values := known[name] or known["host"]) else None
        for name in ("first_batch", "batch")
    )
    return [first, *[later] * (count - 1)] if count else []


def estimate_phases(state: State) -> dict[str, float]:
    """Seconds that each phase of a host took in earlier rolls."""
    known = {**state.get("phase_durations", {}), "total": state["durations"]["host"]}
    return {name: round(statistics.median(values), 1) for name, values in known.items() if values}


def estimate(state: State, batches: Sequence[Batch]) -> float | None:
    """Seconds that I(batches) will take as a whole, or nothing without earlier ones."""
    total = 0.0
    for seconds in estimate_batches(state, len(batches)):
        if seconds is None:
            return None
        total += seconds
    return round(total, 1)


def _new_host() -> dict[str, Any]:
    return {
        "phase": "pending",
        "since": None,
        "begun": None,
        "interrupted": None,
        "reason": None,
        "timings": {},
        "trail": [],
    }


def _enter(host: dict[str, Any], phase: str, now: datetime.datetime) -> None:
    host.update(phase=phase, since=stamp(now))
    host["trail"] = [*host.get("trail", []), [phase, stamp(now)]][-TRAIL_KEPT:]


def _last_step(run: Mapping[str, Any]) -> str:
    """When it last came on. To give a run up is not part of it."""
    return str(run.get("last_step") or run["updated"])


def _attempt(run: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of an attempt that somebody takes up."""
    return {
        "run_id": run["id"].removesuffix(GIVEN_UP),
        "who": run["who"],
        "began": run.get("attempt_started", run["started"]),
        "last_step": _last_step(run),
        "trails": {name: host["trail"] for name, host in run["hosts"].items() if host.get("trail")},
        "log": run.get("log", []),
    }


def _taken_up(state: State, run: Mapping[str, Any], idle: float) -> dict[str, Any]:
    """Why an earlier attempt did not come to its end."""
    found = {"run_id": run["id"].removesuffix(GIVEN_UP), "who": run["who"], "last_step": _last_step(run)}
    found.update(idle_seconds=idle, interrupted=_middle(run))
    breaker = (state.get("last_reset") or {}).get("breaker") or {}
    if run["status"] == "running":
        reason = f"the controller of {run['who']} ended without a word"
    elif breaker.get("run_id") == found["run_id"]:
        reason = str(breaker.get("reason"))
    else:
        reason = f"{run['who']}'s run was given up"
    return {**found, "reason": reason}


def begin_run(state: State, wanted: Wanted, now: datetime.datetime, run_id: str) -> tuple[State, Plan]:
    """Start a run, or take up the same one where it was left."""
    refuse_when_open(state)
    if not wanted.hosts:
        raise Refused("a plan needs at least one host")
    state = copy.deepcopy(state)
    run = state["run"]
    resumed = bool(run) and run["status"] in ("running", "given_up") and wanted.is_plan_of(run)
    if run and run["status"] == "running":
        if not resumed:
            raise Refused(
                f"another roll is unfinished: {describe_run(run)}. "
                f"Run that one again and it resumes, or give it up with {WAY_OUT}"
            )
        idle = seconds_between(run["updated"], now)
        if run["who"] != wanted.who and idle < wanted.lease:
            raise Refused(
                f"{run['who']} works on this roll and recorded a step {idle:g} s ago. "
                f"If that run is dead, wait until {wanted.lease:g} s have passed or give it up with {WAY_OUT}"
            )
    plan = Plan([], resumed=resumed, now=stamp(now))
    hosts = {name: _new_host() for name in wanted.hosts}
    if resumed:
        plan.interrupted = _middle(run)
        plan.taken_up = _taken_up(state, run, seconds_between(_last_step(run), now))
        plan.attempts = [*run.get("attempts", []), _attempt(run)][-ATTEMPTS_KEPT:]
        for name in wanted.hosts:
            old = run["hosts"][name]
            if old["phase"] == "enabled":
                hosts[name] = {**old, "trail": []}
                plan.skipped.append(name)
            else:
                hosts[name].update(interrupted=plan.interrupted.get(name), reason=old["reason"])
                if old["phase"] in BROKEN or old.get("broken"):
                    plan.broken[name] = hosts[name]["broken"] = old.get("broken") or old["phase"]
    # Hosts whose place is unknown or bad serve nobody, so they cost no capacity and come first.
    first = [*plan.interrupted, *(name for name, phase in plan.broken.items() if phase == "failed")]
    order = [name for name in first if name in hosts]
    order += [name for name in wanted.hosts if name not in {*order, *plan.skipped}]
    healthy = wanted.hosts if wanted.healthy is None else wanted.healthy
    plan.batches = plan_batches(order, wanted.spec, healthy, wanted.minimum)
    plan.estimate = estimate(state, plan.batches)
    plan.batch_estimates, plan.phases = estimate_batches(state, len(plan.batches)), estimate_phases(state)
    if run and not resumed and run["status"] == "given_up":
        _remember(state, run, now)
    state["run"] = {
        "id": run_id,
        "operation": wanted.operation,
        "digest": wanted.digest,
        "who": wanted.who,
        "status": "running",
        "started": run["started"] if resumed else stamp(now),
        "updated": stamp(now),
        "attempt": run["attempt"] + 1 if resumed else 1,
        "attempt_started": stamp(now),
        "attempts": plan.attempts,
        "log": [],
        "spec": wanted.spec,
        "minimum": wanted.minimum,
        "order": [*plan.skipped, *order],
        "batches": [list(batch.hosts) for batch in plan.batches],
        "current": -1,
        "batch_started": None,
        "hosts": hosts,
    }
    return state, plan


def new_run_id(now: datetime.datetime) -> str:
    """Names one attempt of one controller."""
    return f"{now.astimezone(datetime.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _own_run(state: State, run_id: str) -> dict[str, Any]:
    """The present run, if the caller is the one who runs it."""
    run = state["run"]
    if run is None:
        raise Refused("there is no roll here: plan it first")
    if run["id"] != run_id:
        raise Refused(f"roll {run_id} was taken over: now it is {run['id']} by {run['who']}, so this one has to stop")
    return dict(run)


def _remember(state: State, run: Mapping[str, Any], now: datetime.datetime) -> None:
    entry = {name: run[name] for name in ("id", "operation", "digest", "who", "status", "started", "attempt")}
    entry.update(
        ended=stamp(now),
        seconds=seconds_between(run["started"], now),
        hosts={name: host["phase"] for name, host in run["hosts"].items()},
    )
    state["history"] = [*state["history"], entry][-HISTORY_KEPT:]


def _learn(state: State, name: str, seconds: float) -> None:
    state["durations"][name] = [*state["durations"][name], seconds][-DURATIONS_KEPT:]


def _learn_phases(state: State, timings: Mapping[str, float]) -> None:
    known = state.setdefault("phase_durations", {})
    for phase in WORKING[1:]:
        if phase in timings:
            known[phase] = [*known.get(phase, []), timings[phase]][-DURATIONS_KEPT:]


def _end_batch(state: State, now: datetime.datetime) -> None:
    run = state["run"]
    if run["batch_started"] is not None:
        _learn(state, "first_batch" if run["current"] == 0 else "batch", seconds_between(run["batch_started"], now))
        run["batch_started"] = None
        if run.get("log"):
            run["log"][-1]["ended"] = stamp(now)


def check_capacity(hosts: Iterable[str], healthy: Iterable[str], minimum: int) -> int:
    """Number of hosts that serve while I(hosts) do not."""
    serving = set(healthy)
    batch = set(hosts)
    left = len(serving - batch)
    if left < minimum:
        raise Refused(
            f"{len(serving)} hosts serve now ({', '.join(sorted(serving)) or 'none'}). "
            f"Without {', '.join(sorted(batch))} there are {left}, and {minimum} have to be: the batch does not begin"
        )
    return left


def begin_batch(
    state: State, run_id: str, hosts: Sequence[str], healthy: Sequence[str], minimum: int | None, now: datetime.datetime
) -> tuple[State, int]:
    """Let the next batch begin, if all earlier ones are done and enough hosts serve without it."""
    refuse_when_open(state)
    run = _own_run(state, run_id)
    if run["status"] != "running":
        raise Refused(f"this roll is {run['status']}, not running")
    lost = [
        f"{name} ({run['hosts'][name]['phase']})"
        for batch in run["batches"][: run["current"] + 1]
        for name in batch
        if name not in hosts and run["hosts"][name]["phase"] != "enabled"
    ]
    if lost:
        raise Refused(f"an earlier batch is not done: {', '.join(lost)}")
    current = run["batches"][run["current"]] if run["current"] >= 0 else None
    again = current is not None and set(current) == set(hosts)
    number = run["current"] if again else run["current"] + 1
    if number >= len(run["batches"]):
        raise Refused("all batches of this roll have begun already")
    planned = run["batches"][number]
    if set(planned) != set(hosts):
        raise Refused(f"batch {number + 1} is {', '.join(planned)}, and the play has {', '.join(hosts) or 'nobody'}")
    left = check_capacity(hosts, healthy, run["minimum"] if minimum is None else minimum)
    if again:
        return state, left
    state = copy.deepcopy(state)
    _end_batch(state, now)
    state["run"].update(current=number, batch_started=stamp(now), updated=stamp(now))
    entry = {"hosts": list(planned), "began": stamp(now), "ended": None}
    state["run"]["log"] = [*state["run"].get("log", []), entry][-LOG_KEPT:]
    for name in planned:
        _enter(state["run"]["hosts"][name], "begun", now)
    return state, left


def record(
    state: State,
    run_id: str,
    name: str,
    phase: str,
    timings: Mapping[str, float] | None,
    reason: str | None,
    now: datetime.datetime,
) -> State:
    """Note that a host has entered a phase. One that failed or was rolled back opens the breaker."""
    run = _own_run(state, run_id)
    if name not in run["hosts"]:
        raise Refused(f"{name} is not part of this roll")
    if run["status"] not in ("running", "stopped"):
        raise Refused(f"this roll is {run['status']}, not running")
    known = run["hosts"][name]
    if known["phase"] == "pending":
        raise Refused(f"the batch of {name} has not begun")
    measured = {key: round(float(value), 3) for key, value in (timings or {}).items()}
    if (
        known["phase"] == phase
        and (reason is None or known["reason"] == reason)
        and measured.items() <= known["timings"].items()
    ):
        return state
    state = copy.deepcopy(state)
    run = state["run"]
    host = run["hosts"][name]
    if host["phase"] != phase:
        if host["phase"] in WORKING[1:]:
            spent = host["timings"].get(host["phase"], 0.0) + seconds_between(host["since"], now)
            host["timings"][host["phase"]] = round(spent, 3)
        host["begun"] = host["begun"] or stamp(now)
        _enter(host, phase, now)
    host["timings"].update(measured)
    host["reason"] = reason if reason is not None else host["reason"]
    run["updated"] = stamp(now)
    if phase == "enabled":
        total = seconds_between(host["begun"], now)
        if measured and total == 0.0:  # only the end was recorded
            total = round(sum(measured.values()), 3)
        host["timings"]["total"] = total
        _learn(state, "host", total)
        _learn_phases(state, host["timings"])
        host.pop("broken", None)
        host.update(interrupted=None, reason=reason)
    if phase in BROKEN:
        state = open_breaker(state, f"{name} {phase.replace('_', ' ')}: {reason or 'no reason given'}", name, now)
    return state


def open_breaker(state: State, reason: str, host: str | None, now: datetime.datetime) -> State:
    """Nothing begins any more. The first cause is the one that is kept."""
    if state["breaker"]["open"]:
        return state
    state = copy.deepcopy(state)
    run = state["run"]
    running = run is not None and run["status"] == "running"
    state["breaker"] = {
        "open": True,
        "reason": reason,
        "host": host,
        "run_id": run["id"] if running else None,
        "since": stamp(now),
    }
    if running:
        run.update(status="stopped", updated=stamp(now))
    return state


def finish(state: State, run_id: str, now: datetime.datetime) -> State:
    """Close a run whose hosts are all done."""
    run = _own_run(state, run_id)
    if run["status"] == "finished":
        return state
    refuse_when_open(state)
    if run["status"] != "running":
        raise Refused(f"this roll is {run['status']}, not running")
    undone = [f"{name} ({host['phase']})" for name, host in run["hosts"].items() if host["phase"] != "enabled"]
    if undone:
        raise Refused(f"the roll is not done: {', '.join(undone)}. Run it again and it resumes")
    state = copy.deepcopy(state)
    _end_batch(state, now)
    state["run"].update(status="finished", updated=stamp(now))
    _remember(state, state["run"], now)
    return state


def reset(state: State, reason: str | None, now: datetime.datetime) -> State:
    """Close the breaker and give up the unfinished run. The same plan can still take it up later."""
    run = state["run"]
    unfinished = run is not None and run["status"] in ("running", "stopped")
    if not state["breaker"]["open"] and not unfinished:
        return state
    state = copy.deepcopy(state)
    if unfinished:
        state["run"].update(
            status="given_up", last_step=run["updated"], updated=stamp(now), id=f"{run['id']}{GIVEN_UP}"
        )
    state["last_reset"] = {"at": stamp(now), "reason": reason, "breaker": state["breaker"]}
    state["breaker"] = {"open": False}
    return state


def spans(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The time before, in and after a roll, for M(flowfleet.langflow.nginx_traffic_info). Without an end: now."""
    attempts = [*run.get("attempts", []), _attempt(run)]
    first = datetime.datetime.fromisoformat(attempts[0]["began"])
    over = run["status"] != "running"
    end = _last_step(run) if over else None
    found = [
        {
            "name": "before",
            "since": stamp(first - datetime.timedelta(seconds=BEFORE_SECONDS)),
            "until": attempts[0]["began"],
        }
    ]
    for number, (attempt, later) in enumerate(zip(attempts, attempts[1:], strict=False), 1):
        found.append({"name": f"attempt {number}", "since": attempt["began"], "until": attempt["last_step"]})
        found.append({"name": f"after attempt {number}", "since": attempt["last_step"], "until": later["began"]})
    found.append({"name": "during", "since": attempts[-1]["began"], "until": end})
    for number, batch in enumerate(run.get("log", []), 1):
        found.append({"name": f"batch {number}", "since": batch["began"], "until": batch["ended"] or end})
    if over:
        found.append({"name": "after", "since": end, "until": None})
    return found


def summary(state: State) -> dict[str, Any]:
    """The parts of a state that a play decides on."""
    run = state["run"]
    phases = {} if run is None else {name: run["hosts"][name]["phase"] for name in run["order"]}
    return {
        "run_id": None if run is None else run["id"],
        "status": "none" if run is None else run["status"],
        "breaker": state["breaker"],
        "phases": phases,
        "remaining": [name for name, phase in phases.items() if phase != "enabled"],
        "interrupted": {} if run is None else _middle(run),
        "timings": {} if run is None else {name: run["hosts"][name]["timings"] for name in run["order"]},
        "spans": [] if run is None else spans(run),
    }


def corrupt_message(path: str, cause: CorruptState) -> str:
    """What is wrong with the file, and the way out."""
    return (
        f"{path} cannot be understood: {cause}. It was left as it is. "
        f"Look at it; {WAY_OUT} keeps a copy and starts with an empty one"
    )


# --- file -------------------------------------------------------------------------------------------------------------


class StateFile:
    """The file, changed by one process at a time and always whole."""

    def __init__(self, path: str, lock_timeout: float = 60.0) -> None:
        self.path = path
        self.lock_timeout = lock_timeout
        self._directory, self._name = os.path.split(os.path.abspath(path))

    def read(self) -> State:
        """What is kept now. A file that is not there holds nothing; one that cannot be understood is an error."""
        try:
            with open(self.path, "rb") as stream:
                return parse_state(stream.read())
        except FileNotFoundError:
            return empty_state()

    @contextlib.contextmanager
    def _locked(self) -> Any:
        os.makedirs(self._directory, mode=0o755, exist_ok=True)
        with _lock.exclusive(f"{self.path}.lock", self.lock_timeout):
            yield

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _write(self, state: State) -> None:
        prefix, suffix = f".{self._name}.", ".tmp"
        # Whatever a killed writer left is nobody's: the lock is ours.
        for stale in glob.glob(f"{glob.escape(os.path.join(self._directory, prefix))}*{suffix}"):
            os.unlink(stale)
        descriptor, temporary = tempfile.mkstemp(dir=self._directory, prefix=prefix, suffix=suffix)
        try:
            with open(descriptor, "w", encoding="utf-8") as stream:
                stream.write(format_state(state))
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        self._sync_directory()

    def change(self, step: Callable[[State], State]) -> tuple[State, State]:
        """Take one step under the lock. Gives the state before and after it."""
        with self._locked():
            before = self.read()
            after = step(before)
            if after != before:
                after["revision"] = before["revision"] + 1
                self._write(after)
        return before, after

    def preview(self, step: Callable[[State], State]) -> tuple[State, State]:
        """Take one step in memory only."""
        before = self.read()
        return before, step(before)

    def set_aside(self, now: datetime.datetime, check_mode: bool = False) -> str | None:
        """Start with an empty state if the file cannot be understood; where its copy went."""
        if check_mode:
            try:
                self.read()
            except CorruptState:
                return self._copy_name(now)
            return None
        with self._locked():
            try:
                self.read()
            except CorruptState:
                kept = self._copy_name(now)
                os.link(self.path, kept)
                self._write(empty_state())
                return kept
        return None

    def _copy_name(self, now: datetime.datetime) -> str:
        return f"{self.path}.corrupt-{now.astimezone(datetime.UTC):%Y%m%dT%H%M%S%fZ}"
