# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The life of a run: what each message does to it, and what is promised about executions."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from conftest import ALICE, FLOW, Langflow, wait_for
from flowfleet_tasks.errors import Fenced
from flowfleet_tasks.front import User

USER = User("11111111-1111-4111-8111-111111111111", "alice", False)


def made(service: Any, text: str, **more: Any) -> str:
    """Make a run; return its identifier."""
    return str(service.submit(ALICE, USER, {"flow": FLOW, "input": text, **more}, {})["id"])


def wake(application: Any, run_id: str) -> None:
    """Wait until a run that waits is due, as the beat does."""
    wait_for(lambda: application.store.look(run_id)[0] == "publish")


def until_final(application: Any, worker: Any, run_id: str) -> dict[str, str]:
    """Deliver a run again and again until it has ended."""
    for _attempt in range(20):
        worker.deliver(run_id)
        record = application.store.get(run_id)
        if record["state"] == "waiting":
            wake(application, run_id)
        elif record["state"] in {"succeeded", "failed", "cancelled", "unknown"}:
            return dict(record)
    raise AssertionError(record)


@pytest.mark.parametrize("mode", ["background", "held"])
def test_a_run_succeeds(application: Any, service: Any, worker: Any, langflow: Langflow, mode: str) -> None:
    run_id = made(service, "one sleep=0.2", mode=mode)
    assert worker.deliver(run_id) == "succeeded"
    ended, shown = service.result(USER, run_id)
    assert (ended, shown["state"], shown["result"]["output"]["text"]) == (True, "succeeded", "one sleep=0.2")
    assert langflow.executions["one"] == 1
    assert worker.deliver(run_id) == "ended"
    assert langflow.executions["one"] == 1


def test_mode_follows_from_guarantee_and_time(service: Any) -> None:
    modes = {
        (guarantee, timeout): service.run(USER, made(service, "x", guarantee=guarantee, timeout=timeout))["mode"]
        for guarantee in ("once", "at_least_once")
        for timeout in (20, 200)
    }
    held = [case for case, mode in modes.items() if mode == "held"]
    assert held == [("at_least_once", 20)]


@pytest.mark.parametrize("trouble", [429, 503, (429, "1")])
@pytest.mark.parametrize("mode", ["background", "held"])
def test_what_did_not_begin_is_tried_again(
    application: Any, service: Any, worker: Any, langflow: Langflow, trouble: Any, mode: str
) -> None:
    langflow.trouble.append(trouble)
    run_id = made(service, "again", mode=mode, guarantee="at_most_once")
    begun = time.monotonic()
    assert worker.deliver(run_id) == "waiting"
    assert application.store.get(run_id)["sent"] == ""
    assert until_final(application, worker, run_id)["state"] == "succeeded"
    assert langflow.executions["again"] == 1
    if isinstance(trouble, tuple):
        assert time.monotonic() - begun >= 1.0


def test_nobody_listening_means_not_sent(settings: Any, service: Any, application: Any, worker: Any) -> None:
    run_id = made(service, "later", guarantee="at_most_once")
    settings(langflow={"url": "http://127.0.0.1:9"})
    from flowfleet_tasks.app import Application

    elsewhere = Application()
    elsewhere.configure()
    assert elsewhere.worker().deliver(run_id) == "waiting"
    assert application.store.get(run_id)["reason"] == "not_sent"
    wake(application, run_id)
    assert worker.deliver(run_id) == "succeeded"


# what happens to the start request -> state and executions, for each promise
LOST_ANSWERS = [
    ("once", "background", "cut", "succeeded", 1),
    ("once", "background", 502, "succeeded", 1),
    ("at_most_once", "background", "cut", "unknown", 1),
    ("at_most_once", "background", 502, "unknown", 0),
    ("at_least_once", "background", "cut", "succeeded", 1),
    ("once", "held", "cut", "unknown", 1),
    ("once", "held", 504, "unknown", 0),
    ("at_least_once", "held", "cut", "succeeded", 2),
    ("at_least_once", "held", 504, "succeeded", 1),
]


@pytest.mark.parametrize(("guarantee", "mode", "trouble", "state", "executions"), LOST_ANSWERS)
def test_a_lost_answer(
    application: Any,
    service: Any,
    worker: Any,
    langflow: Langflow,
    guarantee: str,
    mode: str,
    trouble: Any,
    state: str,
    executions: int,
) -> None:
    langflow.trouble.append(trouble)
    run_id = made(service, "lost", guarantee=guarantee, mode=mode)
    assert until_final(application, worker, run_id)["state"] == state
    assert langflow.executions["lost"] == executions
    dead = [run["id"] for run in service.runs(USER, {"state": "dead"}, 10, None)]
    assert dead == ([run_id] if state == "unknown" else [])


