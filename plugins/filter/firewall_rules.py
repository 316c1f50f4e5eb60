# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work out what a host has to accept from the table of who may talk to whom."""

from __future__ import annotations

DOCUMENTATION = r"""
name: firewall_rules
short_description: Work out what one host accepts from the table of who may talk to whom
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - The table is the same for every host. A row applies to the hosts that stand in C(to), or to all when it is V(any).
  - Sources are IP addresses, networks, entries with an C(address) as M(flowfleet.langflow.endpoints#filter) gives them,
    or the word V(any). Names are refused, since a packet filter would resolve them once and never again.
  - The host itself is left out of the sources, because traffic to oneself takes the loopback interface.
options:
  _input:
    description:
      - Rows with C(name), C(port) (a number, a range V(first-last) or a list of them), C(from), C(to) (default V(any)),
        and C(proto), one of V(tcp) (the default), V(udp), V(vrrp), V(esp), V(ah) and V(gre).
    type: list
    elements: dict
    required: true
  address:
    description: Address of the host, or all of its addresses.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Show what the database host accepts
  ansible.builtin.debug:
    msg: "{{ [{'name': 'postgresql', 'port': 5432, 'to': ['192.0.2.21'], 'from': ['192.0.2.11', '192.0.2.12']}]
      | flowfleet.langflow.firewall_rules('192.0.2.21') }}"
"""

RETURN = r"""
_value:
  description: What the host accepts, in the order of the table.
  type: list
  elements: dict
  contains:
    name:
      description: Name of the row.
      type: str
    proto:
      description: Protocol.
      type: str
    ports:
      description: Ports and ranges; empty for a protocol without ports.
      type: list
      elements: str
    any:
      description: Whether every source is accepted.
      type: bool
    from4:
      description: IPv4 sources, merged and sorted.
      type: list
      elements: str
    from6:
      description: IPv6 sources, merged and sorted.
      type: list
      elements: str
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

KNOWN = {"name", "port", "proto", "from", "to"}
WITH_PORTS = ("tcp", "udp")
WITHOUT_PORTS = ("vrrp", "esp", "ah", "gre")
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")
ANY = ("any", "all")


def _fail(text: str) -> AnsibleFilterError:
    return AnsibleFilterError(f"firewall_rules: {text}")


def _items(value: object) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, (Mapping, str, int)):
        return [value]
    if isinstance(value, Iterable):
        return list(value)
    raise _fail(f"expected a list, got {value!r}")


def _network(value: object, row: str, side: str) -> Network:
    text = str(value.get("address", "") if isinstance(value, Mapping) else value).strip()
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        pass
    who = f" (host {value['name']})" if isinstance(value, Mapping) and "name" in value else ""
    raise _fail(
        f"{text!r}{who} in {side} of {row!r} is neither an IP address nor a network; a firewall cannot follow names: "
        "set langflow_fleet_address of that host to its IP address, or give an address or a network here"
    )


def _networks(value: object, row: str, side: str) -> tuple[bool, list[Network]]:
    items = _items(value)
    if any(isinstance(i, str) and i in ANY for i in items):
        return True, []
    return False, [_network(i, row, side) for i in items]


def _port(value: object, row: str) -> tuple[int, int]:
    text = str(value).strip()
    found = None if isinstance(value, bool) else re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if found:
        first, last = int(found[1]), int(found[2] or found[1])
        if 0 < first <= last < 65536:
            return first, last
    raise _fail(f"{text!r} in port of {row!r} is neither a port (1 to 65535) nor a range first-last")


def _ports(value: object, row: str) -> list[str]:
    merged: list[list[int]] = []
    for first, last in sorted(_port(v, row) for v in _items(value)):
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    return [str(a) if a == b else f"{a}-{b}" for a, b in merged]


def _texts(networks: Sequence[Network], version: int) -> list[str]:
    chosen = [n for n in networks if n.version == version]
    merged = ipaddress.collapse_addresses(chosen)  # type: ignore[type-var]
    return [str(n.network_address) if n.num_addresses == 1 else str(n) for n in merged]


def _row(row: object, own: set[Network]) -> dict[str, Any] | None:
    if not isinstance(row, Mapping):
        raise _fail(f"expected rows with name, port and from, got {row!r}")
    name = row.get("name")
    if not isinstance(name, str) or not NAME.match(name):
        raise _fail(f"{name!r} is not a name of a row; use letters, digits, space, point, - and _")
    unknown = sorted(set(row) - KNOWN)
    if unknown:
        raise _fail(f"{name!r} has unknown keys: {', '.join(unknown)}; known are {', '.join(sorted(KNOWN))}")
    if "from" not in row:
        raise _fail(f"{name!r} does not say from whom; give addresses in from, or the word any")
    proto = str(row.get("proto") or "tcp").lower()
    if proto not in WITH_PORTS + WITHOUT_PORTS:
        raise _fail(f"{proto!r} in proto of {name!r} is not one of {', '.join(WITH_PORTS + WITHOUT_PORTS)}")
    ports = _ports(row.get("port"), name)
    if (proto in WITH_PORTS) != bool(ports):
        raise _fail(f"{name!r}: " + (f"{proto} needs a port" if proto in WITH_PORTS else f"{proto} has no ports"))

    everywhere, targets = _networks(row.get("to", "any"), name, "to")
    if not everywhere and not any(o.version == n.version and o.subnet_of(n) for o in own for n in targets):  # type: ignore[arg-type]
        return None
    anyone, sources = _networks(row["from"], name, "from")
    sources = [s for s in sources if s not in own]
    if not anyone and not sources:
        return None
    return {
        "name": name,
        "proto": proto,
        "ports": ports,
        "any": anyone,
        "from4": _texts(sources, 4),
        "from6": _texts(sources, 6),
    }


def firewall_rules(rows: Iterable[Mapping[str, Any]], address: object) -> list[dict[str, Any]]:
    """What the host with this address accepts."""
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise _fail(f"expected a list of rows, got {type(rows).__name__}")
    own = {_network(a, "address of this host", "the") for a in _items(address)}
    found = (_row(row, own) for row in rows)
    return [row for row in found if row is not None]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"firewall_rules": firewall_rules}
