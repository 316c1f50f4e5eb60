# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Saved objects of Kibana: their shapes, their queries, what they refer to, and the links of runbooks to them."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kql import KqlError, fields

ROOT = Path(__file__).resolve().parents[3]
specification = importlib.util.spec_from_file_location("saved_objects", ROOT / "tools/saved_objects.py")
assert specification is not None
assert specification.loader is not None
saved_objects = importlib.util.module_from_spec(specification)
sys.modules["saved_objects"] = saved_objects
specification.loader.exec_module(saved_objects)

DATA = yaml.safe_load(saved_objects.SOURCE.read_text(encoding="utf-8"))
OBJECTS = [json.loads(line) for line in saved_objects.OBJECTS.read_text(encoding="utf-8").splitlines()]
ALERTS = [
    row["name"]
    for row in yaml.safe_load((ROOT / "roles/prometheus/vars/alerts.yml").read_text(encoding="utf-8"))[
        "__prometheus_alerts"
    ]
]
PAGES = sorted(page for page in saved_objects.RUNBOOKS.glob("*.md") if page.stem != "index")
# Fields of the shippers and the ingest pipelines. A query for another finds nothing, and nobody would notice.
KNOWN = {
    "@timestamp",
    "message",
    "log.level",
    "log.logger",
    "service.name",
    "host.name",
    "trace.id",
    "span.id",
    "flow.id",
    "run.id",
    "event.dataset",
    "event.duration",
    "error.type",
    "systemd.unit",
    "labels.masked",
    "source.ip",
    "url.path",
    "http.request.method",
    "http.response.status_code",
    "destination.address",
}


def kind(name: str) -> list[dict[str, Any]]:
    return [item for item in OBJECTS if item["type"] == name]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(dashboard["attributes"]["panelsJSON"])
    return found


def pictures() -> list[tuple[str, dict[str, Any]]]:
    """All lens panels with their names."""
    return [
        (f"{item['id']}: {panel['title']}", panel["embeddableConfig"]["attributes"])
        for item in kind("dashboard")
        for panel in panels(item)
        if panel["type"] == "lens"
    ]


