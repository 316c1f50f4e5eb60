# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Say what is wrong with the variables of role celery."""

from __future__ import annotations

DOCUMENTATION = r"""
name: celery_problems
short_description: Say what is wrong with the variables of role celery
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Looks at workers, queues, schedules (cron lines, time zones, queues and keys that do not exist) and at the order of
    the times. Needs no connection to any host.
options:
  _input:
    description: The variables by their names. Those that are left out are not judged.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse what cannot work
  ansible.builtin.assert:
    that: >-
      {{ {'celery_queues': celery_queues, 'celery_default_queue': celery_default_queue}
         | flowfleet.langflow.celery_problems | length == 0 }}
"""

RETURN = r"""
_value:
  description: One line for each problem, which names the variable and the fix. Empty when there is none.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.module_utils._celery_plan import problems


def celery_problems(values: Mapping[str, Any]) -> list[str]:
    """Give one line for each problem."""
    if not isinstance(values, Mapping):
        raise AnsibleFilterError(f"celery_problems: expected a dictionary, got {type(values).__name__}")
    return [problem.line() for problem in problems(values)]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"celery_problems": celery_problems}
