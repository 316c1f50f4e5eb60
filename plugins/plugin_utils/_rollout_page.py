# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection: it may change or vanish in any release.

"""The report of a roll as one page that needs no other file, made from what is kept as data."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.plugin_utils._rollout_report import clock_text

# Phase: its letter in the picture, and what it is. The letter is there so that nobody has to tell colours apart.
PHASES = {
    "begun": ("", "waits in its batch"),
    "drain": ("D", "drain: out of the load balancers, its work ends"),
    "stop": ("P", "stop"),
    "start": ("S", "start: restart until it answers itself"),
    "gate": ("G", "gate: proves that it is well"),
}
MARKS = {
    "enabled": ("✓", "back in service"),
    "failed": ("✕", "failed"),
    "rolled_back": ("↩", "rolled back"),
    "lost": ("?", "lost: cannot be reached"),
}
QUANTILES = ("p50", "p95", "p99")
MILLISECONDS = [f"{name} ms" for name in QUANTILES]
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
WIDTH, ROW, BAR, HEAD, GAP, RIGHT = 1000.0, 30, 18, 48, 96.0, 16
STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#57606a;--line:#d0d7de;--panel:#f6f8fa;--band:#eef2f7;
--good:#1a7f37;--bad:#b42318;--warn:#8a5a00;--ink:#14181d;--begun:#c3cad3;--drain:#f2c14e;--stop:#ef8a4c;--start:#b197fc;
--gate:#74b3f0;--enabled:#4cb86a;--failed:#f0716b;--lost:#f0716b;--rolled_back:#d98be0}
@media (prefers-color-scheme:dark){:root{--bg:#0f1318;--fg:#e6e9ed;--soft:#9aa4af;--line:#343b45;--panel:#171c23;
--band:#1a212a;--good:#56c271;--bad:#ff8a80;--warn:#e3b341;--begun:#7d8793}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,"DejaVu Sans",sans-serif;margin:0;background:var(--bg);color:var(--fg)}
main{max-width:1120px;margin:0 auto;padding:1.5rem 1.25rem 3rem}
h1{font-size:1.5rem;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.25rem 0}.soft{color:var(--soft)}
.badge{display:inline-block;padding:.05rem .7rem;border:2px solid;border-radius:1rem;font-weight:600;font-size:1rem}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr));gap:.6rem;margin:1rem 0}
.tile{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;
padding:.5rem .8rem}.tile b{display:block;font-size:1.15rem;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.85rem}
.scroll{overflow-x:auto;margin-bottom:1rem}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:.2rem 0;font-size:.9rem;white-space:nowrap}
th,td{border-bottom:1px solid var(--line);padding:.3rem .9rem .3rem 0;text-align:left;vertical-align:top}
thead th{color:var(--soft);font-weight:600;white-space:nowrap}.n{text-align:right;white-space:nowrap}
ol{margin:.3rem 0;padding-left:1.6rem}li{overflow-wrap:anywhere}
pre{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.8rem;overflow:auto;
font-size:.8rem}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;padding:0;margin:.4rem 0;font-size:.85rem}
.legend svg{width:26px;height:18px;vertical-align:-4px;margin-right:.3rem}
svg.timeline{width:100%;height:auto;min-width:640px;display:block}
svg text{fill:var(--fg);font:12px system-ui,"DejaVu Sans",sans-serif}
svg .small{font-size:11px;fill:var(--soft)}svg .ink{fill:var(--ink);font-weight:600;font-size:11px}
svg .grid{stroke:var(--line);stroke-width:1}svg .band{fill:var(--band)}svg .edge{stroke:var(--ink);stroke-opacity:.35}
svg .cut{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:5 3}
svg .canary{stroke:var(--fg);stroke-opacity:.55;stroke-dasharray:2 3}svg .note{stroke:var(--soft);stroke-width:1}
@media print{:root{color-scheme:light;--bg:#fff;--fg:#000;--soft:#444;--line:#bbb;--panel:#fff;--band:#eee;
--good:#1a7f37;--bad:#b42318;--warn:#8a5a00;--begun:#c3cad3}main{max-width:none;padding:0}
body{font-size:11px;print-color-adjust:exact;-webkit-print-color-adjust:exact}
.tile,tr,svg{break-inside:avoid}h2,caption{break-after:avoid}}
"""


