#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make Kibana's saved objects and the log link of every runbook from one list.

``tools/saved_objects.py`` writes; ``--check`` writes nothing and exits 1 when a file is out of date.
``tools/saved_objects.py test --url https://log1:9200 --ca ca.crt --user flowfleet_reader --password-file FILE`` runs
every query on a store and says which fields it does not know.
``--kibana https://log1.example.com:5601`` puts the address of your Kibana into the links of your copy of the runbooks.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import re
import ssl
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "roles/kibana/files/objects.yml"
OBJECTS = ROOT / "roles/kibana/files/objects.ndjson"
RUNBOOKS = ROOT / "docs/runbooks"

SPACE = "flowfleet"
# Bears the sum of all objects when they are imported.
TAG = "flowfleet"
KIBANA = "https://logs.langflow.example.com:5601"
BAD = "(error or err or critical or crit or alert or emerg or emergency or fatal or panic)"
COLUMNS = ["service.name", "host.name", "log.level", "message"]
LOGS = "flowfleet-logs"
NUMBERS = {"http.response.status_code", "event.duration", "labels.masked"}
WIDTH = 48
DISCOVER = f"/s/{SPACE}/app/discover#/view"
# The shapes below are those of these versions; later ones of Kibana bring them up to date when they are imported.
CORE, TYPES = "8.8.0", {"index-pattern": "8.0.0", "search": "8.0.0", "dashboard": "10.2.0"}
LINK = re.compile(r"^Its lines in Kibana: \[.*\n(?:\n)?", re.M)


class SourceError(Exception):
    """The list says something that cannot be; the message says where."""


def packed(data: Any) -> str:
    """JSON inside of JSON, as Kibana keeps it."""
    return json.dumps(data, separators=(",", ":"), sort_keys=True)


def saved(kind: str, name: str, attributes: Mapping[str, Any], references: list[dict[str, str]]) -> dict[str, Any]:
    """One saved object."""
    if kind != "index-pattern":
        references = [*references, {"type": "tag", "id": TAG, "name": f"tag-ref-{TAG}"}]
    return {
        "attributes": dict(attributes),
        "coreMigrationVersion": CORE,
        "id": name,
        "references": references,
        "type": kind,
        "typeMigrationVersion": TYPES[kind],
    }


def source(query: str, **more: Any) -> dict[str, Any]:
    """What to look for."""
    return {"query": {"language": "kuery", "query": query.replace("<bad>", BAD)}, "filter": [], **more}


def view(row: Mapping[str, Any]) -> dict[str, Any]:
    """A data view; a trace id in it leads to all lines with that id."""
    template = f"{DISCOVER}/trace?_a=(query:(language:kuery,query:'trace.id:%22{{{{value}}}}%22'))"
    formats = {
        "trace.id": {"id": "url", "params": {"urlTemplate": template, "labelTemplate": "{{value}}"}},
        "event.duration": {
            "id": "duration",
            "params": {"inputFormat": "nanoseconds", "outputFormat": "humanizePrecise", "outputPrecision": 2},
        },
    }
    attributes = {
        "title": row["title"],
        "name": row["name"],
        "timeFieldName": "@timestamp",
        "fields": "[]",
        "fieldAttrs": "{}",
        "fieldFormatMap": packed(formats),
        "runtimeFieldMap": "{}",
        "sourceFilters": "[]",
        "typeMeta": "{}",
    }
    return saved("index-pattern", row["id"], attributes, [])


def search(row: Mapping[str, Any]) -> dict[str, Any]:
    """A saved search."""
    place = "kibanaSavedObjectMeta.searchSourceJSON.index"
    attributes = {
        "title": row["title"],
        "description": row.get("description", ""),
        "columns": row.get("columns", COLUMNS),
        "sort": [["@timestamp", "asc" if row.get("oldest_first") else "desc"]],
        "grid": {},
        "hideChart": False,
        "isTextBasedQuery": False,
        "timeRestore": False,
        "kibanaSavedObjectMeta": {"searchSourceJSON": packed(source(row["query"], indexRefName=place))},
    }
    return saved(
        "search", row["id"], attributes, [{"type": "index-pattern", "id": row.get("view", LOGS), "name": place}]
    )


