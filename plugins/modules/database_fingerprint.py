#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Count and hash the rows of every table of a PostgreSQL server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_fingerprint
short_description: Count and hash the rows of every table of a PostgreSQL server
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Reads every ordinary table of every database in one consistent look per database, as the superuser over the local
    socket.
  - With O(restore_point) it looks twice and writes a named point into the write-ahead log in between. A table that
    had the same rows both times
    is steady, and a copy that is restored to this point must have the same rows.
  - Returns counts and hashes, and no value of a row other than the ciphertexts that O(ciphertexts) asks for.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
    details: With O(restore_point), looks only once and writes nothing.
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
  databases:
    description: Which databases. By default all that are not templates.
    type: list
    elements: str
    default: []
  restore_point:
    description: Name of the point to write. Ignored on a standby.
    type: str
    default: ""
  archive_timeout:
    description: Seconds until the segment with the point must be archived.
    type: float
    default: 120.0
  hash_limit_mb:
    description: Tables that are bigger are only counted.
    type: int
    default: 1024
  ciphertexts:
    description: Columns to take Fernet tokens from, up to five each. A table that is not there counts as empty.
    type: list
    elements: dict
    default: []
    suboptions:
      database:
        description: Name of the database.
        type: str
        required: true
      schema:
        description: Name of the schema.
        type: str
        default: public
      table:
        description: Name of the table.
        type: str
        required: true
      column:
        description: Name of the column.
        type: str
        required: true
  timeout:
    description: Seconds that one look at one database may take.
    type: float
    default: 3600.0
"""

EXAMPLES = r"""
- name: Look at the original
  flowfleet.langflow.database_fingerprint:
    restore_point: before_the_experiment
  register: source

- name: Look at the copy
  flowfleet.langflow.database_fingerprint:
    port: 5433
  register: copy

- name: Compare them
  ansible.builtin.debug:
    msg: "{{ source.databases | flowfleet.langflow.fingerprint_compare(copy.databases) }}"
"""

RETURN = r"""
primary:
  description: Whether the server takes writes.
  type: bool
  returned: always
databases:
  description:
    - By database and table (schema and name), the number of C(rows), the C(hash) (V(null) when it was only counted),
      and with O(restore_point) whether
      it was C(steady). Empty on a standby when O(restore_point) is given.
  type: dict
  returned: always
point:
  description: The point in the log, with C(name), C(lsn), C(at) and the C(segment) that holds it.
  type: dict
  returned: when O(restore_point) was written
ciphertexts:
  description: The tokens that were found, each with the C(column) it stands in. They are useless without the key, but
    should not be shown.
  type: list
  elements: dict
  returned: when O(ciphertexts) is not empty
seconds:
  description: How long it took.
  type: float
  returned: always
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _fingerprint


def look(server: _fingerprint.Server, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """One look, or two with a point in between."""
    limit = params["hash_limit_mb"] * 1024 * 1024
    primary = not server.in_recovery()
    point = params["restore_point"]
    if point and not primary:
        return {"primary": False, "databases": {}}
    first = server.fingerprint(params["databases"], limit)
    if not point:
        return {"primary": primary, "databases": first}
    if check_mode:
        return {"primary": primary, "databases": first, "changed": True}
    mark = server.mark(point)
    second = server.fingerprint(params["databases"], limit)
    mark["archived_seconds"] = round(server.wait_archived(mark["segment"], params["archive_timeout"]), 1)
    return {"primary": primary, "databases": _fingerprint.steady(first, second), "point": mark, "changed": True}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "socket_dir": {"type": "path", "default": "/run/postgresql"},
            "port": {"type": "int", "default": 5432},
            "databases": {"type": "list", "elements": "str", "default": []},
            "restore_point": {"type": "str", "default": ""},
            "archive_timeout": {"type": "float", "default": 120.0},
            "hash_limit_mb": {"type": "int", "default": 1024},
            "ciphertexts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "database": {"type": "str", "required": True},
                    "schema": {"type": "str", "default": "public"},
                    "table": {"type": "str", "required": True},
                    "column": {"type": "str", "required": True},
                },
            },
            "timeout": {"type": "float", "default": 3600.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    server = _fingerprint.Server(params["socket_dir"], params["port"], params["timeout"])
    begun = time.monotonic()
    try:
        result = look(server, params, module.check_mode)
        if params["ciphertexts"]:
            result["ciphertexts"] = [token for place in params["ciphertexts"] for token in server.tokens(place)]
    except _fingerprint.NotInstalled as exc:
        if not module.check_mode:
            module.fail_json(msg=str(exc))
        result = {"primary": False, "databases": {}}
    except _fingerprint.FingerprintError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**{"changed": False, **result, "seconds": round(time.monotonic() - begun, 1)})


if __name__ == "__main__":
    main()
