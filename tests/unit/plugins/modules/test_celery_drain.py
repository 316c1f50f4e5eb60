# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module celery_drain, against a program that speaks as the real one does."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _celery_drain
from ansible_collections.flowfleet.langflow.plugins.modules import celery_drain

Run = Callable[..., dict[str, Any]]

# Takes its answers from a file, {worker: {verb: [status, answer]}}, and notes what it was asked.
TOOL = """#!{python}
import json, pathlib, sys, time
verb, rest = sys.argv[1], sys.argv[2:]
name = rest[rest.index("--name") + 1]
with open({log!r}, "a") as handle:
    handle.write(json.dumps([time.monotonic(), *sys.argv[1:]]) + "\\n")
status, answer = json.loads(pathlib.Path({answers!r}).read_text())[name][verb]
print("[a line that is no answer")
if isinstance(answer, dict) and answer.get("sleep"):
    time.sleep(answer["sleep"])
if answer is not None:
    print(json.dumps(answer, indent=sys.argv.index(name)))
else:
    print("Traceback: it broke", file=sys.stderr)
sys.exit(status)
"""


class Tool:
    """The program of the workers."""

    def __init__(self, folder: Path) -> None:
        self.path, self.log, self.answers = folder / "tool", folder / "log", folder / "answers"
        text = TOOL.format(python=sys.executable, log=str(self.log), answers=str(self.answers))
        self.path.write_text(text, encoding="utf-8")
        self.path.chmod(0o755)
        self.said: dict[str, dict[str, Any]] = {}

    def says(self, worker: str, verb: str, status: int, answer: Any) -> None:
        self.said.setdefault(worker, {})[verb] = [status, answer]
        self.answers.write_text(json.dumps(self.said), encoding="utf-8")

    def calls(self) -> list[list[Any]]:
        return [json.loads(line)[1:] for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def verbs(self) -> list[str]:
        return [call[0] for call in self.calls()]


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    return Tool(tmp_path)


def drained(worker: str, **changed: Any) -> dict[str, Any]:
    answer = {
        **{"worker": f"{worker}@host", "state": "drained", "consumers_cancelled": ["default"], "active": 0},
        **{"reserved": 0, "handed_back": 2, "finished": 1, "seconds": 4.2, "runs": []},
    }
    return {**answer, **changed}


def arguments(tool: Tool, *workers: str, **more: Any) -> dict[str, Any]:
    return {"workers": list(workers), "command": [str(tool.path)], **more}


def test_counts_of_all_workers_are_reported(run_module: Run, tool: Tool) -> None:
    tool.says("main", "drain", 0, drained("main"))
    tool.says("bulk", "drain", 0, drained("bulk", finished=3, consumers_cancelled=["bulk", "slow"]))
    result = run_module(celery_drain, arguments(tool, "main", "bulk", timeout=90))
    assert result["changed"]
    assert result["totals"] == {"active": 0, "reserved": 0, "finished": 4, "handed_back": 4}
    assert [(row["name"], row["consumers_cancelled"]) for row in result["workers"]] == [
        ("main", ["default"]),
        ("bulk", ["bulk", "slow"]),
    ]
    words = ["--timeout", "90", "--json"]
    assert sorted(tool.calls()) == sorted([["drain", "--name", name, *words] for name in ("main", "bulk")])


def test_workers_are_drained_at_the_same_time(run_module: Run, tool: Tool) -> None:
    for name in ("a", "b", "c"):
        tool.says(name, "drain", 0, drained(name, sleep=1.0))
    started = time.monotonic()
    run_module(celery_drain, arguments(tool, "a", "b", "c"))
    assert time.monotonic() - started < 2.8  # one after the other: more than 3


def test_a_worker_that_does_not_run_is_drained(run_module: Run, tool: Tool) -> None:
    tool.says("main", "drain", 0, {"worker": "main@host", "state": "absent"})
    result = run_module(celery_drain, arguments(tool, "main"))
    assert not result["changed"]
    assert result["workers"][0]["state"] == "absent"


def test_nothing_left_half_way_after_the_deadline(run_module: Run, tool: Tool) -> None:
    tool.says("main", "drain", 3, drained("main", state="deadline", active=1, runs=["run-1"]))
    tool.says("bulk", "drain", 0, drained("bulk"))
    for name in ("main", "bulk"):
        tool.says(name, "undrain", 0, {"worker": name, "state": "consuming"})
    result = run_module(celery_drain, arguments(tool, "main", "bulk", timeout=5))
    assert result["failed"]
    assert "still has tasks after 5 s: main" in result["msg"]
    assert result["workers"][0]["runs"] == ["run-1"]
    assert sorted(tool.verbs()) == ["drain", "drain", "undrain", "undrain"]


def test_the_caller_may_decide_after_the_deadline(run_module: Run, tool: Tool) -> None:
    tool.says("main", "drain", 3, drained("main", state="deadline", active=1))
    result = run_module(celery_drain, arguments(tool, "main", on_deadline="continue"))
    assert not result.get("failed")
    assert result["totals"]["active"] == 1
    assert tool.verbs() == ["drain"]


def test_silence_is_a_failure(run_module: Run, tool: Tool) -> None:
    tool.says("main", "drain", 4, {"worker": "main@host", "state": "unreachable"})
    tool.says("main", "undrain", 4, {"worker": "main@host", "state": "unreachable"})
    result = run_module(celery_drain, arguments(tool, "main"))
    assert "does not answer, or its broker does not: main; takes no tasks: main." in result["msg"]


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (1, None, "it broke"),
        (0, ["no", "dictionary"], "names no state"),
        (0, {"worker": "main"}, "names no state"),
        (2, {"state": "drained"}, "status 2"),
    ],
)
def test_what_is_no_answer_is_a_failure(run_module: Run, tool: Tool, status: int, answer: Any, message: str) -> None:
    tool.says("main", "drain", status, answer)
    assert message in run_module(celery_drain, arguments(tool, "main"))["msg"]


