# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API over the network: what it refuses, what a caller sees, and that nothing is queued when it refuses."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import uvicorn
from conftest import ALICE, BOB, FLOW, Langflow, wait_for
from flowfleet_tasks import api, cli, metrics
from flowfleet_tasks.auth import Gate
from flowfleet_tasks.errors import RequestError
from flowfleet_tasks.front import FrontDoor, User

ROOT, GONE = "sk-root-0123456789", "sk-gone-0123456789"
USER = User("11111111-1111-4111-8111-111111111111", "alice", False)


class Caller:
    """A caller of the API."""

    def __init__(self, port: int) -> None:
        """Take where it listens."""
        self.port = port

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        key: str | None = ALICE,
        raw: bytes | None = None,
        **headers: str,
    ) -> tuple[int, Any]:
        """Make one request; return status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            named["x-api-key"] = key
        data = raw if raw is not None else None if body is None else json.dumps(body)
        try:
            connection.request(method, f"/tasks/v1{path}", body=data, headers=named)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


@pytest.fixture
def call(application: Any) -> Iterator[Caller]:
    """Serve the API; return a caller."""
    port = application.settings.api.port
    server = uvicorn.Server(uvicorn.Config(api.make(application), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    yield Caller(port)
    server.should_exit = True
    thread.join(timeout=10)


def queued(application: Any) -> int:
    """Return how many runs and messages there are, of whatever kind."""
    store = application.store
    records = sum(1 for _key in store.client.scan_iter(match=store.key("run", "*")))
    return records + sum(metrics.depth(store, queue) for queue in store.settings.queues)


REFUSALS = [
    ("no key", {"key": None, "body": {"flow": FLOW}}, 401, "unauthorized"),
    ("wrong key", {"key": "sk-wrong", "body": {"flow": FLOW}}, 401, "unauthorized"),
    ("a key that is no header", {"key": "x" * 600, "body": {"flow": FLOW}}, 401, "unauthorized"),
    ("inactive user", {"key": GONE, "body": {"flow": FLOW}}, 403, "forbidden"),
    ("queue of superusers", {"body": {"flow": FLOW, "queue": "admin"}}, 403, "forbidden"),
    ("unknown flow", {"body": {"flow": "00000000-0000-4000-8000-000000000000"}}, 404, "flow_not_found"),
    ("unknown endpoint", {"body": {"flow": "nobody"}}, 404, "flow_not_found"),
    ("no JSON", {"raw": b"{"}, 400, "bad_request"),
    ("nested too deep", {"raw": b"[" * 100_000}, 400, "bad_request"),
    ("no object", {"body": [1]}, 422, "invalid_body"),
    ("no flow", {"body": {}}, 422, "invalid_flow"),
    ("unknown queue", {"body": {"flow": FLOW, "queue": "nowhere"}}, 422, "invalid_queue"),
    ("unknown field", {"body": {"flow": FLOW, "colour": "red"}}, 422, "invalid_field"),
    ("wrong type", {"body": {"flow": FLOW, "tweaks": "x"}}, 422, "invalid_tweaks"),
    ("wrong guarantee", {"body": {"flow": FLOW, "guarantee": "always"}}, 422, "invalid_guarantee"),
    ("wrong mode", {"body": {"flow": FLOW, "mode": "magic"}}, 422, "invalid_mode"),
    ("timeout too long", {"body": {"flow": FLOW, "timeout": 9999}}, 422, "invalid_timeout"),
    ("timeout of nothing", {"body": {"flow": FLOW, "timeout": -1}}, 422, "invalid_timeout"),
    ("held too long", {"body": {"flow": FLOW, "mode": "held", "timeout": 600}}, 422, "invalid_timeout"),
    ("too many retries", {"body": {"flow": FLOW, "max_retries": 101}}, 422, "invalid_max_retries"),
    ("oversized", {"body": {"flow": FLOW, "input": "x" * 2_000_000}}, 413, "too_large"),
]


def test_refusals_queue_nothing(application: Any, call: Caller) -> None:
    for name, request, status, code in REFUSALS:
        found, body = call("POST", "/runs", **request)
        assert (found, body["error"]["code"]) == (status, code), name
        assert set(body["error"]) <= {"code", "message", "details"}, name
        assert queued(application) == 0, name
    assert call("POST", "/runs", {"flow": FLOW})[0] == 202
    assert queued(application) == 2


def test_what_all_other_errors_look_like(call: Caller) -> None:
    for method, path, status, code in (
        ("GET", "/nowhere", 404, "not_found"),
        ("PUT", "/runs", 405, "method_not_allowed"),
        ("GET", "/runs?limit=many", 422, "invalid_request"),
        ("GET", "/runs?state=odd", 422, "invalid_state"),
        ("GET", "/runs/none", 404, "run_not_found"),
        ("GET", "/runs/none/result", 404, "run_not_found"),
        ("DELETE", "/runs/none", 404, "run_not_found"),
        ("POST", "/runs/none/replay", 404, "run_not_found"),
        ("GET", "/batches/none", 404, "batch_not_found"),
    ):
        found, body = call(method, path)
        assert (found, body["error"]["code"]) == (status, code), path


def test_a_body_without_a_length_is_limited_too(application: Any, call: Caller) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", call.port, timeout=20)
    pieces = (b"x" * 65536 for _number in range(40))
    connection.request("POST", "/tasks/v1/runs", body=pieces, headers={"x-api-key": ALICE}, encode_chunked=True)
    try:
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server had heard enough
    finally:
        connection.close()
    assert queued(application) == 0


def test_langflow_or_redis_away_is_503(application: Any, call: Caller, langflow: Langflow) -> None:
    object.__setattr__(application.front.door, "url", "http://127.0.0.1:9")
    status, body = call("POST", "/runs", {"flow": FLOW})
    assert (status, body["error"]["code"]) == (503, "langflow_unreachable")
    assert queued(application) == 0
    object.__setattr__(application.front.door, "url", langflow.url)
    assert call("POST", "/runs", {"flow": FLOW})[0] == 202
    application.store.client.connection_pool = redis.ConnectionPool(port=9, decode_responses=True)
    status, body = call("POST", "/runs", {"flow": FLOW})
    assert (status, body["error"]["code"]) == (503, "queue_unreachable")
    assert call("GET", "/ready")[0] == 503
    assert call("GET", "/health")[0] == 200


def test_an_answered_key_is_remembered_for_a_while(call: Caller, langflow: Langflow) -> None:
    for _number in range(3):
        call("GET", "/runs")
    assert langflow.whoami == 1
    for _number in range(3):
        assert call("GET", "/runs", key="sk-wrong")[0] == 401
    assert langflow.whoami == 4


def test_runs_can_be_looked_at_while_langflow_is_away(settings: Any, langflow: Langflow) -> None:
    now = settings()
    gate = Gate(FrontDoor(now.langflow), seconds=0.0)
    assert gate.user(ALICE).name == "alice"
    object.__setattr__(gate.front.door, "url", "http://127.0.0.1:9")
    assert gate.user(ALICE, reading=True).name == "alice"
    for key, reading in ((ALICE, False), (BOB, True)):
        with pytest.raises(RequestError) as caught:
            gate.user(key, reading=reading)
        assert caught.value.status == 503
    object.__setattr__(gate.front.door, "url", langflow.url)
    with pytest.raises(RequestError) as caught:
        gate.user("sk-wrong", reading=True)
    assert caught.value.status == 401


def test_a_run_over_the_network(application: Any, call: Caller, worker: Any) -> None:
    status, run = call("POST", "/runs", {"flow": "testflow", "input": "hello"})
    assert (status, run["state"], run["flow"]) == (202, "queued", FLOW)
    assert call("GET", f"/runs/{run['id']}/result")[0] == 202
    assert call("GET", f"/runs/{run['id']}?wait=0.6")[1]["state"] == "queued"
    worker.deliver(run["id"])
    assert call("GET", f"/runs/{run['id']}?wait=20")[1]["state"] == "succeeded"
    status, done = call("GET", f"/runs/{run['id']}/result")
    assert (status, done["result"]["output"]["text"]) == (200, "hello")
    status, body = call("DELETE", f"/runs/{run['id']}")
    assert (status, body["error"]["code"]) == (409, "already_ended")
    shown = json.dumps(done)
    assert ALICE not in shown
    assert "sealed" not in shown


def test_nobody_sees_the_runs_of_others(call: Caller) -> None:
    _status, run = call("POST", "/runs", {"flow": FLOW})
    _status, batch = call("POST", "/batches", {"flow": FLOW, "items": ["a"]})
    for method, path in (
        ("GET", f"/runs/{run['id']}"),
        ("GET", f"/runs/{run['id']}/result"),
        ("DELETE", f"/runs/{run['id']}"),
        ("POST", f"/runs/{run['id']}/replay"),
        ("GET", f"/batches/{batch['id']}"),
        ("GET", f"/batches/{batch['id']}/runs"),
        ("DELETE", f"/batches/{batch['id']}"),
    ):
        assert call(method, path, key=BOB)[0] == 404, path
    assert call("GET", "/runs", key=BOB)[1]["runs"] == []
    assert [found["id"] for found in call("GET", "/runs")[1]["runs"]] == [run["id"]]
    assert call("GET", f"/runs/{run['id']}")[0] == 200


def test_cancelled_twice(call: Caller) -> None:
    _status, run = call("POST", "/runs", {"flow": FLOW})
    assert call("DELETE", f"/runs/{run['id']}")[0] == 200
    status, body = call("DELETE", f"/runs/{run['id']}")
    assert (status, body["error"]["code"]) == (409, "already_cancelled")


def test_the_same_idempotency_key_is_the_same_run(application: Any, call: Caller) -> None:
    first = call("POST", "/runs", {"flow": FLOW, "input": "x"}, Idempotency_Key="k")[1]
    status, second = call("POST", "/runs", {"flow": FLOW, "input": "x"}, Idempotency_Key="k")
    assert (status, second["id"]) == (202, first["id"])
    assert queued(application) == 2
    status, body = call("POST", "/runs", {"flow": FLOW, "input": "y"}, Idempotency_Key="k")
    assert (status, body["error"]["code"]) == (409, "idempotency_conflict")
    assert call("POST", "/runs", {"flow": FLOW, "input": "y"}, key=BOB, Idempotency_Key="k")[1]["id"] != first["id"]


def test_a_user_may_have_so_many_pending_runs(application: Any, call: Caller) -> None:
    application.settings.limits.__dict__["pending_per_user"] = 3
    runs = [call("POST", "/runs", {"flow": FLOW})[1]["id"] for _number in range(3)]
    status, body = call("POST", "/runs", {"flow": FLOW})
    assert (status, body["error"]["code"]) == (429, "too_many_pending")
    assert call("POST", "/batches", {"flow": FLOW, "items": ["a"]})[0] == 429
    assert call("POST", "/runs", {"flow": FLOW}, key=BOB)[0] == 202
    assert call("DELETE", f"/runs/{runs[0]}")[0] == 200
    assert call("POST", "/runs", {"flow": FLOW})[0] == 202


def test_dead_letters_are_replayed_once(application: Any, call: Caller, worker: Any, langflow: Langflow) -> None:
    run = call("POST", "/runs", {"flow": FLOW, "input": "dead fail"})[1]
    assert call("POST", f"/runs/{run['id']}/replay")[0] == 409
    worker.deliver(run["id"])
    dead = call("GET", "/runs?state=dead")[1]["runs"]
    assert [found["id"] for found in dead] == [run["id"]]
    status, again = call("POST", f"/runs/{run['id']}/replay")
    assert (status, again["replay_of"], again["state"]) == (202, run["id"], "queued")
    assert call("GET", "/runs?state=dead")[1]["runs"] == []
    status, body = call("POST", f"/runs/{run['id']}/replay")
    assert (status, body["error"]["code"]) == (409, "already_replayed")
    worker.deliver(again["id"])
    assert langflow.executions["dead"] == 2
    assert call("GET", f"/runs/{run['id']}")[1]["state"] == "failed"


def test_a_batch_and_its_summary(application: Any, call: Caller, worker: Any) -> None:
    items = ["one", {"input": "two fail"}, "three", "four"]
    status, batch = call("POST", "/batches", {"flow": FLOW, "items": items})
    assert (status, batch["state"], batch["total"]) == (202, "running", 4)
    application.unfold(batch["id"])
    runs = call("GET", f"/batches/{batch['id']}/runs")[1]["runs"]
    assert [run["number"] for run in runs] == [0, 1, 2, 3]
    assert call("DELETE", f"/runs/{runs[3]['id']}")[0] == 200
    for run in runs:
        worker.deliver(run["id"])
    _status, batch = call("GET", f"/batches/{batch['id']}")
    assert (batch["state"], batch["counts"]) == ("ended", {"succeeded": 2, "failed": 1, "cancelled": 1, "unknown": 0})
    assert call("DELETE", f"/batches/{batch['id']}")[0] == 409


def test_a_batch_is_cancelled_before_it_is_unfolded(application: Any, call: Caller, langflow: Langflow) -> None:
    batch = call("POST", "/batches", {"flow": FLOW, "items": ["never1", "never2"]})[1]
    status, batch = call("DELETE", f"/batches/{batch['id']}")
    assert (status, batch["counts"]["cancelled"], batch["state"]) == (202, 2, "ended")
    assert application.unfold(batch["id"]) == 0
    assert not langflow.executions


def test_a_bad_batch_queues_nothing(application: Any, call: Caller) -> None:
    for items in ([], "a", [1], [{"queue": "default"}], ["x"] * 1001, [{"tweaks": 1}]):
        assert call("POST", "/batches", {"flow": FLOW, "items": items})[0] == 422, items
        assert queued(application) == 0
    assert application.store.unfolded(-10) == []


def test_lists_are_paged_and_filtered(call: Caller) -> None:
    ids = [call("POST", "/runs", {"flow": FLOW, "queue": queue})[1]["id"] for queue in ("default", "slow") * 3]
    first = call("GET", "/runs?limit=4")[1]
    second = call("GET", f"/runs?limit=4&before={first['before']:.6f}")[1]
    assert [run["id"] for run in first["runs"] + second["runs"]] == ids[::-1]
    assert second["before"] is None
    slow = call("GET", "/runs?queue=slow&state=queued")[1]["runs"]
    assert [run["id"] for run in slow] == ids[1::2][::-1]
    queues = {queue["name"]: queue["depth"] for queue in call("GET", "/queues")[1]["queues"]}
    assert queues == {"default": 3, "slow": 3, "admin": 0}


def test_figures(application: Any, call: Caller, worker: Any) -> None:
    import prometheus_client

    for text in ("good", "bad fail"):
        worker.deliver(call("POST", "/runs", {"flow": FLOW, "input": text})[1]["id"])
    call("POST", "/runs", {"flow": FLOW, "queue": "slow"})
    text = prometheus_client.generate_latest(metrics.registry(application.store)).decode()
    for line in (
        "flowfleet_tasks_up 1.0",
        'flowfleet_tasks_queue_depth{queue="slow"} 1.0',
        'flowfleet_tasks_runs{state="queued"} 1.0',
        'flowfleet_tasks_runs_total{queue="default",state="succeeded"} 1.0',
        'flowfleet_tasks_runs_total{queue="default",state="failed"} 1.0',
        "flowfleet_tasks_dead_letters 1.0",
        f'flowfleet_tasks_run_seconds_count{{flow="{FLOW}"}} 2.0',
    ):
        assert line in text.splitlines(), line
    assert 'flowfleet_tasks_queue_age_seconds{queue="slow"} 0.0' not in text.splitlines()


def test_only_so_many_flows_have_a_name_in_the_figures(application: Any, service: Any, worker: Any) -> None:
    application.settings.metrics.__dict__["max_flows"] = 0
    worker.deliver(service.submit(ALICE, USER, {"flow": FLOW}, {})["id"])
    names = {name.split("|")[0] for name in application.store.client.hgetall(application.store.key("hist"))}
    assert names == {"other"}


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line(
    application: Any, call: Caller, worker: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    key.write_text(ALICE + "\n", encoding="utf-8")
    base = ["--url", f"http://127.0.0.1:{call.port}", "--key-file", str(key), "--json"]

    def run(*words: str) -> tuple[int, Any]:
        code = cli.main([words[0], *base, *words[1:]])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    code, made = run("submit", "--flow", "testflow", "--input", "hi")
    assert (code, made["state"]) == (0, "queued")
    assert run("result", made["id"])[0] == 5
    worker.deliver(made["id"])
    code, done = run("result", made["id"])
    assert (code, done["result"]["output"]["text"]) == (0, "hi")
    code, failed = run("submit", "--flow", FLOW, "--input", "bad fail")
    worker.deliver(failed["id"])
    assert run("status", failed["id"], "--wait", "1")[0] == 1
    assert run("list", "--state", "dead")[1][0]["id"] == failed["id"]
    code, again = run("replay", "--all")
    assert (code, again[0]["replay_of"]) == (0, failed["id"])
    assert run("cancel", again[0]["id"])[1]["state"] == "cancelled"
    assert run("cancel", again[0]["id"])[0] == 2
    assert run("submit", "--flow", "nobody")[0] == 2
    assert run("schedules") == (0, [])
    assert {queue["name"] for queue in run("queues")[1]} == {"default", "slow", "admin"}
    items = tmp_path / "items"
    items.write_text("a\nb\nc\n", encoding="utf-8")
    code, batch = run("batch", "--flow", FLOW, str(items))
    assert (code, batch["total"]) == (0, 3)
    application.unfold(batch["id"])
    for one in call("GET", f"/batches/{batch['id']}/runs")[1]["runs"]:
        worker.deliver(one["id"])
    code, batch = run("status", "--batch", batch["id"], "--wait", "5")
    assert (code, batch["counts"]["succeeded"]) == (0, 3)
    key.write_text("sk-wrong", encoding="utf-8")
    assert run("list")[0] == 3
    base[1] = "http://127.0.0.1:9"
    assert cli.main(["list", *base, "--limit", "1"]) == 4


def test_a_batch_line_shows_how_far_it_is() -> None:
    counts = {"succeeded": 4, "failed": 1, "unknown": 0, "cancelled": 0}
    line = cli.Bar.line({"done": 5, "total": 10, "counts": counts}, 10.0)
    assert line == "[###############...............] 5/10, 1 not succeeded, 10 s, about 10 s left"
