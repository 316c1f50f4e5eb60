# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people see of a roll, while it runs and afterwards."""

from __future__ import annotations

import html.parser
import json
import pathlib
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.plugin_utils._rollout_report import Report

PLAN = {
    "batches": [{"number": 1, "hosts": ["a<b"], "serving_before": 3, "serving_during": 2}],
    "skipped": ["done"],
    "interrupted": {"a<b": "gate"},
    "resumed": True,
    "estimated_seconds": 75.0,
}
ROLL: list[tuple[float, dict[str, Any], dict[str, Any]]] = [
    (100, {"state": "plan", "operation": "upgrade", "digest": "r1", "who": "me"}, {"plan": PLAN, "run_id": "run"}),
    (101, {"state": "begin_batch", "hosts": ["a<b"]}, {"serving_during": 2}),
    (102, {"state": "record", "host": "a<b", "phase": "drain"}, {}),
    (110, {"state": "record", "host": "a<b", "phase": "gate"}, {}),
    (165, {"state": "record", "host": "a<b", "phase": "enabled"}, {"phases": {"a<b": "enabled"}, "status": "running"}),
]


class Tags(html.parser.HTMLParser):
    """Each element is closed where it has to be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def report() -> Report:
    return Report()


def feed(report: Report, *more: tuple[float, dict[str, Any], dict[str, Any]]) -> list[str | None]:
    return [report.state(*step) for step in (*ROLL, *more)]


def test_lines(report: Report) -> None:
    lines = feed(report, (170, {"state": "finish"}, {"status": "finished"}))
    assert lines == [
        "Roll upgrade to r1, resumed, about 1:15\n  batch 1: a<b (2 of 3 serve meanwhile)\n  done before: done\n"
        "  interrupted: a<b",
        "[0:01 of 1:15] batch 1: a<b (2 others serve)",
        "[0:02 of 1:15] a<b: drain",
        "[0:10 of 1:15] a<b: drain → gate",
        "[1:05 of 1:15] a<b: drain → gate → enabled",
        "[1:10 of 1:15] finish: finished",
    ]


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (({"state": "begin_batch"}, {"failed": True, "msg": "too few"}), "STOP, begin_batch: too few"),
        (({"state": "record", "host": "a<b", "phase": "failed", "reason": "why"}, {}), "enabled → failed, why"),
        (({"state": "open", "reason": "alert"}, {}), "STOP, breaker opened: alert"),
    ],
)
def test_each_stop_has_its_reason(report: Report, step: tuple[Any, Any], line: str) -> None:
    lines = feed(report, (180, *step))
    assert str(lines[-1]).endswith(line)
    assert [stop["at"] for stop in report.stops] == [80]
    assert report.stops[0]["reason"] in report.to_html()


def test_page_is_whole_and_needs_nothing_else(report: Report) -> None:
    feed(report, (170, {"state": "finish"}, {"status": "finished"}))
    arm = {"requests": 9, "errors": 1, "latency_ms": {"p50": 1, "p95": 2, "p99": 3}}
    report.canary(171, {"verdict": "pass", "reason": "<b>", "new": arm, "old": arm, "observation": {"big": 1}})
    report.probe(172, {"pid": 1})
    report.probe(173, {"report": {"n": 77, "failed": 0, "windows": {"before": {"n": 7}}, "lines": ["<script>"]}})
    page = report.to_html()
    for word in ("<script", "<b>", "a<b", "http:", "https:", "href", "src="):
        assert word not in page
    assert len(report.probes) == 1
    picture = page[page.index("<svg") : page.index("</svg>") + 6]
    assert picture.count("<rect") == picture.count("</rect>") == 4
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    data = json.loads(report.to_json())
    assert (data["status"], data["spans"]["a<b"][1]) == ("finished", {"phase": "drain", "begin": 2, "end": 10})
    assert "observation" not in data["canaries"][0]


def test_nothing_to_tell(report: Report) -> None:
    assert not report.worth_keeping
    report.state(1, {"state": "plan"}, {"failed": True, "msg": "open", "run_id": "old"})
    assert not report.worth_keeping
    report.to_html()


@pytest.mark.parametrize("check", [True, False])
def test_callback(play: Any, tmp_path: pathlib.Path, check: bool) -> None:
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\ncallbacks_enabled = flowfleet.langflow.rollout_report\n"
        "[callback_rollout_report]\ndirectory = reports\n",
        encoding="utf-8",
    )
    module = "flowfleet.langflow.rollout_state"
    common = {"path": str(tmp_path / "rollout.json"), "run_id": "{{ plan.run_id | default('') }}", "hosts": ["a"]}
    steps: list[dict[str, Any]] = [
        {"state": "plan", "digest": "r1"},
        {"state": "begin_batch", "healthy": ["a"]},
        {"state": "record", "host": "a", "phase": "enabled"},
        {"state": "finish"},
    ]
    tasks: list[dict[str, Any]] = [{module: {**common, **step}} for step in steps]
    tasks[0]["register"] = "plan"
    run = play(tasks, *(["--check"] if check else []))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Roll restart to r1" in run.stdout
    reports = sorted(path.suffix for path in (tmp_path / "reports").glob("rollout-*"))
    assert reports == ([] if check else [".html", ".json"]), run.stdout + run.stderr
