#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell what is in a pgBackRest repository."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_info
short_description: Tell what is in a pgBackRest repository
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Reads the list of backups and the range of archived WAL of one stanza. Changes nothing.
  - Fails when the repository cannot be read, for example because the passphrase is not the one it was encrypted with.
  - With O(target) or O(backup_set), also fails when no backup of the repository leads there.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.pgbackrest
  - flowfleet.langflow.pgbackrest.cipher
  - flowfleet.langflow.pgbackrest.quick
  - flowfleet.langflow.pgbackrest.target
attributes:
  check_mode:
    support: full
    details: This module changes nothing.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Look at the backups
  flowfleet.langflow.pgbackrest_info:
    stanza: langflow
  register: found

- name: Is there a backup that a restore to this time can begin with?
  flowfleet.langflow.pgbackrest_info:
    stanza: langflow
    type: time
    target: 2026-11-22 08:00:00+00
"""

RETURN = r"""
exists:
  description: Whether the repository has the stanza.
  type: bool
  returned: always
code:
  description: Code of the state in pgBackRest's own list; V(0) is good, V(2) means that there is no backup yet.
  type: int
  returned: always
message:
  description: The state in words.
  type: str
  returned: always
locked:
  description: Whether a backup is running.
  type: bool
  returned: always
encrypted:
  description: Whether the repository is encrypted.
  type: bool
  returned: always
backups:
  description: The backups, oldest first.
  type: list
  elements: dict
  returned: always
  contains: &backup
    label:
      description: Its name.
      type: str
      sample: 20261122-013000F_20261123-013000I
    type:
      description: V(full), V(diff) or V(incr).
      type: str
    start:
      description: When it began, in seconds since 1970.
      type: int
    stop:
      description: When it ended, in seconds since 1970.
      type: int
    started:
      description: When it began, in UTC.
      type: str
    stopped:
      description: When it ended, in UTC.
      type: str
    seconds:
      description: How long it took.
      type: int
    database_bytes:
      description: Size of the database.
      type: int
    copied_bytes:
      description: Bytes of the database that this backup had to copy.
      type: int
    stored_bytes:
      description: Bytes that this backup added to the repository.
      type: int
    wal_start:
      description: First WAL segment that a restore of it needs.
      type: str
    wal_stop:
      description: Last WAL segment that a restore of it needs.
      type: str
    lsn_start:
      description: Where it began in the log.
      type: str
    lsn_stop:
      description: Where it ended in the log.
      type: str
    prior:
      description: The backup that it builds on. Empty for a full one.
      type: str
    error:
      description: Whether pages with a wrong checksum were found while it was taken.
      type: bool
newest:
  description: The last one of them, empty if there is none.
  type: dict
  returned: always
  contains: *backup
begin:
  description: The backup that a restore to the given target would begin with, empty if there is none.
  type: dict
  returned: always
  contains: *backup
wal_min:
  description: Oldest WAL segment of the archive.
  type: str
  returned: always
wal_max:
  description: Newest WAL segment of the archive.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _command, _pgbackrest


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={**_pgbackrest.common_options(timeout=300.0, passphrase=True), **_pgbackrest.TARGET_OPTIONS},
        supports_check_mode=True,
    )
    params = module.params
    begin = None
    try:
        found = _pgbackrest.info(
            params["stanza"], timeout=params["timeout"], cipher_passphrase=params["cipher_passphrase"]
        )
        if found.backups or params["target"] or params["backup_set"]:
            begin = found.begin(params["type"], params["target"], params["backup_set"])
    except _command.CommandMissing:
        if not module.check_mode:
            module.fail_json(msg="pgBackRest is not installed on this host; run the role backup first")
        found = _pgbackrest.MISSING
    except _pgbackrest.BackupError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, begin=begin.result() if begin else {}, **found.result())


if __name__ == "__main__":
    main()
