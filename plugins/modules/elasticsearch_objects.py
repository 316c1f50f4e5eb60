#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep pipelines, templates, policies, roles and users of an Elasticsearch cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: elasticsearch_objects
short_description: Keep pipelines, templates, policies, roles and users of an Elasticsearch cluster
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Asks for each object and writes those that are not as they are wanted, in the order of the list.
  - What an object has besides what is wanted stays; what was wanted before and no longer is goes, because objects bear
    a fingerprint of what they were made of.
  - Whether a user has the wanted password is found out by a login with it.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.elasticsearch
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  objects:
    description: What shall be there.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: What it is. V(password) sets the password of a user that Elasticsearch has itself.
        type: str
        required: true
        choices:
          - ilm_policy
          - ingest_pipeline
          - component_template
          - index_template
          - role
          - user
          - password
          - snapshot_repository
          - slm_policy
      name:
        description: Its name.
        type: str
        required: true
      body:
        description: What the API takes for it.
        type: dict
        required: true
  wait:
    description: Seconds to wait for a cluster that has a master and a place for every primary shard.
    type: float
    default: 0.0
"""

EXAMPLES = r"""
- name: Keep logs for a month
  flowfleet.langflow.elasticsearch_objects:
    url: https://127.0.0.1:9200
    username: flowfleet_admin
    password: "{{ vault_elasticsearch_admin_password }}"
    ca_path: /etc/flowfleet/tls/ca.crt
    objects:
      - kind: ilm_policy
        name: example
        body: {policy: {phases: {delete: {min_age: 30d, actions: {delete: {}}}}}}
"""

RETURN = r"""
written:
  description: What was written, or would be.
  returned: always
  type: list
  elements: str
  sample: [ilm_policy example]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._elasticsearch import KINDS, Cluster, ClusterError
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import RestError


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    item = {
        "kind": {"type": "str", "required": True, "choices": list(KINDS)},
        "name": {"type": "str", "required": True},
        "body": {"type": "dict", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "ca_path": {"type": "path"},
            "request_timeout": {"type": "float", "default": 60.0},
            "objects": {"type": "list", "elements": "dict", "required": True, "options": item},
            "wait": {"type": "float", "default": 0.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    for one in params["objects"]:
        if one["body"].get("password"):
            module.no_log_values.add(str(one["body"]["password"]))
    cluster = Cluster.known_as(
        params["url"], params["username"], params["password"], params["ca_path"], params["request_timeout"]
    )
    written: list[str] = []
    shown = ""
    try:
        cluster.answers(params["wait"])
        for one in params["objects"]:
            shown = f"{one['kind']} {one['name']}"
            if cluster.differs(one["kind"], one["name"], one["body"]):
                if not module.check_mode:
                    cluster.write(one["kind"], one["name"], one["body"])
                written.append(shown)
    except (ClusterError, RestError) as exc:
        module.fail_json(msg=f"{shown}: {exc}" if shown else str(exc), written=written, changed=bool(written))
    module.exit_json(changed=bool(written), written=written)


if __name__ == "__main__":
    main()
