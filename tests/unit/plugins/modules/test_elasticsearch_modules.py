# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects and restarts, against a server over real TLS that answers in Elasticsearch's shapes."""

from __future__ import annotations

import base64
import json
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _elasticsearch
from ansible_collections.flowfleet.langflow.plugins.modules import elasticsearch_objects, elasticsearch_restart

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from https_fake import HttpsFake, QuietHandler

ADMIN, SECRET = "flowfleet_admin", "a-password-for-tests"
Run = Callable[..., dict[str, Any]]


class Fake(HttpsFake):
    """The part of the interface that the modules use."""

    def __init__(self, authority: Any) -> None:
        super().__init__(authority, Handler, "localhost")
        self.objects: dict[str, Any] = {}
        self.passwords = {ADMIN: SECRET, "kibana_system": "made-up"}
        self.health = {
            "status": "green",
            "number_of_nodes": 3,
            "relocating_shards": 0,
            "initializing_shards": 0,
            "unassigned_shards": 0,
        }
        self.asked: list[str] = []
        self.broken = ""

    def writes(self) -> list[str]:
        return [line for line in self.asked if not line.startswith("GET")]


class Handler(QuietHandler):
    server: Fake

    def _answer(self, data: Any, status: int = 200) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _serve(self) -> None:
        fake, path = self.server, self.path
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        fake.asked.append(f"{self.command} {path}" + (f" {json.dumps(body)}" if path == "/_cluster/settings" else ""))
        user, _, word = base64.b64decode(self.headers["Authorization"].split()[1]).decode().partition(":")
        if fake.passwords.get(user) != word:
            return self._answer({"error": "unable to authenticate"}, 401)
        if fake.broken and fake.broken in path:
            return self._answer({"error": {"type": "illegal_argument_exception", "reason": "no"}}, 400)
        if path == "/_cluster/health":
            return self._answer(fake.health)
        if path in ("/_cluster/settings", "/_flush", "/_security/_authenticate"):
            return self._answer({})
        name = path.rsplit("/", 1)[1]
        if self.command == "PUT":
            return self._put(path, name, body)
        if path not in fake.objects:
            return self._answer({}, 404)
        return self._answer(self._shape(path, name, fake.objects[path]))

    def _put(self, path: str, name: str, body: Any) -> None:
        fake = self.server
        if path.endswith("/_password"):
            fake.passwords[path.split("/")[3]] = body["password"]
        else:
            if path.startswith("/_security/user/"):
                fake.passwords[name] = body.pop("password")
            fake.objects[path] = body
        self._answer({"acknowledged": True})

    @staticmethod
    def _shape(path: str, name: str, body: Any) -> Any:
        """How the interface gives back what it took."""
        if path.startswith("/_index_template/"):
            settings = body["template"].get("settings", {})
            nested = {key.removeprefix("index."): str(value) for key, value in settings.items()}
            template = {**body["template"], "settings": {"index": nested}}
            return {
                "index_templates": [{"name": name, "index_template": {**body, "template": template, "composed_of": []}}]
            }
        if path.startswith("/_slm/"):
            return {name: {"version": 1, "policy": body}}
        return {name: {**body, "transient_metadata": {"enabled": True}}}


for method in ("GET", "POST", "PUT"):
    setattr(Handler, f"do_{method}", Handler._serve)

OBJECTS: list[dict[str, Any]] = [
    {
        "kind": "ilm_policy",
        "name": "p",
        "body": {"policy": {"phases": {"delete": {"min_age": "30d", "actions": {"delete": {}}}}}},
    },
    {"kind": "ingest_pipeline", "name": "i", "body": {"processors": [{"set": {"field": "a", "value": True}}]}},
    {
        "kind": "index_template",
        "name": "t",
        "body": {
            "index_patterns": ["logs-*"],
            "template": {"settings": {"index.number_of_shards": 1, "index.codec": "x"}},
        },
    },
    {
        "kind": "role",
        "name": "r",
        "body": {"cluster": ["monitor"], "indices": [{"names": ["logs-*"], "privileges": ["create_doc"]}]},
    },
    {"kind": "user", "name": "u", "body": {"password": "word-of-the-user", "roles": ["r"]}},
    {"kind": "password", "name": "kibana_system", "body": {"password": "word-of-kibana"}},
    {
        "kind": "snapshot_repository",
        "name": "s",
        "body": {"type": "fs", "settings": {"location": "/srv", "compress": True}},
    },
    {"kind": "slm_policy", "name": "l", "body": {"schedule": "0 30 1 * * ?", "config": {"indices": ["*"]}}},
]


