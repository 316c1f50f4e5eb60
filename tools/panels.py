#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make Grafana dashboards and Prometheus console pages from one list of panels, and try its queries on a Prometheus.

``tools/panels.py`` writes; ``tools/panels.py --check`` writes nothing and exits 1 when a file is out of date.
``tools/panels.py test --url https://mon1:9090 --ca ca.crt --user monitoring --password-file FILE`` runs every query.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "roles/grafana/files/panels.yml"
DASHBOARDS = ROOT / "roles/grafana/files/dashboards"
CONSOLES = ROOT / "roles/prometheus/files/consoles"
COLLECTIONS = ROOT / ".cache/collections"

KINDS = ("stat", "line", "stack", "bar", "state", "table")
# Unit of a panel: that of Grafana; the console pages know the same names.
UNITS = {
    "ratio": "percentunit",
    "seconds": "s",
    "bytes": "bytes",
    "bytes/s": "Bps",
    "requests/s": "reqps",
    "runs/s": "ops",
    "per second": "ops",
    "count": "short",
    "number": "short",
    "celsius": "celsius",
    "watts": "watt",
    "up": "short",
}
# Width of a panel in 24ths and its height in Grafana's rows, unless it says its own.
SIZES = {"stat": (4, 4), "line": (8, 8), "stack": (8, 8), "bar": (8, 8), "state": (12, 8), "table": (12, 8)}
GREEN, AMBER, RED, BLUE = "#2e9e5b", "#e0a100", "#d64541", "#3f7fd1"
SCHEMA_VERSION = 39


@dataclass(frozen=True)
class Query:
    """One expression and how its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel as it stands in the list."""

    name: str
    title: str
    kind: str
    unit: str
    queries: tuple[Query, ...]
    about: str = ""
    warn: float | None = None
    bad: float | None = None
    top: float | None = None
    width: int = 8
    height: int = 8
    columns: tuple[str, ...] = ()
    exemplars: bool = False
    needs: str = ""
    may_be_empty: str = ""
    raw: str = ""
    window: int = 900

    @property
    def steps(self) -> list[tuple[str, float | None]]:
        """Colours from the lowest value up, each with the value it begins at."""
        if self.bad is None and self.warn is None:
            return [(BLUE, None)]
        limits = [(AMBER, self.warn), (RED, self.bad)]
        known = [(colour, value) for colour, value in limits if value is not None]
        if self.lower_is_worse:
            rest = [colour for colour, _value in reversed(known)] + [GREEN]
            edges: list[float | None] = [None, *sorted(value for _colour, value in known)]
            return list(zip(rest, edges, strict=True))
        return [(GREEN, None), *known]

    @property
    def lower_is_worse(self) -> bool:
        """Tell whether small values are the bad ones: the limit for bad lies below the one for warn."""
        return self.bad is not None and self.warn is not None and self.bad < self.warn


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """One page."""

    name: str
    uid: str
    title: str
    about: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> list[Panel]:
        """All panels, from top to bottom."""
        return [panel for row in self.rows for panel in row.panels]


@dataclass(frozen=True)
class Book:
    """The whole list."""

    datasource: str
    dashboards: tuple[Dashboard, ...]


def _panel(entry: dict[str, Any]) -> Panel:
    entry = dict(entry)
    queries = entry.pop("queries", None) or [{"expr": entry.pop("query"), "legend": entry.pop("legend", "")}]
    width, height = SIZES.get(entry["kind"], (8, 8))
    known = set(Panel.__dataclass_fields__)
    if set(entry) - known:
        raise ValueError(f"panel {entry.get('name')}: unknown keys {sorted(set(entry) - known)}")
    entry["columns"] = tuple(entry.get("columns", ()))
    entry["queries"] = tuple(Query(" ".join(query["expr"].split()), query.get("legend", "")) for query in queries)
    panel = Panel(**{"width": width, "height": height, **entry})
    if panel.kind not in KINDS or panel.unit not in UNITS:
        raise ValueError(f"panel {panel.name}: kind {panel.kind} or unit {panel.unit} is not known")
    return panel


