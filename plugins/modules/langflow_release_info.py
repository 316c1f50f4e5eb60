#!/usr/bin/python
# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: langflow_release_info
short_description: Report versioned Langflow releases
version_added: 1.0.0
description:
  - Tells which releases a host has, which one is active, and about one of them in particular.
author:
  - The flowfleet.langflow contributors (@flowfleet)
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.release
seealso:
  - module: flowfleet.langflow.langflow_release
  - module: flowfleet.langflow.config_snapshot
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  processes:
    description: Also look for releases that running processes use.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Report what is there
  flowfleet.langflow.langflow_release_info:
    processes: true
  register: releases
"""

RETURN = r"""
release:
  description: The release in question, as M(flowfleet.langflow.langflow_release) returns it.
  returned: when O(id) or O(version) is given
  type: dict
releases:
  description: Ids of all complete releases, newest first.
  returned: success
  type: list
  elements: str
active:
  description: Id of the active release.
  returned: success
  type: str
current:
  description: The active release, in the form of RV(release). Empty if there is none.
  returned: success
  type: dict
snapshot:
  description: What there is to go back to. Empty if there is nothing.
  returned: when O(snapshot) is given
  type: dict
  contains:
    id:
      description: Name of the snapshot.
      type: str
    label:
      description: Id of the release for which it was taken.
      type: str
    release:
      description: Id of the release that it goes back to. Empty if none was active.
      type: str
    version:
      description: Version of Langflow in that release.
      type: str
    schema_head:
      description: Revision of the database schema that this release works with.
      type: str
    installed:
      description: Whether this release is complete.
      type: bool
    same_schema:
      description:
        - Whether this release knows the schema of the active release and of the one that the snapshot was taken for.
      type: bool
    taken_at:
      description: When it was taken.
      type: str
    status:
      description: V(open), V(settled) or V(restored), or V(damaged) with the C(reason).
      type: str
    copies:
      description: For each file that is kept, where its content is, readable for root only.
      type: dict
in_use:
  description: Ids that a running process uses.
  returned: when O(processes=true)
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _config_snapshot as snapshots
from ansible_collections.flowfleet.langflow.plugins.module_utils import _release as releases


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={**releases.OPTIONS, "processes": {"type": "bool", "default": False}},
        mutually_exclusive=[("id", "version")],
        supports_check_mode=True,
    )
    params = module.params
    layout = releases.Layout(Path(params["root"]))
    result: dict[str, Any] = {"changed": False}
    try:
        name = releases.named(params)
        if params["processes"]:
            result["in_use"] = sorted(releases.in_use(layout))
        if params["snapshot"]:
            result["snapshot"] = snapshots.report(layout, params["snapshot"])
    except (releases.ReleaseError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result, **releases.report(layout, name))


if __name__ == "__main__":
    main()
