# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules for Patroni and etcd, against servers that speak real TLS."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.modules import (
    etcd_auth,
    etcd_cluster_info,
    etcd_member,
    patroni_cluster_info,
    patroni_config,
    patroni_switchover,
)


class FakeApi:
    """A server that answers JSON from a table and remembers what it was told."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.answers: dict[str, Any] = {}
        self.told: list[tuple[str, str, Any, str | None]] = []
        self.on_write: Callable[[str, Any], tuple[int, str]] = lambda _path, _body: (200, "{}")
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _send(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_GET(self) -> None:
                outer.told.append(("GET", self.path, None, self.headers.get("Authorization")))
                found = outer.answers.get(self.path)
                found = found() if callable(found) else found
                self._send(404 if found is None else 200, "nothing" if found is None else json.dumps(found))

            def _write(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.told.append((self.command, self.path, body, self.headers.get("Authorization")))
                self._send(*outer.on_write(self.path, body))

            do_POST = do_PATCH = _write

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def writes(self) -> list[tuple[str, str, Any]]:
        return [(verb, path, body) for verb, path, body, _login in self.told if verb != "GET"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def api(authority: Any) -> Iterator[FakeApi]:
    server = FakeApi(authority.server_context("127.0.0.1"))
    yield server
    server.close()


CONFIG = {"ttl": 30, "synchronous_mode": True, "postgresql": {"parameters": {"max_connections": 100}}}


class FakeCluster:
    """Three members behind one API."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.config: dict[str, Any] = json.loads(json.dumps(CONFIG))
        self.members = [self.member("a", "leader"), self.member("b", "sync_standby"), self.member("c", "replica")]
        self.extra: dict[str, Any] = {}
        self.name = "a"
        api.answers["/cluster"] = lambda: {"members": self.members, **self.extra}
        api.answers["/config"] = lambda: self.config
        api.answers["/patroni"] = lambda: {
            "server_version": 170012,
            "patroni": {"name": self.name, "version": "4.0.7"},
        }
        api.on_write = self.write

    def member(self, name: str, role: str, **changes: Any) -> dict[str, Any]:
        found = {
            "name": name,
            "role": role,
            "state": "running" if role == "leader" else "streaming",
            "api_url": f"https://127.0.0.1:{self.api.port}/patroni",
            "host": "192.0.2.1",
            "port": 5432,
            "timeline": 1,
        }
        return {**found, **({} if role == "leader" else {"lag": 0}), **changes}

    def write(self, path: str, body: Any) -> tuple[int, str]:
        if path == "/config":
            self.config.update({key: value for key, value in body.items() if key != "postgresql"})
            self.config["postgresql"]["parameters"].update(body.get("postgresql", {}).get("parameters", {}))
        else:
            self.members = [
                self.member("a", "sync_standby", timeline=2),
                self.member("b", "leader", timeline=2),
                self.member("c", "replica", timeline=2),
            ]
        return 200, "{}"


@pytest.fixture
def cluster(api: FakeApi) -> FakeCluster:
    return FakeCluster(api)


@pytest.fixture
def access(api: FakeApi, authority: Any) -> dict[str, Any]:
    return {
        "url": f"https://127.0.0.1:{api.port}",
        "ca_path": str(authority.path),
        "username": "patroni",
        "password": "a-long-password",
        "request_timeout": 3,
    }


# --- patroni_cluster_info ---------------------------------------------------------------------------------------------


def test_a_healthy_cluster(run_module: Any, cluster: FakeCluster, access: dict[str, Any]) -> None:
    result = run_module(patroni_cluster_info, {**access, "expected": 3})
    assert result["healthy"]
    assert (result["name"], result["leader"], result["leads"]) == ("a", "a", True)
    assert [member["server_version"] for member in result["members"]] == [170012] * 3
    assert result["config"] == CONFIG
    # Questions carry no password.
    assert {login for _verb, _path, _body, login in cluster.api.told} == {None}


@pytest.mark.parametrize(
    ("index", "changes", "problem"),
    [
        (1, {"state": "in archive recovery"}, "b is in archive recovery, not streaming"),
        (1, {"lag": 4096}, "b is 4096 bytes behind"),
        (1, {"lag": "unknown"}, "b is unknown bytes behind"),
        (2, {"timeline": 3}, "c is on timeline 3, the leader on 1"),
        (0, {"state": "starting"}, "leader a is starting"),
        (0, {"role": "replica", "state": "streaming", "lag": 0}, "nobody leads"),
        (1, {"role": "replica"}, "no synchronous standby"),
        (2, {"api_url": "https://127.0.0.1:1/patroni"}, "c does not answer"),
    ],
)
def test_every_doubt_is_told(
    run_module: Any, cluster: FakeCluster, access: dict[str, Any], index: int, changes: dict[str, Any], problem: str
) -> None:
    cluster.members[index].update(changes)
    result = run_module(patroni_cluster_info, access)
    assert not result["healthy"]
    assert problem in "; ".join(result["problems"])


