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
  - Several units of one host are done one after the other with O(units). The first that fails stops the rest.
  - Units and files that systemd has not read yet are read first.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.gate.nested
  - flowfleet.langflow.gate.units
attributes:
  check_mode:
    support: full
    details:
      - A unit that does not exist yet counts as one that would be started. Nothing is probed.
  diff_mode:
    support: full
options:
  unit:
    description:
      - Full name of the unit, such as V(redis-cache.service).
      - One of this and O(units) is needed. With O(units), the wishes for a unit stand there.
    type: str
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

- name: Restart for another program, reload for other settings, and run what depends on it
  flowfleet.langflow.rolling_restart:
    units:
      - unit: nginx.service
        watch: [/usr/sbin/nginx]
        enabled: true
      - unit: nginx.service
        watch: [/etc/nginx/nginx.conf]
        apply: reload
        gate:
          type: tcp
          port: 443
      - unit: certificate-watch.timer
        watch: [/etc/systemd/system/certificate-watch.timer]
        enabled: true
"""

RETURN = r"""
action:
  description: What was done to the unit, or would be.
  type: str
  returned: when O(unit) is given
  sample: restarted
stale:
  description: Whether the process was older than one of its files.
  type: bool
  returned: when O(unit) is given
reason:
  description: Why something was done, or why not.
  type: str
  returned: when O(unit) is given
  sample: /etc/redis/cache.conf is newer than the running process
daemon_reloaded:
  description: Whether systemd had to read unit files again, or would have to.
  type: bool
  returned: when O(unit) is given
timings:
  description: Seconds that systemd needed, and seconds that the gate took.
  type: dict
  returned: when O(unit) is given
  sample: {apply: 1.204, gate: 2.118}
unit_state:
  description: The state of the unit at the end, as systemd gives it.
  type: dict
  returned: when O(unit) is given
  sample: {LoadState: loaded, ActiveState: active, SubState: running, Result: success, NRestarts: "0"}
probes:
  description: Number of questions the gate asked.
  type: int
  returned: when O(unit) is given
latency_ms:
  description: Smallest, median and largest time to a good answer, in milliseconds.
  type: dict
  returned: when O(unit) is given
  sample: {min: 2.1, median: 2.4, max: 9.8}
last_failure:
  description: Reason of the last answer that was not good, if there was any.
  type: str
  returned: when O(unit) is given
units:
  description:
    - What was done to each unit of O(units), in their order, and what its gate saw.
    - After a failure, the last one is the unit that failed, and those after it were left alone.
  type: list
  elements: dict
  returned: when O(units) is given
  contains:
    unit:
      description: Name of the unit.
      type: str
      returned: always
      sample: redis-cache.service
    changed:
      description: Whether anything was done, or would be.
      type: bool
      returned: always
    action:
      description: What was done to the unit, or would be.
      type: str
      returned: always
    stale:
      description: Whether the process was older than one of its files.
      type: bool
      returned: always
    reason:
      description: Why something was done, or why not.
      type: str
      returned: always
    daemon_reloaded:
      description: Whether systemd had to read unit files again, or would have to.
      type: bool
      returned: always
    timings:
      description: Seconds that systemd needed, and seconds that the gate took.
      type: dict
      returned: always
    unit_state:
      description: The state of the unit at the end, as systemd gives it.
      type: dict
      returned: always
    probes:
      description: Number of questions the gate asked.
      type: int
      returned: always
    latency_ms:
      description: Smallest, median and largest time to a good answer, in milliseconds.
      type: dict
      returned: always
    last_failure:
      description: Reason of the last answer that was not good, if there was any.
      type: str
      returned: always
"""

from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._probe import (
    GATE_OPTIONS,
    ConfigurationError,
    hide_environment,
    make_gate,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._quiet_module import QuietModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._rolling_restart import UnitError, UnitKeeper
from ansible_collections.flowfleet.langflow.plugins.module_utils._systemd import SystemdError

UNIT_OPTIONS: dict[str, dict[str, Any]] = {
    "unit": {"type": "str"},
    "watch": {"type": "list", "elements": "path", "default": []},
    "apply": {"type": "str", "choices": ["restart", "reload"], "default": "restart"},
    "mode": {"type": "str", "choices": ["any", "start", "always"], "default": "any"},
    "enabled": {"type": "bool"},
    "gate": {"type": "dict", "options": GATE_OPTIONS},
}


def make_keepers(module: AnsibleModule, wishes: Sequence[dict[str, Any]]) -> list[UnitKeeper]:
    """One keeper for each unit; all wishes are judged before the first unit is touched."""
    keepers = []
    problem = None
    for wish in wishes:
        try:
            gate = None if wish["gate"] is None else make_gate(wish["gate"])
        except ConfigurationError as exc:
            problem = problem or f"{wish['unit']}: gate: {exc}"
            continue
        options = {name: wish[name] for name in ("unit", "apply", "mode", "enabled")}
        keepers.append(UnitKeeper(**options, watch=wish["watch"] or (), gate=gate, check_mode=module.check_mode))
    # Only now: this replaces what the gates were made from.
    for wish in wishes:
        hide_environment(module, wish["gate"])
    if problem is not None:
        module.fail_json(msg=problem)
    return keepers


def why_it_failed(keeper: UnitKeeper) -> str | None:
    """Bring one unit to its wanted state; the answer is nothing if that worked."""
    try:
        keeper.run()
    except ConfigurationError as exc:
        return f"{keeper.unit}: gate: {exc}"
    except (UnitError, SystemdError, OSError) as exc:
        return str(exc) if keeper.unit in str(exc) else f"{keeper.unit}: {exc}"
    return None


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = QuietModule(
        argument_spec={
            **UNIT_OPTIONS,
            "units": {
                "type": "list",
                "elements": "dict",
                "options": {**UNIT_OPTIONS, "unit": {"type": "str", "required": True}},
            },
        },
        mutually_exclusive=[("units", name) for name in UNIT_OPTIONS],
        required_one_of=[("unit", "units")],
        supports_check_mode=True,
    )
    several = module.params["units"] is not None
    tried: list[UnitKeeper] = []
    diffs = []
    failure = None
    for keeper in make_keepers(module, module.params["units"] if several else [module.params]):
        tried.append(keeper)
        failure = why_it_failed(keeper)
        if failure is not None:
            break
        if keeper.report.changed:
            diffs.append(keeper.report.diff(keeper.unit))
    if several:
        reports = [{"unit": keeper.unit, **keeper.report.result()} for keeper in tried]
        result: dict[str, Any] = {"changed": any(report["changed"] for report in reports), "units": reports}
    else:
        result = tried[0].report.result()
    if module._diff and diffs:
        result["diff"] = diffs if several else diffs[0]
    if failure is not None:
        module.fail_json(msg=failure, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
