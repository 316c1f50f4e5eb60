# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""What a probe has seen: counts, times, windows, executions, and whether the figures can be believed."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils._request_probe import (
    LATE,
    MARKS,
    OK,
    RESULTS,
    TOKEN,
    UNFINISHED,
    UNSENT,
    Plan,
    read_plan,
)

BEFORE = "before"
SHOWN = 50
LEAST_RATE = 0.99
NOT_COUNTED = (UNFINISHED, UNSENT)
Entry = dict[str, Any]


class ReportError(Exception):
    """There is nothing to report on."""


def read_lines(path: str) -> Iterator[Entry | None]:
    """The objects of a file, and C(None) for a line that was cut off when its writer died."""
    if not os.path.exists(path):
        return
    with open(path, "rb") as handle:
        for line in handle:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            yield entry if isinstance(entry, dict) else None


@dataclasses.dataclass
class Results:
    """All that a probe has written down."""

    plan: Plan
    begin: Entry = dataclasses.field(default_factory=dict)
    end: Entry | None = None
    progress: Entry = dataclasses.field(default_factory=dict)
    requests: list[Entry] = dataclasses.field(default_factory=list)
    marks: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    torn: int = 0


def read_marks(directory: str) -> list[Entry]:
    """The marks in the order in which they were set."""
    return [entry for entry in read_lines(os.path.join(directory, MARKS)) if entry is not None]


def read_results(directory: str) -> Results:
    """Read what there is, whether the probe still runs, has ended or was killed."""
    try:
        results = Results(read_plan(directory))
    except FileNotFoundError:
        raise ReportError(f"{directory} holds no results of a probe") from None
    except (ValueError, TypeError) as error:
        raise ReportError(f"{directory} holds a plan that cannot be read: {error}") from None
    for entry in read_lines(os.path.join(directory, RESULTS)):
        if entry is None:
            results.torn += 1
        elif "n" in entry:
            results.requests.append(entry)
        elif "progress" in entry:
            results.progress = entry["progress"]
        elif "begin" in entry:
            results.begin = entry["begin"]
        elif "end" in entry:
            results.end = results.progress = entry["end"]
    if not results.begin:
        raise ReportError(f"{directory} holds no results of a probe")
    start = results.begin["monotonic"]
    results.marks = [(str(mark["mark"]), mark["monotonic"] - start) for mark in read_marks(directory)]
    return results


def failed(entry: Mapping[str, Any]) -> bool:
    """Whether a request that was sent and waited for got anything but the right answer in time."""
    return entry["class"] != OK and entry["class"] not in NOT_COUNTED


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """Nearest rank, in milliseconds: each figure is one that was measured."""
    if not values:
        return None
    ordered = sorted(values)

    def rank(part: float) -> float:
        return round(ordered[max(0, math.ceil(part * len(ordered)) - 1)] * 1000, 1)

    return {"p50": rank(0.5), "p95": rank(0.95), "p99": rank(0.99), "max": rank(1.0)}


def summarise(entries: Sequence[Entry]) -> dict[str, Any]:
    """Counts and times of some requests. Times are those of complete and correct answers."""
    counted = [entry for entry in entries if entry["class"] not in NOT_COUNTED]
    answered = [entry for entry in counted if entry["class"] in (OK, LATE)]
    bad = sum(map(failed, counted))
    return {
        "n": len(counted),
        "failed": bad,
        "classes": dict(sorted(collections.Counter(entry["class"] for entry in entries).items())),
        # With no failure in n requests, the share of failures is below 3/n in 95 of 100 such tests.
        "bound": 3 / len(counted) if counted and not bad else None,
        "latency_ms": quantiles([entry["latency"] for entry in answered]),
        "service_ms": quantiles([entry["service"] for entry in answered]),
    }


