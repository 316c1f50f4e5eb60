"""Why a node goes back after a planned pause, as roll_stop.yml and its tasks have it, in a play of local hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Program = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[3]
NODES = ["app1", "app2", "app3"]
INVENTORY = f"""
[loadbalancers]
lb1
[langflow]
app1
app2
app3
[postgresql]
data1
[all:vars]
ansible_connection=local
ansible_python_interpreter={sys.executable}
"""


def noted() -> str:
    """What is written beside a node that serves again."""
    (block,) = yaml.safe_load((ROOT / "playbooks/tasks/roll_stop_return.yml").read_text())
    (task,) = [task for task in block["block"] if "flowfleet.langflow.rollout_state" in task]
    reason: str = task["flowfleet.langflow.rollout_state"]["reason"]
    return reason


def reasons(folder: Path, program: Program, failed: dict[str, str]) -> dict[str, str]:
    """The reason that each node gets when some hosts have failed."""
    roll: dict[str, Any] = {
        "__rollout": {"run_id": "r1", "plan": {"order": NODES, "skipped": [], "serial": []}},
        "__roll_scope": {"action": "stop"},
    }
    plays = [
        {
            "name": "What happened before",
            "hosts": "all",
            "gather_facts": False,
            "tasks": [
                {"name": "Plan", "ansible.builtin.set_fact": roll, "when": "inventory_hostname in groups['langflow']"},
                {
                    "name": "Fail",
                    "ansible.builtin.set_fact": {"__roll_failed": "{{ failed[inventory_hostname] }}"},
                    "when": "inventory_hostname in failed",
                },
            ],
            "vars": {"failed": failed},
        },
        {
            "name": "Go back",
            "hosts": "langflow",
            "gather_facts": False,
            "vars_files": [str(ROOT / "playbooks/vars/roll.yml")],
            "tasks": [
                {
                    "name": "Note",
                    "ansible.builtin.copy": {
                        "content": "{{ {'reason': reason} | to_json }}",
                        "dest": f"{folder}/{{{{ inventory_hostname }}}}.json",
                        "mode": "0600",
                    },
                    "vars": {"reason": noted()},
                }
            ],
        },
    ]
    (folder / "inventory.ini").write_text(INVENTORY)
    (folder / "back.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    done = program(folder, "-i", "inventory.ini", "back.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    return {node: json.loads((folder / f"{node}.json").read_text())["reason"] for node in NODES}


@pytest.mark.parametrize("host", ["app2", "data1", "lb1"])
def test_every_node_says_what_went_wrong_elsewhere(tmp_path: Path, ansible_playbook: Program, host: str) -> None:
    """The first of them to be noted opens the breaker, and which one that is, nobody knows before."""
    found = reasons(tmp_path, ansible_playbook, {host: "Migrate | Stop here: no."})
    assert found == {
        node: "Migrate | Stop here: no." if node == host else f"{host}: Migrate | Stop here: no." for node in NODES
    }


def test_a_lost_node_is_named_as_such(tmp_path: Path, ansible_playbook: Program) -> None:
    assert set(reasons(tmp_path, ansible_playbook, {}).values()) == {"a node or the database host was lost"}
