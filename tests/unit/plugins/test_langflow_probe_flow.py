# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The flow that monitoring runs: made once, replaced when its plan changes, never taken from somebody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.modules import langflow_probe_flow as probe

PLAN = {"nodes": {"input": {"component": "ChatInput"}, "sort": {"component": "Sort"}}, "edges": []}
Ensure = Callable[..., dict[str, Any]]


class Client:
    """A Langflow that knows flows only."""

    flows_there: dict[str, dict[str, Any]]

    def __init__(self, *_arguments: Any) -> None:
        """Take what a client takes."""

    def flows(self) -> list[dict[str, Any]]:
        return [{"id": key, **value} for key, value in self.flows_there.items()]

    def call(self, _method: str, _path: str) -> dict[str, Any]:
        return {}

    def create_flow(self, flow: dict[str, Any]) -> str:
        name = f"flow-{len(self.flows_there)}"
        self.flows_there[name] = flow
        return name

    def delete_flow(self, name: str) -> None:
        del self.flows_there[name]


@pytest.fixture
def flows(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    there: dict[str, dict[str, Any]] = {"mine": {"name": "mine", "endpoint_name": None, "description": None}}
    monkeypatch.setattr(Client, "flows_there", there, raising=False)
    monkeypatch.setattr(probe, "LangflowClient", Client)
    monkeypatch.setattr(probe, "make_flow", lambda _all, plan, name: {"name": name, "plan": plan})
    return there


@pytest.fixture
def ensure(run_module: Callable[..., dict[str, Any]], flows: dict[str, dict[str, Any]]) -> Ensure:
    def run(check: bool = False, plan: dict[str, Any] | None = None, state: str = "present") -> dict[str, Any]:
        key = "sk-" + "k" * 20
        arguments = {
            "url": "https://l.example.com",
            "api_key": key,
            "endpoint_name": "probe",
            **({"plan": json.dumps(plan or PLAN), "state": state} if state == "present" else {"state": state}),
        }
        return run_module(probe, arguments, check=check)

    return run


def test_it_is_made_once_and_stores_no_messages(ensure: Ensure, flows: dict[str, dict[str, Any]]) -> None:
    first = ensure()
    assert first["changed"]
    made = flows[first["flow_id"]]
    assert made["endpoint_name"] == "probe"
    assert made["plan"]["nodes"]["input"]["set"] == {"should_store_message": False}
    assert "set" not in made["plan"]["nodes"]["sort"]
    again = ensure()
    assert (again["changed"], again["flow_id"]) == (False, first["flow_id"])
    assert len(flows) == 2


def test_another_plan_replaces_it(ensure: Ensure, flows: dict[str, dict[str, Any]]) -> None:
    ensure()
    assert ensure(plan={**PLAN, "edges": [["a", "b", "c", "d"]]})["changed"]
    assert sorted(item["name"] for item in flows.values()) == ["mine", "probe"]


def test_check_mode_makes_nothing(ensure: Ensure, flows: dict[str, dict[str, Any]]) -> None:
    assert ensure(check=True)["changed"]
    assert list(flows) == ["mine"]
    ensure()
    assert not ensure(check=True)["changed"]


def test_a_flow_of_somebody_else_is_left_alone(ensure: Ensure, flows: dict[str, dict[str, Any]]) -> None:
    flows["theirs"] = {"name": "probe", "endpoint_name": "probe", "description": "ours"}
    result = ensure()
    assert result["failed"]
    assert "made by somebody else" in result["msg"]
    assert set(flows) == {"mine", "theirs"}


def test_what_it_has_made_is_removed_and_nothing_else(ensure: Ensure, flows: dict[str, dict[str, Any]]) -> None:
    flows["theirs"] = {"name": "other", "endpoint_name": "other", "description": "theirs"}
    ensure()
    assert ensure(check=True, state="absent")["changed"]
    assert len(flows) == 3
    assert ensure(state="absent")["changed"]
    assert set(flows) == {"mine", "theirs"}
    assert not ensure(state="absent")["changed"]
    # Control: the same name, made by somebody else.
    flows["theirs"]["endpoint_name"] = "probe"
    assert not ensure(state="absent")["changed"]
