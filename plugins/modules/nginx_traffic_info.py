#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Count from the access log of a load balancer what clients got in spans of time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_traffic_info
short_description: Count what clients of a load balancer got in spans of time
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Reads the JSON access log that role P(flowfleet.langflow.nginx#role) writes, and its rotated predecessors as far as
    the spans reach back.
  - Counts requests by what the client got in the end. A request that failed on one backend and was answered by the next
    one is retried and recovered, and has not failed.
  - A request belongs to the span in which it ended, because that is when the load balancer writes its line.
    Both ends of a span are compared with the clock of the load balancer.
  - The log is read line by line, and what is kept of it does not grow with it. Times are kept as a histogram, in whole
    milliseconds below one second and in three digits above. Histograms of several load balancers can be added, so the
    percentiles of the sum are right.
  - Callback P(flowfleet.langflow.rollout_report#callback) adds up the results of all load balancers for its report.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.nginx_log
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details:
      - Nothing is changed.
options:
  spans:
    description: What to count. Spans may overlap.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Names the span, such as V(before).
        type: str
        required: true
      since:
        description: Its begin, which belongs to it, in seconds since the epoch or as ISO 8601 with a time zone.
        type: raw
        required: true
      until:
        description: Its end, which does not belong to it. Now, if not given.
        type: raw
  path:
    description: The access log.
    type: path
    default: /var/log/nginx/access.json
  backends:
    description:
      - Names of backends, each with its V(address) or V(address:port), for RV(spans[].backends).
        Others appear with their address.
    type: dict
    default: {}
  required:
    description: Whether a log that is not there is an error. Otherwise RV(reason) says so, and RV(spans) is empty.
    type: bool
    default: true
notes:
  - With C(nginx_log_target=journal) there is no file to read.
seealso:
  - module: flowfleet.langflow.canary_gate
  - module: flowfleet.langflow.rollout_state
  - module: flowfleet.langflow.request_probe
"""

EXAMPLES = r"""
- name: Count what clients got before, during and after a roll
  flowfleet.langflow.nginx_traffic_info:
    spans: "{{ rollout.spans }}"
    backends: "{{ langflow_fleet_app_hosts | items2dict(key_name='name', value_name='address') }}"
    required: false
  loop: "{{ langflow_fleet_lb_hosts | map(attribute='name') }}"
  loop_control:
    loop_var: __balancer
  delegate_to: "{{ __balancer }}"
  run_once: true

- name: Count the last five minutes
  flowfleet.langflow.nginx_traffic_info:
    spans:
      - name: lately
        since: "{{ now().timestamp() - 300 }}"
  register: traffic
"""

RETURN = r"""
path:
  description: The log.
  type: str
  returned: always
reason:
  description: Why nothing was read. Empty if something was.
  type: str
  returned: always
unreadable:
  description: Lines that are no JSON with a time.
  type: int
  returned: success
spans:
  description: One entry for each span, in the order in which they were given.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Its name.
      type: str
    since:
      description: Its begin in seconds since the epoch.
      type: float
    until:
      description: Its end in seconds since the epoch.
      type: float
    requests:
      description: Requests that ended in the span, but for O(exclude_paths).
      type: int
    failed:
      description: Requests whose last status is one of O(error_statuses).
      type: int
    unserved:
      description: Requests that failed without having reached any backend, such as with a maintenance page.
      type: int
    retried:
      description: Requests that were tried on more than one backend.
      type: int
    recovered:
      description: Requests that were retried and did not fail.
      type: int
    excluded:
      description: Requests for O(exclude_paths).
      type: int
    statuses:
      description: How often clients got each status.
      type: dict
      sample: {"200": 1200, "502": 1}
    backends:
      description: For each backend the C(attempts) that it got and how many of these were C(errors).
      type: dict
      sample: {app1: {attempts: 600, errors: 1}, app2: {attempts: 602, errors: 0}}
    latency_ms:
      description:
        - Percentiles and maximum of the time from the first byte of the request to the last one of the answer.
          A connection that became a WebSocket does not count.
      type: dict
      sample: {p50: 41, p95: 80, p99: 95, max: 310}
    times_ms:
      description: How often each time was seen. To merge load balancers, add these up and take the percentiles then.
      type: dict
      sample: {"41": 700, "80": 400, "1250": 2}
"""

import re
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _nginx_log, _nginx_traffic

SPAN: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "since": {"type": "raw", "required": True},
    "until": {"type": "raw"},
}


def main() -> None:
    """Take the arguments, count, tell."""
    module = AnsibleModule(
        argument_spec={
            "spans": {"type": "list", "elements": "dict", "required": True, "options": SPAN},
            "path": {"type": "path", "default": "/var/log/nginx/access.json"},
            **_nginx_log.OPTIONS,
            "backends": {"type": "dict", "default": {}},
            "required": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    path = params["path"]
    try:
        spans = _nginx_traffic.make_spans(params["spans"], time.time())
        labels = _nginx_log.Labels()
        for name, address in params["backends"].items():
            labels.add(name, str(address))
        counting = _nginx_traffic.Counting(
            errors=_nginx_log.status_pattern(params["error_statuses"]),
            exclude=[re.compile(pattern) for pattern in params["exclude_paths"]],
            labels=labels,
        )
        found, unreadable = _nginx_traffic.read(path, spans, counting)
    except _nginx_log.LogMissing as exc:
        if params["required"]:
            module.fail_json(path=path, msg=str(exc), reason=str(exc))
        module.exit_json(changed=False, path=path, reason=str(exc), unreadable=0, spans=[])
    except (ValueError, re.error, _nginx_log.LogError) as exc:
        module.fail_json(path=path, msg=str(exc), reason=str(exc))
    rows = [
        {"name": span.name, "since": span.since, "until": round(span.until, 3), **found[span.name].plain()}
        for span in spans
    ]
    module.exit_json(changed=False, path=path, reason="", unreadable=unreadable, spans=rows)


if __name__ == "__main__":
    main()
