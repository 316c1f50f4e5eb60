#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore a backup into an empty directory."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_restore
short_description: Restore a backup into an empty directory
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Copies a backup from the repository and writes how far the server has to replay the WAL when it is started.
  - Never writes into a directory that holds something. When the copy fails, what it has written is removed again.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.pgbackrest
  - flowfleet.langflow.pgbackrest.long
  - flowfleet.langflow.pgbackrest.cipher
  - flowfleet.langflow.pgbackrest.target
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  path:
    description: Data directory to fill; missing or empty.
    type: path
    required: true
  target_timeline:
    description:
      - Timeline to follow. By default the newest one of the archive. To go to a moment of the past that a later restore
        has turned away from, give the number of the timeline of then. V(current) is that of the backup.
    type: str
    default: ""
  target_action:
    description: What the server does when it has reached O(target).
    type: str
    choices: [promote, pause, shutdown]
    default: promote
  scratch:
    description:
      - Whether this is a copy beside the original, which must not archive, and whose tablespaces are moved to O(path)
        followed by C(.tablespaces).
    type: bool
    default: true
  config:
    description: Configuration file of pgBackRest. Default is its own default.
    type: path
  process_max:
    description: Processes that copy. V(0) means what the configuration says.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Restore as of this morning, beside the original
  flowfleet.langflow.pgbackrest_restore:
    stanza: langflow
    path: /var/lib/postgresql/17/restored
    type: time
    target: 2026-11-22 08:00:00+00
"""

RETURN = r"""
command:
  description: What was run, or would be.
  type: list
  elements: str
  returned: always
label:
  description: The backup that was restored.
  type: str
  returned: when done
bytes:
  description: Size of what was restored.
  type: int
  returned: when done
seconds:
  description: How long the copy took.
  type: float
  returned: when done
"""

import contextlib
import os
import pwd
import re
import shutil
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _command, _pgbackrest


def occupied(path: str) -> bool:
    """Whether there is something that a restore would overwrite."""
    try:
        return bool(os.listdir(path))
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True


def make(path: str) -> None:
    """An empty directory of the account; parents are for everybody to pass through."""
    account = pwd.getpwnam(_pgbackrest.ACCOUNT)
    missing = []
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for name in reversed(missing):
        os.mkdir(name, 0o755)
        os.chown(name, account.pw_uid, account.pw_gid)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    os.chown(path, account.pw_uid, account.pw_gid)
    os.chmod(path, 0o700)


def restore(params: dict[str, Any], options: list[str]) -> dict[str, Any]:
    """Fill the directory, or leave it empty."""
    path = params["path"]
    tablespaces = f"{path}.tablespaces"
    make(path)
    if params["scratch"]:
        make(tablespaces)
    begun = time.monotonic()
    try:
        done = _pgbackrest.call(
            "restore", options, timeout=params["timeout"], cipher_passphrase=params["cipher_passphrase"]
        )
        if done.code != 0:
            raise _pgbackrest.BackupError(f"pgbackrest restore: {_pgbackrest.complaint(done)}")
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        if params["scratch"]:
            shutil.rmtree(tablespaces, ignore_errors=True)
        raise
    if params["scratch"]:
        with contextlib.suppress(OSError):
            os.rmdir(tablespaces)
    label = re.search(r"restore backup set (\S+?),", done.out)
    size = re.search(r"restore size = ([0-9.]+)([KMGT]?i?B)", done.out)
    units = {"B": 0, "KB": 1, "MB": 2, "GB": 3, "TB": 4, "KiB": 1, "MiB": 2, "GiB": 3, "TiB": 4}
    return {
        "label": label[1] if label else params["backup_set"],
        "bytes": int(float(size[1]) * 1024 ** units.get(size[2], 0)) if size else 0,
        "seconds": round(time.monotonic() - begun, 1),
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **_pgbackrest.common_options(timeout=86400.0, passphrase=True),
            **_pgbackrest.TARGET_OPTIONS,
            "path": {"type": "path", "required": True},
            "target_timeline": {"type": "str", "default": ""},
            "target_action": {"type": "str", "choices": ["promote", "pause", "shutdown"], "default": "promote"},
            "scratch": {"type": "bool", "default": True},
            "config": {"type": "path"},
            "process_max": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    params = module.params
    result: dict[str, Any] = {"changed": True}
    try:
        options = _pgbackrest.restore_options(
            stanza=params["stanza"],
            path=params["path"],
            kind=params["type"],
            target=params["target"],
            backup_set=params["backup_set"],
            config=params["config"] or "",
            scratch=params["scratch"],
            process_max=params["process_max"],
            target_action=params["target_action"],
            target_timeline=params["target_timeline"],
        )
        result["command"] = ["pgbackrest", *options, "restore"]
        if occupied(params["path"]):
            raise _pgbackrest.BackupError(f"{params['path']} is not empty; nothing was restored")
        if not module.check_mode:
            result.update(restore(params, options))
    except _command.CommandMissing as exc:
        module.fail_json(msg=f"{exc} is not installed on this host", **result)
    except (OSError, KeyError) as exc:
        module.fail_json(msg=f"cannot make {params['path']}: {exc}", **result)
    except _pgbackrest.BackupError as exc:
        module.fail_json(msg=str(exc), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