def by_load(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The requests of each load."""
    result: dict[str, list[Entry]] = {}
    for entry in entries:
        result.setdefault(entry["load"], []).append(entry)
    return result


def longest_gap(entries: Iterable[Entry]) -> float:
    """The longest time in which no request became due that was answered well."""
    due = sorted(entry["due"] for entry in entries if entry["class"] == OK)
    return round(max((later - sooner for sooner, later in zip(due, due[1:], strict=False)), default=0.0), 3)


def wanted(plan: Plan, until: float) -> dict[str, int]:
    """How many requests of each load were due by a moment."""
    result = {}
    for index, load in enumerate(plan.loads):
        first = index / len(plan.loads) / load.rate
        result[load.name] = max(0, math.floor((until - first) * load.rate + 1e-6) + 1) if until >= first else 0
    return result


def load_rows(results: Results, until: float) -> dict[str, Any]:
    """One row for each load."""
    due = wanted(results.plan, until)
    rows = {}
    requests = by_load(results.requests)
    for load in results.plan.loads:
        own = requests.get(load.name, [])
        connections = collections.Counter(
            "reused" if entry.get("reused") and not entry.get("reconnected") else "new"
            for entry in own
            if entry["class"] != UNSENT
        )
        rows[load.name] = {
            "kind": load.kind,
            "wanted": due[load.name],
            "wanted_rate": load.rate,
            **summarise(own),
            "connections": dict(connections),
            "reconnected": sum(1 for entry in own if entry.get("reconnected")),
            "longest_gap": longest_gap(own),
        }
        if load.kind == "stream":
            rows[load.name]["events"] = sum(entry.get("events", 0) for entry in own)
            rows[load.name]["longest_pause"] = max((entry.get("pause", 0.0) for entry in own), default=0.0)
    return rows


def window_rows(results: Results, until: float) -> dict[str, Any]:
    """The time before the first mark, and after each mark up to the next. A request counts when it was due."""
    edges = [(BEFORE, 0.0), *results.marks]
    rows: dict[str, Any] = {}
    for index, (name, begin) in enumerate(edges):
        end = edges[index + 1][1] if index + 1 < len(edges) else math.inf
        own = [entry for entry in results.requests if begin <= entry["due"] < end]
        row: dict[str, Any] = {"from": round(begin, 3), "to": round(min(end, max(until, begin)), 3), **summarise(own)}
        row["loads"] = {name: summarise(entries) for name, entries in sorted(by_load(own).items())}
        nodes = collections.Counter(entry["node"] for entry in own if entry.get("node"))
        if nodes:
            row["nodes"] = dict(sorted(nodes.items()))
        if index:
            # What was under way at the mark counts where it was due, and is told here as well.
            across = [e for e in results.requests if e["due"] < begin <= e["due"] + e.get("latency", 0.0)]
            row["in_flight"] = {"n": len(across), "failed": sum(map(failed, across))}
            for load, summary in row["loads"].items():
                first = rows[BEFORE]["loads"].get(load, {}).get("latency_ms")
                if first and summary["latency_ms"] and first["p99"]:
                    summary["p99_ratio"] = round(summary["latency_ms"]["p99"] / first["p99"], 2)
        rows[name] = row
    return rows


def pace(results: Results, until: float) -> dict[str, Any]:
    """Whether the generator did its part: what was due, what it started, and how late."""
    sent = [entry for entry in results.requests if entry["class"] != UNSENT]
    due = sum(wanted(results.plan, until).values())
    started = max(results.progress.get("started", 0), max((entry["n"] for entry in results.requests), default=0))
    unsent = len(results.requests) - len(sent)
    seconds = max(until, 0.001)
    return {
        "wanted": due,
        "started": started - unsent,
        "unsent": unsent,
        "wanted_rate": round(due / seconds, 3),
        "achieved_rate": round((started - unsent) / seconds, 3),
        "lag_ms": quantiles([entry["lag"] for entry in sent]),
        "cpu_seconds": results.progress.get("cpu", 0.0),
        "rss_mb": results.progress.get("rss_mb", 0.0),
        "unfinished": started
        - len(results.requests)
        + sum(1 for entry in results.requests if entry["class"] == UNFINISHED),
    }


def doubts(results: Results, figures: Mapping[str, Any], running: bool) -> list[str]:
    """Why the figures are not what they seem."""
    found = []
    if not results.requests:
        found.append("no request has ended")
    limit = results.plan.max_lag * 1000
    lag = figures["lag_ms"]
    if lag and lag["p99"] > limit:
        found.append(f"the generator fell behind: 1 % of the requests started more than {lag['p99']:g} ms late")
    elif lag and lag["max"] > 10 * limit:
        found.append(f"the generator stood still: a request started {lag['max']:g} ms late")
    if figures["unsent"]:
        found.append(f"{figures['unsent']} requests were not sent, because max_in_flight were under way")
    # One request of each load may be due in the moment in which the probe ends.
    if figures["started"] < LEAST_RATE * figures["wanted"] - len(results.plan.loads):
        found.append(f"only {figures['started']} of {figures['wanted']} requests that were due were started")
    if results.end is None and not running:
        found.append("the generator was killed before it could end")
    elif results.end is not None and results.end["reason"] in ("failed", "results cannot be written"):
        found.append(f"the generator ended early: {results.end['reason']}")
    if not running and figures["unfinished"]:
        found.append(
            f"{figures['unfinished']} requests were under way at the end, and nobody knows what became of them"
        )
    if results.torn:
        found.append(f"{results.torn} lines of the results cannot be read")
    return found


def count_executions(source: Any) -> collections.Counter[str]:
    """How often each token was executed, by a list with one item for each execution, or by numbers for tokens."""
    counts: collections.Counter[str] = collections.Counter()
    if isinstance(source, Mapping):
        if all(isinstance(value, int) and TOKEN.fullmatch(str(key)) for key, value in source.items()):
            counts.update({str(key): value for key, value in source.items()})
            return counts
        source = [source]
    for item in source:
        text = item if isinstance(item, str) else json.dumps(item)
        counts.update(set(TOKEN.findall(text)))
    return counts


def read_executions(path: str) -> collections.Counter[str]:
    """The same from a file: JSON as a whole, or one line for each execution, such as a log."""
    with open(path, encoding="utf-8", errors="replace") as handle:
        try:
            data = json.load(handle)
        except ValueError:
            handle.seek(0)
            return count_executions(handle)
    return count_executions(data if isinstance(data, (list, Mapping)) else [str(data)])


def execution_rows(results: Results, truth: collections.Counter[str] | None) -> dict[str, Any] | None:
    """Which runs were executed more than once, and which did not do what the client was told."""
    kinds = {load.name: load.kind for load in results.plan.loads}
    runs = {entry["id"]: entry for entry in results.requests if kinds.get(entry["load"]) != "get"}
    echoed = {name: entry["executions"] for name, entry in runs.items() if "executions" in entry}
    if truth is None and not echoed:
        return None
    prefix = f"ffp-{results.plan.run}-"
    own = {name: count for name, count in (truth or {}).items() if name.startswith(prefix)}
    counts = {name: max(own.get(name, 0), echoed.get(name, 0)) for name in {**own, **echoed}}
    doubles = sorted(name for name, count in counts.items() if count > 1)
    row: dict[str, Any] = {
        "source": "given" if truth is not None else "echo",
        "executed": sum(1 for count in counts.values() if count),
        "double": len(doubles),
        "double_ids": doubles[:SHOWN],
    }
    if truth is not None:
        good = [name for name, entry in runs.items() if entry["class"] in (OK, LATE)]
        lost = sorted(name for name in good if not counts.get(name))
        row["lost"] = len(lost)
        row["lost_ids"] = lost[:SHOWN]
        row["failed_but_executed"] = sum(1 for name, entry in runs.items() if failed(entry) and counts.get(name))
    return row


def text_lines(report: Mapping[str, Any]) -> list[str]:
    """The same for people."""

    def line(name: str, row: Mapping[str, Any]) -> str:
        latency = row["latency_ms"] or {}
        times = "/".join(f"{latency[part]:g}" if part in latency else "-" for part in ("p50", "p95", "p99", "max"))
        bound = f" (below {row['bound']:.3%})" if row["bound"] else ""
        return f"{name:<16} {row['n']:>8} sent {row['failed']:>6} failed{bound}  ms {times}"

    lines = [line(name, row) for name, row in report["loads"].items()]
    if len(report["windows"]) > 1:
        lines += [line(name, row) for name, row in report["windows"].items()]
    lines.append(line("all", report))
    if report["executions"]:
        lines.append(f"{report['executions']['double']} executed more than once")
    lines += [f"do not trust this: {reason}" for reason in report["doubts"]]
    return lines


def make_report(
    directory: str, *, running: bool = False, executions: collections.Counter[str] | None = None
) -> dict[str, Any]:
    """Everything at once."""
    results = read_results(directory)
    requests = results.requests
    latest = max((entry["due"] + entry["lag"] for entry in requests), default=0.0)
    until = results.end["until"] if results.end else max(results.progress.get("at", 0.0), latest)
    figures = pace(results, until)
    reasons = doubts(results, figures, running)
    bad = [entry for entry in requests if failed(entry)]
    report: dict[str, Any] = {
        "run": results.plan.run,
        "url": results.plan.url,
        "began": results.begin["time"],
        "seconds": round(until, 3),
        "state": "running" if running else ("ended" if results.end else "killed"),
        "reason": results.end["reason"] if results.end else "",
        **summarise(requests),
        "reconnected": sum(1 for entry in requests if entry.get("reconnected")),
        "loads": load_rows(results, until),
        "windows": window_rows(results, until),
        "executions": execution_rows(results, executions),
        "generator": figures,
        "trusted": not reasons,
        "doubts": reasons,
        "failures": bad[:SHOWN],
    }
    report["lines"] = text_lines(report)
    return report
