"""What a client knows about its requests and lines, and what is found of them in traces and logs. Needs no lab."""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tools.drills.traces import HOT_SHARE, binomial_interval, picked

HOT, CRITICAL, FAILING = KINDS = ("hot", "critical", "failing")
COUNTS = {HOT: 5000, CRITICAL: 200, FAILING: 100}
JOIN_RATE, SPAN_METRICS_ERROR = 0.99, 0.005
# Datasets in which each request leaves a line.
JOINED = ("nginx.access", "langflow.app")


# --- runs and traces -------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One request as its client has sent it: the trace that it has begun, and the answer."""

    kind: str
    trace: str = field(default_factory=lambda: secrets.token_hex(16))
    span: str = field(default_factory=lambda: secrets.token_hex(8))
    begun: float = 0.0
    ended: float = 0.0
    status: int = 0

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace}-{self.span}-01"

    @property
    def right(self) -> bool:
        """Whether the answer is the one that was asked for."""
        return self.status >= 400 if self.kind == FAILING else self.status == 200


def connected(spans: Sequence[Mapping[str, Any]], client: str) -> bool:
    """Whether spans of a task hang together: a request of the client, submission, delivery to a worker, Langflow."""

    def below(parents: Collection[str], name: str) -> set[str]:
        return {one["span_id"] for one in spans if one["name"] == name and one["parent_span_id"] in parents}

    ran = below(below({client}, "task.submit"), "task.run")
    return any(span["service"] == "langflow" and span["parent_span_id"] in ran for span in spans)


def mixed(counts: Mapping[str, int]) -> list[Run]:
    """Runs of all kinds, those that are few spread evenly over the others."""
    rows = [
        ((number + 0.5) / count, kind) for kind, count in counts.items() for number in range(count)
    ]  # fmt: skip
    return [Run(kind) for _place, kind in sorted(rows)]


def drawn(counts: Mapping[str, int]) -> tuple[list[Run], int]:
    """Runs whose hot traces are no freak of chance, and how many of these a share of their ids picks.

    Which ids are picked follows from the ids. One draw in twenty lies outside of the interval by its very definition.
    """
    low, high = binomial_interval(counts[HOT], HOT_SHARE)
    while True:
        runs = mixed(counts)
        number = sum(picked(run.trace, HOT_SHARE) for run in runs if run.kind == HOT)
        if low <= number <= high:
            return runs, number


def kept(runs: Iterable[Run], traces: Collection[str]) -> dict[str, tuple[int, int]]:
    """For each kind how many traces were kept, and of how many runs."""
    found = dict.fromkeys(KINDS, (0, 0))
    for run in runs:
        some, all_of_them = found[run.kind]
        found[run.kind] = (some + (run.trace in traces), all_of_them + 1)
    return found


def unjoined(
    traces: Iterable[str], lines: Mapping[str, Collection[str]], datasets: Sequence[str] = JOINED
) -> list[str]:
    """Traces without a line in one of the datasets; `lines` tells in which datasets each trace was found."""
    return sorted(trace for trace in traces if not set(datasets) <= set(lines.get(trace, ())))


def deviation(measured: float, truth: int) -> float:
    """By what share a figure differs from the truth."""
    return abs(measured - truth) / truth if truth else math.inf


# --- lines -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lines:
    """What became of the numbered lines of one host."""

    written: int
    lost: list[int]
    twice: list[int]
    strange: list[int]

    @property
    def whole(self) -> bool:
        return self.written > 0 and not self.lost and not self.strange


def judge_lines(written: Iterable[int], found: Sequence[int]) -> Lines:
    """Hold what a host has written against what was found."""
    wanted, counted = set(written), Counter(found)
    return Lines(
        len(wanted),
        sorted(wanted - set(counted)),
        sorted(number for number, count in counted.items() if count > 1),
        sorted(set(counted) - wanted),
    )


def emptied(samples: Sequence[tuple[float, Mapping[str, float]]], since: float) -> dict[str, float]:
    """For each host the seconds from a moment until its queue was empty and stayed so, in the order of that."""
    hosts = sorted({host for _moment, row in samples for host in row})
    found = {}
    for host in hosts:
        full = [moment for moment, row in samples if moment >= since and row.get(host, 0) > 0]
        later = [moment for moment, row in samples if host in row and moment > (full[-1] if full else since)]
        if later:
            found[host] = round(later[0] - since, 1)
    return dict(sorted(found.items(), key=lambda item: item[1]))


# --- canaries --------------------------------------------------------------------------------------------------------


def luhn_digit(digits: str) -> str:
    """The digit that makes a number pass the checksum of cards."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * 2 if place % 2 == 0 else int(digit)
        total += doubled - 9 if doubled > 9 else doubled
    return str(-total % 10)


def card() -> str:
    """A number that looks like one of a card, checksum and all; nobody's."""
    digits = "4000" + "".join(str(secrets.randbelow(10)) for _place in range(11))
    return digits + luhn_digit(digits)


def canaries() -> dict[str, str]:
    """One value of each kind that must be found nowhere, each different every time."""
    mark = secrets.token_hex(6)
    return {
        "key": f"sk-{secrets.token_hex(20)}",
        "bearer": f"Bearer {secrets.token_urlsafe(30)}",
        "jwt": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOi{secrets.token_hex(10)}.{secrets.token_urlsafe(24)}",
        "card": card(),
        "email": f"canary.{mark}@example.com",
        "phone": f"+49 30 {secrets.randbelow(90_000_000) + 10_000_000}",
    }


def needles(values: Mapping[str, str]) -> dict[str, str]:
    """What to look for: the part of each value that is no word of everybody's."""
    return {name: value.removeprefix("Bearer ") for name, value in values.items()}


def seen(text: str, values: Mapping[str, str]) -> dict[str, int]:
    """How often each value stands in a text, as it is, without its spaces, or as it is written in an address."""
    found = {}
    for name, value in needles(values).items():
        if count := sum(
            text.count(way) for way in {value, value.replace(" ", ""), quote(value), quote(value, safe="")}
        ):
            found[name] = count
    return found


# --- answers of a log store ------------------------------------------------------------------------------------------


def datasets_by_trace(answer: Mapping[str, Any]) -> dict[str, set[str]]:
    """In which datasets each trace was found, from the answer to an aggregation by both."""
    return {
        str(bucket["key"]): {str(inner["key"]) for inner in bucket["datasets"]["buckets"]}
        for bucket in answer["aggregations"]["traces"]["buckets"]
    }


def numbers(messages: Iterable[str], mark: str) -> list[int]:
    """The numbers of lines that bear a mark, as in `mark 17`."""
    found = []
    for message in messages:
        _before, _mark, after = message.partition(f"{mark} ")
        word = after.split(" ", 1)[0]
        if word.isdigit():
            found.append(int(word))
    return found
