# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The log of a run: what is in it, and what is not."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.callback import run_log

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


@pytest.fixture
def plugin(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TRACEPARENT", PARENT)
    made = run_log.CallbackModule()
    monkeypatch.setattr(made, "get_option", lambda _name: str(path))
    made.v2_playbook_on_start(SimpleNamespace(_file_name="/x/site.yml"))
    made.v2_playbook_on_play_start(SimpleNamespace(get_name=lambda: "Bring it up"))
    return made


def outcome(no_log: bool = False, **result: Any) -> Any:
    task = SimpleNamespace(
        no_log=no_log,
        action="command",
        resolved_action="ansible.builtin.command",
        check_mode=False,
        get_name=lambda: "Do it",
    )
    return SimpleNamespace(task=task, result=result, host=SimpleNamespace(get_name=lambda: "app1"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_is_one_trace(plugin: Any, path: Path) -> None:
    plugin.v2_runner_on_ok(outcome(changed=False))
    plugin.v2_runner_on_ok(outcome(changed=True, stdout="CANARY", diff="CANARY"))
    plugin.v2_runner_on_failed(outcome(failed=True, msg="it broke", stdout="CANARY"))
    plugin.v2_runner_on_failed(outcome(failed=True, msg="never mind"), ignore_errors=True)
    plugin.v2_runner_on_unreachable(outcome(unreachable=True, msg="no route"))
    plugin.v2_playbook_on_stats(
        SimpleNamespace(processed={"app1": 1}, summarize=lambda _host: {"failures": 1, "unreachable": 1, "ok": 2})
    )
    found = lines(path)
    assert [(line["level"], line.get("state"), line.get("said")) for line in found] == [
        ("info", None, None),
        ("info", "changed", None),
        ("error", "failed", "it broke"),
        ("warning", "failed", "never mind"),
        ("error", "unreachable", "no route"),
        ("error", None, None),
    ]
    assert {line["trace_id"] for line in found} == {PARENT[3:35]}
    assert len({line["run_id"] for line in found}) == 1
    assert found[-1]["event"].endswith("1 of 1 hosts failed")
    assert "CANARY" not in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("hidden", [{"no_log": True}, {"_ansible_no_log": True}, {"censored": "x"}])
def test_of_a_hidden_task_only_its_outcome_is_logged(plugin: Any, path: Path, hidden: dict[str, Any]) -> None:
    plugin.v2_runner_on_failed(outcome(msg="CANARY", failed=True, **hidden))
    assert lines(path)[-1]["state"] == "failed"
    assert "CANARY" not in path.read_text(encoding="utf-8")


def test_the_journal_gets_the_same(plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "get_option", lambda _name: "")
    monkeypatch.setattr(run_log, "SOCKET", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "log"))
        plugin.v2_runner_on_ok(outcome(changed=True))
        head, _colon, text = journal.recv(10_000).decode().partition(": ")
    assert head.startswith("<14>flowfleet-ansible[")
    assert json.loads(text)["event"] == "app1: changed: Do it"


def test_a_log_that_cannot_be_written_stops_nothing(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(plugin._display, "warning", warnings.append)
    monkeypatch.setattr(plugin, "get_option", lambda _name: "/nowhere/at/all")
    for _event in range(3):
        plugin.v2_runner_on_ok(outcome(changed=True))
    assert len(warnings) == 1


def test_without_a_pipeline_a_run_begins_its_own_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", "nonsense")
    assert len(run_log.CallbackModule().names["trace_id"]) == 32
