# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the drills of logs and traces make of what they have seen, without any lab."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT))
core, ledger, tier, logs = (
    importlib.import_module(f"tools.drills.{name}") for name in ("core", "logs_ledger", "logs_tier", "logs")
)


# --- runs and traces -------------------------------------------------------------------------------------------------


def test_runs_have_traces_of_their_own_and_are_mixed() -> None:
    runs = ledger.mixed({"hot": 500, "critical": 20, "failing": 10})
    assert len({run.trace for run in runs}) == len(runs) == 530
    assert all(len(run.traceparent) == 55 for run in runs)
    places = [place for place, run in enumerate(runs) if run.kind == "critical"]
    # Spread over the whole time, so that what happens in between meets all kinds.
    assert places[0] < 30
    assert places[-1] > 500


def test_spans_of_a_task_hang_together_or_not() -> None:
    def span(name: str, own: str, parent: str, service: str = "celery") -> dict[str, str]:
        return {"name": name, "span_id": own, "parent_span_id": parent, "service": service}

    spans = [
        span("task.submit", "s", "client"),
        span("task.run", "r", "s"),
        span("POST /api/v2/workflows", "w", "r", "langflow"),
    ]
    assert ledger.connected(spans, "client")
    assert not ledger.connected(spans, "another")
    for left_out in range(3):
        assert not ledger.connected([one for place, one in enumerate(spans) if place != left_out], "client")
    # Langflow below the submission: it goes past the worker.
    assert not ledger.connected([*spans[:2], span("POST /api/v2/workflows", "w", "s", "langflow")], "client")


def test_a_run_is_right_when_it_was_answered_as_asked() -> None:
    assert ledger.Run("hot", status=200).right
    assert not ledger.Run("hot", status=500).right
    assert ledger.Run("failing", status=500).right
    assert not ledger.Run("failing", status=200).right
    assert not ledger.Run("hot").right


@pytest.mark.parametrize(("n", "share", "wanted"), [(5000, 0.01, (37, 64)), (1000, 0.1, (82, 119)), (10, 0.5, (2, 8))])
def test_the_interval_is_that_of_the_books(n: int, share: float, wanted: tuple[int, int]) -> None:
    assert ledger.binomial_interval(n, share) == wanted


def test_chance_stays_inside_the_interval_as_often_as_it_says() -> None:
    n, share = 500, 0.01
    low, high = ledger.binomial_interval(n, share)
    weights = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    assert sum(weights[low : high + 1]) >= 0.95
    # And it is no wider than it has to be.
    assert sum(weights[: low + 1]) > 0.025
    assert sum(weights[high:]) > 0.025


def test_a_draw_is_no_freak_of_chance() -> None:
    runs, number = ledger.drawn({"hot": 1000, "critical": 4, "failing": 2})
    low, high = ledger.binomial_interval(1000, 0.01)
    assert low <= number <= high
    assert number == sum(ledger.picked(run.trace, 0.01) for run in runs if run.kind == "hot")
    assert len(runs) == 1006


def test_what_was_kept_is_counted_by_kind() -> None:
    runs = [ledger.Run("hot", trace="a"), ledger.Run("hot", trace="b"), ledger.Run("critical", trace="c")]
    assert ledger.kept(runs, {"a", "c", "elsewhere"}) == {"hot": (1, 2), "critical": (1, 1), "failing": (0, 0)}


@pytest.mark.parametrize(
    ("kept", "good"),
    [(50, True), (37, True), (64, True), (36, False), (65, False), (0, False), (5000, False)],
)
def test_hot_traces_are_judged_by_the_interval(kept: int, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "say", lambda _text: None)
    runs = [ledger.Run(kind) for kind, count in ledger.COUNTS.items() for _number in range(count)]
    hot = [run.trace for run in runs if run.kind == "hot"][:kept]
    drill = core.Drill("logs-runs", "")
    logs.check_kept(drill, runs, {*hot, *(run.trace for run in runs if run.kind != "hot")})
    assert [verdict.passed for verdict in drill.verdicts] == [True, True, good]


@pytest.mark.parametrize("kind", ["critical", "failing"])
def test_one_lost_trace_of_those_that_matter_is_a_failure(kind: str) -> None:
    runs = [ledger.Run(name) for name in ledger.KINDS for _number in range(200)]
    traces = {run.trace for run in runs if run.kind != "hot"}
    traces.remove(next(run.trace for run in runs if run.kind == kind))
    drill = core.Drill("logs-runs", "")
    logs.check_kept(drill, runs, traces)
    assert [verdict.what for verdict in drill.verdicts if not verdict.passed] == [f"{kind}: traces kept"]


def test_a_trace_without_a_line_in_each_dataset_is_not_joined() -> None:
    lines = {"a": {"nginx.access", "langflow.app", "other"}, "b": {"nginx.access"}}
    assert ledger.unjoined(["a", "b", "c"], lines) == ["b", "c"]


def test_deviation() -> None:
    assert ledger.deviation(995, 1000) == pytest.approx(0.005)
    assert ledger.deviation(1010, 1000) == pytest.approx(0.01)
    assert math.isinf(ledger.deviation(0, 0))


def test_an_aggregation_is_read() -> None:
    inner = {"buckets": [{"key": "nginx.access", "doc_count": 1}, {"key": "langflow.app", "doc_count": 3}]}
    answer = {"aggregations": {"traces": {"buckets": [{"key": "t1", "doc_count": 4, "datasets": inner}]}}}
    assert ledger.datasets_by_trace(answer) == {"t1": {"nginx.access", "langflow.app"}}


# --- lines -----------------------------------------------------------------------------------------------------------


