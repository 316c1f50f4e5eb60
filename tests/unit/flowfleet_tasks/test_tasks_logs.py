# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines of the log: one object each, with the run and the trace that they belong to, and without secrets."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ALICE, FLOW
from flowfleet_tasks import process, trace
from flowfleet_tasks.front import User

USER = User("11111111-1111-4111-8111-111111111111", "alice", False)
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What was logged so far, parsed."""
    root, written = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    # Handlers of pytest would be closed.
    root.handlers[:] = []
    monkeypatch.setattr(sys, "stderr", written)
    process.set_up_logs()
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_is_an_object(lines: Any) -> None:
    logging.getLogger("x").warning("%d of %s", 3, "five")
    (line,) = lines()
    assert (line["level"], line["logger"], line["message"]) == ("warning", "x", "3 of five")
    assert line["timestamp"].endswith("+00:00")
    assert not {"trace_id", "run_id"} & set(line)


def test_an_exception_is_one_line_without_keys(lines: Any) -> None:
    try:
        raise ValueError("refused: x-api-key: sk-CANARY0123456789abcdef")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    (line,) = lines()
    assert "ValueError" in line["exception"]
    assert "Traceback" in line["exception"]
    assert "CANARY" not in json.dumps(line)


def test_lines_carry_run_and_trace_only_while_it_is_worked_on(lines: Any) -> None:
    with trace.working("r1", PARENT):
        logging.getLogger("x").info("in")
        with trace.working("r2", "no trace"):
            logging.getLogger("x").info("deeper")
    logging.getLogger("x").info("out")
    found = [(line["message"], line.get("run_id"), line.get("trace_id"), line.get("span_id")) for line in lines()]
    assert found == [("in", "r1", PARENT[3:35], PARENT[36:52]), ("deeper", "r2", None, None), ("out", None, None, None)]


def test_the_end_of_a_run_is_logged_with_the_trace_of_its_submitter(service: Any, worker: Any, lines: Any) -> None:
    run_id = str(service.submit(ALICE, USER, {"flow": FLOW, "input": "one"}, {"traceparent": PARENT})["id"])
    assert worker.deliver(run_id) == "succeeded"
    ended = [line for line in lines() if "ended: succeeded" in line["message"]]
    assert [(line["run_id"], line["trace_id"]) for line in ended] == [(run_id, PARENT[3:35])]
