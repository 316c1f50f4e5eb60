# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""What new and old instances did in a span of time, from access logs of Nginx or from Prometheus."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from ansible_collections.flowfleet.langflow.plugins.module_utils import _nginx_log, _prometheus, _statistics


class SourceError(Exception):
    """The source cannot be read; the message says why."""


@dataclasses.dataclass
class Arm:
    """What one side did."""

    requests: int = 0
    errors: int = 0
    times: dict[float, int] = dataclasses.field(default_factory=dict)
    statuses: dict[str, int] = dataclasses.field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For a result, with the smallest time first."""
        times = {f"{value:g}": self.times[value] for value in sorted(self.times)}
        return {"requests": self.requests, "errors": self.errors, "times_ms": times, "statuses": self.statuses}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Arm:
        """From a result."""
        times = {float(value): int(count) for value, count in (plain.get("times_ms") or {}).items()}
        statuses = {str(status): int(count) for status, count in (plain.get("statuses") or {}).items()}
        arm = cls(int(plain["requests"]), int(plain["errors"]), times, statuses)
        numbers = [arm.requests, arm.errors, *arm.times.values(), *arm.statuses.values()]
        if min(numbers) < 0 or arm.errors > arm.requests or not all(map(math.isfinite, times)):
            raise ValueError("counts do not fit together")
        return arm

    def __add__(self, other: Arm) -> Arm:
        statuses = {
            status: self.statuses.get(status, 0) + other.statuses.get(status, 0)
            for status in sorted({*self.statuses, *other.statuses})
        }
        times = _statistics.add([self.times, other.times])
        return Arm(self.requests + other.requests, self.errors + other.errors, times, statuses)


@dataclasses.dataclass
class Observation:
    """What both sides did."""

    new: Arm = dataclasses.field(default_factory=Arm)
    old: Arm = dataclasses.field(default_factory=Arm)
    seen: int = 0
    exposed: int = 0
    both: int = 0
    other: int = 0
    unreadable: int = 0

    def plain(self) -> dict[str, Any]:
        """For a result."""
        counts = {name: getattr(self, name) for name in ("seen", "exposed", "both", "other", "unreadable")}
        return {"new": self.new.plain(), "old": self.old.plain(), **counts}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Observation:
        """From a result."""
        try:
            counts = {name: int(plain.get(name) or 0) for name in ("seen", "exposed", "both", "other", "unreadable")}
            return cls(Arm.of(plain["new"]), Arm.of(plain["old"]), **counts)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise SourceError(f"this is no observation of another run: {exc!r}") from exc

    def __add__(self, other: Observation) -> Observation:
        counts = {
            name: getattr(self, name) + getattr(other, name)
            for name in ("seen", "exposed", "both", "other", "unreadable")
        }
        return Observation(self.new + other.new, self.old + other.old, **counts)


class Source(Protocol):
    """Where observations come from."""

    def observe(self, start: float, end: float) -> Observation:
        """What happened from I(start) until before I(end). Later calls have the same start and no earlier end."""


class Given:
    """Observations that were made elsewhere."""

    def __init__(self, observations: Iterable[Mapping[str, Any]]) -> None:
        self._sum = sum((Observation.of(plain) for plain in observations), Observation())

    def observe(self, start: float, end: float) -> Observation:
        """The sum of all."""
        return self._sum


class Instances:
    """Tells to which side an address of the log belongs."""

    def __init__(self, new: Iterable[str], old: Iterable[str]) -> None:
        self._labels = _nginx_log.Labels()
        for side, names in (("new", new), ("old", old)):
            for name in names:
                try:
                    self._labels.add(side, name)
                except _nginx_log.LogError as exc:
                    raise SourceError(str(exc)) from exc

    def side(self, text: str) -> str | None:
        """C(new), C(old) or neither."""
        return self._labels.of(text)


def status_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern for C(5xx) and C(499)."""
    try:
        return _nginx_log.status_pattern(words)
    except _nginx_log.LogError as exc:
        raise SourceError(str(exc)) from exc


# --- Nginx ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Reading:
    """Which lines count, and how."""

    instances: Instances
    errors: re.Pattern[str]
    time_field: str = "upstream_header_time"
    exclude: Sequence[re.Pattern[str]] = ()

    def count(self, line: Mapping[str, Any], into: Observation) -> None:
        """Add one request. Each attempt counts for the instance that it went to."""
        path = str(line.get("path", ""))
        if any(pattern.search(path) for pattern in self.exclude):
            return
        into.seen += 1
        sides = set()
        for attempt in _nginx_log.attempts(line, self.time_field):
            side = self.instances.side(attempt.address)
            if side is None:
                into.other += 1
                continue
            sides.add(side)
            if attempt.status == "-":
                continue
            arm = into.new if side == "new" else into.old
            arm.requests += 1
            arm.statuses[attempt.status] = arm.statuses.get(attempt.status, 0) + 1
            if self.errors.fullmatch(attempt.status):
                arm.errors += 1
                continue
            try:
                milliseconds = round(float(attempt.time) * 1000.0)
            except (ValueError, OverflowError):
                continue
            arm.times[milliseconds] = arm.times.get(milliseconds, 0) + 1
        into.exposed += "new" in sides
        into.both += sides == {"new", "old"}


