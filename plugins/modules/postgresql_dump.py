#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_dump
short_description: Dump a PostgreSQL database, and put a dump back without losing what is there
version_added: 1.0.0
description:
  - Dumps one database with C(pg_dump) in the custom format, as it is at one moment, and keeps with it what is needed to
    tell later whether a restore is complete, which is rows per table, schema revision, extensions, owner, privileges,
    and the checksum of the archive.
  - Puts a dump back into a new database, compares it, and only then gives it the name of the present one, in one
    transaction. The present one stays under another name.
  - Runs on the host of the server, as root or as the account of the server, over the local socket.
author:
  - The flowfleet.langflow contributors (@flowfleet)
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
    details: Says what would be done; does not connect to the server.
  diff_mode:
    support: none
options:
  state:
    description:
      - V(present) makes the dump unless a complete one of this name is there. It fails when there is too little space,
        when the archive cannot be read to its end, and when it lacks the data of a table.
      - V(restored) puts the dump O(name) in the place of the database. If anything fails before the end, the present
        database is untouched and goes on to be used. The clients of the present one are disconnected at the end.
    type: str
    choices: [present, restored]
    default: present
  name:
    description:
      - Name of the dump. Empty for the name of the database and the present time.
      - Give the name of a change before which the dump is taken, so that a second run of the change keeps the first
        dump.
    type: str
    default: ""
  database:
    description: Name of the database.
    type: str
    required: true
  directory:
    description: Where the dumps are, for root only.
    type: path
    default: /var/lib/postgresql/flowfleet-dumps
  keep:
    description: With O(state=present), number of dumps of this database to leave, this one included. V(0) keeps all.
    type: int
    default: 0
  min_free_mb:
    description: Space in MiB to leave free, on top of the size of the database.
    type: int
    default: 512
  account:
    description: Account of the server on the host, and its superuser in the database.
    type: str
    default: postgres
  bin_dir:
    description: Directory of C(pg_dump), C(pg_restore) and C(psql).
    type: path
    required: true
  socket_dir:
    description: Directory of the server's socket.
    type: path
    default: /run/postgresql
  port:
    description: Port of the server.
    type: int
    default: 5432
  lock_timeout:
    description: Seconds to wait for another dump or restore.
    type: float
    default: 60.0
"""

EXAMPLES = r"""
- name: Dump before an upgrade
  flowfleet.langflow.postgresql_dump:
    name: upgrade-1.13.0
    database: langflow
    bin_dir: /usr/lib/postgresql/17/bin
    keep: 3

- name: Go back to it
  flowfleet.langflow.postgresql_dump:
    state: restored
    name: upgrade-1.13.0
    database: langflow
    bin_dir: /usr/lib/postgresql/17/bin
"""

RETURN = r"""
dump:
  description: The dump.
  returned: when O(state=present)
  type: dict
  contains:
    name:
      description: Name.
      type: str
    path:
      description: The archive.
      type: str
    bytes:
      description: Size of the archive. 0 for one that check mode would make.
      type: int
    seconds:
      description: How long it took to make and verify it.
      type: float
    sha256:
      description: Checksum of the archive.
      type: str
    taken_at:
      description: When it was made.
      type: str
    revisions:
      description: Revisions of the schema that it holds.
      type: list
      elements: str
removed:
  description: Older dumps that were removed.
  returned: when O(state=present)
  type: list
  elements: str
restored:
  description: What was done.
  returned: when O(state=restored)
  type: dict
  contains:
    database:
      description: The database.
      type: str
    from:
      description: Name of the dump.
      type: str
    kept_as:
      description: Name under which the database of before is kept. Empty if there was none.
      type: str
    revisions:
      description: Revisions of the schema that it has now.
      type: list
      elements: str
    seconds:
      description: How long it took.
      type: float
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _lock
from ansible_collections.flowfleet.langflow.plugins.module_utils import _postgresql_dump as dumps

SHOWN: dict[str, Any] = {"bytes": 0, "seconds": 0.0, "sha256": "", "taken_at": "", "revisions": []}


def present(module: AnsibleModule, server: dumps.Server, shelf: dumps.Shelf) -> dict[str, Any]:
    """Make the dump unless it is there, then remove old ones."""
    params = module.params
    name = params["name"] or f"{params['database']}-{dumps.utc_stamp()}"
    data = shelf.read(name)
    if data is not None and data["database"] != params["database"]:
        raise dumps.DumpError(f"{name} is a dump of {data['database']}, not of {params['database']}")
    changed = data is None
    if data is None and not module.check_mode:
        data = dumps.dump(server, shelf, name, params["database"], params["min_free_mb"] * 1024 * 1024)
    surplus = [item for item in shelf.names(params["database"]) if item != name][max(params["keep"] - 1, 0) :]
    removed = sorted(surplus) if params["keep"] else []
    if not module.check_mode:
        for item in removed:
            shelf.remove(item)
    shown = {key: (data or SHOWN)[key] for key in SHOWN}
    return {
        "changed": changed or bool(removed),
        "dump": {"name": name, "path": str(shelf.archive(name)), **shown},
        "removed": removed,
    }


def restored(module: AnsibleModule, server: dumps.Server, shelf: dumps.Shelf) -> dict[str, Any]:
    """Put the dump in the place of the database."""
    name, database = module.params["name"], module.params["database"]
    if module.check_mode:
        done: dict[str, Any] = {"database": database, "from": name, "kept_as": "", "revisions": [], "seconds": 0.0}
    else:
        done = dumps.restore(server, shelf, name, database, module.params["min_free_mb"] * 1024 * 1024)
    return {"changed": True, "restored": done}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "restored"], "default": "present"},
            "name": {"type": "str", "default": ""},
            "database": {"type": "str", "required": True},
            "directory": {"type": "path", "default": "/var/lib/postgresql/flowfleet-dumps"},
            "keep": {"type": "int", "default": 0},
            "min_free_mb": {"type": "int", "default": 512},
            "account": {"type": "str", "default": "postgres"},
            "bin_dir": {"type": "path", "required": True},
            "socket_dir": {"type": "path", "default": "/run/postgresql"},
            "port": {"type": "int", "default": 5432},
            "lock_timeout": {"type": "float", "default": 60.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["state"] == "restored" and not params["name"]:
        module.fail_json(msg="name the dump that is to be restored")
    server = dumps.Server(params["account"], params["bin_dir"], params["socket_dir"], params["port"])
    shelf = dumps.Shelf(Path(params["directory"]))
    step = {"present": present, "restored": restored}[params["state"]]
    try:
        if module.check_mode:
            result = step(module, server, shelf)
        else:
            shelf.make()
            with _lock.exclusive(str(shelf.directory / ".lock"), timeout=params["lock_timeout"]):
                shelf.tidy()
                result = step(module, server, shelf)
    except (dumps.DumpError, _lock.LockTimeout) as error:
        module.fail_json(msg=str(error))
    except KeyError as error:
        module.fail_json(msg=f"there is no account {params['account']} on this host: {error}")
    except OSError as error:
        module.fail_json(msg=f"{error.strerror}: {error.filename}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
