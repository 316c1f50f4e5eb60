"""The drills' flow in a cluster, through the nodes' own doors, and the front doors that a drill loads."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.drills.core import DrillError, Lab

FLOWS = Path(__file__).resolve().parent / "flows"


def fill(value: Any, places: Mapping[str, str]) -> Any:
    """The same data with `{name}` replaced in its texts."""
    if isinstance(value, str):
        for name, text in places.items():
            value = value.replace(f"{{{name}}}", text)
        return value
    if isinstance(value, list):
        return [fill(item, places) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, places) for key, item in value.items()}
    return value


def make_flow(catalogue: dict[str, Any], shaped: Mapping[str, Any], name: str, counter: str) -> dict[str, Any]:
    """The flow to import: the server's own components and the drills' one, joined as flows/drill.json says."""
    from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_flow

    plan = fill(json.loads((FLOWS / "drill.json").read_text(encoding="utf-8")), {"counter": counter})
    return dict(_langflow_flow.make_flow({**catalogue, "drills": {"DrillWork": dict(shaped)}}, plan, name))


@dataclass
class Front:
    """The cluster as its clients see it. Flows are made through a node: they are no part of what is measured."""

    lab: Lab
    domain: str
    ca: Path
    key_path: Path

    @classmethod
    def of(cls, lab: Lab) -> Front:
        domain = str(lab.template("{{ langflow_fleet_domain }}"))
        ca = Path(str(lab.template("{{ langflow_fleet_pki_dir }}"))) / "ca.crt"
        return cls(lab, domain, ca, Path(str(lab.template("{{ langflow_fleet_secrets_dir }}"))) / "langflow_api_key")

    def _client(self, url: str, name: str, timeout: float) -> Any:
        from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_api

        endpoint = _langflow_api.Endpoint(url, str(self.ca), name, timeout, "flowfleet-drills")
        return _langflow_api.LangflowClient(endpoint, api_key=self.key_path.read_text(encoding="utf-8").strip())

    def node(self, name: str, timeout: float = 60) -> Any:
        """A client of one node."""
        return self._client(f"https://{self.lab.addresses[name]}:7860", "langflow.internal", timeout)

    def door(self, number: int = 0, timeout: float = 60) -> Any:
        """A client of one load balancer."""
        address = self.lab.addresses[self.lab.balancers[number % len(self.lab.balancers)]]
        return self._client(f"https://{address}", self.domain, timeout)

    def settle(self, good: int = 10, timeout: float = 90) -> None:
        """Wait until every load balancer answers some times in a row.

        Where all nodes were gone, Nginx lets one request at a time try each of them and refuses those beside it. What
        an earlier case has broken is not the next one's to count.
        """
        from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_api

        for number, name in enumerate(self.lab.balancers):
            deadline, answered = time.monotonic() + timeout, 0
            while answered < good:
                if time.monotonic() > deadline:
                    raise DrillError(f"{name} does not answer {good} times in a row within {timeout:g} s")
                try:
                    self.door(number, timeout=10).health()
                    answered += 1
                except _langflow_api.ApiError:
                    answered = 0
                    time.sleep(0.5)

    def any_node(self) -> Any:
        """A client of some node that is well; nodes may be on their way back."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for name in self.lab.nodes:
                if self.lab.healthy(name):
                    return self.node(name)
            time.sleep(2)
        raise DrillError("no node is well")

    def import_flow(self, counter: str) -> str:
        """Import the drills' flow; its identifier."""
        client = self.any_node()
        code = (FLOWS / "component.py").read_text(encoding="utf-8")
        shaped = client.call("POST", "/api/v1/custom_component", {"code": code})["data"]
        catalogue = client.call("GET", "/api/v1/all")
        flow = make_flow(catalogue, shaped, f"flowfleet-drill-{time.time_ns():x}", counter)
        return str(client.create_flow(flow))

    def delete_flow(self, flow: str) -> None:
        self.any_node().delete_flow(flow)

    def start_job(self, flow: str, text: str, node: str = "") -> str:
        """Start a background job, through the first load balancer or on one node; its identifier."""
        client = self.node(node) if node else self.door()
        body = {"flow_id": flow, "input_value": text, "mode": "background"}
        return str(client.call("POST", "/api/v2/workflows", body, expect=(200, 201, 202))["job_id"])

    def job_status(self, job: str) -> str:
        """How a background job stands. An answer of the server that it failed is one of these states."""
        from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_api

        try:
            return str(self.any_node().call("GET", f"/api/v2/workflows?job_id={job}").get("status", "unknown"))
        except _langflow_api.ApiError as error:
            return "failed" if error.status and error.status >= 400 else "unknown"
