# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Split hosts into the batches that a play with C(serial) would make."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_batches
short_description: Split hosts into the batches that a play with serial would make
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Computes batches as Ansible's C(serial) does. A percentage is of all hosts, rounded down, one host at least.
    The last item repeats until no host is left. 0 stands for all that are left.
  - Show with it what a roll will do, before it does anything.
positional: spec
options:
  _input:
    description: Names of hosts, in the order of the play.
    type: list
    elements: str
    required: true
  spec:
    description: Sizes of the batches, as numbers and percentages.
    type: list
    elements: raw
    required: true
seealso:
  - plugin: flowfleet.langflow.rollout_state
    plugin_type: module
"""

EXAMPLES = r"""
- name: Show the batches of a rolling restart
  ansible.builtin.debug:
    msg: "{{ ['app1', 'app2', 'app3', 'app4'] | flowfleet.langflow.rollout_batches([1, '25%', '100%']) }}"
  # -> [["app1"], ["app2"], ["app3", "app4"]]
"""

RETURN = r"""
_value:
  description: The batches, each a list of host names.
  type: list
  elements: list
"""

from collections.abc import Callable, Iterable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.module_utils import _rollout


def rollout_batches(hosts: Iterable[str], spec: Any) -> list[list[str]]:
    """The batches of I(hosts)."""
    if isinstance(hosts, (str, bytes)) or not isinstance(hosts, Iterable):
        raise AnsibleFilterError(f"rollout_batches: expected a list of host names, got {type(hosts).__name__}")
    try:
        return _rollout.rollout_batches(hosts, spec)
    except ValueError as exc:
        raise AnsibleFilterError(f"rollout_batches: {exc}") from exc


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name them for the template engine."""
        return {"rollout_batches": rollout_batches}
