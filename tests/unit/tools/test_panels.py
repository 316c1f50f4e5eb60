# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The list of panels, what is made from it, and the test of its queries on a server that answers like Prometheus."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
specification = importlib.util.spec_from_file_location("panels", ROOT / "tools/panels.py")
assert specification is not None
assert specification.loader is not None
panels = importlib.util.module_from_spec(specification)
sys.modules["panels"] = panels
specification.loader.exec_module(panels)

BOOK = panels.read()
PANELS = {panel.name: panel for page in BOOK.dashboards for panel in page.panels}
LOGIN = {"user": "monitoring", "password": "secret"}
RECORDING = ROOT / "roles/prometheus/vars/recording.yml"
WORDS = {
    "topk",
    "bottomk",
    "vector",
    "time",
    "sort",
    "count",
    "sum",
    "max",
    "min",
    "rate",
    "by",
    "or",
    "bool",
    "on",
    "without",
}


def names(expr: str) -> set[str]:
    """Metric names of an expression: what is no function, keyword, label or text."""
    bare = re.sub(r"\"[^\"]*\"|'[^']*'|\{[^}]*\}|\[[^\]]*\]", " ", expr)
    bare = re.sub(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    found = re.findall(r"[A-Za-z_:][A-Za-z0-9_:]*(?!\s*\()\b", bare)
    return {name for name in found if name not in WORDS and not re.search(re.escape(name) + r"\s*\(", bare)}


@functools.cache
def recorded() -> dict[str, str]:
    """Every recorded series and its expression."""
    rules: dict[str, str] = {}

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            if "record" in value:
                rules[str(value["record"])] = str(value.get("expr", ""))
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    data = yaml.safe_load(RECORDING.read_text(encoding="utf-8"))
    collect(data)
    # One rule for each window of the burn rates.
    for name in [name for name in rules if "WINDOW" in name]:
        expr = rules.pop(name)
        rules.update({name.replace("WINDOW", window): expr for window in data["__prometheus_windows"]})
    return rules


@functools.cache
def read_by_rules() -> set[str]:
    """Every series that some recording rule reads."""
    return {metric for expr in recorded().values() for metric in names(expr)}


def test_generated_files_are_current() -> None:
    assert panels.write(check=True) == [], "run `make dashboards`"


def test_names_of_an_expression() -> None:
    assert names('sum by (kind) (rate(a_total{b="c d"}[5m])) / max(x:y:z) or vector(0)') == {"a_total", "x:y:z"}
    assert names("time() - max(seen_seconds)") == {"seen_seconds"}


@pytest.mark.parametrize("name", sorted(PANELS))
def test_panel_uses_what_is_recorded(name: str) -> None:
    """A raw series that some recording rule reads stands only in panels that say why; recorded names exist."""
    rules = recorded()
    assert len(rules) > 20
    used = {metric for query in PANELS[name].queries for metric in names(query.expr)}
    unknown = {metric for metric in used if ":" in metric} - set(rules)
    assert not unknown, f"nobody records {sorted(unknown)}"
    raw = {metric for metric in used if ":" not in metric} & read_by_rules()
    assert not raw or PANELS[name].raw, (
        f"{sorted(raw)}: there is a recorded series, or the panel has to say why not (`raw`)"
    )


def test_lint_sees_a_raw_query() -> None:
    assert names("sum(rate(langflow_gateway_requests_total[1m]))") & read_by_rules()


def test_panels_say_what_they_show() -> None:
    for panel in PANELS.values():
        assert panel.title, panel.name
        assert len(panel.title) <= 48, panel.name
        for query in panel.queries:
            assert query.expr.count("(") == query.expr.count(")"), panel.name
        if panel.kind in ("line", "stack", "bar", "state"):
            assert all(query.legend for query in panel.queries), f"{panel.name}: series need names"
        if panel.kind == "table":
            assert panel.columns, panel.name
    with pytest.raises(ValueError, match="unknown keys"):
        panels._panel({"name": "x", "title": "x", "kind": "line", "unit": "count", "query": "x", "colour": "red"})
    with pytest.raises(ValueError, match="not known"):
        panels._panel({"name": "x", "title": "x", "kind": "pie", "unit": "count", "query": "x"})


@pytest.mark.parametrize(
    ("warn", "bad", "value", "colour"),
    [
        (0.8, 0.9, 0.5, "GREEN"),
        (0.8, 0.9, 0.8, "AMBER"),
        (0.8, 0.9, 0.95, "RED"),
        (1, 0.5, 1, "GREEN"),
        (1, 0.5, 0.7, "AMBER"),
        (1, 0.5, 0, "RED"),
    ],
)
def test_limits_point_the_right_way(warn: float, bad: float, value: float, colour: str) -> None:
    panel = panels.Panel("x", "x", "stat", "ratio", (panels.Query("x"),), warn=warn, bad=bad)
    found = [step for step, edge in panel.steps if edge is None or value >= edge][-1]
    assert found == getattr(panels, colour)


# --- Grafana's model: what its public dashboard schema asks of each part

PANEL_TYPES = {"row", "stat", "timeseries", "bargauge", "state-timeline", "table"}
DASHBOARD_KEYS = {
    "id", "uid", "title", "description", "tags", "editable", "graphTooltip", "refresh", "schemaVersion", "version",
    "time", "timepicker", "timezone", "fiscalYearStartMonth", "weekStart", "annotations", "templating", "links",
    "panels",
}  # fmt: skip
GRAFANA_UNITS = {"percentunit", "s", "bytes", "Bps", "reqps", "ops", "short", "celsius", "watt"}


def dashboards() -> list[tuple[str, dict[str, Any]]]:
    files = sorted((ROOT / "roles/grafana/files/dashboards").glob("*.json"))
    return [(file.stem, json.loads(file.read_text(encoding="utf-8"))) for file in files]


def test_there_is_a_dashboard_for_every_layer() -> None:
    wanted = {"overview", "infrastructure", "service", "business", "rollout", "tasks", "gpu"}
    assert {stem for stem, _board in dashboards()} == {f"flowfleet-{name}" for name in wanted}


@pytest.mark.parametrize(("stem", "board"), dashboards(), ids=lambda value: value if isinstance(value, str) else "")
def test_dashboard_is_one_for_grafana(stem: str, board: dict[str, Any]) -> None:
    assert set(board) == DASHBOARD_KEYS
    assert board["uid"] == stem
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", board["uid"])
    assert board["id"] is None
    assert board["schemaVersion"] >= 36
    assert board["graphTooltip"] in (0, 1, 2)
    identifiers = [panel["id"] for panel in board["panels"]]
    assert len(identifiers) == len(set(identifiers))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["type"] in PANEL_TYPES
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies upon another panel"
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": BOOK.datasource}
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["fieldConfig"]["overrides"] == []
        assert defaults["unit"] in GRAFANA_UNITS
        steps = defaults["thresholds"]["steps"]
        assert steps[0]["value"] is None
        assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
        assert [target["refId"] for target in panel["targets"]] == [chr(65 + n) for n in range(len(panel["targets"]))]
        for target in panel["targets"]:
            assert target["expr"]
            assert target["datasource"] == panel["datasource"]
            assert target["instant"] is not target["range"]
            assert "$" not in target["expr"], "a query with a variable cannot be tried by the panel test"


def test_the_data_source_is_the_one_that_is_provisioned() -> None:
    variables = yaml.safe_load((ROOT / "roles/grafana/vars/main.yml").read_text(encoding="utf-8"))
    assert variables["__grafana_datasource"] == BOOK.datasource


# --- console pages


CONSOLES = ROOT / "roles/prometheus/files/consoles"


def served(page: str) -> str:
    """A page as Prometheus serves it: what it has for itself in the place of the commands that name it."""
    defined = re.compile(r'\{\{ define "(\w+)" -?\}\}(.*?)\{\{ end (?:-)?\}\}', re.S)
    own = dict(defined.findall((CONSOLES / f"{page}.html").read_text(encoding="utf-8")))
    assert own.keys() == {"title", "data"}
    text = dict(defined.findall((CONSOLES / "page.lib").read_text(encoding="utf-8")))["page"].lstrip()
    for name, value in own.items():
        text = text.replace(f'{{{{ template "{name}" . }}}}', value)
    return str(text)


def test_the_role_brings_every_console_file() -> None:
    variables = yaml.safe_load((ROOT / "roles/prometheus/vars/main.yml").read_text(encoding="utf-8"))
    assert variables["__prometheus_consoles"] == sorted(path.name for path in CONSOLES.iterdir())


@pytest.mark.parametrize("page", [*(page.name for page in BOOK.dashboards), "explore"])
def test_console_page_stands_alone(page: str) -> None:
    text = served(page)
    assert "{{" not in text, "Prometheus would take it for a command"
    assert len(text) < 60_000
    outside = re.findall(r"""(?:src|href)=["'](?!data:,)[^"']+|url\(|@import|https?://[^"'\s]+""", text)
    assert [found for found in outside if found != "http://www.w3.org/2000/svg"] == []
    assert "@DATA@" not in text
    assert "@TITLE@" not in text
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert data is not None
    read = json.loads(data.group(1))
    assert read["name"] == page
    listed = [panel["queries"][0][0] for row in read["rows"] for panel in row["panels"]]
    assert listed == [
        panel.queries[0].expr for board in BOOK.dashboards if board.name == page for panel in board.panels
    ]
    assert '<html lang="en">' in text
    assert "prefers-color-scheme" in text
    # A relative address inherits a login from the page's own, and browsers refuse to fetch such a one.
    assert "location.origin" in text


# --- the panel test itself


class Answers(BaseHTTPRequestHandler):
    """A server with one series, one target and a login."""

    def do_POST(self) -> None:
        """Answer a query."""
        body = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        expr = body["query"][0]
        if self.headers["Authorization"] != "Basic bW9uaXRvcmluZzpzZWNyZXQ=":
            self.answer(401, {"status": "error", "error": "who are you"})
        elif expr == "sum(":
            self.answer(400, {"status": "error", "error": "parse error"})
        else:
            values = {"present": ["1"], "unclear": ["NaN", "NaN"], 'up{job="there"}': ["1"]}.get(expr, [])
            pairs = [[1.0, value] for value in values]
            series = (
                []
                if not pairs
                else [
                    {"metric": {}, "values": pairs} if "query_range" in self.path else {"metric": {}, "value": pairs[0]}
                ]
            )
            self.answer(200, {"status": "success", "data": {"result": series}})

    def answer(self, status: int, body: dict[str, Any]) -> None:
        """Send JSON."""
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """Run it for one test."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()


def make(name: str, expr: str, **more: Any) -> tuple[str, Any]:
    return ("page", panels.Panel(name, name, more.pop("kind", "line"), "count", (panels.Query(expr),), **more))


def test_panel_test_tells_data_from_excuses_and_faults(server: str) -> None:
    prometheus = panels.Prometheus(server, **LOGIN)
    given = [
        make("good", "present"),
        make("table", "present", kind="table"),
        make("absent", "missing"),
        make("not a number", "unclear"),
        make("unreadable", "sum("),
        make("calm", "missing", may_be_empty="nothing happened"),
        make("no gpu", "missing", needs="dcgm"),
        make("exporter broken", "missing", needs="there"),
        make("no excuse for errors", "sum(", may_be_empty="nothing happened"),
    ]
    found = {result.panel: result.status for result in panels.check(prometheus, given)}
    assert found == {
        "good": "data",
        "table": "data",
        "absent": "empty",
        "not a number": "empty",
        "unreadable": "error",
        "calm": "excused",
        "no gpu": "excused",
        "exporter broken": "empty",
        "no excuse for errors": "error",
    }
    results = panels.check(prometheus, given)
    assert "exporter broken" in panels.report(results)
    assert "no target of job dcgm" in panels.report(results)


def test_broken_panels_are_found(server: str) -> None:
    prometheus = panels.Prometheus(server, **LOGIN)
    assert len(panels.failures(panels.check(prometheus, panels.broken()))) == 2


def test_a_wrong_login_is_an_error_for_every_panel(server: str) -> None:
    results = panels.check(
        panels.Prometheus(server, **{**LOGIN, "password": "wrong"}), [make("good", "present", may_be_empty="x")]
    )
    assert [result.status for result in results] == ["error"]
    with pytest.raises(ValueError, match="http"):
        panels.Prometheus("ftp://x")
