# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flows made from a plan and the server's components."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_flow import PlanError, make_flow
from langflow_fake import catalogue

PLAN_FILE = Path(__file__).parents[3] / "playbooks" / "files" / "flows" / "smoke.json"
PLAN: dict[str, Any] = json.loads(PLAN_FILE.read_text(encoding="utf-8"))


def test_the_plan_of_the_smoke_test_fits() -> None:
    flow = make_flow(catalogue(), PLAN, "name")
    assert flow["name"] == "name"
    assert len(flow["data"]["nodes"]) == len(PLAN["nodes"]) == 11
    nodes = {node["id"]: node["data"]["node"] for node in flow["data"]["nodes"]}
    for edge in flow["data"]["edges"]:
        assert edge["data"]["sourceHandle"]["name"] in {out["name"] for out in nodes[edge["source"]]["outputs"]}
        assert edge["data"]["targetHandle"]["fieldName"] in nodes[edge["target"]]["template"]
        assert json.loads(edge["sourceHandle"].replace("\u0153", '"')) == edge["data"]["sourceHandle"]


def test_the_plan_carries_no_code() -> None:
    text = PLAN_FILE.read_text(encoding="utf-8")
    assert '"code"' not in text
    assert len(text) < 10000


def test_what_is_set_is_shown() -> None:
    flow = make_flow(catalogue(), PLAN, "name")
    template = next(node for node in flow["data"]["nodes"] if node["id"] == "Operations-sort")["data"]["node"][
        "template"
    ]
    assert template["column_name"]["value"] == "text"
    assert template["column_name"]["show"]
    assert template["df"]["show"]


def test_the_catalogue_stays_as_it_is() -> None:
    source = catalogue()
    before = copy.deepcopy(source)
    make_flow(source, PLAN, "name")
    assert source == before


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("nodes", "input", "component"), "Gone", "no component 'Gone'"),
        (("nodes", "split", "set"), {"gone": 1}, "no input 'gone'"),
        (("edges", 0), ["input", "gone", "repeat", "text_input"], "cannot join"),
        (("edges", 0), ["gone", "message", "repeat", "text_input"], "'gone', which it does not have"),
        (("edges", 0), ["input", "message"], "not complete"),
        (("nodes", "input"), {}, "not complete"),
    ],
)
def test_a_plan_that_does_not_fit_is_named(path: tuple[Any, ...], value: Any, words: str) -> None:
    plan = copy.deepcopy(PLAN)
    place = plan
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(PlanError, match=words):
        make_flow(catalogue(), plan, "name")


def test_kinds_that_do_not_match_are_refused() -> None:
    components = catalogue()
    components["everything"]["SplitText"]["template"]["data_inputs"]["input_types"] = ["Embeddings"]
    with pytest.raises(PlanError, match="takes"):
        make_flow(components, PLAN, "name")
