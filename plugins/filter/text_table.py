# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lay out rows as a table of text."""

from __future__ import annotations

DOCUMENTATION = r"""
name: text_table
short_description: Lay out rows as a table of text
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Turns a list of dictionaries into lines of equal columns. Numbers stand to the right. A column whose name ends in
    C(_bytes) or is C(bytes)
    is shown in KiB, MiB, GiB or TiB.
options:
  _input:
    description: Rows.
    type: list
    elements: dict
    required: true
  columns:
    description: Keys to show, in this order.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the backups
  ansible.builtin.debug:
    msg: "{{ found.backups | flowfleet.langflow.text_table(['label', 'type', 'stored_bytes', 'seconds']) }}"
"""

RETURN = r"""
_value:
  description: One line for the heading and one for each row.
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def size(value: float) -> str:
    """A size for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def cell(name: str, value: Any) -> tuple[str, bool]:
    """The text, and whether it is a number."""
    if isinstance(value, bool):
        return ("yes" if value else "no"), False
    if isinstance(value, int | float):
        return (
            size(value) if name.endswith("bytes") else f"{value:g}" if isinstance(value, float) else str(value)
        ), True
    return " ".join(str("" if value is None else value).split()), False


def text_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """One line each."""
    if isinstance(rows, str | Mapping) or isinstance(columns, str):
        raise AnsibleFilterError("text_table takes a list of rows and a list of columns")
    cells = [[(name.removesuffix("_bytes").upper().replace("_", " "), False) for name in columns]]
    cells += [[cell(name, row.get(name, "")) for name in columns] for row in rows]
    widths = [max(len(line[index][0]) for line in cells) for index in range(len(columns))]
    return [
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for (text, number), width in zip(line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]


class FilterModule:
    """Name the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"text_table": text_table}
