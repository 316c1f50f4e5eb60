#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep an ordinary user of Langflow."""

from __future__ import annotations

DOCUMENTATION = r"""
module: langflow_user
short_description: Keep an ordinary user of Langflow
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Makes a user that is active and no administrator, such as one that monitoring runs its flow as. It can see and run
    what is its own, and nothing else.
  - A user of this name that is an administrator is left alone, and the task fails.
  - Gateways of this collection refuse the making of users, so O(url) is best that of a node.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.langflow_server
attributes:
  check_mode:
    support: full
    details: A server that cannot be reached yet counts as one without the user.
  diff_mode:
    support: none
    details: There is nothing to compare.
options:
  url:
    description: Where Langflow is.
    type: str
    required: true
  api_key:
    description: API key of an administrator.
    type: str
    required: true
  username:
    description: Name of the user.
    type: str
    required: true
  password:
    description: Password of the user.
    type: str
    required: true
  renew:
    description:
      - Whether to set the password of a user that exists as well. That is a change every time, because nobody can read
        what it was.
    type: bool
    default: false
seealso:
  - module: flowfleet.langflow.langflow_api_key
  - module: flowfleet.langflow.langflow_probe_flow
"""

EXAMPLES = r"""
- name: Keep the user that monitoring runs its flow as
  flowfleet.langflow.langflow_user:
    url: https://192.0.2.21:7860
    server_name: langflow.internal
    ca_path: /etc/flowfleet/tls/ca.crt
    api_key: "{{ langflow_api_key }}"
    username: flowfleet-probe
    password: "{{ lookup('flowfleet.langflow.secret', 'langflow_probe_password') }}"
"""

RETURN = r"""
user_id:
  description: Identifier of the user. Empty where check mode would make it.
  type: str
  returned: always
  sample: 4b0d1c53-93d5-4f6c-8fd1-0d4c1d4a2c77
reason:
  description: Why there was something to change.
  type: str
  returned: when there was something to change
"""

from typing import Any
from urllib.parse import quote, urlencode

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import (
    SERVER_OPTIONS,
    ApiError,
    LangflowClient,
    endpoint_from,
)

PAGE = 100


def find(client: LangflowClient, username: str) -> dict[str, Any] | None:
    """The user of this name; servers that do not know the filter list all of them."""
    seen = 0
    while True:
        query = urlencode({"skip": seen, "limit": PAGE, "username": username})
        found = client.call("GET", f"/api/v1/users/?{query}")
        users = found.get("users") if isinstance(found, dict) else None
        if not isinstance(users, list):
            raise ApiError("json", "the server gave no list of users")
        for user in users:
            if user.get("username") == username:
                return dict(user)
        seen += len(users)
        if not users or seen >= int(found.get("total_count") or 0):
            return None


def ensure(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Look for the user, make it where it is missing, let it in where it is shut out."""
    client = LangflowClient(endpoint_from(params), params["api_key"], (params["password"],))
    user = find(client, params["username"])
    if user and user.get("is_superuser"):
        raise ApiError("status", "it is an administrator; choose another name")
    changes: dict[str, Any] = {}
    reason = "" if user else "there is no such user"
    if not user or not user.get("is_active"):
        changes["is_active"] = True
        reason = reason or "it is not active"
    if user and params["renew"]:
        changes["password"] = params["password"]
        reason = reason or "its password is to be set"
    if not changes:
        return {"changed": False, "user_id": str(user["id"]) if user else ""}
    result = {"changed": True, "reason": reason, "user_id": str(user["id"]) if user else ""}
    if check_mode:
        return result
    if user is None:
        body = {"username": params["username"], "password": params["password"]}
        user = dict(client.call("POST", "/api/v1/users/", body, expect=(200, 201)))
        result["user_id"] = str(user["id"])
        # Whether a new user is active is a setting of the server.
        changes = {} if user.get("is_active") else changes
    if changes:
        client.call("PATCH", f"/api/v1/users/{quote(str(user['id']), safe='')}", changes)
    return result


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            **SERVER_OPTIONS,
            "api_key": {"type": "str", "required": True, "no_log": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "renew": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        result = ensure(params, module.check_mode)
    except (ApiError, ValueError, KeyError) as error:
        if not (module.check_mode and isinstance(error, ApiError) and error.not_connected):
            module.fail_json(msg=f"user {params['username']}: {error}")
        result = {"changed": True, "reason": "the server cannot be reached yet", "user_id": ""}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
