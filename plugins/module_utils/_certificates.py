# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Read X.509 files with the openssl command line and say what is due.

PRIVATE to the collection. Nothing but the standard library and an `openssl` binary is needed.
"""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import os
import re
import typing as t

# run(argv, stdin) -> (rc, stdout, stderr)
Runner = t.Callable[..., tuple[int, str, str]]

PEM = re.compile(r"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)
_CURVES = {"prime256v1": "secp256r1", "secp256k1": "secp256k1", "secp384r1": "secp384r1", "secp521r1": "secp521r1"}


class CertificateError(Exception):
    """A file is not what it should be; the text is for people."""


@dataclasses.dataclass(frozen=True)
class Parsed:
    """What one certificate says."""

    subject: str
    issuer: str
    common_name: str
    serial: str
    fingerprint: str
    not_before: datetime.datetime
    not_after: datetime.datetime
    dns: frozenset[str]
    ip: frozenset[str]
    key_type: str
    public_key: str


def pem_blocks(text: str) -> list[str]:
    """The certificates of a PEM text, in order, without what stands around them."""
    return PEM.findall(text)


def contains_pem(bundle: str, wanted: str) -> bool:
    """True if every certificate of one PEM text stands in the other, however they are wrapped."""
    have = {"".join(b.split()) for b in pem_blocks(bundle)}
    want = {"".join(b.split()) for b in pem_blocks(wanted)}
    return bool(want) and want <= have


def _when(text: str) -> datetime.datetime:
    # "Nov 21 10:00:00 2026 GMT"; months are English whatever the locale, strptime's are not.
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    month, day, clock, year = text.split()[:4]
    hour, minute, second = (int(x) for x in clock.split(":"))
    return datetime.datetime(int(year), months.index(month) + 1, int(day), hour, minute, second, tzinfo=datetime.UTC)


def normal_ip(value: str) -> str:
    """One spelling per address."""
    return str(ipaddress.ip_address(value.strip()))


def _key_type(text: str) -> str:
    curve = re.search(r"ASN1 OID:\s*(\S+)", text)
    if curve:
        return f"ECC:{_CURVES.get(curve[1], curve[1])}"
    bits = re.search(r"Public-Key:\s*\((\d+) bit", text)
    algorithm = re.search(r"Public Key Algorithm:\s*(\S+)", text)
    name = algorithm[1] if algorithm else "unknown"
    if name == "rsaEncryption" and bits:
        return f"RSA:{bits[1]}"
    return name


def parse(pem: str, run: Runner, openssl: str) -> Parsed:
    """Parse the first certificate of a PEM text."""
    argv = [openssl, "x509", "-noout", "-text", "-pubkey", "-serial", "-fingerprint", "-sha256", "-dates"]
    argv += ["-subject", "-issuer", "-nameopt", "RFC2253"]
    rc, out, err = run(argv, pem)
    if rc != 0:
        raise CertificateError(f"not a readable certificate: {' '.join((err or out).split())[:200]}")

    def line(name: str) -> str:
        found = re.search(rf"^{name}=(.*)$", out, re.MULTILINE | re.IGNORECASE)
        return found[1].strip() if found else ""

    dns: set[str] = set()
    ips: set[str] = set()
    names = re.search(r"X509v3 Subject Alternative Name:[^\n]*\n\s*(.*)", out)
    for part in (names[1] if names else "").split(","):
        kind, _sep, value = part.strip().partition(":")
        if kind == "DNS":
            dns.add(value.lower())
        elif kind == "IP Address":
            ips.add(normal_ip(value))
    subject = line("subject")
    common_name = re.search(r"(?:^|[,+])CN=((?:\\.|[^,+])*)", subject)
    public_key = re.search(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", out, re.DOTALL)
    return Parsed(
        subject=subject,
        issuer=line("issuer"),
        common_name=re.sub(r"\\(.)", r"\1", common_name[1]) if common_name else "",
        serial=line("serial").lower(),
        fingerprint=line("sha256 Fingerprint").replace(":", "").lower(),
        not_before=_when(line("notBefore")),
        not_after=_when(line("notAfter")),
        dns=frozenset(dns),
        ip=frozenset(ips),
        key_type=_key_type(out),
        public_key="".join(public_key[0].split()) if public_key else "",
    )


def key_public(path: str, run: Runner, openssl: str) -> str:
    """The public half of an unencrypted private key; the private one never leaves openssl."""
    rc, out, err = run([openssl, "pkey", "-in", path, "-pubout", "-passin", "pass:"], None)
    if rc != 0:
        raise CertificateError(f"not a readable private key without a passphrase: {path}")
    return "".join(out.split())


def name_covers(pattern: str, name: str) -> bool:
    """RFC 6125: an asterisk stands for exactly the left-most label."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if not pattern.startswith("*."):
        return pattern == name
    _label, dot, rest = name.partition(".")
    return bool(dot) and rest == pattern[2:]


def missing_names(have: t.Iterable[str], want: t.Iterable[str]) -> list[str]:
    """Wanted names that no name of the certificate covers."""
    have = list(have)
    return sorted(w for w in want if not any(name_covers(h, w) for h in have))


def days_between(now: datetime.datetime, then: datetime.datetime) -> float:
    """Days from now to then; negative when then is past."""
    return round((then - now).total_seconds() / 86400, 2)


def reasons(
    parsed: Parsed,
    want: dict[str, t.Any],
    now: datetime.datetime,
    renew_before: float,
) -> list[str]:
    """Why a certificate that can be read has to be replaced; empty when it is fine."""
    found: list[str] = []
    left = days_between(now, parsed.not_after)
    if left <= 0:
        found.append(f"expired {-left:g} days ago")
    elif left < renew_before:
        found.append(f"expires in {left:g} days, renewed below {renew_before:g}")
    if parsed.not_before > now:
        found.append(f"not valid before {parsed.not_before.isoformat()}")
    dns = {str(n).lower() for n in want.get("dns") or []}
    ips = {normal_ip(str(n)) for n in want.get("ip") or []}
    if want.get("names") == "covers":
        lost = missing_names(parsed.dns, dns) + sorted(ips - parsed.ip)
        if lost:
            found.append("does not cover " + ", ".join(lost))
    else:
        differs = sorted((dns ^ parsed.dns) | (ips ^ parsed.ip))
        if differs:
            found.append("names differ: " + ", ".join(differs))
    if want.get("common_name") and want["common_name"] != parsed.common_name:
        found.append(f"common name is {parsed.common_name!r}, wanted {want['common_name']!r}")
    if want.get("key_type") and want["key_type"] != parsed.key_type:
        found.append(f"key is {parsed.key_type}, wanted {want['key_type']}")
    return found


def file_reasons(path: str, want: dict[str, t.Any], uid: int | None, gid: int | None) -> list[str]:
    """Differences in owner, group and mode; None as id means an account that does not exist yet."""
    stat = os.stat(path)
    found = []
    mode = f"{stat.st_mode & 0o7777:04o}"
    if want.get("mode") and int(want["mode"], 8) != stat.st_mode & 0o7777:
        found.append(f"mode is {mode}, wanted {want['mode']}")
    if want.get("owner") and uid != stat.st_uid:
        found.append(f"owner is not {want['owner']}")
    if want.get("group") and gid != stat.st_gid:
        found.append(f"group is not {want['group']}")
    return found
