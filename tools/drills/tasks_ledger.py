"""What a client knows about its tasks, and what has to be true of them in the end. Needs no lab."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

FINAL = ("succeeded", "failed", "cancelled", "unknown")
ONCE, AT_MOST_ONCE, AT_LEAST_ONCE = GUARANTEES = ("once", "at_most_once", "at_least_once")
# How often a flow may execute at most; None: as often as it has to.
MOST = {ONCE: 1, AT_MOST_ONCE: 1, AT_LEAST_ONCE: None}
# Seconds that ten tasks in a row work, and the guarantees of five tens in a row.
LENGTHS = (0, 1, 2, 0, 6, 1, 3, 0, 12, 2)
SHARES = (ONCE, AT_LEAST_ONCE, ONCE, AT_MOST_ONCE, ONCE)
# Short enough for a request that is held open.
HELD_TIMEOUT, HELD_LENGTH = 25, 3


# --- tasks -----------------------------------------------------------------------------------------------------------


@dataclass
class Task:
    """One task from its order to its end, as its client sees it."""

    token: str
    seconds: float
    guarantee: str
    run_id: str = ""
    # When it was asked for the first time, taken, and seen to have ended.
    asked: float = 0.0
    taken: float = 0.0
    ended: float = 0.0
    # Answers that were no yes, before it was taken.
    refusals: list[str] = field(default_factory=list)
    # How often the answer was that there is no such run, so that it was submitted again.
    forgotten: int = 0
    # Its states in the order in which they were seen.
    seen: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether its request is short enough to be held open."""
        return self.guarantee == AT_LEAST_ONCE and self.seconds <= HELD_LENGTH

    def body(self, flow: str) -> dict[str, Any]:
        """What the API is asked."""
        asked: dict[str, Any] = {"flow": flow, "input": f"{self.token} sleep={self.seconds:g}"}
        asked["guarantee"] = self.guarantee
        if self.held:
            asked["timeout"] = HELD_TIMEOUT
        return asked

    def see(self, state: str, now: float) -> None:
        """Note the state that it has now."""
        if self.seen and self.seen[-1] == state:
            return
        self.seen.append(state)
        if state in FINAL and not self.ended:
            self.ended = now

    @property
    def end(self) -> str:
        """Its first end; empty without one."""
        return next((state for state in self.seen if state in FINAL), "")

    @property
    def changed(self) -> bool:
        """Whether it had ended and was something else later."""
        return bool(self.end) and self.seen[-1] != self.end or sum(state in FINAL for state in self.seen) > 1


def mixed(count: int, name: str) -> list[Task]:
    """Tasks of mixed lengths and guarantees, each with a token of its own."""
    return [
        Task(f"{name}-{number:04d}", LENGTHS[number % len(LENGTHS)], SHARES[number // len(LENGTHS) % len(SHARES)])
        for number in range(count)
    ]


def taken(tasks: Iterable[Task]) -> list[Task]:
    """Those whose submission was answered with an identifier."""
    return [task for task in tasks if task.run_id]


def open_tasks(tasks: Iterable[Task]) -> list[Task]:
    """Those that were taken and have no end."""
    return [task for task in taken(tasks) if not task.end]


def there_between(tasks: Iterable[Task], since: float, until: float) -> list[Task]:
    """Those that had been taken and had no end, at some time between two moments."""
    return [task for task in taken(tasks) if task.taken <= until and (not task.ended or task.ended >= since)]


def kept(task: Task, executions: int) -> bool:
    """Whether the flow was executed as often as the guarantee says."""
    most = MOST[task.guarantee]
    least = 1 if task.end == "succeeded" else 0
    return least <= executions and (most is None or executions <= most)


def broken(tasks: Iterable[Task], executions: Mapping[str, int]) -> list[Task]:
    """Tasks whose guarantee was not kept."""
    return [task for task in tasks if not kept(task, executions.get(task.token, 0))]


def by_guarantee(tasks: Sequence[Task], executions: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """For each guarantee the number of tasks, their ends, and how many of them were executed how often."""
    found = {}
    for guarantee in GUARANTEES:
        own = [task for task in tasks if task.guarantee == guarantee]
        found[guarantee] = {
            "n": len(own),
            "held": sum(task.held for task in own),
            "ends": dict(Counter(task.end or "none" for task in own)),
            "executions": dict(sorted(Counter(executions.get(task.token, 0) for task in own).items())),
        }
    return found


def times_text(executions: Mapping[int, int]) -> str:
    """How many tasks were executed how often, in words: `198 once, 2 twice`."""
    words = {0: "never", 1: "once", 2: "twice"}
    return ", ".join(f"{n} {words.get(often, f'{often} times')}" for often, n in sorted(executions.items())) or "none"


# --- schedules -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fire:
    """A run that a schedule has made: its due time and when it was made."""

    due: float
    made: float

    @property
    def late(self) -> float:
        return self.made - self.due


def read_fire(run: Mapping[str, Any]) -> Fire:
    """A scheduled run as the API shows it."""
    due = datetime.strptime(str(run["due"]), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return Fire(due.timestamp(), float(run["created"]))


def due_times(every: int, since: float, until: float) -> list[float]:
    """The due times of an interval from one moment to another, both of them among them."""
    first = -int(-since // every) * every
    return [float(moment) for moment in range(first, int(until) + 1, every)]


@dataclass(frozen=True)
class Fired:
    """What became of the due times of a schedule."""

    due: int
    missing: list[float]
    twice: list[float]
    # Those that belong to no due time.
    strange: list[float]
    late: list[float]

    @property
    def once(self) -> bool:
        return self.due > 0 and not self.missing and not self.twice and not self.strange

    @property
    def latest(self) -> float:
        return round(max(self.late, default=0.0), 2)


def judge_schedule(every: int, since: float, until: float, fires: Iterable[Fire]) -> Fired:
    """Compare due times with runs that were made for them; what was due outside of the span is not looked at."""
    wanted = due_times(every, since, until)
    found = [fire for fire in fires if since <= fire.due <= until]
    made = Counter(fire.due for fire in found)
    return Fired(
        len(wanted),
        [moment for moment in wanted if moment not in made],
        sorted(moment for moment, count in made.items() if count > 1),
        sorted(set(made) - set(wanted)),
        [fire.late for fire in found],
    )


# --- what the tier says of itself ------------------------------------------------------------------------------------


def read_counters(text: str) -> dict[str, float]:
    """The counters of the metrics page, over all queues: `runs_total`, `revived_total`, `retries_total`..."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        series, _space, value = line.rpartition(" ")
        name = series.split("{", 1)[0]
        if name.startswith("flowfleet_tasks_") and name.endswith("_total"):
            name = name.removeprefix("flowfleet_tasks_")
            found[name] = found.get(name, 0.0) + float(value)
    return found