def read(path: Path = SOURCE) -> Book:
    """Read the list; an entry `use: NAME` repeats a panel that another page defines."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    defined: dict[str, Panel] = {}
    for page in data["dashboards"]:
        for entry in (entry for row in page["rows"] for entry in row["panels"] if "use" not in entry):
            panel = _panel(entry)
            if panel.name in defined:
                raise ValueError(f"panel {panel.name} is there twice")
            defined[panel.name] = panel
    pages = []
    for page in data["dashboards"]:
        rows = []
        for row in page["rows"]:
            panels = []
            for entry in row["panels"]:
                panel = defined[entry.get("use") or entry["name"]]
                changed = {key: value for key, value in entry.items() if key in ("width", "height", "title")}
                panels.append(Panel(**{**panel.__dict__, **changed}))
            rows.append(Row(row["title"], tuple(panels)))
        pages.append(Dashboard(page["name"], page["uid"], page["title"], page["about"], tuple(rows)))
    return Book(data["datasource"], tuple(pages))


# --- Grafana ----------------------------------------------------------------------------------------------------------


def _thresholds(panel: Panel) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"color": colour, "value": value} for colour, value in panel.steps]}


def _options(panel: Panel) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return Grafana's panel type, its options and what is custom about its fields."""
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "stat":
        options: dict[str, Any] = {
            "colorMode": "background" if panel.bad is not None else "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": last,
            "textMode": "auto",
            "wideLayout": True,
        }
        return "stat", options, {}
    if panel.kind == "bar":
        options = {
            "displayMode": "basic",
            "orientation": "horizontal",
            "reduceOptions": last,
            "showUnfilled": True,
            "valueMode": "color",
            "minVizHeight": 12,
            "minVizWidth": 8,
            "namePlacement": "auto",
            "sizing": "auto",
        }
        return "bargauge", options, {}
    if panel.kind == "state":
        options = {
            "alignValue": "left",
            "mergeValues": True,
            "rowHeight": 0.8,
            "showValue": "never",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
            "tooltip": {"mode": "single", "sort": "none"},
        }
        return "state-timeline", options, {"fillOpacity": 80, "lineWidth": 0}
    if panel.kind == "table":
        return "table", {"cellHeight": "sm", "showHeader": True, "sortBy": []}, {"align": "auto", "inspect": False}
    options = {
        "legend": {
            "calcs": ["lastNotNull", "max"],
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": any(query.legend for query in panel.queries),
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    custom = {
        "drawStyle": "line",
        "fillOpacity": 70 if panel.kind == "stack" else 6,
        "lineWidth": 0 if panel.kind == "stack" else 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if panel.kind == "stack" else "none"},
        "thresholdsStyle": {"mode": "off" if panel.bad is None and panel.warn is None else "dashed"},
    }
    return "timeseries", options, custom


def grafana_panel(panel: Panel, number: int, place: dict[str, int], datasource: dict[str, str]) -> dict[str, Any]:
    """Return one panel in Grafana's model."""
    kind, options, custom = _options(panel)
    instant = panel.kind in ("table", "bar")
    defaults: dict[str, Any] = {
        "unit": UNITS[panel.unit],
        "color": {"mode": "thresholds" if kind in ("stat", "bargauge", "state-timeline") else "palette-classic"},
        "custom": custom,
        "mappings": [],
        "thresholds": _thresholds(panel),
    }
    if panel.unit == "up":
        states = {"0": {"text": "down", "color": RED, "index": 0}, "1": {"text": "up", "color": GREEN, "index": 1}}
        defaults["mappings"] = [{"type": "value", "options": states}]
    if panel.unit in ("ratio", "count", "bytes", "bytes/s", "requests/s", "runs/s", "seconds"):
        defaults["min"] = 0
    if panel.top is not None:
        defaults["max"] = panel.top
    made: dict[str, Any] = {
        "id": number,
        "type": kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": datasource,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + position),
                "datasource": datasource,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": instant,
                "range": not instant,
                "format": "table" if panel.kind == "table" else "time_series",
                "editorMode": "code",
                **({"exemplar": True} if panel.exemplars else {}),
            }
            for position, query in enumerate(panel.queries)
        ],
    }
    if panel.kind == "table":
        shown = list(panel.columns)
        made["transformations"] = [
            {"id": "filterFieldsByName", "options": {"include": {"names": shown}}},
            {"id": "organize", "options": {"indexByName": {name: at for at, name in enumerate(shown)}}},
        ]
    return made


