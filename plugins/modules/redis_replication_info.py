#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell who is master of a replicated Redis, and wait until all agree."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_replication_info
short_description: Tell who is master of a replicated Redis, and wait until all agree
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Asks every server and every sentinel, over verified TLS, and compares what they say. Changes nothing.
  - Settled means that all sentinels name the same master and see it well, that it is one, and that all other servers
    follow it, have a link to it and are caught up.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.redis_fleet
attributes:
  check_mode:
    support: full
    details:
      - Looks once and does not wait.
  diff_mode:
    support: none
options:
  wait:
    description: Whether to wait until all is settled, and to fail when it is not in time.
    type: bool
    default: false
  without:
    description: Names of hosts that need not be well to call it settled, because they are about to be restarted.
    type: list
    elements: str
    default: []
notes:
  - Needs no program on the host but Python.
seealso:
  - module: flowfleet.langflow.redis_failover
"""

EXAMPLES = r"""
- name: Wait until every replica follows its master again
  flowfleet.langflow.redis_replication_info:
    hosts: "{{ langflow_fleet_redis_hosts }}"
    instances:
      - {name: cache, port: 6379}
      - {name: queue, port: 6380}
    password: "{{ lookup('flowfleet.langflow.secret', 'redis_admin_password') }}"
    wait: true
"""

RETURN = r"""
settled:
  description: Whether all agree and are well, apart from O(without).
  returned: always
  type: bool
problems:
  description: What is not as it should be, in sentences.
  returned: always
  type: list
  elements: str
instances:
  description: What each instance looks like, by name.
  returned: always
  type: dict
  sample:
    cache:
      master: redis1
      source: sentinels
      members:
        redis1: {role: master, offset: 4711, replicas: 1, error: null}
        redis2: {role: replica, offset: 4711, follows: redis1, link: up, error: null}
      sentinels:
        redis1: {master: redis1, flags: master, others: 1, error: null}
      problems: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _redis_replication as replication
from ansible_collections.flowfleet.langflow.plugins.module_utils._probe import ConfigurationError

SPEC: dict[str, dict[str, Any]] = {
    **replication.OPTIONS,
    "wait": {"type": "bool", "default": False},
    "without": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    """Take the arguments, look, tell the result."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    params = module.params
    instances = replication.ports(params)
    waits = params["wait"] and not module.check_mode
    try:
        fleet = replication.make_fleet(params)
    except ConfigurationError as exc:
        if waits:
            module.fail_json(msg=str(exc))
        # A bare host, on which nothing runs yet.
        views = [replication.View(name, problems=[{"host": "", "text": str(exc)}]) for name in instances]
    else:
        views = replication.wait_settled(
            fleet,
            instances,
            timeout=params["timeout"] if waits else 0.0,
            interval=params["interval"],
            without=params["without"],
        )
    problems = [text for view in views for text in view.apart_from(params["without"])]
    result = {
        "settled": not problems,
        "problems": problems,
        "instances": {view.instance: view.result() for view in views},
    }
    if problems and waits:
        module.fail_json(msg=f"not settled after {params['timeout']:g} s: {'; '.join(problems)}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
