#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hand over the leadership of a Patroni cluster, planned and without loss."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_switchover
short_description: Hand over the leadership of a Patroni cluster, planned and without loss
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Chooses the best candidate or takes the given one, asks Patroni for a switchover, and waits until the new leader
    leads and the old one follows it on its timeline.
  - Refuses if there is no healthy candidate, which is one that streams with no more lag than O(max_lag), may lead and,
    in synchronous mode, is the synchronous standby.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.patroni
attributes:
  check_mode:
    support: full
    details:
      - Fails where the switchover would be refused.
  diff_mode:
    support: full
options:
  leader:
    description:
      - Who shall lead no longer. If somebody else leads already, nothing is done.
      - The present leader if neither this nor O(candidate) is given; then every run is a switchover.
    type: str
  candidate:
    description: Who shall lead. If it does already, nothing is done. The best one if not given.
    type: str
  max_lag:
    description: Bytes that the candidate may be behind, before the leader stops and the rest is sent.
    type: int
    default: 1048576
  timeout:
    description: Seconds until the new leader leads and the old one follows.
    type: float
    default: 120.0
  interval:
    description: Seconds between two looks.
    type: float
    default: 1.0
seealso:
  - module: flowfleet.langflow.patroni_cluster_info
"""

EXAMPLES = r"""
- name: Take the leadership from this host before it is restarted
  flowfleet.langflow.patroni_switchover:
    leader: "{{ inventory_hostname }}"
    ca_path: /etc/flowfleet/tls/ca.crt
    client_cert: /etc/flowfleet/tls/patroni.crt
    client_key: /etc/flowfleet/tls/patroni.key
    username: patroni
    password: "{{ patroni_password }}"
"""

RETURN = r"""
former:
  description: Who led before.
  returned: always
  type: str
leader:
  description: Who leads now, or would.
  returned: always
  type: str
timeline:
  description: Timeline of the new leader.
  returned: when something was done
  type: int
seconds:
  description: Seconds until the old leader followed the new one.
  returned: when something was done
  type: float
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._patroni import (
    ACCESS_OPTIONS,
    Client,
    PatroniError,
    Watch,
    choose,
    handed_over,
    make_access,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import RestError


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(
        argument_spec={
            **ACCESS_OPTIONS,
            "leader": {"type": "str"},
            "candidate": {"type": "str"},
            "max_lag": {"type": "int", "default": 1048576},
            "timeout": {"type": "float", "default": 120.0},
            "interval": {"type": "float", "default": 1.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        client = Client(params["url"], make_access(params))
        cluster = client.cluster(ask_members=True)
        pair = choose(cluster, params["leader"], params["candidate"], params["max_lag"])
    except (RestError, PatroniError) as exc:
        module.fail_json(msg=str(exc))
    if pair is None:
        present = cluster.leader.name if cluster.leader else ""
        module.exit_json(changed=False, former=present, leader=present)
    old, new = pair
    result = {"changed": True, "former": old, "leader": new}
    if module._diff:
        result["diff"] = {"before": f"leader: {old}\n", "after": f"leader: {new}\n"}
    if module.check_mode:
        module.exit_json(**result)
    try:
        said = client.switchover(old, new, params["timeout"])
    except PatroniError as exc:
        module.fail_json(msg=str(exc), **result)
    watch = Watch(client, params["timeout"], params["interval"])
    cluster, problems = watch.until(lambda seen: handed_over(seen, old, new, params["max_lag"]))
    if problems:
        module.fail_json(msg=f"{'; '.join(problems)} after {watch.waited:.0f} s. {said}".strip(), **result)
    timeline = cluster.leader.timeline if cluster.leader else None
    module.exit_json(**result, timeline=timeline, seconds=round(watch.waited, 3))


if __name__ == "__main__":
    main()
