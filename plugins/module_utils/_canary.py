# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Decide whether new instances are worse than old ones, and when there is enough to decide on."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _statistics
from ansible_collections.flowfleet.langflow.plugins.module_utils._canary_sources import (
    Arm,
    Observation,
    Source,
    SourceError,
)

PASS, FAIL, INSUFFICIENT = "pass", "fail", "insufficient"
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
METRICS = ("errors", *QUANTILES)


@dataclasses.dataclass(frozen=True)
class Rules:
    """What counts as worse, and how sure one has to be."""

    metrics: Sequence[str] = METRICS
    alpha: float = 0.01
    minimum: int = 50
    error_floor: float = 0.01
    latency_ratio: float = 1.2
    latency_floor_ms: float = 100.0
    baseline: bool = True

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError("metrics: name at least one")
        if not 0 < self.alpha < 0.5:
            raise ValueError("alpha must be between 0 and 0.5")
        if self.minimum < 1:
            raise ValueError("min_requests must be 1 or more")
        if not 0 <= self.error_floor < 1:
            raise ValueError("error_floor must be 0 or more and less than 1")
        if self.latency_ratio < 1 or self.latency_floor_ms < 0:
            raise ValueError("latency_ratio must be 1 or more and latency_floor_ms must not be negative")
        if not self.baseline and "errors" not in self.metrics:
            raise ValueError("without old instances only errors can be judged")

    @property
    def judged(self) -> list[str]:
        """Metrics that can be judged at all."""
        return [metric for metric in self.metrics if self.baseline or metric == "errors"]


@dataclasses.dataclass(frozen=True)
class Test:
    """One comparison."""

    metric: str
    method: str
    new: float | None
    old: float | None
    p_value: float
    alpha: float
    relevant: bool
    able: bool

    @property
    def failed(self) -> bool:
        """Worse by more than chance and by more than is tolerated."""
        return self.relevant and self.p_value <= self.alpha

    def plain(self) -> dict[str, Any]:
        """For a result."""
        return {**dataclasses.asdict(self), "failed": self.failed}

    def sentence(self) -> str:
        """For people."""
        if self.metric == "errors":
            shown = [f"{100 * (value or 0.0):.2f} %" for value in (self.new, self.old)]
        else:
            shown = [f"{value or 0.0:.0f} ms" for value in (self.new, self.old)]
        against = "" if self.old is None else f" against {shown[1]}"
        return f"{self.metric} {shown[0]}{against} (p = {self.p_value:.2g}, limit {self.alpha:.2g})"


def ratio(arm: Arm) -> float:
    """Share of errors."""
    return arm.errors / arm.requests if arm.requests else 0.0


def judge_errors(seen: Observation, rules: Rules, alpha: float) -> Test:
    """Share of errors against the old instances, or against what is tolerated where there are none."""
    new, old = seen.new, seen.old
    if not rules.baseline:
        p_value = _statistics.binomial_greater(new.errors, new.requests, rules.error_floor)
        able = _statistics.binomial_greater(new.requests, new.requests, rules.error_floor) <= alpha
        return Test("errors", "binomial", ratio(new), None, p_value, alpha, ratio(new) >= rules.error_floor, able)
    p_value = _statistics.fisher_greater(new.errors, new.requests, old.errors, old.requests)
    able = _statistics.best_possible(new.requests, old.requests, new.requests) <= alpha
    relevant = new.requests > 0 and ratio(new) > 0 and ratio(new) - ratio(old) >= rules.error_floor
    return Test("errors", "fisher", ratio(new), ratio(old), p_value, alpha, relevant, able)


def judge_latency(metric: str, seen: Observation, rules: Rules, alpha: float) -> Test:
    """The median by ranks, the other quantiles by their share of the slowest."""
    share = QUANTILES[metric]
    new, old = seen.new.times, seen.old.times
    sizes = _statistics.total(new), _statistics.total(old)
    ours, theirs = _statistics.quantile(new, share), _statistics.quantile(old, share)
    if ours is None or theirs is None:
        return Test(metric, "none", ours, theirs, 1.0, alpha, False, False)
    relevant = ours - theirs >= rules.latency_floor_ms and ours >= theirs * rules.latency_ratio
    if metric == "p50":
        enough = min(sizes) >= rules.minimum
        p_value = _statistics.mann_whitney_greater(new, old) if enough else 1.0
        return Test(metric, "mann_whitney", ours, theirs, p_value, alpha, relevant, enough)
    p_value = _statistics.quantile_greater(new, old, share)
    slowest = math.floor((1 - share) * sum(sizes) + 1e-9)
    able = _statistics.best_possible(*sizes, slowest) <= alpha
    return Test(metric, "quantile", ours, theirs, p_value, alpha, relevant, able)


def judge(seen: Observation, rules: Rules, alpha: float) -> list[Test]:
    """All comparisons, each at I(alpha)."""
    return [
        judge_errors(seen, rules, alpha) if metric == "errors" else judge_latency(metric, seen, rules, alpha)
        for metric in rules.judged
    ]


