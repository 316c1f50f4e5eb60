#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hand the master role of a Redis instance from one host to another."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_failover
short_description: Hand the master roles of a Redis host over to others, without losing a write
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Sees to it that O(host) is not the master of any of O(instances). Where it is not, nothing is done.
  - Writes wait for the moment of the change, up to ten seconds. The replicas get everything that was acknowledged, then
    Sentinel makes one of them the master, and the old one follows it. So a planned change loses nothing, other than
    the failover that Sentinel makes by itself when a master dies.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.redis_fleet
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  host:
    description: Name of the host in O(hosts) that shall not be a master.
    type: str
    required: true
notes:
  - Needs no program on the host but Python.
  - Fails without a change if a replica does not catch up, or if no majority of the sentinels names a master.
seealso:
  - module: flowfleet.langflow.redis_replication_info
"""

EXAMPLES = r"""
- name: Make another host the master of the queue
  flowfleet.langflow.redis_failover:
    hosts: "{{ langflow_fleet_redis_hosts }}"
    instances:
      - {name: queue, port: 6380}
    host: redis1
    password: "{{ lookup('flowfleet.langflow.secret', 'redis_admin_password') }}"
"""

RETURN = r"""
before:
  description: The master of each instance at the beginning.
  returned: success
  type: dict
  sample: {queue: redis1}
masters:
  description: The master of each instance at the end. In check mode the same as RV(before).
  returned: success
  type: dict
  sample: {queue: redis2}
seconds:
  description: How long all changes took.
  returned: success
  type: float
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _redis_replication as replication
from ansible_collections.flowfleet.langflow.plugins.module_utils._probe import ConfigurationError
from ansible_collections.flowfleet.langflow.plugins.module_utils._redis import RedisError

SPEC: dict[str, dict[str, Any]] = {
    **replication.OPTIONS,
    "host": {"type": "str", "required": True},
}


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    params = module.params
    instances = replication.ports(params)
    host = params["host"]
    began = time.monotonic()
    before: dict[str, str] = {}
    masters: dict[str, str] = {}
    try:
        fleet = replication.make_fleet(params)
        if host not in fleet.hosts:
            module.fail_json(msg=f"host: {host} is not one of hosts ({', '.join(fleet.hosts)})")
        for name, port in instances.items():
            view = replication.look(fleet, name, port)
            if view.master is None or view.source != "sentinels":
                module.fail_json(msg=f"no majority of the sentinels names a master of {name}", view=view.result())
            before[name] = masters[name] = view.master
        for name, port in instances.items() if not module.check_mode else ():
            if before[name] == host:
                masters[name] = replication.hand_over(fleet, name, port, host, timeout=params["timeout"])
        moved = {name: port for name, port in instances.items() if before[name] != masters[name]}
        if moved:
            views = replication.wait_settled(fleet, moved, timeout=params["timeout"], interval=params["interval"])
            problems = [text for view in views for text in view.apart_from(())]
            if problems:
                module.fail_json(msg=f"handed over to {masters}, but not settled: {'; '.join(problems)}")
    except (ConfigurationError, RedisError, replication.HandoverError) as exc:
        module.fail_json(msg=str(exc), before=before, masters=masters)
    module.exit_json(
        changed=host in before.values(), before=before, masters=masters, seconds=round(time.monotonic() - began, 3)
    )


if __name__ == "__main__":
    main()
