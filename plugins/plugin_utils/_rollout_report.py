# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection: it may change or vanish in any release.

"""What happened in a roll: as lines while it runs, and as data afterwards. The page is made from the same data.

All times in here are seconds since the plan was made, by the clock of the controller. Those of earlier attempts of the
same roll are negative. Moments that other hosts give are moved by the difference of the clocks at the plan.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _nginx_traffic

SCHEMA = 1
ENDED = ("enabled", "failed", "rolled_back", "lost")
ORDER = ("drain", "stop", "start", "gate")
BROKEN = ("failed", "rolled back")
REASON_LIMIT = 2000
LINE_LIMIT = 300
NAME_LIMIT = 24
# Of what canary_gate and request_probe return, what a report tells.
CANARY_KEPT = (
    "verdict",
    "reason",
    "new",
    "old",
    "tests",
    "looks",
    "requests_seen",
    "requests_exposed",
    "requests_both",
    "attempts_elsewhere",
    "lines_unreadable",
    "detectable_error_ratio",
)
PROBE_KEPT = (
    "run",
    "seconds",
    "state",
    "n",
    "failed",
    "classes",
    "bound",
    "latency_ms",
    "reconnected",
    "windows",
    "executions",
    "trusted",
    "doubts",
    "lines",
)
HIDDEN = "***"
# Who and what stands in an address: scheme://user:password@host
IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+(?=@)")
# password=..., "token": "...", Authorization: Bearer ...
IN_FIELD = re.compile(
    r"""(?ix)
    (?P<name> \w* (?: password | passwd | passphrase | secret | token | api[_-]?key | authorization ) \w*
        ["']? \s* [:=] \s* (?: (?: bearer | basic ) \s+ )? )
    (?: "[^"]*" | '[^']*' | [^\s,;}\]"']+ )"""
)


def redact(text: str) -> str:
    """The text without what looks like a secret. A second line of defence: results of C(no_log) never come here."""
    return IN_FIELD.sub(rf"\g<name>{HIDDEN}", IN_ADDRESS.sub(HIDDEN, text))


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """For a terminal: no line breaks, no control characters, not too long."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def _bare(text: str) -> str:
    return " ".join(text.split()).rstrip(".").lower()


def clock_text(seconds: float | None) -> str:
    """Minutes and seconds, and hours if there are any."""
    if seconds is None:
        return "?"
    whole = int(abs(seconds) + 0.5)
    sign = "-" if seconds < 0 and whole else ""
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{sign}{minutes}:{rest:02d}"
    return f"{sign}{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def epoch(text: Any) -> float | None:
    """Seconds since the epoch of a moment in ISO 8601."""
    try:
        return datetime.datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


@dataclasses.dataclass
class Span:
    """One phase of one host."""

    phase: str
    begin: float
    end: float | None = None


@dataclasses.dataclass
class Batch:
    """Hosts that are changed together."""

    hosts: list[str]
    begin: float
    end: float | None = None
    serving: int | None = None
    estimated: float | None = None


@dataclasses.dataclass
class Stop:
    """Why something did not go on."""

    at: float
    kind: str
    host: str
    reason: str


@dataclasses.dataclass
class Attempt:
    """An earlier attempt of the same roll, as far as it came."""

    run_id: str
    who: str
    begin: float
    end: float
    spans: dict[str, list[Span]]
    batches: list[Batch]


@dataclasses.dataclass
class Report:
    """One roll as the controller saw it."""

    begun: float | None = None
    now: float = 0.0
    over: bool = False
    took: float | None = None
    run_id: str | None = None
    status: str = "none"
    plan: dict[str, Any] = dataclasses.field(default_factory=dict)
    wanted: dict[str, Any] = dataclasses.field(default_factory=dict)
    breaker: dict[str, Any] = dataclasses.field(default_factory=dict)
    phases: dict[str, str] = dataclasses.field(default_factory=dict)
    timings: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    spans: dict[str, list[Span]] = dataclasses.field(default_factory=dict)
    batches: list[Batch] = dataclasses.field(default_factory=list)
    stops: list[Stop] = dataclasses.field(default_factory=list)
    attempts: list[Attempt] = dataclasses.field(default_factory=list)
    events: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    canaries: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    probes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    _traffic: dict[str, dict[str, Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    _window: tuple[float | None, float | None] | None = None
    _clock: float | None = None
    _width: int = 10

    # --- time -----------------------------------------------------------------------------------------------------

    def _at(self, moment: float) -> float:
        self.now = round(moment - (self.begun or moment), 3)
        return self.now

    def _moved(self, value: Any) -> float | None:
        """A moment of another host's clock as seconds since the plan."""
        found = float(value) if isinstance(value, (int, float)) else epoch(value)
        origin = self._clock if self._clock is not None else self.begun
        return None if found is None or origin is None else round(found - origin, 3)

    @property
    def estimated(self) -> float | None:
        """What the plan said that all of it will take."""
        value = self.plan.get("estimated_seconds")
        return float(value) if isinstance(value, (int, float)) else None

    def _estimated_batch(self, index: int) -> float | None:
        """From earlier rolls, and from the batches of this one as they are done."""
        known = self.plan.get("estimated_batches") or []
        value = known[index] if index < len(known) else None
        done = [batch.end - batch.begin for batch in self.batches if batch.end is not None]
        # The first batch may hold a canary's window.
        own = done[1:] or (done if value is None else [])
        values = [*([] if value is None else [float(value)]), *([sum(own) / len(own)] if own else [])]
        return sum(values) / len(values) if values else None

    def _left_of_host(self, host: str) -> float | None:
        """By what each phase took in earlier rolls."""
        known = self.plan.get("estimated_phases") or {}
        spans = self.spans.get(host) or []
        if not spans or not known:
            return None
        last = spans[-1]
        if last.phase in ENDED:
            return 0.0
        later = ORDER[ORDER.index(last.phase) + 1 :] if last.phase in ORDER else ORDER
        current = max(0.0, float(known.get(last.phase, 0.0)) - (self.now - last.begin))
        return current + sum(float(known.get(phase, 0.0)) for phase in later)

    @property
    def left(self) -> float | None:
        """Seconds until the end, as far as anybody can know."""
        if self.over or self.status == "finished":
            return 0.0
        if self.begun is None:
            return None
        planned = len(self.plan.get("batches") or [])
        total = 0.0
        current = self.batches[-1] if self.batches and self.batches[-1].end is None else None
        if current is not None:
            guesses = [self._left_of_host(host) for host in current.hosts]
            if current.estimated is not None:
                guesses.append(max(0.0, current.estimated - (self.now - current.begin)))
            found = [guess for guess in guesses if guess is not None]
            if not found:
                return None
            total = max(found)
        for index in range(len(self.batches), planned):
            guess = self._estimated_batch(index)
            if guess is None:
                return None
            total += guess
        return total

    # --- lines ----------------------------------------------------------------------------------------------------

    def line(self, who: str, what: str, step: str = "") -> str:
        """One line of progress: elapsed, left, who, what."""
        name = who if len(who) <= NAME_LIMIT else who[: NAME_LIMIT - 1] + "…"
        left = "" if self.over else f"left {clock_text(self.left):>6}"
        shown = f"{step:<11}  " if step else ""
        return f"ROLL {clock_text(self.now):>6}  {left:<11}  {name:<{self._width}}  {shown}{one_line(what)}".rstrip()

    def _plan_lines(self) -> str:
        plan = self.plan
        batches = plan.get("batches") or []
        count = sum(len(batch["hosts"]) for batch in batches)
        guess = f"about {clock_text(self.estimated)}" if self.estimated is not None else "no earlier roll to go by"
        lines = [
            self.line(
                "plan",
                f"{self.wanted.get('operation')} to {self.wanted.get('digest')}: {count} hosts in "
                f"{len(batches)} batches, {guess}",
            )
        ]
        for batch in batches:
            serve = f"{batch['serving_during']} of {batch['serving_before']} serve meanwhile"
            lines.append(self.line(f"batch {batch['number']}/{len(batches)}", f"{', '.join(batch['hosts'])}; {serve}"))
        if plan.get("taken_up"):
            lines.append(self.line("taken up", self.taken_up_text()))
        if plan.get("skipped"):
            lines.append(self.line("done before", ", ".join(plan["skipped"])))
        return "\n".join(lines)

    def taken_up_text(self) -> str:
        """Why an earlier attempt ended, for people."""
        found = self.plan["taken_up"]
        middle = ", ".join(f"{host} was in {phase}" for host, phase in (found.get("interrupted") or {}).items())
        return redact(
            f"after {clock_text(found.get('idle_seconds'))} without a step: {found.get('reason')}"
            + (f"; {middle}" if middle else "")
        )

    # --- what happens ---------------------------------------------------------------------------------------------

    def state(self, moment: float, arguments: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
        """Take a result of C(rollout_state); the line to show for it."""
        kind = str(arguments.get("state"))
        if kind == "plan" and "plan" in result:
            self._begin(moment, arguments, result)
        now = self._at(moment)
        for name in ("run_id", "status", "breaker", "phases", "timings"):
            if name in result:
                setattr(self, name, result[name])
        if result.get("failed"):
            return self.stop(moment, "refused", str(arguments.get("host") or ""), str(result.get("msg", "")))
        if kind == "plan":
            return self._plan_lines()
        if kind == "begin_batch":
            return self._begin_batch(now, arguments, result)
        if kind == "record":
            return self._record(moment, arguments)
        if kind == "open":
            return self.stop(moment, "breaker opened", str(arguments.get("host") or ""), str(arguments.get("reason")))
        if kind == "finish":
            return self._finish(now)
        return self.line(kind, str(arguments.get("reason") or ""))

    def _begin(self, moment: float, arguments: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        self.begun = moment
        self.plan = dict(result["plan"])
        self._clock = epoch(self.plan.get("now"))
        self.wanted = {name: arguments.get(name) for name in ("operation", "digest", "minimum", "who")}
        names = [*(self.plan.get("order") or []), *(self.plan.get("skipped") or [])]
        self._width = min(NAME_LIMIT, max([len("done before"), *map(len, names)]))
        for attempt in self.plan.pop("attempts", None) or []:
            self._add_attempt(attempt)

    def _add_attempt(self, plain: Mapping[str, Any]) -> None:
        begin, end = self._moved(plain.get("began")), self._moved(plain.get("last_step"))
        if begin is None or end is None:
            return
        end = max(begin, min(end, 0.0))
        spans: dict[str, list[Span]] = {}
        for host, trail in (plain.get("trails") or {}).items():
            for phase, when in trail:
                self._enter(spans.setdefault(host, []), phase, min(self._moved(when) or 0.0, end))
            if spans[host][-1].end is None:
                spans[host][-1].end = end
        batches = [
            Batch(
                list(batch["hosts"]), self._moved(batch["began"]) or begin, self._moved(batch["ended"] or None) or end
            )
            for batch in plain.get("log") or []
        ]
        self.attempts.append(Attempt(str(plain.get("run_id")), str(plain.get("who")), begin, end, spans, batches))

    def _begin_batch(self, now: float, arguments: Mapping[str, Any], result: Mapping[str, Any]) -> str:
        hosts = [str(host) for host in arguments.get("hosts") or []]
        if not self.batches or self.batches[-1].hosts != hosts:
            self._end_batch(now)
            guess = self._estimated_batch(len(self.batches))
            self.batches.append(Batch(hosts, now, None, result.get("serving_during"), guess))
            for host in hosts:
                self._enter(self.spans.setdefault(host, []), "begun", now)
        count = max(len(self.batches), len(self.plan.get("batches") or []))
        return self.line(
            f"batch {len(self.batches)}/{count}", f"{', '.join(hosts)}; {result.get('serving_during')} others serve"
        )

    def _end_batch(self, now: float) -> None:
        if self.batches and self.batches[-1].end is None:
            self.batches[-1].end = now

    @staticmethod
    def _enter(spans: list[Span], phase: str, now: float) -> bool:
        if spans and spans[-1].phase == phase:
            return False
        if spans and spans[-1].end is None:
            spans[-1].end = now
        spans.append(Span(phase, now, now if phase in ENDED else None))
        return True

    def _record(self, moment: float, arguments: Mapping[str, Any]) -> str | None:
        host, phase = str(arguments.get("host")), str(arguments.get("phase"))
        spans = self.spans.setdefault(host, [])
        before = spans[-1] if spans else None
        if not self._enter(spans, phase, self.now):
            return None
        said = []
        if before and before.phase in ORDER and before.end is not None:
            said.append(f"{before.phase} took {clock_text(before.end - before.begin)}")
        known = self.plan.get("estimated_phases") or {}
        if phase in ORDER and phase in known:
            said.append(f"about {clock_text(known[phase])}")
        if phase == "enabled":
            working = [span.begin for span in spans if span.phase in ORDER]
            whole = f"{clock_text(self.now - min(working, default=self.now))} in all"
            said.append(whole + (f", earlier ones {clock_text(known['total'])}" if "total" in known else ""))
        shown = self.line(host, "; ".join(said), phase.replace("_", " "))
        if phase in ("failed", "rolled_back"):
            reason = str(arguments.get("reason") or "no reason given")
            stopped = self.stop(moment, phase.replace("_", " "), host, reason)
            return "\n".join(part for part in (shown, stopped) if part)
        return shown

    def _finish(self, now: float) -> str:
        self._end_batch(now)
        self.took = now
        return self.line(self.status, f"took {self.took_text()}")

    def took_text(self) -> str:
        """How long it took, and how well that was known before."""
        took = self.now if self.took is None else self.took
        if self.estimated is None:
            return f"{clock_text(took)}, no earlier roll to compare with"
        text = f"{clock_text(took)}, estimated {clock_text(self.estimated)}"
        if not self.estimated or self.took is None:
            return text
        share = round(100 * (took - self.estimated) / self.estimated)
        return f"{text} ({abs(share)} % {'more' if share > 0 else 'less'})" if share else text

    def stop(self, moment: float, kind: str, host: str, reason: str) -> str | None:
        """Something stopped the roll; the line for it, unless it only says again what was said."""
        text = redact(reason)[:REASON_LIMIT] or "no reason given"
        now = self._at(moment)
        for known in self.stops:
            short, long = sorted((_bare(known.reason), _bare(text)), key=len)
            # What only says again what another one has said: a rescue, the end of the play, a guard of the next batch.
            same = known.host == host or known.kind == "canary" or kind in ("refused", "breaker opened")
            if same and short in long:
                if known.kind == "task failed" and kind in BROKEN:
                    known.kind = kind
                return None
        self.stops.append(Stop(now, kind, host, text))
        if kind == "unreachable" and host in self.spans:
            self._enter(self.spans[host], "lost", now)
        return self.line("STOP", f"{host} {kind}: {text}".strip())

    def canary(self, moment: float, result: Mapping[str, Any]) -> str | None:
        """Take a result of C(canary_gate). One that only collects is no verdict."""
        now = self._at(moment)
        begin, end = self._moved(result.get("start")), self._moved(result.get("end"))
        if not result.get("verdict") and not result.get("failed"):
            # What is collected on each load balancer has the true window; what judges the sum comes later.
            self._window = (begin, end)
            return None
        if self.begun is None:
            return None
        if self._window is not None:
            (begin, end), self._window = self._window, None
        kept = {name: result[name] for name in CANARY_KEPT if name in result}
        kept["reason"] = redact(str(result.get("reason", "")))[:REASON_LIMIT]
        look = {"at": now, "batch": len(self.batches), "begin": begin, "end": end, **kept}
        # A later look at the same batch knows more. It takes the place of the one before, but for the begin.
        if self.canaries and self.canaries[-1]["batch"] == look["batch"]:
            first = self.canaries.pop()["begin"]
            look["begin"] = begin if first is None or begin is None else min(first, begin)
        self.canaries.append(look)
        shown = self.line("canary", f"{result.get('verdict') or 'not judged'}: {kept['reason']}")
        if result.get("failed") or result.get("verdict") == "fail":
            self.stop(moment, "canary", "", kept["reason"] or str(result.get("msg", "")))
        return shown

    def probe(self, moment: float, result: Mapping[str, Any]) -> None:
        """Take the figures of C(request_probe), if this result has some."""
        figures = result.get("report")
        if isinstance(figures, Mapping) and self.begun is not None:
            kept = {name: figures[name] for name in PROBE_KEPT if name in figures}
            self.probes.append({"at": self._at(moment), **kept})

    def traffic(self, moment: float, host: str, result: Mapping[str, Any]) -> None:
        """Take the figures of C(nginx_traffic_info) from one load balancer. Later ones of a span take its place."""
        if self.begun is None:
            return
        self._at(moment)
        for span in result.get("spans") or []:
            self._traffic.setdefault(host, {})[str(span["name"])] = span

    def event(self, begin: float, moment: float, what: str) -> str | None:
        """A step of the roll as a whole, such as a dump or a maintenance page."""
        if self.begun is None:
            return None
        now = self._at(moment)
        text = redact(what)
        self.events.append({"begin": round(max(begin - self.begun, 0.0), 3), "end": now, "what": text})
        return self.line("all", text)

    def end(self, moment: float) -> str | None:
        """The playbook is over; the line for a roll that did not come to its end."""
        if self.begun is None:
            return None
        self.over = True
        if self.status == "finished":
            return None
        self._at(moment)
        self._end_batch(self.now)
        return self.line(self.verdict, f"after {self.took_text()}")

    # --- data -----------------------------------------------------------------------------------------------------

    @property
    def worth_keeping(self) -> bool:
        """Whether a roll was really tried."""
        return self.begun is not None and self.run_id not in (None, "check")

    @property
    def verdict(self) -> str:
        """How it ended, in one word or two."""
        if self.status == "finished":
            return "finished"
        if self.stops or self.status == "stopped":
            return "rolled back" if "rolled_back" in self.phases.values() else "stopped"
        return "interrupted" if self.over else "running"

    @property
    def balancers(self) -> list[str]:
        """Load balancers whose figures are in."""
        return sorted(self._traffic)

    def traffic_spans(self) -> list[dict[str, Any]]:
        """The figures of all load balancers together."""
        merged = _nginx_traffic.merge([list(spans.values()) for spans in self._traffic.values()])
        for row in merged:
            row.pop("times_ms")
            row["begin"], row["end"] = self._moved(row["since"]), self._moved(row["until"])
        return merged

    def _hosts(self) -> dict[str, dict[str, Any]]:
        names = dict.fromkeys([*self.phases, *self.spans])
        numbers = {host: number for number, batch in enumerate(self.batches, 1) for host in batch.hosts}
        return {
            name: {
                "phase": self.phases.get(name),
                "batch": numbers.get(name),
                "done_before": name in (self.plan.get("skipped") or []),
                "timings": self.timings.get(name, {}),
                "spans": _plain(self.spans.get(name, [])),
            }
            for name in names
        }

    def data(self) -> dict[str, Any]:
        """All of it, as it is kept."""
        return {
            "schema": SCHEMA,
            "run_id": self.run_id,
            **{name: self.wanted.get(name) for name in ("operation", "digest", "who", "minimum")},
            "verdict": self.verdict,
            "status": self.status,
            "begun": datetime.datetime.fromtimestamp(self.begun or 0, datetime.UTC).isoformat(timespec="milliseconds"),
            "seconds": self.now if self.took is None else self.took,
            "estimated_seconds": self.estimated,
            "estimated_phases": self.plan.get("estimated_phases") or {},
            "plan": {name: self.plan.get(name) for name in ("order", "batches", "skipped", "interrupted", "broken")},
            "taken_up": self.plan.get("taken_up"),
            "attempts": _plain(self.attempts),
            "batches": [{"number": number, **row} for number, row in enumerate(_plain(self.batches), 1)],
            "hosts": self._hosts(),
            "stops": _plain(self.stops),
            "breaker": {
                name: redact(value) if isinstance(value, str) else value for name, value in self.breaker.items()
            },
            "events": self.events,
            "canaries": self.canaries,
            "traffic": {"load_balancers": self.balancers, "spans": self.traffic_spans()},
            "probes": self.probes,
        }

    def to_json(self) -> str:
        """The file of data."""
        return json.dumps(self.data(), indent=2, ensure_ascii=False, default=str) + "\n"


def _plain(things: Iterable[Any] | Sequence[Any]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(thing) for thing in things]
