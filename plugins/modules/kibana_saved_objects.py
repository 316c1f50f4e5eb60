#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep data views, searches and dashboards of Kibana as code."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kibana_saved_objects
short_description: Keep data views, searches and dashboards of Kibana as code
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Keeps a space of Kibana, and in it the saved objects of one or more files in the form of Kibana's own export.
  - All objects are imported at once, over what is there, when one is missing, when the files have changed since the
    last import, or when somebody has changed an object by hand. Otherwise nothing is written.
  - A tag in the space bears the sum of the files. Kibana brings objects up to date by itself, so what it gives back is
    never the same as what was imported, and cannot be compared.
  - Objects that are in no file stay as they are.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: partial
    details: Names only.
options:
  url:
    description: Address of Kibana, https.
    type: str
    required: true
  username:
    description: User that may change the space and everything in it.
    type: str
    required: true
  password:
    description: Its password.
    type: str
    required: true
  ca_path:
    description: File with the certificates of the authorities to trust instead of the system's.
    type: path
  space:
    description: Identifier of the space. It is made if it is not there.
    type: str
    required: true
  space_name:
    description: Name of the space as people see it.
    type: str
    required: true
  space_description:
    description: What it is for.
    type: str
    default: ""
  files:
    description: Contents of the files, each with a saved object a line.
    type: list
    elements: str
    required: true
  marker:
    description: Identifier and name of the tag that bears the sum.
    type: str
    default: flowfleet
  request_timeout:
    description: Seconds for one request.
    type: float
    default: 120.0
notes:
  - For Kibana 8.19 and 9.
"""

EXAMPLES = r"""
- name: Show the fleet's dashboards
  flowfleet.langflow.kibana_saved_objects:
    url: https://log1.example.com:5601
    username: flowfleet_admin
    password: "{{ vault_admin_password }}"
    ca_path: /etc/flowfleet/tls/ca.crt
    space: flowfleet
    space_name: Langflow fleet
    files: ["{{ lookup('ansible.builtin.file', 'objects.ndjson') }}"]
"""

RETURN = r"""
actions:
  description: What was done, or would be.
  returned: success
  type: list
  elements: str
  sample: [make space flowfleet, import 3 objects]
reasons:
  description: Why objects were imported.
  returned: success
  type: list
  elements: str
  sample: [dashboard flowfleet-requests was changed by hand]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._kibana import Kibana, KibanaError, read_objects
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Access, RestError


def main() -> None:
    """Compare, and import if something differs."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "ca_path": {"type": "path"},
            "space": {"type": "str", "required": True},
            "space_name": {"type": "str", "required": True},
            "space_description": {"type": "str", "default": ""},
            "files": {"type": "list", "elements": "str", "required": True},
            "marker": {"type": "str", "default": "flowfleet"},
            "request_timeout": {"type": "float", "default": 120.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    access = Access(
        ca_path=params["ca_path"],
        username=params["username"],
        password=params["password"],
        timeout=params["request_timeout"],
    )
    try:
        objects = read_objects(params["files"])
        kibana = Kibana(params["url"], access, params["space"])
        space = {"name": params["space_name"], "description": params["space_description"]}
        actions = kibana.keep_space(space, module.check_mode)
        made = module.check_mode and actions and actions[0].startswith("make")
        reasons = ["the space is not there"] if made else kibana.differences(objects, params["marker"])
        if reasons:
            actions.append(f"import {len(objects)} objects")
            if not module.check_mode:
                kibana.load(objects, params["marker"])
    except (KibanaError, RestError) as exc:
        module.fail_json(msg=str(exc))
    result: dict[str, Any] = {"changed": bool(actions), "actions": actions, "reasons": reasons}
    if module._diff and actions:
        result["diff"] = {"before": "", "after": "".join(f"{line}\n" for line in [*actions, *reasons])}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
