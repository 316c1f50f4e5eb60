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
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  directory:
    description: Where the membership files are.
    type: path
    default: /etc/nginx/langflow/backends.d
"""

EXAMPLES = r"""
- name: Read the backends
  flowfleet.langflow.nginx_backend_info:
  register: members
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
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._nginx_backend import MembershipError, read_backends


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"directory": {"type": "path", "default": "/etc/nginx/langflow/backends.d"}},
        supports_check_mode=True,
    )
    try:
        backends = read_backends(module.params["directory"])
    except (MembershipError, OSError) as error:
        module.fail_json(msg=f"{module.params['directory']}: {error}")
    module.exit_json(
        changed=False,
        backends=[
            {
                "name": backend.name,
                "address": backend.address,
                "port": backend.port,
                "state": backend.state,
                "weight": backend.weight,
                "parameters": list(backend.parameters),
            }
            for backend in backends
        ],
    )


if __name__ == "__main__":
    main()
