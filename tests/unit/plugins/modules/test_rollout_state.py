# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules C(rollout_state) and C(rollout_state_info) as a play sees them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.modules import rollout_state, rollout_state_info

Step = Callable[..., dict[str, Any]]
Info = Callable[[], dict[str, Any]]
PLAN = {"state": "plan", "digest": "r1", "hosts": ["a", "b"], "batches": [1], "minimum": 1, "who": "me"}


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "deep" / "rollout.json"


@pytest.fixture
def step(run_module: Any, path: pathlib.Path) -> Step:
    """Call the module with the file of this test."""

    def call(arguments: dict[str, Any], **options: Any) -> dict[str, Any]:
        result: dict[str, Any] = run_module(rollout_state, {"path": str(path), **arguments}, **options)
        return result

    return call


@pytest.fixture
def info(run_module: Any, path: pathlib.Path) -> Info:
    """Read the file of this test."""
    return lambda: run_module(rollout_state_info, {"path": str(path)})


def test_a_roll_from_plan_to_end(step: Step, info: Info, path: pathlib.Path) -> None:
    assert (info()["status"], info()["changed"]) == ("none", False)
    assert not path.parent.exists()
    planned = step(PLAN, diff=True)
    assert planned["changed"]
    assert '"revision": 0' in planned["diff"]["before"]
    assert path.stat().st_mode & 0o777 == 0o600
    run = {"run_id": planned["run_id"]}
    for host in "ab":
        begun = step({"state": "begin_batch", "hosts": [host], "healthy": ["a", "b"], **run})
        assert (begun["changed"], begun["serving_during"]) == (True, 1)
        for phase in ("drain", "stop", "start", "gate", "enabled"):
            assert step({"state": "record", "host": host, "phase": phase, **run})["phases"][host] == phase
        assert not step({"state": "record", "host": host, "phase": "enabled", **run})["changed"]
    done = step({"state": "finish", **run})
    assert (done["changed"], done["status"], done["remaining"]) == (True, "finished", [])
    assert not step({"state": "finish", **run})["changed"]
    assert info()["content"]["history"][0]["hosts"] == {"a": "enabled", "b": "enabled"}


def test_check_mode_shows_the_plan_and_keeps_nothing(step: Step, path: pathlib.Path) -> None:
    planned = step(PLAN, check=True)
    assert planned["changed"]
    assert planned["run_id"] == "check"
    assert planned["plan"] == {
        "order": ["a", "b"],
        "batches": [
            {"number": 1, "hosts": ["a"], "serving_before": 2, "serving_during": 1},
            {"number": 2, "hosts": ["b"], "serving_before": 2, "serving_during": 1},
        ],
        "serial": [1, 1],
        "skipped": [],
        "interrupted": {},
        "broken": {},
        "resumed": False,
        "estimated_seconds": None,
        "estimated_batches": [None, None],
        "estimated_phases": {},
        "taken_up": None,
        "attempts": [],
        "now": planned["plan"]["now"],
    }
    run = {"run_id": "check"}
    later = [
        {"state": "begin_batch", "hosts": ["a"], "healthy": ["a", "b"], "minimum": 1, **run},
        {"state": "record", "host": "a", "phase": "drain", **run},
        {"state": "finish", **run},
    ]
    for arguments in later:
        assert not step(arguments, check=True).get("failed")
    assert step({**later[0], "minimum": 2}, check=True)["failed"]
    assert "plan it first" in step(later[2])["msg"]
    assert not path.exists()


def test_breaker(step: Step, path: pathlib.Path) -> None:
    assert step({"state": "open", "reason": "an alert", "host": "a"})["breaker"]["open"]
    assert not step({"state": "open", "reason": "another"})["changed"]
    refused = step(PLAN)
    assert "an alert" in refused["msg"]
    assert "-e rollout_reset=true" in refused["msg"]
    assert refused["breaker"]["host"] == "a"
    assert step({"state": "reset"}, check=True)["changed"]
    assert step({"state": "reset", "reason": "fixed"})["breaker"] == {"open": False}
    assert not step({"state": "reset"})["changed"]
    assert step(PLAN)["changed"]


def test_corrupt_file(step: Step, info: Info, path: pathlib.Path) -> None:
    path.parent.mkdir()
    path.write_text("{oops", encoding="utf-8")
    for result in (step(PLAN), step({"state": "open", "reason": "x"}), info()):
        message = result["msg"]
        assert message.startswith(f"{path} cannot be understood: it is not JSON")
        assert "-e rollout_reset=true" in message
    assert path.read_text(encoding="utf-8") == "{oops"
    assert step({"state": "reset"}, check=True)["changed"]
    assert path.read_text(encoding="utf-8") == "{oops"
    kept = step({"state": "reset"})
    assert kept["changed"]
    assert pathlib.Path(kept["set_aside"]).read_text(encoding="utf-8") == "{oops"
    assert not step({"state": "reset"})["changed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"state": "plan", "hosts": ["a"]}, "digest"),
        ({**PLAN, "batches": ["many"]}, "'many'"),
        ({**PLAN, "hosts": []}, "at least one host"),
        ({**PLAN, "minimum": 2}, "cannot be taken out"),
        ({"state": "begin_batch", "run_id": "x", "hosts": ["a"]}, "healthy"),
        ({"state": "record", "run_id": "x", "host": "a"}, "phase"),
        ({"state": "open"}, "reason"),
    ],
)
def test_messages(step: Step, path: pathlib.Path, arguments: dict[str, Any], message: str) -> None:
    result = step(arguments)
    assert result["failed"]
    assert message in result["msg"]
    assert not path.exists()


def test_unwritable_place(step: Step, info: Info, tmp_path: pathlib.Path) -> None:
    (tmp_path / "deep").write_text("", encoding="utf-8")
    assert "cannot keep" in step(PLAN)["msg"]
    assert "cannot read" in info()["msg"]


def test_play_takes_order_and_batches_from_the_plan(play: Any, path: pathlib.Path) -> None:
    """A killed run is resumed by a play, the interrupted host first."""
    task = {"path": str(path), "hosts": ["a", "b", "c"], "digest": "r1", "batches": [1, "100%"], "state": "plan"}
    run = play(
        [
            {"flowfleet.langflow.rollout_state": task, "register": "first"},
            {
                "flowfleet.langflow.rollout_state": {
                    "path": str(path),
                    "state": "begin_batch",
                    "run_id": "{{ first.run_id }}",
                    "hosts": "{{ first.plan.batches[0].hosts }}",
                    "healthy": ["a", "b", "c"],
                }
            },
            {"flowfleet.langflow.rollout_state": {**task, "hosts": ["c", "b", "a"]}, "register": "second"},
            {
                "ansible.builtin.assert": {
                    "that": ["second.plan.order == ['a', 'c', 'b']", "second.plan.serial == [1, 2]"]
                }
            },
        ]
    )
    assert run.returncode == 0, run.stdout
    assert json.loads(path.read_text(encoding="utf-8"))["run"]["attempt"] == 2
