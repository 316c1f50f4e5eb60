# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The load generator counts exactly, keeps its pace, ends by itself, and knows when it is not to be believed."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import request_probe_fake as fake
from ansible_collections.flowfleet.langflow.plugins.doc_fragments import langflow_server
from ansible_collections.flowfleet.langflow.plugins.module_utils import _request_probe as engine
from ansible_collections.flowfleet.langflow.plugins.module_utils import _request_probe_control as control
from ansible_collections.flowfleet.langflow.plugins.module_utils import _request_probe_report as reports
from ansible_collections.flowfleet.langflow.plugins.modules import request_probe

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server() -> Iterator[fake.Server]:
    started = fake.Server()
    yield started
    started.close()


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Make a load within this process and report on it."""

    def run(url: str, *loads: dict[str, Any], key: str = "", truth: Any = None, **options: Any) -> dict[str, Any]:
        plan = engine.Plan(url=url, loads=tuple(engine.Load(**load) for load in loads), **options)
        (tmp_path / engine.PLAN).write_text(plan.as_json())
        (tmp_path / engine.RESULTS).unlink(missing_ok=True)
        journal = engine.Journal(str(tmp_path / engine.RESULTS))
        asyncio.run(engine.Generator(plan, journal, key).run())
        journal.close()
        counts = None if truth is None else reports.count_executions(truth() if callable(truth) else truth)
        return reports.make_report(str(tmp_path), executions=counts)

    return run


@pytest.fixture
def probe(run_module: Any, tmp_path: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Call the module; whatever it has started is gone after the test."""
    directory = tmp_path / "probe"

    def call(state: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {"state": state, "directory": str(directory), **options}
        return dict(run_module(request_probe, arguments, check=check))

    yield call
    with contextlib.suppress(ChildProcessError):
        if (pid := control.running(str(directory)) if directory.exists() else None) is not None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


GET = {"kind": "get", "rate": 40.0, "timeout": 10.0}
RUN = {"kind": "run", "rate": 40.0, "flow": "echo", "timeout": 10.0}
STREAM = {"kind": "stream", "rate": 40.0, "flow": "count", "timeout": 10.0, "events": 12}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_alive", [0.0, 1.0])
@pytest.mark.parametrize(
    ("load", "reply", "outcome"),
    [
        (GET, fake.usual, "ok"),
        (GET, fake.fixed(fake.answer(b"", 503)), "http_503"),
        (GET, fake.fixed(fake.answer(b"", 302, "Location: http://192.0.2.1/")), "http_302"),
        (GET, fake.fixed(b"HTTP/1.1 100 Continue\r\n\r\n" + fake.answer()), "ok"),
        (GET, fake.fixed(fake.answer(b"{", announced=50), close=True), "truncated"),
        (GET, fake.fixed(HEAD, close=True), "truncated"),
        (GET, fake.fixed(fake.answer(b"{", announced=50), pause=30), "timeout"),
        (GET, fake.fixed(b"+PONG\r\n\r\n"), "wrong"),
        (GET, fake.fixed(fake.STREAM_HEAD + b"zz\r\n\r\n"), "wrong"),
        (GET, fake.fixed(b"X" * 100_000), "wrong"),
        (GET, fake.reset, "reset"),
        (GET, fake.half_close, "reset"),
        (GET, fake.silence, "timeout"),
        (RUN, fake.usual, "ok"),
        (RUN, fake.fixed(fake.answer(b"{}", 500)), "http_500"),
        (RUN, fake.fixed(fake.answer(b"{}")), "wrong"),
        (RUN, fake.fixed(fake.answer(json.dumps(fake.result("another answer")).encode())), "wrong"),
        (RUN, fake.fixed(fake.answer(b"{")), "wrong"),
        (RUN, fake.fixed(fake.answer(b"x" * (engine.MAX_KEPT + 1))), "wrong"),
        (RUN, fake.reset, "reset"),
        (RUN, fake.half_close, "reset"),
        (STREAM, fake.usual, "ok"),
        (STREAM, fake.stream(range(1, 13), sse=False), "ok"),
        (STREAM, fake.stream(range(1, 13), split=True), "ok"),
        (STREAM, fake.stream(range(1, 6), end=0), "truncated"),
        (STREAM, fake.stream(range(1, 13), end=0), "truncated"),
        (STREAM, fake.stream(range(1, 13), end=0, last=False), "truncated"),
        (STREAM, fake.stream(range(1, 13), end=1, last=False), "truncated"),
        (STREAM, fake.stream([1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12]), "truncated"),
        (STREAM, fake.stream([1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]), "duplicate"),
        (STREAM, fake.stream(range(1, 13), end=2), "duplicate"),
        (STREAM, fake.stream([1, 2, 4, 3, 5, 6, 7, 8, 9, 10, 11, 12]), "disordered"),
        (STREAM, fake.fixed(fake.STREAM_HEAD + fake.chunk(fake.event("error", {"x": 1})) + b"0\r\n\r\n"), "wrong"),
        (STREAM, fake.fixed(fake.STREAM_HEAD + fake.chunk(b"data: no json\n\n") + b"0\r\n\r\n"), "wrong"),
        ({**STREAM, "events": 0}, fake.usual, "ok"),
        ({**STREAM, "events": 0, "expect": "nothing"}, fake.usual, "wrong"),
    ],
)
def test_every_request_is_counted_by_what_became_of_it(
    server: fake.Server, measure: Any, load: dict[str, Any], reply: fake.Reply, outcome: str, keep_alive: float
) -> None:
    server.reply = reply
    timeout = 0.4 if outcome == "timeout" else 10.0
    load = {**load, "keep_alive": keep_alive, "timeout": timeout}
    report = measure(server.url, load, max_requests=6, max_lag=3.0)
    assert report["classes"] == {outcome: 6}
    assert (report["n"], report["failed"]) == (6, 0 if outcome == "ok" else 6)
    assert report["bound"] == (0.5 if outcome == "ok" else None)
    assert len(server.requests) == 6 + report["reconnected"]
    assert report["trusted"], report["doubts"]


def test_a_closed_port_is_refused(free_port: int, measure: Any) -> None:
    assert measure(f"http://127.0.0.1:{free_port}", GET, max_requests=3)["classes"] == {"refused": 3}


def test_an_unknown_host_is_unreachable(measure: Any) -> None:
    assert measure("http://nowhere.invalid", {**GET, "timeout": 20}, max_requests=2)["classes"] == {"unreachable": 2}


def test_late_is_a_failure(server: fake.Server, measure: Any) -> None:
    load = {"kind": "long_run", "rate": 20, "flow": "f", "seconds": [0.01, 0.3], "late_after": 0.15, "timeout": 5}
    report = measure(server.url, load, max_requests=10)
    assert report["classes"]["late"] + report["classes"]["ok"] == 10
    assert 3 <= report["failed"] <= 7


@pytest.mark.parametrize(
    ("names", "own", "classes"),
    [
        (["127.0.0.1"], True, {"ok": 4}),
        (["192.0.2.9"], True, {"tls": 4}),
        (["127.0.0.1"], False, {"tls": 4}),
    ],
)
def test_tls_with_a_private_authority(
    authority: Any, measure: Any, names: list[str], own: bool, classes: dict[str, int]
) -> None:
    server = fake.Server(tls=authority.server_context(*names))
    ca = str(authority.path) if own else None
    report = measure(server.url, {**RUN, "rate": 20, "timeout": 5}, max_requests=4, ca_path=ca, key=KEY)
    server.close()
    assert report["classes"] == classes
    # With the wrong peer neither input nor key has left this side.
    assert len(server.requests) == classes.get("ok", 0)


# --- requests ---------------------------------------------------------------------------------------------------------


def test_requests_can_be_told_apart(server: fake.Server, measure: Any) -> None:
    report = measure(
        server.url, {**GET, "rate": 100}, {**RUN, "rate": 100, "keep_alive": 1.0}, max_requests=40, key=KEY
    )
    assert report["classes"] == {"ok": 40}
    seen = server.requests
    traces = {request.headers["traceparent"] for request in seen}
    assert all(trace.startswith("00-") and trace.endswith("-01") and len(trace) == 55 for trace in traces)
    assert len(traces) == len({request.headers["x-request-id"] for request in seen}) == 40
    runs = [request for request in seen if request.method == "POST"]
    assert all(
        request.headers["x-request-id"] == request.text == request.headers["idempotency-key"] for request in runs
    )
    assert {request.headers.get("x-api-key") for request in seen if request.method == "GET"} == {None}
    assert {request.headers["x-api-key"] for request in runs} == {KEY}
    assert report["windows"]["before"]["n"] == 40


def test_the_key_is_cut_out_of_what_a_server_says(server: fake.Server, measure: Any, tmp_path: Path) -> None:
    server.reply = fake.fixed(fake.answer(json.dumps({"detail": f"no such key: {KEY}"}).encode()))
    report = measure(server.url, RUN, max_requests=2, key=KEY)
    assert "no such key: ****" in report["failures"][0]["detail"]
    assert KEY not in (tmp_path / engine.RESULTS).read_text()


def test_connections_are_kept_and_new_as_told(server: fake.Server, measure: Any) -> None:
    report = measure(server.url, {**GET, "keep_alive": 0.5, "timeout": 5}, max_requests=20)
    assert server.connections == 11  # ten new ones, and one that ten requests share
    assert report["loads"]["get"]["connections"] == {"new": 11, "reused": 9}


def test_a_connection_closed_while_idle_is_no_failure(server: fake.Server, measure: Any) -> None:
    server.idle = 0.05
    load = {**RUN, "rate": 5, "keep_alive": 1.0, "timeout": 5}
    report = measure(server.url, load, max_requests=5)
    assert report["classes"] == {"ok": 5}
    assert report["reconnected"] == 0
    assert server.connections == 5


@pytest.mark.parametrize("cut", [fake.reset, fake.half_close])
def test_a_stale_connection_costs_a_get_nothing_and_a_run_one_failure(
    server: fake.Server, measure: Any, cut: fake.Reply
) -> None:
    """The server takes the second request of each connection and closes, as if both had happened at once."""

    async def reply(request: fake.Request, writer: asyncio.StreamWriter) -> None:
        await (cut if request.turn == 2 else fake.usual)(request, writer)

    server.reply = reply
    kept = {"keep_alive": 1.0, "rate": 20, "timeout": 5}
    gets = measure(server.url, {**GET, **kept}, max_requests=8)
    assert (gets["classes"], gets["reconnected"]) == ({"ok": 8}, 7)
    runs = measure(server.url, {**RUN, **kept}, max_requests=8)
    assert (runs["classes"], runs["reconnected"]) == ({"ok": 4, "reset": 4}, 0)


# --- executions -------------------------------------------------------------------------------------------------------


def test_double_executions_are_found_by_the_ground_truth(server: fake.Server, measure: Any) -> None:
    def truth() -> list[str]:
        done = server.executed
        return [f"model called with {text}" for text in [*done[1:], done[3], done[3], "ffp-000000000000-0000001"]]

    report = measure(server.url, RUN, max_requests=10, truth=truth)
    rows = report["executions"]
    assert (rows["executed"], rows["double"], rows["lost"], rows["failed_but_executed"]) == (9, 1, 1, 0)
    assert rows["double_ids"] == [server.executed[3]]
    assert rows["lost_ids"] == [server.executed[0]]


def test_a_failed_run_may_have_been_executed(server: fake.Server, measure: Any) -> None:
    server.reply = fake.reset
    report = measure(server.url, RUN, max_requests=3, truth=lambda: server.executed)
    assert report["executions"]["failed_but_executed"] == 3


def test_a_flow_that_counts_tells_of_its_second_execution(server: fake.Server, measure: Any) -> None:
    async def reply(request: fake.Request, writer: asyncio.StreamWriter) -> None:
        count = 2 if request.text.endswith("4") else 1
        writer.write(fake.answer(json.dumps(fake.result(f"{request.text} executions={count}")).encode()))

    server.reply = reply
    report = measure(server.url, RUN, max_requests=8)
    assert report["classes"] == {"ok": 7, "duplicate": 1}
    assert (report["executions"]["double"], report["executions"]["executed"]) == (1, 8)


@pytest.mark.parametrize(
    "text",
    [
        "ffp-0123456789ab-0000001 ffp-0123456789ab-0000001\nffp-0123456789ab-0000002\nffp-0123456789ab-0000001\n",
        '["ffp-0123456789ab-0000001", {"in": "ffp-0123456789ab-0000001"}, "ffp-0123456789ab-0000002"]',
        '{"ffp-0123456789ab-0000001": 2, "ffp-0123456789ab-0000002": 1}',
    ],
)
def test_ground_truth_comes_in_three_forms(tmp_path: Path, text: str) -> None:
    (tmp_path / "truth").write_text(text)
    counts = reports.read_executions(str(tmp_path / "truth"))
    assert counts == {"ffp-0123456789ab-0000001": 2, "ffp-0123456789ab-0000002": 1}


# --- pace -------------------------------------------------------------------------------------------------------------


def test_a_stalled_server_does_not_slow_the_load_down(server: fake.Server, measure: Any) -> None:
    begin = time.monotonic()
    server.stall(2.0)
    report = measure(server.url, {**GET, "timeout": 10}, max_duration=3.0, max_lag=0.5)
    arrivals = server.arrivals(begin)
    assert report["n"] == report["generator"]["wanted"] == 120
    assert report["failed"] == 0
    assert all(25 <= arrivals[second] <= 55 for second in (0, 1, 2)), arrivals
    # Two thirds of all requests waited, on average for a second; both kinds of time say so.
    assert report["latency_ms"]["p50"] > 300
    assert report["latency_ms"]["max"] > 1500


def test_control_a_closed_loop_would_have_hidden_the_stall(server: fake.Server) -> None:
    """The same stall seen by a client that waits for each answer: one slow request, and no load."""
    begin = time.monotonic()
    server.stall(2.0)
    times = []
    while time.monotonic() < begin + 3.0:
        asked = time.monotonic()
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        client.request("GET", "/health_check", headers={"Connection": "close"})
        client.getresponse().read()
        times.append(time.monotonic() - asked)
        time.sleep(max(0.0, 1 / 40 - times[-1]))
    assert server.arrivals(begin)[0] + server.arrivals(begin)[1] <= 2
    assert sorted(times)[len(times) // 2] < 0.3
    assert sum(duration > 1 for duration in times) == 1


def test_a_generator_that_falls_behind_says_so(server: fake.Server, measure: Any) -> None:
    plan: dict[str, Any] = {**GET, "rate": 100, "timeout": 5}
    blocked = iter([0.8])

    class Slow(engine.Judge):
        def end(self) -> None:
            time.sleep(next(blocked, 0.0))  # the whole generator stands still, as it does without a processor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Judge", Slow)
        report = measure(server.url, plan, max_duration=1.5)
    assert report["failed"] == 0
    assert not report["trusted"]
    assert "fell behind" in report["doubts"][0]
    # What was due meanwhile was sent late, and its latency counts from when it was due.
    assert report["n"] == 150
    assert report["latency_ms"]["p95"] > 500 > report["service_ms"]["p95"]


def test_too_many_requests_under_way_are_not_sent_and_not_hidden(server: fake.Server, measure: Any) -> None:
    server.reply = fake.silence
    report = measure(server.url, {**GET, "timeout": 1.0}, max_requests=20, max_in_flight=5)
    assert report["classes"] == {"timeout": 5, "unsent": 15}
    assert (report["n"], report["generator"]["unsent"], report["trusted"]) == (5, 15, False)


def test_loads_share_the_time(server: fake.Server, measure: Any) -> None:
    report = measure(
        server.url,
        {**GET, "rate": 30, "timeout": 5},
        {**RUN, "rate": 10, "timeout": 5},
        {**STREAM, "rate": 5, "timeout": 5},
        {"kind": "long_run", "rate": 2, "flow": "f", "seconds": [0.2], "timeout": 5},
        max_duration=2.0,
        node_header="X-Node",
    )
    assert {name: row["n"] for name, row in report["loads"].items()} == {
        "get": 60,
        "run": 20,
        "stream": 10,
        "long_run": 4,
    }
    assert all(row["n"] == row["wanted"] for row in report["loads"].values())
    assert report["loads"]["stream"]["events"] == 10 * 14
    assert report["windows"]["before"]["nodes"] == {"fake": 60}
    assert report["loads"]["long_run"]["latency_ms"]["p50"] > 200


# --- reports ----------------------------------------------------------------------------------------------------------


def made_results(directory: Path, requests: list[dict[str, Any]], marks: list[tuple[str, float]]) -> None:
    plan = engine.Plan(url="http://127.0.0.1:1", loads=(engine.Load(kind="get", rate=1.0),))
    (directory / engine.PLAN).write_text(plan.as_json())
    lines: list[Any] = [{"begin": {"run": plan.run, "monotonic": 1000.0, "time": 0.0}}]
    for number, request in enumerate(requests, 1):
        lines.append({"n": number, "load": "get", "id": f"ffp-{plan.run}-{number:07d}", "lag": 0.0, **request})
    lines.append({"end": {"reason": "stopped", "until": len(requests) - 1, "started": len(requests)}})
    (directory / engine.RESULTS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (directory / engine.MARKS).write_text(
        "".join(json.dumps({"mark": name, "monotonic": 1000.0 + at, "time": 0.0}) + "\n" for name, at in marks)
    )


def test_windows_divide_requests_by_when_they_were_due(tmp_path: Path) -> None:
    requests = [
        {
            "due": float(due),
            "latency": 2.5 if due == 9 else 0.03 if 10 <= due < 20 else 0.01,
            "service": 0.01,
            "class": "reset" if due in (9, 15) else "ok",
        }
        for due in range(30)
    ]
    made_results(tmp_path, requests, [("during", 10.0), ("after", 20.0)])
    windows = reports.make_report(str(tmp_path))["windows"]
    assert {name: (row["n"], row["failed"]) for name, row in windows.items()} == {
        "before": (10, 1),
        "during": (10, 1),
        "after": (10, 0),
    }
    assert windows["during"]["in_flight"] == {"n": 1, "failed": 1}
    assert windows["after"]["in_flight"] == {"n": 0, "failed": 0}
    assert windows["during"]["loads"]["get"]["p99_ratio"] == 3.0
    assert windows["after"]["bound"] == pytest.approx(0.3)
    assert (windows["during"]["from"], windows["during"]["to"]) == (10.0, 20.0)


def test_quantiles_are_measured_values() -> None:
    values = [number / 1000 for number in range(1, 101)]
    assert reports.quantiles(values) == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
    assert reports.quantiles([0.007]) == {"p50": 7.0, "p95": 7.0, "p99": 7.0, "max": 7.0}
    assert reports.quantiles([]) is None


def test_a_torn_line_is_passed_over_and_told(tmp_path: Path) -> None:
    made_results(tmp_path, [{"due": 0.0, "latency": 0.1, "service": 0.1, "class": "ok"}], [])
    with (tmp_path / engine.RESULTS).open("a") as handle:
        handle.write('{"n":2,"load":"ge')
    report = reports.make_report(str(tmp_path))
    assert (report["n"], report["trusted"]) == (1, False)
    assert "1 lines" in " ".join(report["doubts"])


# --- the module -------------------------------------------------------------------------------------------------------


def wait_for(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_start_mark_stop_report(
    probe: Any, server: fake.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_text(KEY + "\n")
    key.chmod(0o600)
    loads = [
        {"kind": "get", "rate": 40},
        {"kind": "run", "rate": 10, "flow": "echo"},
        {"kind": "long_run", "rate": 5, "flow": "f", "seconds": [1], "timeout": 20},
    ]
    options = {"url": server.url, "loads": loads, "api_key_path": str(key), "max_duration": 60}
    started = probe("started", **options)
    assert started["changed"], started
    directory = tmp_path / "probe"
    process = Path(f"/proc/{started['pid']}")
    for name in ("cmdline", "environ"):
        assert KEY.encode() not in (process / name).read_bytes()
    assert b"generator.pyz" in (process / "cmdline").read_bytes()
    assert os.getsid(started["pid"]) == started["pid"]
    again = probe("started", **options)
    assert again["failed"]
    assert "runs" in again["msg"]
    wait_for(lambda: len(server.requests) > 20)
    assert probe("marked", mark="during")["changed"]
    assert "set already" in probe("marked", mark="during")["msg"]
    seen = len(server.requests)
    wait_for(lambda: len(server.requests) > seen + 20)
    live = probe("reported")["report"]
    assert (live["state"], live["failed"]) == ("running", 0)
    assert probe("stopped", check=True)["changed"]
    assert probe("stopped")["changed"]
    os.waitpid(started["pid"], 0)
    assert not probe("stopped")["changed"]
    assert "nothing to mark" in probe("marked", mark="after")["msg"]
    (directory / "truth").write_text("\n".join(server.executed))
    report = probe("reported", executed_path=str(directory / "truth"))["report"]
    assert (report["state"], report["reason"], report["failed"]) == ("ended", "stopped", 0)
    # What was under way when it was told to stop has been waited for.
    assert report["n"] == len(server.requests) == report["generator"]["started"]
    assert report["generator"]["unfinished"] == 0
    assert report["executions"]["double"] == report["executions"]["lost"] == 0
    assert {request.headers.get("x-api-key") for request in server.requests if request.method == "POST"} == {KEY}
    assert set(report["windows"]) == {"before", "during"}
    assert not [path for path in directory.iterdir() if path.is_file() and KEY.encode() in path.read_bytes()]
    assert {oct(path.stat().st_mode & 0o077) for path in directory.iterdir() if path.suffix != ".pyz"} <= {
        "0o0",
        "0o44",
    }
    # A second probe keeps the results of the first.
    monkeypatch.setenv("FLOWFLEET_PROBE_API_KEY", "sk-other")
    second = probe("started", url=server.url, loads=loads[1:2], max_requests=3)
    wait_for(lambda: control.running(str(directory)) is None)
    os.waitpid(second["pid"], 0)
    assert probe("reported")["report"]["classes"] == {"ok": 3}
    assert server.requests[-1].headers["x-api-key"] == "sk-other"
    assert len((directory / "previous" / "results.jsonl").read_text().splitlines()) > 40


def test_a_killed_generator_leaves_all_it_knew(probe: Any, server: fake.Server) -> None:
    loads = [{"kind": "get", "rate": 100}, {"kind": "long_run", "name": "slow", "rate": 2, "flow": "f"}]
    started = probe("started", url=server.url, loads=loads)
    wait_for(lambda: len(server.requests) > 150)
    os.kill(started["pid"], signal.SIGKILL)
    os.waitpid(started["pid"], 0)
    report = probe("reported")["report"]
    assert report["state"] == "killed"
    assert not report["trusted"]
    assert report["loads"]["get"]["n"] >= 140
    assert report["generator"]["unfinished"] >= report["generator"]["started"] - report["n"] > 0
    assert not probe("stopped")["changed"]


def test_it_ends_by_itself(probe: Any, server: fake.Server, tmp_path: Path) -> None:
    started = probe("started", url=server.url, loads=[{"kind": "get", "rate": 20}], max_duration=1, max_lag=3)
    os.waitpid(started["pid"], 0)
    report = probe("reported")["report"]
    assert (report["n"], report["reason"], report["trusted"]) == (20, "max_duration reached", True)
    assert control.running(str(tmp_path / "probe")) is None


def test_stop_gives_up_what_does_not_end(probe: Any, server: fake.Server) -> None:
    server.reply = fake.silence
    started = probe("started", url=server.url, loads=[{"kind": "get", "rate": 20}], grace=0.3)
    wait_for(lambda: len(server.requests) > 5)
    assert probe("stopped")["changed"]
    os.waitpid(started["pid"], 0)
    report = probe("reported")["report"]
    assert set(report["classes"]) == {"unfinished"}
    assert (report["n"], report["failed"], report["bound"]) == (0, 0, None)
    assert not report["trusted"]


def test_check_mode_sends_nothing(probe: Any, server: fake.Server, tmp_path: Path) -> None:
    options = {"url": server.url, "loads": [{"kind": "get", "rate": 20}], "api_key_path": str(tmp_path / "none")}
    assert probe("started", check=True, **options)["changed"]
    assert not (tmp_path / "probe").exists()
    assert probe("marked", check=True, mark="during")["changed"]
    assert not probe("stopped", check=True)["changed"]
    assert probe("reported", check=True)["report"]["n"] == 0
    assert server.requests == []
    assert not probe("stopped")["changed"]
    assert "no results" in probe("reported")["msg"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": None}, "url"),
        ({"url": "langflow.example.com"}, "not a URL"),
        ({"url": "http://u:p@127.0.0.1"}, "no credentials"),
        ({"server_name": "a\r\nX-Other: b"}, "no header"),
        ({"loads": []}, "no load"),
        ({"loads": [{"kind": "get", "rate": 0}]}, "rate"),
        ({"loads": [{"kind": "get", "rate": 1500}, {"kind": "get", "name": "b", "rate": 1500}]}, "all loads together"),
        ({"loads": [{"kind": "get", "rate": 1}, {"kind": "get", "rate": 1}]}, "different names"),
        ({"loads": [{"kind": "get", "rate": 1, "path": "/a\r\nX: y"}]}, "path"),
        ({"loads": [{"kind": "run", "rate": 1}]}, "needs a flow"),
        ({"loads": [{"kind": "run", "rate": 1, "flow": "f", "input": "the same"}]}, "{token}"),
        ({"loads": [{"kind": "stream", "rate": 1, "flow": "f", "sequence": "seq"}]}, "one group"),
        ({"max_duration": 100000}, "max_duration"),
        ({"max_requests": 0}, "max_requests"),
        ({"api_key_path": "/nonexistent/key"}, "/nonexistent/key"),
        ({"ca_path": "/nonexistent/ca", "url": "https://127.0.0.1:1"}, "/nonexistent/ca"),
        ({"url": "http://nowhere.invalid"}, "resolved"),
    ],
)
def test_what_cannot_work_is_refused(probe: Any, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    arguments = {"url": "http://127.0.0.1:1", "loads": [{"kind": "get", "rate": 1}], **options}
    arguments = {name: value for name, value in arguments.items() if value is not None}
    result = probe("started", **arguments)
    assert result["failed"]
    assert words in result["msg"]
    assert not (tmp_path / "probe").exists() or control.running(str(tmp_path / "probe")) is None


def test_a_directory_of_others_is_refused(probe: Any, tmp_path: Path) -> None:
    (tmp_path / "probe").mkdir(mode=0o777)
    (tmp_path / "probe").chmod(0o777)
    result = probe("started", url="http://127.0.0.1:1", loads=[{"kind": "get", "rate": 1}])
    assert "no other can write" in result["msg"]


def test_it_works_as_a_play_does_it(play: Any, server: fake.Server, tmp_path: Path) -> None:
    """From a packed module whose files are gone when the generator sends."""
    name, directory = "flowfleet.langflow.request_probe", str(tmp_path / "probe")
    loads = [{"kind": "get", "rate": 30}, {"kind": "stream", "rate": 5, "flow": "f", "events": 5}]
    tasks: list[dict[str, Any]] = [
        {name: {"state": "started", "directory": directory, "url": server.url, "loads": loads, "max_duration": 60}},
        {name: {"state": "marked", "directory": directory, "mark": "during"}},
        {"ansible.builtin.wait_for": {"timeout": 1}},
        {name: {"state": "stopped", "directory": directory}},
        {name: {"state": "reported", "directory": directory}, "register": "probe"},
        {"ansible.builtin.copy": {"content": "{{ probe.report | to_json }}", "dest": str(tmp_path / "report.json")}},
    ]
    done = play(tasks)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["failed"] == 0
    assert report["n"] == len(server.requests) > 30
    assert report["loads"]["stream"]["classes"] == {"ok": report["loads"]["stream"]["n"]}


def test_documentation_and_options_agree() -> None:
    shared = yaml.safe_load(langflow_server.ModuleDocFragment.DOCUMENTATION)["options"]
    documented = {**shared, **yaml.safe_load(request_probe.DOCUMENTATION)["options"]}

    def shape(options: dict[str, Any]) -> dict[str, Any]:
        keys = ("type", "elements", "choices", "default", "required", "aliases")
        return {name: {key: option[key] for key in keys if key in option} for name, option in options.items()}

    assert shape(documented) == shape(request_probe.OPTIONS)
    assert shape(documented["loads"]["suboptions"]) == shape(request_probe.LOAD_OPTIONS)
    fields = {field.name: field.default for field in engine.dataclasses.fields(engine.Load)}
    for name, option in request_probe.LOAD_OPTIONS.items():
        if "default" in option:
            wanted = fields[name]
            assert option["default"] == (list(wanted) if isinstance(wanted, tuple) else wanted), name
