# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Figures of a span of time from Prometheus, and how two spans differ, as a table and as a picture."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _prometheus

FORMAT = 1
# Points of a curve, at most; and the shortest span that a rate is taken over, some scrapes long.
POINTS = 120
SHORTEST = 60
FLOW = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
RUNS = 'kind=~"run|stream|openai|webhook|build"'


class BaselineError(Exception):
    """The figures cannot be had, or a file is none of ours; the message says why."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """One figure: what it is called, what it is asked with, and which way is bad."""

    name: str
    title: str
    unit: str
    by: str
    query: str
    # 1: more is worse, -1: less is worse, 0: a circumstance, which is shown and not judged.
    worse: int
    # Differences up to this one are noise, however large they are in percent.
    floor: float


GATEWAY = "langflow_gateway_request_duration_seconds_bucket"
REQUESTS = "langflow_gateway_requests_total"
JOBS = "langflow_job_duration_seconds_bucket"
CURVES = (
    Curve(
        "p99",
        "Time of 99 % of the requests",
        "s",
        "flow",
        f'histogram_quantile(0.99, sum by (flow, le) (rate({GATEWAY}{{{RUNS},flow=~"$flows"}}[$range])))',
        1,
        0.05,
    ),
    Curve(
        "p50",
        "Time of half of the requests",
        "s",
        "flow",
        f'histogram_quantile(0.5, sum by (flow, le) (rate({GATEWAY}{{{RUNS},flow=~"$flows"}}[$range])))',
        1,
        0.02,
    ),
    Curve(
        "errors",
        "Share of requests that failed",
        "",
        "flow",
        f'(sum by (flow) (rate({REQUESTS}{{{RUNS},flow=~"$flows",code_class="5xx"}}[$range]))'
        f' or 0 * sum by (flow) (rate({REQUESTS}{{{RUNS},flow=~"$flows"}}[$range])))'
        f' / (sum by (flow) (rate({REQUESTS}{{{RUNS},flow=~"$flows"}}[$range])) > 0)',
        1,
        0.002,
    ),
    Curve(
        "background_p99",
        "Time of 99 % of the background runs",
        "s",
        "flow",
        # Every database server tells the same, and even and odd days are counted apart.
        "histogram_quantile(0.99, sum by (flow, le) (max by (flow, day, le)"
        f' (rate({JOBS}{{kind="background",flow=~"$flows"}}[$range]))))',
        1,
        0.5,
    ),
    Curve(
        "throughput",
        "Requests per second",
        "1/s",
        "flow",
        f'sum by (flow) (rate({REQUESTS}{{{RUNS},flow=~"$flows"}}[$range]))',
        0,
        0.0,
    ),
    Curve(
        "cpu",
        "Processors that are busy",
        "",
        "instance",
        '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$range]))',
        1,
        0.05,
    ),
    Curve(
        "memory",
        "Memory in use",
        "",
        "instance",
        "1 - avg_over_time(node_memory_MemAvailable_bytes[$range]) / avg_over_time(node_memory_MemTotal_bytes[$range])",
        1,
        0.03,
    ),
)
COUNT = f'sum by (flow) (increase({REQUESTS}{{{RUNS},flow=~"$flows"}}[$range]))'

Points = list[tuple[float, float]]


@dataclasses.dataclass
class Baseline:
    """What was measured in one span of time."""

    name: str
    start: float
    end: float
    step: float
    flows: list[str]
    requests: dict[str, float] = dataclasses.field(default_factory=dict)
    totals: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    points: dict[str, dict[str, Points]] = dataclasses.field(default_factory=dict)

    def text(self) -> str:
        """As a file holds it."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def of(cls, text: str, path: str) -> Baseline:
        """What a file holds."""
        try:
            found = json.loads(text)
            if found.pop("format") != FORMAT:
                raise BaselineError(f"{path} was written by another version of this collection; record it again")
            made = cls(**found)
            made.points = {
                curve: {label: [(float(t), float(v)) for t, v in line] for label, line in lines.items()}
                for curve, lines in made.points.items()
            }
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise BaselineError(f"{path} is not a recorded baseline: {exc}") from exc
        return made


def flows_pattern(flows: Iterable[str]) -> str:
    """The regular expression that selects these flows; all that have a name if there are none."""
    wanted = list(flows)
    for flow in wanted:
        if not FLOW.match(flow):
            raise BaselineError(f"{flow!r} is not the id or the endpoint name of a flow")
    return "|".join(wanted) or ".+"


