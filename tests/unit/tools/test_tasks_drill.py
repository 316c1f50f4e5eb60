"""What the drills of tasks make of what they have seen, without any lab."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

# `tools` is a folder here, too; Python takes both for one package.
sys.path.append(str(Path(__file__).resolve().parents[3]))
core, ledger, tasks = (importlib.import_module(f"tools.drills.{name}") for name in ("core", "tasks_ledger", "tasks"))

ONCE, AT_MOST, AT_LEAST = "once", "at_most_once", "at_least_once"


def task(*states: str, guarantee: str = ONCE, run_id: str = "r", name: str = "t", seconds: float = 5) -> Any:
    made = ledger.Task(name, seconds, guarantee, run_id=run_id)
    for number, state in enumerate(states):
        made.see(state, 10.0 + number)
    return made


# --- orders ----------------------------------------------------------------------------------------------------------


def test_tasks_are_mixed_and_each_has_a_token_of_its_own() -> None:
    made = ledger.mixed(200, "x")
    assert len({row.token for row in made}) == 200
    assert Counter(row.guarantee for row in made) == {ONCE: 120, AT_MOST: 40, AT_LEAST: 40}
    for guarantee in ledger.GUARANTEES:
        assert {row.seconds for row in made if row.guarantee == guarantee} == set(ledger.LENGTHS)
    assert 0 < sum(row.held for row in made) < 40


def test_only_what_is_short_and_may_be_repeated_is_held() -> None:
    assert "timeout" in task(guarantee=AT_LEAST, seconds=2).body("flow")
    for other in (task(guarantee=AT_LEAST, seconds=12), task(seconds=0), task(guarantee=AT_MOST, seconds=0)):
        assert "timeout" not in other.body("flow")
    assert task(seconds=6).body("flow") == {"flow": "flow", "input": "t sleep=6", "guarantee": ONCE}


# --- states ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "end", "changed"),
    [
        ((), "", False),
        (("queued", "running", "waiting", "running"), "", False),
        (("queued", "succeeded", "succeeded"), "succeeded", False),
        (("queued", "unknown", "succeeded"), "unknown", True),
        (("failed", "running", "failed"), "failed", True),
        (("succeeded", "running"), "succeeded", True),
    ],
)
def test_there_is_one_end(states: tuple[str, ...], end: str, changed: bool) -> None:
    made = task(*states)
    assert (made.end, made.changed) == (end, changed)
    assert bool(made.ended) is bool(end)


def test_lost_is_what_was_taken_and_has_no_end() -> None:
    rows = [task("running"), task("succeeded"), task("queued", run_id=""), task()]
    assert ledger.open_tasks(rows) == [rows[0], rows[3]]


def test_a_fault_meets_what_was_there_at_any_time_of_it() -> None:
    rows = [task("succeeded"), task("running"), task("succeeded"), task("queued"), task("queued", run_id="")]
    for row, (taken, ended) in zip(rows, [(1, 5), (2, 0), (3, 15), (25, 0), (2, 0)], strict=True):
        row.taken, row.ended = float(taken), float(ended)
    assert ledger.there_between(rows, 10.0, 20.0) == [rows[1], rows[2]]


@pytest.mark.parametrize(
    ("guarantee", "end", "good"),
    [
        (ONCE, "succeeded", {1}),
        (ONCE, "unknown", {0, 1}),
        (AT_MOST, "succeeded", {1}),
        (AT_MOST, "unknown", {0, 1}),
        (AT_LEAST, "succeeded", {1, 2, 3}),
        (AT_LEAST, "failed", {0, 1, 2, 3}),
    ],
)
def test_a_guarantee_says_how_often(guarantee: str, end: str, good: set[int]) -> None:
    made = task(end, guarantee=guarantee)
    assert {often for often in range(4) if ledger.kept(made, often)} == good


def test_executions_are_counted_by_guarantee() -> None:
    rows = [task("succeeded", name="a"), task("succeeded", name="b"), task("unknown", name="c", guarantee=AT_MOST)]
    found = ledger.by_guarantee(rows, {"a": 1, "b": 2})
    assert found[ONCE] == {"n": 2, "held": 0, "ends": {"succeeded": 2}, "executions": {1: 1, 2: 1}}
    assert found[AT_MOST]["executions"] == {0: 1}
    assert ledger.broken(rows, {"a": 1, "b": 2}) == [rows[1]]
    assert ledger.times_text({0: 1, 1: 198, 2: 1, 4: 3}) == "1 never, 198 once, 1 twice, 3 4 times"


# --- schedules -------------------------------------------------------------------------------------------------------


def test_a_fire_is_read_from_its_run() -> None:
    fire = ledger.read_fire({"due": "2026-11-22T10:00:05Z", "created": 1795341605.5})
    assert (fire.due, fire.late) == (1795341605.0, 0.5)


def fires(*dues: float, late: float = 0.5) -> list[Any]:
    return [ledger.Fire(due, due + late) for due in dues]


def test_due_times_are_counted_from_the_epoch() -> None:
    assert ledger.due_times(5, 101.2, 115.0) == [105.0, 110.0, 115.0]
    assert ledger.due_times(5, 100.0, 104.9) == [100.0]
    assert ledger.due_times(5, 101.0, 104.0) == []


@pytest.mark.parametrize(
    ("made", "missing", "twice", "strange"),
    [
        (fires(105, 110, 115), [], [], []),
        # What was due before or after is not looked at.
        (fires(95, 105, 110, 115, 120), [], [], []),
        (fires(105, 115), [110.0], [], []),
        (fires(105, 110, 110, 115), [], [110.0], []),
        (fires(105, 107, 110, 115), [], [], [107.0]),
    ],
)
def test_each_due_time_fires_once(
    made: list[Any], missing: list[float], twice: list[float], strange: list[float]
) -> None:
    found = ledger.judge_schedule(5, 101.0, 116.0, made)
    assert (found.due, found.missing, found.twice, found.strange) == (3, missing, twice, strange)
    assert found.once is not bool(missing or twice or strange)


def test_nothing_due_proves_nothing() -> None:
    assert not ledger.judge_schedule(5, 101.0, 104.0, []).once
    assert ledger.judge_schedule(5, 101.0, 111.0, fires(105, 110, late=3.256)).latest == 3.26


# --- verdicts --------------------------------------------------------------------------------------------------------


def counted(rows: list[Any], often: int = 1) -> dict[str, int]:
    return {row.token: often for row in rows}


def good_tasks() -> list[Any]:
    return [task("queued", "succeeded", name=f"{name}-{number}", guarantee=name)
            for name in ledger.GUARANTEES for number in range(3)]  # fmt: skip


def verdict(rows: list[Any], executions: dict[str, int], **options: Any) -> tuple[bool, list[str]]:
    drill = core.Drill("celery-9", "a title")
    tasks.check_tasks(drill, rows, executions, **options)
    json.dumps(drill.facts)
    return drill.passed, [row.what for row in drill.verdicts if not row.passed]


def test_good_tasks_pass() -> None:
    rows = good_tasks()
    assert verdict(rows, counted(rows)) == (True, [])
    # At least once may be more than once.
    assert verdict(rows, {**counted(rows), f"{AT_LEAST}-0": 3}) == (True, [])


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"run_id": ""}, "tasks that were not taken"),
        ({"seen": ["queued", "running"]}, "tasks without an end"),
        ({"seen": ["failed", "succeeded"]}, "tasks whose end changed"),
        ({"seen": ["failed"]}, "tasks that may be tried again and did not succeed"),
    ],
)
def test_each_fault_of_a_task_is_seen(change: dict[str, Any], failed: str) -> None:
    rows = good_tasks()
    for name, value in change.items():
        setattr(rows[0], name, value)
    passed, found = verdict(rows, counted(rows))
    assert not passed
    assert failed in found


@pytest.mark.parametrize(
    ("token", "often"), [(f"{ONCE}-0", 2), (f"{AT_MOST}-0", 2), (f"{AT_LEAST}-0", 0), (f"{ONCE}-0", 0)]
)
def test_executions_against_the_guarantee_are_seen(token: str, often: int) -> None:
    rows = good_tasks()
    assert verdict(rows, {**counted(rows), token: often}) == (False, [f"executions, {token.rsplit('-', 1)[0]}"])


def test_what_may_not_succeed_is_only_counted() -> None:
    rows = good_tasks()
    rows[0].seen = ["failed"]
    assert verdict(rows, counted(rows), succeed=False) == (True, [])


@pytest.mark.parametrize(
    ("made", "executions", "late", "passed"),
    [
        (fires(105, 110), 2, 2.0, True),
        (fires(105), 1, 2.0, False),
        (fires(105, 110), 3, 2.0, False),
        (fires(105, 110, late=2.5), 2, 2.0, False),
        (fires(105, 110, late=2.5), 2, 7.0, True),
    ],
)
def test_a_schedule_fires_once_and_in_time(made: list[Any], executions: int, late: float, passed: bool) -> None:
    drill = core.Drill("celery-9", "a title")
    tasks.check_schedule(drill, made, 101.0, 112.0, executions, late)
    assert drill.passed is passed
    json.dumps(drill.facts)


METRICS = """# HELP flowfleet_tasks_runs_total Runs that ended.
flowfleet_tasks_runs_total{queue="default",state="succeeded"} 7.0
flowfleet_tasks_runs_total{queue="a b} c",state="failed"} 2.0
flowfleet_tasks_revived_total{queue="default"} 1.0
flowfleet_tasks_queue_depth{queue="default"} 5.0
flowfleet_tasks_up 1.0
"""


def test_counters_are_summed_over_queues() -> None:
    assert ledger.read_counters(METRICS) == {"runs_total": 9.0, "revived_total": 1.0}
    drill = core.Drill("celery-9", "a title")
    tasks.check_counters(drill, {"runs_total": 2.0}, ledger.read_counters(METRICS), 7, True)
    assert drill.passed
    tasks.check_counters(drill, {"runs_total": 2.0}, ledger.read_counters(METRICS), 8, True)
    assert not drill.passed


# --- the client ------------------------------------------------------------------------------------------------------


class Api:
    """An API that refuses the first submission of each task and forgets some."""

    def __init__(self, forget: str = "") -> None:
        self.forget = forget
        self.keys: dict[str, int] = {}
        self.made: dict[str, str] = {}

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        if method == "GET":
            run_id = path.rsplit("/", 1)[1]
            return (200, {"state": "succeeded"}) if run_id in self.made else (404, {"error": {"message": "gone"}})
        key = headers["Idempotency_Key"]
        self.keys[key] = self.keys.get(key, 0) + 1
        if self.keys[key] == 1:
            return 503, {"error": {"message": "closed"}}
        token = body["input"].split()[0]
        if token != self.forget or self.keys[key] > 2:
            self.made[f"run-{token}"] = key
        return 202, {"id": f"run-{token}"}

    def runs(self, **_wanted: str) -> list[dict[str, Any]]:
        return [{"id": run_id, "state": "succeeded"} for run_id in self.made]


def test_a_client_asks_again_with_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.time, "sleep", lambda _seconds: None)
    api = Api(forget="x-0003")
    client = tasks.Client(api, "flow", ledger.mixed(5, "x"), spread=0.05)
    client._submit()
    assert [len(row.refusals) for row in client.tasks] == [1] * 5
    assert len(api.keys) == 5
    client.look()
    assert [row.token for row in ledger.open_tasks(client.tasks)] == ["x-0003"]
    client.tasks[3].taken = time.time() - 60
    client.look()
    assert client.tasks[3].forgotten == 1
    client.look()
    assert not ledger.open_tasks(client.tasks)
    assert len(api.keys) == 5


def test_a_refusal_that_is_meant_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api()
    monkeypatch.setattr(api, "call", lambda *_a, **_k: (422, {"error": {"message": "no such queue"}}))
    client = tasks.Client(api, "flow", ledger.mixed(1, "x"), spread=0.0)
    client._submit()
    assert client.tasks[0].refusals == ["422 no such queue"]
    assert not client.tasks[0].run_id


def test_every_drill_can_be_chosen_by_its_name() -> None:
    cli = importlib.import_module("tools.drills.cli")
    tier = cli.TIERS["celery"]
    assert cli.chosen(tier, []) == [*tasks.FAULTS, "control"]
    assert cli.chosen(tier, ["redis"]) == ["redis"]
    with pytest.raises(core.DrillError, match="worker-killed"):
        cli.chosen(tier, ["nothing"])