def measured(panel: Mapping[str, Any]) -> dict[str, Any]:
    """The column of what is measured."""
    said = panel.get("value", {"op": "count"})
    operation = {"count": "count", "percentile": "percentile", "unique": "unique_count", "sum": "sum"}[said["op"]]
    if (operation == "count") == ("field" in said):
        raise SourceError(f"{panel['title']}: count has no field, all else has one")
    column: dict[str, Any] = {
        "label": panel["title"],
        "customLabel": True,
        "dataType": "number",
        "operationType": operation,
        "isBucketed": False,
        "scale": "ratio",
        "sourceField": said.get("field", "___records___"),
        "params": {"percentile": said["percentile"]} if operation == "percentile" else {"emptyAsNull": False},
    }
    if said.get("field") == "event.duration":
        # Nanoseconds, shown as the data view shows them.
        column["params"]["format"] = {"id": "duration", "params": {"decimals": 2, "fromUnit": "nanoseconds"}}
    return column


def split(field: str, size: int) -> dict[str, Any]:
    """A column of values of a field."""
    return {
        "label": field,
        "customLabel": True,
        "dataType": "number" if field in NUMBERS else "string",
        "operationType": "terms",
        "isBucketed": True,
        "scale": "ordinal",
        "sourceField": field,
        "params": {
            "size": size,
            "orderBy": {"type": "column", "columnId": "value"},
            "orderDirection": "desc",
            "otherBucket": False,
            "missingBucket": False,
            "parentFormat": {"id": "terms"},
        },
    }


def time_axis() -> dict[str, Any]:
    """The column of time."""
    return {
        "label": "@timestamp",
        "dataType": "date",
        "operationType": "date_histogram",
        "isBucketed": True,
        "scale": "interval",
        "sourceField": "@timestamp",
        "params": {"interval": "auto", "includeEmptyRows": True, "dropPartials": False},
    }


def drawn(panel: Mapping[str, Any], splits: list[str]) -> tuple[str, dict[str, Any]]:
    """How the columns are shown."""
    layer = {"layerId": "layer", "layerType": "data"}
    if panel["kind"] == "metric":
        return "lnsMetric", {**layer, "metricAccessor": "value"}
    if panel["kind"] == "table":
        return "lnsDatatable", {**layer, "columns": [{"columnId": name} for name in [*splits, "value"]]}
    series = "bar_stacked" if panel["kind"] == "bars" else "line"
    shown = {**layer, "accessors": ["value"], "seriesType": series, "xAccessor": "time"}
    if splits:
        shown["splitAccessor"] = splits[0]
    return "lnsXY", {
        "layers": [shown],
        "legend": {"isVisible": True, "position": "right"},
        "preferredSeriesType": series,
        "valueLabels": "hide",
    }


def lens(panel: Mapping[str, Any]) -> dict[str, Any]:
    """A picture, kept inside of its dashboard."""
    by = panel.get("by") or {}
    splits = [f"by{number}" for number in range(1, len(by) + 1)]
    columns: dict[str, Any] = {}
    if panel["kind"] in ("lines", "bars") and len(by) > 1:
        raise SourceError(f"{panel['title']}: lines and bars are split by one field at most")
    if panel["kind"] == "metric" and by:
        raise SourceError(f"{panel['title']}: a metric is one number")
    if panel["kind"] == "table" and not by:
        raise SourceError(f"{panel['title']}: a table needs by")
    columns.update({name: split(field, size) for name, (field, size) in zip(splits, by.items(), strict=True)})
    # After the values: those of the whole time are wanted, not others in each of its steps.
    if panel["kind"] in ("lines", "bars"):
        columns["time"] = time_axis()
    columns["value"] = measured(panel)
    visualization, shown = drawn(panel, splits)
    layer = {"columns": columns, "columnOrder": list(columns), "incompleteColumns": {}, "sampling": 1}
    said = source(panel["query"])
    return {
        "title": panel["title"],
        "type": "lens",
        "visualizationType": visualization,
        "references": [{"type": "index-pattern", "id": LOGS, "name": "indexpattern-datasource-layer-layer"}],
        "state": {
            "query": said["query"],
            "filters": said["filter"],
            "visualization": shown,
            "datasourceStates": {"formBased": {"layers": {"layer": layer}}},
            "internalReferences": [],
            "adHocDataViews": {},
        },
    }


