#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read how far a rolling change came."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_state_info
short_description: Read how far a rolling change came
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Reads what M(flowfleet.langflow.rollout_state) keeps. It needs no lock and disturbs nobody.
  - A file that does not exist means that there was no roll. One that cannot be understood is an error that names it.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  path:
    description: The file.
    type: path
    default: /var/lib/flowfleet/rollout.json
seealso:
  - module: flowfleet.langflow.rollout_state
"""

EXAMPLES = r"""
- name: Read how far the roll came
  flowfleet.langflow.rollout_state_info:
  delegate_to: lb1
  run_once: true
  register: rollout

- name: Show who is not done
  ansible.builtin.debug:
    var: rollout.remaining
"""

RETURN = r"""
path:
  description: The file.
  type: str
  returned: always
run_id:
  description: The present or last run.
  type: str
  returned: success
  sample: 20260314T101500Z-5f2c1a
status:
  description: V(none), V(running), V(stopped) by the breaker, V(given_up) or V(finished).
  type: str
  returned: success
breaker:
  description: Whether the breaker is C(open) and, if so, C(since) when, the C(reason), the C(host) and the C(run_id).
  type: dict
  returned: success
  sample: {open: false}
phases:
  description: The phase of each host.
  type: dict
  returned: success
  sample: {app1: enabled, app2: gate, app3: pending}
remaining:
  description: Hosts that are not done.
  type: list
  elements: str
  returned: success
interrupted:
  description: Hosts that are in the middle or were left there, with the phase.
  type: dict
  returned: success
  sample: {app2: gate}
timings:
  description: Seconds that each phase took, for each host.
  type: dict
  returned: success
  sample: {app1: {drain: 2.1, stop: 1.0, start: 14.2, gate: 6.0, total: 23.3}}
spans:
  description:
    - The time before, in and after the roll and that of each batch, for M(flowfleet.langflow.nginx_traffic_info).
      The first span covers the five minutes before the roll. One that still lasts has no end.
  type: list
  elements: dict
  returned: success
  sample: [{name: before, since: "2026-03-14T10:10:00.000Z", until: "2026-03-14T10:15:00.000Z"}]
content:
  description: The whole content of the file.
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _rollout


def main() -> None:
    """Read and tell."""
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "default": "/var/lib/flowfleet/rollout.json"}},
        supports_check_mode=True,
    )
    path = module.params["path"]
    try:
        state = _rollout.StateFile(path).read()
    except _rollout.CorruptState as exc:
        module.fail_json(path=path, msg=_rollout.corrupt_message(path, exc))
    except OSError as exc:
        module.fail_json(path=path, msg=f"cannot read {path}: {exc}")
    module.exit_json(changed=False, path=path, content=state, **_rollout.summary(state))


if __name__ == "__main__":
    main()
