#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait until a service is well."""

from __future__ import annotations

DOCUMENTATION = r"""
module: health_gate
short_description: Wait until a service answers well several times in a row
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Asks a service until it has given O(successes) good answers in a row. Fails if that takes longer than O(timeout).
  - A single good answer proves little, because a process that is about to die can give one.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.gate
attributes:
  check_mode:
    support: full
    details:
      - Nothing is asked, because the service may not be there yet.
  diff_mode:
    support: none
    details:
      - Nothing is changed.
options:
  unit:
    description:
      - Systemd unit behind the service. If it is given, the same process has to run throughout.
    type: str
seealso:
  - module: flowfleet.langflow.rolling_restart
"""

EXAMPLES = r"""
- name: Wait until the front door answers
  flowfleet.langflow.health_gate:
    url: https://192.0.2.10/health_check
    server_name: langflow.example.com
    ca_path: /etc/flowfleet/tls/ca.crt
    timeout: 60

- name: Wait until the queue accepts connections over TLS
  flowfleet.langflow.health_gate:
    type: tcp
    host: 192.0.2.31
    port: 6380
    tls: true
    ca_path: /etc/flowfleet/tls/ca.crt

- name: Wait until the database answers
  flowfleet.langflow.health_gate:
    type: command
    argv: [pg_isready, --quiet]
"""

RETURN = r"""
probes:
  description: Number of questions that were asked.
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
  sample: connection refused
duration:
  description: Seconds that it took.
  type: float
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _probe, _rolling_restart, _systemd


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(
        argument_spec={"unit": {"type": "str"}, **_probe.GATE_OPTIONS},
        supports_check_mode=True,
    )
    verdict = _probe.Verdict()
    try:
        gate = _probe.make_gate(module.params)
        _probe.hide_environment(module, module.params)
        if not module.check_mode:
            still_same = _rolling_restart.guard(module.params["unit"]) if module.params["unit"] else None
            verdict = _probe.watch(gate, still_same=still_same)
    except (_probe.ConfigurationError, _rolling_restart.UnitError, _systemd.SystemdError) as exc:
        module.fail_json(msg=str(exc), **verdict.result())
    result = {**verdict.result(), "duration": round(verdict.duration, 3)}
    if not verdict.healthy and not module.check_mode:
        module.fail_json(msg=f"not healthy. {_probe.explain(gate, verdict)}", **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
