# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Spans: one connected trace from submission to the requests to Langflow, nothing private, nothing that can block."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import http.server
import io
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import ALICE, FLOW, SOURCE, Langflow, free_port, wait_for
from flowfleet_tasks import process, spans, trace
from flowfleet_tasks.client import Client
from flowfleet_tasks.drain import Control
from flowfleet_tasks.errors import RequestError
from flowfleet_tasks.front import User
from flowfleet_tasks.wire import Door

USER = User("11111111-1111-4111-8111-111111111111", "alice", False)
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CALLER}-01"
CANARY = "canary-4711"


# --- a receiver of OTLP over HTTP -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Told:
    """A span as it came."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent: str
    error: bool
    message: str
    events: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


def plain(pairs: Any) -> dict[str, Any]:
    """Attributes as Python has them."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class Collector(http.server.ThreadingHTTPServer):
    """Takes spans; or says nothing, when it I(hangs), or refuses them with I(status)."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.bodies: list[bytes] = []
        self.hangs = False
        self.status = 200
        self.asked = 0
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Return where spans go."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces"

    def spans(self, name: str = "") -> list[Told]:
        """Return what came so far, in the order of the beginnings."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
        from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

        found = []
        for body in self.bodies:
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                for span in (span for scope in group.scope_spans for span in scope.spans):
                    told = Told(
                        span.name,
                        Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.status.code == Status.STATUS_CODE_ERROR,
                        span.status.message,
                        len(span.events),
                        plain(span.attributes),
                        plain(group.resource.attributes),
                    )
                    found.append((span.start_time_unix_nano, told))
        return [told for _begun, told in sorted(found, key=lambda pair: pair[0]) if name in ("", told.name)]


