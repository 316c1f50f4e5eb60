"""What the drills of lost servers make of what they have seen, without any lab."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

# `tools` is a folder here, too; Python takes both for one package.
sys.path.append(str(Path(__file__).resolve().parents[3]))
core, data_jobs, load = (importlib.import_module(f"tools.drills.{name}") for name in ("core", "data_jobs", "load"))

# --- builds ----------------------------------------------------------------------------------------------------------


def build(*events: tuple[str, Any], **known: Any) -> Any:
    """A build whose stream was these events and is over."""
    made = data_jobs.Build("build-1", **{"job": "j", "posted": 10.0, "closed": 20.0, **known})
    for name, data in events:
        made.take(name, data)
    return made


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (build(("vertices_sorted", {}), ("end", {})), "end"),
        (build(("error", {})), "error"),
        (build(("end", {}), ("end", {})), "told twice"),
        (build(("error", {}), ("end", {})), "told twice"),
        (build(("token", {"chunk": "seq=1 "})), "not told"),
        (build(("end", {}), broke="cut after its end"), "end"),
        (build(refused="503", job=""), "refused"),
        (build(closed=0.0), "open"),
    ],
)
def test_a_build_has_the_end_that_its_client_was_told(made: Any, outcome: str) -> None:
    assert made.outcome == outcome


def test_pieces_that_are_missing_or_came_twice_are_seen() -> None:
    events = [("token", {"chunk": f"seq={number} "}) for number in (1, 2, 2, 4)]
    made = build(*events, ("end", {}), pieces=4)
    assert (data_jobs.lost_pieces(made), data_jobs.repeated_pieces(made)) == (1, 1)
    whole = build(("token", {"chunk": "seq=1 seq=2 "}), ("token", None), ("end", {}), pieces=2)
    assert (data_jobs.lost_pieces(whole), data_jobs.repeated_pieces(whole)) == (0, 0)
    # Nobody knows what a build that failed would have sent.
    assert data_jobs.lost_pieces(build(("error", {}), pieces=4)) == 0


def test_in_flight_is_what_has_begun_and_not_ended() -> None:
    rows = [build(), build(closed=14.0), build(posted=16.0), build(refused="503", job=""), build(closed=0.0)]
    assert data_jobs.in_flight(rows, 15.0) == 2


@pytest.mark.parametrize(
    ("made", "passed"),
    [
        ([build(("end", {}))] * 3, True),
        # One that was refused was not taken: nobody waits for its end.
        ([*[build(("error", {}))] * 3, build(refused="503", job="")], True),
        ([*[build(("end", {}))] * 3, build()], False),
        ([*[build(("end", {}))] * 3, build(("end", {}), ("error", {}))], False),
        ([build(("end", {}))] * 2, False),
        ([build(refused="503", job="")] * 4, False),
    ],
)
def test_every_client_is_told_one_end(made: list[Any], passed: bool) -> None:
    drill = core.Drill("data-9", "a title")
    data_jobs.check_builds(drill, "case", made, 15.0)
    assert drill.passed is passed
    json.dumps(drill.facts)


# --- rows ------------------------------------------------------------------------------------------------------------


def row(name: str, status: str = "completed", finished: bool = True, ends: int = 1) -> dict[str, Any]:
    return {"id": name, "status": status, "finished": finished, "ends": ends}


def rows(*found: dict[str, Any]) -> dict[str, Any]:
    return dict(data_jobs.read_rows(json.dumps(found)))


def test_a_job_is_over_with_a_status_that_says_so_and_a_time() -> None:
    found = rows(
        row("a"), row("b", "in_progress", finished=False), row("c", "failed", finished=False), row("d", "queued")
    )
    assert [entry.over for entry in found.values()] == [True, False, False, False]
    assert data_jobs.statuses(found) == {
        "completed": 1,
        "in_progress, no end": 1,
        "failed, no end": 1,
        "queued, no end": 1,
    }


def test_an_end_that_changes_is_seen() -> None:
    first = rows(row("a"), row("b"), row("c", "in_progress", finished=False), row("d"))
    later = rows(row("a"), row("b", "failed"), row("c", "failed"))
    assert data_jobs.changed_ends(first, later) == ["b", "d"]
    assert data_jobs.changed_ends(first, first) == []


@pytest.mark.parametrize(
    ("first", "later", "passed"),
    [
        ([row("a"), row("b", "failed")], None, True),
        ([row("a"), row("b", "in_progress", finished=False)], None, False),
        ([row("a", "failed")], [row("a", "completed")], False),
        ([], None, False),
    ],
)
def test_rows_have_one_end_and_keep_it(first: list[Any], later: list[Any] | None, passed: bool) -> None:
    drill = core.Drill("data-9", "a title")
    data_jobs.check_rows(drill, "case", "builds", rows(*first), rows(*(first if later is None else later)))
    assert drill.passed is passed


# --- health ----------------------------------------------------------------------------------------------------------


def looks(text: str) -> list[Any]:
    """A look each second, `+` was good and `-` was not."""
    return [data_jobs.Look(float(second), second + 0.25, mark == "+") for second, mark in enumerate(text)]


@pytest.mark.parametrize(
    ("text", "moment", "wanted"),
    [
        ("++++", 1.0, 0.0),
        ("++--++", 1.5, 2.75),
        # One that falters again was not well yet.
        ("++--+-+", 1.5, 4.75),
        ("++--", 1.5, None),
        ("", 0.0, None),
        # What was bad before it does not count.
        ("--++", 2.5, 0.0),
    ],
)
def test_well_is_who_stays_well(text: str, moment: float, wanted: float | None) -> None:
    found = data_jobs.well_after(looks(text), moment)
    assert found == (wanted if wanted is None else round(wanted, 1))


def test_unwell_is_from_the_first_bad_question_to_the_next_good_answer() -> None:
    assert data_jobs.unwell(looks("++--++-+")) == round(2.25 + 1.25, 1)
    assert data_jobs.unwell(looks("+++")) == 0.0


def test_a_restart_is_seen() -> None:
    drill = core.Drill("data-9", "a title")
    data_jobs.check_same(drill, "", {"app1": "100 0 7 8"}, {"app1": "100 0 7 8"})
    assert drill.passed
    data_jobs.check_same(drill, "", {"app1": "100 0 7 8"}, {"app1": "100 0 7 9"})
    assert not drill.passed


# --- load ------------------------------------------------------------------------------------------------------------


def sent(
    due: float, outcome: str = "ok", latency: float = 0.5, kind: str = "get", window: str = "now"
) -> dict[str, Any]:
    return {"due": due, "class": outcome, "latency": latency, "load": kind, "window": window}


def test_trouble_lasts_from_the_first_failure_to_the_last_ones_answer() -> None:
    entries = [sent(1), sent(2, "http_500", 3.0), sent(3), sent(4, "timeout", 10.0), sent(5), sent(6, "unfinished")]
    assert data_jobs.trouble(entries) == 12.0
    assert data_jobs.trouble([sent(1), sent(2)]) == 0.0


def test_the_longest_time_without_a_good_answer_counts_when_answers_came() -> None:
    # The second one was good in the end, but nobody heard anything for nine seconds.
    assert data_jobs.good_gap([sent(1), sent(2, latency=8.5), sent(3, "http_500")]) == 9.0
    assert data_jobs.good_gap([]) == 0.0


def test_errors_are_counted_and_quiet_is_quiet() -> None:
    requests = [
        sent(1),
        sent(2, "http_500"),
        sent(3, kind="run"),
        sent(9, window="after-now"),
        sent(10, window="after-now"),
    ]
    outcome = load.Outcome([], requests)
    drill = core.Drill("data-9", "a title")
    data_jobs.check_errors(drill, outcome, "now")
    assert drill.verdicts[0].measured.startswith("1 of 3 {'http_500': 1}")
    data_jobs.check_quiet(drill, outcome, data_jobs.after("now"))
    assert drill.passed
    assert drill.verdicts[1].measured.startswith("0 of 2")
    data_jobs.check_quiet(drill, outcome, "now")
    # Nothing sent is nothing shown.
    data_jobs.check_quiet(drill, outcome, "never")
    assert [verdict.passed for verdict in drill.verdicts[2:]] == [False, False]
