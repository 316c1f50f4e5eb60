#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell who leads a Patroni cluster, who follows, and whether all is well."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_cluster_info
short_description: Tell who leads a Patroni cluster, who follows, and whether all is well
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Reads members, roles, lag, timelines and shared settings from the REST API, and asks every member for its versions.
    Changes nothing.
  - Healthy means that any one server may be lost now. There is a leader that runs, every other member streams from it
    on its timeline with no more lag than O(max_lag), in synchronous mode there is a synchronous standby, and the
    cluster is not paused.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.patroni
attributes:
  check_mode:
    support: full
    details:
      - Looks once and does not wait.
  diff_mode:
    support: none
options:
  wait:
    description:
      - Whether to wait until the cluster is healthy. If it is not when O(timeout) is over, the task does not fail; let
        the play decide with C(failed_when).
    type: bool
    default: false
  timeout:
    description: Seconds to wait.
    type: float
    default: 300.0
  interval:
    description: Seconds between two looks.
    type: float
    default: 1.0
  expected:
    description: Number of members that have to be there. Any number if not given.
    type: int
  max_lag:
    description: Bytes that a standby may be behind.
    type: int
    default: 0
  required:
    description:
      - Whether the task fails if the API cannot be asked. With V(false), RV(reachable) tells. For hosts where nothing
        may be installed yet.
    type: bool
    default: true
seealso:
  - module: flowfleet.langflow.patroni_config
  - module: flowfleet.langflow.patroni_switchover
"""

EXAMPLES = r"""
- name: Who leads?
  flowfleet.langflow.patroni_cluster_info:
    ca_path: /etc/flowfleet/tls/ca.crt
  register: cluster

- name: Wait until a server may be lost
  flowfleet.langflow.patroni_cluster_info:
    ca_path: /etc/flowfleet/tls/ca.crt
    expected: 3
    wait: true
  register: cluster
  failed_when: cluster is failed or not cluster.healthy
"""

RETURN = r"""
reachable:
  description: Whether the API could be asked.
  returned: always
  type: bool
name:
  description: Name of the member that was asked.
  returned: always
  type: str
leads:
  description: Whether that member leads.
  returned: always
  type: bool
leader:
  description: Name of the leader; empty if nobody leads.
  returned: always
  type: str
healthy:
  description: Whether any one server may be lost now.
  returned: always
  type: bool
problems:
  description: Why not.
  returned: always
  type: list
  elements: str
pending_restart:
  description: Members that have settings which only a restart takes over.
  returned: always
  type: list
  elements: str
members:
  description: All members.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name.
      type: str
    role:
      description: V(leader), V(sync_standby), V(quorum_standby), V(replica) or V(standby_leader).
      type: str
    state:
      description: V(running) for a leader and V(streaming) for a standby if all is well.
      type: str
    timeline:
      description: Timeline; it grows with every change of leader.
      type: int
    lag:
      description: Bytes behind the leader. Not set for the leader, and where it is not known.
      type: int
    host:
      description: Where PostgreSQL is reached.
      type: str
    port:
      description: Its port.
      type: int
    api_url:
      description: Where its REST API is reached.
      type: str
    pending_restart:
      description: Whether settings wait for a restart.
      type: bool
    tags:
      description: Tags of the member.
      type: dict
    server_version:
      description: Version of the running PostgreSQL, such as 170012 for 17.12.
      type: int
    patroni_version:
      description: Version of the running Patroni.
      type: str
    unreachable:
      description: Why its REST API did not answer.
      type: str
config:
  description: Settings that all members share.
  returned: always
  type: dict
waited:
  description: Seconds that were waited.
  returned: always
  type: float
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._patroni import (
    ACCESS_OPTIONS,
    Client,
    Watch,
    make_access,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import RestError


def main() -> None:
    """Take the arguments, look, tell the result."""
    module = AnsibleModule(
        argument_spec={
            **ACCESS_OPTIONS,
            "wait": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 300.0},
            "interval": {"type": "float", "default": 1.0},
            "expected": {"type": "int"},
            "max_lag": {"type": "int", "default": 0},
            "required": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    reachable, name, problem = True, "", ""
    wait = params["wait"] and not module.check_mode
    try:
        client = Client(params["url"], make_access(params))
        watch = Watch(client, params["timeout"] if wait else 0.0, params["interval"])
        cluster, problems = watch.until(lambda seen: seen.problems(params["expected"], params["max_lag"]))
        name = client.own_name()
    except RestError as exc:
        reachable, problem = False, str(exc)
    if not reachable:
        if params["required"]:
            module.fail_json(msg=problem)
        module.exit_json(
            changed=False,
            reachable=False,
            name="",
            leads=False,
            leader="",
            healthy=False,
            problems=[problem],
            pending_restart=[],
            members=[],
            config={},
            waited=0.0,
        )
    leader = cluster.leader.name if cluster.leader else ""
    module.exit_json(
        changed=False,
        reachable=True,
        name=name,
        leads=bool(name) and name == leader,
        leader=leader,
        healthy=not problems,
        problems=problems,
        pending_restart=[member.name for member in cluster.members if member.pending_restart],
        members=[member.result() for member in cluster.members],
        config=dict(cluster.config),
        waited=round(watch.waited, 3),
    )


if __name__ == "__main__":
    main()
