# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which nodes a roll has to do with, and by which way."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.filter.rollout_scope import FilterModule

rollout_scope = FilterModule().filters()["rollout_scope"]

NAMES = ["app1", "app2", "app3"]
EDGES = [
    {"from": "1.12.7", "to": "1.12.8", "action": "rolling", "reason": "One schema."},
    {"from": "1.12.*", "to": "1.13.0", "action": "stop", "reason": "Another schema."},
]


def state(version: str = "1.12.7", target: str = "1.12.8", **changes: Any) -> dict[str, Any]:
    """What a node says that runs one version and shall run another."""
    heads = {"1.12.7": "a", "1.12.8": "a", "1.13.0": "b"}
    return {
        "running": True,
        "release": {"id": f"{version}-x", "version": version, "schema_head": heads[version]} if version else {},
        "target": {"id": f"{target}-x", "version": target, "schema_head": heads[target], "installed": True},
        "stale": [f"release {version}-x -> {target}-x"] if version != target else [],
        "revertible": {},
        **changes,
    }


def kept(operation: str, digest: str, status: str = "running", **phases: str) -> dict[str, Any]:
    """A roll as rollout_state keeps it."""
    return {
        "id": "r1",
        "operation": operation,
        "digest": digest,
        "status": status,
        "order": list(phases),
        "hosts": {name: {"phase": phase} for name, phase in phases.items()},
    }


def scope(verb: str, states: dict[str, Any], **options: Any) -> dict[str, Any]:
    version = options.pop("version", "1.12.8")
    return dict(rollout_scope(NAMES, verb=verb, version=version, states=states, edges=EDGES, **options))


def all_at(*versions: str, target: str = "1.12.8") -> dict[str, Any]:
    return {name: state(version, target) for name, version in zip(NAMES, versions, strict=True)}


@pytest.mark.parametrize(
    ("verb", "states", "hosts", "action"),
    [
        ("restart", {}, NAMES, "rolling"),
        ("upgrade", all_at("1.12.7", "1.12.7", "1.12.7"), NAMES, "rolling"),
        ("upgrade", all_at("1.12.8", "1.12.7", "1.12.8"), ["app2"], "rolling"),
        ("upgrade", all_at("1.12.8", "1.12.8", "1.12.8"), [], "rolling"),
        ("site", all_at("1.12.8", "1.12.8", "1.12.8"), [], "rolling"),
    ],
)
def test_hosts_and_way(verb: str, states: dict[str, Any], hosts: list[str], action: str) -> None:
    found = scope(verb, states)
    assert (found["hosts"], found["action"], found["refused"]) == (hosts, action, "")


def test_an_upgrade_starts_what_is_down_and_site_leaves_it_to_its_own_plays() -> None:
    states = all_at("1.12.8", "1.12.8", "1.12.8")
    states["app2"]["running"] = False
    assert scope("upgrade", states)["hosts"] == ["app2"]
    states["app2"]["stale"] = ["a file differs"]
    assert scope("site", states)["hosts"] == []


def test_a_pause_takes_every_node_along() -> None:
    found = scope("upgrade", all_at("1.12.8", "1.13.0", "1.12.8", target="1.13.0"), version="1.13.0")
    assert found["hosts"] == NAMES
    assert (found["action"], found["operation"], found["reason"]) == ("stop", "planned_stop", "Another schema.")


def test_unknown_step_is_refused() -> None:
    found = scope("upgrade", all_at("1.13.0", "1.13.0", "1.13.0"))
    assert found["action"] == "refuse"
    assert "from 1.13.0 to 1.12.8" in found["refused"]


def test_a_rolling_step_between_two_schemas_is_refused() -> None:
    states = all_at("1.12.7", "1.12.7", "1.12.7")
    states["app1"]["target"]["schema_head"] = "c"
    assert "different schemas (a, c)" in scope("upgrade", states)["refused"]


