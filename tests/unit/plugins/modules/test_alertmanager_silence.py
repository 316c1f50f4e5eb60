# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Silences, against a server over real TLS that behaves like Alertmanager."""

from __future__ import annotations

import base64
import datetime
import json
import pathlib
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils._alertmanager import Matcher, moment, written
from ansible_collections.flowfleet.langflow.plugins.modules import alertmanager_silence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from https_fake import HttpsFake, QuietHandler

USER, SECRET = "monitoring", "a-password-for-tests"
MATCHERS = [{"name": "instance", "value": "app1|app2", "regex": True}, {"name": "layer", "value": "service"}]
Ensure = Callable[..., dict[str, Any]]


class Fake(HttpsFake):
    """The part of Alertmanager's interface that is about silences."""

    def __init__(self, authority: Any) -> None:
        super().__init__(authority, Handler, "localhost")
        self.silences: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.broken = ""

    def living(self) -> list[dict[str, Any]]:
        return [item for item in self.silences.values() if item["status"]["state"] != "expired"]


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
        self.server.asked.append(f"{self.command} {self.path}")
        wanted = "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            return self._answer("Unauthorized", 401)
        if self.server.broken:
            return self._answer(self.server.broken, 200 if self.server.broken.startswith("[") else 503)
        if self.command == "GET":
            return self._answer(list(self.server.silences.values()))
        if self.command == "DELETE":
            self.server.silences[self.path.rsplit("/", 1)[1]]["status"]["state"] = "expired"
            return self._answer("")
        data = json.loads(body)
        if not data["matchers"] or data["endsAt"] <= data["startsAt"]:
            return self._answer("invalid silence", 400)
        name = data.get("id") or str(uuid.uuid4())
        self.server.silences[name] = {**data, "id": name, "status": {"state": "active"}}
        return self._answer({"silenceID": name})


for method in ("GET", "POST", "DELETE"):
    setattr(Handler, f"do_{method}", Handler._serve)


@pytest.fixture
def server(authority: Any) -> Iterator[Fake]:
    with Fake(authority) as fake:
        yield fake


@pytest.fixture
def ensure(run_module: Callable[..., dict[str, Any]], server: Fake, authority: Any) -> Ensure:
    def run(check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {
            "urls": [server.url],
            "created_by": "a roll",
            "comment": "planned",
            "matchers": MATCHERS,
            "duration": 30,
            "username": USER,
            "password": SECRET,
            "ca_path": str(authority.path),
            "request_timeout": 5,
        }
        return run_module(alertmanager_silence, {**arguments, **options}, check=check, diff=True)

    return run


def minutes_left(silence: dict[str, Any]) -> float:
    return (moment(silence["endsAt"]) - datetime.datetime.now(datetime.UTC)).total_seconds() / 60


def test_it_is_made_once_and_ended(ensure: Ensure, server: Fake) -> None:
    first = ensure()
    assert first["changed"]
    (made,) = server.living()
    assert made["id"] == first["silence_id"]
    assert made["matchers"] == [
        {"name": "instance", "value": "app1|app2", "isRegex": True, "isEqual": True},
        {"name": "layer", "value": "service", "isRegex": False, "isEqual": True},
    ]
    assert 29 < minutes_left(made) <= 30
    assert 'instance=~"app1|app2", layer="service"' in first["diff"]["after"]
    second = ensure(matchers=list(reversed(MATCHERS)))
    assert (second["changed"], second["silence_id"]) == (False, first["silence_id"])
    ended = ensure(state="absent", matchers=[])
    assert (ended["changed"], ended["ended"]) == (True, [first["silence_id"]])
    assert server.living() == []
    assert not ensure(state="absent", matchers=[])["changed"]


def test_one_that_ends_soon_is_made_longer(ensure: Ensure, server: Fake) -> None:
    first = ensure(duration=10)["silence_id"]
    again = ensure(duration=60)
    assert (again["changed"], again["silence_id"]) == (True, first)
    assert minutes_left(server.living()[0]) > 59
    assert not ensure(duration=100)["changed"]


def test_other_matchers_replace_the_old_ones_and_other_people_are_left_alone(ensure: Ensure, server: Fake) -> None:
    theirs = ensure(created_by="somebody")["silence_id"]
    first = ensure()["silence_id"]
    second = ensure(matchers=[{"name": "layer", "value": "business"}])
    assert second["ended"] == [first]
    assert {item["id"] for item in server.living()} == {theirs, second["silence_id"]}
    ensure(state="absent")
    assert [item["id"] for item in server.living()] == [theirs]


def test_check_mode_only_reads(ensure: Ensure, server: Fake) -> None:
    assert ensure(check=True)["changed"]
    assert server.silences == {}
    made = ensure()["silence_id"]
    assert not ensure(check=True)["changed"]
    assert ensure(check=True, state="absent")["ended"] == [made]
    assert len(server.living()) == 1
    assert {line.split()[0] for line in server.asked} == {"GET", "POST"}


def test_the_next_member_is_asked_where_one_is_gone(ensure: Ensure, server: Fake, free_port: int) -> None:
    done = ensure(urls=[f"https://127.0.0.1:{free_port}", server.url])
    assert (done["changed"], done["url"]) == (True, server.url)
    assert len(server.living()) == 1


def test_bad_answers_fail_and_show_no_password(ensure: Ensure, server: Fake, free_port: int) -> None:
    refused = ensure(urls=[f"https://127.0.0.1:{free_port}"])
    assert refused["failed"]
    assert "no Alertmanager answers" in refused["msg"]
    wrong = ensure(**{"password": "a-wrong-password-00"})
    assert "user or password is wrong" in wrong["msg"]
    assert "a-wrong-password-00" not in json.dumps(wrong)
    server.broken = "the cluster is not ready"
    assert "status 503" in ensure()["msg"]
    server.broken = '[{"id": 1}]'
    assert "is not one" in ensure()["msg"]


@pytest.mark.parametrize(
    ("options", "word"),
    [({"matchers": []}, "matchers"), ({"comment": ""}, "comment"), ({"duration": 0}, "duration")],
)
def test_mistakes_are_refused_before_anything_is_asked(
    ensure: Ensure, server: Fake, options: dict[str, Any], word: str
) -> None:
    result = ensure(**options)
    assert result["failed"]
    assert word in result["msg"]
    assert server.asked == []


def test_times_and_matchers_are_read_and_written() -> None:
    when = moment("2026-11-22T10:00:00.123456789Z")
    assert written(when) == "2026-11-22T10:00:00.123456Z"
    assert moment("2026-11-22T11:00:00.1+01:00").utcoffset() == datetime.timedelta(hours=1)
    assert [Matcher("a", "b", regex, equal).shown() for regex in (False, True) for equal in (True, False)] == [
        'a="b"',
        'a!="b"',
        'a=~"b"',
        'a!~"b"',
    ]