@pytest.fixture
def server(authority: Any) -> Iterator[Fake]:
    with Fake(authority) as fake:
        yield fake


@pytest.fixture
def access(server: Fake, authority: Any) -> dict[str, Any]:
    return {
        "url": server.url,
        "username": ADMIN,
        "password": SECRET,
        "ca_path": str(authority.path),
        "request_timeout": 5,
    }


@pytest.fixture
def keep(run_module: Run, access: dict[str, Any]) -> Run:
    def run(objects: list[dict[str, Any]] | None = None, check: bool = False, **options: Any) -> dict[str, Any]:
        return run_module(
            elasticsearch_objects,
            {**access, "objects": OBJECTS if objects is None else objects, **options},
            check=check,
        )

    return run


def changed(position: int, **body: Any) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = json.loads(json.dumps(OBJECTS))
    objects[position]["body"].update(body)
    return objects


def test_what_is_missing_is_written_in_order_and_only_once(keep: Run, server: Fake) -> None:
    first = keep()
    assert first["changed"]
    assert first["written"] == [f"{one['kind']} {one['name']}" for one in OBJECTS]
    assert [line.split("/")[1] for line in server.writes()][:3] == ["_ilm", "_ingest", "_index_template"]
    server.asked.clear()
    assert keep()["written"] == []
    assert server.writes() == []


def test_check_mode_only_reads(keep: Run, server: Fake) -> None:
    assert len(keep(check=True)["written"]) == len(OBJECTS)
    assert server.writes() == []


def test_a_change_by_hand_is_put_right(keep: Run, server: Fake) -> None:
    keep()
    server.objects["/_security/role/r"]["cluster"] = ["all"]
    server.objects["/_index_template/t"]["template"]["settings"]["index.codec"] = "y"
    assert keep()["written"] == ["index_template t", "role r"]


def test_what_is_no_longer_wanted_goes(keep: Run, server: Fake) -> None:
    keep()
    fewer = changed(1, processors=[{"set": {"field": "a"}}])
    assert keep(fewer)["written"] == ["ingest_pipeline i"]
    # Control: without its fingerprint the rest would look as if it were wanted.
    bare = {key: value for key, value in fewer[1]["body"].items() if key != "version"}
    assert _elasticsearch.has({"processors": [{"set": {"field": "a", "value": True}}]}, bare)


def test_what_others_added_stays(keep: Run, server: Fake) -> None:
    keep()
    server.objects["/_ilm/policy/p"]["policy"]["deprecated"] = False
    assert keep()["written"] == []


def test_a_new_password_is_set_and_nothing_else(keep: Run, server: Fake) -> None:
    keep()
    assert keep(changed(4, **{"password": "another-word-here"}))["written"] == ["user u"]
    assert server.passwords["u"] == "another-word-here"
    server.passwords["kibana_system"] = "changed-by-hand"
    assert keep(changed(4, **{"password": "another-word-here"}))["written"] == ["password kibana_system"]


def test_a_refusal_names_the_object_and_no_password(keep: Run, server: Fake) -> None:
    server.broken = "/_security/user/u"
    result = keep()
    assert result["failed"]
    assert result["msg"].startswith("user u: GET /_security/user/u: 400")
    assert "word-of" not in json.dumps(result)
    assert SECRET not in json.dumps(result)
    assert result["written"][0] == "ilm_policy p"


def test_a_cluster_without_a_master_is_waited_for_and_then_told(keep: Run, server: Fake) -> None:
    server.health["status"] = "red"
    assert "status is red" in keep()["msg"]
    assert server.writes() == []


def test_the_fingerprint_knows_no_password() -> None:
    kind = _elasticsearch.KINDS["user"]
    one = _elasticsearch.marked(kind, {"password": "a", "roles": ["r"]})
    two = _elasticsearch.marked(kind, {"password": "b", "roles": ["r"]})
    assert one["metadata"] == two["metadata"]


