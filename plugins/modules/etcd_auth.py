#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Say who may read and write in an etcd cluster, and let it ask for passwords."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_auth
short_description: Say who may read and write in an etcd cluster
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Gives each user a role of the same name that may read and write the keys below one prefix and nothing else, and
    lets the cluster ask for passwords. Without that any certificate of the authority opens everything.
  - etcd can tell users by the names in their certificates too, but not those that use its JSON interface, as Patroni
    does.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.etcd
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  root_password:
    description: Password of the user C(root), who may do everything. Set when the cluster begins to ask.
    type: str
    required: true
  users:
    description: Who else is let in. Users and roles that are not named here stay as they are.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the user and of its role.
        type: str
        required: true
      password:
        description: Its password.
        type: str
        required: true
      prefix:
        description: How the keys begin that it may read and write.
        type: str
        required: true
  enable:
    description:
      - Whether a cluster that asks for no passwords begins to. Every client needs its password before that.
      - With V(false) such a cluster is left alone; one that asks already is kept as described.
    type: bool
    default: true
notes:
  - A password of C(root) that was changed elsewhere makes the module fail; nothing can be changed without it.
seealso:
  - module: flowfleet.langflow.etcd_member
"""

EXAMPLES = r"""
- name: Let Patroni alone keep its keys in etcd
  flowfleet.langflow.etcd_auth:
    hosts:
      - {name: db1, address: 192.0.2.21}
      - {name: db2, address: 192.0.2.22}
      - {name: db3, address: 192.0.2.23}
    ca_path: /etc/flowfleet/tls/ca.crt
    client_cert: /etc/flowfleet/tls/etcd.crt
    client_key: /etc/flowfleet/tls/etcd.key
    root_password: "{{ vault_etcd_root_password }}"
    users:
      - {name: patroni, password: "{{ vault_etcd_patroni_password }}", prefix: /flowfleet/}
"""

RETURN = r"""
actions:
  description: What was done, or would be.
  returned: always
  type: list
  elements: str
  sample: [add user patroni, enable]
enabled:
  description: Whether the cluster asks for passwords now, or would.
  returned: always
  type: bool
"""

from ansible_collections.flowfleet.langflow.plugins.module_utils._etcd import TLS_OPTIONS, Cluster, EtcdError, Refused
from ansible_collections.flowfleet.langflow.plugins.module_utils._etcd_auth import ROOT, Authority
from ansible_collections.flowfleet.langflow.plugins.module_utils._quiet_module import QuietModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Access, RestError


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    user = {
        "name": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "prefix": {"type": "str", "required": True},
    }
    module = QuietModule(
        argument_spec={
            **TLS_OPTIONS,
            "root_password": {"type": "str", "required": True, "no_log": True},
            "users": {"type": "list", "elements": "dict", "required": True, "options": user},
            "enable": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    access = Access(params["ca_path"], params["client_cert"], params["client_key"], timeout=params["request_timeout"])
    cluster = Cluster(params["hosts"], access, params["client_port"], params["peer_port"])
    authority = Authority(cluster, params["root_password"], module.check_mode)
    try:
        authority.begin()
        if authority.asks or params["enable"]:
            for wanted in params["users"]:
                authority.keep(wanted["name"], wanted["password"], wanted["prefix"])
            authority.finish()
    except Refused:
        msg = f"etcd knows another password of its user {ROOT} than root_password, so nothing can be changed"
        module.fail_json(msg=msg, actions=authority.actions, enabled=True)
    except (EtcdError, RestError) as exc:
        module.fail_json(msg=str(exc), actions=authority.actions, enabled=authority.asks)
    enabled = authority.asks or params["enable"]
    module.exit_json(changed=bool(authority.actions), actions=authority.actions, enabled=enabled)


if __name__ == "__main__":
    main()
