# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Say what is wrong with pipelines of Logstash, before anything is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: logstash_problems
short_description: Say what is wrong with pipelines of Logstash
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Judges what P(flowfleet.langflow.logstash_pipeline#filter) would write. Needs no Logstash.
options:
  _input:
    description: The pipelines.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse what cannot work
  ansible.builtin.assert:
    that: logstash_pipelines | flowfleet.langflow.logstash_problems | length == 0
"""

RETURN = r"""
_value:
  description: One line for each pipeline that cannot be written. Empty when there is none.
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils._logstash_pipeline import PipelineError, pipeline


def logstash_problems(pipelines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Give one line for each problem."""
    found = []
    names = []
    for data in pipelines:
        try:
            pipeline(data)
            names.append(data["id"])
        except PipelineError as error:
            found.append(str(error))
    return found + [f"{name}: there are two of that id" for name in sorted(set(names)) if names.count(name) > 1]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"logstash_problems": logstash_problems}
