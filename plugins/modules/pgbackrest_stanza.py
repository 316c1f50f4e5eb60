#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prepare a pgBackRest repository for one cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_stanza
short_description: Prepare a pgBackRest repository for one cluster
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Creates the stanza in the repository if it is not there yet, and then proves that a WAL segment arrives.
  - Runs on the host that takes the backups, as the account V(postgres).
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.pgbackrest
  - flowfleet.langflow.pgbackrest.quick
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  prove:
    description:
      - When to let the server archive a segment and wait for it. V(created) does so for a new stanza only.
    type: str
    choices: [created, always, never]
    default: created
"""

EXAMPLES = r"""
- name: Prepare the repository
  flowfleet.langflow.pgbackrest_stanza:
    stanza: langflow
"""

RETURN = r"""
created:
  description: Whether the stanza was created, or would be.
  type: bool
  returned: always
proven:
  description: Whether the arrival of a WAL segment was seen.
  type: bool
  returned: always
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _command, _pgbackrest

# Between two tries to get the lock.
PAUSE = 0.5


def step(command: str, stanza: str, timeout: float) -> None:
    """One command that has to go well. A server that archives in vain holds the lock at times."""
    deadline = time.monotonic() + timeout
    while True:
        done = _pgbackrest.call(command, [f"--stanza={stanza}", "--log-level-console=info"], timeout=timeout)
        if done.code == 0:
            return
        if done.code != _pgbackrest.LOCKED or time.monotonic() > deadline:
            raise _pgbackrest.BackupError(f"pgbackrest {command}: {_pgbackrest.complaint(done)}")
        time.sleep(PAUSE)


def ensure(stanza: str, prove: str, timeout: float, check_mode: bool, result: dict[str, Any]) -> None:
    """Create it if it is missing, then prove it."""
    found = _pgbackrest.info(stanza, timeout=timeout)
    if not found.exists:
        result["created"] = result["changed"] = True
        if not check_mode:
            step("stanza-create", stanza, timeout)
    if not check_mode and (prove == "always" or (prove == "created" and result["created"])):
        step("check", stanza, timeout)
        result["proven"] = True


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **_pgbackrest.common_options(timeout=300.0),
            "prove": {"type": "str", "choices": ["created", "always", "never"], "default": "created"},
        },
        supports_check_mode=True,
    )
    params = module.params
    result: dict[str, Any] = {"changed": False, "created": False, "proven": False}
    try:
        ensure(params["stanza"], params["prove"], params["timeout"], module.check_mode, result)
    except _command.CommandMissing as exc:
        if not module.check_mode:
            module.fail_json(msg=f"{exc} is not installed on this host", **result)
        result.update(changed=True, created=True)
    except _pgbackrest.BackupError as exc:
        # What cannot be read yet in check mode, because this very run writes its configuration, is a predicted change.
        if not module.check_mode:
            module.fail_json(msg=str(exc), **result)
        result.update(changed=True, created=True)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
