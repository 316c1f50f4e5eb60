# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Playbook gpu: whom it takes into the roll, in which hook a node boots, and what it leaves to the roll itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

try:  # ansible-core 2.19 and later: only text that says so is a template
    from ansible.template import trust_as_template
except ImportError:

    def trust_as_template(value: str) -> str:
        """Give the text back; before ansible-core 2.19 nothing is tagged."""
        return value


PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"
PLAYS: dict[str, dict[str, Any]] = {
    play["name"]: play for play in yaml.safe_load((PLAYBOOKS / "gpu.yml").read_text(encoding="utf-8"))
}
LANGFLOW, OTHERS = PLAYS["Plan the roll of Langflow nodes with GPUs"], PLAYS["Boot the other hosts, one by one"]


def value(text: str, **variables: Any) -> Any:
    return Templar(loader=DataLoader(), variables=variables).template(trust_as_template(text))


def fleet(**due: bool) -> dict[str, Any]:
    hosts = {name: {"inventory_hostname": name} for name in ("app1", "app2", "model1", "work1")}
    for name, answer in due.items():
        hosts[name]["gpu_due"] = answer  # type: ignore[assignment]
    return {"hostvars": hosts, "groups": {"all": list(hosts), "langflow": ["app1", "app2"], "celery": ["work1"]}}


def task(play: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [item for item in play["tasks"] if item["name"] == name]
    return dict(found)


@pytest.mark.parametrize(
    ("due", "langflow", "others"),
    [
        ({}, "!all", ["!all"]),
        ({"app1": False, "model1": False}, "!all", ["!all"]),
        ({"app2": True, "model1": False}, "langflow", ["!all"]),
        ({"app2": True, "model1": True, "work1": True}, "langflow", ["model1", "work1"]),
    ],
)
def test_only_hosts_that_are_due_are_booted(due: dict[str, bool], langflow: str, others: list[str]) -> None:
    assert value(LANGFLOW["hosts"], **fleet(**due)) == langflow
    assert value(OTHERS["hosts"], **fleet(**due)) == others


def test_the_roll_has_the_due_nodes_and_those_of_an_interrupted_run() -> None:
    fact = task(LANGFLOW, "Plan | Say who it is")
    nodes = value(fact["vars"]["__gpu_nodes"], **fleet(app2=True, app1=False))
    assert nodes == ["app2"]
    hosts = fact["ansible.builtin.set_fact"]["__roll_scope"]["hosts"]
    known = {"__roll_names": ["app1", "app2", "app3"], "__gpu_nodes": nodes, "__roll_run": {"order": ["app1", "app2"]}}
    assert value(hosts, **known, __roll_last={"status": "finished"}) == ["app2"]
    assert value(hosts, **known, __roll_last={"status": "running"}) == ["app1", "app2"]


def test_a_node_boots_after_the_operators_own_hook_when_it_is_drained() -> None:
    text = task(LANGFLOW, "Plan | Say who it is")["ansible.builtin.set_fact"]["__gpu_hooks"]
    own = {"before_node": ["mine.yml"], "after": ["later.yml"]}
    hooks = value(text, playbook_dir=str(PLAYBOOKS), langflow_rollout_hooks=own)
    assert hooks == {"before_node": ["mine.yml", str(PLAYBOOKS / "tasks/gpu_host.yml")], "after": ["later.yml"]}
    assert (PLAYBOOKS / "tasks/gpu_host.yml").is_file()
    # The roll drains before that hook, and afterwards restarts, proves and puts back.
    block = yaml.safe_load((PLAYBOOKS / "tasks/roll_node.yml").read_text(encoding="utf-8"))[0]["block"]
    order = [item["name"] for item in block]
    hook = order.index("Node | Run the hooks before_node")
    assert order.index("Node | Drain") < hook < order.index("Node | Restart it behind the health gate")


def test_a_node_that_booted_is_not_put_back_unproven() -> None:
    """Otherwise the roll would put a node back that failed after its boot, as one that was never touched."""
    tasks = yaml.safe_load((PLAYBOOKS / "tasks/gpu_host.yml").read_text(encoding="utf-8"))
    names = [item["name"] for item in tasks]
    marked = names.index("GPU host | Remember that it is no longer untouched")
    assert marked < names.index("GPU host | Boot")
    assert tasks[marked]["ansible.builtin.set_fact"] == {"__roll_touched": True}


def test_nothing_begins_while_another_roll_is_open() -> None:
    text = task(LANGFLOW, "Plan | Keep away from a roll that stopped or is not over")["ansible.builtin.assert"]["that"]

    def passes(**last: Any) -> bool:
        run = {"operation": last.pop("operation", "upgrade")}
        return all(value("{{ " + one + " }}", __roll_last=last, __roll_run=run) for one in text)

    assert passes(status="finished", breaker={"open": False})
    assert passes(status="running", operation="gpu", breaker={"open": False})
    assert not passes(status="running", breaker={"open": False})
    assert not passes(status="stopped", breaker={"open": True})
