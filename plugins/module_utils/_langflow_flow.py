# Copyright (c) The flowfleet.langflow contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""A flow from a short plan and the component templates of the server that will run it.

An exported flow carries the source of each of its components, so that it grows old with the release it came from and a
server that only runs its own components refuses it. A plan names components, what to set in them and how they are
joined; the rest is taken from the server (``GET /api/v1/all``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class PlanError(ValueError):
    """The plan does not fit the components of this server."""


def find_component(catalogue: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy of the template of one component, in whatever category the server keeps it."""
    for components in catalogue.values():
        if isinstance(components, dict) and isinstance(components.get(name), dict) and "template" in components[name]:
            return dict(json.loads(json.dumps(components[name])))
    raise PlanError(f"this server has no component {name!r}")


def _variable(name: str) -> dict[str, Any]:
    """The input that a prompt template has for one of its variables."""
    return {
        "name": name,
        "display_name": name,
        "type": "str",
        "field_type": "str",
        "input_types": ["Message"],
        "value": "",
        "multiline": True,
        "show": True,
        "required": False,
        "advanced": False,
        "dynamic": False,
        "list": False,
        "load_from_db": False,
        "info": "",
        "placeholder": "",
        "title_case": False,
        "fileTypes": [],
        "file_path": "",
    }


def make_node(catalogue: Mapping[str, Any], name: str, plan: Mapping[str, Any], column: int) -> dict[str, Any]:
    """One node of the flow."""
    component = str(plan["component"])
    node = find_component(catalogue, component)
    template = node["template"]
    for field, value in plan.get("set", {}).items():
        if field not in template:
            raise PlanError(f"component {component!r} of this server has no input {field!r}")
        template[field].update(value=value, show=True)  # what is not shown is not passed to the component
    for field, variables in plan.get("variables", {}).items():
        node.setdefault("custom_fields", {})[field] = list(variables)
        template.update({variable: _variable(variable) for variable in variables})
    if "outputs" in plan:
        base = node["outputs"][0]
        node["outputs"] = [{**base, **output, "selected": output["types"][0]} for output in plan["outputs"]]
    identifier = f"{plan.get('type', component)}-{name}"
    return {
        "id": identifier,
        "type": "genericNode",
        "position": {"x": 380 * column, "y": 0},
        "data": {"id": identifier, "type": plan.get("type", component), "node": node, "showNode": True},
    }


def _handle(data: Mapping[str, Any]) -> str:
    """A handle in the notation of the editor."""
    return json.dumps(data, sort_keys=True, separators=(",", ":")).replace('"', "\N{LATIN SMALL LIGATURE OE}")


def make_edge(nodes: Mapping[str, dict[str, Any]], source: str, output: str, target: str, field: str) -> dict[str, Any]:
    """One edge of the flow."""
    for name in (source, target):
        if name not in nodes:
            raise PlanError(f"the plan joins {name!r}, which it does not have")
    origin, into = nodes[source]["data"], nodes[target]["data"]
    out = next((item for item in origin["node"]["outputs"] if item["name"] == output), None)
    entry = into["node"]["template"].get(field)
    if out is None or not isinstance(entry, dict):
        raise PlanError(
            f"cannot join {source}.{output} with {target}.{field}: this server's components lack one of them"
        )
    accepted = entry.get("input_types") or []
    if not set(out["types"]) & set(accepted):
        raise PlanError(f"{target}.{field} takes {accepted}, {source}.{output} gives {out['types']}")
    entry["show"] = True
    source_handle = {"dataType": origin["type"], "id": origin["id"], "name": output, "output_types": out["types"]}
    target_handle = {"fieldName": field, "id": into["id"], "inputTypes": accepted, "type": entry["type"]}
    return {
        "id": f"{source}.{output}-{target}.{field}",
        "source": origin["id"],
        "sourceHandle": _handle(source_handle),
        "target": into["id"],
        "targetHandle": _handle(target_handle),
        "data": {"sourceHandle": source_handle, "targetHandle": target_handle},
    }


def make_flow(catalogue: Mapping[str, Any], plan: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The flow to import."""
    try:
        nodes = {
            key: make_node(catalogue, key, value, column) for column, (key, value) in enumerate(plan["nodes"].items())
        }
        edges = [make_edge(nodes, *edge) for edge in plan["edges"]]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise PlanError(f"the plan of the flow is not complete: {error!r}") from error
    return {
        "name": name,
        "description": str(plan.get("description", "")),
        "is_component": False,
        "data": {"nodes": list(nodes.values()), "edges": edges, "viewport": {"x": 0, "y": 0, "zoom": 0.5}},
    }
