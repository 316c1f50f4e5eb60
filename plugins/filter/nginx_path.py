# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Turn the path of a route into the pattern of a location."""

from __future__ import annotations

DOCUMENTATION = r"""
name: nginx_path
short_description: Turn the path of a route into the regular expression of an Nginx location
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - C({x}) stands for one segment, a final C(/*) for the path itself and everything below it.
options:
  _input:
    description: The path.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the pattern
  ansible.builtin.debug:
    msg: "{{ '/api/v1/build/{job_id}/events' | flowfleet.langflow.nginx_path }}"
"""

RETURN = r"""
_value:
  description: The anchored regular expression.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.module_utils._nginx_gateway import GatewayError, path_pattern


def nginx_path(path: str) -> str:
    """Give the anchored regular expression of one path."""
    try:
        return f"(?s)^{path_pattern(path)}$"
    except GatewayError as error:
        raise AnsibleFilterError(f"nginx_path: {error}") from error


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"nginx_path": nginx_path}