def test_a_program_that_is_not_there_is_named(run_module: Run, tmp_path: Path) -> None:
    result = run_module(celery_drain, {"workers": ["main"], "command": [str(tmp_path / "none")]})
    assert "cannot start" in result["msg"]


def test_a_program_that_does_not_end_is_given_up(tool: Tool) -> None:
    tool.says("main", "drain", 0, drained("main", sleep=30))
    argv = [str(tool.path), "drain", "--name", "main"]
    with pytest.raises(_celery_drain.DrainError, match="no end after"):
        _celery_drain.run_program(argv, 0.5)


@pytest.mark.parametrize(
    ("state", "now", "changed"),
    [
        ("drained", "consuming", True),
        ("drained", "draining", False),
        ("drained", "absent", False),
        ("consuming", "draining", True),
        ("consuming", "consuming", False),
    ],
)
def test_check_mode_only_looks(run_module: Run, tool: Tool, state: str, now: str, changed: bool) -> None:
    tool.says("main", "worker-status", 0, [{"worker": "main@host", "state": now, "active": 2, "reserved": 1}])
    result = run_module(celery_drain, arguments(tool, "main", state=state), check=True)
    assert result["changed"] is changed
    assert result["totals"]["active"] == 2
    assert tool.verbs() == ["worker-status"]


def test_workers_go_on(run_module: Run, tool: Tool) -> None:
    tool.says("main", "worker-status", 0, [{"worker": "main@host", "state": "draining"}])
    tool.says("main", "undrain", 0, {"worker": "main@host", "state": "consuming"})
    result = run_module(celery_drain, arguments(tool, "main", state="consuming"))
    assert result["changed"]
    assert result["workers"][0]["state"] == "consuming"
    tool.says("main", "undrain", 4, {"worker": "main@host", "state": "unreachable"})
    assert run_module(celery_drain, arguments(tool, "main", state="consuming"))["failed"]