def test_the_limit_of_once_a_job_that_failed_meanwhile(
    application: Any, service: Any, worker: Any, langflow: Langflow
) -> None:
    """The one gap that the documentation names: the answer got lost, and the job failed before the next request."""
    langflow.trouble.append("cut")
    run_id = made(service, "gap fail")
    assert until_final(application, worker, run_id)["state"] == "failed"
    assert langflow.executions["gap"] == 2


FAILURES = [
    ("once", "fail", "failed", "flow_error", 1),
    ("at_most_once", "fail", "failed", "flow_error", 1),
    ("at_least_once", "fail", "failed", "flow_error", 4),
    ("once", "lose", "unknown", "node_lost", 1),
    ("at_least_once", "lose", "unknown", "node_lost", 4),
]


@pytest.mark.parametrize(("guarantee", "word", "state", "reason", "executions"), FAILURES)
def test_a_failed_execution(
    application: Any,
    service: Any,
    worker: Any,
    langflow: Langflow,
    guarantee: str,
    word: str,
    state: str,
    reason: str,
    executions: int,
) -> None:
    run_id = made(service, f"bad {word}", guarantee=guarantee, mode="background")
    record = until_final(application, worker, run_id)
    assert (record["state"], record["reason"]) == (state, reason)
    assert langflow.executions["bad"] == executions


def dies(worker: Any, run_id: str, moment: str) -> None:
    """Let a worker die at a moment: what it has written stays, its lease too."""

    class Death(BaseException):
        """Nothing in the code can catch it."""

    original = getattr(worker.front, moment)

    def fatal(*arguments: Any) -> Any:
        if moment == "start":
            original(*arguments)
        raise Death

    setattr(worker.front, moment, fatal)
    try:
        with pytest.raises(Death):
            worker.deliver(run_id)
    finally:
        setattr(worker.front, moment, original)


@pytest.mark.parametrize("moment", ["start", "watch"])
def test_another_worker_goes_on_after_a_death(application: Any, service: Any, langflow: Langflow, moment: str) -> None:
    run_id = made(service, "death sleep=1")
    dies(application.worker(), run_id, moment)
    begun = time.monotonic()
    # The same message, handed out again: it waits for the lease to end, then finds the job that Langflow has.
    assert application.worker().deliver(run_id) == "succeeded"
    assert time.monotonic() - begun > 1.0
    assert langflow.executions["death"] == 1


def test_a_living_owner_is_left_alone(application: Any, service: Any, langflow: Langflow) -> None:
    run_id = made(service, "alive sleep=4")
    first = threading.Thread(target=application.worker().deliver, args=[run_id])
    first.start()
    wait_for(lambda: application.store.get(run_id).get("job"))
    assert application.worker().deliver(run_id) == "busy"
    first.join()
    assert application.store.get(run_id)["state"] == "succeeded"
    assert langflow.executions["alive"] == 1


def test_an_owner_that_comes_back_late_is_fenced(application: Any, service: Any) -> None:
    run_id = made(service, "late")
    stale = application.store.claim(run_id, "stale")
    wait_for(lambda: application.store.claim(run_id, "fresh").verdict == "run", seconds=8, pause=0.2)
    with pytest.raises(Fenced):
        application.store.finish(run_id, stale.token, "succeeded", "", "")
    with pytest.raises(Fenced):
        application.store.mark(run_id, stale.token, job="other")
    assert application.store.get(run_id)["state"] == "running"


def test_a_run_that_kills_its_workers_ends(application: Any, service: Any, settings: Any) -> None:
    run_id = made(service, "poison")
    store = application.store
    for _death in range(7):
        store.client.hset(store.key("run", run_id), "lease", "0")
        if store.claim(run_id, "victim").verdict != "run":
            break
    record = store.get(run_id)
    assert (record["state"], record["reason"]) == ("unknown", "worker_lost")


def test_a_long_run_goes_from_hand_to_hand(application: Any, service: Any, settings: Any, langflow: Langflow) -> None:
    settings(times={"slice": 0.5})
    from flowfleet_tasks.app import Application

    brief = Application()
    brief.configure()
    worker = brief.worker()
    sent: list[str] = []
    worker.publish = lambda record: sent.append(record["id"])
    run_id = made(service, "long sleep=2")
    verdicts = []
    while not verdicts or verdicts[-1] == "handed_back":
        verdicts.append(worker.deliver(run_id))
    assert verdicts[-1] == "succeeded"
    assert len(sent) == len(verdicts) - 1 >= 2
    assert langflow.executions["long"] == 1


