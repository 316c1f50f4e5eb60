# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The user that monitoring runs its flow as: ordinary, active, made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import ApiError
from ansible_collections.flowfleet.langflow.plugins.modules import langflow_user

NAME = "flowfleet-probe"
Ensure = Callable[..., dict[str, Any]]


class Server:
    """A Langflow that knows users only, and shows two of them at a time."""

    def __init__(self) -> None:
        self.users: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str, Any]] = []
        self.filters = True
        # Whether new users are active by themselves is a setting of the server.
        self.new_active = False
        self.broken: ApiError | None = None

    def add(self, name: str, **more: Any) -> dict[str, Any]:
        user = {"id": f"id-{name}", "username": name, "is_active": True, "is_superuser": False, **more}
        self.users.append(user)
        return user

    def call(self, method: str, path: str, data: Any = None, *, expect: tuple[int, ...] = (200,)) -> Any:
        if self.broken:
            raise self.broken
        self.asked.append((method, path, data))
        parts = urlsplit(path)
        if method == "GET":
            words = {name: values[0] for name, values in parse_qs(parts.query).items()}
            known = [user for user in self.users if not self.filters or user["username"] == words["username"]]
            first = int(words["skip"])
            return {"total_count": len(known), "users": known[first : first + 2]}
        if method == "POST":
            assert 201 in expect
            return self.add(data["username"], is_active=self.new_active, password=data["password"])
        user = next(user for user in self.users if path == f"/api/v1/users/{user['id']}")
        user.update(data)
        return user

    def changes(self) -> list[tuple[str, Any]]:
        return [(method, data) for method, _path, data in self.asked if method != "GET"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(langflow_user, "LangflowClient", lambda *_arguments: made)
    return made


@pytest.fixture
def ensure(run_module: Callable[..., dict[str, Any]]) -> Ensure:
    def run(check: bool = False, **more: Any) -> dict[str, Any]:
        word, key = "w" * 20, "sk-" + "k" * 20
        arguments = {"url": "https://l.example.com", "api_key": key, "username": NAME, "password": word, **more}
        return run_module(langflow_user, arguments, check=check)

    return run


def test_it_is_made_active_and_ordinary_and_the_second_run_changes_nothing(ensure: Ensure, server: Server) -> None:
    assert ensure()["changed"]
    (user,) = server.users
    assert (user["username"], user["is_active"], user["is_superuser"]) == (NAME, True, False)
    assert [method for method, _data in server.changes()] == ["POST", "PATCH"]
    second = ensure()
    assert (second["changed"], second["user_id"]) == (False, f"id-{NAME}")


def test_where_new_users_are_active_nothing_else_is_done(ensure: Ensure, server: Server) -> None:
    server.new_active = True
    ensure()
    assert [method for method, _data in server.changes()] == ["POST"]


def test_one_that_was_shut_out_is_let_in_and_keeps_its_password(ensure: Ensure, server: Server) -> None:
    server.add(NAME, is_active=False)
    result = ensure()
    assert (result["changed"], result["reason"]) == (True, "it is not active")
    assert server.changes() == [("PATCH", {"is_active": True})]


def test_the_password_is_set_when_it_is_asked_for(ensure: Ensure, server: Server) -> None:
    server.add(NAME)
    assert ensure(renew=True)["changed"]
    assert server.changes() == [("PATCH", {"password": "w" * 20})]


def test_an_administrator_is_left_alone(ensure: Ensure, server: Server) -> None:
    server.add(NAME, is_superuser=True)
    result = ensure(renew=True)
    assert result["failed"]
    assert "administrator" in result["msg"]
    assert server.changes() == []


def test_it_is_found_among_many_by_a_server_that_does_not_filter(ensure: Ensure, server: Server) -> None:
    server.filters = False
    for name in ("a", "b", "flowfleet-probe-2", "c", NAME):
        server.add(name)
    assert not ensure()["changed"]
    # Control: a name that only looks like it is none.
    server.users.pop()
    assert ensure()["changed"]


def test_check_mode_makes_nothing(ensure: Ensure, server: Server) -> None:
    result = ensure(check=True)
    assert (result["changed"], result["user_id"], server.users) == (True, "", [])
    server.broken = ApiError("refused", "connection refused")
    assert ensure(check=True)["changed"]
    # Control: it is a failure where something is to be made.
    assert ensure()["failed"]


def test_what_the_server_refuses_is_said_without_the_secrets(ensure: Ensure, server: Server) -> None:
    server.broken = ApiError("status", "GET /api/v1/users/: HTTP 403", 403)
    result = ensure()
    assert result["failed"]
    assert result["msg"] == f"user {NAME}: GET /api/v1/users/: HTTP 403"