class _Receiver(http.server.BaseHTTPRequestHandler):
    server: Collector
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: Any) -> None:
        """Keep quiet."""

    def do_POST(self) -> None:
        """Take a batch."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        if self.server.hangs:
            self.server.over.wait(120)
            self.close_connection = True
            return
        if self.server.status == 200 and self.path == "/v1/traces":
            self.server.bodies.append(body)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Return a receiver of spans."""
    server = Collector()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def traced(settings: Callable[..., Any], collector: Collector, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Return the application as it is where spans are sent."""
    settings(traces={"endpoint": collector.url, "host": "task1"})
    application = request.getfixturevalue("application")
    yield application
    collector.over.set()
    application.spans.close()


@pytest.fixture
def tier(traced: Any, request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Return the verbs of the API, and a worker."""
    return request.getfixturevalue("service"), traced.worker()


def submit(service: Any, text: str = "one", parent: str = PARENT, **more: Any) -> str:
    """Make a run; return its identifier."""
    return str(service.submit(ALICE, USER, {"flow": FLOW, "input": text, **more}, {"traceparent": parent})["id"])


def asked(langflow: Langflow) -> list[str]:
    """Return the parents that Langflow was told by requests for runs."""
    return [seen["traceparent"] for _method, path, seen in langflow.requests if "workflows" in path]


# --- what is told -----------------------------------------------------------------------------------------------------


def test_submission_delivery_and_requests_are_one_trace(
    traced: Any, tier: tuple[Any, Any], langflow: Langflow, collector: Collector
) -> None:
    service, worker = tier
    run_id = submit(service, "one sleep=0.5")
    assert worker.deliver(run_id) == "succeeded"
    traced.spans.close()
    made, done = collector.spans()
    assert (made.name, made.kind, made.trace_id, made.parent) == ("task.submit", "PRODUCER", TRACE, CALLER)
    assert (done.name, done.kind, done.trace_id, done.parent) == ("task.run", "CONSUMER", TRACE, made.span_id)
    assert [made.error, done.error] == [False, False]
    assert traced.store.get(run_id)["traceparent"] == f"00-{TRACE}-{made.span_id}-01"
    assert len(asked(langflow)) >= 2
    assert set(asked(langflow)) == {f"00-{TRACE}-{done.span_id}-01"}
    common = {
        "flow_id": FLOW,
        "run_id": run_id,
        "messaging.system": "celery",
        "messaging.destination.name": "default",
        "task.guarantee": "once",
        "task.mode": "background",
    }
    assert made.attributes == {
        **common,
        "messaging.operation.name": "submit",
        "messaging.operation.type": "send",
        "task.new": True,
    }
    assert done.attributes == {
        **common,
        "messaging.operation.name": "run",
        "messaging.operation.type": "process",
        "task.attempt": 0,
        "status": "succeeded",
    }
    names = {name: done.resource.get(name) for name in ("service.name", "host.name", "task.process")}
    assert names == {"service.name": "celery", "host.name": "task1", "task.process": "test"}


@pytest.mark.parametrize("mode", ["background", "held"])
def test_a_failed_run_is_an_error_with_a_code_alone(
    traced: Any, tier: tuple[Any, Any], collector: Collector, mode: str
) -> None:
    service, worker = tier
    assert worker.deliver(submit(service, "bad fail", mode=mode)) == "failed"
    traced.spans.close()
    made, done = collector.spans()
    assert (made.error, done.error, done.message, done.events) == (False, True, "", 0)
    found = {name: done.attributes[name] for name in ("status", "task.reason", "error.type")}
    assert found == {"status": "failed", "task.reason": "flow_error", "error.type": "flow_error"}


def test_a_run_that_is_tried_again_has_a_span_for_each_time(
    traced: Any, tier: tuple[Any, Any], langflow: Langflow, collector: Collector
) -> None:
    service, worker = tier
    langflow.trouble.append(503)
    run_id = submit(service)
    assert worker.deliver(run_id) == "waiting"
    wait_for(lambda: traced.store.look(run_id)[0] == "publish")
    assert worker.deliver(run_id) == "succeeded"
    assert worker.deliver(run_id) == "ended", "a message too many is no work"
    traced.spans.close()
    made, *times = collector.spans()
    assert [done.parent for done in times] == [made.span_id] * 2
    assert [done.attributes["task.attempt"] for done in times] == [0, 1]
    assert [done.attributes["status"] for done in times] == ["waiting", "succeeded"]
    assert times[0].attributes["task.reason"] == "unavailable"
    assert [done.error for done in times] == [False, False]


def test_a_run_that_goes_from_hand_to_hand_has_a_span_in_each(
    settings: Any, collector: Collector, langflow: Langflow, request: pytest.FixtureRequest
) -> None:
    settings(traces={"endpoint": collector.url}, times={"slice": 0.5})
    application = request.getfixturevalue("application")
    service, worker = request.getfixturevalue("service"), application.worker()
    worker.publish = lambda record: None
    run_id, verdicts = submit(service, "long sleep=1.5"), []
    while "succeeded" not in verdicts:
        verdicts.append(worker.deliver(run_id))
    application.spans.close()
    made, *times = collector.spans()
    assert len(times) >= 2
    assert set(verdicts[:-1]) == {"handed_back"}
    assert [done.attributes["status"] for done in times] == verdicts
    assert {done.parent for done in times} == {made.span_id}
    told = collections.Counter(parent.split("-")[2] for parent in asked(langflow))
    assert set(told) == {done.span_id for done in times}, "each request names the delivery that made it"


def test_a_run_whose_workers_died_again_and_again_is_an_error(
    traced: Any, tier: tuple[Any, Any], collector: Collector
) -> None:
    service, worker = tier
    run_id, store = submit(service), traced.store
    for _loss in range(6):
        assert store.claim(run_id, "victim").verdict == "run"
        store.client.hset(store.key("run", run_id), "lease", "0")
    assert worker.deliver(run_id) == "ended"
    assert worker.deliver(run_id) == "ended"
    traced.spans.close()
    (done,) = collector.spans("task.run")
    assert (done.error, done.attributes["status"], done.attributes["error.type"]) == (True, "unknown", "worker_lost")


def test_a_queue_that_is_away_is_an_error_too(traced: Any, tier: tuple[Any, Any], collector: Collector) -> None:
    import redis

    service, worker = tier
    run_id = submit(service)

    def lost(*_arguments: Any, **_fields: str) -> None:
        raise redis.ConnectionError(f"no way to {CANARY}")

    worker.store.mark = lost
    with pytest.raises(redis.ConnectionError):
        worker.deliver(run_id)
    traced.spans.close()
    (done,) = collector.spans("task.run")
    found = (done.error, done.attributes["status"], done.attributes["error.type"], done.message, done.events)
    assert found == (True, "interrupted", "ConnectionError", "", 0)
    assert CANARY.encode() not in b"".join(collector.bodies)


def test_a_record_that_does_not_open_is_an_error(traced: Any, tier: tuple[Any, Any], collector: Collector) -> None:
    service, worker = tier
    run_id = submit(service)
    traced.store.client.hset(traced.store.key("run", run_id), "sealed", "broken")
    assert worker.deliver(run_id) == "failed"
    traced.spans.close()
    (done,) = collector.spans("task.run")
    assert (done.error, done.attributes["error.type"]) == (True, "seal_broken")


def test_the_runs_of_a_batch_lie_below_its_submission(traced: Any, tier: tuple[Any, Any], collector: Collector) -> None:
    service, worker = tier
    batch = service.submit_batch(ALICE, USER, {"flow": FLOW, "items": ["b1", "b2"]}, {"traceparent": PARENT})
    traced.unfold(batch["id"])
    runs = service.batch_runs(USER, batch["id"], 0, 10)
    for run in runs:
        assert worker.deliver(run["id"]) == "succeeded"
    traced.spans.close()
    made, *times = collector.spans()
    assert (made.name, made.parent, made.attributes["messaging.batch.message_count"]) == ("task.submit", CALLER, 2)
    assert [done.parent for done in times] == [made.span_id] * 2
    assert [done.attributes["run_id"] for done in times] == [run["id"] for run in runs]
    assert {span.attributes["task.batch"] for span in (made, *times)} == {batch["id"]}
    assert {span.attributes["flow_id"] for span in (made, *times)} == {FLOW}


def test_a_replay_goes_on_in_the_trace_of_its_dead_letter(
    traced: Any, tier: tuple[Any, Any], collector: Collector
) -> None:
    service, worker = tier
    dead = submit(service, "dead fail")
    worker.deliver(dead)
    again = service.replay(USER, ALICE, dead)
    worker.deliver(again["id"])
    traced.spans.close()
    first, _failed, second, replayed = collector.spans()
    assert (second.name, second.trace_id, second.parent) == ("task.submit", TRACE, first.span_id)
    assert (second.attributes["task.replay_of"], second.attributes["run_id"]) == (dead, again["id"])
    assert (replayed.parent, replayed.attributes["run_id"]) == (second.span_id, again["id"])


def test_a_schedule_begins_a_trace(traced: Any, collector: Collector, tmp_path: pathlib.Path) -> None:
    from flowfleet_tasks.beat import Leader, _NotNow

    plan = {"schedules": [{"name": "often", "flow": FLOW, "every": 60}, {"name": "lost", "flow": "none", "every": 60}]}
    (tmp_path / "schedules.json").write_text(json.dumps(plan), encoding="utf-8")
    leader, other = Leader(traced), Leader(traced)
    leader._reload()
    other._reload()
    good, bad = leader._schedules
    due = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert leader._make(good, due) == 1
    assert other._make(good, due) == 0, "two leaders at once make one run"
    with pytest.raises(_NotNow):
        leader._make(bad, due)
    (record,) = traced.store.listing(USER.id, wanted={}, limit=10)
    assert traced.worker().deliver(record["id"]) == "succeeded"
    traced.spans.close()
    made, done = collector.spans()
    assert (made.name, made.parent, made.attributes["task.schedule"]) == ("task.submit", "", "often")
    assert made.attributes["flow_id"] == FLOW
    assert record["trace_id"] == made.trace_id
    assert (done.trace_id, done.parent, done.attributes["task.schedule"]) == (made.trace_id, made.span_id, "often")


@pytest.mark.parametrize("before", ["", "no trace", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_without_a_caller_s_trace_one_begins(
    traced: Any, tier: tuple[Any, Any], langflow: Langflow, collector: Collector, before: str
) -> None:
    service, worker = tier
    run_id = submit(service, parent=before)
    worker.deliver(run_id)
    traced.spans.close()
    made, done = collector.spans()
    assert (made.parent, done.parent, done.trace_id) == ("", made.span_id, made.trace_id)
    # The front door begins another trace at any other flag.
    assert {parent[-3:] for parent in asked(langflow)} == {"-01"}
    assert service.run(USER, run_id)["trace_id"] == made.trace_id


def test_a_record_of_an_earlier_version_is_worked_on(
    traced: Any, tier: tuple[Any, Any], langflow: Langflow, collector: Collector
) -> None:
    """The parent that its record names was never a span, or there is none."""
    service, worker = tier
    key = traced.store.key("run", submit(service))
    traced.store.client.hset(key, "traceparent", PARENT)
    other = traced.store.key("run", submit(service))
    traced.store.client.hdel(other, "traceparent")
    assert [worker.deliver(name.rsplit(":", 1)[1]) for name in (key, other)] == ["succeeded"] * 2
    traced.spans.close()
    first, second = collector.spans("task.run")
    assert (first.trace_id, first.parent, second.parent) == (TRACE, CALLER, "")
    assert f"00-{second.trace_id}-{second.span_id}-01" in asked(langflow)


def test_a_caller_that_is_not_to_be_traced_is_heeded(
    traced: Any, tier: tuple[Any, Any], langflow: Langflow, collector: Collector
) -> None:
    service, worker = tier
    assert worker.deliver(submit(service, parent=PARENT[:-2] + "00")) == "succeeded"
    traced.spans.close()
    assert collector.spans() == []
    assert {(parent[3:35], parent[-2:]) for parent in asked(langflow)} == {(TRACE, "00")}


def test_a_refused_submission_is_the_caller_s_fault_or_ours(
    traced: Any, tier: tuple[Any, Any], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, _worker = tier
    with pytest.raises(RequestError):
        submit(service, queue="none")

    def away(_key: str, _wanted: str) -> None:
        raise RequestError(503, "langflow_unreachable", CANARY)

    monkeypatch.setattr(traced.front, "flow", away)
    with pytest.raises(RequestError):
        submit(service)
    traced.spans.close()
    theirs, ours = collector.spans()
    assert (theirs.error, theirs.attributes["error.type"]) == (False, "invalid_queue")
    assert (ours.error, ours.attributes["error.type"]) == (True, "langflow_unreachable")


def test_lines_of_the_log_name_the_span(
    traced: Any, tier: tuple[Any, Any], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, written = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    monkeypatch.setattr(sys, "stderr", written)
    process.set_up_logs()
    try:
        service, worker = tier
        worker.deliver(submit(service))
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    traced.spans.close()
    (done,) = collector.spans("task.run")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(line["trace_id"], line["span_id"]) for line in lines if "ended: succeeded" in line["message"]] == [
        (TRACE, done.span_id)
    ]


def test_nothing_private_is_in_the_bytes(traced: Any, tier: tuple[Any, Any], collector: Collector) -> None:
    service, worker = tier
    more = {"session_id": f"s-{CANARY}", "tweaks": {"x": f"t-{CANARY}"}, "globals": {"G": f"g-{CANARY}"}}
    for text in (f"{CANARY} good", f"{CANARY} fail", f"{CANARY} lose"):
        worker.deliver(submit(service, text, **more))
    with pytest.raises(RequestError):
        submit(service, "x", queue=f"q-{CANARY}")
    with pytest.raises(RequestError):
        service.submit(ALICE, USER, {"flow": f"f-{CANARY}"}, {"traceparent": PARENT, "tracestate": f"v={CANARY}"})
    traced.spans.close()
    everything = b"".join(collector.bodies)
    assert FLOW.encode() in everything, "there is something to look at"
    for secret in (CANARY, ALICE, "alice", "asked for", "Test flow", USER.id):
        assert secret.encode() not in everything, secret


# --- an agent that is away, or hangs ----------------------------------------------------------------------------------


def delivered(application: Any, service: Any) -> float:
    """Submit and deliver a run; return how long that took."""
    worker, begun = application.worker(), time.monotonic()
    assert worker.deliver(submit(service)) == "succeeded"
    return time.monotonic() - begun


@pytest.mark.parametrize("trouble", ["refuses", "hangs", "cannot"])
def test_an_agent_that_does_not_answer_costs_a_run_nothing(
    settings: Any, collector: Collector, request: pytest.FixtureRequest, trouble: str
) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}/v1/traces" if trouble == "refuses" else collector.url
    collector.hangs, collector.status = trouble == "hangs", 503
    # Whatever waits for the agent waits for a minute, so that a slow machine is no reason to fail.
    settings(traces={"endpoint": endpoint, "queue_size": 4, "flush": 1, "timeout": 60})
    application = request.getfixturevalue("application")
    service = request.getfixturevalue("service")
    delivered(application, service)
    # More than the queue holds, for longer than the sender waits between two batches.
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        assert delivered(application, service) < 10
    if trouble != "refuses":
        assert collector.asked, "it was tried"
    waiting = application.spans._provider._active_span_processor._span_processors[0]._batch_processor._queue
    assert len(waiting) <= 4
    begun = time.monotonic()
    application.spans.close()
    assert time.monotonic() - begun < 10
    assert collector.spans() == []


def test_trouble_is_logged_once_and_its_end_too(
    settings: Any, collector: Collector, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    settings(traces={"endpoint": collector.url, "timeout": 0.5})
    application, service = request.getfixturevalue("application"), request.getfixturevalue("service")
    caplog.set_level(logging.INFO)
    collector.status = 400
    for asked_before in (1, 2):
        submit(service)
        wait_for(lambda number=asked_before: collector.asked >= number)
    collector.status = 200
    submit(service)
    wait_for(collector.spans)
    application.spans.close()
    lines = [record.getMessage() for record in caplog.records if "spans" in record.getMessage()]
    assert [("not take" in line, "again" in line) for line in lines] == [(True, False), (False, True)], lines


def test_a_sender_that_cannot_be_made_fails_no_run(
    traced: Any, tier: tuple[Any, Any], langflow: Langflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(traced.spans, "_make", broken)
    service, worker = tier
    assert worker.deliver(submit(service)) == "succeeded"
    assert {parent[3:35] for parent in asked(langflow)} == {TRACE}


# --- processes --------------------------------------------------------------------------------------------------------


def test_the_real_processes_send_theirs_until_they_end(
    settings: Callable[..., Any],
    collector: Collector,
    langflow: Langflow,
    processes: Callable[..., subprocess.Popen[bytes]],
    request: pytest.FixtureRequest,
) -> None:
    """Each forked process has a sender, and what it has not sent yet it sends when API and worker are stopped."""
    settings(traces={"endpoint": collector.url, "interval": 600})
    application = request.getfixturevalue("application")
    client = Client(Door(f"http://127.0.0.1:{application.settings.api.port}"), ALICE)
    worker, api = processes("worker", "--name", "one", "--concurrency", "2"), processes("api")
    wait_for(lambda: Control(application, "one").ping(1.0), seconds=60)
    batch = client.submit_batch({"flow": FLOW, "items": [f"b{number} sleep=1" for number in range(4)]})
    client.follow_batch(batch["id"], time.monotonic() + 60, lambda _batch: None)
    last = client.submit({"flow": FLOW, "input": "last"}, traceparent=PARENT)
    client.finish(last["id"], time.monotonic() + 30)
    for one in (worker, api):
        one.send_signal(signal.SIGTERM)
    for one in (worker, api):
        one.wait(timeout=30)
    made, done = collector.spans("task.submit"), collector.spans("task.run")
    assert [len(made), len(done)] == [2, 5]
    assert {one.resource["task.process"] for one in made} == {"api"}
    assert {one.resource["task.process"] for one in done} == {"one"}
    assert len({one.resource["process.pid"] for one in done}) == 2, "both processes of the worker"
    parents = {one.attributes["run_id"]: one.parent for one in done}
    assert collections.Counter(parents.values()) == {made[0].span_id: 4, made[1].span_id: 1}
    assert (made[1].parent, parents[last["id"]]) == (CALLER, made[1].span_id)
    assert langflow.executions["last"] == 1


FORK = """
import os, sys
from flowfleet_tasks import config, spans
made = spans.Spans(config.Traces(endpoint=sys.argv[1], interval=600), "x")
with made.submission(None, {}):
    pass
child = os.fork()
with made.submission(None, {}):
    pass
made.close()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_sender_is_not_shared_with_a_forked_process(collector: Collector) -> None:
    command = [sys.executable, "-c", FORK, collector.url]
    subprocess.run(command, timeout=60, env=_environment(), check=True)
    pids = collections.Counter(span.resource["process.pid"] for span in collector.spans())
    assert sorted(pids.values()) == [1, 2], "what the first process had to send is its own"


def test_processes_end_in_time_with_an_agent_that_hangs(
    settings: Callable[..., Any],
    collector: Collector,
    processes: Callable[..., subprocess.Popen[bytes]],
    request: pytest.FixtureRequest,
) -> None:
    settings(traces={"endpoint": collector.url, "timeout": 90})
    collector.hangs = True
    application = request.getfixturevalue("application")
    client = Client(Door(f"http://127.0.0.1:{application.settings.api.port}"), ALICE)
    started = [processes("worker", "--name", "one", "--concurrency", "1"), processes("api")]
    wait_for(lambda: Control(application, "one").ping(1.0), seconds=60)
    for _run in range(3):
        run = client.submit({"flow": FLOW, "input": "x"})
        assert client.finish(run["id"], time.monotonic() + 30)["state"] == "succeeded"
    begun = time.monotonic()
    for one in started:
        one.send_signal(signal.SIGTERM)
    for one in started:
        one.wait(timeout=60)
    assert time.monotonic() - begun < 40, "three seconds for spans, and what it takes anyway"
    assert collector.asked


# (The client of Redis loads the part for metrics by itself where it is installed, and does nothing with it.)
PROGRAM = """
import sys
from flowfleet_tasks.app import Application
from flowfleet_tasks.front import User
from flowfleet_tasks.service import Service
application = Application()
application.configure()
application.spans.preload()
user = User(sys.argv[1], "alice", False)
run = Service(application).submit(sys.argv[2], user, {"flow": sys.argv[3], "input": "x"}, {})
print(application.worker().deliver(run["id"]))
application.spans.close()
print([name for name in ("opentelemetry.sdk.trace", "google.protobuf", "requests") if name in sys.modules])
"""


@pytest.mark.parametrize("endpoint", [False, True])
def test_without_an_address_nothing_for_spans_is_even_loaded(
    settings: Callable[..., Any], application: Any, collector: Collector, langflow: Langflow, endpoint: bool
) -> None:
    if endpoint:
        settings(traces={"endpoint": collector.url})
    command = [sys.executable, "-c", PROGRAM, USER.id, ALICE, FLOW]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, env=_environment(), check=True)
    verdict, loaded = answer.stdout.splitlines()
    assert verdict == "succeeded", answer.stderr
    assert bool(collector.spans()) is endpoint
    assert (loaded != "[]") is endpoint, loaded
    parents = asked(langflow)
    assert (len(set(parents)) == 1) is endpoint, "as before, an identifier of its own for each request"
    assert len(parents) > 1


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE)}


def test_spans_that_are_off_name_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowfleet_tasks import config

    off = spans.Spans(config.Traces(), "x")
    with off.submission(PARENT, {}) as span:
        assert span.traceparent == PARENT
    with off.delivery({"traceparent": PARENT}) as span:
        assert span.traceparent == PARENT
        assert (span.onward()[:36], span.onward() != span.onward()) == (PARENT[:36], True)
        span.settle("failed")
    with off.submission(None, {}) as span:
        assert trace.valid(span.traceparent) == span.traceparent
    with contextlib.suppress(KeyError), off.delivery({}) as span:
        raise KeyError
    off.close()


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4328", "http://127.0.0.1:4328", "https://user:word@mon1/v1/traces"])
def test_an_address_that_cannot_work_is_refused(endpoint: str) -> None:
    from flowfleet_tasks import config
    from flowfleet_tasks.errors import ConfigError

    with pytest.raises(ConfigError) as refused:
        config.parse({"langflow": {"url": "https://a"}, "traces": {"endpoint": endpoint}})
    assert [fault for fault in refused.value.faults if fault.startswith("traces.endpoint")]
    config.parse({"langflow": {"url": "https://a"}, "traces": {"endpoint": "http://127.0.0.1:4328/v1/traces"}})
