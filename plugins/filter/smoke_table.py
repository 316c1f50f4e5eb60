# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the smoke test, gathered and laid out."""

from __future__ import annotations

DOCUMENTATION = r"""
name: smoke_table
short_description: Lay out the rows of the smoke test as a table
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Turns the rows that M(flowfleet.langflow.langflow_smoke) returned into lines of equal columns.
options:
  _input:
    description: Rows, each with C(step), C(node), C(ms), C(verdict) and C(detail).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what was tested
  ansible.builtin.debug:
    msg: "{{ [session, runs] | flowfleet.langflow.smoke_rows | flowfleet.langflow.smoke_table }}"
"""

RETURN = r"""
_value:
  description: One line for the heading and one for each row.
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_smoke import table


def smoke_table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line each."""
    if isinstance(rows, str | Mapping):
        raise AnsibleFilterError("smoke_table takes a list of rows")
    return table(rows)


class FilterModule:
    """Name the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"smoke_table": smoke_table}