def shortage(seen: Observation, rules: Rules) -> str | None:
    """What is missing for a decision."""
    arms = {"new": seen.new, "old": seen.old} if rules.baseline else {"new": seen.new}
    short = [
        f"{arm.requests} of {rules.minimum} requests of the {name} instances"
        for name, arm in arms.items()
        if arm.requests < rules.minimum
    ]
    return " and ".join(short) or None


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When to look. Times are seconds since the epoch."""

    start: float
    window: float
    deadline: float
    looks: int = 4
    interval: float = 2.0
    hold: bool = True

    @property
    def end(self) -> float:
        """When the window is over."""
        return self.start + self.window

    def moments(self, now: float) -> list[float]:
        """When to look, up to the end of the window. What lies in the past is not looked at twice."""
        fractions = (self.start + self.window * number / self.looks for number in range(1, self.looks))
        return [*(moment for moment in fractions if moment > now), self.end]


@dataclasses.dataclass
class Outcome:
    """The verdict and all that it rests on."""

    verdict: str
    reason: str
    seen: Observation
    tests: list[Test]
    rules: Rules
    start: float
    end: float
    looks: int
    alpha: float

    def plain(self) -> dict[str, Any]:
        """For a result."""
        sides = {}
        for name, arm in (("new", self.seen.new), ("old", self.seen.old)):
            sides[name] = {
                "requests": arm.requests,
                "errors": arm.errors,
                "error_ratio": round(ratio(arm), 6),
                "statuses": dict(sorted(arm.statuses.items())),
                "latency_ms": {metric: _statistics.quantile(arm.times, share) for metric, share in QUANTILES.items()},
            }
        detectable = None
        if self.rules.baseline and "errors" in self.rules.metrics:
            detectable = _statistics.detectable_ratio(
                self.seen.new.requests, self.seen.old.requests, ratio(self.seen.old), self.alpha
            )
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            **sides,
            "tests": [test.plain() for test in self.tests],
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "looks": self.looks,
            "requests_seen": self.seen.seen,
            "requests_exposed": self.seen.exposed,
            "requests_both": self.seen.both,
            "attempts_elsewhere": self.seen.other,
            "lines_unreadable": self.seen.unreadable,
            "detectable_error_ratio": None if detectable is None else round(detectable, 4),
            "observation": self.seen.plain(),
        }


class Gate:
    """Looks at a source until a verdict is due."""

    def __init__(
        self,
        source: Source,
        rules: Rules,
        schedule: Schedule,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.source = source
        self.rules = rules
        self.schedule = schedule
        self._clock = clock
        self._sleep = sleep
        self._looks = 0
        moments = schedule.moments(clock())
        # One more look may come at the end of the hold. The errors of all looks and metrics together stay below alpha.
        planned = len(moments) + (schedule.hold and schedule.deadline > schedule.end)
        self.alpha = rules.alpha / (planned * len(rules.judged))
        self._moments = moments

    def _wait(self, moment: float) -> None:
        while (left := moment - self._clock()) > 0:
            self._sleep(left)

    def _outcome(self, verdict: str, reason: str, seen: Observation, tests: list[Test], end: float) -> Outcome:
        start, alpha = self.schedule.start, self.alpha
        return Outcome(verdict, reason, seen, tests, self.rules, start, end, self._looks, alpha)

    def _look(self, seen: Observation, end: float) -> Outcome:
        self._looks += 1
        tests = judge(seen, self.rules, self.alpha)
        failed = [test for test in tests if test.failed]
        if failed:
            return self._outcome(FAIL, "; ".join(test.sentence() for test in failed), seen, tests, end)
        missing = shortage(seen, self.rules)
        if missing:
            return self._outcome(INSUFFICIENT, f"{missing} within {end - self.schedule.start:.0f} s", seen, tests, end)
        blind = [test.metric for test in tests if not test.able]
        note = f" (too few requests to judge {', '.join(blind)})" if blind else ""
        return self._outcome(PASS, f"not worse beyond chance and tolerance{note}", seen, tests, end)

    def collect(self) -> Outcome:
        """Only look, at the end of the window."""
        self._wait(self.schedule.end)
        seen = self.source.observe(self.schedule.start, self.schedule.end)
        return self._outcome("", "only collected", seen, [], self.schedule.end)

    def run(self) -> Outcome:
        """Look until it fails, the window is over, or the hold is."""
        schedule = self.schedule
        for moment in self._moments[:-1]:
            self._wait(moment)
            try:
                outcome = self._look(self.source.observe(schedule.start, moment), moment)
            except SourceError:  # it may be back at the next look; the last one tells
                continue
            if outcome.verdict == FAIL:
                return outcome
        self._wait(schedule.end)
        holding = schedule.hold and schedule.deadline > schedule.end
        try:
            outcome = self._look(self.source.observe(schedule.start, schedule.end), schedule.end)
        except SourceError:
            if not holding:
                raise
        else:
            if outcome.verdict != INSUFFICIENT or not holding:
                return outcome
        return self._hold()

    def _hold(self) -> Outcome:
        """Wait for enough to decide on, then look once more. Only numbers of requests decide how long."""
        schedule = self.schedule
        while True:
            now = self._clock()
            end = min(max(now, schedule.end), schedule.deadline)
            last = now >= schedule.deadline
            try:
                seen = self.source.observe(schedule.start, end)
            except SourceError:
                if last:
                    raise
            else:
                if last or shortage(seen, self.rules) is None:
                    return self._look(seen, end)
            self._wait(min(now + schedule.interval, schedule.deadline))
