# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The smoke test against a Langflow in memory: what it sees, what it makes of faults, and what it leaves behind."""

from __future__ import annotations

import gzip
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.filter.smoke_rows import smoke_rows
from ansible_collections.flowfleet.langflow.plugins.filter.smoke_table import smoke_table
from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_smoke as smoke
from ansible_collections.flowfleet.langflow.plugins.modules import langflow_smoke
from langflow_fake import PASSWORD, USER, Langflow, answer_of_flow, running

PLAN = (Path(__file__).parents[3] / "playbooks" / "files" / "flows" / "smoke.json").read_text(encoding="utf-8")
RUN = "66000000-0123456789ab"
NODES = [smoke.Node("app1", "192.0.2.11", 7860), smoke.Node("app2", "192.0.2.12", 7860)]


@pytest.fixture
def langflow() -> Iterator[Langflow]:
    yield from running()


@pytest.fixture
def step(run_module: Callable[..., dict[str, Any]], langflow: Langflow) -> Callable[..., dict[str, Any]]:
    """Run one task of the playbook."""

    def run(*steps: str, check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {"steps": list(steps), "url": langflow.url, "timeout": 5, **options}
        return run_module(langflow_smoke, arguments, check=check)

    return run


@pytest.fixture
def session(step: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Signed in, flow imported."""
    first = step("sign_in", username=USER, password=PASSWORD)
    known = {"run_id": first["run_id"], "api_key": first["api_key"]}
    return {**known, "flow_id": step("import", plan=PLAN, **known)["flow_id"]}


def verdicts(result: dict[str, Any]) -> dict[str, str]:
    return {row["step"]: row["verdict"] for row in result["rows"]}


# --- a run that goes well ---------------------------------------------------------------------------------------------


def test_a_whole_run_leaves_nothing(step: Callable[..., dict[str, Any]], langflow: Langflow) -> None:
    first = step("sign_in", username=USER, password=PASSWORD)
    known = {"run_id": first["run_id"], "api_key": first["api_key"]}
    flow = step("import", plan=PLAN, **known)
    known["flow_id"] = flow["flow_id"]
    runs = step("run", "stream", **known)
    on_a = step("build_start", "file_put", node="app1", **known)
    on_b = step(
        "build_follow", "file_get", node="app2", origin="app1", job_id=on_a["job_id"], file_id=on_a["file_id"], **known
    )
    spread = step("spread", requests=2, **known)
    assert langflow.state.flows
    assert langflow.state.files
    clean = step("clean", username=USER, password=PASSWORD, **known)
    results = [first, flow, runs, on_a, on_b, spread, clean]
    assert not any(result["changed"] for result in results)
    rows = smoke_rows(results)
    assert {row["verdict"] for row in rows} == {"ok"}
    assert [row["step"] for row in rows] == [
        *["health", "version", "login", "api key", "import flow", "run", "run streamed", "build started"],
        *["file uploaded", "build followed", "file read", "spread requests", "clean up"],
    ]
    assert (langflow.state.flows, langflow.state.files, langflow.state.keys) == ({}, {}, {})
    assert langflow.state.logins == 1
    assert {agent for _method, _path, agent in langflow.state.requests} == {f"flowfleet-smoke/{first['run_id']}"}


def test_check_mode_connects_to_nothing(step: Callable[..., dict[str, Any]], langflow: Langflow) -> None:
    result = step("sign_in", "import", "build_start", check=True)
    assert verdicts(result) == dict.fromkeys(
        ["health", "version", "login", "api key", "import flow", "build started"], "planned"
    )
    nodes = [{"name": node.name, "address": node.address} for node in NODES]
    assert [row["node"] for row in step("judge", check=True, nodes=nodes)["rows"]] == ["app1", "app2"]
    assert langflow.state.requests == []


def test_secrets_stay_out_of_what_is_shown(step: Callable[..., dict[str, Any]], session: dict[str, Any]) -> None:
    result = step("run", **session)
    assert session["api_key"] not in json.dumps(result)
    assert PASSWORD not in json.dumps(step("clean", username=USER, password=PASSWORD, **session))


# --- what follows from the identifier ---------------------------------------------------------------------------------


def test_inputs_are_new_in_every_run_and_place() -> None:
    seen = {smoke.words(run, label) for run in (RUN, smoke.new_run_id()) for label in ("run", "build-app1")}
    assert len(seen) == 4
    assert smoke.words(RUN, "run") == smoke.words(RUN, "run")
    assert smoke.file_content(RUN, "app1") != smoke.file_content(RUN, "app2")
    assert len(smoke.file_content(RUN, "app1")) == smoke.FILE_SIZE


@pytest.mark.parametrize("count", [5, 60])
def test_the_expected_output_is_that_of_the_flow(count: int) -> None:
    text = smoke.words(RUN, "run", count)
    assert smoke.expected_output(text) == answer_of_flow(text)


def test_a_recorded_answer() -> None:
    text = "nonce84912bcb tango alfa mike tango"
    assert smoke.expected_output(text) == "5 words, 35 characters: ALFA|MIKE|NONCE84912BCB|TANGO"


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (f"flowfleet-smoke-{RUN}", True),
        (f"flowfleet-smoke-{RUN}-app1", True),
        ("flowfleet-smoke-65000000-0123456789ab", True),
        ("flowfleet-smoke-66000001-0123456789ab", False),
        ("flowfleet-smoke-00000000-short", False),
        ("my flowfleet-smoke-65000000-0123456789ab", False),
        ("flowfleet-smoke", False),
        ("", False),
    ],
)
def test_only_ours_and_only_old_ones_are_removed(name: str, ours: bool) -> None:
    assert smoke.is_ours(name, RUN, float(0x66000002)) is ours


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_wrong_password_ends_the_run(step: Callable[..., dict[str, Any]], langflow: Langflow) -> None:
    result = step("sign_in", "import", username=USER, password=PASSWORD[1:], plan=PLAN)
    assert verdicts(result) == {"health": "ok", "version": "ok", "login": "FAILED"}
    assert "refused the password" in result["msg"]
    assert langflow.state.keys == {}


def test_a_wrong_answer_of_the_flow_is_seen(
    step: Callable[..., dict[str, Any]], session: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langflow_fake.answer_of_flow", lambda text: f"echo {text}")
    result = step("run", "stream", **session)
    assert verdicts(result) == {"run": "FAILED", "run streamed": "FAILED"}
    assert "answered 'echo w" in result["msg"]


def test_the_tasks_tier_runs_it(
    step: Callable[..., dict[str, Any]], session: dict[str, Any], langflow: Langflow
) -> None:
    result = step("task", **session)
    assert verdicts(result) == {"run as task": "ok"}
    ((request, _states),) = langflow.state.tasks.values()
    assert request["flow"] == session["flow_id"]
    assert request["session_id"].startswith("flowfleet-smoke-")


def test_a_task_that_fails_is_seen(
    step: Callable[..., dict[str, Any]], session: dict[str, Any], langflow: Langflow
) -> None:
    langflow.state.task_states = ["running", "failed"]
    assert "the task is failed" in step("task", **session)["msg"]


def test_a_task_with_another_result_is_seen(
    step: Callable[..., dict[str, Any]], session: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langflow_fake.answer_of_flow", lambda text: f"echo {text}")
    assert "not the computed one" in step("task", **session)["msg"]


def test_a_stream_that_comes_at_once_is_seen(
    step: Callable[..., dict[str, Any]], session: dict[str, Any], langflow: Langflow
) -> None:
    langflow.state.gap = 0.0
    result = step("stream", **session)
    assert verdicts(result) == {"run streamed": "FAILED"}
    assert "collects the stream" in result["msg"]
    assert langflow.asked(f"/api/v1/run/{session['flow_id']}") == smoke.STREAM_TRIES


@pytest.mark.parametrize(
    ("story", "words"),
    [
        (["user", "machine"], "stopped after 2 events, before its end"),
        ([], "stopped after 0 events"),
        (["user", "fault", "end"], "reported an error: .*component broke"),
    ],
)
def test_a_stream_without_a_good_end_is_seen(
    step: Callable[..., dict[str, Any]], session: dict[str, Any], langflow: Langflow, story: list[str], words: str
) -> None:
    langflow.state.stream = story
    job = step("build_start", node="app1", **session)["job_id"]
    streamed = step("stream", **session)
    followed = step("build_follow", node="app2", origin="app1", job_id=job, **session)
    for result in (streamed, followed):
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(result["msg"])


def test_a_build_without_output_is_seen(
    step: Callable[..., dict[str, Any]], session: dict[str, Any], langflow: Langflow
) -> None:
    job = step("build_start", node="app1", **session)["job_id"]
    langflow.state.stream = ["user", "end"]
    result = step("build_follow", node="app2", origin="app1", job_id=job, **session)
    assert "without the expected output" in result["msg"]


def test_nodes_that_share_nothing_are_seen(
    step: Callable[..., dict[str, Any]], session: dict[str, Any], langflow: Langflow
) -> None:
    made = step("build_start", "file_put", node="app1", **session)
    langflow.state.jobs.clear()
    langflow.state.files.clear()
    ids = {"job_id": made["job_id"], "file_id": made["file_id"]}
    result = step("build_follow", "file_get", node="app2", origin="app1", **ids, **session)
    assert verdicts(result) == {"build followed": "FAILED", "file read": "FAILED"}
    assert "Job not found" in result["msg"]
    assert "File not found" in result["msg"]


def test_other_bytes_are_seen(step: Callable[..., dict[str, Any]], session: dict[str, Any], langflow: Langflow) -> None:
    made = step("file_put", node="app1", **session)
    name, content = langflow.state.files[made["file_id"]]
    langflow.state.files[made["file_id"]] = (name, content[:-1] + b"?")
    result = step("file_get", node="app2", origin="app1", file_id=made["file_id"], **session)
    assert "not those uploaded through app1" in result["msg"]


def test_a_node_without_predecessor_says_so(step: Callable[..., dict[str, Any]], session: dict[str, Any]) -> None:
    result = step("build_follow", "file_get", node="app2", origin="app1", job_id="", file_id="", **session)
    assert "no build was started on app1" in result["msg"]
    assert "no file was uploaded through app1" in result["msg"]


def test_missing_options_are_named(step: Callable[..., dict[str, Any]]) -> None:
    assert "api_key, flow_id, run_id" in step("run")["msg"]
    assert "not one that the step sign_in returned" in step("spread", run_id="x")["msg"]


# --- cleaning ---------------------------------------------------------------------------------------------------------


def test_cleaning_removes_leftovers_of_dead_runs_and_nothing_else(
    step: Callable[..., dict[str, Any]], session: dict[str, Any], langflow: Langflow
) -> None:
    old, young = "flowfleet-smoke-65000000-0123456789ab", smoke.run_name(smoke.new_run_id(time.time() - 60))
    for number, name in enumerate((old, young, "mine")):
        identifier = f"00000000-0000-0000-0000-{number:012x}"
        langflow.state.flows[identifier] = {"id": identifier, "name": name}
        langflow.state.add_key(name)
    step("clean", username=USER, password=PASSWORD, **session)
    assert sorted(flow["name"] for flow in langflow.state.flows.values()) == sorted([young, "mine"])
    assert sorted(key["name"] for key in langflow.state.keys.values()) == sorted([young, "mine"])


def test_cleaning_logs_in_when_the_key_is_gone(
    step: Callable[..., dict[str, Any]], session: dict[str, Any], langflow: Langflow
) -> None:
    langflow.state.keys.clear()
    assert verdicts(step("clean", username=USER, password=PASSWORD, **session)) == {"clean up": "ok"}
    assert (langflow.state.flows, langflow.state.logins) == ({}, 2)


def test_cleaning_that_fails_is_a_failure(
    step: Callable[..., dict[str, Any]], session: dict[str, Any], langflow: Langflow
) -> None:
    langflow.state.faults[f"DELETE /api/v1/flows/{session['flow_id']}"] = (500, {"detail": "locked"}, {})
    result = step("clean", username=USER, password=PASSWORD, **session)
    assert verdicts(result) == {"clean up": "FAILED"}
    assert "HTTP 500 locked" in result["msg"]


# --- access logs ------------------------------------------------------------------------------------------------------


def entry(upstream: str, run: str = RUN, **more: Any) -> str:
    return json.dumps({"status": 200, "upstream_addr": upstream, "user_agent": smoke.user_agent(run), **more}) + "\n"


def test_requests_are_counted_per_node(tmp_path: Path) -> None:
    log = tmp_path / "access.json"
    log.write_text(
        entry("192.0.2.11:7860")
        + entry("192.0.2.12:7860", "66000000-ffffffffffff")
        + entry("192.0.2.11:7860, 192.0.2.12:7860")
        + entry("")
        + entry("192.0.2.99:7860")
        + '{"user_agent": "broken flowfleet-smoke/'
        + RUN
        + "\n"
        + json.dumps({"path": f"/{smoke.user_agent(RUN)}", "upstream_addr": "192.0.2.12:7860"})
        + "\n",
        encoding="utf-8",
    )
    with gzip.open(tmp_path / "access.json.1.gz", "wt") as handle:
        handle.write(entry("192.0.2.11:7860"))
    (tmp_path / "access.json.1").write_text(entry("192.0.2.12:7860"), encoding="utf-8")
    counts = smoke.count_served(str(log), smoke.user_agent(RUN), NODES)
    assert counts == {"app1": 2, "app2": 2, "192.0.2.99:7860": 1}


def test_a_log_that_is_written_late_is_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "access.json"
    log.touch()
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        log.write_text(entry("192.0.2.11:7860"), encoding="utf-8")

    assert smoke.wait_served(str(log), smoke.user_agent(RUN), NODES, 1, 10, sleep) == {"app1": 1}
    assert sleeps == [0.5]


def test_a_missing_log_is_named(step: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    nodes = [{"name": "app1", "address": "192.0.2.11"}]
    result = step("served", run_id=RUN, nodes=nodes, access_log=str(tmp_path / "none"))
    assert f"there is no access log {tmp_path}/none" in result["msg"]


def test_the_journal_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], 0, stdout=entry("192.0.2.11:7860").encode())
    monkeypatch.setattr(smoke.subprocess, "run", lambda *_arguments, **_options: answer)
    assert smoke.count_served("journal", smoke.user_agent(RUN), NODES) == {"app1": 1}


def test_a_node_that_never_served_fails(step: Callable[..., dict[str, Any]]) -> None:
    nodes = [{"name": node.name, "address": node.address} for node in NODES]
    good = step("judge", nodes=nodes, counts=[{"app1": 3}, {"app2": 1, "app1": 1}])
    assert [row["detail"] for row in good["rows"]] == ["4 requests of this run", "1 requests of this run"]
    bad = step("judge", nodes=nodes, counts=[{"app1": 3}])
    assert [row["verdict"] for row in bad["rows"]] == ["ok", "FAILED"]
    assert bad["failed"]


def test_addresses_are_compared_in_every_spelling() -> None:
    assert smoke.Node("a", "2001:db8::1", 7860).upstreams() == {"[2001:db8::1]:7860"}
    assert "127.0.0.1:7860" in smoke.Node("a", "localhost", 7860).upstreams()


# --- rows and table ---------------------------------------------------------------------------------------------------


def test_what_went_wrong_without_a_row_gets_one() -> None:
    loop = {
        "results": [
            {"rows": [], "unreachable": True, "msg": "no route", "ansible_loop_var": "__n", "__n": {"name": "app2"}},
            {"rows": [{"step": "x", "verdict": "ok"}], "ansible_loop_var": "__n", "__n": {"name": "app1"}},
            {"failed": True, "msg": "boom", "ansible_loop_var": "__n", "__n": {"name": "app3"}},
            {"skipped": True, "ansible_loop_var": "__n", "__n": {"name": "app4"}},
        ]
    }
    rows = smoke_rows([{}, loop, {"failed": True, "rows": [{"step": "y", "verdict": "FAILED"}]}])
    assert [(row["step"], row.get("node"), row["verdict"]) for row in rows] == [
        ("reach host", "app2", "FAILED"),
        ("x", None, "ok"),
        ("task", "app3", "FAILED"),
        ("y", None, "FAILED"),
    ]


def test_the_table_is_aligned() -> None:
    rows = [
        {"step": "run", "node": "front door", "ms": 1234, "verdict": "ok", "detail": "two\nlines"},
        {"step": "file read", "node": "a", "ms": 5, "verdict": "FAILED", "detail": ""},
    ]
    assert smoke_table(rows) == [
        "STEP       NODE          MS  VERDICT  DETAIL",
        "run        front door  1234  ok       two lines",
        "file read  a              5  FAILED",
    ]
