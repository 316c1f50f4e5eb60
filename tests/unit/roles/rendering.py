# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Templates, variables and preflight checks of a role, evaluated as Ansible would, without a play or a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar

try:  # ansible-core 2.19 and later: only text that says so is a template
    from ansible.template import trust_as_template
except ImportError:

    def trust_as_template(value: str) -> str:
        """Give the text back; before ansible-core 2.19 nothing is tagged."""
        return value


ROLES = Path(__file__).resolve().parents[3] / "roles"
loaded: list[bool] = []


def trusted(value: Any) -> Any:
    """Let every text inside a value be a template."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return value


class Role:
    """One role with the variables of a host."""

    def __init__(self, name: str, facts: dict[str, Any], **given: Any) -> None:
        if not loaded:
            init_plugin_loader()
            loaded.append(True)
        self.path = ROLES / name
        variables: dict[str, Any] = {
            "ansible_managed": "Ansible managed",
            "inventory_hostname": "data1",
            "role_path": str(self.path),
        }
        files = [
            self.path / "defaults/main.yml",
            self.path / "vars/main.yml",
            *sorted(self.path.glob("vars/main/*.yml")),
        ]
        for file in filter(Path.exists, files):
            variables.update(trusted(yaml.safe_load(file.read_text(encoding="utf-8"))))
        variables.update({"ansible_facts": facts, "ansible_check_mode": False}, **given)
        self.variables = variables

    def value(self, text: str, **extra: Any) -> Any:
        """Evaluate a template."""
        variables = {**self.variables, **{key: trusted(item) for key, item in extra.items()}}
        return Templar(loader=DataLoader(), variables=variables).template(trust_as_template(text))

    def file(self, template: str, **extra: Any) -> str:
        """Render a template file as it would be written (trailing whitespace of blocks removed, as Ansible does)."""
        text = (self.path / "templates" / template).read_text(encoding="utf-8")
        header = "#jinja2: trim_blocks: True\n"
        return str(self.value(header + text, **extra))

    def refusals(self, tasks: str = "preflight.yml") -> list[str]:
        """Run the role's assertions; returns the messages of those that fail."""
        found = []
        for task in yaml.safe_load((self.path / "tasks" / tasks).read_text(encoding="utf-8")):
            arguments = task["ansible.builtin.assert"]
            extra = task.get("vars", {})
            conditions = arguments["that"] if isinstance(arguments["that"], list) else [arguments["that"]]
            if not all(self.value("{{ (" + str(condition) + ") | bool }}", **extra) for condition in conditions):
                found.append(str(self.value(arguments["fail_msg"], **extra)))
        return found