@pytest.mark.parametrize(
    ("actual", "wanted", "same"),
    [
        ({"a": "1"}, {"a": 1}, True),
        ({"a": "true"}, {"a": True}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": {}}, {"a": {"b": 1}}, False),
        ({}, {"a": None}, True),
        ({"a": 1}, {"a": None}, False),
        (None, {"a": 1}, False),
    ],
)
def test_values_are_compared_as_the_interface_gives_them_back(actual: Any, wanted: Any, same: bool) -> None:
    assert _elasticsearch.has(actual, wanted) is same


# --- restarts


@pytest.fixture
def restart(
    run_module: Run, access: dict[str, Any], systemd: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    monkeypatch.setattr(_elasticsearch, "PAUSE", 0.01)
    file = tmp_path / "elasticsearch.yml"
    file.write_text("a: 1\n")

    def run(check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {**access, "nodes": 3, "recovery_timeout": 0.2, "watch": [str(file)], **options}
        return run_module(elasticsearch_restart, arguments, check=check)

    return run


def test_a_node_that_runs_as_it_should_is_left_alone(restart: Run, systemd: Any, server: Fake) -> None:
    systemd.run(since=4_000_000_000)
    result = restart()
    assert (result["changed"], result["action"]) == (False, "none")
    assert systemd.calls == []
    assert server.asked == []


def test_a_stale_node_goes_while_copies_stay_where_they_are(restart: Run, systemd: Any, server: Fake) -> None:
    systemd.run(since=1_000_000_000)
    systemd.script["restart"] = lambda: server.asked.append("restart")
    assert restart()["action"] == "restarted"
    told = [line for line in server.asked if not line.startswith("GET")]
    assert [line.split(" ", 2)[:2] for line in told] == [
        ["PUT", "/_cluster/settings"],
        ["POST", "/_flush"],
        ["restart"],
        ["PUT", "/_cluster/settings"],
    ]
    assert "primaries" in told[0]
    assert told[3].endswith('{"persistent": {"cluster.routing.allocation.enable": null}}')


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"status": "yellow", "unassigned_shards": 4}, "4 shards have no place"),
        ({"number_of_nodes": 2}, "2 of 3 nodes are there"),
        ({"relocating_shards": 1}, "1 shards are on their way"),
    ],
)
def test_no_node_goes_while_the_cluster_is_not_whole(
    restart: Run, systemd: Any, server: Fake, state: dict[str, Any], said: str
) -> None:
    systemd.run(since=1_000_000_000)
    server.health.update(state)
    result = restart()
    assert result["failed"]
    assert said in result["msg"]
    assert systemd.calls == []
    assert server.writes() == []


def test_control_with_force_it_goes_all_the_same(restart: Run, systemd: Any, server: Fake) -> None:
    systemd.run(since=1_000_000_000)
    server.health["status"] = "yellow"

    def heal() -> None:
        server.health["status"] = "green"

    systemd.script["restart"] = heal
    assert restart(force=True)["action"] == "restarted"


def test_copies_may_move_again_even_if_the_node_does_not_come_back(restart: Run, systemd: Any, server: Fake) -> None:
    systemd.run(since=1_000_000_000)

    def lose() -> None:
        server.health["number_of_nodes"] = 2

    systemd.script["restart"] = lose
    result = restart()
    assert result["failed"]
    assert "2 of 3 nodes" in result["msg"]
    assert server.writes()[-1].endswith("null}}")


def test_one_node_alone_is_not_asked_for_copies(restart: Run, systemd: Any, server: Fake) -> None:
    systemd.run(since=1_000_000_000)
    server.health.update(status="yellow", number_of_nodes=1)
    assert restart(nodes=1)["action"] == "restarted"
    assert server.writes() == []


def test_in_check_mode_nobody_is_asked(restart: Run, systemd: Any, server: Fake) -> None:
    systemd.run(since=1_000_000_000)
    assert restart(check=True)["action"] == "restarted"
    assert systemd.calls == []
    assert server.asked == []


def test_what_only_may_be_started_is_not_restarted(restart: Run, systemd: Any, server: Fake) -> None:
    systemd.run(since=1_000_000_000)
    assert restart(mode="start")["action"] == "none"
    assert systemd.calls == []
