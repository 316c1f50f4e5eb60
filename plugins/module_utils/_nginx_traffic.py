# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""What clients got from a load balancer in spans of time, in figures that add up over several load balancers."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _nginx_log, _statistics

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
COUNTS = ("requests", "failed", "unserved", "retried", "recovered", "excluded")
SPANS_LIMIT = 200
BACKENDS_LIMIT = 200
ELSEWHERE = "others"
# A connection that became a WebSocket lasts as long as its user stays.
UPGRADED = "101"


def bucket(seconds: float) -> int:
    """A time in milliseconds: whole ones up to a second, three digits above. So there are never many of them."""
    value = round(seconds * 1000.0)
    if value < 1000:
        return max(0, value)
    step = 10 ** (len(str(value)) - 3)
    return round(value / step) * step


@dataclasses.dataclass
class Backend:
    """What one instance was asked, each attempt for itself."""

    attempts: int = 0
    errors: int = 0


@dataclasses.dataclass
class Traffic:
    """What clients got in a span of time."""

    requests: int = 0
    failed: int = 0
    unserved: int = 0
    retried: int = 0
    recovered: int = 0
    excluded: int = 0
    statuses: dict[str, int] = dataclasses.field(default_factory=dict)
    backends: dict[str, Backend] = dataclasses.field(default_factory=dict)
    times: dict[float, int] = dataclasses.field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For a result."""
        return {
            **{name: getattr(self, name) for name in COUNTS},
            "statuses": dict(sorted(self.statuses.items())),
            "backends": {name: dataclasses.asdict(self.backends[name]) for name in sorted(self.backends)},
            "latency_ms": {name: _statistics.quantile(self.times, share) for name, share in QUANTILES.items()},
            "times_ms": {f"{value:g}": self.times[value] for value in sorted(self.times)},
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Traffic:
        """From a result."""
        try:
            return cls(
                **{name: int(plain[name]) for name in COUNTS},
                statuses={str(status): int(count) for status, count in plain["statuses"].items()},
                backends={
                    str(name): Backend(int(row["attempts"]), int(row["errors"]))
                    for name, row in plain["backends"].items()
                },
                times={float(value): int(count) for value, count in plain["times_ms"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ValueError(f"these are no figures of nginx_traffic_info: {exc!r}") from exc

    def __add__(self, other: Traffic) -> Traffic:
        backends = {
            name: Backend(
                *(
                    sum(getattr(side.backends[name], field) for side in (self, other) if name in side.backends)
                    for field in ("attempts", "errors")
                )
            )
            for name in {**self.backends, **other.backends}
        }
        statuses = {
            status: self.statuses.get(status, 0) + other.statuses.get(status, 0)
            for status in {**self.statuses, **other.statuses}
        }
        counts = {name: getattr(self, name) + getattr(other, name) for name in COUNTS}
        times = _statistics.add([self.times, other.times])
        return Traffic(**counts, statuses=statuses, backends=backends, times=times)


@dataclasses.dataclass(frozen=True)
class Span:
    """From a moment until before another one, in seconds since the epoch."""

    name: str
    since: float
    until: float


def moment(value: Any, what: str) -> float:
    """Seconds since the epoch from a number or from ISO 8601 with a time zone."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        try:
            when = datetime.datetime.fromisoformat(str(value))
        except ValueError:
            raise ValueError(f"{what}: {value!r} is neither seconds since the epoch nor ISO 8601") from None
        if when.tzinfo is None:
            raise ValueError(f"{what}: {value!r} has no time zone") from None
        found = when.timestamp()
    if not math.isfinite(found):
        raise ValueError(f"{what}: {value!r} is no moment")
    return found


def make_spans(given: Sequence[Mapping[str, Any]], now: float) -> list[Span]:
    """Spans as options describe them. One without an end lasts until now."""
    if not 0 < len(given) <= SPANS_LIMIT:
        raise ValueError(f"spans: give 1 to {SPANS_LIMIT}")
    spans: list[Span] = []
    for item in given:
        name = str(item["name"])
        since = moment(item["since"], f"since of {name}")
        until = now if item.get("until") in (None, "") else moment(item["until"], f"until of {name}")
        if until < since:
            raise ValueError(f"span {name} ends before it begins")
        if any(span.name == name for span in spans):
            raise ValueError(f"there are two spans {name}")
        spans.append(Span(name, since, until))
    return spans


@dataclasses.dataclass(frozen=True)
class Counting:
    """Which lines count, and how."""

    errors: re.Pattern[str]
    exclude: Sequence[re.Pattern[str]] = ()
    labels: _nginx_log.Labels = dataclasses.field(default_factory=_nginx_log.Labels)

    def count(self, line: Mapping[str, Any], into: Traffic) -> None:
        """Add one request."""
        path = str(line.get("path", ""))
        if any(pattern.search(path) for pattern in self.exclude):
            into.excluded += 1
            return
        status = str(line.get("status", "-"))
        failed = bool(self.errors.fullmatch(status))
        # Where all servers of a group are out, the log bears the name of the group: nobody was asked.
        tries = [one for one in _nginx_log.attempts(line, "upstream_response_time") if is_server(one.address)]
        retried = has_retry(str(line.get("upstream_addr") or ""))
        into.requests += 1
        into.failed += failed
        into.unserved += failed and not tries
        into.retried += retried
        into.recovered += retried and not failed
        into.statuses[status] = into.statuses.get(status, 0) + 1
        for one in tries:
            label = self.labels.of(one.address) or one.address
            if label not in into.backends and len(into.backends) >= BACKENDS_LIMIT:
                label = ELSEWHERE
            backend = into.backends.setdefault(label, Backend())
            backend.attempts += 1
            backend.errors += bool(self.errors.fullmatch(one.status))
        if status != UPGRADED:
            try:
                value = bucket(float(line["request_time"]))
            except (KeyError, TypeError, ValueError, OverflowError):
                return
            into.times[value] = into.times.get(value, 0) + 1


def is_server(address: str) -> bool:
    """Whether this is an address and not the name of a group of servers."""
    return address.startswith("unix:") or _nginx_log.split_address(address)[1] is not None


def has_retry(addresses: str) -> bool:
    """Whether more than one server was asked. What follows an internal redirect is not a retry."""
    return any(
        sum(map(is_server, re.split(r"\s*,\s*", group))) > 1 for group in _nginx_log.REDIRECT.split(addresses.strip())
    )


def read(path: str, spans: Sequence[Span], counting: Counting) -> tuple[dict[str, Traffic], int]:
    """The figures of each span, and how many lines cannot be read. Each file is read once, line by line."""
    found = {span.name: Traffic() for span in spans}
    unreadable = 0
    begin, end = min(span.since for span in spans), max(span.until for span in spans)
    for line in _nginx_log.AccessLog(path).new_lines(begin, end):
        if line is None:
            unreadable += 1
            continue
        for span in spans:
            if span.since <= line["msec"] < span.until:
                counting.count(line, found[span.name])
    return found, unreadable


def merge(results: Iterable[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The spans of several load balancers as one list: counts add up, and so do the times behind the percentiles."""
    rows: dict[str, dict[str, Any]] = {}
    sums: dict[str, Traffic] = {}
    for spans in results:
        for span in spans:
            name = str(span["name"])
            row = rows.setdefault(name, {"name": name, "since": span["since"], "until": span["until"]})
            row["since"], row["until"] = min(row["since"], span["since"]), max(row["until"], span["until"])
            sums[name] = sums.get(name, Traffic()) + Traffic.of(span)
    return [{**row, **sums[name].plain()} for name, row in rows.items()]
