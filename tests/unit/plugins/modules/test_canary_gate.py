# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module C(canary_gate) as a play sees it."""

from __future__ import annotations

import json
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.modules import canary_gate

Run = Callable[..., dict[str, Any]]
NEW, OLD = "192.0.2.1:7860", "192.0.2.2:7860"
NOW = 1_700_000_000.0


def entries(address: str, count: int, errors: int = 0, seconds: float = 0.1) -> str:
    """Lines of one instance within ten seconds."""
    text = ""
    for number in range(count):
        fields = {
            "msec": NOW + 10 * number / count,
            "path": "/api/v1/run/x",
            "request_id": f"{address}-{number}",
            "status": 500 if number < errors else 200,
            "upstream_addr": address,
            "upstream_status": "500" if number < errors else "200",
            "upstream_header_time": f"{seconds + number / 10000:.3f}",
        }
        text += json.dumps(fields) + "\n"
    return text


@pytest.fixture
def run(run_module: Any, tmp_path: pathlib.Path) -> Run:
    """Call the module with a log whose window is long over."""

    def call(text: str | None = None, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        log = tmp_path / "access.json"
        if text is not None:
            log.write_text(text, encoding="utf-8")
        options = {"log_path": str(log), "new": [NEW], "old": [OLD], "since": NOW, "warmup": 0, "window": 10}
        result: dict[str, Any] = run_module(canary_gate, {**options, **arguments}, check=check)
        return result

    return call


def test_pass(run: Run) -> None:
    result = run(entries(NEW, 100, 1) + entries(OLD, 200, 2))
    assert (result["changed"], result["verdict"]) == (False, "pass")
    assert result["new"] == {
        "requests": 100,
        "errors": 1,
        "error_ratio": 0.01,
        "statuses": {"200": 99, "500": 1},
        "latency_ms": {"p50": 105, "p95": 110, "p99": 110},
    }
    assert (result["requests_seen"], result["requests_exposed"], result["looks"]) == (300, 100, 1)


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        (entries(NEW, 100, 20) + entries(OLD, 200, 1), "errors 20.00 % against 0.50 %"),
        (entries(NEW, 100, seconds=0.4) + entries(OLD, 200), "p50 405 ms against 110 ms"),
    ],
)
def test_fail(run: Run, text: str, metric: str) -> None:
    result = run(text)
    assert (result["failed"], result["verdict"]) == (True, "fail")
    assert metric in result["msg"]
    told = run(text, report_only=True)
    assert (told.get("failed"), told["verdict"]) == (None, "fail")


@pytest.mark.parametrize(("choice", "failed"), [("hold", True), ("fail", True), ("pass", False)])
def test_insufficient(run: Run, choice: str, failed: bool) -> None:
    result = run(entries(NEW, 10) + entries(OLD, 200), on_insufficient=choice, timeout=20)
    assert (bool(result.get("failed")), result["verdict"]) == (failed, "insufficient")
    assert result["reason"].startswith("10 of 50 requests of the new instances")


def test_hold_goes_on_until_there_is_enough(run: Run, tmp_path: pathlib.Path) -> None:
    now = time.time()

    def lines(count: int) -> str:
        moment = time.time()
        text = entries(NEW, count) + entries(OLD, count)
        return "".join(json.dumps({**json.loads(entry), "msec": moment}) + "\n" for entry in text.splitlines())

    def later() -> None:
        with open(tmp_path / "access.json", "a", encoding="utf-8") as stream:
            stream.write(lines(40))

    timer = threading.Timer(0.6, later)
    timer.start()
    result = run(lines(20), since=now - 0.1, window=0.3, interval=0.05, timeout=10, looks=2)
    timer.join()
    assert (result["verdict"], result["new"]["requests"]) == ("pass", 60)
    assert time.time() - now < 5


def test_two_load_balancers_are_judged_together(run: Run) -> None:
    half = run(entries(NEW, 30, 3) + entries(OLD, 100), collect_only=True)
    assert (half["verdict"], half["tests"]) == ("", [])
    text = json.loads(json.dumps(half["observation"]))
    whole = run(source="observations", observations=[text, text])
    assert (whole["verdict"], whole["new"]["requests"], whole["new"]["errors"]) == ("fail", 60, 6)
    assert run(source="observations", observations=[text], report_only=True)["verdict"] == "insufficient"


def test_without_old_instances_only_errors_are_judged(run: Run) -> None:
    assert run(entries(NEW, 100, 20), old=[])["verdict"] == "fail"
    passed = run(entries(NEW, 100, 0), old=[])
    assert (passed["verdict"], [test["method"] for test in passed["tests"]]) == ("pass", ["binomial"])


def test_prometheus(run: Run, serve: Any, behaviours: Any) -> None:
    def vector(value: int) -> Any:
        result = [{"metric": {}, "value": [1, str(value)]}]
        return behaviours.answer(body=json.dumps({"data": {"resultType": "vector", "result": result}}).encode())

    server = serve(*(vector(value) for value in (100, 20, 200, 1)))
    queries = {"requests": "a", "errors": "b"}
    options = {"url": server.url(""), "new": queries, "old": queries, "token": "very-secret"}
    result = run(source="prometheus", prometheus=options)
    assert (result["verdict"], [test["metric"] for test in result["tests"]]) == ("fail", ["errors"])
    assert "very-secret" not in json.dumps(result)


def test_check_mode_reads_nothing(run: Run) -> None:
    result = run(check=True, new=["name.invalid"], since=None, window=3600)
    assert (result["changed"], result["verdict"]) == (False, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "does not exist"),
        ({"new": []}, "at least one instance"),
        ({"old": [NEW]}, "both new and old"),
        ({"window": 0}, "window"),
        ({"alpha": 2}, "alpha"),
        ({"exclude_paths": ["("]}, "unterminated"),
        ({"error_statuses": ["bad"]}, "'bad'"),
        ({"source": "observations"}, "at least one"),
        ({"source": "observations", "observations": [{"new": 1}]}, "no observation"),
        ({"source": "prometheus"}, "prometheus"),
        ({"metrics": ["p95"], "old": []}, "only errors"),
    ],
)
def test_messages(run: Run, arguments: dict[str, Any], message: str) -> None:
    result = run(timeout=10, on_insufficient="pass", **arguments)
    assert result["failed"]
    assert message in result["msg"]
