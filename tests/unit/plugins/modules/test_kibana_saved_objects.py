# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Saved objects, against a server over real TLS that answers as Kibana's documented interface does."""

from __future__ import annotations

import base64
import datetime
import email.parser
import email.policy
import json
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils._kibana import total
from ansible_collections.flowfleet.langflow.plugins.modules import kibana_saved_objects

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from https_fake import HttpsFake, QuietHandler

USER, SECRET = "flowfleet_admin", "a-password-for-tests"
VIEW = {"type": "index-pattern", "id": "logs", "attributes": {"title": "logs-*"}, "references": []}
SEARCH = {"type": "search", "id": "one", "attributes": {"title": "One"}, "references": []}
FILES = [json.dumps(VIEW) + "\n" + json.dumps(SEARCH) + "\n"]
Keep = Callable[..., dict[str, Any]]


class Fake(HttpsFake):
    """Spaces, export and import, with the errors that they have."""

    def __init__(self, authority: Any) -> None:
        super().__init__(authority, Handler, "localhost")
        self.spaces: dict[str, dict[str, Any]] = {}
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.changes: list[str] = []
        self.refuses: set[str] = set()
        self.clock = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    def now(self) -> str:
        self.clock += datetime.timedelta(hours=1)
        return self.clock.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Handler(QuietHandler):
    server: Fake

    def _answer(self, data: Any, status: int = 200) -> None:
        body = data.encode() if isinstance(data, str) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        wanted = "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            return self._answer({"statusCode": 401}, 401)
        if self.command != "GET" and not self.headers.get("kbn-xsrf"):
            return self._answer({"message": "Request must contain a kbn-xsrf header."}, 400)
        if self.path.startswith("/api/spaces/space"):
            return self._space(body)
        prefix, _, name = self.path.partition("/api/saved_objects/")
        if prefix.removeprefix("/s/") not in self.server.spaces:
            return self._answer({"message": "space not found"}, 404)
        return self._export(json.loads(body)) if name == "_export" else self._import(body)

    def _space(self, body: bytes) -> None:
        name = self.path.removeprefix("/api/spaces/space").strip("/")
        if self.command == "GET":
            found = self.server.spaces.get(name)
            return self._answer(found or {"statusCode": 404}, 200 if found else 404)
        self.server.changes.append(f"{self.command} space")
        data = json.loads(body)
        # Kibana adds what was not said.
        self.server.spaces[data["id"]] = {"disabledFeatures": [], "color": "#aabbcc", **data}
        return self._answer(self.server.spaces[data["id"]])

    def _export(self, data: dict[str, Any]) -> None:
        keys = [(row["type"], row["id"]) for row in data["objects"]]
        missing = [key for key in keys if key not in self.server.objects]
        if missing:
            rows = [{"type": kind, "id": name, "error": {"statusCode": 404}} for kind, name in missing]
            message = "Error fetching objects to export"
            return self._answer({"statusCode": 400, "message": message, "attributes": {"objects": rows}}, 400)
        return self._answer("\n".join(json.dumps(self.server.objects[key]) for key in keys))

    def _import(self, body: bytes) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.default).parsebytes(head + body)
        (part,) = message.iter_parts()
        assert part.get_filename() == "objects.ndjson"
        assert self.path.endswith("?overwrite=true")
        then = self.server.now()
        text = bytes(part.get_payload(decode=True) or b"").decode()
        items = [json.loads(line) for line in text.splitlines() if line.strip()]
        bad = [item for item in items if item["id"] in self.server.refuses]
        if bad:
            errors = [{"type": item["type"], "id": item["id"], "error": {"type": "missing_references"}} for item in bad]
            return self._answer({"success": False, "successCount": 0, "errors": errors})
        self.server.changes.append("import")
        for item in items:
            # Kibana brings an object up to date: what comes back is not what went in.
            fresh = {**item, "typeMigrationVersion": "10.9.0", "updated_at": then}
            self.server.objects[item["type"], item["id"]] = fresh
        return self._answer({"success": True, "successCount": len(items)})


for method in ("GET", "POST", "PUT"):
    setattr(Handler, f"do_{method}", Handler._serve)


@pytest.fixture
def server(authority: Any) -> Iterator[Fake]:
    with Fake(authority) as fake:
        yield fake


