#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep the flow that monitoring runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: langflow_probe_flow
short_description: Keep the flow that monitoring runs
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Puts a flow together from the components of the server, once, and gives it an endpoint name. Monitoring runs it
    every few seconds the way users run theirs.
  - Its chat messages are not stored, so that runs leave nothing behind that grows.
  - A flow made from another plan is replaced. One of the same endpoint name that others have made is left alone,
    and the task fails.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.langflow_server
attributes:
  check_mode:
    support: full
    details: A server that cannot be reached yet counts as one without the flow.
  diff_mode:
    support: none
    details: There is nothing to compare.
options:
  url:
    description: Where the server is.
    type: str
    required: true
  api_key:
    description: Key of the user that the flow belongs to.
    type: str
    required: true
  endpoint_name:
    description: Endpoint name of the flow.
    type: str
    required: true
  plan:
    description: The plan of the flow, as JSON. Needed for V(present).
    type: json
  state:
    description:
      - V(present) keeps the flow.
      - V(absent) removes it where this module has made it, such as for another user before.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: flowfleet.langflow.langflow_api_key
  - module: flowfleet.langflow.langflow_smoke
"""

EXAMPLES = r"""
- name: Keep the flow that monitoring runs
  flowfleet.langflow.langflow_probe_flow:
    url: https://langflow.example.com
    ca_path: pki/ca.crt
    api_key: "{{ langflow_api_key }}"
    endpoint_name: flowfleet-probe
    plan: "{{ lookup('ansible.builtin.file', 'files/flows/smoke.json') }}"
"""

RETURN = r"""
flow_id:
  description: Identifier of the flow. Empty where check mode would make it, and where it is to be absent.
  type: str
  returned: always
  sample: 0b2f3a44-1f7c-4a0e-8f0c-0a3b7f9d2c11
"""

import hashlib
import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import (
    SERVER_OPTIONS,
    ApiError,
    LangflowClient,
    endpoint_from,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_flow import PlanError, make_flow

CHAT = ("ChatInput", "ChatOutput")
MARK = "Made by flowfleet for monitoring, plan "


def quiet(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan with chat components that store nothing."""
    nodes = {
        name: {**node, "set": {**node.get("set", {}), "should_store_message": False}}
        if node.get("component") in CHAT
        else node
        for name, node in plan.get("nodes", {}).items()
    }
    return {**plan, "nodes": nodes}


def remove(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Remove what this module has made for the user, whatever its plan was."""
    client = LangflowClient(endpoint_from(params), params["api_key"])
    ours = [
        str(flow["id"])
        for flow in client.flows()
        if flow.get("endpoint_name") == params["endpoint_name"] and str(flow.get("description") or "").startswith(MARK)
    ]
    if not check_mode:
        for flow_id in ours:
            client.delete_flow(flow_id)
    return {"changed": bool(ours), "flow_id": ""}


def ensure(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Look for the flow, make it where it is missing or made from another plan."""
    plan = quiet(json.loads(params["plan"]))
    description = MARK + hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]
    client = LangflowClient(endpoint_from(params), params["api_key"])
    name = params["endpoint_name"]
    there = [flow for flow in client.flows() if name in (flow.get("endpoint_name"), flow.get("name"))]
    for flow in there:
        if flow.get("endpoint_name") == name and flow.get("description") == description:
            return {"changed": False, "flow_id": str(flow["id"])}
        if not str(flow.get("description") or "").startswith(MARK):
            raise ApiError("flow", "there is one of this name that was made by somebody else; choose another name")
    if check_mode:
        return {"changed": True, "flow_id": ""}
    made = make_flow(client.call("GET", "/api/v1/all"), plan, name)
    for flow in there:
        client.delete_flow(str(flow["id"]))
    return {
        "changed": True,
        "flow_id": client.create_flow({**made, "endpoint_name": name, "description": description}),
    }


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            **SERVER_OPTIONS,
            "api_key": {"type": "str", "required": True, "no_log": True},
            "endpoint_name": {"type": "str", "required": True},
            "plan": {"type": "json"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["plan"])],
        supports_check_mode=True,
    )
    params = module.params
    try:
        result = (ensure if params["state"] == "present" else remove)(params, module.check_mode)
    except (ApiError, PlanError, ValueError) as error:
        if not (module.check_mode and isinstance(error, ApiError) and error.not_connected):
            module.fail_json(msg=f"flow {params['endpoint_name']}: {error}")
        result = {"changed": True, "flow_id": ""}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
