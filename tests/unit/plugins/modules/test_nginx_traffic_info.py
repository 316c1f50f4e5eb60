# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What clients got, counted from log files as they lie on a load balancer."""

from __future__ import annotations

import datetime
import gzip
import json
import math
import os
import pathlib
import random
import re
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _nginx_log, _nginx_traffic, _statistics
from ansible_collections.flowfleet.langflow.plugins.modules import nginx_traffic_info

ROOT = pathlib.Path(__file__).resolve().parents[4]
NOW = 1_700_000_000.0
A, B = "192.0.2.1:7860", "192.0.2.2:7860"
Run = Callable[..., dict[str, Any]]


class Dice(random.Random):
    """Falls the same way in each run."""


def line(moment: float, addresses: str = A, statuses: str = "200", seconds: float = 0.1, **change: Any) -> str:
    """One line as the role's format writes it."""
    fields = {
        "msec": moment,
        "path": "/api/v1/run/x",
        "status": int(re.split(r"[ ,:]+", statuses)[-1]) if statuses[-1:].isdigit() else 499,
        "request_time": seconds,
        "upstream_addr": addresses,
        "upstream_status": statuses,
        "upstream_response_time": "0.1",
        **change,
    }
    return json.dumps(fields) + "\n"


@pytest.fixture
def log(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "access.json"


@pytest.fixture
def run(run_module: Any, log: pathlib.Path) -> Run:
    """Call the module; one span over everything unless others are given."""

    def call(text: str | None = None, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        if text is not None:
            log.write_text(text, encoding="utf-8")
        options = {"path": str(log), "spans": [{"name": "all", "since": NOW, "until": NOW + 1000}]}
        result: dict[str, Any] = run_module(nginx_traffic_info, {**options, **arguments}, check=check)
        return result

    return call


def test_the_role_writes_the_fields_that_are_read() -> None:
    template = (ROOT / "roles/nginx/templates/maps.conf.j2").read_text(encoding="utf-8")
    for field in ("msec", "status", "request_time", "upstream_addr", "upstream_status"):
        assert re.search(rf'"{field}":"?\${field}\b', template), field


@pytest.mark.parametrize(
    ("text", "counts", "backends"),
    [
        (line(NOW), {"requests": 1}, {A: (1, 0)}),
        (line(NOW, A, "503"), {"requests": 1, "failed": 1}, {A: (1, 1)}),
        # tried on both, and the client never knew
        (line(NOW, f"{A}, {B}", "502, 200"), {"requests": 1, "retried": 1, "recovered": 1}, {A: (1, 1), B: (1, 0)}),
        (line(NOW, f"{A}, {B}", "502, 504"), {"requests": 1, "retried": 1, "failed": 1}, {A: (1, 1), B: (1, 1)}),
        # an internal redirect is no retry
        (line(NOW, f"{A} : {B}", "404 : 200"), {"requests": 1}, {A: (1, 0), B: (1, 0)}),
        # the client went away
        (line(NOW, A, "-", status=499), {"requests": 1, "failed": 1}, {A: (1, 1)}),
        # refused by the load balancer itself: a limit, a maintenance page, no server left
        (line(NOW, "", "", status=429), {"requests": 1}, {}),
        (line(NOW, "-", "-", status=503), {"requests": 1, "failed": 1, "unserved": 1}, {}),
        (line(NOW, "langflow", "502"), {"requests": 1, "failed": 1, "unserved": 1}, {}),
        (line(NOW, f"{A}, langflow", "502, 502"), {"requests": 1, "failed": 1}, {A: (1, 1)}),
        (line(NOW, path="/health_check"), {"excluded": 1}, {}),
    ],
)
def test_one_request(run: Run, text: str, counts: dict[str, int], backends: dict[str, tuple[int, int]]) -> None:
    row = run(text)["spans"][0]
    assert {name: row[name] for name in _nginx_traffic.COUNTS if row[name]} == counts
    assert {name: (one["attempts"], one["errors"]) for name, one in row["backends"].items()} == backends


def test_backends_by_name_and_own_rules(run: Run) -> None:
    text = line(NOW, A, "404") + line(NOW, B) + line(NOW, path="/static/x.js")
    row = run(
        text, backends={"app1": "192.0.2.1", "app2": B}, error_statuses=["404"], exclude_paths=[r"\.js$", "^/health"]
    )["spans"][0]
    assert (row["failed"], row["excluded"], row["statuses"]) == (1, 1, {"200": 1, "404": 1})
    assert row["backends"] == {"app1": {"attempts": 1, "errors": 1}, "app2": {"attempts": 1, "errors": 0}}


def test_edges_of_spans(run: Run) -> None:
    text = "".join(line(NOW + at) for at in (-0.001, 0, 9.999, 10, 19.999, 20))
    spans = [
        {"name": "before", "since": NOW - 10, "until": NOW},
        {"name": "during", "since": NOW, "until": datetime.datetime.fromtimestamp(NOW + 10, datetime.UTC).isoformat()},
        {"name": "after", "since": f"{NOW + 10}", "until": NOW + 20},
        {"name": "nothing", "since": NOW + 5, "until": NOW + 5},
    ]
    result = run(text, spans=spans)
    assert [row["requests"] for row in result["spans"]] == [1, 2, 2, 0]
    assert result["spans"][1]["until"] == NOW + 10
    assert result["spans"][3]["latency_ms"] == {"p50": None, "p95": None, "p99": None, "max": None}


def test_open_end_is_now(run: Run) -> None:
    now = time.time()
    row = run(line(now - 60) + line(now - 5), spans=[{"name": "late", "since": now - 30, "until": None}])["spans"][0]
    assert row["requests"] == 1
    # Rounded to milliseconds.
    assert now - 0.001 <= row["until"] <= time.time() + 1


def test_torn_last_line_and_rubbish(run: Run) -> None:
    result = run("no json\n[]\n{}\n" + '{"msec": "soon"}\n' + line(NOW + 1) + line(NOW + 2)[:-20])
    assert (result["unreadable"], result["spans"][0]["requests"]) == (4, 1)


def test_overlong_line_is_not_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nginx_log, "LINE_LIMIT", 1000)
    result = run(line(NOW + 1) + "x" * 2500 + "\n" + line(NOW + 2))
    assert (result["unreadable"], result["spans"][0]["requests"]) == (3, 2)


def test_rotated_logs(run: Run, log: pathlib.Path) -> None:
    """Plain, compressed, in the middle of being compressed, and one that is too old to be opened."""
    log.write_text(line(NOW + 300), encoding="utf-8")
    one = pathlib.Path(f"{log}.1")
    one.write_text(line(NOW + 200) + line(NOW + 250), encoding="utf-8")
    packed = gzip.compress((line(NOW + 99.9) + line(NOW + 100) + line(NOW + 150)).encode())
    pathlib.Path(f"{log}.2.gz").write_bytes(packed)
    # The tool that compresses has only begun, and the plain file is still there.
    pathlib.Path(f"{log}.1.gz").write_bytes(gzip.compress(one.read_bytes())[:30])
    old = pathlib.Path(f"{log}.3.gz")
    old.write_bytes(b"not to be opened")
    os.utime(old, (NOW - 50, NOW - 50))
    spans = [
        {"name": "early", "since": NOW + 100, "until": NOW + 200},
        {"name": "late", "since": NOW + 200, "until": NOW + 400},
    ]
    result = run(spans=spans)
    assert ([row["requests"] for row in result["spans"]], result["unreadable"]) == ([2, 3], 0)
    one.unlink()
    assert "ended before" in run(spans=spans)["msg"]


def test_a_span_far_back_does_not_read_the_rest(run: Run, log: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nginx_log, "SEARCH_FROM", 4096)
    log.write_text("".join(line(NOW + number) for number in range(5000)), encoding="utf-8")
    seen: list[bytes] = []
    parse = _nginx_log.parse
    monkeypatch.setattr(_nginx_log, "parse", lambda raw: seen.append(raw) or parse(raw))
    row = run(spans=[{"name": "x", "since": NOW + 2500, "until": NOW + 2600}])["spans"][0]
    assert row["requests"] == 100
    assert len(seen) < 200


def test_memory_does_not_grow_with_the_log(log: pathlib.Path) -> None:
    dice = Dice(7)
    spans = [_nginx_traffic.Span("all", NOW, NOW + 10**9)]
    counting = _nginx_traffic.Counting(_nginx_log.status_pattern(["5xx"]))
    peaks = []
    for count in (2000, 20000):
        log.write_text("".join(line(NOW + n, seconds=dice.uniform(0, 900)) for n in range(count)), encoding="utf-8")
        tracemalloc.start()
        found, _unreadable = _nginx_traffic.read(str(log), spans, counting)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found["all"].requests == count
        assert len(found["all"].times) < 3700
    # Ten times the log: the histogram fills up, nothing else grows.
    assert peaks[1] < peaks[0] + 600_000


def test_buckets_are_fine_and_few() -> None:
    assert [_nginx_traffic.bucket(value) for value in (0, 0.0004, 0.0416, 0.999, 1.2344, 12.345, 123.45, -1)] == [
        0, 0, 42, 999, 1230, 12300, 123000, 0,
    ]  # fmt: skip
    values = [10 ** (exponent / 997) for exponent in range(-3000, 4000)]
    assert all(abs(_nginx_traffic.bucket(value) / 1000 - value) <= max(0.00051, 0.0056 * value) for value in values)
    assert len({_nginx_traffic.bucket(value) for value in values}) < 6400


def test_merged_percentiles_are_those_of_all_requests(run: Run) -> None:
    """Not the mean of percentiles: one busy and fast load balancer, one idle and slow."""
    dice = Dice(3)
    fast = [dice.expovariate(20) for _number in range(3000)]
    slow = [1 + dice.expovariate(1) for _number in range(100)]
    texts = ["".join(line(NOW + n / 10, seconds=value) for n, value in enumerate(part)) for part in (fast, slow)]
    results = [json.loads(json.dumps(run(text)["spans"])) for text in texts]
    merged = _nginx_traffic.merge(results)
    together = sorted(1000 * value for value in [*fast, *slow])
    assert [(row["name"], row["requests"]) for row in merged] == [("all", 3100)]
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        exact = together[math.ceil(share * len(together)) - 1]
        assert merged[0]["latency_ms"][name] == pytest.approx(exact, rel=0.006, abs=0.51)
    assert merged[0]["backends"][A]["attempts"] == 3100
    assert _statistics.total(_nginx_traffic.Traffic.of(merged[0]).times) == 3100
    with pytest.raises(ValueError, match="no figures"):
        _nginx_traffic.merge([[{"name": "x", "since": 0, "until": 1}]])


def test_websocket_has_no_time(run: Run) -> None:
    row = run(line(NOW, A, "101", 3600))["spans"][0]
    assert (row["requests"], row["failed"], row["times_ms"]) == (1, 0, {})


def test_check_mode_reads_too(run: Run) -> None:
    result = run(line(NOW), check=True)
    assert (result["changed"], result["spans"][0]["requests"]) == (False, 1)


def test_missing_log(run: Run) -> None:
    assert "does not exist" in run()["msg"]
    result = run(required=False)
    assert (result["spans"], result.get("failed", False)) == ([], False)
    assert "does not exist" in result["reason"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spans": []}, "give 1 to"),
        ({"spans": [{"name": "x", "since": 5, "until": 4}]}, "ends before it begins"),
        ({"spans": [{"name": "x", "since": "yesterday"}]}, "neither seconds"),
        ({"spans": [{"name": "x", "since": "2026-01-01T00:00:00"}]}, "no time zone"),
        ({"spans": [{"name": "x", "since": "nan"}]}, "no moment"),
        ({"spans": [{"name": "x", "since": 1}, {"name": "x", "since": 2}]}, "two spans x"),
        ({"exclude_paths": ["("]}, "missing \\)|unterminated"),
        ({"error_statuses": ["five"]}, "'five' is no status"),
        ({"backends": {"a": A, "b": A}}, "both a and b"),
    ],
)
def test_messages(run: Run, arguments: dict[str, Any], message: str) -> None:
    result = run(line(NOW), **arguments)
    assert result["failed"]
    assert re.search(message, result["msg"]), result["msg"]


def test_many_backends_stay_few(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nginx_traffic, "BACKENDS_LIMIT", 2)
    row = run("".join(line(NOW + n, f"192.0.2.{n}:1") for n in range(1, 6)))["spans"][0]
    assert {name: one["attempts"] for name, one in row["backends"].items()} == {
        "192.0.2.1:1": 1,
        "192.0.2.2:1": 1,
        "others": 3,
    }