class Prometheus:
    """One Prometheus that is asked with a login, and so over TLS."""

    def __init__(
        self, url: str, *, ca_path: str | None = None, login: str | None = None, timeout: float = 30.0
    ) -> None:
        if not url.startswith("https://"):
            raise BaselineError(f"the address of Prometheus must begin with https://, got {url!r}")
        try:
            self._client = _prometheus.Client(url.rstrip("/"), ca_path=ca_path, login=login, timeout=timeout)
        except _prometheus.PrometheusError as exc:
            raise BaselineError(str(exc)) from exc

    def ask(self, query: str, moment: float) -> Any:
        """The answer to one question about one moment."""
        try:
            return self._client.instant(query, round(moment, 3))["result"]
        except _prometheus.PrometheusError as exc:
            raise BaselineError(str(exc)) from exc

    def ask_range(self, query: str, start: float, end: float, step: float) -> Any:
        """The answers to one question over a span."""
        try:
            return self._client.over(query, round(start, 3), round(end, 3), step)["result"]
        except _prometheus.PrometheusError as exc:
            raise BaselineError(str(exc)) from exc


def finite(text: Any) -> float | None:
    """A number, unless it is none: nothing was measured then."""
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def record(source: Prometheus, name: str, start: float, end: float, flows: Sequence[str]) -> Baseline:
    """Measure one span."""
    span = end - start
    if span < SHORTEST:
        raise BaselineError(f"a span of {span:g} s is too short, the least is {SHORTEST} s")
    step = max(15.0, math.ceil(span / POINTS))
    made = Baseline(name, start, end, step, sorted(flows))
    pattern = flows_pattern(flows)

    def filled(query: str, seconds: float) -> str:
        return query.replace("$flows", pattern).replace("$range", f"{max(SHORTEST, math.ceil(seconds))}s")

    for series in source.ask(filled(COUNT, span), end):
        if (number := finite(series["value"][1])) is not None:
            made.requests[series["metric"].get("flow", "")] = number
    for curve in CURVES:
        totals: dict[str, float] = {}
        for series in source.ask(filled(curve.query, span), end):
            if (number := finite(series["value"][1])) is not None:
                totals[series["metric"].get(curve.by, "")] = number
        # The first point looks back over its range and not before the start.
        reach = max(SHORTEST, 4 * step)
        lines: dict[str, Points] = {}
        if span > reach:
            for series in source.ask_range(filled(curve.query, reach), start + reach, end, step):
                line = [
                    (float(moment), number) for moment, text in series["values"] if (number := finite(text)) is not None
                ]
                if line:
                    lines[series["metric"].get(curve.by, "")] = line
        made.totals[curve.name] = totals
        made.points[curve.name] = lines
    if not any(made.requests.values()):
        raise BaselineError(
            "no request to one of these flows was counted in this span, so there is nothing to compare with later"
        )
    return made


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure before and after."""

    curve: str
    label: str
    before: float | None
    after: float | None
    change: float | None
    verdict: str


def judge(curve: Curve, before: float, after: float, tolerance: float) -> tuple[float | None, str]:
    """The change in percent, and what to think of it."""
    change = (after - before) / before * 100.0 if before else None
    if curve.worse == 0:
        return change, "load"
    if abs(after - before) <= curve.floor or (change is not None and abs(change) <= tolerance):
        return change, "same"
    return change, "worse" if (after - before) * curve.worse > 0 else "better"


def compare(before: Baseline, after: Baseline, tolerance: float, least: float) -> list[Row]:
    """Every figure of both spans."""
    rows = []
    for curve in CURVES:
        old, new = before.totals.get(curve.name, {}), after.totals.get(curve.name, {})
        for label in sorted(old.keys() | new.keys()):
            was, now = old.get(label), new.get(label)
            change: float | None = None
            if was is None or now is None:
                verdict = "new" if was is None else "gone"
            else:
                change, verdict = judge(curve, was, now, tolerance)
                gateway = curve.by == "flow" and not curve.name.startswith("background") and curve.worse
                if gateway and min(before.requests.get(label, 0), after.requests.get(label, 0)) < least:
                    verdict = "too few"
            rows.append(Row(curve.name, label, was, now, change, verdict))
    return rows


def notes(before: Baseline, after: Baseline, rows: Iterable[Row]) -> list[str]:
    """What a reader has to know before believing the table."""
    found = []
    other = [row.label for row in rows if row.verdict == "load" and (row.change is None or abs(row.change) > 20)]
    if other:
        found.append(
            f"The load differs by more than 20 % for {', '.join(other)}: times and resources are of other work."
        )
    if abs((before.end - before.start) - (after.end - after.start)) > 0.5 * (before.end - before.start):
        found.append("One span is much longer than the other.")
    if before.flows != after.flows:
        found.append("The two spans were recorded for different flows.")
    return found


def shown(value: float | None, unit: str) -> str:
    """A figure for people."""
    if value is None:
        return "-"
    if unit == "":
        return f"{value * 100:.2f} %"
    return f"{value:.3g} {unit}"


def table(before: Baseline, after: Baseline, rows: Sequence[Row]) -> list[str]:
    """The comparison as text."""
    units = {curve.name: curve.unit for curve in CURVES}
    lines = [("figure", "of", before.name, after.name, "change", "")]
    for row in rows:
        unit = units[row.curve]
        change = "-" if row.change is None else f"{row.change:+.1f} %"
        verdict = "" if row.verdict in ("same", "load") else row.verdict
        lines.append((row.curve, row.label, shown(row.before, unit), shown(row.after, unit), change, verdict))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return [
        "  ".join(
            cell.ljust(width) if column in (0, 1, 5) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


# --- the picture ------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, TOP, GAP = 430, 150, 58, 30, 34
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#444}.t{font-size:13px;font-weight:600;fill:#222}.g{stroke:#ddd}"
    ".b{stroke:#9aa0a6;fill:none;stroke-width:2}.a{stroke:#0b65c2;fill:none;stroke-width:2}.w{stroke:#c5221f}"
    "rect{fill:#fff}@media(prefers-color-scheme:dark){rect{fill:#181818}text{fill:#bbb}.t{fill:#eee}.g{stroke:#333}"
    ".a{stroke:#6ab0ff}.w{stroke:#ff7b72}}"
)


def polyline(line: Points, start: float, span: float, top: float, kind: str) -> str:
    """One curve of a chart."""
    spots = " ".join(
        f"{LEFT + (moment - start) / span * WIDTH:.1f},{HEIGHT - value / top * HEIGHT:.1f}" for moment, value in line
    )
    return f'<polyline class="{kind}" points="{spots}"/>'


def chart(curve: Curve, label: str, before: Baseline, after: Baseline, verdict: str) -> str:
    """Both spans of one figure over each other, from the beginning of each."""
    old, new = before.points[curve.name].get(label, []), after.points[curve.name].get(label, [])
    top = max([value for _moment, value in (*old, *new)] + [curve.floor]) * 1.1 or 1.0
    span = max(before.end - before.start, after.end - after.start)
    parts = [f'<text class="t" x="0" y="-12">{html.escape(curve.title)}: {html.escape(label)}</text>']
    for share in (0.0, 0.5, 1.0):
        height = HEIGHT - share * HEIGHT
        parts.append(f'<line class="g" x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{height:g}" y2="{height:g}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{height + 4:g}" text-anchor="end">{shown(share * top, curve.unit)}</text>'
        )
    parts.append(f'<text x="{LEFT}" y="{HEIGHT + 15}">0 min</text>')
    parts.append(f'<text x="{LEFT + WIDTH}" y="{HEIGHT + 15}" text-anchor="end">{span / 60:.0f} min</text>')
    if old:
        parts.append(polyline(old, before.start, span, top, "b"))
    if new:
        parts.append(polyline(new, after.start, span, top, "a w" if verdict == "worse" else "a"))
    return "".join(parts)


def picture(before: Baseline, after: Baseline, rows: Sequence[Row]) -> str:
    """All charts as one SVG that needs nothing else."""
    verdicts = {(row.curve, row.label): row.verdict for row in rows}
    charts = [
        chart(curve, label, before, after, verdicts.get((curve.name, label), ""))
        for curve in CURVES
        for label in sorted(before.points.get(curve.name, {}).keys() | after.points.get(curve.name, {}).keys())
    ]
    wide, high = LEFT + WIDTH + 30, HEIGHT + TOP + GAP
    total_height = 50 + ((len(charts) + 1) // 2) * high
    placed = "".join(
        f'<g transform="translate({20 + (place % 2) * wide},{50 + TOP + (place // 2) * high})">{text}</g>'
        for place, text in enumerate(charts)
    )
    legend = (
        f'<text class="t" x="20" y="24">{html.escape(after.name)} compared with {html.escape(before.name)}</text>'
        f'<line class="b" x1="20" x2="50" y1="38" y2="38"/><text x="56" y="42">{html.escape(before.name)}</text>'
        '<line class="a" x1="200" x2="230" y1="38" y2="38"/>'
        f'<text x="236" y="42">{html.escape(after.name)} (red where worse)</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * wide + 20} {total_height}" role="img">'
        f"<title>{html.escape(after.name)} compared with {html.escape(before.name)}</title><style>{STYLE}</style>"
        f'<rect width="100%" height="100%"/>{legend}{placed}</svg>\n'
    )
