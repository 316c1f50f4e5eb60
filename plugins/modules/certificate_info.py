#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which certificates of a host are due, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_info
short_description: Say which certificates of a host are due, and why
version_added: 1.0.0
author:
  - The flowfleet.langflow contributors (@flowfleet)
description:
  - Reads any number of certificates with their private keys and compares each with what is wanted. One call per host
    answers whether there is anything to do at all, so that a repeated run costs nothing else.
  - The private keys are only asked for their public half. Nothing is written.
  - A host without an C(openssl) binary answers that everything is due.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
    details: This module changes nothing.
  diff_mode:
    support: full
    details: Tells why each certificate is due. Ansible shows it where the task counts as changed.
options:
  certificates:
    description: The certificates, and what each has to be.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the certificate in the answer.
        type: str
        required: true
      cert:
        description: Path of the certificate, leaf first.
        type: path
        required: true
      key:
        description: Path of its private key.
        type: path
        required: true
      chain:
        description: Path of a file with intermediate certificates, when they do not stand in O(certificates[].cert).
        type: path
      dns:
        description: Host names that it has to carry.
        type: list
        elements: str
        default: []
      ip:
        description: IP addresses that it has to carry.
        type: list
        elements: str
        default: []
      names:
        description:
          - With V(exact) the names have to be the wanted ones and no others.
          - With V(covers) more names and wildcards are fine.
        type: str
        choices: [exact, covers]
        default: exact
      common_name:
        description: Wanted common name. Not compared when empty.
        type: str
        default: ""
      key_type:
        description: Wanted type of key, such as V(ECC:secp256r1) or V(RSA:3072). Not compared when empty.
        type: str
        default: ""
      owner:
        description: Wanted owner of the key. Not compared when empty.
        type: str
        default: ""
      group:
        description: Wanted group of the key. Not compared when empty.
        type: str
        default: ""
      mode:
        description: Wanted mode of the key, in octal. Not compared when empty.
        type: str
        default: ""
      ca:
        description: Whether the certificate has to be signed by the authority of O(ca_content).
        type: bool
        default: true
  ca_content:
    description: The authority's certificate in PEM. When empty, each certificate with O(certificates[].ca=true) is due.
    type: str
    default: ""
  ca_paths:
    description: Files that have to hold exactly O(ca_content).
    type: list
    elements: path
    default: []
  ca_bundle:
    description: File that has to contain O(ca_content) among others, such as the bundle of the system's trust store.
    type: path
  renew_before:
    description: A certificate with fewer days left is due.
    type: float
    default: 30
"""

EXAMPLES = r"""
- name: Certificates | Ask which certificates are due
  flowfleet.langflow.certificate_info:
    ca_content: "{{ lookup('ansible.builtin.file', 'pki/ca.crt') }}"
    ca_paths: [/etc/flowfleet/tls/ca.crt]
    renew_before: 30
    certificates:
      - name: nginx
        cert: /etc/flowfleet/tls/nginx.crt
        key: /etc/flowfleet/tls/nginx.key
        dns: [langflow.example.com]
        mode: "0600"
  register: __certificates_info
"""

RETURN = r"""
certificates:
  description: One entry per certificate, in the given order.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Its name.
      type: str
      sample: nginx
    due:
      description: Whether it has to be made or replaced.
      type: bool
    reasons:
      description: Why it is due, for people.
      type: list
      elements: str
      sample: ["expires in 12.5 days, renewed below 30"]
    days_left:
      description: Days until it expires. V(null) when there is none.
      type: float
    not_after:
      description: When it expires, in UTC. Empty when there is none.
      type: str
      sample: "2027-11-21T10:00:00+00:00"
    serial:
      description: Its serial number in hexadecimal.
      type: str
    fingerprint:
      description: SHA-256 of the certificate.
      type: str
    issuer:
      description: Who signed it.
      type: str
due:
  description: Names of the certificates that are due.
  type: list
  elements: str
  returned: always
ca:
  description: The authority.
  type: dict
  returned: always
  contains:
    days_left:
      description: Days until the authority's certificate expires. V(null) when O(ca_content) is empty.
      type: float
    subject:
      description: Whom it names. Empty when O(ca_content) is empty.
      type: str
    due_paths:
      description: Those of O(ca_paths) and O(ca_bundle) that are missing or differ.
      type: list
      elements: str
