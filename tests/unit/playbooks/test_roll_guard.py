"""The first tasks of each batch, as roll_nodes.yml has them, in a play that loses a host."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

Program = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[3]
INVENTORY = """
[langflow]
one ansible_connection=local
lost ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1 ansible_ssh_common_args="-o ConnectTimeout=5"
three ansible_connection=local
four ansible_connection=local
"""


def first_tasks() -> list[dict[str, Any]]:
    """Of the play that rolls, what comes before anything is asked or done."""
    plays = yaml.safe_load((ROOT / "playbooks/roll_nodes.yml").read_text())
    tasks: list[dict[str, Any]] = plays[0]["tasks"]
    return tasks[:1]


def roll(folder: Path, program: Program, tasks: list[dict[str, Any]]) -> tuple[int, list[str], str]:
    """Status, the hosts that were touched in order, and the output of a play with some tasks in front."""
    touched = folder / "touched"
    plays = yaml.safe_load((ROOT / "playbooks/roll_nodes.yml").read_text())
    play = {
        "name": "Roll",
        "hosts": "langflow",
        "gather_facts": False,
        "serial": [2, 1, 1],
        "max_fail_percentage": plays[0]["max_fail_percentage"],
        "vars": {
            "ansible_python_interpreter": sys.executable,
            "__roll_lost": plays[0]["vars"]["__roll_lost"],
            "__roll_reason": "no figures here",
            "__roll_observe": 0,
            "__roll_keeper": "localhost",
            "__roll_balancers": [],
            "langflow_fleet_app_hosts": [],
        },
        "tasks": [
            *tasks,
            {"name": "Reach", "ansible.builtin.ping": {}},
            {
                "name": "Touch",
                "ansible.builtin.lineinfile": {
                    "path": str(touched),
                    "create": True,
                    "mode": "0600",
                    "line": "{{ inventory_hostname }}",
                },
            },
        ],
    }
    (folder / "inventory.ini").write_text(INVENTORY)
    (folder / "roll.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    shutil.copytree(ROOT / "playbooks/tasks", folder / "tasks")
    done = program(folder, "-i", "inventory.ini", "roll.yml")
    return done.returncode, touched.read_text().split(), done.stdout + done.stderr


def test_no_batch_follows_one_that_lost_a_host(tmp_path: Path, ansible_playbook: Program) -> None:
    status, touched, output = roll(tmp_path, ansible_playbook, first_tasks())
    assert status != 0
    assert touched == ["one"], output
    assert "Lost: lost. No further node is touched." in output
    assert "Report | Count what clients got" in output


def test_without_the_guard_the_next_batches_would_follow(tmp_path: Path, ansible_playbook: Program) -> None:
    _status, touched, output = roll(tmp_path, ansible_playbook, [])
    assert touched == ["one", "three", "four"], output
