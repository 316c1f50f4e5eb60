# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Turn the hosts of a fleet into the jobs and targets that Prometheus asks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: scrape_targets
short_description: Turn hosts into the jobs and targets that Prometheus asks
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - A job for each module that any host shows, in the order of the hosts, with the hosts that show it.
  - What a host shows stands in O(_input), more of its own in its variable C(exporters_modules_extra). No list
    has to be kept.
positional: hostvars, groups
options:
  _input:
    description: Names of modules for each host, as P(flowfleet.langflow.exporter_modules#filter) gives them.
    type: dict
    required: true
  hostvars:
    description: The variable of the same name.
    type: dict
    required: true
  groups:
    description: The groups that a host may mainly be of, in this order, each with its hosts.
    type: dict
    required: true
seealso:
  - plugin: flowfleet.langflow.exporter_modules
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Ask all hosts
  ansible.builtin.set_fact:
    targets: "{{ {'data1': ['node']} | flowfleet.langflow.scrape_targets(hostvars, {'postgresql': ['data1']}) }}"
  # -> [{"job": "node", "targets": [{"address": "192.0.2.21", "instance": "data1", "role": "postgresql"}]}]
"""

RETURN = r"""
_value:
  description: One entry for each job.
  type: list
  elements: dict
  contains:
    job:
      description: Name of the module.
      type: str
    targets:
      description: The hosts that show it, each with C(address), C(instance) and C(role).
      type: list
      elements: dict
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.filter.endpoints import endpoints


def scrape_targets(
    modules: Mapping[str, Iterable[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """Jobs with their targets."""
    jobs: dict[str, list[dict[str, str]]] = {}
    for host in endpoints(list(modules), hostvars):
        name = host["name"]
        extra = hostvars[name].get("exporters_modules_extra") or {}
        if not isinstance(extra, Mapping):
            raise AnsibleFilterError(f"scrape_targets: exporters_modules_extra of host {name} is not a dictionary")
        role = next((group for group, members in groups.items() if name in members), "other")
        target = {"address": host["address"], "instance": name, "role": role}
        for module in dict.fromkeys([*map(str, modules[name]), *map(str, extra)]):
            jobs.setdefault(module, []).append(target)
    return [{"job": job, "targets": targets} for job, targets in jobs.items()]


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name them for the template engine."""
        return {"scrape_targets": scrape_targets}