"""

import datetime
import grp
import os
import pwd
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _certificates as certs

_EMPTY: dict[str, t.Any] = {"days_left": None, "not_after": "", "serial": "", "fingerprint": "", "issuer": ""}


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


class Inspector:
    """Looks at the certificates of one host."""

    def __init__(self, module: AnsibleModule, openssl: str, ca_path: str) -> None:
        self.module = module
        self.openssl = openssl
        self.ca_path = ca_path
        self.now = datetime.datetime.now(tz=datetime.UTC)

    def run(self, argv: list[str], stdin: str | None = None) -> tuple[int, str, str]:
        return self.module.run_command(argv, data=stdin, environ_update={"LC_ALL": "C"})

    def signed_by_ca(self, path: str, chain: str) -> bool:
        argv = [self.openssl, "verify", "-no-CApath", "-no-CAstore", "-no_check_time", "-CAfile", self.ca_path]
        return self.run([*argv, "-untrusted", chain, path])[0] == 0

    def inspect(self, want: dict[str, t.Any]) -> dict[str, t.Any]:
        answer: dict[str, t.Any] = dict(_EMPTY, name=want["name"], due=True, reasons=[])
        why: list[str] = answer["reasons"]
        text = _read(want["cert"])
        if text is None or not os.path.exists(want["key"]):
            why.append(f"{want['cert' if text is None else 'key']} does not exist")
            return answer
        try:
            parsed = certs.parse(text, self.run, self.openssl)
            answer.update(
                days_left=certs.days_between(self.now, parsed.not_after),
                not_after=parsed.not_after.isoformat(),
                serial=parsed.serial,
                fingerprint=parsed.fingerprint,
                issuer=parsed.issuer,
            )
            if certs.key_public(want["key"], self.run, self.openssl) != parsed.public_key:
                why.append("the private key does not belong to the certificate")
        except certs.CertificateError as exc:
            why.append(str(exc))
            return answer
        why += certs.reasons(parsed, want, self.now, self.module.params["renew_before"])
        if want["ca"] and not self.ca_path:
            why.append("there is no authority yet")
        elif want["ca"] and not self.signed_by_ca(want["cert"], want["chain"] or want["cert"]):
            why.append("not signed by the present authority")
        why += certs.file_reasons(want["key"], want, _uid(want["owner"]), _gid(want["group"]))
        answer["due"] = bool(why)
        return answer


def _exit(module: AnsibleModule, found: list[dict[str, t.Any]], ca: dict[str, t.Any]) -> None:
    lines = [f"{f['name']}: {', '.join(f['reasons'])}" for f in found if f["due"]]
    lines += [f"{path}: is not the authority's certificate" for path in ca["due_paths"]]
    answer: dict[str, t.Any] = {
        "changed": False,
        "certificates": found,
        "due": [f["name"] for f in found if f["due"]],
        "ca": ca,
    }
    if module._diff and lines:
        answer["diff"] = {"prepared": "".join(f"{line}\n" for line in lines)}
    module.exit_json(**answer)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "certificates": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "cert": {"type": "path", "required": True},
                    "key": {"type": "path", "required": True, "no_log": False},
                    "chain": {"type": "path"},
                    "dns": {"type": "list", "elements": "str", "default": []},
                    "ip": {"type": "list", "elements": "str", "default": []},
                    "names": {"type": "str", "choices": ["exact", "covers"], "default": "exact"},
                    "common_name": {"type": "str", "default": ""},
                    "key_type": {"type": "str", "default": "", "no_log": False},
                    "owner": {"type": "str", "default": ""},
                    "group": {"type": "str", "default": ""},
                    "mode": {"type": "str", "default": ""},
                    "ca": {"type": "bool", "default": True},
                },
            },
            "ca_content": {"type": "str", "default": ""},
            "ca_paths": {"type": "list", "elements": "path", "default": []},
            "ca_bundle": {"type": "path"},
            "renew_before": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    ca_content: str = params["ca_content"]
    due_paths = [
        p for p in params["ca_paths"] if not ca_content.strip() or (_read(p) or "").strip() != ca_content.strip()
    ]
    bundle = params["ca_bundle"]
    if bundle and not (ca_content and certs.contains_pem(_read(bundle) or "", ca_content)):
        due_paths.append(bundle)
    openssl = module.get_bin_path("openssl")
    ca: dict[str, t.Any] = {"days_left": None, "subject": "", "due_paths": due_paths}

    if openssl is None:
        found = [
            dict(_EMPTY, name=w["name"], due=True, reasons=["openssl is not installed"]) for w in params["certificates"]
        ]
        _exit(module, found, ca)
        return

    ca_path = ""
    if ca_content:
        # A name in module.tmpdir is removed with it.
        handle, ca_path = tempfile.mkstemp(dir=module.tmpdir)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(ca_content.rstrip("\n") + "\n")
    inspector = Inspector(module, openssl, ca_path)
    if ca_content:
        try:
            authority = certs.parse(ca_content, inspector.run, openssl)
        except certs.CertificateError as exc:
            module.fail_json(msg=f"ca_content: {exc}")
        ca.update(days_left=certs.days_between(inspector.now, authority.not_after), subject=authority.subject)
    try:
        found = [inspector.inspect(want) for want in params["certificates"]]
    except (OSError, ValueError) as exc:
        module.fail_json(msg=f"Cannot read a certificate: {exc}")
    _exit(module, found, ca)


if __name__ == "__main__":
    main()