def _pattern(name: str, size: int, shape: str) -> str:
    return f'<pattern id="t-{name}" width="{size}" height="{size}" patternUnits="userSpaceOnUse">{shape}</pattern>'


DARK, GREY = 'stroke="#000" stroke-opacity=".28"', 'stroke="#888" stroke-opacity=".38"'
PATTERNS = "".join(
    [
        "<defs>",
        _pattern("drain", 6, f'<path d="M0 6L6 0" {DARK}/>'),
        _pattern("stop", 5, f'<path d="M2 0V5" {DARK}/>'),
        _pattern("gate", 6, '<circle cx="3" cy="3" r="1" fill="#000" fill-opacity=".35"/>'),
        _pattern("canary", 8, f'<path d="M0 0L8 8" {GREY}/>'),
        _pattern("gap", 8, f'<path d="M0 8L8 0M0 0L8 8" {GREY}/>'),
        "</defs>",
    ]
)


def text(value: Any) -> str:
    """Safe as content and as attribute."""
    return html.escape("" if value is None else str(value))


def figure(value: Any, unit: str = "") -> str:
    """A number for people; a dash for none."""
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        value = f"{value:.1f}".rstrip("0").rstrip(".")
    elif isinstance(value, int) and abs(value) >= 10000:
        value = f"{value:,}".replace(",", "\u202f")
    return f"{value}{unit}"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: int = 0) -> str:
    """A table whose columns from I(numbers) on are figures. The first cell names the row."""

    def css(index: int) -> str:
        return ' class="n"' if numbers and index >= numbers else ""

    top = "".join(f'<th scope="col"{css(index)}>{text(name)}</th>' for index, name in enumerate(head))
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{text(value)}</th>' if not index else f"<td{css(index)}>{text(value)}</td>"
            for index, value in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><caption>{text(caption)}</caption><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def ink(x: float, y: float, value: Any) -> str:
    """A letter on a coloured shape."""
    return f'<text class="ink" x="{x:.1f}" y="{y:.0f}" text-anchor="middle">{text(value)}</text>'


# --- the picture ------------------------------------------------------------------------------------------------------