@pytest.fixture
def keep(run_module: Callable[..., dict[str, Any]], server: Fake, authority: Any) -> Keep:
    def run(check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {
            "url": server.url,
            "username": USER,
            "password": SECRET,
            "ca_path": str(authority.path),
            "space": "flowfleet",
            "space_name": "Langflow fleet",
            "files": FILES,
            "request_timeout": 5,
        }
        return run_module(kibana_saved_objects, {**arguments, **options}, check=check, diff=True)

    return run


def test_they_are_imported_once(keep: Keep, server: Fake) -> None:
    first = keep()
    assert first["changed"]
    assert first["actions"] == ["make space flowfleet", "import 2 objects"]
    assert set(server.objects) == {("tag", "flowfleet"), ("index-pattern", "logs"), ("search", "one")}
    assert total([VIEW, SEARCH]) in server.objects["tag", "flowfleet"]["attributes"]["description"]
    before = list(server.changes)
    again = keep()
    assert not again["changed"]
    assert again["actions"] == again["reasons"] == []
    assert server.changes == before


def test_check_mode_changes_nothing(keep: Keep, server: Fake) -> None:
    found = keep(check=True)
    assert found["changed"]
    assert found["actions"] == ["make space flowfleet", "import 2 objects"]
    assert server.changes == []
    keep()
    before = list(server.changes)
    assert not keep(check=True)["changed"]
    del server.objects["search", "one"]
    assert keep(check=True)["reasons"] == ["search one is not there"]
    assert server.changes == before


def test_a_changed_file_is_imported(keep: Keep, server: Fake) -> None:
    keep()
    other = [json.dumps(VIEW) + "\n" + json.dumps({**SEARCH, "attributes": {"title": "Two"}})]
    found = keep(files=other)
    assert found["reasons"] == ["they are of another version"]
    assert server.objects["search", "one"]["attributes"]["title"] == "Two"
    assert not keep(files=other)["changed"]


def test_order_and_details_of_an_export_make_no_difference(keep: Keep) -> None:
    keep()
    turned = [json.dumps({"exportedCount": 2}) + "\n" + json.dumps(SEARCH) + "\n", json.dumps(VIEW, indent=None)]
    assert not keep(files=turned)["changed"]


def test_what_was_changed_by_hand_is_put_back(keep: Keep, server: Fake) -> None:
    keep()
    server.objects["search", "one"] |= {"attributes": {"title": "Mine"}, "updated_at": server.now()}
    found = keep()
    assert found["reasons"] == ["search one was changed by hand"]
    assert server.objects["search", "one"]["attributes"]["title"] == "One"
    assert not keep()["changed"]


def test_what_is_in_no_file_stays(keep: Keep, server: Fake) -> None:
    keep()
    server.objects["search", "mine"] = {**SEARCH, "id": "mine", "updated_at": server.now()}
    assert not keep()["changed"]
    assert ("search", "mine") in server.objects


def test_the_space_keeps_what_is_not_named(keep: Keep, server: Fake) -> None:
    keep()
    server.spaces["flowfleet"]["color"] = "#000000"
    assert not keep()["changed"]
    found = keep(space_name="Another")
    assert found["actions"] == ["change name of space flowfleet"]
    assert server.spaces["flowfleet"]["name"] == "Another"
    assert server.spaces["flowfleet"]["color"] == "#000000"


def test_an_object_that_is_not_taken_fails_the_run(keep: Keep, server: Fake) -> None:
    server.refuses = {"one"}
    found = keep()
    assert found["failed"]
    assert "search one: missing_references" in found["msg"]
    server.refuses = set()
    # Nothing says that it was imported.
    assert keep()["changed"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"password": "wrong"}, "not taken"),
        ({"url": "http://127.0.0.1:5601"}, "https://"),
        ({"url": "https://127.0.0.1:1"}, "127.0.0.1:1"),
        ({"files": ["{"]}, "no JSON"),
        ({"files": ["[]"]}, "no saved object"),
        ({"files": ['{"type": "search"}']}, "no id"),
        ({"files": [json.dumps(VIEW), json.dumps(VIEW)]}, "twice"),
    ],
)
def test_what_cannot_work_is_said(keep: Keep, server: Fake, options: dict[str, Any], named: str) -> None:
    found = keep(**options)
    assert found["failed"]
    assert named in found["msg"]
    assert SECRET not in json.dumps(found)
    assert server.changes == []
