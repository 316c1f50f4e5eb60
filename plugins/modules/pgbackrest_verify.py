#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare every file of a pgBackRest repository with its checksum."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_verify
short_description: Compare every file of a pgBackRest repository with its checksum
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Reads, decrypts and unpacks every file of every backup and every archived WAL segment, and compares the checksums.
  - Fails when anything is missing or damaged. Changes nothing.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.pgbackrest
  - flowfleet.langflow.pgbackrest.long
  - flowfleet.langflow.pgbackrest.cipher
attributes:
  check_mode:
    support: full
    details: This module changes nothing.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Look for damage
  flowfleet.langflow.pgbackrest_verify:
    stanza: langflow
"""

RETURN = r"""
summary:
  description: How much was looked at.
  type: str
  returned: success
  sample: 12 WAL segments, 4210 files
report:
  description: What pgBackRest said.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _command, _pgbackrest


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=_pgbackrest.common_options(timeout=86400.0, passphrase=True),
        supports_check_mode=True,
    )
    params = module.params
    try:
        done = _pgbackrest.call(
            "verify",
            [f"--stanza={params['stanza']}", "--output=text", "--verbose", "--log-level-console=warn"],
            timeout=params["timeout"],
            cipher_passphrase=params["cipher_passphrase"],
        )
    except _command.CommandMissing as exc:
        module.fail_json(msg=f"{exc} is not installed on this host", report=[])
    except _pgbackrest.BackupError as exc:
        module.fail_json(msg=str(exc), report=[])
    wrong, summary = _pgbackrest.judge_verify(done)
    report = (done.out + "\n" + done.err).strip().splitlines()
    if wrong:
        module.fail_json(msg=f"the repository is damaged or cannot be read: {wrong}", report=report)
    module.exit_json(changed=False, summary=summary, report=report)


if __name__ == "__main__":
    main()