def dashboard(row: Mapping[str, Any]) -> dict[str, Any]:
    """A dashboard: panels from left to right, in rows."""
    panels: list[dict[str, Any]] = []
    references: list[dict[str, str]] = []
    x = y = tallest = 0
    for number, panel in enumerate(row["panels"], 1):
        if x + panel["w"] > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        index = str(number)
        made: dict[str, Any] = {
            "gridData": {"x": x, "y": y, "w": panel["w"], "h": panel["h"], "i": index},
            "panelIndex": index,
            "title": panel["title"],
        }
        if panel["kind"] == "search":
            made |= {"type": "search", "panelRefName": f"panel_{index}", "embeddableConfig": {"enhancements": {}}}
            references.append({"type": "search", "id": panel["search"], "name": f"{index}:panel_{index}"})
        else:
            attributes = lens(panel)
            made |= {"type": "lens", "embeddableConfig": {"attributes": attributes, "enhancements": {}}}
            references += [{**each, "name": f"{index}:{each['name']}"} for each in attributes["references"]]
        panels.append(made)
        x, tallest = x + panel["w"], max(tallest, panel["h"])
    options = {"hidePanelTitles": False, "syncColors": True, "syncCursor": True, "syncTooltips": False}
    attributes = {
        "title": row["title"],
        "description": row["description"],
        "panelsJSON": packed(panels),
        "optionsJSON": packed({**options, "useMargins": True}),
        "kibanaSavedObjectMeta": {"searchSourceJSON": packed(source(""))},
        "timeRestore": True,
        "timeFrom": "now-24h",
        "timeTo": "now",
        "version": 1,
    }
    return saved("dashboard", row["id"], attributes, references)


def runbook(name: str, topic: Mapping[str, Any]) -> dict[str, Any]:
    """What somebody who got an alert wants to read first."""
    return {
        **topic,
        "id": f"runbook-{name}",
        "title": f"Runbook: {name}",
        "description": f"What to read first when {name} fires.",
    }


