#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a backend out of the load balancer, or put it back, without cutting a request."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_backend
short_description: Take a backend out of the load balancer, or put it back, without cutting a request
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Runs on a load balancer that the role P(flowfleet.langflow.nginx#role) has set up, and changes the state of one
    backend there.
  - Only the C(server) line of that backend's membership file is changed. Nginx tests its configuration before it is
    told to reload, and the module waits until workers with the new configuration have taken over. If the test or the
    reload fails, the previous file is put back and the task fails.
  - V(drained) then waits for the requests and streams that are still open to the backend. RV(left) tells how many
    were still open when the time was over; that is not an error here, so let the play decide with C(failed_when).
  - One change is made at a time on each load balancer. The wait for open requests is not part of that, so several
    backends can finish their work at the same time.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.nginx_files
attributes:
  check_mode:
    support: full
    details:
      - Nothing is tested, reloaded or waited for. RV(left) is the number of connections the backend has, idle ones
        included.
  diff_mode:
    support: full
options:
  name:
    description: Name of the backend.
    type: str
    required: true
    aliases: [backend]
  state:
    description:
      - V(drained) sends no new request to the backend and waits for the open ones.
      - V(enabled) sends requests to it.
      - V(absent) drains it and removes its file.
    type: str
    choices: [drained, enabled, absent]
    required: true
  weight:
    description:
      - Share of the requests, relative to the other backends. If not given, it stays as it is, which is V(1) for a
        new one.
    type: int
  address:
    description:
      - Address or host name. Needed to add a backend, together with O(port).
      - For a known backend it has to be what the file says. Who a backend is follows from the variables of the role.
    type: str
  port:
    description: Port. Needed to add a backend, together with O(address).
    type: int
  allow_last:
    description:
      - Whether the last enabled backend may be taken out, after which every request fails. Meant for planned stops.
    type: bool
    default: false
  drain_timeout:
    description: Seconds to wait for open requests and streams.
    type: float
    default: 300.0
  reload_timeout:
    description: Seconds within which Nginx has to take over the new configuration.
    type: float
    default: 30.0
  lock_timeout:
    description: Seconds to wait for another change on this load balancer to end.
    type: float
    default: 120.0
  nginx:
    description: The program that tests the configuration.
    type: str
    default: nginx
  unit:
    description: The unit to reload.
    type: str
    default: nginx.service
  reload_command:
    description: Program and arguments that reload Nginx, instead of asking systemd to reload O(unit).
    type: list
    elements: str
notes:
  - Needs root.
  - "What is counted: connections from workers of Nginx to the address of the backend, as the kernel shows them. Idle
    connections do not count, since Nginx has none to a backend that is down: workers that were replaced by the reload
    have closed theirs, and new workers open none."
  - Workers that were replaced may stay for long because of streams to other backends. While there are such workers, a
    full second without a connection counts as done. One of them may still open a connection to the drained backend,
    if a request that it has taken over before the reload is repeated or was received slowly. So the backend has to be
    stopped gracefully.
  - Work that goes on without a connection, such as a build or a background job, is not seen here. Use
    M(flowfleet.langflow.langflow_jobs_info) on the node for that.
  - If Nginx does not run, only the file is changed, with a warning.
seealso:
  - module: flowfleet.langflow.nginx_backend_info
  - module: flowfleet.langflow.langflow_jobs_info
"""

EXAMPLES = r"""
- name: Take app1 out and wait for its requests
  flowfleet.langflow.nginx_backend:
    name: app1
    state: drained
    drain_timeout: 600
  register: drain
  failed_when: drain is failed or drain.left > 0

- name: Put app1 back
  flowfleet.langflow.nginx_backend:
    name: app1
    state: enabled

- name: Add a node that gets no request yet
  flowfleet.langflow.nginx_backend:
    name: app4
    state: drained
    address: 192.0.2.14
    port: 7860
"""

RETURN = r"""
backend:
  description: The backend as it is now, or would be. Null if it is absent.
  returned: always
  type: dict
  sample: {name: app1, address: 192.0.2.11, port: 7860, state: drained, weight: 1, parameters: ["max_fails=3"]}
previous_state:
  description: V(drained), V(enabled) or V(absent).
  returned: always
  type: str
  sample: enabled
enabled:
  description: Names of all backends that are enabled now, or would be.
  returned: always
  type: list
  elements: str
  sample: [app2, app3]
left:
  description: Requests and streams to the backend that were still open at the end.
  returned: always
  type: int
  sample: 0
waited:
  description: Seconds the module has waited for them.
  returned: always
  type: float
  sample: 12.518
old_workers:
  description: Workers that were replaced and still finish requests or streams, to any backend.
  returned: always
  type: int
  sample: 0
reloaded:
  description: Whether Nginx was told to reload.
  returned: always
  type: bool
  sample: true
running:
  description: Whether Nginx runs.
  returned: always
  type: bool
  sample: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._lock import LockTimeout
from ansible_collections.flowfleet.langflow.plugins.module_utils._nginx_backend import FILES, MembershipError
from ansible_collections.flowfleet.langflow.plugins.module_utils._nginx_switch import Switch, SwitchError
from ansible_collections.flowfleet.langflow.plugins.module_utils._nginx_workers import WorkersError
from ansible_collections.flowfleet.langflow.plugins.module_utils._systemd import SystemdError

SPEC: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True, "aliases": ["backend"]},
    "state": {"type": "str", "choices": ["drained", "enabled", "absent"], "required": True},
    "weight": {"type": "int"},
    "address": {"type": "str"},
    "port": {"type": "int"},
    "allow_last": {"type": "bool", "default": False},
    "drain_timeout": {"type": "float", "default": 300.0},
    "reload_timeout": {"type": "float", "default": 30.0},
    "lock_timeout": {"type": "float", "default": 120.0},
    **FILES,
    "nginx": {"type": "str", "default": "nginx"},
    "unit": {"type": "str", "default": "nginx.service"},
    "reload_command": {"type": "list", "elements": "str"},
}


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    params = module.params
    for key, lowest, highest in (("weight", 1, 65535), ("port", 1, 65535)):
        if params[key] is not None and not lowest <= params[key] <= highest:
            module.fail_json(msg=f"{key} has to be from {lowest} to {highest}, not {params[key]}")
    switch = Switch(**params, check_mode=module.check_mode, labels=module)
    try:
        switch.run()
    except (SwitchError, MembershipError, WorkersError, SystemdError, LockTimeout, OSError) as error:
        module.fail_json(msg=str(error), **switch.report.result())
    for warning in switch.report.warnings:
        module.warn(warning)
    result = switch.report.result()
    if module._diff:
        result["diff"] = switch.report.diff
    module.exit_json(**result)


if __name__ == "__main__":
    main()
