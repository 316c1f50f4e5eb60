# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Say what going from one Langflow release to another needs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: version_edge
short_description: Say what going from one Langflow release to another needs
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Looks a step between two releases up in a list of version edges; the first edge whose patterns fit counts.
  - Two equal versions are a V(rolling) step. A step that no edge describes is refused, with a reason that says so.
  - Role P(flowfleet.langflow.langflow#role) carries the list in C(vars/version_edges.yml), under the name
    C(__langflow_version_edges).
positional: old, new
options:
  _input:
    description: Edges, each with the texts C(from), C(to) (patterns as in a shell), C(action) and C(reason).
    type: list
    elements: dict
    required: true
  old:
    description: Version that runs now.
    type: str
    required: true
  new:
    description: Version that is wanted.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse a step that nobody has tested
  ansible.builtin.assert:
    that: step.action != 'refuse'
    fail_msg: "From {{ step.from }} to {{ step.to }}: {{ step.reason }}"
  vars:
    step: "{{ __langflow_version_edges | flowfleet.langflow.version_edge('1.12.7', langflow_version) }}"
"""

RETURN = r"""
_value:
  description: The step.
  type: dict
  contains:
    from:
      description: The version that runs now.
      type: str
    to:
      description: The version that is wanted.
      type: str
    action:
      description:
        - V(rolling), one node after the other, because both releases work on one schema.
        - V(stop), all nodes of the old release stop before the schema changes.
        - V(refuse), never.
      type: str
    reason:
      description: Why.
      type: str
    known:
      description: Whether the list describes this step. False comes with V(refuse) only.
      type: bool
  sample: {from: 1.12.7, to: 1.12.8, action: rolling, reason: One schema., known: true}
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.module_utils import _version_edges


def version_edge(edges: Iterable[Mapping[str, str]], old: str, new: str) -> dict[str, Any]:
    """The step from I(old) to I(new)."""
    if isinstance(edges, (str, bytes, Mapping)) or not isinstance(edges, Iterable):
        raise AnsibleFilterError(f"version_edge: expected a list of edges, got {type(edges).__name__}")
    for version in (old, new):
        if not isinstance(version, str):
            raise AnsibleFilterError(f"version_edge: a version is a text, put {version!r} into quotes")
    try:
        return _version_edges.judge(edges, str(old), str(new)).as_dict()
    except _version_edges.EdgeError as exc:
        raise AnsibleFilterError(f"version_edge: {exc}") from exc


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name them for the template engine."""
        return {"version_edge": version_edge}
