#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell how busy the workers of a service are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: langflow_workers_info
short_description: Tell how busy the workers of a Langflow node are
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Measures for some seconds how much of a processor each child of the service's main process takes. Changes nothing.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  unit:
    description: The service.
    type: str
    default: langflow.service
  seconds:
    description: How long to measure.
    type: float
    default: 5.0
"""

EXAMPLES = r"""
- name: Find the busiest worker
  flowfleet.langflow.langflow_workers_info:
    seconds: 10
  register: result

- name: Name it
  ansible.builtin.debug:
    msg: "{{ result.workers[0].pid }} takes {{ (result.workers[0].cpu * 100) | round }} % of a processor"
  when: result.workers | length > 0
"""

RETURN = r"""
workers:
  description: The workers that were there all the time, the busiest one first. Empty if the service does not run.
  type: list
  elements: dict
  returned: success
  contains:
    pid: {description: Its process., type: int}
    cpu: {description: Processors that it took on average., type: float}
    started: {description: When it was started in seconds since 1970., type: float}
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _processes, _systemd


def ticks(pid: int) -> int | None:
    """What the process has used so far, itself and in the kernel."""
    try:
        fields = _processes.read(str(pid), "stat").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return None


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "default": "langflow.service"},
            "seconds": {"type": "float", "default": 5.0},
        },
        supports_check_mode=True,
    )
    if module.params["seconds"] <= 0:
        module.fail_json(msg="seconds has to be more than 0")
    try:
        parent = int(_systemd.show(module.params["unit"]).get("MainPID") or 0)
    except _systemd.SystemdError as exc:
        module.fail_json(msg=str(exc))
    children = [process for process in _processes.everyone() if parent and process.parent == parent]
    before = {process.pid: ticks(process.pid) for process in children}
    begun = time.monotonic()
    if children:
        time.sleep(module.params["seconds"])
    span = (time.monotonic() - begun) * os.sysconf("SC_CLK_TCK")
    workers = []
    for process in children:
        was, now = before[process.pid], ticks(process.pid)
        # A number that was given to another process meanwhile does not count.
        still = _processes.look(process.pid)
        if was is None or now is None or still is None or still.parent != parent:
            continue
        workers.append({"pid": process.pid, "cpu": round((now - was) / span, 3), "started": process.started})
    workers.sort(key=lambda worker: -worker["cpu"])
    module.exit_json(changed=False, workers=workers)


if __name__ == "__main__":
    main()
