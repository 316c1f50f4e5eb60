# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge inventories through Ansible's own inventory, variable precedence and templating, many in one process.

Reads ``{name: {"inventory": path, "states": {...}, "ansible_version": ..., "operation": ...}}`` as JSON from standard
input and writes ``{name: [{"subject", "message", "line"}, ...]}``. A process of its own, because it needs Ansible's
collection loader.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[3]


@functools.cache
def role_file(path: str) -> Any:
    """Read a file of a role once for all inventories."""
    return DataLoader().load_from_file(path)


def playbook_arguments() -> tuple[dict[str, list[str]], list[str]]:
    """Take the roles of each tier from the playbook itself."""
    play = yaml.safe_load((ROOT / "playbooks/preflight.yml").read_text(encoding="utf-8"))[0]
    return play["vars"]["__preflight_tiers"], play["vars"]["__preflight_every_host"]


def judge(
    inventory_path: str,
    states: Mapping[str, Mapping[str, Any]] | None = None,
    ansible_version: str | None = None,
    operation: str | None = None,
) -> list[dict[str, str]]:
    """Judge an inventory or, with `states`, the hosts as they were measured."""
    from ansible_collections.flowfleet.langflow.plugins.action.preflight import build_fleet
    from ansible_collections.flowfleet.langflow.plugins.module_utils import _preflight as rules
    from ansible_collections.flowfleet.langflow.plugins.module_utils._preflight_data import data_problems

    loader = DataLoader()
    loader.set_basedir(str(ROOT / "playbooks"))
    inventory = InventoryManager(loader=loader, sources=[inventory_path])
    variables = VariableManager(loader=loader, inventory=inventory)
    for name, state in (states or {}).items():
        variables.set_host_facts(name, state["facts"])
        variables.set_nonpersistent_facts(name, {"__preflight_host": {"state": state["state"]}})
        if "data" in state:
            variables.set_nonpersistent_facts(name, {"__preflight_data": {"state": state["data"]}})
    groups = inventory.get_groups_dict()
    tier_roles, every_host = playbook_arguments()
    fleet, problems, measured = build_fleet(
        {tier: list(groups.get(tier, ())) for tier in rules.TIERS},
        tier_roles,
        every_host,
        HostVars(inventory=inventory, variable_manager=variables, loader=loader),
        role_file,
        Templar(loader=loader, variables={}),
        lambda path: os.path.join(ROOT, path),
        operation=operation or rules.SITE,
    )
    if ansible_version:
        fleet.ansible_version = ansible_version
    found = [*rules.fleet_problems(fleet), *data_problems(fleet), *rules.host_problems(fleet, measured)]
    problems = rules.merged([*problems, *found])
    return [
        {"subject": item.subject, "message": item.message, "fix": item.fix, "line": item.line()} for item in problems
    ]


if __name__ == "__main__":
    init_plugin_loader()
    jobs = json.load(sys.stdin)
    json.dump(
        {
            name: judge(job["inventory"], job.get("states"), job.get("ansible_version"), job.get("operation"))
            for name, job in jobs.items()
        },
        sys.stdout,
    )
