#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a backup now and wait for it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_backup
short_description: Take a backup now and wait for it
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Starts the systemd service of the role P(flowfleet.langflow.backup#role) that also the timers start, and waits
    until it has ended. The backup
    goes on when the connection breaks.
  - Succeeds only if the repository then has a new backup, taken without a page whose checksum is wrong.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.pgbackrest
  - flowfleet.langflow.pgbackrest.long
attributes:
  check_mode:
    support: full
    details: Says what would be done, RV(planned).
  diff_mode:
    support: none
options:
  type:
    description: What to copy. Without a full backup to build on, the others become a full one.
    type: str
    choices: [full, diff, incr]
    default: incr
  unit:
    description: Name of the service. Default is C(pgbackrest-backup@TYPE.service).
    type: str
"""

EXAMPLES = r"""
- name: Take a full backup
  flowfleet.langflow.pgbackrest_backup:
    stanza: langflow
    type: full
"""

RETURN = r"""
backup:
  description: The new backup, with the keys of the backups of M(flowfleet.langflow.pgbackrest_info). Empty in check
    mode.
  type: dict
  returned: always
planned:
  description: What check mode would have done.
  type: str
  returned: always
expired:
  description: Backups that are no longer kept.
  type: list
  elements: str
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _command, _pgbackrest, _systemd


def journal(unit: str, invocation: str) -> str:
    """What the service said in this run."""
    chosen = [f"_SYSTEMD_INVOCATION_ID={invocation}"] if invocation else ["--unit", unit, "--lines=20"]
    try:
        done = _command.run(["journalctl", "--no-pager", "--output=cat", *chosen], timeout=30)
    except (_command.CommandMissing, _command.CommandTimeout):
        return ""
    return _pgbackrest.complaint(done)


def take(unit: str, timeout: float) -> str:
    """Run the service to its end; returns what went wrong, or nothing."""
    try:
        done = _command.run(["systemctl", "--no-ask-password", "start", unit], timeout=timeout)
    except _command.CommandTimeout:
        return f"{unit} did not end within {timeout:g} s; it goes on, look at it with systemctl status {unit}"
    if done.code == 0:
        return ""
    return f"{unit} failed: {journal(unit, _systemd.show(unit).get('InvocationID')) or done.err}"


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """All steps."""
    stanza, kind = params["stanza"], params["type"]
    unit = params["unit"] or f"pgbackrest-backup@{kind}.service"
    before = _pgbackrest.info(stanza)
    whole = [backup for backup in before.backups if backup.type == "full"]
    planned = f"{kind} backup of {stanza}"
    if kind != "full":
        planned += (
            f", on top of {before.newest.label}"
            if whole and before.newest
            else ": there is no full one yet, so this is it"
        )
    result: dict[str, Any] = {"changed": True, "planned": planned, "backup": {}, "expired": []}
    if check_mode:
        return result
    wrong = take(unit, params["timeout"])
    if wrong:
        raise _pgbackrest.BackupError(wrong)
    after = _pgbackrest.info(stanza)
    known = {backup.label for backup in before.backups}
    new = [backup for backup in after.backups if backup.label not in known]
    if not new:
        raise _pgbackrest.BackupError(f"{unit} ended well, but the repository has no new backup")
    result["backup"] = new[-1].result()
    result["expired"] = sorted(known - {backup.label for backup in after.backups})
    if new[-1].error:
        raise _pgbackrest.BackupError(
            f"backup {new[-1].label} was taken, but pages of the database have wrong checksums: the database is damaged"
        )
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **_pgbackrest.common_options(timeout=86400.0),
            "type": {"type": "str", "choices": list(_pgbackrest.TYPES), "default": "incr"},
            "unit": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except _command.CommandMissing as exc:
        if not module.check_mode:
            module.fail_json(msg=f"{exc} is not installed on this host; run the role backup first")
        result = {
            "changed": True,
            "planned": f"{module.params['type']} backup, after the role",
            "backup": {},
            "expired": [],
        }
    except (_pgbackrest.BackupError, _systemd.SystemdError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
