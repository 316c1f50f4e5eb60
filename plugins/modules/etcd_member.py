#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Announce a member to an etcd cluster, or give one up."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_member
short_description: Announce a member to an etcd cluster, or give one up
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - A member that has lost its data cannot come back as the one it was. It is given up and announced again; then it
    starts with empty hands and catches up.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.etcd
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  name:
    description: Name of the member.
    type: str
    required: true
  peer_url:
    description: Where other members reach it. Needed unless O(state=absent).
    type: str
  root_password:
    description: Password of the user C(root) of etcd. Needed once the cluster asks for passwords.
    type: str
    default: ""
  state:
    description:
      - V(present) announces the member if the cluster does not know it.
      - V(absent) gives it up.
      - V(renewed) gives up a member that was started before and announces it anew. One that was announced and not
        started yet is left alone.
    type: str
    choices: [present, absent, renewed]
    default: present
notes:
  - The cluster refuses a change that could cost its majority; the message then is the cluster's own.
  - Never name the member itself among O(hosts) when it is given up.
seealso:
  - module: flowfleet.langflow.etcd_cluster_info
"""

EXAMPLES = r"""
- name: Let a reinstalled host come back
  flowfleet.langflow.etcd_member:
    name: db3
    peer_url: https://192.0.2.23:2380
    state: renewed
    hosts:
      - {name: db1, address: 192.0.2.21}
      - {name: db2, address: 192.0.2.22}
    ca_path: /etc/flowfleet/tls/ca.crt
    client_cert: /etc/flowfleet/tls/etcd.crt
    client_key: /etc/flowfleet/tls/etcd.key
"""

RETURN = r"""
actions:
  description: What was done, or would be.
  returned: always
  type: list
  elements: str
  sample: [remove 8211f1d0f64f3269, add https://192.0.2.23:2380]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._etcd import TLS_OPTIONS, Cluster, EtcdError, find
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Access


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(
        argument_spec={
            **TLS_OPTIONS,
            "name": {"type": "str", "required": True},
            "peer_url": {"type": "str"},
            "root_password": {"type": "str", "default": "", "no_log": True},
            "state": {"type": "str", "choices": ["present", "absent", "renewed"], "default": "present"},
        },
        required_if=[("state", "present", ["peer_url"]), ("state", "renewed", ["peer_url"])],
        supports_check_mode=True,
    )
    params = module.params
    access = Access(params["ca_path"], params["client_cert"], params["client_key"], timeout=params["request_timeout"])
    cluster = Cluster(params["hosts"], access, params["client_port"], params["peer_port"])
    members = cluster.members()
    if not members:
        module.fail_json(msg=f"no host of the cluster answers: {cluster.failures}", actions=[])
    member = find(members, params["name"], params["peer_url"] or "")
    give_up = member is not None and (params["state"] == "absent" or (params["state"] == "renewed" and member.started))
    announce = params["state"] != "absent" and (member is None or give_up)
    actions = [f"remove {member.id}"] if give_up and member is not None else []
    actions += [f"add {params['peer_url']}"] if announce else []
    try:
        if actions and not module.check_mode:
            cluster = cluster.known_as("root", params["root_password"])
            if give_up and member is not None:
                cluster.remove(member)
            if announce:
                cluster.add(params["peer_url"])
    except EtcdError as exc:
        module.fail_json(msg=f"{params['name']}: {exc}", actions=actions)
    result = {"changed": bool(actions), "actions": actions}
    if module._diff and actions:
        before = "\n".join(f"{item.name or item.peer_urls} {item.id}" for item in members) + "\n"
        result["diff"] = {"before": before, "after": before + "\n".join(actions) + "\n"}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