def test_a_run_that_takes_too_long_is_stopped(application: Any, service: Any, worker: Any, langflow: Langflow) -> None:
    run_id = made(service, "slow sleep=60", timeout=1)
    assert worker.deliver(run_id) == "failed"
    record = application.store.get(run_id)
    assert record["reason"] == "timeout"
    assert langflow.stopped == [record["job"]]


def test_cancelling_before_it_begins(application: Any, service: Any, worker: Any, langflow: Langflow) -> None:
    run_id = made(service, "never")
    assert service.cancel(USER, run_id)["state"] == "cancelled"
    assert worker.deliver(run_id) == "ended"
    assert langflow.executions["never"] == 0


def test_cancelling_while_it_runs(application: Any, service: Any, langflow: Langflow) -> None:
    run_id = made(service, "stop sleep=60")
    thread = threading.Thread(target=application.worker().deliver, args=[run_id])
    thread.start()
    wait_for(lambda: application.store.get(run_id).get("job"))
    assert service.cancel(USER, run_id)["cancel_requested"] is True
    thread.join(timeout=10)
    record = application.store.get(run_id)
    assert record["state"] == "cancelled"
    assert langflow.stopped == [record["job"]]


def test_a_draining_worker_hands_back(application: Any, service: Any, langflow: Langflow) -> None:
    run_id = made(service, "drain sleep=3")
    thread = threading.Thread(target=application.worker().deliver, args=[run_id])
    thread.start()
    wait_for(lambda: application.store.get(run_id).get("job"))
    from flowfleet_tasks.app import drain_file

    file = drain_file(application.settings, "test")
    file.touch()
    begun = time.monotonic()
    thread.join(timeout=10)
    assert time.monotonic() - begun < 2.0
    assert file.read_text(encoding="utf-8").split() == [run_id]
    file.unlink()
    assert application.worker().deliver(run_id) == "succeeded"
    assert langflow.executions["drain"] == 1


def test_a_rate_spaces_the_starts(application: Any, service: Any, worker: Any) -> None:
    runs = [made(service, f"r{number}", queue="slow") for number in range(4)]
    verdicts = [worker.deliver(run_id) for run_id in runs]
    assert verdicts == ["succeeded", "later", "later", "later"]
    wakes = [float(application.store.get(run_id)["wake"]) for run_id in runs[1:]]
    gaps = [later - earlier for earlier, later in zip(wakes, wakes[1:], strict=False)]
    assert all(abs(gap - 0.5) < 0.01 for gap in gaps), gaps
    for run_id in runs[1:]:
        wake(application, run_id)
        assert worker.deliver(run_id) == "succeeded"


def test_the_trace_goes_on_in_every_request(application: Any, service: Any, worker: Any, langflow: Langflow) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "tracestate": "vendor=1"}
    run_id = service.submit(ALICE, USER, {"flow": FLOW, "input": "traced"}, headers)["id"]
    worker.deliver(run_id)
    told = [seen for method, path, seen in langflow.requests if "workflows" in path]
    assert len(told) >= 2
    parents = [seen["traceparent"] for seen in told]
    assert {parent.split("-")[1] for parent in parents} == {trace}
    assert len({parent.split("-")[2] for parent in parents}) == len(parents)
    assert all(seen["tracestate"] == "vendor=1" for seen in told)


def test_a_result_that_is_too_large_is_not_kept(settings: Any, service: Any, worker: Any) -> None:
    service.settings.limits.__dict__["result_bytes"] = 200
    run_id = made(service, "big " + "x" * 5000)
    assert worker.deliver(run_id) == "succeeded"
    _ended, shown = service.result(USER, run_id)
    assert shown["result"] is None
    assert "larger than 200 bytes" in shown["message"]


def test_no_key_and_no_input_is_readable_in_redis(application: Any, service: Any, worker: Any) -> None:
    run_id = made(service, "confidential words")
    store = application.store
    before = str(store.client.hgetall(store.key("run", run_id)))
    worker.deliver(run_id)
    everything = before + str(store.client.hgetall(store.key("run", run_id)))
    for key in store.client.scan_iter():
        if store.client.type(key) == "list":
            everything += str(store.client.lrange(key, 0, -1))
    assert run_id in everything
    assert ALICE not in everything
    assert "confidential" not in everything
