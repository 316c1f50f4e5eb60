# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the canary gate fails, passes and waits, and how often it is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _canary as ca
from ansible_collections.flowfleet.langflow.plugins.module_utils._canary_sources import Arm, Observation, SourceError

STRICT = {"error_floor": 0.0, "latency_ratio": 1.0, "latency_floor_ms": 0.0}


class Dice(random.Random):
    """Falls the same way in each run."""

    def milliseconds(self) -> int:
        """Mostly short, one in ten a long run."""
        if self.random() < 0.1:
            return round(self.uniform(20_000, 60_000))
        return round(self.lognormvariate(5.0, 0.6))

    def requests(self, arm: Arm, count: int, errors: float = 0.005, slower: int = 0) -> None:
        """Add requests to an arm."""
        for _ in range(count):
            arm.requests += 1
            if self.random() < errors:
                arm.errors += 1
            else:
                value = self.milliseconds() + slower
                arm.times[value] = arm.times.get(value, 0) + 1


class Clock:
    """Time that passes by sleeping only."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


class Traffic:
    """Requests that come at a rate, twice as many for the old instances."""

    def __init__(self, dice: Dice, clock: Clock, rate: float, **new: Any) -> None:
        self.dice, self.clock, self.rate, self.new = dice, clock, rate, new
        self.seen = Observation()
        self.broken_until = 0.0

    def observe(self, start: float, end: float) -> Observation:
        """What came so far."""
        if self.clock.now < self.broken_until:
            raise SourceError("nobody there")
        assert self.clock.now >= end
        due = round((end - start) * self.rate) - self.seen.new.requests
        self.dice.requests(self.seen.new, due, **self.new)
        self.dice.requests(self.seen.old, 2 * due)
        return self.seen


def gate(traffic: Traffic, schedule: dict[str, Any] | None = None, **rules: Any) -> ca.Gate:
    clock = traffic.clock
    plan = ca.Schedule(**{"start": clock.now, "window": 60, "deadline": clock.now + 300, **(schedule or {})})
    return ca.Gate(traffic, ca.Rules(**rules), plan, clock, clock.sleep)


# --- how often it is wrong --------------------------------------------------------------------------------------------


def test_equal_releases_fail_no_more_often_than_alpha() -> None:
    """1000 rolls of an equal release, with every tolerance switched off: only chance is left to protect from."""
    dice, alpha, failed = Dice(20260314), 0.05, 0
    for _ in range(1000):
        outcome = gate(Traffic(dice, Clock(), 2.5), alpha=alpha, **STRICT).run()
        assert outcome.verdict in ("pass", "fail")
        failed += outcome.verdict == "fail"
    assert failed / 1000 <= alpha


@pytest.mark.parametrize("metric", ca.METRICS)
def test_each_test_alone_keeps_alpha(metric: str) -> None:
    dice, alpha, failed = Dice(7), 0.05, 0
    for _ in range(1000):
        seen = Observation()
        dice.requests(seen.new, 60, errors=0.1)
        dice.requests(seen.old, 120, errors=0.1)
        failed += ca.judge(seen, ca.Rules(metrics=[metric], **STRICT), alpha)[0].p_value <= alpha
    # Three standard errors above alpha: the rank test is an approximation.
    assert failed / 1000 <= alpha + 3 * (alpha * (1 - alpha) / 1000) ** 0.5


def test_equal_releases_with_tolerances_do_not_fail() -> None:
    dice = Dice(99)
    verdicts = [gate(Traffic(dice, Clock(), 2.5)).run().verdict for _ in range(200)]
    assert verdicts.count("fail") <= 2


@pytest.mark.parametrize(
    ("new", "metric"), [({"errors": 0.2}, "errors"), ({"slower": 300}, "p50")], ids=["20 % errors", "+300 ms"]
)
def test_bad_releases_are_found(new: dict[str, Any], metric: str) -> None:
    dice, found, looks = Dice(1), 0, 0
    for _ in range(100):
        outcome = gate(Traffic(dice, Clock(), 2.5, **new)).run()
        found += outcome.verdict == "fail" and metric in outcome.reason
        looks += outcome.looks
    assert found >= 98
    assert looks / 100 < 3  # before the window is over


def test_slow_tail_is_found_by_the_quantile_test_only() -> None:
    """Every tenth answer is slow. The median says nothing of it."""
    seen = Observation(
        Arm(400, 0, {float(value): 1 for value in range(360)} | {float(value): 1 for value in range(2000, 2040)}),
        Arm(800, 0, {float(value): 2 for value in range(400)}),
    )
    tests = {test.metric: test for test in ca.judge(seen, ca.Rules(), 0.0005)}
    assert {name for name, test in tests.items() if test.failed} == {"p95", "p99"}


# --- rules ------------------------------------------------------------------------------------------------------------


def arm(requests: int, errors: int, times: dict[float, int] | None = None) -> Arm:
    return Arm(requests, errors, times or {})


@pytest.mark.parametrize(
    ("new", "old", "rules", "failed"),
    [
        (arm(100, 20), arm(200, 1), {}, True),
        (arm(100, 20), arm(200, 40), {}, False),
        (arm(100, 0), arm(200, 60), {}, False),
        # beyond chance, and tolerated
        (arm(100_000, 700), arm(100_000, 300), {}, False),
        (arm(100_000, 700), arm(100_000, 300), {"error_floor": 0.003}, True),
        # beyond what is tolerated, and chance
        (arm(50, 1), arm(100, 0), {}, False),
        # nothing to compare with
        (arm(100, 20), arm(0, 0), {"baseline": False}, True),
        (arm(100, 2), arm(0, 0), {"baseline": False}, False),
        (arm(0, 0), arm(0, 0), {}, False),
        # all wrong with few requests is enough for a fail
        (arm(8, 8), arm(40, 0), {}, True),
    ],
)
def test_errors(new: Arm, old: Arm, rules: dict[str, Any], failed: bool) -> None:
    found = ca.judge(Observation(new, old), ca.Rules(metrics=["errors"], **rules), 0.0005)
    assert [test.failed for test in found] == [failed]


@pytest.mark.parametrize(
    ("shift", "rules", "failed"),
    [
        (0, {}, False),
        (90, {}, False),
        (150, {}, True),
        (150, {"latency_floor_ms": 200}, False),
        (150, {"latency_ratio": 3}, False),
        (-150, {}, False),
    ],
)
def test_latency(shift: int, rules: dict[str, Any], failed: bool) -> None:
    old = arm(200, 0, {float(200 + value): 1 for value in range(200)})
    new = arm(200, 0, {value + shift: count for value, count in old.times.items()})
    found = ca.judge(Observation(new, old), ca.Rules(**rules), 0.0005)
    assert any(test.failed for test in found) is failed


@pytest.mark.parametrize(
    "rules",
    [
        {"metrics": []},
        {"alpha": 0},
        {"alpha": 0.5},
        {"minimum": 0},
        {"error_floor": 1},
        {"latency_ratio": 0.9},
        {"latency_floor_ms": -1},
        {"baseline": False, "metrics": ["p95"]},
    ],
)
def test_rules_without_sense(rules: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"metrics|alpha|min_requests|error_floor|latency|without old"):
        ca.Rules(**rules)


# --- when it looks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "schedule", "verdict", "took", "looks"),
    [
        (2.5, {}, "pass", 60, 4),
        (2.5, {"looks": 1}, "pass", 60, 1),
        # 50 requests are there after 100 s
        (0.5, {}, "pass", 100, 5),
        (0.5, {"hold": False}, "insufficient", 60, 4),
        (0.5, {"deadline": 1060}, "insufficient", 60, 4),
        (0.1, {}, "insufficient", 300, 5),
        # a window in the past is judged at once
        (2.5, {"start": 900}, "pass", 0, 1),
        (2.5, {"start": 960}, "pass", 20, 2),
    ],
)
def test_schedule(rate: float, schedule: dict[str, Any], verdict: str, took: float, looks: int) -> None:
    clock = Clock()
    outcome = gate(Traffic(Dice(5), clock, rate), schedule).run()
    assert (outcome.verdict, clock.now - 1000, outcome.looks) == (verdict, pytest.approx(took, abs=2.1), looks)
    if verdict == "insufficient":
        assert "of 50 requests of the new instances" in outcome.reason


@pytest.mark.parametrize(
    ("schedule", "rules", "parts"),
    [
        ({}, {}, 20),
        ({"looks": 1, "hold": False}, {}, 4),
        ({"looks": 1}, {"metrics": ["errors"]}, 2),
        ({"start": 900, "hold": False}, {}, 4),
        ({}, {"baseline": False}, 5),
    ],
)
def test_alpha_is_shared_by_all_looks_and_metrics(schedule: dict[str, Any], rules: dict[str, Any], parts: int) -> None:
    assert gate(Traffic(Dice(5), Clock(), 1), schedule, **rules).alpha == pytest.approx(0.01 / parts)


def test_bad_release_with_little_traffic_still_fails() -> None:
    clock = Clock()
    outcome = gate(Traffic(Dice(5), clock, 0.5, errors=0.9)).run()
    assert (outcome.verdict, clock.now) == ("fail", 1030)


@pytest.mark.parametrize(
    ("until", "schedule", "expected"),
    [(1050, {}, "pass"), (1200, {}, "pass"), (1400, {}, None), (1061, {"hold": False}, None)],
)
def test_source_that_is_away(until: float, schedule: dict[str, Any], expected: str | None) -> None:
    clock = Clock()
    traffic = Traffic(Dice(5), clock, 2.5)
    traffic.broken_until = until
    run: Callable[[], ca.Outcome] = gate(traffic, schedule).run
    if expected is None:
        with pytest.raises(SourceError):
            run()
    else:
        assert run().verdict == expected


def test_result_is_plain_and_can_be_judged_again() -> None:
    outcome = gate(Traffic(Dice(5), Clock(), 2.5)).run()
    plain = outcome.plain()
    assert Observation.of(plain["observation"]) == outcome.seen
    assert plain["new"]["requests"] == 150
    assert 0.01 < plain["detectable_error_ratio"] < 0.5
    assert [test["metric"] for test in plain["tests"]] == list(ca.METRICS)
    collected = gate(Traffic(Dice(5), Clock(), 2.5)).collect()
    assert (collected.verdict, collected.tests) == ("", [])
