# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: names of settings that Langflow does not know."""

from __future__ import annotations

DOCUMENTATION = r"""
name: langflow_unknown_settings
short_description: Find settings that Langflow does not know
version_added: 1.0.0
author:
  - The flowfleet.langflow contributors
description:
  - Langflow ignores a misspelled setting without a word. This returns each given name that is not known, together with
    the known name that looks most like it. The prefix C(LANGFLOW_) may be left out everywhere.
options:
  _input:
    description: Names to check.
    type: list
    elements: str
    required: true
  known:
    description: Names that the program reads.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show what is misspelled
  ansible.builtin.debug:
    msg: "{{ ['AUTO_LOGN'] | flowfleet.langflow.langflow_unknown_settings(['AUTO_LOGIN']) }}"
"""

RETURN = r"""
_value:
  description: One text for each unknown name.
  type: list
  elements: str
  sample: ["LANGFLOW_AUTO_LOGN (did you mean LANGFLOW_AUTO_LOGIN?)"]
"""

from collections.abc import Callable, Iterable
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.filter.langflow_settings import full_name
from ansible_collections.flowfleet.langflow.plugins.module_utils._preflight import nearest


def langflow_unknown_settings(settings: Iterable[str], known: Iterable[str]) -> list[str]:
    """What is wrong with each name that Langflow does not know, with the name that looks most like it."""
    names = {full_name(str(name)) for name in known}
    found = []
    for name in sorted(full_name(str(name)) for name in settings):
        if name not in names:
            close = nearest(name, names)
            found.append(f"{name} (did you mean {close}?)" if close else name)
    return found


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"langflow_unknown_settings": langflow_unknown_settings}
