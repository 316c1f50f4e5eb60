# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare a restored copy with its original, table by table."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fingerprint_compare
short_description: Compare a restored copy with its original, table by table
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Takes what M(flowfleet.langflow.database_fingerprint) returned for two servers as
    RV(flowfleet.langflow.database_fingerprint#module:databases).
options:
  _input:
    description: The original.
    type: dict
    required: true
  copy:
    description: The copy.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Which tables differ?
  ansible.builtin.debug:
    msg: "{{ rows | selectattr('verdict', 'in', ['differs', 'missing', 'extra']) }}"
  vars:
    rows: "{{ source.databases | flowfleet.langflow.fingerprint_compare(copy.databases) }}"
"""

RETURN = r"""
_value:
  description:
    - One entry for each table with C(table), C(rows), C(restored) (rows of the copy), C(hashed) and C(verdict).
    - The verdict is V(equal), V(busy) (the original changed meanwhile, nothing can be said), V(differs), V(missing)
      or V(extra).
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.module_utils._fingerprint import compare


def fingerprint_compare(source: Any, copy: Any) -> list[dict[str, Any]]:
    """One entry for each table."""
    if not isinstance(source, Mapping) or not isinstance(copy, Mapping):
        raise AnsibleFilterError("fingerprint_compare takes two dictionaries of databases")
    return compare(source, copy)


class FilterModule:
    """Name the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fingerprint_compare": fingerprint_compare}