def objects(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All objects; what others refer to comes first."""
    unknown = set(data["runbooks"].values()) - set(data["topics"])
    if unknown:
        raise SourceError(f"runbooks: no such topic: {', '.join(sorted(unknown))}")
    yield from map(view, data["views"])
    yield from map(search, data["searches"])
    for name, topic in sorted(data["runbooks"].items()):
        yield search(runbook(name, data["topics"][topic]))
    yield from map(dashboard, data["dashboards"])


def lines(data: Mapping[str, Any]) -> str:
    """The file for the import: an object a line."""
    made = list(objects(data))
    names = [(each["type"], each["id"]) for each in made]
    twice = {name for name in names if names.count(name) > 1}
    missing = {
        (each["type"], each["id"])
        for item in made
        for each in item["references"]
        if each["type"] != "tag" and (each["type"], each["id"]) not in names
    }
    if twice or missing:
        raise SourceError(f"twice: {sorted(twice)}, not there: {sorted(missing)}")
    return "".join(json.dumps(each, sort_keys=True) + "\n" for each in made)


def linked(text: str, name: str, kibana: str) -> str:
    """A runbook with the link to its search, as the last line of what to look at."""
    link = f"Its lines in Kibana: [Runbook: {name}]({kibana}{DISCOVER}/runbook-{name})\n\n"
    head, mark, tail = LINK.sub("", text).partition("## What to do\n")
    if not mark:
        raise SourceError(f"docs/runbooks/{name}.md has no part 'What to do'")
    return head + link + mark + tail


def wanted(kibana: str) -> dict[Path, str]:
    """What each file has to say."""
    data = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    found = {OBJECTS: lines(data)}
    for page in sorted(RUNBOOKS.glob("*.md")):
        if page.stem == "index":
            continue
        if page.stem not in data["runbooks"]:
            raise SourceError(f"{SOURCE.relative_to(ROOT)}: runbooks has no topic for {page.stem}")
        found[page] = linked(page.read_text(encoding="utf-8"), page.stem, kibana)
    return found


# --- the queries on a real store ----------------------------------------------------------------------------------


def lucene(query: str) -> str:
    """A query in the language that Elasticsearch itself reads. Not all of KQL: what the list uses."""
    pieces = re.findall(r'"(?:\\.|[^"\\])*"|<=|>=|[<>:()]|[^\s<>:()"]+', query.replace("<bad>", BAD))
    made = ""
    for piece in pieces:
        if piece in ("<=", ">=", "<", ">"):
            made = f"{made.rstrip()}:{piece}"
        elif piece == ":":
            made = made.rstrip() + ":"
        elif piece == ")":
            made = made.rstrip() + ") "
        elif piece == "(":
            made += "("
        else:
            made += f"{piece.upper() if piece.lower() in ('and', 'or', 'not') else piece} "
    return made.strip() or "*"


def asked(data: Mapping[str, Any]) -> Iterator[tuple[str, str, set[str]]]:
    """Name, query and fields of everything that is looked for."""
    for row in [*data["searches"], *(runbook(name, data["topics"][topic]) for name, topic in data["runbooks"].items())]:
        yield row["id"], row["query"], set(row.get("columns", COLUMNS))
    for page in data["dashboards"]:
        for panel in page["panels"]:
            if panel["kind"] != "search":
                field = panel.get("value", {}).get("field")
                yield (
                    f"{page['id']}: {panel['title']}",
                    panel["query"],
                    {*panel.get("by", {}), *([field] if field else [])},
                )


class Store:
    """Elasticsearch, over verified TLS."""

    def __init__(self, url: str, ca: str, user: str, password: str) -> None:
        self.parts = urllib.parse.urlsplit(url)
        self.context = ssl.create_default_context(cafile=ca)
        self.login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def post(self, path: str, body: Any) -> dict[str, Any]:
        """One question; an answer that is none raises."""
        client = http.client.HTTPSConnection(
            str(self.parts.hostname), self.parts.port, timeout=30, context=self.context
        )
        try:
            headers = {"Authorization": self.login, "Content-Type": "application/json"}
            client.request("POST", path, json.dumps(body) if body is not None else None, headers)
            response = client.getresponse()
            text = response.read().decode("utf-8", "replace")
        finally:
            client.close()
        if response.status != 200:
            raise SourceError(f"status {response.status}: {' '.join(text.split())[:200]}")
        found: dict[str, Any] = json.loads(text)
        return found


def judge(data: Mapping[str, Any], store: Store) -> list[str]:
    """Run every query; tell what fails and which fields no line has ever had."""
    problems = []
    fields: set[str] = set()
    for name, query, wanted_fields in asked(data):
        fields |= wanted_fields
        body = {"size": 0, "track_total_hits": True, "query": {"query_string": {"query": lucene(query)}}}
        try:
            found = store.post("/logs-*/_search", body)
        except SourceError as error:
            problems.append(f"{name}: {error}")
            continue
        failed = found["_shards"]["failures"][0]["reason"]["reason"] if found["_shards"].get("failures") else ""
        if failed:
            problems.append(f"{name}: {failed}")
        print(f"{found['hits']['total']['value']:>9}  {name}")
    names = ",".join(sorted(fields))
    known = store.post(f"/logs-*/_field_caps?fields={urllib.parse.quote(names)}", None)["fields"]
    return problems + [f"field {name} is not mapped" for name in sorted(fields - set(known))]


def main(arguments: list[str]) -> int:
    """Write, or say what is out of date, or try the queries."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 when a file is out of date")
    parser.add_argument("--kibana", default=KIBANA, help="address in the links")
    tried = parser.add_subparsers(dest="action").add_parser("test", help="run every query on a store")
    for option in ("--url", "--ca", "--user", "--password-file"):
        tried.add_argument(option, required=True)
    options = parser.parse_args(arguments)
    if options.action == "test":
        password = Path(options.password_file).read_text(encoding="utf-8").strip()
        store = Store(options.url, options.ca, options.user, password)
        problems = judge(yaml.safe_load(SOURCE.read_text(encoding="utf-8")), store)
        print("\n".join(problems) or "every query runs, every field is known")
        return 1 if problems else 0
    try:
        files = wanted(options.kibana.rstrip("/"))
    except SourceError as error:
        print(error, file=sys.stderr)
        return 1
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if options.check:
            print(f"{path.relative_to(ROOT)} is out of date, run tools/saved_objects.py")
        else:
            path.write_text(files[path], encoding="utf-8")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
