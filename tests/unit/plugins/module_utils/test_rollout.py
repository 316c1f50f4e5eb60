# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan, progress and breaker of a roll, and the file that keeps them."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import multiprocessing
import os
import pathlib
import random
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.executor.playbook_executor import PlaybookExecutor
from ansible_collections.flowfleet.langflow.plugins.filter.rollout_batches import FilterModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _rollout as ro

EPOCH = datetime.datetime(2026, 3, 14, 10, tzinfo=datetime.UTC)
HOSTS = ("a", "b", "c", "d")


class Dice(random.Random):
    """Falls the same way in each run."""


def at(seconds: float) -> datetime.datetime:
    return EPOCH + datetime.timedelta(seconds=seconds)


def wanted(**change: Any) -> ro.Wanted:
    return ro.Wanted(
        **{"operation": "restart", "digest": "r1", "hosts": HOSTS, "spec": [1, "25%", "100%"], "who": "me", **change}
    )


def started(
    state: ro.State | None = None, run_id: str = "run", now: float = 0, **change: Any
) -> tuple[ro.State, ro.Plan]:
    return ro.begin_run(state or ro.empty_state(), wanted(**change), at(now), run_id)


def roll(state: ro.State, hosts: tuple[str, ...], now: float, run_id: str = "run", upto: str = "enabled") -> ro.State:
    """Begin a batch and take its hosts as far as I(upto), ten seconds a phase."""
    state, _left = ro.begin_batch(state, run_id, hosts, HOSTS, None, at(now))
    for step, phase in enumerate(("drain", "stop", "start", "gate", "enabled")):
        for host in hosts:
            state = ro.record(state, run_id, host, phase, None, None, at(now + 10 * step))
        if phase == upto:
            break
    return state


# --- batches ----------------------------------------------------------------------------------------------------------


def ansible_batches(hosts: list[str], spec: list[Any]) -> list[list[str]]:
    """What ansible-playbook itself computes."""
    executor = SimpleNamespace(_inventory=SimpleNamespace(get_hosts=lambda _hosts, order: list(hosts)))
    play = SimpleNamespace(hosts="all", order=None, serial=spec)
    return PlaybookExecutor._get_serialized_batches(executor, play)


