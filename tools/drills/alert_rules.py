"""Alerts as data, and what a list of notifications says about them; without any lab."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.drills.core import ROOT, DrillError

REGISTRY = ROOT / "roles/prometheus/vars/alerts.yml"
DEFAULTS = ROOT / "roles/prometheus/defaults/main.yml"
TEMPLATE = re.compile(r"\{\{ (\w+) \}\}")
SIMULATED = "simulated"
# Always firing, so that its silence is noticed outside.
DEAD_MAN = "Watchdog"
SECONDS, MINUTES, HOURS = "seconds", "minutes", "hours"
# From the fault to the notification: for the tier of seconds, and in the tier of minutes on top of the rule's `for`.
SECONDS_LIMIT = 30.0
MINUTES_SLACK = 60.0
# Pause before the next fault. An Alertmanager of a pair waits for the other one before it tells what it knew by then:
# an alert that fires again meanwhile would be told as over, and its end not at all.
APART = 20.0
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
DURATION = re.compile(r"(\d+)(ms|[smhdwy])")


def duration(text: str | int) -> float:
    """Seconds of a duration as Prometheus writes it."""
    given = str(text).strip()
    if given in ("", "0"):
        return 0.0
    if not re.fullmatch(f"(?:{DURATION.pattern})+", given):
        raise DrillError(f"{given!r} is no duration")
    return sum(int(number) * UNITS[unit] for number, unit in DURATION.findall(given))


# --- the registry ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alert:
    """One alert of the registry, as far as a drill needs it."""

    name: str
    tier: str
    severity: str
    layer: str
    lasts: float
    drill: str
    needs: tuple[str, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        """What each of its notifications must carry."""
        return {"alertname": self.name, "tier": self.tier, "severity": self.severity, "layer": self.layer}

    def limit(self, ripens: float = 0.0) -> float:
        """Seconds from the fault to the notification. `ripens`: until what was done is what the rule is about."""
        if self.tier == SECONDS:
            return SECONDS_LIMIT
        return ripens + self.lasts + MINUTES_SLACK


def filled(text: Any, values: Mapping[str, Any]) -> str:
    """A text with the role's own defaults in it."""
    return TEMPLATE.sub(lambda found: str(values[found[1]]), str(text))


def read_alerts(path: Path = REGISTRY, defaults: Path = DEFAULTS) -> list[Alert]:
    """The alerts of the role's own list."""
    values = yaml.safe_load(defaults.read_text(encoding="utf-8"))
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    found = [row for value in content.values() if isinstance(value, list) for row in value if isinstance(row, Mapping)]
    return [
        Alert(
            name=row["name"],
            tier=row["tier"],
            severity=row["severity"],
            layer=row["layer"],
            lasts=duration(filled(row.get("for", 0), values)),
            drill=row["drill"],
            needs=tuple(row.get("needs") or ()),
        )
        for row in found
        if "drill" in row
    ]


def for_case(alerts: Iterable[Alert], case: str) -> list[Alert]:
    return [alert for alert in alerts if alert.drill == case]


# --- what has arrived ------------------------------------------------------------------------------------------------

Row = Mapping[str, Any]


def named(row: Row) -> str:
    return str((row["labels"] or {}).get("alertname", ""))


def wrong_labels(row: Row, alert: Alert, blamed: Mapping[str, Collection[str]]) -> dict[str, str]:
    """The labels of a notification that are not as they must be: those of the registry, and whom it blames.

    An alert about the whole cluster names no host; one that names a host must name a right one.
    """
    labels = row["labels"] or {}
    found = {name: str(labels.get(name)) for name, value in alert.labels.items() if labels.get(name) != value}
    for name, allowed in blamed.items():
        if name in labels and labels[name] not in allowed:
            found[name] = labels[name]
    return found


def first_firing(rows: Iterable[Row], alert: Alert, blamed: Mapping[str, Collection[str]], since: float) -> Row | None:
    """The first notification after a fault that is about it: the right alert, blaming the right host."""
    own = [row for row in rows if named(row) == alert.name and row["status"] == "firing" and row["received"] >= since]
    for row in sorted(own, key=lambda row: float(row["received"])):
        labels = row["labels"] or {}
        if all(name not in labels or labels[name] in allowed for name, allowed in blamed.items()):
            return row
    return None


def first_resolved(rows: Iterable[Row], fingerprint: str, since: float) -> Row | None:
    """The first word after a moment that an alert is over."""
    own = [row for row in rows if row["fingerprint"] == fingerprint and row["status"] == "resolved"]
    return min((row for row in own if row["received"] >= since), key=lambda row: float(row["received"]), default=None)


def tier_of(row: Row) -> str:
    return str((row["labels"] or {}).get("tier", ""))


def still_open(rows: Iterable[Row], besides: str = "") -> dict[str, str]:
    """Alerts whose last word is `firing`, by fingerprint; all but the dead-man's switch, or but for a tier as well."""
    last: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: float(row["received"])):
        last[row["fingerprint"]] = row
    return {
        fingerprint: named(row)
        for fingerprint, row in last.items()
        if row["status"] == "firing" and named(row) != DEAD_MAN and not (besides and tier_of(row) == besides)
    }


def budgets_before(rows: Iterable[Row], moment: float) -> dict[str, str]:
    """Alerts of the tier of hours that were open at a moment, by fingerprint: an earlier fault has used up a budget."""
    known = [row for row in rows if row["received"] < moment]
    others = still_open(known, besides=HOURS)
    return {fingerprint: name for fingerprint, name in still_open(known).items() if fingerprint not in others}


def notifications(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows as they came, one list for each notification, oldest first."""
    found: dict[tuple[float, str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["received"], row["groupKey"], row["path"], row["from"]), []).append(row)
    return [found[key] for key in sorted(found)]


def repeated(rows: Iterable[Row], within: float) -> list[dict[str, Any]]:
    """Notifications that say what the one before them about the same group said, sooner than a reminder is due.

    Two Alertmanagers that do not agree send each of them twice.
    """
    last: dict[tuple[str, str], tuple[frozenset[tuple[str, str]], float, str]] = {}
    twice = []
    for told in notifications(rows):
        first = told[0]
        said = frozenset((row["fingerprint"], row["status"]) for row in told)
        key = (first["groupKey"], first["path"])
        before = last.get(key)
        if before and before[0] == said and first["received"] - before[1] < within and named(first) != DEAD_MAN:
            names = sorted({named(row) for row in told})
            apart = round(first["received"] - before[1], 3)
            twice.append({"alerts": names, "apart": apart, "from": [before[2], first["from"]]})
        last[key] = (said, first["received"], first["from"])
    return twice


def heard(rows: Iterable[Row]) -> dict[str, int]:
    """How many notifications named each alert, but for the dead-man's switch."""
    count: dict[str, int] = {}
    for told in notifications(rows):
        for name in {named(row) for row in told} - {DEAD_MAN}:
            count[name] = count.get(name, 0) + 1
    return dict(sorted(count.items()))


def longest_silence(rows: Sequence[Row], began: float, ended: float, name: str = DEAD_MAN) -> float:
    """The longest time in a span without a word of an alert that must go on talking."""
    moments = sorted({float(row["received"]) for row in rows if named(row) == name})
    points = [began, *(moment for moment in moments if began <= moment <= ended), ended]
    return max(later - sooner for sooner, later in zip(points, points[1:], strict=False))
