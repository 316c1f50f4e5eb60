#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read which backends a load balancer knows and in which state they are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_backend_info
short_description: Read which backends a load balancer knows and in which state they are
version_added: 1.0.0
author:
  - The flowfleet.langflow contributors (@flowfleet)
description:
  - Reads the membership files of the load balancer, one file for each backend.
  - A directory that does not exist has no backends. A file that cannot be understood is an error that names it.
  - Counts the connections of Nginx to each backend, as the kernel shows them to root.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.nginx_files
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: flowfleet.langflow.nginx_backend
"""

EXAMPLES = r"""
- name: Read the backends
  flowfleet.langflow.nginx_backend_info:
  register: members

- name: Refuse to go on when nobody would be left
  ansible.builtin.assert:
    that: (members.backends | selectattr('state', 'eq', 'enabled') | length) > 1
"""

RETURN = r"""
backends:
  description: The backends, sorted by name.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the backend.
      type: str
    address:
      description: Address or host name.
      type: str
    port:
      description: Port.
      type: int
    state:
      description: V(enabled) or V(drained).
      type: str
    weight:
      description: Share of the requests, relative to the others.
      type: int
    parameters:
      description: Further words of the C(server) line.
      type: list
      elements: str
    connections:
      description:
        - Open connections of Nginx to the backend. For an enabled one they include idle connections that are kept for
          later requests. Null if they cannot be counted.
      type: int
    old_connections:
      description:
        - Those of them that belong to replaced workers. They are requests and streams, never idle connections.
      type: int
running:
  description: Whether Nginx runs.
  returned: always
  type: bool
workers:
  description: Number of workers that take new requests.
  returned: always
  type: int
old_workers:
  description: Number of workers that were replaced by a reload and finish what they have begun.
  returned: always
  type: int
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _nginx_workers
from ansible_collections.flowfleet.langflow.plugins.module_utils._nginx_backend import (
    FILES,
    MembershipError,
    read_backends,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=dict(FILES), supports_check_mode=True)
    try:
        backends = read_backends(module.params["directory"])
    except (MembershipError, OSError) as error:
        module.fail_json(msg=f"{module.params['directory']}: {error}")
    found = _nginx_workers.processes(module.params["pid_file"])
    connections: list[tuple[_nginx_workers.Worker, str]] | None = None
    try:
        connections = _nginx_workers.connections(found.workers)
    except _nginx_workers.WorkersError as error:
        module.warn(str(error))
    entries: list[dict[str, Any]] = []
    for backend in backends:
        ends = _nginx_workers.endpoints(backend.address, backend.port)
        known = connections is not None and bool(ends)
        to_backend = [worker for worker, remote in connections or () if remote in ends]
        entries.append(
            {
                **backend.result(),
                "connections": len(to_backend) if known else None,
                "old_connections": sum(worker.leaving for worker in to_backend) if known else None,
            }
        )
    module.exit_json(
        changed=False,
        backends=entries,
        running=found.master is not None,
        workers=len(found.current),
        old_workers=len(found.leaving),
    )


if __name__ == "__main__":
    main()
