# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Turn the members of a group into the host list that roles take."""

from __future__ import annotations

DOCUMENTATION = r"""
name: endpoints
short_description: Turn host names into a list of names and addresses
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Roles of this collection never look at groups. A playbook turns a group into a list of hosts once, with this filter.
  - The address of a host is the first of C(langflow_fleet_address), C(ansible_host) and its inventory name that is set.
positional: hostvars
options:
  _input:
    description: Names of hosts, usually C(groups['name'] | default([])).
    type: list
    elements: str
    required: true
  hostvars:
    description: The variable of the same name.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Give the role its database hosts
  ansible.builtin.set_fact:
    database_hosts: "{{ groups['postgresql'] | default([]) | flowfleet.langflow.endpoints(hostvars) }}"
  # -> [{"name": "data1", "address": "192.0.2.21"}]
"""

RETURN = r"""
_value:
  description: One entry for each name, in the order given.
  type: list
  elements: dict
  contains:
    name:
      description: Name of the host in the inventory.
      type: str
    address:
      description: Where other hosts reach it.
      type: str
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

ADDRESS_VARIABLES = ("langflow_fleet_address", "ansible_host")


def _address(name: str, variables: Mapping[str, Any]) -> str:
    for variable in ADDRESS_VARIABLES:
        try:
            value = variables[variable]
        except KeyError:
            continue
        if value is None or str(value).strip() == "":
            continue
        if not isinstance(value, str):
            raise AnsibleFilterError(f"endpoints: {variable} of host {name} is not text: {value!r}")
        return str(value).strip()
    return name


def endpoints(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Name and address of each host in I(names)."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise AnsibleFilterError(f"endpoints: expected a list of host names, got {type(names).__name__}")
    if not isinstance(hostvars, Mapping):
        raise AnsibleFilterError("endpoints: the argument is the variable hostvars itself, endpoints(hostvars)")
    result = []
    for name in names:
        if name not in hostvars:
            raise AnsibleFilterError(f"endpoints: host {name} is not in the inventory")
        result.append({"name": str(name), "address": _address(str(name), hostvars[name])})
    return result


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name them for the template engine."""
        return {"endpoints": endpoints}
