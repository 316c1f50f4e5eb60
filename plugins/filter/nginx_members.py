# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Merge the wanted backends with the state the load balancer keeps of them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: nginx_members
short_description: Merge the wanted backends with the state the load balancer keeps of them
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Address, port and failure parameters come from the wanted hosts; C(down) and C(weight) come from what
    M(flowfleet.langflow.nginx_backend_info) found, so that a run of the role never puts a drained node back to work.
options:
  _input:
    description: Wanted hosts, each with C(name) and C(address) and, where it differs, C(port).
    type: list
    elements: dict
    required: true
  existing:
    description: C(backends) as M(flowfleet.langflow.nginx_backend_info) returns them.
    type: list
    elements: dict
    required: true
  port:
    description: Port of the backends.
    type: int
    required: true
  parameters:
    description: Further words of the C(server) line, such as V(max_fails=1).
    type: list
    elements: str
    default: []
  directory:
    description: Where the membership files are.
    type: path
    default: /etc/nginx/langflow/backends.d
  template:
    description: Template of a membership file; it gets the entry as C(member).
    type: str
    default: backend.conf.j2
"""

EXAMPLES = r"""
- name: Show the lines
  ansible.builtin.debug:
    msg: "{{ [{'name': 'app1', 'address': '192.0.2.11'}]
      | flowfleet.langflow.nginx_members([], 7860, ['max_fails=3']) }}"
"""

RETURN = r"""
_value:
  description: One entry for each wanted and each stale backend.
  type: list
  elements: dict
  contains:
    name:
      description: Name of the backend.
      type: str
    wanted:
      description: False for a backend that is on the load balancer and not in the list.
      type: bool
    server:
      description: The C(server) line; empty for a stale backend.
      type: str
    kept:
      description:
        - Whether its file says this already. It must not be written again then, because it may have been drained since
          it was read.
      type: bool
    file:
      description: The entry for C(files) of M(flowfleet.langflow.managed_files).
      type: dict
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.module_utils._nginx_backend import (
    SUFFIX,
    Backend,
    MembershipError,
    check_name,
    server_line,
    with_configuration,
)


def _entry(name: str, line: str, directory: str, template: str, kept: bool) -> dict[str, Any]:
    path = f"{directory}/{name}{SUFFIX}"
    member = {"name": name, "wanted": bool(line), "server": line, "kept": kept}
    if not line:
        return {**member, "file": {"path": path, "state": "absent"}}
    file = {
        "path": path,
        "template": template,
        "vars": {"member": member},
        "owner": "root",
        "group": "root",
        "mode": "0644",
    }
    return {**member, "file": file}


def nginx_members(
    hosts: Iterable[Mapping[str, Any]],
    existing: Iterable[Mapping[str, Any]],
    port: int,
    parameters: Iterable[str] = (),
    directory: str = "/etc/nginx/langflow/backends.d",
    template: str = "backend.conf.j2",
) -> list[dict[str, Any]]:
    """Give the wanted and the stale backends."""
    found = {
        str(item["name"]): Backend(
            str(item["name"]),
            str(item["address"]),
            int(item["port"]),
            item["state"] == "drained",
            int(item["weight"]),
            tuple(item.get("parameters", ())),
        )
        for item in existing
    }
    there = {name: server_line(backend) for name, backend in found.items()}
    lines: dict[str, str] = {}
    try:
        for host in hosts:
            name = check_name(str(host["name"]))
            wanted = Backend(name, str(host["address"]), int(host.get("port") or port), parameters=tuple(parameters))
            lines[name] = server_line(with_configuration(wanted, found.pop(name, None)))
    except MembershipError as error:
        raise AnsibleFilterError(f"nginx_members: {error}") from error
    lines.update(dict.fromkeys(sorted(found), ""))
    return [_entry(name, line, directory, template, line == there.get(name)) for name, line in lines.items()]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"nginx_members": nginx_members}
