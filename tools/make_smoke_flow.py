#!/usr/bin/env python3
# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the smoke test's flow in full, as a Langflow server can import it by hand and `lfx` can check it.

    LANGFLOW_PASSWORD=... tools/make_smoke_flow.py --url http://127.0.0.1:7860 --output smoke-full.json

For maintainers, with a scratch Langflow of the release in question. The tool also asks that server how it would shape
each component and ends with 1 when the plan in `playbooks/files/flows/smoke.json` no longer says the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PLAN = ROOT / "playbooks" / "files" / "flows" / "smoke.json"


def load(name: str) -> ModuleType:
    """One of the collection's own modules that need nothing of Ansible."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "plugins" / "module_utils" / f"{name}.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{name} is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def shape(client: Any, node: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The component as the server shapes it when its fields are set one after the other."""
    for field, value in settings.items():
        code = node["template"]["code"]["value"]
        node["template"][field]["value"] = value
        if field == "template":
            request = {"name": field, "template": value, "custom_fields": {}, "frontend_node": node}
            node = client.call("POST", "/api/v1/validate/prompt", request)["frontend_node"]
        else:
            request = {"code": code, "template": node["template"], "field": field, "field_value": value}
            node = client.call("POST", "/api/v1/custom_component/update", request)
    return node


def interface(node: dict[str, Any]) -> dict[str, Any]:
    """What other components see of one."""
    template = {key: value for key, value in node["template"].items() if isinstance(value, dict)}
    return {
        "outputs": {item["name"]: (item["method"], item["types"]) for item in node["outputs"]},
        "inputs": {key: (value.get("type"), value.get("input_types")) for key, value in template.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--username", default="admin")
    parser.add_argument("--ca")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    api, flows = load("_langflow_api"), load("_langflow_flow")
    client = api.LangflowClient(api.Endpoint(arguments.url, ca_path=arguments.ca, timeout=120.0))
    client.login(arguments.username, os.environ["LANGFLOW_PASSWORD"])
    catalogue = client.call("GET", "/api/v1/all")
    plan = json.loads(PLAN.read_text(encoding="utf-8"))
    flow = flows.make_flow(catalogue, plan, plan["name"])
    wrong = 0
    for node, (name, part) in zip(flow["data"]["nodes"], plan["nodes"].items(), strict=True):
        fresh = shape(client, flows.find_component(catalogue, part["component"]), part.get("set", {}))
        ours, theirs = interface(node["data"]["node"]), interface(fresh)
        if ours != theirs:
            wrong += 1
            print(f"{name}: the plan says {ours}, the server {theirs}", file=sys.stderr)
    flow.update(id="5f0e5e5e-0000-4000-8000-000000000001", last_tested_version=client.version())
    arguments.output.write_text(json.dumps(flow, indent=1) + "\n", encoding="utf-8")
    print(
        f"{arguments.output}: {len(plan['nodes'])} components, {wrong} of them shaped otherwise by {client.version()}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
