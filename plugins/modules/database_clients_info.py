#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell who is connected to a PostgreSQL server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_clients_info
short_description: Tell who is connected to a PostgreSQL server
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Lists the connections of clients, without the server's own processes and without those of the superuser over the
    local socket, to which this module's own one belongs. A server that is stopped has none.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
    details: This module changes nothing.
  diff_mode:
    support: none
options:
  socket_dir:
    description: Directory of the server's local socket.
    type: path
    default: /run/postgresql
  port:
    description: Its port.
    type: int
    default: 5432
"""

EXAMPLES = r"""
- name: Is anybody there?
  flowfleet.langflow.database_clients_info:
  register: found
"""

RETURN = r"""
running:
  description: Whether the server answers.
  type: bool
  returned: always
clients:
  description: One entry for each connection, with C(user), C(database), C(address) and C(application).
  type: list
  elements: dict
  returned: always
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _fingerprint

STATEMENT = (
    "SELECT coalesce(json_agg(json_build_object('user', usename, 'database', datname, 'application', application_name, "
    "'address', coalesce(host(client_addr), 'local'))), '[]') FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND NOT (usename = 'postgres' AND client_addr IS NULL)"
)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "socket_dir": {"type": "path", "default": "/run/postgresql"},
            "port": {"type": "int", "default": 5432},
        },
        supports_check_mode=True,
    )
    params = module.params
    # A stopped server has removed its socket.
    if not os.path.exists(os.path.join(params["socket_dir"], f".s.PGSQL.{params['port']}")):
        module.exit_json(changed=False, running=False, clients=[])
    try:
        clients = _fingerprint.Server(params["socket_dir"], params["port"], 30).value(STATEMENT)
    except _fingerprint.FingerprintError as exc:
        if "onnection refused" not in str(exc):
            module.fail_json(msg=str(exc))
        # What a crash has left: nobody listens.
        module.exit_json(changed=False, running=False, clients=[])
    module.exit_json(changed=False, running=True, clients=clients or [])


if __name__ == "__main__":
    main()
