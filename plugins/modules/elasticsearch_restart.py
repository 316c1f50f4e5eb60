#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restart one node of an Elasticsearch cluster, if it has to be and if the cluster can do without it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: elasticsearch_restart
short_description: Restart a node of an Elasticsearch cluster while the cluster is whole
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Restarts the unit if its process is older than one of its files, and only while all nodes are there and every shard
    has all its copies. Meanwhile copies are given no new place. Ends when the cluster is whole again.
  - A node that runs with its present configuration is left alone, and nobody is asked.
  - With C(throttle=1) nodes follow one after the other, and a node that does not come back stops the others.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.elasticsearch
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  unit:
    description: Full name of the unit.
    type: str
    default: elasticsearch.service
  watch:
    description: Files that the process reads when it starts.
    type: list
    elements: path
    default: []
  mode:
    description:
      - V(any) restarts a node that is older than its files.
      - V(start) never restarts one that runs.
      - V(always) restarts in any case.
    type: str
    choices: [any, start, always]
    default: any
  nodes:
    description: How many nodes the cluster has. One alone is restarted without asking for copies of its shards.
    type: int
    required: true
  force:
    description: Restart even if the cluster is not whole before. It still has to be afterwards.
    type: bool
    default: false
  start_timeout:
    description: Seconds that systemd may take for the restart.
    type: float
    default: 300.0
  recovery_timeout:
    description: Seconds in which the cluster has to be whole, before and after.
    type: float
    default: 1800.0
seealso:
  - module: flowfleet.langflow.rolling_restart
"""

EXAMPLES = r"""
- name: Restart nodes whose settings changed, one after the other
  flowfleet.langflow.elasticsearch_restart:
    watch: [/etc/elasticsearch/elasticsearch.yml]
    nodes: 3
    url: https://127.0.0.1:9200
    username: flowfleet_admin
    password: "{{ vault_elasticsearch_admin_password }}"
    ca_path: /etc/flowfleet/tls/ca.crt
  throttle: 1
"""

RETURN = r"""
action:
  description: What was done to the unit, or would be.
  type: str
  returned: always
  sample: restarted
reason:
  description: Why something was done, or why not.
  type: str
  returned: always
  sample: /etc/elasticsearch/elasticsearch.yml is newer than the running process
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _systemd
from ansible_collections.flowfleet.langflow.plugins.module_utils._elasticsearch import Cluster, ClusterError
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import RestError
from ansible_collections.flowfleet.langflow.plugins.module_utils._rolling_restart import UnitError, UnitKeeper


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "default": "elasticsearch.service"},
            "watch": {"type": "list", "elements": "path", "default": []},
            "mode": {"type": "str", "choices": ["any", "start", "always"], "default": "any"},
            "nodes": {"type": "int", "required": True},
            "force": {"type": "bool", "default": False},
            "start_timeout": {"type": "float", "default": 300.0},
            "recovery_timeout": {"type": "float", "default": 1800.0},
            "url": {"type": "str", "required": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "ca_path": {"type": "path"},
            "request_timeout": {"type": "float", "default": 60.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    cluster = Cluster.known_as(
        params["url"], params["username"], params["password"], params["ca_path"], params["request_timeout"]
    )
    result: dict[str, object] = {"changed": False, "action": "none", "reason": ""}
    try:
        # Only looks: what would have to be done?
        report = UnitKeeper(unit=params["unit"], watch=params["watch"], mode=params["mode"], check_mode=True).run()
        result.update(action=report.action, reason=report.reason, changed=report.action != "none")
        if report.action == "restarted" and not module.check_mode:
            with cluster.away(params["nodes"], params["recovery_timeout"], params["force"]):
                _systemd.systemctl("restart", params["unit"], timeout=params["start_timeout"])
        elif report.action != "none" and not module.check_mode:
            UnitKeeper(unit=params["unit"], watch=params["watch"], mode=params["mode"]).run()
    except (ClusterError, RestError, UnitError, _systemd.SystemdError, OSError) as exc:
        module.fail_json(msg=f"{params['unit']}: {exc}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