def test_missing_members_and_a_pause_are_doubts(run_module: Any, cluster: FakeCluster, access: dict[str, Any]) -> None:
    cluster.extra["pause"] = True
    problems = run_module(patroni_cluster_info, {**access, "expected": 4})["problems"]
    assert problems == ["the cluster is paused: nobody would take over", "3 of 4 members are there"]


def test_it_waits_for_health(run_module: Any, cluster: FakeCluster, access: dict[str, Any]) -> None:
    looks: list[int] = []

    def recovering() -> dict[str, Any]:
        looks.append(1)
        cluster.members[1]["lag"] = 100 if len(looks) < 3 else 0
        return {"members": cluster.members}

    cluster.api.answers["/cluster"] = recovering
    result = run_module(patroni_cluster_info, {**access, "wait": True, "timeout": 10, "interval": 0.01})
    assert result["healthy"]
    assert len(looks) == 3
    looks.clear()
    assert not run_module(patroni_cluster_info, {**access, "wait": True, "interval": 0.01}, check=True)["healthy"]
    assert len(looks) == 1


def test_a_bare_host_may_be_asked(run_module: Any, access: dict[str, Any], free_port: int) -> None:
    closed = {**access, "url": f"https://127.0.0.1:{free_port}"}
    result = run_module(patroni_cluster_info, {**closed, "required": False})
    assert (result["reachable"], result["leads"], result["healthy"]) == (False, False, False)
    assert "connection refused" in run_module(patroni_cluster_info, closed)["msg"]


def test_a_foreign_server_is_not_believed(run_module: Any, api: FakeApi, access: dict[str, Any]) -> None:
    strangers = {**access, "url": f"https://localhost:{api.port}"}
    assert "certificate not accepted" in run_module(patroni_cluster_info, strangers)["msg"]
    assert "https://" in run_module(patroni_cluster_info, {**access, "url": f"http://127.0.0.1:{api.port}"})["msg"]


# --- patroni_config ---------------------------------------------------------------------------------------------------


def test_only_what_differs_is_changed(run_module: Any, cluster: FakeCluster, access: dict[str, Any]) -> None:
    wanted = {
        "ttl": "20",
        "synchronous_mode": "True",
        "postgresql": {"parameters": {"max_connections": "100", "wal_level": "replica"}},
    }
    result = run_module(patroni_config, {**access, "settings": wanted}, diff=True)
    patch = {"ttl": 20, "postgresql": {"parameters": {"wal_level": "replica"}}}
    assert result["changed"]
    assert cluster.api.writes == [("PATCH", "/config", patch)]
    assert '"ttl": 20' in result["diff"]["after"]
    login = base64.b64encode(b"patroni:a-long-password").decode()
    assert [given for verb, _path, _body, given in cluster.api.told if verb == "PATCH"] == [f"Basic {login}"]
    assert not run_module(patroni_config, {**access, "settings": wanted})["changed"]


def test_check_mode_changes_nothing(run_module: Any, cluster: FakeCluster, access: dict[str, Any]) -> None:
    result = run_module(patroni_config, {**access, "settings": {"ttl": 20}}, check=True)
    assert result["changes"] == {"ttl": 20}
    assert cluster.api.writes == []


def test_settings_of_others_are_left_alone(run_module: Any, cluster: FakeCluster, access: dict[str, Any]) -> None:
    cluster.config["standby_cluster"] = {"host": "x"}
    assert not run_module(patroni_config, {**access, "settings": {"ttl": 30, "loop_wait": None}})["changed"]


def test_a_refused_change_fails(run_module: Any, cluster: FakeCluster, access: dict[str, Any]) -> None:
    cluster.api.on_write = lambda _path, _body: (403, "client certificate required")
    assert "client certificate required" in run_module(patroni_config, {**access, "settings": {"ttl": 20}})["msg"]
    cluster.api.on_write = lambda _path, _body: (200, "{}")
    assert "did not keep" in run_module(patroni_config, {**access, "settings": {"ttl": 20}})["msg"]


# --- patroni_switchover -----------------------------------------------------------------------------------------------