def test_an_interrupted_pause_stays_one_even_when_every_node_was_flipped() -> None:
    states = all_at("1.13.0", "1.13.0", "1.13.0", target="1.13.0")
    run = kept("planned_stop", "1.13.0-x", app1="start", app2="gate", app3="enabled")
    found = scope("upgrade", states, version="1.13.0", run=run)
    assert (found["hosts"], found["operation"], found["digest"]) == (NAMES, "planned_stop", "1.13.0-x")


@pytest.mark.parametrize("status", ["running", "stopped", "given_up"])
def test_an_unfinished_roll_takes_its_nodes_along(status: str) -> None:
    run = kept("site", "1.12.8-x", status, app1="enabled", app2="gate", app3="pending")
    found = scope("site", all_at("1.12.8", "1.12.8", "1.12.8"), run=run)
    assert (found["hosts"], found["digest"], found["refused"]) == (NAMES, "1.12.8-x", "")


@pytest.mark.parametrize(
    "run",
    [
        kept("site", "1.12.8-x", "finished", app1="enabled"),
        kept("upgrade", "1.12.8-x", app1="gate"),
        kept("site", "1.12.7-x", app1="gate"),
    ],
)
def test_another_roll_takes_nobody_along(run: dict[str, Any]) -> None:
    assert scope("site", all_at("1.12.8", "1.12.8", "1.12.8"), run=run)["hosts"] == []


def test_settings_that_changed_since_an_interrupted_roll() -> None:
    states = all_at("1.12.8", "1.12.8", "1.12.8")
    states["app1"]["stale"] = ["langflow.env differs"]
    phases = {"app1": "enabled", "app2": "rolled_back", "app3": "pending"}
    assert "app1" in scope("site", states, run=kept("site", "1.12.8-x", **phases))["refused"]
    found = scope("site", states, run=kept("site", "1.12.8-x", "given_up", **phases))
    assert found["hosts"] == NAMES
    assert found["digest"] == "1.12.8-x after r1", "a node that is done has to go once more, so it is another roll"
    # And that other roll is taken up in turn.
    states["app1"]["stale"] = []
    run = kept("site", "1.12.8-x after r1", app1="enabled", app2="gate", app3="pending")
    assert scope("site", states, run=run)["digest"] == "1.12.8-x after r1"


def test_rollback_takes_the_nodes_that_have_a_way_back() -> None:
    back = {"status": "settled", "release": "1.12.7-x", "version": "1.12.7", "installed": True}
    states = all_at("1.12.8", "1.12.8", "1.12.8")
    states["app1"]["revertible"] = back
    states["app2"]["revertible"] = {**back, "status": "restored"}
    found = scope("rollback", states)
    assert (found["hosts"], found["to"], found["refused"]) == (["app1"], ["1.12.7"], "")
    assert found["why"] == {"app1": ["release 1.12.8-x -> 1.12.7-x"]}
    assert scope("rollback", states, only=["app2"])["hosts"] == []
    assert "app9" in scope("rollback", states, only=["app9"])["refused"]
    states["app1"]["revertible"] = {**back, "installed": False}
    assert "not installed any more on app1" in scope("rollback", states)["refused"]
    states["app1"]["revertible"] = {"status": "damaged", "reason": "the copy was changed"}
    assert "the copy was changed" in scope("rollback", states)["refused"]


def test_rollback_resumes_although_a_node_that_is_done_has_no_way_back_any_more() -> None:
    run = kept("rollback", "back to 1.12.7-x", app1="enabled", app2="gate")
    found = scope("rollback", all_at("1.12.8", "1.12.8", "1.12.8"), run=run)
    assert (found["hosts"], found["digest"]) == (["app1", "app2"], "back to 1.12.7-x")


def test_rollout_id_names_the_roll() -> None:
    assert scope("restart", {}, roll_id="monday")["digest"] == "monday"


def test_unknown_verb() -> None:
    with pytest.raises(AnsibleFilterError, match="verb is one of restart, upgrade, rollback, site"):
        scope("scale", {})
