#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_snapshot
short_description: Keep files and the active release before a change, and put them back
version_added: 1.0.0
description:
  - Before a change, keeps what some paths are (content, owner, group, mode, or that they are not there) and which
    release C(current) names. After a change that went wrong, puts all of it back, or nothing.
  - A host has one snapshot. It is open from the moment it is taken until the change is settled or undone. An open one
    is never replaced, whatever is asked for, because what is in place then may be half of the old state and half of
    the new. So a run that was killed and is run again still goes back to the state before the first try.
  - The copies are kept in a directory for root only. Neither the result nor the diff ever shows a content.
author:
  - The flowfleet.langflow contributors (@flowfleet)
extends_documentation_fragment:
  - flowfleet.langflow.attributes
seealso:
  - module: flowfleet.langflow.langflow_release
  - module: flowfleet.langflow.managed_files
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Shows which paths change and how, never what is in them.
options:
  state:
    description:
      - V(saved) takes a snapshot, unless there is an open one.
      - V(settled) says that the change was good. The snapshot stays and can be put back, and the next one may replace
        it.
      - V(restored) puts everything back. The checksums of all copies, and that the release is installed, are verified
        before anything is touched. If a file cannot be written, those already written are put back too.
      - V(absent) removes the snapshot.
    type: str
    choices: [saved, settled, restored, absent]
    default: saved
  directory:
    description: Where the snapshot is kept, for root only.
    type: path
    default: /var/lib/flowfleet/langflow/snapshot
  root:
    description: Directory of the installation that holds C(releases) and C(current).
    type: path
    default: /opt/langflow
  files:
    description:
      - Paths to keep, for O(state=saved). Of a directory only owner, group and mode are kept.
      - A directory that was not there is not removed by O(state=restored), only the files in it that are named here.
    type: list
    elements: path
    default: []
  label:
    description: What the change is for, for example the id of the new release.
    type: str
    default: ""
  id:
    description: With O(state=restored), fail unless the snapshot is this one. Empty for any.
    type: str
    default: ""
  lock_timeout:
    description: Seconds to wait for another process that works on the snapshot.
    type: float
    default: 60.0
"""

EXAMPLES = r"""
- name: Keep what is there
  flowfleet.langflow.config_snapshot:
    state: saved
    label: 1.13.0-8fec7896-py313
    files:
      - /etc/langflow/langflow.env
      - /etc/systemd/system/langflow.service

- name: Put it back
  flowfleet.langflow.config_snapshot:
    state: restored

- name: Be content with the change
  flowfleet.langflow.config_snapshot:
    state: settled
"""

RETURN = r"""
snapshot:
  description: The snapshot after the call. Empty if there is none.
  returned: success
  type: dict
  contains:
    id:
      description: Its name. Empty for one that check mode would take.
      type: str
    label:
      description: What the change was for.
      type: str
    release:
      description: Id of the release that was active. Empty if there was none.
      type: str
    taken_at:
      description: When it was taken.
      type: str
    status:
      description: V(open), V(settled) or V(restored).
      type: str
kept:
  description: Whether an open snapshot was there already and stays.
  returned: when O(state=saved)
  type: bool
changed_paths:
  description: Paths that were put back, or would be.
  returned: when O(state=restored)
  type: list
  elements: str
restored:
  description: Paths that an attempt that failed has left as they were before it.
  returned: failure
  type: list
  elements: str
not_restored:
  description: Paths of which that failed too, with the reason.
  returned: failure
  type: list
  elements: str
