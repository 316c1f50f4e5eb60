# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Complete the list of certificates that a host wants."""

from __future__ import annotations

DOCUMENTATION = r"""
name: certificate_requests
short_description: Complete the list of certificates that a host wants
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Turns the short entries of C(certificates_list) into complete ones, with paths, names, owner and mode of the key.
  - Every certificate that the private authority signs also carries the inventory name and the address of its host,
    C(localhost) and C(127.0.0.1), so that every client can verify the name it connects to.
  - Mistakes are told with the name of the entry.
options:
  _input:
    description: Entries with C(name), and as wanted C(dns), C(ip), C(common_name) and C(group).
    type: list
    elements: dict
    required: true
  host:
    description: Inventory name of the host.
    type: str
    required: true
  address:
    description: Where other hosts reach it, an IP address or a name.
    type: str
    required: true
  directory:
    description: Directory of the files on the host.
    type: str
    required: true
  key_type:
    description: Wanted type of the keys, such as V(ECC:secp256r1) or V(RSA:3072).
    type: str
    required: true
  given:
    description: Certificates that are given instead of signed, by name, each with C(cert), C(key) and maybe C(chain).
    type: dict
    default: {}
  acme:
    description: Names of the certificates that come from an ACME authority.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show what a host wants
  ansible.builtin.debug:
    msg: "{{ wanted | flowfleet.langflow.certificate_requests(host='lb1', address='192.0.2.11',
      directory='/etc/flowfleet/tls', key_type='ECC:secp256r1') }}"
  vars:
    wanted:
      - name: nginx
        dns: [langflow.example.com]
"""

RETURN = r"""
_value:
  description: Complete entries, in the order given.
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    source:
      description: Where it comes from, V(ca), V(given) or V(acme).
      type: str
    cert:
      description: Path of the certificate on the host.
      type: str
    key:
      description: Path of the private key on the host.
      type: str
    dns:
      description: Names that it carries.
      type: list
      elements: str
    ip:
      description: Addresses that it carries.
      type: list
      elements: str
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

KNOWN = {"name", "dns", "ip", "common_name", "group"}
GIVEN = {"cert", "key", "chain"}
NAME = re.compile(r"^[a-z0-9][a-z0-9_-]*$")
DNS_NAME = re.compile(
    r"^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$"
)


def _fail(text: str) -> AnsibleFilterError:
    return AnsibleFilterError(f"certificate_requests: {text}")


def _address(value: object) -> str | None:
    try:
        return str(ipaddress.ip_address(str(value).strip()))
    except ValueError:
        return None


def _texts(entry: Mapping[str, Any], key: str) -> list[str]:
    value = entry.get(key) or []
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _fail(f"{key} of certificate {entry.get('name')!r} has to be a list, not {value!r}")
    return [str(v).strip() for v in value]


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _names(entry: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    name = entry["name"]
    dns = [d.lower() for d in _texts(entry, "dns")]
    for value in dns:
        if _address(value):
            raise _fail(f"dns of certificate {name!r} holds the address {value!r}; addresses belong into ip")
        if not DNS_NAME.match(value):
            raise _fail(f"dns of certificate {name!r} holds {value!r}, which is not a host name")
    ips = []
    for value in _texts(entry, "ip"):
        normal = _address(value)
        if normal is None:
            raise _fail(
                f"ip of certificate {name!r} holds {value!r}, which is not an IP address; names belong into dns"
            )
        ips.append(normal)
    return dns, ips


def _check(entry: object, seen: set[str]) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise _fail(f"expected entries with a name, got {entry!r}")
    name = entry.get("name")
    if not isinstance(name, str) or not NAME.match(name):
        raise _fail(f"{name!r} is not a name of a certificate; use lower-case letters, digits, - and _")
    if name == "ca":
        raise _fail("the name 'ca' is taken by the authority's own certificate")
    if name in seen:
        raise _fail(f"certificate {name!r} stands twice in the list")
    unknown = sorted(set(entry) - KNOWN)
    if unknown:
        raise _fail(
            f"certificate {name!r} has unknown keys: {', '.join(unknown)}; known are {', '.join(sorted(KNOWN))}"
        )
    seen.add(name)
    return entry


def certificate_requests(
    entries: Iterable[Mapping[str, Any]],
    host: str,
    address: str,
    directory: str,
    key_type: str,
    given: Mapping[str, Mapping[str, Any]] | None = None,
    acme: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """Complete the entries of C(certificates_list)."""
    if isinstance(entries, (str, bytes, Mapping)) or not isinstance(entries, Iterable):
        raise _fail(f"expected a list of certificates, got {type(entries).__name__}")
    given = given or {}
    acme = set(acme)
    seen: set[str] = set()
    result: list[dict[str, Any]] = []
    for raw in entries:
        entry = _check(raw, seen)
        name = str(entry["name"])
        group = str(entry.get("group") or "root")
        dns, ips = _names(entry)
        if name in given and name in acme:
            raise _fail(f"certificate {name!r} is both given and to be asked for by ACME; choose one")
        source = "given" if name in given else "acme" if name in acme else "ca"
        item: dict[str, Any] = {
            "name": name,
            "source": source,
            "cert": f"{directory}/{name}.crt",
            "key": f"{directory}/{name}.key",
            "owner": "root",
            "group": group,
            "mode": "0600" if group == "root" else "0640",
        }
        if source == "ca":
            own = _address(address)
            dns = _unique([*dns, host.lower(), *([] if own else [str(address).lower()]), "localhost"])
            ips = _unique([*ips, *([own] if own else []), "127.0.0.1"])
            # A common name is at most 64 characters; clients look at the alternative names.
            common_name = str(entry.get("common_name") or host)[:64]
            item.update(names="exact", ca=True, common_name=common_name, key_type=key_type)
        else:
            if source == "acme" and (ips or not dns):
                raise _fail(f"certificate {name!r} comes by ACME: it needs dns, and cannot carry ip")
            item.update(names="covers", ca=False, common_name="", key_type="")
        if source == "given":
            paths = given[name]
            if not isinstance(paths, Mapping) or not paths.get("cert") or not paths.get("key"):
                raise _fail(f"given certificate {name!r} needs the paths cert and key")
            if set(paths) - GIVEN:
                raise _fail(f"given certificate {name!r} has unknown keys: {', '.join(sorted(set(paths) - GIVEN))}")
            item["given"] = {key: str(paths.get(key) or "") for key in sorted(GIVEN)}
        item.update(dns=dns, ip=ips)
        result.append(item)
    return result


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"certificate_requests": certificate_requests}
