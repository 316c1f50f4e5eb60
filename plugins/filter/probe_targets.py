# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Say what is tried from outside."""

from __future__ import annotations

DOCUMENTATION = r"""
name: probe_targets
short_description: Say what a fleet is tried with from outside
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - The front door of every load balancer, the shared address if there is one, a real flow through it, and the
    certificates that the load balancers and the monitoring hosts show.
options:
  _input:
    description: Load balancers, each with C(name) and C(address).
    type: list
    elements: dict
    required: true
  port:
    description: Port of the front door.
    type: int
    default: 443
  front:
    description: Address that users come to. Empty means the first load balancer's.
    type: str
    default: ""
  domain:
    description: Public name, by which probes of the shared address are told.
    type: str
    required: true
  flow:
    description: Identifier or endpoint name of the flow. Empty means that none is run.
    type: str
    default: ""
  monitoring:
    description: Monitoring hosts, each with C(name) and C(address).
    type: list
    elements: dict
    default: []
  ports:
    description: Ports of the services there.
    type: list
    elements: int
    default: []
"""

EXAMPLES = r"""
- name: Try two load balancers
  ansible.builtin.set_fact:
    probes: "{{ langflow_fleet_lb_hosts | flowfleet.langflow.probe_targets(domain='flows.example.com') }}"
"""

RETURN = r"""
_value:
  description: Probes in the form that role prometheus takes.
  type: list
  elements: dict
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

HEALTH = "/health"


def _at(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def probe_targets(
    balancers: Iterable[Mapping[str, str]],
    domain: str,
    port: int = 443,
    front: str = "",
    flow: str = "",
    monitoring: Iterable[Mapping[str, str]] = (),
    ports: Iterable[int] = (),
) -> list[dict[str, str]]:
    """The probes, the way of users first."""
    known = [(str(item["name"]), str(item["address"])) for item in balancers]
    if not known:
        return []
    port = int(port)
    doors = list(known)
    front = str(front) or known[0][1]
    if front not in [address for _name, address in known]:
        doors.append((str(domain), front))
    found = [
        {"job": "probe_front", "module": "front", "target": f"https://{_at(address, port)}{HEALTH}", "instance": name}
        for name, address in doors
    ]
    if flow:
        target = f"https://{_at(front, port)}/api/v1/run/{quote(str(flow), safe='')}?stream=false"
        found.append({"job": "probe_flow", "module": "flow", "target": target, "instance": str(domain)})
    found += [
        {
            "job": "probe_tls",
            "module": "front_tls",
            "target": _at(address, port),
            "instance": name,
            "service": "front door",
        }
        for name, address in known
    ]
    found += [
        {
            "job": "probe_tls",
            "module": "tls",
            "target": _at(str(host["address"]), int(number)),
            "instance": str(host["name"]),
            "role": "monitoring",
            "service": f"port {number}",
        }
        for host in monitoring
        for number in ports
    ]
    return found


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name them for the template engine."""
        return {"probe_targets": probe_targets}
