# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module C(prometheus_baseline), against a server that speaks TLS and the HTTP interface of Prometheus."""

from __future__ import annotations

import base64
import http.server
import json
import pathlib
import re
import ssl
import threading
import urllib.parse
import xml.parsers.expat
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _baseline
from ansible_collections.flowfleet.langflow.plugins.modules import prometheus_baseline

Run = Callable[..., dict[str, Any]]
END = 1_800_000_000.0
LOGIN = "Basic " + base64.b64encode(b"reader:word").decode()


class FakePrometheus:
    """Answers every question of the module from one number for each figure and label."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.status = 200
        self.text: str | None = None
        self.flows = {"alpha": {"p99": 1.0, "p50": 0.2, "errors": 0.0, "throughput": 2.0, "count": 3600.0}}
        self.hosts = {"app1": {"cpu": 0.3, "memory": 0.5}}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, _mark, query = self.path.partition("?")
                asked = dict(urllib.parse.parse_qsl(query))
                outer.asked.append((path, asked))
                status = outer.status if self.headers.get("Authorization") == LOGIN else 401
                text = outer.text or json.dumps(outer.answer(path, asked))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def figure(self, query: str) -> tuple[str, str]:
        """Which figure a question is about, and the label it is for."""
        for word, name, by in (
            ("increase(", "count", "flow"),
            ("langflow_job", "background_p99", "flow"),
            ("quantile(0.99", "p99", "flow"),
            ("quantile(0.5", "p50", "flow"),
            ("code_class", "errors", "flow"),
            ("requests_total", "throughput", "flow"),
            ("node_cpu", "cpu", "instance"),
            ("node_memory", "memory", "instance"),
        ):
            if word in query:
                return name, by
        raise AssertionError(query)

    def answer(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        name, by = self.figure(asked["query"])
        values = {
            label: figures[name]
            for label, figures in (self.flows if by == "flow" else self.hosts).items()
            if name in figures
        }
        result: list[dict[str, Any]] = []
        for label, value in values.items():
            series: dict[str, Any] = {"metric": {by: label}}
            if path.endswith("query_range"):
                start, end, step = (float(asked[word]) for word in ("start", "end", "step"))
                moments = [start + number * step for number in range(int((end - start) / step) + 1)]
                # The first point of a rate is often none.
                series["values"] = [[moments[0], "NaN"], *([moment, str(value)] for moment in moments[1:])]
            else:
                series["value"] = [float(asked["time"]), str(value)]
            result.append(series)
        return {"status": "success", "data": {"resultType": "vector", "result": result}}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def prometheus(authority: Any) -> Iterator[FakePrometheus]:
    server = FakePrometheus(authority.server_context("127.0.0.1"))
    yield server
    server.close()


@pytest.fixture
def record(run_module: Run, prometheus: FakePrometheus, authority: Any, tmp_path: pathlib.Path) -> Callable[..., Any]:
    def recorded(file: str, check: bool = False, **changes: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "url": prometheus.url,
            "ca_path": str(authority.path),
            "username": "reader",
            "password": "word",
            "name": file,
            "flows": ["alpha"],
            "end": END,
            "dest": str(tmp_path / f"{file}.json"),
        }
        return run_module(prometheus_baseline, {**given, **changes}, check=check)

    return recorded


@pytest.fixture
def compared(run_module: Run, tmp_path: pathlib.Path) -> Callable[..., dict[str, Any]]:
    def answer(**changes: Any) -> dict[str, Any]:
        given = {
            "state": "compared",
            "before": str(tmp_path / "before.json"),
            "after": str(tmp_path / "after.json"),
            "dest": str(tmp_path / "picture.svg"),
        }
        return run_module(prometheus_baseline, {**given, **changes})

    return answer


def verdicts(result: dict[str, Any]) -> dict[str, str]:
    return {f"{row['curve']} {row['label']}": row["verdict"] for row in result["rows"]}


def test_a_span_is_kept(record: Callable[..., Any], prometheus: FakePrometheus, tmp_path: pathlib.Path) -> None:
    result = record("before", window=1800)
    assert result["changed"]
    assert result["requests"] == {"alpha": 3600.0}
    assert result["totals"]["p99"] == {"alpha": 1.0}
    kept = _baseline.Baseline.of((tmp_path / "before.json").read_text(encoding="utf-8"), "x")
    assert (kept.start, kept.end, kept.flows) == (END - 1800, END, ["alpha"])
    assert len(kept.points["p99"]["alpha"]) > 100
    assert kept.points["p99"]["alpha"][0][0] > kept.start + 60, "no point may look back before the span"
    assert all('flow=~"alpha"' in asked["query"] for _path, asked in prometheus.asked if "langflow_" in asked["query"])
    whole = [asked["query"] for path, asked in prometheus.asked if path.endswith("/query")]
    assert all("[1800s]" in query for query in whole), "the figure of the span looks at all of it"
    assert "word" not in (tmp_path / "before.json").read_text(encoding="utf-8")


def test_the_same_span_again_changes_nothing(record: Callable[..., Any]) -> None:
    assert record("before")["changed"]
    assert not record("before")["changed"]


def test_check_mode_writes_nothing(record: Callable[..., Any], tmp_path: pathlib.Path) -> None:
    assert record("before", check=True)["changed"]
    assert not (tmp_path / "before.json").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "wrong"}, "401"),
        ({"flows": ['x"} or vector(1) #']}, "not the id"),
        ({"window": 30}, "too short"),
        ({"url": "https://127.0.0.1:1"}, "127.0.0.1:1"),
        ({"ca_path": "/nowhere/ca.crt"}, "/nowhere/ca.crt"),
    ],
)
def test_what_cannot_be_asked_is_said(record: Callable[..., Any], changes: dict[str, Any], words: str) -> None:
    result = record("before", **changes)
    assert result["failed"]
    assert words in result["msg"]
    assert "wrong" not in result["msg"]


@pytest.mark.parametrize(("status", "text"), [(503, "starting"), (200, "<html>"), (200, '{"data": {}}')])
def test_an_answer_that_is_none(
    record: Callable[..., Any], prometheus: FakePrometheus, status: int, text: str, tmp_path: pathlib.Path
) -> None:
    prometheus.status, prometheus.text = status, text
    assert record("before")["failed"]
    assert not (tmp_path / "before.json").exists()


def test_a_span_without_requests_is_refused(record: Callable[..., Any], prometheus: FakePrometheus) -> None:
    prometheus.flows = {}
    assert "no request" in record("before")["msg"]


def test_nothing_is_worse_when_nothing_changed(record: Callable[..., Any], compared: Callable[..., Any]) -> None:
    record("before")
    record("after", end=END + 86400)
    result = compared()
    assert result["worse"] == [] == result["notes"]
    assert set(verdicts(result).values()) == {"same", "load"}


def test_what_became_worse_is_named(
    record: Callable[..., Any], compared: Callable[..., Any], prometheus: FakePrometheus
) -> None:
    record("before")
    prometheus.flows["alpha"].update(p99=1.3, errors=0.02, p50=0.1)
    prometheus.hosts["app1"]["cpu"] = 0.6
    record("after", end=END + 86400)
    result = compared()
    assert result["worse"] == ["p99 of alpha", "errors of alpha", "cpu of app1"]
    assert verdicts(result)["p50 alpha"] == "better"
    assert any("+30.0 %" in line and line.endswith("worse") for line in result["table"])


def test_noise_is_no_change(
    record: Callable[..., Any], compared: Callable[..., Any], prometheus: FakePrometheus
) -> None:
    prometheus.flows["alpha"].update(p99=0.010, p50=0.005)
    record("before")
    # Five times as much, and still 40 ms.
    prometheus.flows["alpha"].update(p99=0.050, p50=0.020)
    record("after")
    assert compared()["worse"] == []


def test_few_requests_are_not_judged(
    record: Callable[..., Any], compared: Callable[..., Any], prometheus: FakePrometheus
) -> None:
    record("before")
    prometheus.flows["alpha"].update(p99=9.0, count=12.0)
    record("after")
    assert verdicts(compared())["p99 alpha"] == "too few"
    assert verdicts(compared(minimum=10))["p99 alpha"] == "worse", "the limit is what kept it quiet"


def test_another_load_is_noted(
    record: Callable[..., Any], compared: Callable[..., Any], prometheus: FakePrometheus
) -> None:
    record("before")
    prometheus.flows["alpha"]["throughput"] = 4.0
    record("after", window=3600)
    assert [text.partition(" ")[0] for text in compared()["notes"]] == ["The", "One"]


def test_flows_that_came_and_went(
    record: Callable[..., Any], compared: Callable[..., Any], prometheus: FakePrometheus
) -> None:
    record("before", flows=[])
    prometheus.flows["beta"] = prometheus.flows.pop("alpha")
    record("after", flows=[])
    result = compared()
    assert (verdicts(result)["p99 alpha"], verdicts(result)["p99 beta"]) == ("gone", "new")
    assert result["worse"] == []


def test_the_picture_needs_nothing_else(
    record: Callable[..., Any], compared: Callable[..., Any], prometheus: FakePrometheus, tmp_path: pathlib.Path
) -> None:
    record("before", name="before <the> upgrade")
    prometheus.flows["alpha"]["p99"] = 5.0
    record("after")
    assert compared()["changed"]
    assert not compared()["changed"]
    text = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    xml.parsers.expat.ParserCreate().Parse(text, True)
    lines = re.findall(r'<polyline class="([a-z ]+)"', text)
    # Six figures of one flow or host, each with two curves; one of them in the colour of the worse.
    assert len(lines) == 12
    assert lines.count("a w") == 1
    assert not re.search(r"href|url\(|<script|@import", text)
    assert "before &lt;the&gt; upgrade" in text


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "name": "x"}', '{"format": 1, "more": 1}'])
def test_a_file_that_is_none_of_ours(compared: Callable[..., Any], tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "before.json").write_text(text, encoding="utf-8")
    result = compared()
    assert result["failed"]
    assert "before.json" in result["msg"]