class NginxLog:
    """What each side did, from a JSON access log that grows and is rotated meanwhile."""

    def __init__(self, path: str, reading: Reading) -> None:
        self.reading = reading
        self._log = _nginx_log.AccessLog(path)
        self._later: list[Mapping[str, Any]] = []
        self._sum = Observation()

    def observe(self, start: float, end: float) -> Observation:
        """Read what was added since the last time."""
        waiting, self._later = self._later, []
        for line in waiting:
            self._sort_in(line, start, end)
        try:
            for found in self._log.new_lines(start):
                if found is None:
                    self._sum.unreadable += 1
                else:
                    self._sort_in(found, start, end)
        except _nginx_log.LogError as exc:
            raise SourceError(str(exc)) from exc
        return self._sum

    def _sort_in(self, line: Mapping[str, Any], start: float, end: float) -> None:
        if line["msec"] >= end:
            self._later.append(line)
        elif line["msec"] >= start:
            self.reading.count(line, self._sum)


# --- Prometheus -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Queries:
    """Expressions for one side. C($window) in them becomes the span, such as C(60s)."""

    requests: str
    errors: str
    buckets: str | None = None


class Prometheus:
    """Counts of requests and errors, and histograms of times, from the HTTP interface of Prometheus."""

    def __init__(
        self,
        url: str,
        new: Queries,
        old: Queries | None,
        *,
        ca_path: str | None = None,
        token: str | None = None,
        query_type: str = "instant",
        step: float = 5.0,
        timeout: float = 10.0,
    ) -> None:
        try:
            login = f"Bearer {token}" if token else None
            self._client = _prometheus.Client(url, ca_path=ca_path, login=login, timeout=timeout)
        except _prometheus.PrometheusError as exc:
            raise SourceError(str(exc)) from exc
        self._queries = {"new": new, "old": old}
        self._range = query_type == "range"
        self._step = step

    def observe(self, start: float, end: float) -> Observation:
        """Ask all queries for this span."""
        found = Observation()
        for side, queries in self._queries.items():
            if queries is not None:
                setattr(found, side, self._arm(queries, start, end))
        found.exposed = found.new.requests
        found.seen = found.new.requests + found.old.requests
        return found

    def _arm(self, queries: Queries, start: float, end: float) -> Arm:
        requests = round(sum(self._ask(queries.requests, start, end).values()))
        errors = round(sum(self._ask(queries.errors, start, end).values()))
        times = buckets_to_counts(self._ask(queries.buckets, start, end)) if queries.buckets else {}
        return Arm(requests, min(errors, requests), times)

    def _ask(self, query: str, start: float, end: float) -> dict[str, float]:
        """Values by their label C(le)."""
        span = max(1, round(end - start))
        filled = query.replace("$window", f"{span}s")
        try:
            if self._range:
                # One value for each step, the first one at the end of the first step.
                data = self._client.over(filled, start + self._step, end, self._step)
            else:
                data = self._client.instant(filled, end)
        except _prometheus.PrometheusError as exc:
            raise SourceError(str(exc)) from exc
        try:
            return self._values(data)
        except (ValueError, KeyError, TypeError, IndexError) as exc:
            raise SourceError(f"Prometheus gave no vector for {query!r}: {str(data)[:200]}") from exc

    def _values(self, data: Mapping[str, Any]) -> dict[str, float]:
        values: dict[str, float] = {}
        if data["resultType"] == "scalar":
            return {"": _finite(data["result"][1])}
        for series in data["result"]:
            label = series["metric"].get("le", "")
            if self._range:
                found = sum(_finite(value) for _moment, value in series["values"]) * self._step
            else:
                found = _finite(series["value"][1])
            values[label] = values.get(label, 0.0) + found
        return values


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else 0.0


def buckets_to_counts(buckets: Mapping[str, float]) -> dict[float, int]:
    """Cumulative buckets of seconds as counts of milliseconds, each at its upper bound."""
    bounds = sorted((float(label), count) for label, count in buckets.items() if label)
    result: dict[float, int] = {}
    below = largest = 0.0
    for bound, cumulative in bounds:
        # What lies beyond the largest bound is above everything else; how far is unknown.
        value = bound * 1000.0 if math.isfinite(bound) else largest * 2.0
        largest = max(largest, value)
        count = round(cumulative) - round(below)
        if count > 0:
            result[value] = result.get(value, 0) + count
        below = max(below, cumulative)
    return result
