# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the smoke test out of what its tasks registered."""

from __future__ import annotations

DOCUMENTATION = r"""
name: smoke_rows
short_description: Gather the rows of the smoke test
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Takes what the tasks of the smoke test registered, with and without loops, and gives the rows in order.
  - A host that could not be reached, and a task that failed before its first row, give a row of their own, so that
    nothing that went wrong is missing.
options:
  _input:
    description: Registered results. Those of tasks that did not run may be empty dictionaries.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Fail unless all went well
  ansible.builtin.assert:
    that: rows | rejectattr('verdict', 'in', ['ok', 'planned']) | length == 0
  vars:
    rows: "{{ [session, nodes] | flowfleet.langflow.smoke_rows }}"
"""

RETURN = r"""
_value:
  description: The rows.
  type: list
  elements: dict
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def _rows(result: Mapping[str, Any], node: str) -> Iterator[dict[str, Any]]:
    if "results" in result:
        for part in result["results"]:
            item = part.get(part.get("ansible_loop_var", "item")) or {}
            yield from _rows(part, str(item.get("name", node)) if isinstance(item, Mapping) else str(item))
        return
    rows = [dict(row) for row in result.get("rows", [])]
    yield from rows
    wrong = result.get("failed") or result.get("unreachable")
    if wrong and not any(row["verdict"] == "FAILED" for row in rows):
        step = "reach host" if result.get("unreachable") else "task"
        yield {"step": step, "node": node, "ms": 0, "verdict": "FAILED", "detail": str(result.get("msg", "failed"))}


def smoke_rows(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All rows of all results."""
    if isinstance(results, str | Mapping):
        raise AnsibleFilterError("smoke_rows takes a list of registered results")
    return [row for result in results if isinstance(result, Mapping) for row in _rows(result, "controller")]


class FilterModule:
    """Name the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"smoke_rows": smoke_rows}
