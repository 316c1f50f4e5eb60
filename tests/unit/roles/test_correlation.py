# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From an alert and from a point in a graph to the lines of a request: three roles agree on the way."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "rules"))

render = importlib.import_module("render")

KIBANA = "https://192.0.2.70:5601"
SEARCHES = {
    item["id"]
    for item in map(json.loads, (ROOT / "roles/kibana/files/objects.ndjson").read_text(encoding="utf-8").splitlines())
    if item["type"] == "search"
}


def alerts(**given: Any) -> list[dict[str, Any]]:
    read = yaml.safe_load(render.rules(**given)["alerts"])
    return [rule for group in read["groups"] for rule in group["rules"]]


def test_every_alert_leads_to_a_search_that_is_there() -> None:
    found = alerts(langflow_fleet_kibana_url=KIBANA)
    assert found
    for rule in found:
        link = rule["annotations"]["logs_url"]
        assert link == f"{KIBANA}/s/flowfleet/app/discover#/view/runbook-{rule['alert']}"
        assert link.rpartition("/")[2] in SEARCHES


def test_without_kibana_no_alert_leads_there() -> None:
    assert all("logs_url" not in rule["annotations"] for rule in alerts())


def test_prometheus_keeps_exemplars() -> None:
    nothing: dict[str, Any] = {"prometheus_targets": [], "prometheus_probes": [], "prometheus_otlp_enabled": False}
    made = render.role(**nothing, langflow_fleet_traced=True)
    assert "--enable-feature=auto-gomemlimit,exemplar-storage\n" in made.file("langflow-prometheus.service.j2")
    read = yaml.safe_load(made.file("prometheus.yml.j2"))
    assert read["storage"]["exemplars"] == {"max_exemplars": 100000}
    for given in ({}, {"langflow_fleet_traced": True, "prometheus_exemplars": 0}):
        off = render.role(**nothing, **given)
        assert "--enable-feature=auto-gomemlimit\n" in off.file("langflow-prometheus.service.j2")
        assert "exemplars" not in off.file("prometheus.yml.j2")


def test_links_name_the_space_and_the_search_of_role_kibana() -> None:
    defaults = yaml.safe_load((ROOT / "roles/kibana/defaults/main.yml").read_text(encoding="utf-8"))
    variables = (ROOT / "roles/grafana/vars/main.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"/s/([a-z0-9_-]+)/app/discover#/view/([A-Za-z0-9-]+)", variables))
    assert named == {(defaults["kibana_space"], "trace")}
    assert "trace" in SEARCHES


def test_panels_made_of_spans_show_single_requests() -> None:
    page = json.loads((ROOT / "roles/grafana/files/dashboards/flowfleet-service.json").read_text(encoding="utf-8"))
    targets = [target for panel in page["panels"] for target in panel.get("targets", [])]
    shown = [target for target in targets if target.get("exemplar")]
    assert shown
    for target in targets:
        assert bool(target.get("exemplar")) == ("traces_span_metrics_" in target["expr"])
