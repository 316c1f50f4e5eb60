#!/usr/bin/python
# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make sure that a named API key of Langflow exists and that its value is known."""

from __future__ import annotations

DOCUMENTATION = r"""
module: langflow_api_key
short_description: Keep a named API key of Langflow
version_added: 1.0.0
author:
  - The flowfleet.langflow contributors (@flowfleet)
description:
  - Langflow shows the value of an API key once, when it makes it, and takes no value from outside. A key is therefore
    only as good as the copy that was kept. This module tries that copy, and makes a new key if it is of no use any
    more, for example because the database was built anew.
  - Trying a key takes one request and no login, so that a second run neither changes nor wears out anything.
  - A key is judged useless by an answer that says so. A server that is down or in trouble fails the task instead.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.langflow_server
attributes:
  check_mode:
    support: full
    details: Tries the key. A server that cannot be reached counts as one that has no key yet.
  diff_mode:
    support: none
    details: All there is to show is secret.
options:
  url:
    description: Where Langflow is.
    type: str
    required: true
  username:
    description: User the key belongs to.
    type: str
    required: true
  password:
    description: Password of that user. Only used when there is something to change.
    type: str
    required: true
  name:
    description: Name of the key.
    type: str
    required: true
  api_key:
    description: The copy that was kept. Empty if there is none.
    type: str
    default: ""
  create:
    description: Whether a new key may be made. If not, a kept key that is of no use fails the task.
    type: bool
    default: true
  state:
    description:
      - V(present) makes sure that O(api_key) works, or makes a new key and removes others of the same name.
      - V(absent) removes all keys of that name.
    type: str
    choices: [present, absent]
    default: present
notes:
  - A login is limited by the server to a few a minute; the module waits for its turn, for no longer than 70 seconds.
seealso:
  - module: flowfleet.langflow.langflow_smoke
"""

EXAMPLES = r"""
- name: Make sure that the stored key works
  flowfleet.langflow.langflow_api_key:
    url: https://langflow.example.com
    ca_path: pki/ca.crt
    username: admin
    password: "{{ langflow_superuser_password }}"
    name: flowfleet
    api_key: "{{ stored_key }}"
  register: key
  no_log: true
"""

RETURN = r"""
api_key:
  description: The value of the new key. A secret. Keep it, it is not shown again.
  type: str
  returned: when a key was made
removed:
  description: How many keys were removed, or would be.
  type: int
  returned: when there was something to change
reason:
  description: Why there was something to change.
  type: str
  returned: when there was something to change
"""

from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import (
    SERVER_OPTIONS,
    ApiError,
    Endpoint,
    LangflowClient,
    endpoint_from,
)

LOGIN_PATIENCE = 70.0
REFUSED = (401, 403)


@dataclass
class Plan:
    """Whether there is something to do, and why."""

    needed: bool
    reason: str = ""


def judge_key(endpoint: Endpoint, api_key: str, username: str) -> Plan:
    """Try the copy that was kept."""
    if not api_key:
        return Plan(True, "no key was kept")
    try:
        owner = LangflowClient(endpoint, api_key).whoami().get("username")
    except ApiError as error:
        if error.status in REFUSED:
            return Plan(True, "the server refuses the kept key")
        raise
    if owner != username:
        return Plan(True, "the kept key belongs to another user")
    return Plan(False)


def named(client: LangflowClient, name: str) -> list[str]:
    """The keys of this name."""
    return [str(item["id"]) for item in client.api_keys() if item.get("name") == name]


def ensure(module: AnsibleModule, endpoint: Endpoint) -> dict[str, Any]:
    """Bring the key to its state."""
    params = module.params
    present = params["state"] == "present"
    if present:
        plan = judge_key(endpoint, params["api_key"], params["username"])
        if not plan.needed:
            return {"changed": False}
        if not params["create"]:
            raise ApiError("status", f"{plan.reason}, and no new one is to be made")
        if module.check_mode:
            return {"changed": True, "reason": plan.reason}
    client = LangflowClient(endpoint)
    client.login(params["username"], params["password"], patience=LOGIN_PATIENCE)
    old = named(client, params["name"])
    if not present:
        plan = Plan(bool(old), "keys of this name exist")
        if not plan.needed:
            return {"changed": False}
    result = {"changed": True, "reason": plan.reason, "removed": len(old)}
    if module.check_mode:
        return result
    if present:
        result["api_key"] = client.create_api_key(params["name"])["api_key"]
    # Nobody knows the values of the others any more.
    for key_id in old:
        client.delete_api_key(key_id)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            **SERVER_OPTIONS,
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "name": {"type": "str", "required": True},
            "api_key": {"type": "str", "default": "", "no_log": True},
            "create": {"type": "bool", "default": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        result = ensure(module, endpoint_from(params))
    except ApiError as error:
        if not (module.check_mode and error.not_connected):
            module.fail_json(msg=f"API key {params['name']}: {error}")
        present = params["state"] == "present"
        result = {"changed": present, "reason": "the server cannot be reached yet"}
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
