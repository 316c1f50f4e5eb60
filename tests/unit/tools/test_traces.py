# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ground truth of tracing: it must see a trace too few and a trace too many, and must not make one up."""

from __future__ import annotations

import gzip
import http.client
import importlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
traces: Any = importlib.import_module("tools.drills.traces")
trace_store: Any = importlib.import_module("tools.drills.trace_store")

COUNTS = {"hot": 2000, "critical": 40, "failing": 30, "slow": 10, "rest": 200, "health": 20}
TRUTH = traces.plan(COUNTS, 2)


def rows(which: list[Any]) -> list[dict[str, Any]]:
    """What a store holds of traces, masked as it should be."""
    found = []
    for number, trace in enumerate(which):
        for one in traces.spans_of(traces.Trace(trace.kind, trace.trace_id), number, 0):
            found.append({"trace_id": trace.trace_id, "span_id": one["spanId"], "name": one["name"]})
    return found


def well_chosen() -> list[Any]:
    shares = {"hot": 0.01, "rest": 0.1, "health": 0.0}
    return [trace for trace in TRUTH if traces.picked(trace.trace_id, shares.get(trace.kind, 1.0))]


def failed(verdicts: list[tuple[str, bool, str, str]]) -> list[str]:
    return [what for what, passed, _measured, _wanted in verdicts if not passed]


def test_what_was_well_chosen_passes() -> None:
    assert not failed(traces.judge_kept(TRUTH, rows(well_chosen())))


@pytest.mark.parametrize("kind", ["critical", "failing", "slow"])
def test_one_lost_trace_of_a_kind_that_is_kept_is_noticed(kind: str) -> None:
    chosen = well_chosen()
    chosen.remove(next(trace for trace in chosen if trace.kind == kind))
    assert f"{kind} traces are kept" in failed(traces.judge_kept(TRUTH, rows(chosen)))


def test_a_trace_with_a_span_too_few_is_noticed() -> None:
    found = rows(well_chosen())
    critical = next(trace.trace_id for trace in TRUTH if trace.kind == "critical")
    found.remove(next(row for row in found if row["trace_id"] == critical))
    assert failed(traces.judge_kept(TRUTH, found)) == ["critical traces are whole"]


def test_hot_flows_at_the_rate_of_the_rest_are_noticed() -> None:
    naive = [trace for trace in TRUTH if trace.kind == "hot" and traces.picked(trace.trace_id, 0.1)]
    chosen = [trace for trace in well_chosen() if trace.kind != "hot"]
    found = failed(traces.judge_kept(TRUTH, rows(chosen + naive)))
    assert found == ["hot traces have their share", "hot traces are those that were to be picked"]


def test_a_health_check_and_a_span_that_came_twice_are_noticed() -> None:
    chosen = [*well_chosen(), next(trace for trace in TRUTH if trace.kind == "health")]
    assert failed(traces.judge_kept(TRUTH, rows(chosen))) == ["health checks leave no trace"]
    found = rows(well_chosen())
    assert failed(traces.judge_kept(TRUTH, [*found, found[0]])) == ["no span came twice"]


@pytest.mark.parametrize("name", list(traces.CANARIES))
def test_each_canary_is_noticed(name: str) -> None:
    found = rows(well_chosen())
    found[0]["name"] = f"nested \\{traces.CANARIES[name]}\\ somewhere"
    assert failed(traces.judge_kept(TRUTH, found)) == ["no canary is in the backend"]


def test_every_canary_is_sent() -> None:
    sent = json.dumps(traces.hidden())
    assert not [name for name, value in traces.CANARIES.items() if value not in sent]
    assert sum(trace.canaries for trace in TRUTH) > 3


def test_the_same_seed_gives_the_same_traces() -> None:
    assert traces.plan(COUNTS, 2) == TRUTH != traces.plan(COUNTS, 3)


def test_intervals_are_those_of_the_tables() -> None:
    assert traces.binomial_interval(5000, 0.01) == (37, 64)
    assert traces.binomial_interval(20, 0.5) == (6, 14)


def test_the_hash_of_the_collector_picks_its_share() -> None:
    ids = [f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}" for number in range(1, 20001)]
    least, most = traces.binomial_interval(len(ids), 0.01, 0.999)
    assert least <= sum(traces.picked(name, 0.01) for name in ids) <= most


NAME = "traces_span_metrics_calls_total"
PAGE = f"""# TYPE {NAME} counter
{NAME}{{flow_id="hot-flow",span_name="flow.execute",status_code="STATUS_CODE_UNSET"}} %d
{NAME}{{flow_id="hot-flow",span_name="flow.execute",status_code="STATUS_CODE_ERROR"}} 30 # {{trace_id="a"}} 1
{NAME}{{span_name="POST /api/v1/run/{{flow_id_or_name}}",status_code="STATUS_CODE_UNSET"}} %d
{NAME}{{span_name="POST /api/v1/run/{{flow_id_or_name}}",status_code="STATUS_CODE_ERROR"}} 30
"""


def test_metrics_may_be_off_by_less_than_half_a_percent() -> None:
    truth = [trace for trace in TRUTH if trace.kind in ("hot", "failing")]
    assert not failed(traces.judge_metrics(truth, [PAGE % (2000, 2009)]))
    assert failed(traces.judge_metrics(truth, [PAGE % (1990, 2000)])) == [
        "metrics of flow.execute hot-flow STATUS_CODE_UNSET"
    ]
    health = NAME + '{span_name="GET /health_check"} 1\n'
    assert failed(traces.judge_metrics(truth, [PAGE % (2000, 2000), health])) == ["metrics leave health checks out"]


# --- the store -------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    server = trace_store.Store(("127.0.0.1", 0), tmp_path / "spans.jsonl")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], tmp_path / "spans.jsonl"
    server.shutdown()
    server.server_close()


def post(port: int, path: str, body: bytes, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", path, body, {"Content-Type": "application/json", **named})
    status = connection.getresponse().status
    connection.close()
    return status


def test_the_store_writes_one_line_for_each_span(store: tuple[int, Path]) -> None:
    port, file = store
    trace = traces.Trace("failing", "ab" * 16, canaries=True)
    body = json.dumps(traces.payload(list(traces.spans_of(trace, 1, 2_000_000_000)), "app1")).encode()
    assert post(port, "/v1/traces", gzip.compress(body), Content_Encoding="gzip") == 200
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    request = lines[0]
    assert (request["kind"], request["status"], request["service"]) == ("server", "error", "langflow")
    assert (request["start"], request["end"]) == (1.98, 2.0)
    assert request["attributes"]["url.path"] == "/api/v1/run/hot-flow"
    hidden = next(line for line in lines if line["events"])
    assert hidden["attributes"]["nested"]["password"] == traces.CANARIES["password"]
    assert hidden["attributes"]["number"] == int(traces.CANARIES["card"])
    assert len(lines) == 4


def test_the_store_takes_nothing_else(store: tuple[int, Path]) -> None:
    port, file = store
    assert post(port, "/v1/logs", b"{}") == 415
    assert post(port, "/v1/traces", b"{}", Content_Type="application/x-protobuf") == 415
    assert not file.read_text(encoding="utf-8")