def test_the_synchronous_standby_takes_over(run_module: Any, cluster: FakeCluster, access: dict[str, Any]) -> None:
    result = run_module(patroni_switchover, {**access, "leader": "a", "interval": 0.01}, diff=True)
    assert (result["former"], result["leader"], result["timeline"]) == ("a", "b", 2)
    assert cluster.api.writes == [("POST", "/switchover", {"leader": "a", "candidate": "b"})]
    again = run_module(patroni_switchover, {**access, "leader": "a"})
    assert not again["changed"]
    assert again["leader"] == "b"


def test_a_switchover_in_check_mode(run_module: Any, cluster: FakeCluster, access: dict[str, Any]) -> None:
    result = run_module(patroni_switchover, {**access, "leader": "a"}, check=True)
    assert (result["changed"], result["leader"]) == (True, "b")
    assert cluster.api.writes == []


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({1: {"lag": 99_000_000}}, {}, "no healthy candidate: b is 99000000 bytes behind"),
        ({1: {"tags": {"nofailover": True}}}, {}, "b is tagged never to lead; c is not the synchronous standby"),
        ({}, {"candidate": "c"}, "c cannot lead: c is not the synchronous standby"),
        ({}, {"candidate": "z"}, "z is no member"),
        ({}, {"leader": "c", "candidate": "b"}, "c does not lead, a does"),
        ({0: {"role": "replica", "state": "running"}}, {}, "nobody leads"),
    ],
)
def test_what_would_not_work_is_refused(
    run_module: Any,
    cluster: FakeCluster,
    access: dict[str, Any],
    changes: dict[int, dict[str, Any]],
    arguments: dict[str, Any],
    message: str,
) -> None:
    for index, change in changes.items():
        cluster.members[index].update(change)
    for check in (True, False):
        assert message in run_module(patroni_switchover, {**access, **arguments}, check=check)["msg"]
    assert cluster.api.writes == []


def test_a_leader_that_does_not_come_back_fails(run_module: Any, cluster: FakeCluster, access: dict[str, Any]) -> None:
    def half(path: str, body: Any) -> tuple[int, str]:
        cluster.write(path, body)
        cluster.members[0]["state"] = "stopped"
        return 200, "{}"

    cluster.api.on_write = half
    result = run_module(patroni_switchover, {**access, "timeout": 0.1, "interval": 0.02})
    assert "a is stopped, not streaming" in result["msg"]


def test_a_refusal_of_patroni_is_told(run_module: Any, cluster: FakeCluster, access: dict[str, Any]) -> None:
    cluster.api.on_write = lambda _path, _body: (412, "no good candidates have been found")
    assert "no good candidates" in run_module(patroni_switchover, access)["msg"]


# --- etcd -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def etcd(api: FakeApi, authority: Any) -> dict[str, Any]:
    authority.server_context("client.internal")
    certificate = str(authority.directory / "client.internal.pem")
    api.answers["/members"] = [
        {"id": 10, "name": "a", "peerURLs": ["https://192.0.2.1:2380"], "clientURLs": ["https://192.0.2.1:2379"]},
        {"id": 11, "name": "b", "peerURLs": ["https://192.0.2.2:2380"], "clientURLs": ["https://192.0.2.2:2379"]},
    ]
    api.answers["/health"] = {"health": "true"}
    return {
        "hosts": [{"name": "a", "address": "127.0.0.1"}],
        "client_port": api.port,
        "peer_port": api.port,
        "ca_path": str(authority.path),
        "client_cert": certificate,
        "client_key": certificate,
        "request_timeout": 3,
    }


def test_etcd_members_and_health(run_module: Any, api: FakeApi, etcd: dict[str, Any]) -> None:
    result = run_module(etcd_cluster_info, etcd)
    assert [member["name"] for member in result["members"]] == ["a", "b"]
    assert result["members"][1]["id"] == "b"
    assert result["unhealthy"] == {}
    api.answers["/health"] = {"health": "false", "reason": "RAFT NO LEADER"}
    assert "RAFT NO LEADER" in run_module(etcd_cluster_info, etcd)["unhealthy"]["a"]


def test_an_etcd_that_nobody_answers_for(run_module: Any, etcd: dict[str, Any], free_port: int) -> None:
    closed = {**etcd, "peer_port": free_port, "client_port": free_port}
    result = run_module(etcd_cluster_info, closed)
    assert result["members"] == []
    assert "connection refused" in result["failures"]["a"]
    assert "no host" in run_module(etcd_member, {**closed, "name": "c", "peer_url": "https://192.0.2.3:2380"})["msg"]