"""

import contextlib
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _config_snapshot as snapshots
from ansible_collections.flowfleet.langflow.plugins.module_utils import _lock, _release
from ansible_collections.flowfleet.langflow.plugins.module_utils._managed_files import ApplyError


class Keeper:
    """One method for each state; each gives the snapshot that is there afterwards."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.store = snapshots.Store(Path(module.params["directory"]))
        self.layout = _release.Layout(Path(module.params["root"]))
        self.result: dict[str, Any] = {"changed": False}
        self.diff: list[dict[str, str]] = []

    def run(self) -> None:
        """Take the step."""
        step = getattr(self, self.module.params["state"])
        nothing_to_lock = self.module.params["state"] != "saved" and not self.store.directory.is_dir()
        if self.module.check_mode or nothing_to_lock:
            lock: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        else:
            lock = self.store.locked(self.module.params["lock_timeout"])
        with lock:
            before = self.store.read() if self.module.params["state"] != "absent" else self._whatever_is_there()
            after = step(before)
        self.result["snapshot"] = after.described() if after else {}
        if before != after:
            texts = {"before": snapshots.summary(before), "after": snapshots.summary(after)}
            header = str(self.store.directory)
            self.diff.insert(0, {"before_header": header, "after_header": header, **texts})

    def _whatever_is_there(self) -> snapshots.Snapshot | None:
        with contextlib.suppress(snapshots.Damaged):
            return self.store.read()
        return None

    def saved(self, before: snapshots.Snapshot | None) -> snapshots.Snapshot:
        """Take a snapshot unless there is an open one."""
        self.result["kept"] = before is not None and before.status == snapshots.OPEN
        if before is not None and self.result["kept"]:
            return before
        self.result["changed"] = True
        label, release = self.module.params["label"], _release.active_id(self.layout) or ""
        if self.module.check_mode:
            entries = tuple(snapshots.look(path)[0] for path in dict.fromkeys(self.module.params["files"]))
            return snapshots.Snapshot("", label, release, "", snapshots.OPEN, entries)
        return self.store.save(self.module.params["files"], label, release)

    def settled(self, before: snapshots.Snapshot | None) -> snapshots.Snapshot | None:
        """Let the next snapshot replace this one."""
        if before is None or before.status != snapshots.OPEN:
            return before
        self.result["changed"] = True
        return self.store.mark(before, snapshots.SETTLED, write=not self.module.check_mode)

    def restored(self, before: snapshots.Snapshot | None) -> snapshots.Snapshot:
        """Put everything back."""
        if before is None:
            raise snapshots.SnapshotError(f"there is no snapshot in {self.store.directory}")
        wanted = self.module.params["id"]
        if wanted and wanted != before.id:
            raise snapshots.SnapshotError(f"the snapshot is {before.id}, not {wanted}: somebody else has taken it")
        outcomes = snapshots.restore(self.store, before, self.layout, self.module, check_mode=self.module.check_mode)
        after = self.store.mark(before, snapshots.RESTORED, write=False)
        self.result["changed_paths"] = [outcome.path for outcome in outcomes if outcome.changed]
        self.result["changed"] = bool(self.result["changed_paths"]) or before != after
        self.diff += [entry for outcome in outcomes for entry in outcome.diff]
        return after

    def absent(self, before: snapshots.Snapshot | None) -> None:
        """Forget it."""
        self.result["changed"] = self.store.directory.is_dir()
        if self.result["changed"] and not self.module.check_mode:
            self.store.remove()


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["saved", "settled", "restored", "absent"], "default": "saved"},
            "directory": {"type": "path", "default": "/var/lib/flowfleet/langflow/snapshot"},
            "root": {"type": "path", "default": "/opt/langflow"},
            "files": {"type": "list", "elements": "path", "default": []},
            "label": {"type": "str", "default": ""},
            "id": {"type": "str", "default": ""},
            "lock_timeout": {"type": "float", "default": 60.0},
        },
        supports_check_mode=True,
    )
    keeper = Keeper(module)
    try:
        keeper.run()
    except ApplyError as error:
        lost = error.details.get("not_restored")
        after = f"NOT put back: {'; '.join(lost)}" if lost else "everything is as it was before this attempt"
        module.fail_json(msg=f"{error} ({after})", **error.details)
    except (snapshots.SnapshotError, _lock.LockTimeout) as error:
        module.fail_json(msg=f"{error}; nothing was changed")
    except OSError as error:
        module.fail_json(msg=f"{error.strerror}: {error.filename}; no file of the service was changed")
    if module._diff and keeper.diff:
        keeper.result["diff"] = keeper.diff
    module.exit_json(**keeper.result)


if __name__ == "__main__":
    main()