def test_lost_and_repeated_lines_are_seen() -> None:
    whole = ledger.judge_lines([1, 2, 3], [3, 1, 2])
    assert whole.whole
    found = ledger.judge_lines([1, 2, 3], [1, 3, 3, 9])
    assert (found.lost, found.twice, found.strange, found.whole) == ([2], [3], [9], False)
    # Nothing written proves nothing.
    assert not ledger.judge_lines([], []).whole


def test_numbers_are_read_from_lines_with_the_mark() -> None:
    assert ledger.numbers(["x drillab 17", "drillab 18 more", "drillab", "other 19", "drillab x"], "drillab") == [
        17,
        18,
    ]


def test_a_host_is_back_when_nothing_waits_there_any_more() -> None:
    rows = [(5.0, 9.0), (0.0, 4.0), (0.0, 2.0), (0.0, 0.0)]
    samples = [(10.0 * number, {"a": first, "b": second}) for number, (first, second) in enumerate(rows, 1)]
    assert ledger.emptied(samples, 10) == {"a": 10.0, "b": 30.0}
    assert ledger.emptied(samples[:3], 10) == {"a": 10.0}


# --- canaries --------------------------------------------------------------------------------------------------------


def luhn(number: str) -> bool:
    digits = [int(digit) for digit in reversed(number)]
    return sum(digits[::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def test_cards_pass_the_checksum() -> None:
    assert ledger.luhn_digit("7992739871") == "3"
    cards = {ledger.card() for _number in range(50)}
    assert len(cards) > 45
    assert all(len(card) == 16 and luhn(card) for card in cards)


def test_canaries_differ_every_time_and_are_found() -> None:
    first, second = ledger.canaries(), ledger.canaries()
    assert set(first) == set(second) == {"key", "bearer", "jwt", "card", "email", "phone"}
    assert not set(first.values()) & set(second.values())
    text = json.dumps({"deep": [f"x{value}y" for value in first.values()]})
    assert set(ledger.seen(text, first)) == set(first)
    assert ledger.seen(text, second) == {}
    assert set(ledger.seen(first["phone"].replace(" ", ""), first)) == {"phone"}
    # The word alone is no secret.
    assert ledger.seen("Bearer", first) == {}


@pytest.fixture(scope="module", name="masker")
def shipped_masker() -> Any:
    """The program of the shippers with the patterns that are shipped."""
    spec = importlib.util.spec_from_file_location("drill_log_mask", ROOT / "roles/log_shipper/files/log_mask.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    masking = yaml.safe_load(logs.MASKING.read_text(encoding="utf-8"))
    return module.Masker(masking)


@pytest.mark.parametrize("kind", ["key", "bearer", "jwt", "card", "email", "phone"])
def test_the_patterns_that_are_shipped_know_every_canary(kind: str, masker: Any) -> None:
    """What the drill must not find can be masked, and what it does with masking off can be found."""
    for _try in range(20):
        value = ledger.canaries()[kind]
        nested = json.dumps({"outer": {"inner": [{"password": value, "note": f"it was {value}"}]}})
        ways = [
            f"ValueError: run-1 drillx {kind}={value} asked for an error",
            f"GET /api/v1/flows/?search=drillx&{kind}={quote(value)} HTTP/1.1",
            f"GET /drillx/{quote(value)} HTTP/1.1",
            f"drillx plain {value} end",
            nested,
            json.dumps({"text": nested}),
        ]
        for way in ways:
            assert ledger.seen(way, {kind: value})
            assert ledger.seen(masker.text(way), {kind: value}) == {}, way


# --- the lab ---------------------------------------------------------------------------------------------------------


def test_what_was_not_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tier, "ARTIFACTS", tmp_path)
    assert set(tier.left_out()) == {"the log store", "the collector"}
    with pytest.raises(core.DrillError, match="not run, left out: the log store"):
        tier.need("the log store")
    (tmp_path / "elasticsearch.tar.gz.sha256").write_text("0\n", encoding="utf-8")
    tier.need("the log store")
    with pytest.raises(core.DrillError, match="the collector"):
        tier.need("the log store", "the collector")


class Store:
    """A log store with documents, and the hosts of a lab."""

    groups = {"logging": ["log1"], "langflow": ["app1"], "monitoring": ["mon1"], "loadbalancers": ["lb1"]}
    addresses = {"log1": "192.0.2.1"}

    def __init__(self, count: int) -> None:
        self.hits = [{"_source": {"message": f"drillx {n}"}, "sort": [n, str(n)]} for n in range(count)]
        self.asked: list[dict[str, Any]] = []

    def ask(self, _method: str, _path: str, body: dict[str, Any], timeout: float = 60) -> dict[str, Any]:
        self.asked.append(body)
        start = body.get("search_after", [-1])[0] + 1
        return {"hits": {"hits": self.hits[start : start + body["size"]]}}


@pytest.mark.parametrize("count", [0, 999, 1000, 2500])
def test_all_pages_are_read(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(count)
    place = tier.Tier(store, None, None)
    monkeypatch.setattr(tier.Tier, "ask", lambda _self, *argv, **more: store.ask(*argv, **more))
    assert place.numbered("drillx", "app1") == list(range(count))
    assert {"match_phrase": {"message": "drillx"}} in store.asked[0]["query"]["bool"]["filter"]


def test_every_host_that_sends_lines_is_looked_at() -> None:
    assert tier.Tier(Store(0), None, None).hosts == ["app1", "lb1", "log1", "mon1"]


def test_fewer_runs_on_demand_keep_their_proportions() -> None:
    lab = type("Lab", (), {"repeat": 500})()
    assert logs.counts(lab) == {"hot": 500, "critical": 20, "failing": 10}
    assert logs.counts(type("Lab", (), {"repeat": 0})()) == ledger.COUNTS
