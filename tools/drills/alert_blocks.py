"""Series for alerts that no fault in a lab can cause: those of the alert's own rule test, as blocks that end now."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.drills.alert_rules import duration
from tools.drills.core import ROOT, DrillError

# A range that is asked for may have 11000 points.
POINTS = 8000
TESTS = ROOT / "tests/rules"
NUMBER = r"[-+]?(?:\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\.\d+|[iI]nf|NaN)"
REPEATED = re.compile(rf"(?P<start>{NUMBER})(?:(?P<step>[-+](?:\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\.\d+)))?x(?P<count>\d+)")
LABEL = re.compile(r"""([a-zA-Z_]\w*)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
MISSING = re.compile(r"_(?:x(?P<count>\d+))?")


class Stale:
    """The mark that a series has ended. A block cannot carry it; the series just stops there."""


def expand(text: str) -> list[float | None | type[Stale]]:
    """The samples of one series of a rule test. None: there is none at that time."""
    found: list[float | None | type[Stale]] = []
    for word in text.split():
        if match := MISSING.fullmatch(word):
            found += [None] * int(match["count"] or 1)
        elif word == "stale":
            found.append(Stale)
        elif match := REPEATED.fullmatch(word):
            start, step = float(match["start"]), float(match["step"] or 0)
            # "1+1x2" is one value and two steps, "1x2" is one value and two more.
            found += [start + step * number for number in range(int(match["count"]) + 1)]
        elif re.fullmatch(NUMBER, word):
            found.append(float(word))
        else:
            raise DrillError(f"{word!r} is no sample of a rule test")
    return found


def prolonged(values: list[float | None | type[Stale]], wanted: int) -> list[float | None | type[Stale]]:
    """The same samples and as many more as are wanted, at the pace of the last two; what has ended stays ended."""
    if len(values) >= wanted or not values or not isinstance(values[-1], float):
        return values
    before = values[-2] if len(values) > 1 else None
    step = values[-1] - before if isinstance(before, float) else 0.0
    return values + [values[-1] + step * number for number in range(1, wanted - len(values) + 1)]


@dataclass(frozen=True)
class Story:
    """The case of an alert's rule test in which it fires."""

    alert: str
    series: Mapping[str, str]
    interval: float
    at: float
    # The labels of each alert that fires then.
    fires: tuple[Mapping[str, str], ...]

    @property
    def pace(self) -> float:
        """Seconds between two looks of the recording rules: promtool looks at moments of its own choice, so often."""
        return max(15.0, self.at / POINTS)

    def samples(self, now: float, tail: float = 0.0) -> Iterator[tuple[str, float, float]]:
        """Series, value and time of each sample, such that the moment of the test is now.

        The tail goes on after it, as the test does or, where that ends, as it went at last; else the alert would be
        over before anybody is told.
        """
        began = now - self.at
        last = math.floor((self.at + tail) / self.interval + 1e-6)
        for name, text in self.series.items():
            for number, value in enumerate(prolonged(expand(text), last + 1)[: last + 1]):
                if isinstance(value, float):
                    yield name, value, began + number * self.interval


def series_text(name: str) -> str:
    """A series as OpenMetrics writes it: no blanks, double quotes."""
    metric, _, rest = name.partition("{")
    pairs = []
    for label, value in LABEL.findall(rest):
        inner = value[1:-1] if value[0] == '"' else value[1:-1].replace('"', r"\"")
        pairs.append(f'{label}="{inner}"')
    return f"{metric.strip()}{{{','.join(pairs)}}}" if pairs else metric.strip()


def number_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def open_metrics(samples: Iterable[tuple[str, float, float]]) -> Iterator[str]:
    """The lines of a file that promtool makes blocks of."""
    for name, value, moment in samples:
        yield f"{series_text(name)} {number_text(value)} {moment:.3f}"
    yield "# EOF"


def stories(paths: Iterable[Path]) -> dict[str, Story]:
    """For each alert the first case of the rule tests in which it fires."""
    found: dict[str, Story] = {}
    for path in paths:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        default = content.get("evaluation_interval", "1m")
        for test in content.get("tests") or []:
            series = {row["series"]: str(row["values"]) for row in test.get("input_series") or []}
            for case in test.get("alert_rule_test") or []:
                expected = case.get("exp_alerts") or []
                if not expected or case["alertname"] in found:
                    continue
                found[case["alertname"]] = Story(
                    alert=case["alertname"],
                    series=series,
                    interval=duration(test.get("interval", default)),
                    at=duration(case["eval_time"]),
                    fires=tuple(dict(row.get("exp_labels") or {}) for row in expected),
                )
    return found


def read_stories(folder: Path = TESTS) -> dict[str, Story]:
    return stories(sorted(folder.rglob("*.yml")))


# --- the second Prometheus -------------------------------------------------------------------------------------------


WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def words(rule: Mapping[str, Any]) -> set[str]:
    """What a rule may read."""
    return set(WORD.findall(str(rule["expr"])))


def groups_for(contents: Iterable[Mapping[str, Any]], alert: str, given: Iterable[str]) -> list[dict[str, Any]]:
    """Groups with one alert that does not wait, and with what records the series that it reads and nobody gives."""
    every = [group for content in contents for group in content.get("groups") or []]
    records = {rule["record"]: rule for group in every for rule in group["rules"] if "record" in rule}
    wanted: set[str] = set()
    due = {word for group in every for rule in group["rules"] if rule.get("alert") == alert for word in words(rule)}
    while due := (due & set(records)) - wanted - set(given):
        wanted |= due
        due = {word for name in due for word in words(records[name])}
    found = []
    for group in every:
        kept = [
            {key: value for key, value in rule.items() if key not in ("for", "keep_firing_for")}
            for rule in group["rules"]
            if rule.get("record") in wanted or rule.get("alert") == alert
        ]
        if kept:
            found.append({**group, "rules": kept, "interval": "5s"})
    return found


def configuration(real: Mapping[str, Any], rules: str, label: str = "simulated") -> dict[str, Any]:
    """That of a second Prometheus: no targets, rules of its own, the way to Alertmanager of the real one."""
    alerting = real.get("alerting")
    if not alerting:
        raise DrillError("the configuration of Prometheus names no Alertmanager")
    external = {**(real.get("global") or {}).get("external_labels", {}), label: "true"}
    return {
        "global": {"evaluation_interval": "5s", "external_labels": external},
        "alerting": alerting,
        "rule_files": [rules],
        # The blocks reach into the future; what the rules record now is older than that.
        "storage": {"tsdb": {"out_of_order_time_window": "1h"}},
        "scrape_configs": [],
    }


def layer(groups: Sequence[Mapping[str, Any]], depth: int) -> list[dict[str, Any]]:
    """The recording rules that read others over as many steps; those of depth 0 read no recorded series."""
    rules = {rule["record"]: rule for group in groups for rule in group["rules"]}

    def depth_of(name: str, seen: tuple[str, ...] = ()) -> int:
        read = (words(rules[name]) & set(rules)) - {name, *seen}
        return 1 + max(depth_of(other, (*seen, name)) for other in read) if read else 0

    found = []
    for group in groups:
        kept = [rule for rule in group["rules"] if depth_of(rule["record"]) == depth]
        if kept:
            found.append({**group, "rules": kept})
    return found
