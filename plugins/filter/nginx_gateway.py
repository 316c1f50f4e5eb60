# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Turn gateway rules into the decision table of the load balancer."""

from __future__ import annotations

DOCUMENTATION = r"""
name: nginx_gateway
short_description: Turn gateway rules into the decision table of the load balancer
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - A rule has a C(name) and a C(path) (C({x}) is one segment, a final C(/*) is the path and everything below it).
  - It may have C(methods), a C(group), the C(modes) it is refused in, a C(reason) and a C(body) for the answer.
  - The patterns match C(METHOD:/path) with the path that Nginx has decoded and normalised; the first match decides.
options:
  _input:
    description: Rules that refuse.
    type: list
    elements: dict
    required: true
  allow:
    description: Rules that let pass, used in mode V(api) only.
    type: list
    elements: dict
    default: []
  mode:
    description: V(ui) passes what no rule refuses, V(api) passes only what a rule allows.
    type: str
    choices: [ui, api]
    default: ui
  opened:
    description: Names or groups of refusing rules that are switched off.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show the table
  ansible.builtin.debug:
    msg: "{{ [{'name': 'docs', 'path': '/docs/*', 'methods': ['GET']}] | flowfleet.langflow.nginx_gateway }}"
"""

RETURN = r"""
_value:
  description: The decision table.
  type: list
  elements: dict
  contains:
    pattern:
      description: Regular expression, to be used without regard to case.
      type: str
    name:
      description: Name of the refusing rule; empty where the request passes.
      type: str
    reason:
      description: Why.
      type: str
    body:
      description: JSON text of the answer; empty for the usual one.
      type: str
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.module_utils._nginx_gateway import GatewayError, decisions


def nginx_gateway(
    rules: Iterable[Mapping[str, Any]],
    allow: Iterable[Mapping[str, Any]] = (),
    mode: str = "ui",
    opened: Iterable[str] = (),
) -> list[dict[str, str]]:
    """Give the decision table as plain data."""
    if mode not in ("ui", "api"):
        raise AnsibleFilterError(f"nginx_gateway: mode is ui or api, not {mode!r}")
    try:
        return [dataclasses.asdict(decision) for decision in decisions(rules, allow, mode, opened)]
    except GatewayError as error:
        raise AnsibleFilterError(f"nginx_gateway: {error}") from error


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"nginx_gateway": nginx_gateway}