@pytest.mark.parametrize(
    ("arguments", "writes"),
    [
        ({"name": "a", "peer_url": "https://192.0.2.1:2380"}, []),
        ({"name": "c", "peer_url": "https://192.0.2.3:2380"}, ["/v3/cluster/member/add"]),
        ({"name": "b", "state": "absent"}, ["/v3/cluster/member/remove"]),
        ({"name": "c", "state": "absent"}, []),
        (
            {"name": "b", "state": "renewed", "peer_url": "https://192.0.2.2:2380"},
            ["/v3/cluster/member/remove", "/v3/cluster/member/add"],
        ),
    ],
)
def test_who_belongs_to_etcd(
    run_module: Any, api: FakeApi, etcd: dict[str, Any], arguments: dict[str, Any], writes: list[str]
) -> None:
    assert run_module(etcd_member, {**etcd, **arguments}, check=True)["changed"] == bool(writes)
    assert api.writes == []
    result = run_module(etcd_member, {**etcd, **arguments})
    assert result["changed"] == bool(writes)
    assert [path for _verb, path, _body in api.writes] == writes


def test_a_member_that_was_announced_is_left_alone(run_module: Any, api: FakeApi, etcd: dict[str, Any]) -> None:
    api.answers["/members"][1].update(name="", clientURLs=[])
    arguments = {"name": "b", "state": "renewed", "peer_url": "https://192.0.2.2:2380"}
    assert not run_module(etcd_member, {**etcd, **arguments})["changed"]


def test_what_etcd_refuses_fails(run_module: Any, api: FakeApi, etcd: dict[str, Any]) -> None:
    api.on_write = lambda _path, _body: (400, "re-configuration failed due to not enough started members")
    result = run_module(etcd_member, {**etcd, "name": "c", "peer_url": "https://192.0.2.3:2380"})
    assert "not enough started members" in result["msg"]


