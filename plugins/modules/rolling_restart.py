#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restart a unit only when needed, and prove that it is well."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rolling_restart
short_description: Bring a systemd unit to run with its present configuration, proven healthy
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Starts a unit that is stopped, and restarts or reloads one whose process is older than any of its files.
    A unit that runs with its present configuration is left alone.
  - The times of process and files decide. So a restart that an earlier, broken run missed is made up for.
  - Afterwards the unit has to pass the O(gate). Its process must stay the same meanwhile, with no restart by systemd.
  - Units and files that systemd has not read yet are read first.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.gate.nested
attributes:
  check_mode:
    support: full
    details:
      - A unit that does not exist yet counts as one that would be started. Nothing is probed.
  diff_mode:
    support: full
options:
  unit:
    description: Full name of the unit, such as V(redis-cache.service).
    type: str
    required: true
  watch:
    description:
      - Files and links that the process reads when it starts. For a link, both the link and what it leads to count.
      - Paths that do not exist are ignored.
    type: list
    elements: path
    default: []
  apply:
    description:
      - How a process that is older than its files gets to know them.
      - A reload made by this module is remembered until the next boot, so that one change is reloaded once.
    type: str
    choices: [restart, reload]
    default: restart
  mode:
    description:
      - V(any) starts what is stopped and refreshes what is stale.
      - V(start) only starts what is stopped. RV(stale) tells whether there is more to do.
      - V(always) refreshes what is fresh as well, because somebody asked for it. It is not idempotent.
    type: str
    choices: [any, start, always]
    default: any
  enabled:
    description: Whether the unit is started at boot. If not given, this is left alone.
    type: bool
notes:
  - A unit of type C(oneshot) without C(RemainAfterExit) ends as inactive and would be started on each run.
seealso:
  - module: flowfleet.langflow.health_gate
  - module: flowfleet.langflow.managed_files
"""

EXAMPLES = r"""
- name: Run the cache with its present configuration
  flowfleet.langflow.rolling_restart:
    unit: redis-cache.service
    watch:
      - /etc/redis/cache.conf
      - /etc/systemd/system/redis-cache.service
    enabled: true
    gate:
      type: tcp
      port: 6379

- name: Refresh a node and wait until it answers well three times in a row
  flowfleet.langflow.rolling_restart:
    unit: langflow.service
    watch:
      - /opt/langflow/current
      - /etc/langflow/langflow.env
    gate:
      type: http
      url: https://127.0.0.1:7860/health_check
      ca_path: /etc/flowfleet/tls/ca.crt
      server_name: langflow.internal
      timeout: 300
"""

RETURN = r"""
action:
  description: What was done to the unit, or would be.
  type: str
  returned: always
  sample: restarted
stale:
  description: Whether the process was older than one of its files.
  type: bool
  returned: always
reason:
  description: Why something was done, or why not.
  type: str
  returned: always
  sample: /etc/redis/cache.conf is newer than the running process
daemon_reloaded:
  description: Whether systemd had to read unit files again, or would have to.
  type: bool
  returned: always
timings:
  description: Seconds that systemd needed, and seconds that the gate took.
  type: dict
  returned: always
  sample: {apply: 1.204, gate: 2.118}
unit_state:
  description: The state of the unit at the end, as systemd gives it.
  type: dict
  returned: always
  sample: {LoadState: loaded, ActiveState: active, SubState: running, Result: success, NRestarts: "0"}
probes:
  description: Number of questions the gate asked.
  type: int
  returned: always
latency_ms:
  description: Smallest, median and largest time to a good answer, in milliseconds.
  type: dict
  returned: always
  sample: {min: 2.1, median: 2.4, max: 9.8}
last_failure:
  description: Reason of the last answer that was not good, if there was any.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._probe import (
    GATE_OPTIONS,
    ConfigurationError,
    hide_environment,
    make_gate,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._rolling_restart import UnitError, UnitKeeper
from ansible_collections.flowfleet.langflow.plugins.module_utils._systemd import SystemdError


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "watch": {"type": "list", "elements": "path", "default": []},
            "apply": {"type": "str", "choices": ["restart", "reload"], "default": "restart"},
            "mode": {"type": "str", "choices": ["any", "start", "always"], "default": "any"},
            "enabled": {"type": "bool"},
            "gate": {"type": "dict", "options": GATE_OPTIONS},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        gate = None if params["gate"] is None else make_gate(params["gate"])
    except ConfigurationError as exc:
        module.fail_json(msg=f"gate: {exc}")
    hide_environment(module, params["gate"])
    keeper = UnitKeeper(
        unit=params["unit"],
        watch=params["watch"],
        apply=params["apply"],
        mode=params["mode"],
        enabled=params["enabled"],
        gate=gate,
        check_mode=module.check_mode,
    )
    try:
        report = keeper.run()
    except ConfigurationError as exc:
        module.fail_json(msg=f"{params['unit']}: gate: {exc}", **keeper.report.result())
    except (UnitError, SystemdError, OSError) as exc:
        module.fail_json(msg=str(exc), **keeper.report.result())
    result = report.result()
    if module._diff and report.changed:
        result["diff"] = report.diff(params["unit"])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