SPECS: list[list[Any]] = [
    [1, "25%", "100%"],
    [1],
    ["30%"],
    ["33%", 2],
    [2, 0],
    [0],
    [-1],
    ["0%"],
    ["1%", "100%"],
    ["2", "50%"],
    ["29%"],
    ["58%"],
    ["250%"],
    [],
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_batches_are_those_of_ansible(spec: list[Any]) -> None:
    for count in (*range(14), 97, 100, 101):
        hosts = [f"h{number}" for number in range(count)]
        assert ro.rollout_batches(hosts, spec) == ansible_batches(hosts, spec), count


@pytest.mark.parametrize("spec", ["x", ["25 percent"], ["x%"], [None], [True], [1.5]], ids=str)
def test_bad_sizes_are_named(spec: Any) -> None:
    with pytest.raises(ValueError, match="percentage"):
        ro.rollout_batches(["a"], spec)


def test_filter() -> None:
    split = FilterModule().filters()["rollout_batches"]
    assert split(list(HOSTS), [1, "25%", "100%"]) == [["a"], ["b"], ["c", "d"]]
    assert split(["a", "b"], "50%") == [["a"], ["b"]]
    from ansible.errors import AnsibleFilterError

    for hosts, spec in (("abc", [1]), (["a"], ["x"]), (None, [1])):
        with pytest.raises(AnsibleFilterError, match="rollout_batches"):
            split(hosts, spec)


@pytest.mark.parametrize(
    ("hosts", "healthy", "minimum", "expected"),
    [
        ("abcdefgh", "abcdefgh", 0, [("a", 7), ("bc", 6), ("defgh", 3)]),
        ("abcdefgh", "abcdefgh", 6, [("a", 7), ("bc", 6), ("de", 6), ("fg", 6), ("h", 7)]),
        ("ab", "ab", 1, [("a", 1), ("b", 1)]),
        ("a", "a", 0, [("a", 0)]),
        ("abc", "bc", 2, [("a", 2), ("b", 2), ("c", 2)]),
        ("abc", "abcxyz", 4, [("a", 5), ("b", 5), ("c", 5)]),
    ],
)
def test_batches_leave_enough_in_service(
    hosts: str, healthy: str, minimum: int, expected: list[tuple[str, int]]
) -> None:
    batches = ro.plan_batches(hosts, [1, "25%", "100%"], healthy, minimum)
    assert [("".join(batch.hosts), batch.serving_during) for batch in batches] == expected


@pytest.mark.parametrize(("hosts", "healthy", "minimum"), [("a", "a", 1), ("abc", "abc", 3), ("abc", "b", 2)])
def test_plan_without_spare_capacity_is_refused(hosts: str, healthy: str, minimum: int) -> None:
    with pytest.raises(ro.Refused, match="cannot be taken out"):
        ro.plan_batches(hosts, [1], healthy, minimum)


# --- a roll -----------------------------------------------------------------------------------------------------------


def test_whole_roll_and_what_is_learnt_from_it() -> None:
    state, plan = started()
    assert plan.order == list(HOSTS)
    assert [len(batch.hosts) for batch in plan.batches] == [1, 1, 2]
    assert plan.estimate is None
    for number, batch in enumerate(plan.batches):
        state = roll(state, batch.hosts, now=100 * number)
    state = ro.finish(state, "run", at(300))
    assert ro.summary(state)["remaining"] == []
    assert state["run"]["hosts"]["a"]["timings"] == {
        "drain": 10.0,
        "stop": 10.0,
        "start": 10.0,
        "gate": 10.0,
        "total": 40.0,
    }
    assert state["durations"] == {"host": [40.0] * 4, "first_batch": [100.0], "batch": [100.0, 100.0]}
    assert (state["history"][0]["status"], state["history"][0]["seconds"]) == ("finished", 300.0)
    again, plan = started(state, "next", now=400)
    assert plan.order == list(HOSTS)
    assert (plan.resumed, plan.estimate) == (False, 300.0)
    assert again["run"]["attempt"] == 1
    assert ro.finish(state, "run", at(500)) is state


def test_estimates_of_batches_and_phases() -> None:
    state, plan = started()
    assert (plan.batch_estimates, plan.phases) == ([None, None, None], {})
    for number, hosts in enumerate((("a",), ("b",), ("c", "d"))):
        state = roll(state, hosts, 100 * number)
    state = ro.finish(state, "run", at(300))
    _state, plan = started(state, "next", 400)
    assert plan.batch_estimates == [100.0, 100.0, 100.0]
    assert plan.phases == {"drain": 10.0, "stop": 10.0, "start": 10.0, "gate": 10.0, "total": 40.0}
    # A file of a version that did not keep them yet.
    del state["phase_durations"]
    _state, plan = started(ro.check_state(state), "next", 400)
    assert plan.phases == {"total": 40.0}


def test_spans_of_a_roll() -> None:
    state, _plan = started(now=1000)
    assert ro.summary(ro.empty_state())["spans"] == []

    def found() -> dict[str, tuple[float | None, ...]]:
        return {
            span["name"]: tuple(
                None if span[edge] is None else ro.seconds_between(ro.stamp(EPOCH), moment(span[edge]))
                for edge in ("since", "until")
            )
            for span in ro.summary(state)["spans"]
        }

    def moment(text: str) -> datetime.datetime:
        return datetime.datetime.fromisoformat(text)

    state = roll(state, ("a",), 1010)
    assert found() == {"before": (700, 1000), "during": (1000, None), "batch 1": (1010, None)}
    state = roll(state, ("b",), 1060, upto="start")
    # killed, taken up 30 s later
    state, plan = started(state, "second", 1110)
    assert plan.taken_up == {
        "run_id": "run",
        "who": "me",
        "last_step": ro.stamp(at(1080)),
        "idle_seconds": 30.0,
        "interrupted": {"b": "start"},
        "reason": "the controller of me ended without a word",
    }
    trails = plan.attempts[0]["trails"]
    assert [phase for phase, _at in trails["a"]] == ["begun", "drain", "stop", "start", "gate", "enabled"]
    assert trails["b"][-1] == ["start", ro.stamp(at(1080))]
    for hosts, now in ((("b",), 1120), (("c",), 1170), (("d",), 1220)):
        state = roll(state, hosts, now, "second")
    state = ro.finish(state, "second", at(1270))
    assert found() == {
        "before": (700, 1000),
        "attempt 1": (1000, 1080),
        "after attempt 1": (1080, 1110),
        "during": (1110, 1270),
        "batch 1": (1120, 1170),
        "batch 2": (1170, 1220),
        "batch 3": (1220, 1270),
        "after": (1270, None),
    }
    # What is done stays done, and is told once.
    _state, plan = started(state, "third", 1300)
    assert (plan.taken_up, plan.attempts) == (None, [])


def test_taken_up_after_a_stop_names_its_reason() -> None:
    state, _plan = started()
    state = roll(state, ("a",), 0, upto="gate")
    state = ro.record(state, "run", "a", "failed", None, "no answer", at(50))
    state = ro.reset(state, "repaired", at(500))
    _state, plan = started(state, "second", 510)
    assert plan.taken_up is not None
    assert (plan.taken_up["reason"], plan.taken_up["idle_seconds"]) == ("a failed: no answer", 460.0)
    # given up without any failure
    state, _plan = started()
    _state, plan = started(ro.reset(state, None, at(5)), "second", 9)
    assert plan.taken_up is not None
    assert (plan.taken_up["reason"], plan.taken_up["run_id"]) == ("me's run was given up", "run")


def test_what_is_kept_of_attempts_is_bounded() -> None:
    state, _plan = started(spec=[4])
    for number in range(20):
        state, _left = ro.begin_batch(state, f"run{number}" if number else "run", HOSTS, HOSTS, None, at(number))
        state, plan = started(state, f"run{number + 1}", number, spec=[4])
    assert len(plan.attempts) == ro.ATTEMPTS_KEPT
    state, _left = ro.begin_batch(state, "run20", HOSTS, HOSTS, None, at(30))
    for number in range(100):
        state = ro.record(state, "run20", "a", ("drain", "start")[number % 2], None, None, at(40 + number))
    assert len(state["run"]["hosts"]["a"]["trail"]) == ro.TRAIL_KEPT


def test_measured_timings_win() -> None:
    state, _plan = started()
    state, _left = ro.begin_batch(state, "run", ["a"], HOSTS, None, at(0))
    state = ro.record(state, "run", "a", "enabled", {"drain": 1.5, "start": 9}, None, at(50))
    assert state["run"]["hosts"]["a"]["timings"] == {"drain": 1.5, "start": 9.0, "total": 10.5}


def test_recording_the_same_again_changes_nothing() -> None:
    state, _plan = started()
    state = roll(state, ("a",), 0, upto="gate")
    assert ro.record(state, "run", "a", "gate", None, None, at(99)) is state
    assert ro.begin_batch(state, "run", ["a"], HOSTS, None, at(99))[0] is state


def test_clock_set_back_is_harmless() -> None:
    state, _plan = started(now=1000)
    state = roll(state, ("a",), 0)
    assert min(state["run"]["hosts"]["a"]["timings"].values()) >= 0


@pytest.mark.parametrize("phase", ["begun", "drain", "stop", "start", "gate"])
def test_killed_controller_resumes(phase: str) -> None:
    state, _plan = started()
    state = roll(state, ("a",), 0)
    state, _left = ro.begin_batch(state, "run", ["b"], HOSTS, None, at(100))
    if phase != "begun":
        state = ro.record(state, "run", "b", phase, None, None, at(100))
    for attempt in range(2, 4):  # a second kill before anything happened must not forget the first
        state, plan = started(state, f"run{attempt}", now=100 * attempt, hosts=("d", "c", "b", "a"))
        assert plan.resumed
        assert plan.skipped == ["a"]
        assert plan.interrupted == {"b": phase}
        assert plan.order == ["b", "d", "c"]
        assert state["run"]["attempt"] == attempt
    with pytest.raises(ro.Refused, match="was taken over"):
        ro.record(state, "run", "b", "gate", None, None, at(400))
    for batch in plan.batches:
        state = roll(state, batch.hosts, 500, "run3")
    state = ro.finish(state, "run3", at(600))
    assert set(ro.summary(state)["phases"].values()) == {"enabled"}
    assert ro.summary(state)["interrupted"] == {}


def test_different_plan_is_refused_while_one_is_unfinished() -> None:
    state, _plan = started()
    for change in ({"digest": "r2"}, {"operation": "rollback"}, {"hosts": ("a", "b")}):
        with pytest.raises(ro.Refused, match=r"restart to r1 on a, b, c, d.*rollout_reset=true"):
            started(state, **change)
    state, plan = started(state, spec=[2])
    assert (plan.resumed, [len(batch.hosts) for batch in plan.batches]) == (True, [2, 2])
    state, plan = started(ro.reset(state, None, at(9)), digest="r2", now=10)
    assert (plan.resumed, state["run"]["digest"], state["history"][0]["status"]) == (False, "r2", "given_up")


def test_roll_of_somebody_else_is_taken_up_only_when_it_is_quiet() -> None:
    state, _plan = started()
    with pytest.raises(ro.Refused, match="me works on this roll"):
        started(state, who="you", now=899)
    assert started(state, who="you", now=900)[1].resumed
    assert started(state, who="you", now=1, lease=0)[1].resumed


@pytest.mark.parametrize("phase", ["failed", "rolled_back"])
def test_bad_host_opens_the_breaker_until_reset(phase: str) -> None:
    state, _plan = started()
    state = roll(state, ("a",), 0)
    state = roll(state, ("b",), 100, upto="gate")
    state = ro.record(state, "run", "b", phase, None, "gate: no answer", at(150))
    assert state["breaker"]["open"]
    assert state["breaker"]["reason"].endswith("gate: no answer")
    assert ro.open_breaker(state, "later", None, at(160)) is state
    refused = [
        lambda: started(state),
        lambda: started(state, digest="r2"),
        lambda: ro.begin_batch(state, "run", ["c", "d"], HOSTS, 0, at(160)),
        lambda: ro.finish(state, "run", at(160)),
    ]
    for step in refused:
        with pytest.raises(ro.Refused, match=r"gate: no answer.*rollout_reset=true"):
            step()
    closed = ro.reset(state, "fixed", at(200))
    assert closed["last_reset"]["breaker"]["reason"].endswith("gate: no answer")
    assert ro.reset(closed, "again", at(201)) is closed
    with pytest.raises(ro.Refused, match="taken over"):
        ro.record(closed, "run", "b", "enabled", None, None, at(201))
    state, plan = started(closed, "run2", now=300)
    assert (plan.skipped, plan.broken) == (["a"], {"b": phase})
    assert plan.order == ["b", "c", "d"]


def test_rescue_may_still_record_after_the_breaker_opened() -> None:
    state, _plan = started()
    state = roll(state, ("a",), 0, upto="gate")
    state = ro.open_breaker(state, "an alert fires", None, at(40))
    state = ro.record(state, "run", "a", "rolled_back", {"rollback": 4}, "alert", at(50))
    assert state["run"]["hosts"]["a"]["phase"] == "rolled_back"
    assert state["breaker"]["reason"] == "an alert fires"


def test_batch_guards() -> None:
    state, _plan = started()
    cases: list[tuple[list[str], str, int | None, str]] = [
        (["b"], "abcd", None, "batch 1 is a, and the play has b"),
        (["a", "b"], "abcd", None, "batch 1 is a"),
        (["a"], "abc", 3, "3 hosts serve now.*there are 2, and 3 have to be"),
        (["a"], "", 1, "0 hosts serve now \\(none\\)"),
    ]
    for hosts, healthy, minimum, message in cases:
        with pytest.raises(ro.Refused, match=message):
            ro.begin_batch(state, "run", hosts, list(healthy), minimum, at(0))
    with pytest.raises(ro.Refused, match="has not begun"):
        ro.record(state, "run", "c", "drain", None, None, at(0))
    with pytest.raises(ro.Refused, match="not part"):
        ro.record(state, "run", "z", "drain", None, None, at(0))
    assert ro.begin_batch(state, "run", ["a"], ["b", "c"], 2, at(0))[1] == 2


def test_lost_host_of_an_earlier_batch_stops_the_roll() -> None:
    state, _plan = started()
    state = roll(state, ("a",), 0, upto="stop")
    with pytest.raises(ro.Refused, match=r"not done: a \(stop\)"):
        ro.begin_batch(state, "run", ["b"], HOSTS, None, at(50))
    with pytest.raises(ro.Refused, match=r"a \(stop\), b \(pending\)"):
        ro.finish(state, "run", at(50))


def test_minimum_of_the_plan_counts_unless_given() -> None:
    state, _plan = started(minimum=3)
    with pytest.raises(ro.Refused, match="3 have to be"):
        ro.begin_batch(state, "run", ["a"], ["a", "b", "c"], None, at(0))
    assert ro.begin_batch(state, "run", ["a"], ["a", "b", "c"], 2, at(0))[1] == 2


def test_random_histories_keep_the_promises() -> None:
    """Whatever order of steps, kills and failures: a later batch never begins beside an undone one."""
    choice = Dice(7)
    for trial in range(150):
        hosts = tuple("abcdefg"[: choice.randint(1, 7)])
        state, minimum = ro.empty_state(), choice.randint(0, len(hosts) - 1)
        now = itertools.count()
        for attempt in range(1, 200):
            run_id = f"{trial}-{attempt}"
            if state["breaker"]["open"]:
                state = ro.reset(state, None, at(next(now)))
            done_before = {
                name for name, host in ((state["run"] or {}).get("hosts") or {}).items() if host["phase"] == "enabled"
            }
            state, plan = started(state, run_id, next(now), hosts=hosts, spec=choice.choice(SPECS), minimum=minimum)
            assert set(plan.skipped) == done_before
            assert sorted([*plan.order, *plan.skipped]) == sorted(hosts)
            killed = False
            for batch in plan.batches:
                state, left = ro.begin_batch(state, run_id, batch.hosts, hosts, None, at(next(now)))
                assert left >= minimum
                for host, phase in itertools.product(batch.hosts, ro.RECORDED[:5]):
                    if choice.random() < 0.03:
                        killed = True
                        break
                    bad = choice.random() < 0.02
                    state = ro.record(state, run_id, host, "failed" if bad else phase, None, None, at(next(now)))
                    if bad:
                        killed = True
                        break
                state = ro.parse_state(ro.format_state(state).encode())
                working = {name for name, host in state["run"]["hosts"].items() if host["phase"] in ro.WORKING}
                assert working <= set(batch.hosts)
                if killed:
                    break
            if not killed:
                state = ro.finish(state, run_id, at(next(now)))
                break
        assert state["run"]["status"] == "finished"


# --- the file ---------------------------------------------------------------------------------------------------------

SYSTEM_CALLS = ("makedirs", "open", "fsync", "replace", "unlink", "close", "link")


def opened(text: str) -> Any:
    return lambda state: ro.open_breaker(state, text, None, EPOCH)


def begun(digest: str) -> Any:
    return lambda state: started(state, digest=digest)[0]


def die_at(monkeypatch: pytest.MonkeyPatch, call: int, end: Any) -> list[str]:
    """Let the process end at the I(call)th system call of the writer."""
    seen: list[str] = []

    def wrap(name: str) -> Any:
        real = getattr(os, name)

        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            seen.append(name)
            if len(seen) == call:
                end()
            return real(*arguments, **keywords)

        return wrapped

    proxy = SimpleNamespace(**{name: getattr(os, name) for name in dir(os) if not name.startswith("__")})
    for name in SYSTEM_CALLS:
        setattr(proxy, name, wrap(name))
    monkeypatch.setattr(ro, "os", proxy)
    return seen


def _change_and_die(path: str, call: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        seen = die_at(patch, call, lambda: os._exit(99))
        ro.StateFile(path).change(opened("second"))
        os._exit(0 if len(seen) < call else 98)


@pytest.mark.parametrize("first", [True, False], ids=["update", "create"])
def test_killed_at_any_point_the_file_is_whole(tmp_path: pathlib.Path, first: bool) -> None:
    context = multiprocessing.get_context("fork")
    for call in range(1, 50):
        path = tmp_path / str(call) / "rollout.json"
        file = ro.StateFile(str(path))
        before = file.change(begun("one"))[1] if first else ro.empty_state()
        child = context.Process(target=_change_and_die, args=(str(path), call))
        child.start()
        child.join()
        found = file.read()
        if child.exitcode == 0:
            assert found["breaker"]["reason"] == "second"
            break
        assert child.exitcode == 99
        assert found == before or found["breaker"].get("reason") == "second"
        # The next writer is not held up, and clears what the dead one left.
        after = ro.StateFile(str(path), lock_timeout=1).change(opened("third"))[1]
        assert after["breaker"]["reason"] in ("second", "third")
        assert {entry.name for entry in path.parent.iterdir()} == {"rollout.json", "rollout.json.lock"}
    else:
        pytest.fail("the writer never came to its end")
    assert call > 5


def test_error_at_any_point_leaves_no_rest(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rollout.json"
    file = ro.StateFile(str(path))
    before = file.change(begun("one"))[1]

    def fail() -> None:
        raise OSError("no space")

    for call in range(1, 50):
        with monkeypatch.context() as patch:
            seen = die_at(patch, call, fail)
            with contextlib.suppress(OSError):
                file.change(opened("second"))
            assert not list(tmp_path.glob("*.tmp"))
            assert file.read() == before or file.read()["breaker"]["reason"] == "second"
            if len(seen) < call:
                return
    pytest.fail("the writer never came to its end")


def test_content_and_name_are_on_disk_in_this_order(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = die_at(monkeypatch, 0, None)
    ro.StateFile(str(tmp_path / "rollout.json")).change(opened("x"))
    assert [name for name in seen if name in ("fsync", "replace")] == ["fsync", "replace", "fsync"]


def _count(path: str, times: int) -> None:
    def step(state: ro.State) -> ro.State:
        return {**state, "counter": state.get("counter", 0) + 1}

    for _ in range(times):
        ro.StateFile(path).change(step)


def test_writers_take_turns(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "rollout.json")
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_count, args=(path, 15)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    state = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    assert (state["counter"], state["revision"]) == (45, 45)


def broken(**change: Any) -> str:
    return ro.format_state({**started()[0], **change})


RUN = started()[0]["run"]

CORRUPT = {
    "empty": "",
    "cut": ro.format_state(started()[0])[:-20],
    "no text": "\udcff",
    "list": "[]",
    "no schema": "{}",
    "newer": broken(schema=2),
    "breaker": broken(breaker={}),
    "history": broken(history={}),
    "durations": broken(durations={"host": ["x"], "first_batch": [], "batch": []}),
    "revision": broken(revision="1"),
    "run": broken(run=[]),
    "status": broken(run={**RUN, "status": "odd"}),
    "phase": broken(run={**RUN, "hosts": {**RUN["hosts"], "a": {"phase": "odd", "timings": {}}}}),
    "order": broken(run={**RUN, "order": ["a"]}),
    "time": broken(run={**RUN, "updated": "yesterday"}),
    "zone": broken(run={**RUN, "updated": "2026-03-14T10:00:00"}),
    "current": broken(run={**RUN, "current": 9}),
    "batches": broken(run={**RUN, "batches": [["z"]]}),
}


@pytest.mark.parametrize("text", CORRUPT.values(), ids=CORRUPT)
def test_corrupt_file_is_never_overwritten_silently(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "rollout.json"
    content = text.encode("utf-8", "surrogateescape")
    path.write_bytes(content)
    file = ro.StateFile(str(path))
    for step in (opened("x"), begun("one")):
        with pytest.raises(ro.CorruptState):
            file.change(step)
    assert path.read_bytes() == content
    assert file.set_aside(EPOCH, check_mode=True)
    assert path.read_bytes() == content
    kept = file.set_aside(EPOCH)
    assert kept is not None
    assert pathlib.Path(kept).read_bytes() == content
    assert file.read() == ro.empty_state()
    assert file.set_aside(EPOCH) is None
