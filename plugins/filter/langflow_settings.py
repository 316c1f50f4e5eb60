# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: full names of Langflow settings."""

from __future__ import annotations

DOCUMENTATION = r"""
name: langflow_settings
short_description: Give settings their full names
version_added: 1.0.0
author:
  - The flowfleet.langflow contributors
description:
  - Returns the same settings with the prefix C(LANGFLOW_), which may be left out in the input.
options:
  _input:
    description: Names and values.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the full name of a setting
  ansible.builtin.debug:
    msg: "{{ {'AUTO_SAVING': false} | flowfleet.langflow.langflow_settings }}"
"""

RETURN = r"""
_value:
  description: The settings under their full names.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

PREFIX = "LANGFLOW_"


def full_name(name: str) -> str:
    """The name of a setting with its prefix."""
    return name if name.startswith(PREFIX) else f"{PREFIX}{name}"


def langflow_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under their full names; the same setting given twice is an error."""
    named: dict[str, Any] = {}
    for name, value in settings.items():
        if (full := full_name(str(name))) in named:
            raise AnsibleFilterError(f"the setting {full} is given twice, with and without its prefix")
        named[full] = value
    return named


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"langflow_settings": langflow_settings}
