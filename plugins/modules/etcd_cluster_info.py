#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell who belongs to an etcd cluster and who is healthy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_cluster_info
short_description: Tell who belongs to an etcd cluster and who is healthy
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Reads the list of members from the first host that answers, and asks every host for its health. Changes nothing.
  - A cluster that nobody answers for is no failure, so that a play can decide what that means.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.etcd
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: flowfleet.langflow.etcd_member
"""

EXAMPLES = r"""
- name: See the cluster as this host's own certificate may
  flowfleet.langflow.etcd_cluster_info:
    hosts:
      - {name: db1, address: 192.0.2.21}
      - {name: db2, address: 192.0.2.22}
      - {name: db3, address: 192.0.2.23}
    ca_path: /etc/flowfleet/tls/ca.crt
    client_cert: /etc/flowfleet/tls/etcd.crt
    client_key: /etc/flowfleet/tls/etcd.key
  register: cluster
  failed_when: cluster is failed or cluster.unhealthy | length > 0
"""

RETURN = r"""
members:
  description: The members as the cluster knows them. Empty if no host answered.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Identifier, in the hexadecimal form that C(etcdctl) shows.
      type: str
    name:
      description: Name; empty before the member was started for the first time.
      type: str
    peer_urls:
      description: Where other members reach it.
      type: list
      elements: str
    client_urls:
      description: Where clients reach it.
      type: list
      elements: str
    started:
      description: Whether it was ever started.
      type: bool
unhealthy:
  description: By host, why it is not healthy.
  returned: always
  type: dict
failures:
  description: By host, why it could not be asked for the members.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._etcd import TLS_OPTIONS, Cluster
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Access


def main() -> None:
    """Take the arguments, look, tell the result."""
    module = AnsibleModule(argument_spec=TLS_OPTIONS, supports_check_mode=True)
    params = module.params
    access = Access(params["ca_path"], params["client_cert"], params["client_key"], timeout=params["request_timeout"])
    cluster = Cluster(params["hosts"], access, params["client_port"], params["peer_port"])
    members = cluster.members()
    unhealthy = {name: reason for name, reason in cluster.healthy().items() if reason}
    module.exit_json(
        changed=False,
        members=[member.result() for member in members],
        unhealthy=unhealthy,
        failures=cluster.failures,
    )


if __name__ == "__main__":
    main()
