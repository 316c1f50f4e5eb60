# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A named API key: made once, tried ever after, made anew only when the server says it is useless."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.modules import langflow_api_key
from langflow_fake import PASSWORD, USER, Langflow, running

Ensure = Callable[..., dict[str, Any]]


@pytest.fixture
def langflow() -> Iterator[Langflow]:
    yield from running()


@pytest.fixture
def ensure(run_module: Callable[..., dict[str, Any]], langflow: Langflow) -> Ensure:
    def run(check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {"url": langflow.url, "username": USER, "password": PASSWORD, "name": "fleet", "timeout": 3}
        return run_module(langflow_api_key, {**arguments, **options}, check=check)

    return run


def names(langflow: Langflow) -> list[str]:
    return sorted(key["name"] for key in langflow.state.keys.values())


def test_a_key_is_made_once_and_then_only_tried(ensure: Ensure, langflow: Langflow) -> None:
    first = ensure()
    assert first["changed"]
    assert first["api_key"] in langflow.state.keys
    second = ensure(api_key=first["api_key"])
    assert second == {**second, "changed": False}
    assert "api_key" not in {key for key in second if key != "invocation"}
    assert langflow.state.logins == 1
    assert names(langflow) == ["fleet"]


def test_a_useless_key_is_replaced(ensure: Ensure, langflow: Langflow) -> None:
    langflow.state.add_key("fleet")
    other = langflow.state.add_key("other")
    result = ensure(api_key="sk-of-an-older-database")
    assert (result["changed"], result["removed"], result["reason"]) == (True, 1, "the server refuses the kept key")
    assert result["api_key"] in langflow.state.keys
    assert other in langflow.state.keys
    assert names(langflow) == ["fleet", "other"]


def test_check_mode_makes_nothing(ensure: Ensure, langflow: Langflow) -> None:
    result = ensure(check=True, api_key="sk-useless")
    assert result["changed"]
    assert (langflow.state.keys, langflow.state.logins) == ({}, 0)
    good = langflow.state.add_key("fleet")
    assert not ensure(check=True, api_key=good)["changed"]


@pytest.mark.parametrize(("check", "state", "changed"), [(True, "present", True), (True, "absent", False)])
def test_check_mode_before_there_is_a_server(
    ensure: Ensure, free_port: int, check: bool, state: str, changed: bool
) -> None:
    result = ensure(check=check, url=f"http://127.0.0.1:{free_port}", state=state)
    assert result["changed"] is changed
    assert not result.get("failed")


def test_a_server_that_is_down_is_a_failure(ensure: Ensure, free_port: int) -> None:
    assert "cannot connect" in ensure(url=f"http://127.0.0.1:{free_port}", api_key="sk-x")["msg"]


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_in_trouble_costs_no_key(ensure: Ensure, langflow: Langflow, status: int) -> None:
    key = langflow.state.add_key("fleet")
    langflow.state.faults["GET /api/v1/users/whoami"] = (status, {"detail": "trouble"}, {})
    result = ensure(api_key=key)
    assert result["failed"]
    assert f"HTTP {status} trouble" in result["msg"]
    assert key in langflow.state.keys


def test_a_key_of_somebody_else_is_not_kept(ensure: Ensure, langflow: Langflow) -> None:
    key = langflow.state.add_key("fleet")
    langflow.state.faults["GET /api/v1/users/whoami"] = (200, {"username": "eve"}, {})
    assert ensure(api_key=key)["reason"] == "the kept key belongs to another user"


def test_a_given_key_must_work(ensure: Ensure, langflow: Langflow) -> None:
    result = ensure(api_key="sk-given", create=False)
    assert "no new one is to be made" in result["msg"]
    assert langflow.state.keys == {}


def test_keys_can_be_removed(ensure: Ensure, langflow: Langflow) -> None:
    langflow.state.add_key("fleet")
    langflow.state.add_key("fleet")
    assert ensure(check=True, state="absent")["removed"] == 2
    assert len(langflow.state.keys) == 2
    assert ensure(state="absent")["changed"]
    assert langflow.state.keys == {}
    assert not ensure(state="absent")["changed"]


def test_nothing_secret_is_shown(ensure: Ensure, langflow: Langflow) -> None:
    key = langflow.state.add_key("fleet")
    assert key not in json.dumps(ensure(api_key=key))
    assert PASSWORD not in json.dumps(ensure(api_key="sk-useless-key"))