def grafana_dashboard(page: Dashboard, book: Book) -> dict[str, Any]:
    """Return one page in Grafana's dashboard model."""
    datasource = {"type": "prometheus", "uid": book.datasource}
    panels: list[dict[str, Any]] = []
    top = 0
    for row in page.rows:
        whole = {"h": 1, "w": 24, "x": 0, "y": top}
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": whole,
                "panels": [],
            }
        )
        left, line, tallest = 0, top + 1, 0
        for panel in row.panels:
            if left + panel.width > 24:
                left, line, tallest = 0, line + tallest, 0
            place = {"h": panel.height, "w": panel.width, "x": left, "y": line}
            panels.append(grafana_panel(panel, len(panels) + 1, place, datasource))
            left, tallest = left + panel.width, max(tallest, panel.height)
        top = line + tallest
    return {
        "id": None,
        "uid": page.uid,
        "title": f"Langflow fleet / {page.title}",
        "description": page.about,
        "tags": ["flowfleet"],
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "time": {"from": "now-3h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "weekStart": "",
        "annotations": {
            "list": [
                {
                    "name": "Alerts that page",
                    "datasource": datasource,
                    "enable": True,
                    "iconColor": RED,
                    "expr": 'ALERTS{alertstate="firing",severity="page"}',
                    "titleFormat": "{{alertname}}",
                    "textFormat": "{{instance}}",
                    "step": "60s",
                }
            ]
        },
        "templating": {
            "list": [
                {"name": "filter", "label": "Only", "type": "adhoc", "datasource": datasource, "filters": [], "hide": 0}
            ]
        },
        "links": [
            {
                "title": "Langflow fleet",
                "type": "dashboards",
                "tags": ["flowfleet"],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "icon": "external link",
                "tooltip": "",
                "url": "",
            }
        ],
        "panels": panels,
    }


# --- console pages ----------------------------------------------------------------------------------------------------


# A page for queries by hand: Debian's Prometheus comes without the web interface of its makers.
EXPLORE = Dashboard("explore", "", "Explore", "Any query. Up to 24 series are drawn, up to 500 are listed.", ())


# What a page has for itself; everything else is in page.lib beside it, which Prometheus reads as a library.
CONSOLE = """\
{{- /* Made by tools/panels.py; do not edit. */ -}}
{{ define "title" }}@TITLE@{{ end -}}
{{ define "data" }}@DATA@{{ end -}}
{{ template "page" . -}}
"""


def console_data(page: Dashboard, book: Book) -> str:
    """Return what the script of a page reads. Prometheus takes two braces for a command, so none may be left."""
    data = {
        "name": page.name,
        "title": page.title,
        "about": page.about,
        "pages": [[other.name, other.title] for other in (*book.dashboards, EXPLORE)],
        "rows": [
            {
                "title": row.title,
                "panels": [
                    {
                        "title": panel.title,
                        "about": panel.about,
                        "kind": panel.kind,
                        "unit": panel.unit,
                        "width": panel.width,
                        "steps": []
                        if panel.warn is None and panel.bad is None
                        else [
                            [{GREEN: "good", AMBER: "warn", RED: "bad"}[colour], value] for colour, value in panel.steps
                        ],
                        "top": panel.top,
                        "columns": panel.columns,
                        "needs": panel.needs,
                        "empty": panel.may_be_empty,
                        "queries": [
                            [query.expr, re.sub(r"\{\{ *(\w+) *\}\}", r"<\1>", query.legend)] for query in panel.queries
                        ],
                    }
                    for panel in row.panels
                ],
            }
            for row in page.rows
        ],
    }
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")
    return text.replace("{{", "{ {").replace("}}", "} }")


def outputs(book: Book) -> dict[Path, str]:
    """Return every generated file."""
    files = {}
    for dashboard in book.dashboards:
        text = json.dumps(grafana_dashboard(dashboard, book), indent=1, ensure_ascii=False) + "\n"
        files[DASHBOARDS / f"{dashboard.uid}.json"] = text
    for dashboard in (*book.dashboards, EXPLORE):
        files[CONSOLES / f"{dashboard.name}.html"] = CONSOLE.replace("@TITLE@", dashboard.title).replace(
            "@DATA@", console_data(dashboard, book)
        )
    return files


def write(check: bool = False) -> list[Path]:
    """Write what is out of date, or only say it; a file that no page has any more goes."""
    files = outputs(read())
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    made = [*DASHBOARDS.glob("*"), *CONSOLES.glob("*.html")]
    extra = [path for path in made if path not in files]
    if not check:
        for path in extra:
            path.unlink()
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
    return sorted(stale + extra)


# --- the panel test ---------------------------------------------------------------------------------------------------


class QueryError(Exception):
    """Prometheus refused a query."""


def library() -> Any:
    """The collection's own client, which its modules use as well."""
    if str(COLLECTIONS) not in sys.path:
        sys.path.append(str(COLLECTIONS))
    from ansible_collections.flowfleet.langflow.plugins.module_utils import _prometheus, _rest

    return _prometheus, _rest


class Prometheus:
    """A Prometheus that is asked over HTTP(S)."""

    def __init__(self, url: str, *, ca: Path | None = None, user: str = "", password: str = "", timeout: float = 20.0):
        """Take where it is and how to log in; certificates are always verified."""
        self._library, rest = library()
        login = rest.basic_login(user, password)
        try:
            self._client = self._library.Client(
                url.rstrip("/"), ca_path=str(ca) if ca else None, login=login, timeout=timeout, post=True
            )
        except self._library.PrometheusError as error:
            raise ValueError(str(error)) from None

    def _series(self, question: Callable[..., Any], *arguments: Any) -> list[dict[str, Any]]:
        """Return the series that a question finds."""
        try:
            return list(question(*arguments)["result"])
        except self._library.PrometheusError as error:
            raise QueryError(str(error)) from None

    def instant(self, expr: str) -> list[dict[str, Any]]:
        """Return what the expression is now."""
        return self._series(self._client.instant, expr)

    def over(self, expr: str, seconds: int) -> list[dict[str, Any]]:
        """Return what it was lately."""
        now = time.time()
        return self._series(self._client.over, expr, now - seconds, now, 15)


@dataclass(frozen=True)
class Result:
    """What came of one query."""

    dashboard: str
    panel: str
    query: str
    status: str
    reason: str = ""


def _numbers(series: Iterable[dict[str, Any]]) -> int:
    """Count the values that can be drawn."""
    pairs = (pair for entry in series for pair in entry.get("values") or [entry["value"]])
    return sum(1 for _time, value in pairs if value not in ("NaN", "+Inf", "-Inf"))


def _try(server: Prometheus, panel: Panel, query: Query, jobs: dict[str, bool]) -> tuple[str, str]:
    try:
        found = _numbers(
            server.instant(query.expr) if panel.kind in ("table", "bar") else server.over(query.expr, panel.window)
        )
        if found:
            return "data", ""
        if panel.may_be_empty:
            return "excused", panel.may_be_empty
        if panel.needs:
            if panel.needs not in jobs:
                jobs[panel.needs] = bool(server.instant(f'up{{job="{panel.needs}"}}'))
            if not jobs[panel.needs]:
                return "excused", f"no target of job {panel.needs}"
    except QueryError as error:
        return "error", str(error)
    return "empty", "no value now" if panel.kind in (
        "table",
        "bar",
    ) else f"no value in the last {panel.window // 60} minutes"


def check(server: Prometheus, panels: Iterable[tuple[str, Panel]] | None = None) -> list[Result]:
    """Run every query of every panel once; without a list, those of all dashboards."""
    if panels is None:
        panels = [(page.name, panel) for page in read().dashboards for panel in page.panels]
    jobs: dict[str, bool] = {}
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    results = []
    for name, panel in panels:
        for query in panel.queries:
            key = (panel.name, query.expr)
            if key not in seen:
                seen[key] = _try(server, panel, query, jobs)
            results.append(Result(name, panel.name, query.expr, *seen[key]))
    return results


def broken() -> list[tuple[str, Panel]]:
    """Return panels that must be found: over a series that nobody has, and with a query that is none."""
    queries = {"absent": "flowfleet_series_that_nobody_has", "unreadable": "sum("}
    return [("broken", Panel(name, name, "line", "count", (Query(expr),))) for name, expr in queries.items()]


def failures(results: Iterable[Result]) -> list[Result]:
    """Return what is neither data nor excused."""
    return [result for result in results if result.status in ("empty", "error")]


def report(results: list[Result]) -> str:
    """Return the failures, then what is excused and why, then the sums."""
    lines = [
        f"{result.status:8} {result.dashboard}/{result.panel}: {result.reason}\n         {result.query}"
        for result in failures(results)
    ]
    excused = sorted({(result.panel, result.reason) for result in results if result.status == "excused"})
    lines += [f"excused  {panel}: {reason}" for panel, reason in excused]
    sums = {
        status: sum(1 for result in results if result.status == status)
        for status in ("data", "excused", "empty", "error")
    }
    lines.append(f"{len(results)} queries: " + ", ".join(f"{count} {status}" for status, count in sums.items()))
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Write, check or test."""
    parser = argparse.ArgumentParser(description="Dashboards and console pages from one list of panels.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a file is out of date")
    commands = parser.add_subparsers(dest="command")
    trial = commands.add_parser("test", help="run every query on a Prometheus")
    trial.add_argument("--url", required=True)
    trial.add_argument("--ca", type=Path)
    trial.add_argument("--user", default="")
    trial.add_argument("--password-file", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "test":
        password = given.password_file.read_text(encoding="utf-8").strip() if given.password_file else ""
        results = check(Prometheus(given.url, ca=given.ca, user=given.user, password=password))
        print(report(results))
        return 1 if failures(results) else 0
    stale = write(given.check)
    for path in stale:
        print(f"{'out of date' if given.check else 'wrote'}: {path.relative_to(ROOT)}")
    return 1 if given.check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
