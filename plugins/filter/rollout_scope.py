# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Say which nodes a rolling change has to do with, and by which way."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_scope
short_description: Say which nodes a rolling change has to do with, and by which way
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Puts together what every node says about itself (fact C(langflow_state) of role
    P(flowfleet.langflow.langflow#role)), the list of version edges, and the last roll that
    M(flowfleet.langflow.rollout_state) has kept.
  - An unfinished roll for the same thing is taken up, with all nodes that it had to do with.
options:
  _input:
    description: Names of all nodes, in order.
    type: list
    elements: str
    required: true
  verb:
    description: What is done.
    type: str
    choices: [restart, upgrade, rollback, site]
    required: true
  version:
    description: Version of Langflow that is wanted.
    type: str
    required: true
  states:
    description: C(langflow_state) of each node, by its name.
    type: dict
    required: true
  run:
    description: C(content.run) as M(flowfleet.langflow.rollout_state_info) returns it.
    type: dict
  edges:
    description: The version edges, as for P(flowfleet.langflow.version_edge#filter).
    type: list
    elements: dict
    default: []
  only:
    description: For V(rollback), the nodes to go back. If not given, all that can.
    type: list
    elements: str
  roll_id:
    description: Names the roll, instead of what the nodes shall run.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show what an upgrade would do
  ansible.builtin.debug:
    msg: "{{ ['app1', 'app2'] | flowfleet.langflow.rollout_scope(verb='upgrade', version='1.12.8', states=states) }}"
"""

RETURN = r"""
_value:
  description: What to do.
  type: dict
  contains:
    verb:
      description: What is done.
      type: str
    operation:
      description:
        - The same as M(flowfleet.langflow.rollout_state) keeps it. V(planned_stop) for an upgrade with a pause.
      type: str
    hosts:
      description: Nodes of the roll, in order.
      type: list
      elements: str
    action:
      description: V(rolling), V(stop) or V(refuse).
      type: str
    reason:
      description: Why this way.
      type: str
    from:
      description: Versions that run now.
      type: list
      elements: str
    to:
      description: Versions that will run.
      type: list
      elements: str
    digest:
      description: Names what the nodes shall run, for M(flowfleet.langflow.rollout_state).
      type: str
    why:
      description: For each node that has to change, the reasons.
      type: dict
    refused:
      description: Why nothing may be done. Empty if it may.
      type: str
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.module_utils import _rollout_scope, _version_edges


def rollout_scope(
    names: Sequence[str], verb: str, version: str, states: Mapping[str, Any], **options: Any
) -> dict[str, Any]:
    """The scope as plain data."""
    if verb not in _rollout_scope.VERBS:
        raise AnsibleFilterError(f"rollout_scope: verb is one of {', '.join(_rollout_scope.VERBS)}, not {verb!r}")
    try:
        scope = _rollout_scope.rollout_scope(
            [str(name) for name in names],
            verb=verb,
            version=str(version),
            states=states,
            run=options.pop("run", None) or None,
            **options,
        )
    except (_version_edges.EdgeError, TypeError) as exc:
        raise AnsibleFilterError(f"rollout_scope: {exc}") from exc
    return scope.plain()


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name them for the template engine."""
        return {"rollout_scope": rollout_scope}