class Axis:
    """Where a moment is in the picture. The time without a controller between two attempts takes the same room each."""

    def __init__(self, parts: Sequence[tuple[float, float]], left: float) -> None:
        room = WIDTH - left - RIGHT - GAP * (len(parts) - 1)
        whole = sum(end - begin for begin, end in parts) or 1.0
        self.parts: list[tuple[float, float, float, float]] = []
        x = left
        for begin, end in parts:
            # Even a short attempt is wide enough to be seen.
            width = room * (0.1 / len(parts) + 0.9 * (end - begin) / whole)
            self.parts.append((begin, end, x, x + width))
            x += width + GAP
        last = self.parts[-1]
        self.parts[-1] = (*last[:3], WIDTH - RIGHT)

    def x(self, moment: float) -> float:
        """From left to right."""
        place = self.parts[0][2]
        for begin, end, first, last in self.parts:
            if moment < begin:
                return place
            place = first + (last - first) * (min(moment, end) - begin) / max(end - begin, 0.001)
        return place

    def gaps(self) -> list[tuple[float, float, float]]:
        """Where nobody was at work: from, to, seconds."""
        pairs = zip(self.parts, self.parts[1:], strict=False)
        return [(one[3], other[2], other[0] - one[1]) for one, other in pairs]

    def ticks(self) -> list[float]:
        """Moments to write below: round ones of this attempt, and the begin of each earlier one."""
        begin, end, first, last = self.parts[-1]
        room = max(2.0, (last - first) / 80)
        step = next((step for step in TICKS if (end - begin) / step <= room), TICKS[-1])
        return [part[0] for part in self.parts[:-1]] + [number * step for number in range(int(end // step) + 1)]


class Timeline:
    """One row for each host, and time from left to right."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.end = max([1.0, float(data["seconds"]), *(event["end"] for event in data["events"])])
        self.hosts = self._order()
        left = 24 + 7.3 * max((len(host) for host in self.hosts), default=0)
        self.left = min(max(left, 80.0), 260.0)
        parts = [(attempt["begin"], max(attempt["end"], attempt["begin"] + 0.5)) for attempt in data["attempts"]]
        self.axis = Axis([*parts, (0.0, self.end)], self.left)
        self.bottom = HEAD + ROW * len(self.hosts)

    def _order(self) -> list[str]:
        found = [host for attempt in self.data["attempts"] for host in attempt["spans"]]
        found += [host for batch in self.data["batches"] for host in batch["hosts"]]
        planned = self.data["plan"].get("order") or []
        return list(dict.fromkeys([*found, *planned, *self.data["hosts"]]))

    def _phases(self, host: str) -> Iterable[tuple[Mapping[str, Any], float]]:
        """Its phases in all attempts, each with its end."""
        for attempt in self.data["attempts"]:
            for span in attempt["spans"].get(host, []):
                yield span, attempt["end"] if span["end"] is None else span["end"]
        for span in (self.data["hosts"].get(host) or {}).get("spans", []):
            yield span, self.end if span["end"] is None else span["end"]

    def _bar(self, span: Mapping[str, Any], end: float, top: float) -> str:
        phase = span["phase"]
        x = self.axis.x(span["begin"])
        if phase in MARKS:
            letter, what = MARKS[phase]
            said = f"<title>{text(what)} after {clock_text(span['begin'])}</title>"
            x = min(x + 9, WIDTH - 9)
            return (
                f'<g>{said}<circle cx="{x:.1f}" cy="{top + BAR / 2}" r="8.5" fill="var(--{phase})" class="edge"/>'
                f"{ink(x, top + 13, letter)}</g>"
            )
        letter, _what = PHASES.get(phase, ("?", phase))
        width = max(self.axis.x(end) - x, 2.0)
        box = f'x="{x:.1f}" y="{top}" width="{width:.1f}" height="{BAR}"'
        said = f"{phase}: {clock_text(span['begin'])} to {clock_text(end)}, {end - span['begin']:.1f} s"
        parts = [f'<g><title>{text(said)}</title><rect {box} rx="2" fill="var(--{text(phase)})" class="edge"/>']
        if phase in ("drain", "stop", "gate"):
            parts.append(f'<rect {box} fill="url(#t-{phase})"/>')
        if width >= 13:
            parts.append(ink(x + width / 2, top + 13, letter))
        return "".join([*parts, "</g>"])

    def _batches(self) -> Iterable[str]:
        earlier = [one for attempt in self.data["attempts"] for one in attempt["batches"]]
        for index, batch in enumerate([*earlier, *self.data["batches"]]):
            end = self.end if batch["end"] is None else batch["end"]
            x, width = self.axis.x(batch["begin"]), self.axis.x(end) - self.axis.x(batch["begin"])
            name = f"batch {batch['number']}" if "number" in batch else "earlier batch"
            if index % 2 == 0:
                height = self.bottom - 4
                yield f'<rect class="band" x="{x:.1f}" y="4" width="{max(width, 1):.1f}" height="{height}"/>'
            yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{self.bottom}"/>'
            label = name if width >= 7 * len(name) + 6 else (str(batch.get("number", "")) if width >= 12 else "")
            said = f"{name}: {', '.join(batch['hosts'])}"
            yield f'<text x="{x + 4:.1f}" y="18"><title>{text(said)}</title>{text(label)}</text>'

    def _canaries(self) -> Iterable[str]:
        for canary in self.data["canaries"]:
            end = canary["at"] if canary.get("end") is None else canary["end"]
            begin = end if canary.get("begin") is None else canary["begin"]
            first, last = self.axis.x(begin), self.axis.x(end)
            sign = {"pass": "✓", "fail": "✕"}.get(str(canary.get("verdict")), "?")
            said = f"canary window {clock_text(begin)} to {clock_text(end)}: {canary.get('verdict') or 'not judged'}"
            yield (
                f'<g><title>{text(said)}</title><rect x="{first:.1f}" y="26" width="{max(last - first, 2):.1f}" '
                f'height="{self.bottom - 26}" fill="url(#t-canary)" class="canary"/></g>'
            )
            label = f"{sign} canary"
            if last - first < 8 * len(label):  # beside a narrow window
                first = last if last < WIDTH - 90 else first - 7.5 * len(label)
            yield f'<text class="small" x="{first + 4:.1f}" y="39">{label}</text>'

    def _lane(self) -> Iterable[str]:
        """Stops with their number and events with their letter, below the rows."""
        busy = self.left - 20
        marks = [(stop["at"], str(number), stop) for number, stop in enumerate(self.data["stops"], 1)]
        marks += [(event["end"], letter(number), event) for number, event in enumerate(self.data["events"])]
        for moment, name, what in sorted(marks, key=lambda mark: mark[0]):
            x = self.axis.x(moment)
            place = min(max(x, busy + 20), WIDTH - 10)
            busy = place
            y = self.bottom + 14
            stop = "reason" in what
            said = f"{what['kind']} {what['host']}: {what['reason']}" if stop else what["what"]
            css = "cut" if stop else "note"
            shape = (
                f'<circle cx="{place:.1f}" cy="{y}" r="8.5" fill="var(--failed)"/>'
                if stop
                else f'<rect x="{place - 7.5:.1f}" y="{y - 7.5}" width="15" height="15" rx="2" fill="var(--begun)"/>'
            )
            upper = 22 if stop else self.bottom - 6
            yield (
                f"<g><title>{text(said[:200])}</title>"
                f'<line class="{css}" x1="{x:.1f}" x2="{x:.1f}" y1="{upper}" y2="{self.bottom}"/>'
                f'<line class="{css}" x1="{x:.1f}" x2="{place:.1f}" y1="{self.bottom}" y2="{y - 8}"/>{shape}'
                f"{ink(place, y + 4, name)}</g>"
            )

    def summary(self) -> str:
        """The picture in words."""
        rows = []
        for host in self.hosts:
            told = [
                f"{MARKS[span['phase']][1] if span['phase'] in MARKS else span['phase']} {clock_text(span['begin'])}"
                for span, _end in self._phases(host)
                if span["phase"] != "begun"
            ]
            rows.append(f"{host}: {', '.join(told) or 'not touched'}")
        return "; ".join(rows)

    def svg(self) -> str:
        """All of it."""
        marked = bool(self.data["stops"] or self.data["events"])
        base = self.bottom + (28 if marked else 0)
        height = base + 24
        parts = [
            f'<svg class="timeline" viewBox="0 0 {WIDTH:.0f} {height}" role="img" aria-labelledby="tl-title tl-desc">'
            f'<title id="tl-title">Timeline of the roll</title><desc id="tl-desc">{text(self.summary())}</desc>',
            PATTERNS,
            *self._batches(),
        ]
        for first, last, seconds in self.axis.gaps():
            middle = (first + last) / 2
            box = f'x="{first + 4:.1f}" y="4" width="{last - first - 8:.1f}" height="{self.bottom - 4}"'
            parts.append(
                f'<rect {box} fill="url(#t-gap)"/>'
                f'<text class="small" x="{middle:.1f}" y="18" text-anchor="middle">nobody for</text>'
                f'<text class="small" x="{middle:.1f}" y="33" text-anchor="middle">{clock_text(seconds)}</text>'
            )
        for number, host in enumerate(self.hosts):
            top = HEAD + number * ROW + (ROW - BAR) / 2
            shown = host if len(host) <= 33 else host[:32] + "…"
            parts.append(
                f'<line class="grid" x1="0" x2="{WIDTH:.0f}" y1="{HEAD + number * ROW}" y2="{HEAD + number * ROW}"/>'
                f'<text x="2" y="{top + 13}"><title>{text(host)}</title>{text(shown)}</text>'
            )
        parts += self._canaries()
        for number, host in enumerate(self.hosts):
            top = HEAD + number * ROW + (ROW - BAR) / 2
            parts += [self._bar(span, end, top) for span, end in self._phases(host)]
        parts.append(f'<line class="grid" x1="0" x2="{WIDTH:.0f}" y1="{self.bottom}" y2="{self.bottom}"/>')
        parts += self._lane()
        for tick in self.axis.ticks():
            x = self.axis.x(tick)
            anchor = "middle" if x < WIDTH - 30 else "end"
            parts.append(
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 5}"/>'
                f'<text class="small" x="{x:.1f}" y="{base + 18}" text-anchor="{anchor}">{clock_text(tick)}</text>'
            )
        return "".join([*parts, "</svg>"])


def letter(number: int) -> str:
    """a to z, then aa."""
    return chr(97 + number) if number < 26 else letter(number // 26 - 1) + letter(number % 26)


def legend(data: Mapping[str, Any]) -> str:
    """What letters, colours and signs mean, of those that are there."""
    rows = [spans for attempt in data["attempts"] for spans in attempt["spans"].values()]
    rows += [host["spans"] for host in data["hosts"].values()]
    there = {span["phase"] for spans in rows for span in spans}
    items = []
    for phase, (sign, what) in PHASES.items():
        if phase not in there:
            continue
        box = 'x="1" y="1" width="24" height="16" rx="2"'
        over = f'<rect {box} fill="url(#t-{phase})"/>' if phase in ("drain", "stop", "gate") else ""
        items.append(
            f'<svg viewBox="0 0 26 18" aria-hidden="true"><rect {box} fill="var(--{phase})"/>{over}'
            f"{ink(13, 13, sign)}</svg>{text(what)}"
        )
    for phase, (sign, what) in MARKS.items():
        if phase not in there:
            continue
        items.append(
            f'<svg viewBox="0 0 26 18" aria-hidden="true"><circle cx="13" cy="9" r="8.5" fill="var(--{phase})"/>'
            f"{ink(13, 13, sign)}</svg>{text(what)}"
        )
    return '<ul class="legend">' + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


# --- the rest of the page ---------------------------------------------------------------------------------------------


def share(part: int, whole: int) -> str:
    """A count with its share; for none, below which share it is with 95 % certainty."""
    if not whole:
        return figure(part)
    if not part:
        return f"0 (below {300 / whole:.2g} %)"
    return f"{figure(part)} ({100 * part / whole:.2g} %)"


def bound(span: Mapping[str, Any]) -> str:
    """What a count of failures means as a share."""
    said = share(span["failed"], span["requests"]).partition(" (")[2].rstrip(")")
    return f", {said}" if said else ""


def by_name(data: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The spans of the traffic."""
    return {span["name"]: span for span in data["traffic"]["spans"]}


def tiles(data: Mapping[str, Any]) -> str:
    """The figures one looks for first."""
    hosts = data["hosts"].values()
    done = sum(host["phase"] == "enabled" for host in hosts)
    found = [("hosts done", f"{done} of {len(hosts)}")]
    guess = data["estimated_seconds"]
    found.append((f"took; estimated {clock_text(guess)}", clock_text(data["seconds"])))
    spans = by_name(data)
    during = spans.get("during")
    if during:
        three = [spans.get(name, {}).get("latency_ms", {}).get("p99") for name in ("before", "during", "after")]
        found += [
            ("requests during the roll", figure(during["requests"])),
            (f"failed for their clients{bound(during)}", figure(during["failed"])),
            (
                "retried requests recovered",
                f"{figure(during['recovered'])} of {figure(during['retried'])}",
            )
            if during["retried"]
            else ("requests had to be retried", "0"),
            ("p99 in ms before → during → after", " → ".join(figure(value) for value in three)),
        ]
    elif data["probes"]:
        probe = data["probes"][-1]
        found.append(("requests of the probe", figure(probe.get("n"))))
        found.append(("of these failed", share(int(probe.get("failed") or 0), int(probe.get("n") or 0))))
    cells = "".join(f'<div class="tile"><b>{text(value)}</b><span>{text(name)}</span></div>' for name, value in found)
    return f'<div class="tiles">{cells}</div>'


def stops(data: Mapping[str, Any]) -> str:
    """Every stop with its reason."""
    parts = []
    if data["taken_up"]:
        found = data["taken_up"]
        middle = ", ".join(f"{host} in phase {phase}" for host, phase in (found.get("interrupted") or {}).items())
        parts.append(
            f"<p>This roll was taken up {clock_text(found.get('idle_seconds'))} after the last step of run "
            f"{text(found.get('run_id'))}: {text(found.get('reason'))}."
            + (f" It left {text(middle)}." if middle else "")
            + "</p>"
        )
    if data["stops"]:
        items = "".join(
            f"<li><strong>{clock_text(stop['at'])} {text(stop['host'])} {text(stop['kind'])}</strong>: "
            f"{text(stop['reason'])}</li>"
            for stop in data["stops"]
        )
        parts.append(f"<ol>{items}</ol>")
    if not parts:
        return ""
    head = "What went wrong on the way" if data["verdict"] == "finished" else "Why it stopped"
    return f"<h2>{head if data['stops'] else 'Taken up'}</h2>{''.join(parts)}"


def hosts_table(data: Mapping[str, Any]) -> str:
    """What each phase of each host took."""
    known = data["estimated_phases"]
    there = {phase for host in data["hosts"].values() for phase in host["timings"]} | set(known)
    phases = [phase for phase in ("drain", "stop", "start", "gate", "total") if phase in there]
    rows = []
    for name, host in data["hosts"].items():
        state = f"{host['phase'] or '–'}{', done before' if host['done_before'] else ''}".replace("_", " ")
        rows.append([name, figure(host["batch"]), state, *(figure(host["timings"].get(phase)) for phase in phases)])
    if known:
        rows.append(["earlier rolls (median)", "", "", *(figure(known.get(phase)) for phase in phases)])
    return table("Seconds that each phase took", ["host", "batch", "state", *phases], rows, 3)


def batches_table(data: Mapping[str, Any]) -> str:
    """When each batch was, and who served meanwhile."""
    rows = []
    for batch in data["batches"]:
        took = None if batch["end"] is None else batch["end"] - batch["begin"]
        rows.append(
            [
                batch["number"],
                ", ".join(batch["hosts"]),
                clock_text(batch["begin"]),
                clock_text(took) if took is not None else "not ended",
                clock_text(batch["estimated"]),
                figure(batch["serving"]),
            ]
        )
    return table("Batches", ["batch", "hosts", "begun after", "took", "estimated", "others that serve"], rows, 2)


def latencies(part: Mapping[str, Any] | None) -> list[str]:
    """p50, p95 and p99."""
    times = (part or {}).get("latency_ms") or {}
    return [figure(times.get(name)) for name in QUANTILES]


def traffic(data: Mapping[str, Any]) -> str:
    """What clients got."""
    spans = data["traffic"]["spans"]
    if not spans:
        return ""
    head = [
        "time",
        "requests",
        "failed",
        "never reached a backend",
        "retried",
        "recovered",
        *MILLISECONDS,
    ]
    rows = [
        [
            span["name"],
            figure(span["requests"]),
            share(span["failed"], span["requests"]),
            figure(span["unserved"]),
            figure(span["retried"]),
            figure(span["recovered"]),
            *latencies(span),
        ]
        for span in spans
    ]
    caption = f"From the access logs of {', '.join(data['traffic']['load_balancers'])}, without health checks"
    parts = ["<h2>What clients got</h2>", table(caption, head, rows, 1)]
    during = by_name(data).get("during")
    if during and during["backends"]:
        rows = [
            [name, figure(one["attempts"]), share(one["errors"], one["attempts"])]
            for name, one in during["backends"].items()
        ]
        parts.append(
            table(
                "Attempts on each backend during the roll, retries included", ["backend", "attempts", "errors"], rows, 1
            )
        )
    return "".join(parts)


def canary(one: Mapping[str, Any]) -> str:
    """One comparison."""
    verdict = str(one.get("verdict") or "not judged")
    sign, css = {"pass": ("✓", "good"), "fail": ("✕", "bad")}.get(verdict, ("?", "warn"))
    parts = [
        f'<h2>Canary</h2><p><span class="badge {css}">{sign} {text(verdict)}</span> {text(one.get("reason"))}</p>',
    ]
    arms = {f"{side} instances": arm for side in ("new", "old") if isinstance(arm := one.get(side), Mapping)}
    if arms:
        rows = []
        for side, arm in arms.items():
            count = int(arm.get("requests") or 0)
            rows.append([side, figure(count), share(int(arm.get("errors") or 0), count), *latencies(arm)])
        parts.append(table("What both sides did at the same time", ["", "requests", "errors", *MILLISECONDS], rows, 1))
    tests = []
    for test in one.get("tests") or []:
        errors = test["metric"] == "errors"
        values = [f"{test[side] or 0:.2%}" if errors else figure(test[side], " ms") for side in ("new", "old")]
        result = "worse" if test["failed"] else ("not worse" if test["able"] else "too few requests")
        tests.append(
            [test["metric"], test["method"], *values, f"{test['p_value']:.2g}", f"{test['alpha']:.2g}", result]
        )
    if tests:
        parts.append(table("Tests", ["metric", "method", "new", "old", "p", "limit", "result"], tests, 2))
    return "".join(parts)


def probe(one: Mapping[str, Any]) -> str:
    """What a load generator saw."""
    windows = one.get("windows")
    rows = []
    for name, part in {"all": one, **(windows if isinstance(windows, Mapping) else {})}.items():
        if isinstance(part, Mapping):
            count = int(part.get("n") or 0)
            rows.append([name, figure(count), share(int(part.get("failed") or 0), count), *latencies(part)])
    parts = [
        "<h2>Load generator</h2>",
        table("What the probe got, from outside", ["time", "requests", "failed", *MILLISECONDS], rows, 1),
    ]
    if one.get("doubts"):
        items = "".join(f"<li>{text(doubt)}</li>" for doubt in one["doubts"])
        parts.append(f'<p class="warn">Do not trust these figures:</p><ul>{items}</ul>')
    if one.get("lines"):
        said = text("\n".join(map(str, one["lines"])))
        parts.append(f"<pre>{said}</pre>")
    return "".join(parts)


def events(data: Mapping[str, Any]) -> str:
    """Steps of the roll as a whole."""
    if not data["events"]:
        return ""
    rows = [
        [letter(number), clock_text(one["begin"]), f"{one['end'] - one['begin']:.1f}", one["what"]]
        for number, one in enumerate(data["events"])
    ]
    return "<h2>Steps of the whole</h2>" + table("Not of one host", ["", "begun after", "seconds", "what"], rows)


def page(data: Mapping[str, Any]) -> str:
    """All of it."""
    verdict = data["verdict"]
    sign, css = {
        "finished": ("✓", "good"),
        "running": ("…", "warn"),
        "interrupted": ("!", "warn"),
        "rolled back": ("↩", "bad"),
    }.get(verdict, ("✕", "bad"))
    title = f"{str(data['operation'] or 'roll').replace('_', ' ').capitalize()} to {data['digest']}"
    begun = str(data["begun"])[:19].replace("T", " ")
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}: {text(verdict)}</title><style>{STYLE}</style></head><body><main>",
        f'<h1>{text(title)} <span class="badge {css}">{sign} {text(verdict)}</span></h1>',
        f'<p class="soft">Run {text(data["run_id"])} by {text(data["who"])}, begun {text(begun)} UTC</p>',
        tiles(data),
        stops(data),
        "<h2>Timeline</h2>",
        f'<div class="scroll">{Timeline(data).svg()}</div>{legend(data)}',
        "<h2>Hosts and batches</h2>",
        hosts_table(data),
        batches_table(data),
        events(data),
        traffic(data),
        *map(canary, data["canaries"]),
        *map(probe, data["probes"]),
    ]
    return "".join([*parts, "</main></body></html>\n"])
