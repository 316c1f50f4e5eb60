#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_check
short_description: Measure what the preflight needs to know about a host
version_added: 1.0.0
description:
  - Reads the operating system, Python, systemd, memory, free disk space, listening ports with their owners, the clock
    and the Langflow release that is current, in one call and without starting a program.
  - Changes nothing and judges nothing. M(flowfleet.langflow.preflight) compares the result with the inventory.
author:
  - The flowfleet.langflow contributors (@flowfleet)
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  controller_time:
    description: Seconds since the epoch on the controller, taken when the task starts.
    type: float
    required: true
  release_file:
    description: File that describes the Langflow release in use.
    type: path
    default: /opt/langflow/current/RELEASE.json
  paths:
    description: Directories whose free space is measured. A directory that does not exist counts as its nearest parent.
    type: list
    elements: path
    default:
      - /opt
      - /var
"""

EXAMPLES = r"""
- name: Measure the host
  flowfleet.langflow.host_check:
    controller_time: "{{ now(utc=true).timestamp() }}"
  register: __preflight_host
"""

RETURN = r"""
state:
  description: What was measured.
  returned: always
  type: dict
  sample:
    clock_skew: 0.4
    cpus: 2
    disk_free_mb: {/opt: 20480, /var: 20480}
    listeners:
      - {address: 0.0.0.0, port: 22, process: sshd, unit: ssh.service}
    memory_mb: 4096
    os: {id: debian, version: "13"}
    python: 3.13.5
    release: null
    systemd: 257
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._host_state import measure


def main() -> None:
    """Measure and report."""
    module = AnsibleModule(
        argument_spec={
            "controller_time": {"type": "float", "required": True},
            "release_file": {"type": "path", "default": "/opt/langflow/current/RELEASE.json"},
            "paths": {"type": "list", "elements": "path", "default": ["/opt", "/var"]},
        },
        supports_check_mode=True,
    )
    started = time.time()
    state = measure(module.params["paths"], module.params["release_file"])
    # Connecting takes time too: a host that answers late is not a host that is ahead.
    state["clock_skew"] = round(started - module.params["controller_time"], 3)
    module.exit_json(changed=False, state=state)


if __name__ == "__main__":
    main()
