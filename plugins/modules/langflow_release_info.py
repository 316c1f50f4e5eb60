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
seealso:
  - module: flowfleet.langflow.langflow_release
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  root:
    description: Directory of the installation.
    type: path
    default: /opt/langflow
  id:
    description:
      - Id of the release in question. O(version), O(requirements) and O(python_version) name it as well.
    type: str
  version:
    description: Version of Langflow.
    type: str
  requirements:
    description: Hash-locked requirements file on the controller, searched like the source of a copied file.
    type: path
  python_version:
    description: Version of Python, for example V(3.13).
    type: str
  processes:
    description: Also look for releases that running processes use.
    type: bool
    default: false
  requirements_sha256:
    description: Checksum of O(requirements). Filled in by the action plugin.
    type: str
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
in_use:
  description: Ids that a running process uses.
  returned: when O(processes=true)
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _release as releases


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/langflow"},
            "id": {"type": "str"},
            "version": {"type": "str"},
            "requirements": {"type": "path"},
            "requirements_sha256": {"type": "str"},
            "python_version": {"type": "str"},
            "processes": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("id", "version")],
        required_by={"version": ("requirements_sha256", "python_version")},
        supports_check_mode=True,
    )
    params = module.params
    layout = releases.Layout(Path(params["root"]))
    result: dict[str, Any] = {"changed": False}
    try:
        name = params["id"]
        if params["version"]:
            name = releases.release_id(params["version"], params["requirements_sha256"], params["python_version"])
        if params["processes"]:
            result["in_use"] = sorted(releases.in_use(layout))
    except releases.ReleaseError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result, **releases.report(layout, name))


if __name__ == "__main__":
    main()
