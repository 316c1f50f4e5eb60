# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: settings of Langflow as lines of a systemd environment file."""

from __future__ import annotations

DOCUMENTATION = r"""
name: langflow_environment
short_description: Settings as lines of an environment file
version_added: 1.0.0
author:
  - The flowfleet.langflow contributors
description:
  - Turns a dictionary into the text that C(EnvironmentFile=) of systemd reads back unchanged.
  - Booleans become C(true) and C(false), lists are joined with commas, dictionaries become JSON, which is what
    Langflow expects. An entry whose value is V(none) is left out.
options:
  _input:
    description: Names and values.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show an environment file
  ansible.builtin.debug:
    msg: "{{ {'LANGFLOW_WORKERS': 2, 'DO_NOT_TRACK': true} | flowfleet.langflow.langflow_environment }}"
"""

RETURN = r"""
_value:
  description: The lines, sorted by name.
  type: str
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def as_text(name: str, value: Any) -> str:
    """A value as Langflow reads it from the environment."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(dict(value), sort_keys=True)
    if isinstance(value, (list, tuple)):
        parts = [as_text(name, item) for item in value]
        if any("," in part for part in parts):
            raise AnsibleFilterError(f"{name}: an item of a list cannot hold a comma")
        return ",".join(parts)
    return str(value)


def langflow_environment(settings: Mapping[str, Any]) -> str:
    """Lines of an environment file, quoted for systemd."""
    if not isinstance(settings, Mapping):
        raise AnsibleFilterError(f"langflow_environment needs a dictionary, not {type(settings).__name__}")
    lines = []
    for name in sorted(settings):
        if settings[name] is None:
            continue
        if not _NAME.match(name):
            raise AnsibleFilterError(f"{name!r} cannot be the name of an environment variable")
        text = as_text(name, settings[name])
        if any(character in text for character in "\n\r\0"):
            raise AnsibleFilterError(f"the value of {name} holds a line break or a null character")
        quoted = re.sub(r'([\\"$`])', r"\\\1", text)
        lines.append(f'{name}="{quoted}"\n')
    return "".join(lines)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"langflow_environment": langflow_environment}
