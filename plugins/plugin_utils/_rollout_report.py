# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection: it may change or vanish in any release.

"""What happened in a roll, as lines while it runs, and as one page and one file of data afterwards."""

from __future__ import annotations

import dataclasses
import datetime
import html
import json
from collections.abc import Mapping
from typing import Any

COLOURS = {
    "begun": "#b8c0cc",
    "drain": "#e0a800",
    "stop": "#d9480f",
    "start": "#7048e8",
    "gate": "#1c7ed6",
    "enabled": "#2f9e44",
    "failed": "#c92a2a",
    "rolled_back": "#862e9c",
}
QUANTILES = ("p50", "p95", "p99")
ROW, LEFT, WIDTH = 26, 150, 900
STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;margin:.5rem 0}td,th{border:1px solid #d0d7de;padding:.25rem .6rem;text-align:left}
.bad{color:#c92a2a}.good{color:#2f9e44}svg{width:100%;height:auto}pre{background:#f6f8fa;padding:1rem;overflow:auto}"""


def clock_text(seconds: float | None) -> str:
    """Minutes and seconds."""
    if seconds is None:
        return "?"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@dataclasses.dataclass
class Span:
    """One phase of one host, in seconds since the plan."""

    phase: str
    begin: float
    end: float | None = None


@dataclasses.dataclass
class Report:
    """One roll as the controller saw it."""

    begun: float | None = None
    now: float = 0.0
    run_id: str | None = None
    status: str = "none"
    plan: dict[str, Any] = dataclasses.field(default_factory=dict)
    wanted: dict[str, Any] = dataclasses.field(default_factory=dict)
    breaker: dict[str, Any] = dataclasses.field(default_factory=dict)
    phases: dict[str, str] = dataclasses.field(default_factory=dict)
    timings: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    spans: dict[str, list[Span]] = dataclasses.field(default_factory=dict)
    batches: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    stops: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    canaries: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    probes: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def _at(self, moment: float) -> float:
        self.now = round(moment - (self.begun or moment), 3)
        return self.now

    def state(self, moment: float, arguments: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
        """Take a result of C(rollout_state); the line to show for it."""
        kind = arguments.get("state")
        if kind == "plan" and "plan" in result:
            self.begun = moment
            self.plan = dict(result["plan"])
            self.wanted = {name: arguments.get(name) for name in ("operation", "digest", "minimum", "who")}
        now = self._at(moment)
        for name in ("run_id", "status", "breaker", "phases", "timings"):
            if name in result:
                setattr(self, name, result[name])
        if result.get("failed"):
            return self.stop(moment, str(kind), str(result.get("msg", "")))
        if kind == "plan":
            return self._plan_line()
        if kind == "begin_batch":
            hosts = [str(host) for host in arguments.get("hosts") or []]
            serving = result.get("serving_during")
            self.batches.append({"hosts": hosts, "at": now, "serving": serving})
            for host in hosts:
                self._enter(host, "begun")
            return f"{self._progress()} batch {len(self.batches)}: {', '.join(hosts)} ({serving} others serve)"
        if kind == "record":
            host, phase = str(arguments.get("host")), str(arguments.get("phase"))
            self._enter(host, phase)
            trail = " → ".join(span.phase for span in self.spans[host] if span.phase != "begun")
            if phase in ("failed", "rolled_back"):
                reason = str(arguments.get("reason") or "no reason given")
                self.stop(moment, f"{host} {phase}", reason)
                trail += f", {reason}"
            return f"{self._progress()} {host}: {trail}"
        if kind == "open":
            return self.stop(moment, "breaker opened", str(arguments.get("reason")))
        return f"{self._progress()} {str(kind).replace('_', ' ')}: {self.status}"

    def _enter(self, host: str, phase: str) -> None:
        spans = self.spans.setdefault(host, [])
        if spans and spans[-1].phase == phase:
            return
        if spans and spans[-1].end is None:
            spans[-1].end = self.now
        spans.append(Span(phase, self.now, self.now if phase in ("enabled", "failed", "rolled_back") else None))

    def stop(self, moment: float, what: str, reason: str) -> str:
        """Something stopped the roll."""
        self.stops.append({"at": self._at(moment), "what": what, "reason": reason})
        return f"{self._progress()} STOP, {what}: {reason}"

    def canary(self, moment: float, result: Mapping[str, Any]) -> str:
        """Take a result of C(canary_gate)."""
        kept = {name: value for name, value in result.items() if name not in ("invocation", "observation", "changed")}
        self.canaries.append({"at": self._at(moment), **kept})
        if result.get("failed"):
            self.stop(moment, "canary", str(result.get("msg", "")))
        return f"{self._progress()} canary {result.get('verdict') or 'not judged'}: {result.get('reason', '')}"

    def probe(self, moment: float, result: Mapping[str, Any]) -> None:
        """Take the figures of C(request_probe), if this result has some."""
        figures = result.get("report")
        if isinstance(figures, Mapping):
            self.probes.append({"at": self._at(moment), **figures})

    def _progress(self) -> str:
        return f"[{clock_text(self.now)} of {clock_text(self.plan.get('estimated_seconds'))}]"

    def _plan_line(self) -> str:
        plan = self.plan
        lines = [
            f"Roll {self.wanted.get('operation')} to {self.wanted.get('digest')}, "
            f"{'resumed, ' if plan.get('resumed') else ''}about {clock_text(plan.get('estimated_seconds'))}"
        ]
        lines += [
            f"  batch {batch['number']}: {', '.join(batch['hosts'])} "
            f"({batch['serving_during']} of {batch['serving_before']} serve meanwhile)"
            for batch in plan.get("batches", [])
        ]
        for title, hosts in (("done before", plan.get("skipped")), ("interrupted", plan.get("interrupted"))):
            if hosts:
                lines.append(f"  {title}: {', '.join(hosts)}")
        return "\n".join(lines)

    @property
    def worth_keeping(self) -> bool:
        """Whether a roll was really tried."""
        return self.begun is not None and self.run_id not in (None, "check")

    def data(self) -> dict[str, Any]:
        """All of it."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """The file of data."""
        return json.dumps(self.data(), indent=2, ensure_ascii=False, default=str) + "\n"

    # --- page -----------------------------------------------------------------------------------------------------

    def _picture(self) -> str:
        scale = WIDTH / max(self.now, 1.0)
        height = ROW * (len(self.spans) + 1) + 10
        parts = [f'<svg viewBox="0 0 {LEFT + WIDTH + 20} {height}" role="img" aria-label="Timeline of the roll">']
        for number, (host, spans) in enumerate(self.spans.items()):
            top = number * ROW + 4
            parts.append(f'<text x="0" y="{top + 14}" font-size="13">{html.escape(host)}</text>')
            for span in spans:
                end = self.now if span.end is None else span.end
                size = max((end - span.begin) * scale, 4.0)
                title = html.escape(f"{span.phase} {span.begin:.1f} s to {end:.1f} s")
                parts.append(
                    f'<rect x="{LEFT + span.begin * scale:.1f}" y="{top}" width="{size:.1f}" height="{ROW - 8}" '
                    f'fill="{COLOURS.get(span.phase, "#666")}"><title>{title}</title></rect>'
                )
        bottom = len(self.spans) * ROW + 16
        for part in range(5):
            x = LEFT + part * WIDTH / 4
            label = clock_text(self.now * part / 4)
            parts.append(f'<text x="{x:.0f}" y="{bottom}" font-size="11" text-anchor="middle">{label}</text>')
        return "".join([*parts, "</svg>"])

    @staticmethod
    def _table(head: list[str], rows: list[list[Any]]) -> str:
        def cells(kind: str, values: list[Any]) -> str:
            return "<tr>" + "".join(f"<{kind}>{html.escape(str(value))}</{kind}>" for value in values) + "</tr>"

        return f"<table>{cells('th', head)}{''.join(cells('td', row) for row in rows)}</table>"

    def _sides(self, canary: Mapping[str, Any]) -> str:
        rows = []
        for side in ("new", "old"):
            arm = canary.get(side)
            if isinstance(arm, Mapping):
                times = arm.get("latency_ms") or {}
                rows.append([side, arm.get("requests"), arm.get("errors"), *(times.get(name) for name in QUANTILES)])
        return self._table(["instances", "requests", "errors", *(f"{name} ms" for name in QUANTILES)], rows)

    def _figures(self, probe: Mapping[str, Any]) -> str:
        windows = probe.get("windows")
        rows = []
        for title, part in {"all": probe, **(windows if isinstance(windows, Mapping) else {})}.items():
            if isinstance(part, Mapping):
                times = part.get("latency_ms") or {}
                rows.append([title, part.get("n"), part.get("failed"), *(times.get(name) for name in QUANTILES)])
        table = self._table(["time", "requests", "failed", *(f"{name} ms" for name in QUANTILES)], rows)
        lines = "\n".join(str(line) for line in probe.get("lines") or [])
        return f"{table}<pre>{html.escape(lines)}</pre>" if lines else table

    def to_html(self) -> str:
        """One page that needs nothing else."""
        good = self.status == "finished" and not self.stops
        verdict = "finished" if good else (self.stops[0]["reason"] if self.stops else self.status)
        when = datetime.datetime.fromtimestamp(self.begun or 0, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        legend = " ".join(f'<span style="color:{colour}">■</span> {name}' for name, colour in COLOURS.items())
        phases = ["drain", "stop", "start", "gate", "total"]
        parts = [
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Roll {html.escape(str(self.run_id))}'
            f"</title><style>{STYLE}</style></head><body>",
            f"<h1>Roll {html.escape(str(self.run_id))}</h1>",
            f'<p class="{"good" if good else "bad"}"><strong>{html.escape(str(verdict))}</strong></p>',
            self._table(
                ["operation", "wanted", "by", "begun", "took", "estimated"],
                [
                    [
                        self.wanted.get("operation"),
                        self.wanted.get("digest"),
                        self.wanted.get("who"),
                        when,
                        clock_text(self.now),
                        clock_text(self.plan.get("estimated_seconds")),
                    ]
                ],
            ),
            f"<h2>Timeline</h2>{self._picture()}<p>{legend}</p><h2>Hosts</h2>",
            self._table(
                ["host", "phase", *(f"{name} s" for name in phases)],
                [
                    [host, phase, *(self.timings.get(host, {}).get(name, "") for name in phases)]
                    for host, phase in self.phases.items()
                ],
            ),
            "<h2>Batches</h2>",
            self._table(
                ["batch", "begun after", "hosts", "others that serve"],
                [
                    [number, clock_text(batch["at"]), ", ".join(batch["hosts"]), batch["serving"]]
                    for number, batch in enumerate(self.batches, 1)
                ],
            ),
        ]
        if self.stops:
            rows = [[clock_text(stop["at"]), stop["what"], stop["reason"]] for stop in self.stops]
            parts += ["<h2>Stops</h2>", self._table(["after", "what", "why"], rows)]
        for canary in self.canaries:
            parts.append(f"<h2>Canary: {html.escape(str(canary.get('verdict')))}</h2>")
            parts.append(f"<p>{html.escape(str(canary.get('reason')))}</p>{self._sides(canary)}")
        for probe in self.probes:
            parts += ["<h2>Requests</h2>", self._figures(probe)]
        return "".join([*parts, "</body></html>\n"])