class FakeStore:
    """As much of etcd's users and roles as its JSON interface shows."""

    def __init__(self, api: FakeApi) -> None:
        self.enabled = False
        self.users: dict[str, dict[str, Any]] = {}
        self.roles: dict[str, list[dict[str, str]]] = {}
        self.api = api
        api.on_write = self.call

    def call(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        # Whoever asks has to be known, once somebody has to be.
        login = self.api.told[-1][3]
        if path == "/v3/auth/authenticate":
            if not self.enabled:
                return 400, '{"error": "etcdserver: authentication is not enabled"}'
            if self.users.get(body["name"], {}).get("password") != body["password"]:
                return 400, '{"error": "etcdserver: authentication failed, invalid user ID or password"}'
            return 200, json.dumps({"token": f"token-of-{body['name']}"})
        if self.enabled and login != "token-of-root":
            return 400, '{"error": "etcdserver: user name is empty"}'
        answer = getattr(self, path.removeprefix("/v3/").replace("/", "_"))(body)
        return 200, json.dumps(answer or {})

    def auth_user_list(self, _body: Any) -> Any:
        return {"users": list(self.users)} if self.users else {}

    def auth_role_list(self, _body: Any) -> Any:
        return {"roles": list(self.roles)} if self.roles else {}

    def auth_user_add(self, body: Any) -> None:
        assert body["name"] not in self.users
        self.users[body["name"]] = {"password": body["password"], "roles": []}

    def auth_user_changepw(self, body: Any) -> None:
        self.users[body["name"]]["password"] = body["password"]

    def auth_user_get(self, body: Any) -> Any:
        return {"roles": self.users[body["name"]]["roles"]}

    def auth_user_grant(self, body: Any) -> None:
        assert body["role"] in self.roles
        self.users[body["user"]]["roles"].append(body["role"])

    def auth_user_revoke(self, body: Any) -> None:
        self.users[body["name"]]["roles"].remove(body["role"])

    def auth_role_add(self, body: Any) -> None:
        assert body["name"] not in self.roles
        self.roles[body["name"]] = []

    def auth_role_get(self, body: Any) -> Any:
        return {"perm": self.roles[body["role"]]}

    def auth_role_grant(self, body: Any) -> None:
        self.roles[body["name"]].append(body["perm"])

    def auth_role_revoke(self, body: Any) -> None:
        where = {"key": body["key"], "range_end": body["range_end"]}
        self.roles[body["role"]] = [one for one in self.roles[body["role"]] if not where.items() <= one.items()]

    def auth_enable(self, _body: Any) -> None:
        assert self.users["root"]["roles"] == ["root"]
        self.enabled = True

    def cluster_member_add(self, _body: Any) -> None:
        """Only root gets here."""


@pytest.fixture
def store(api: FakeApi) -> FakeStore:
    return FakeStore(api)


@pytest.fixture
def logins(etcd: dict[str, Any]) -> dict[str, Any]:
    users = [{"name": "patroni", "password": "patronis-password", "prefix": "/flowfleet/"}]
    return {**etcd, "root_password": "roots-password", "users": users}


BELOW = {
    "permType": "READWRITE",
    "key": base64.b64encode(b"/flowfleet/").decode(),
    "range_end": base64.b64encode(b"/flowfleet0").decode(),
}


def test_etcd_asks_for_passwords_and_knows_whom_it_lets_in(
    run_module: Any, store: FakeStore, logins: dict[str, Any]
) -> None:
    predicted = run_module(etcd_auth, logins, check=True)
    assert predicted["changed"]
    assert not store.users
    result = run_module(etcd_auth, logins)
    assert (result["changed"], result["enabled"]) == (True, True)
    assert result["actions"] == predicted["actions"]
    assert "password" not in str(result["actions"]).replace("set the password", "")
    assert store.enabled
    assert store.users == {
        "patroni": {"password": "patronis-password", "roles": ["patroni"]},
        "root": {"password": "roots-password", "roles": ["root"]},
    }
    assert store.roles == {"patroni": [BELOW], "root": []}
    again = run_module(etcd_auth, logins)
    assert (again["changed"], again["actions"], again["enabled"]) == (False, [], True)


def test_an_etcd_whose_clients_are_not_ready_is_left_alone(
    run_module: Any, store: FakeStore, logins: dict[str, Any]
) -> None:
    result = run_module(etcd_auth, {**logins, "enable": False})
    assert (result["changed"], result["enabled"]) == (False, False)
    assert not store.users


def test_what_was_begun_is_brought_to_its_end(run_module: Any, store: FakeStore, logins: dict[str, Any]) -> None:
    """A run that was killed has left users with other passwords, and nobody asks for them yet."""
    store.users = {name: {"password": "old", "roles": []} for name in ("root", "patroni")}
    store.roles = {"patroni": []}
    run_module(etcd_auth, logins)
    assert store.enabled
    assert store.users["root"] == {"password": "roots-password", "roles": ["root"]}
    assert store.users["patroni"] == {"password": "patronis-password", "roles": ["patroni"]}


def test_what_somebody_changed_is_put_right(run_module: Any, store: FakeStore, logins: dict[str, Any]) -> None:
    run_module(etcd_auth, logins)
    store.users["patroni"] = {"password": "another", "roles": ["root", "patroni"]}
    everything = {"permType": "READWRITE", "key": "AA==", "range_end": "AA=="}
    store.roles["patroni"].append(everything)
    result = run_module(etcd_auth, {**logins, "enable": False})
    assert result["actions"] == [
        "take a permission from role patroni",
        "set the password of patroni",
        "take the role root from patroni",
    ]
    assert store.users["patroni"] == {"password": "patronis-password", "roles": ["patroni"]}
    assert store.roles["patroni"] == [BELOW]


def test_another_password_of_root_is_said_and_not_shown(
    run_module: Any, store: FakeStore, logins: dict[str, Any]
) -> None:
    run_module(etcd_auth, logins)
    store.users["root"] = {**store.users["root"], "password": "another"}
    result = run_module(etcd_auth, logins)
    assert "another password of its user root" in result["msg"]
    assert "roots-password" not in str({key: value for key, value in result.items() if key != "invocation"})


def test_an_empty_prefix_would_be_every_key(run_module: Any, store: FakeStore, logins: dict[str, Any]) -> None:
    logins["users"][0]["prefix"] = ""
    assert "must not be empty" in run_module(etcd_auth, logins)["msg"]
    assert not store.enabled


def test_members_are_changed_by_root_alone(
    run_module: Any, store: FakeStore, etcd: dict[str, Any], logins: dict[str, Any]
) -> None:
    run_module(etcd_auth, logins)
    arguments = {**etcd, "name": "c", "peer_url": "https://192.0.2.3:2380"}
    assert "user name is empty" in run_module(etcd_member, arguments)["msg"]
    assert run_module(etcd_member, {**arguments, "root_password": "roots-password"})["changed"]


def test_members_are_changed_while_nobody_is_asked(run_module: Any, store: FakeStore, etcd: dict[str, Any]) -> None:
    arguments = {**etcd, "name": "c", "peer_url": "https://192.0.2.3:2380", "root_password": "roots-password"}
    assert run_module(etcd_member, arguments)["changed"]