def queries() -> list[tuple[str, str]]:
    found = []
    for item in (*kind("search"), *kind("dashboard")):
        source = json.loads(item["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
        assert source["query"]["language"] == "kuery"
        found.append((item["id"], source["query"]["query"]))
    return found + [(name, picture["state"]["query"]["query"]) for name, picture in pictures()]


# --- the file ---------------------------------------------------------------------------------------------------------
def test_generated_files_are_current() -> None:
    assert saved_objects.main(["--check"]) == 0, "run tools/saved_objects.py"


def test_every_object_has_the_shape_of_an_export() -> None:
    assert len({(item["type"], item["id"]) for item in OBJECTS}) == len(OBJECTS)
    for item in OBJECTS:
        assert set(item) == {
            "attributes",
            "coreMigrationVersion",
            "id",
            "references",
            "type",
            "typeMigrationVersion",
        }
        assert item["typeMigrationVersion"] == saved_objects.TYPES[item["type"]]
        assert re.fullmatch(r"[A-Za-z0-9-]+", item["id"])
        assert item["attributes"]["title"]


def test_what_is_asked_for_is_there() -> None:
    assert {item["id"] for item in kind("index-pattern")} == {"flowfleet-logs", "flowfleet-traces"}
    assert {item["id"] for item in kind("dashboard")} == {
        "flowfleet-requests",
        "flowfleet-errors",
        "flowfleet-infrastructure",
    }
    searches = {item["id"] for item in kind("search")}
    assert "trace" in searches
    assert {f"runbook-{name}" for name in ALERTS} <= searches


def test_references_lead_somewhere() -> None:
    known = {(item["type"], item["id"]) for item in OBJECTS} | {("tag", saved_objects.TAG)}
    for item in OBJECTS:
        names = [each["name"] for each in item["references"]]
        assert len(set(names)) == len(names)
        for each in item["references"]:
            assert (each["type"], each["id"]) in known, (item["id"], each)
        tagged = any(each["type"] == "tag" for each in item["references"])
        assert tagged == (item["type"] != "index-pattern")


def test_a_search_names_its_view_by_reference() -> None:
    for item in kind("search"):
        source = json.loads(item["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
        (view,) = [each for each in item["references"] if each["type"] == "index-pattern"]
        assert source["indexRefName"] == view["name"]
        assert item["attributes"]["sort"][0][0] == "@timestamp"
        assert set(item["attributes"]["columns"]) <= KNOWN


# --- queries ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "query"), queries(), ids=[name for name, _ in queries()])
def test_a_query_can_be_read_and_asks_for_known_fields(name: str, query: str) -> None:
    assert "<bad>" not in query
    assert fields(query) <= KNOWN, name


@pytest.mark.parametrize(
    "query", ["a : (b or", 'a : "b', "and b", "a : b)", "a b", "a : ", "a = 1", "a : b c : d", "level", "a : {b : c}"]
)
def test_the_reader_of_these_tests_refuses(query: str) -> None:
    with pytest.raises(KqlError):
        fields(query)


# --- dashboards -------------------------------------------------------------------------------------------------------
def test_panels_fit_and_do_not_overlap() -> None:
    for item in kind("dashboard"):
        taken: set[tuple[int, int]] = set()
        found = panels(item)
        assert len(found) >= 10
        for panel in found:
            place = panel["gridData"]
            assert panel["panelIndex"] == place["i"]
            assert place["x"] + place["w"] <= saved_objects.WIDTH
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            taken |= cells


def test_a_panel_with_a_saved_search_refers_to_it() -> None:
    for item in kind("dashboard"):
        named = {each["name"]: each for each in item["references"]}
        for panel in panels(item):
            if panel["type"] == "search":
                reference = named[f"{panel['panelIndex']}:{panel['panelRefName']}"]
                assert reference["type"] == "search"
            else:
                assert f"{panel['panelIndex']}:indexpattern-datasource-layer-layer" in named


@pytest.mark.parametrize(("name", "picture"), pictures(), ids=[name for name, _ in pictures()])
def test_a_picture_shows_each_of_its_columns(name: str, picture: dict[str, Any]) -> None:
    layer = picture["state"]["datasourceStates"]["formBased"]["layers"]["layer"]
    columns = layer["columns"]
    assert sorted(layer["columnOrder"]) == sorted(columns)
    assert layer["columnOrder"] == sorted(columns, key=lambda name: (name == "value", name == "time", name))
    shown = json.dumps(picture["state"]["visualization"])
    for column, said in columns.items():
        assert f'"{column}"' in shown, (name, column)
        assert said["sourceField"] in KNOWN | {"___records___"}, name
        # Values to split by come first, else Kibana computes another thing.
        if said["isBucketed"]:
            assert layer["columnOrder"].index(column) < layer["columnOrder"].index("value")
    assert columns["value"]["isBucketed"] is False
    assert picture["visualizationType"] in {"lnsMetric", "lnsXY", "lnsDatatable"}


# --- runbooks ---------------------------------------------------------------------------------------------------------
def test_every_alert_has_a_search_and_every_search_an_alert() -> None:
    assert set(DATA["runbooks"]) == set(ALERTS)
    assert set(DATA["runbooks"].values()) == set(DATA["topics"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.stem))
def test_a_runbook_leads_to_a_search_that_is_there(page: Path) -> None:
    found = re.findall(r"\(https://[^/]+(/s/[^)]+)\)", page.read_text(encoding="utf-8"))
    (link,) = found
    space, name = re.fullmatch(r"/s/([^/]+)/app/discover#/view/([A-Za-z0-9-]+)", link).groups()
    defaults = yaml.safe_load((ROOT / "roles/kibana/defaults/main.yml").read_text(encoding="utf-8"))
    assert space == defaults["kibana_space"]
    assert name == f"runbook-{page.stem}"
    assert name in {item["id"] for item in kind("search")}


def test_the_address_in_the_links_is_an_option() -> None:
    text = (saved_objects.RUNBOOKS / "NodeDown.md").read_text(encoding="utf-8")
    other = saved_objects.linked(text, "NodeDown", "https://kibana.example.org")
    assert other.count("Its lines in Kibana") == 1
    assert "(https://kibana.example.org/s/flowfleet/app/discover#/view/runbook-NodeDown)" in other
    assert saved_objects.linked(other, "NodeDown", saved_objects.KIBANA) == text


def test_a_trace_id_leads_to_the_search_by_trace_id() -> None:
    for item in kind("index-pattern"):
        template = json.loads(item["attributes"]["fieldFormatMap"])["trace.id"]["params"]["urlTemplate"]
        assert template.startswith("/s/flowfleet/app/discover#/view/trace?")
        assert "{{value}}" in template


# --- what the tool refuses --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("runbooks", "NodeDown"), "nowhere", "no such topic"),
        (("searches", 0, "id"), "errors", "twice"),
        (("dashboards", 0, "panels", 10, "search"), "nowhere", "not there"),
        (("dashboards", 0, "panels", 0, "by"), {"host.name": 3}, "one number"),
        (("dashboards", 0, "panels", 0, "value"), {"op": "sum"}, "has one"),
        (("dashboards", 0, "panels", 5, "by"), {"host.name": 3, "flow.id": 3}, "one field"),
        (("dashboards", 0, "panels", 7, "by"), {}, "needs by"),
    ],
)
def test_a_wrong_list_is_refused(path: tuple[Any, ...], value: Any, named: str) -> None:
    data = copy.deepcopy(DATA)
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(saved_objects.SourceError, match=named):
        saved_objects.lines(data)


# --- the queries on a real store -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", "*"),
        ("trace.id : *", "trace.id:*"),
        ('a.b : ("x y" or z) and not c : d*', 'a.b:("x y" OR z) AND NOT c:d*'),
        ("n >= 500 or n < 3", "n:>=500 OR n:<3"),
        ("a : b or (c : d and e : f)", "a:b OR (c:d AND e:f)"),
    ],
)
def test_a_query_becomes_one_that_the_store_reads(query: str, wanted: str) -> None:
    assert saved_objects.lucene(query) == wanted


class FakeStore(saved_objects.Store):
    """Knows all fields but one, and refuses one query."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def post(self, path: str, body: Any) -> dict[str, Any]:
        if "_field_caps" in path:
            return {"fields": dict.fromkeys(KNOWN - {"systemd.unit"}, {})}
        self.asked.append(body["query"]["query_string"]["query"])
        failures = [{"reason": {"reason": "no such thing"}}] if self.asked[-1] == "flow.id:*" else []
        return {"hits": {"total": {"value": 1}}, "_shards": {"failures": failures}}


def test_a_query_that_fails_and_a_field_that_is_not_there_are_told() -> None:
    store = FakeStore()
    assert saved_objects.judge(DATA, store) == ["flow: no such thing", "field systemd.unit is not mapped"]
    assert len(store.asked) == len(queries()) - len(kind("dashboard"))
