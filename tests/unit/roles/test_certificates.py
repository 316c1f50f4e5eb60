# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role certificates: what is wanted, what is due, and what is refused."""

from __future__ import annotations

import datetime
import ipaddress
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.filter.certificate_requests import (
    FilterModule,
    certificate_requests,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils import _certificates as certs
from ansible_collections.flowfleet.langflow.plugins.modules import certificate_info
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from rendering import Role

ROOT = pathlib.Path(__file__).resolve().parents[3]
HOST: dict[str, Any] = {
    "host": "app1",
    "address": "192.0.2.21",
    "directory": "/etc/flowfleet/tls",
    "key_type": "ECC:secp256r1",
}
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


# --- the filter -------------------------------------------------------------------------------------------------------


def test_filter_is_registered() -> None:
    assert FilterModule().filters() == {"certificate_requests": certificate_requests}


def test_every_certificate_carries_the_names_clients_use() -> None:
    (item,) = certificate_requests([{"name": "langflow", "dns": ["Langflow.Internal"], "ip": ["192.0.2.21"]}], **HOST)
    assert item["dns"] == ["langflow.internal", "app1", "localhost"]
    assert item["ip"] == ["192.0.2.21", "127.0.0.1"]
    assert (item["common_name"], item["source"], item["names"], item["ca"]) == ("app1", "ca", "exact", True)
    assert (item["cert"], item["key"]) == ("/etc/flowfleet/tls/langflow.crt", "/etc/flowfleet/tls/langflow.key")


def test_an_address_that_is_a_name_is_a_name() -> None:
    (item,) = certificate_requests([{"name": "redis"}], **{**HOST, "address": "App1.example.com"})
    assert item["dns"] == ["app1", "app1.example.com", "localhost"]
    assert item["ip"] == ["127.0.0.1"]


@pytest.mark.parametrize(("group", "mode"), [(None, "0600"), ("root", "0600"), ("postgres", "0640")])
def test_only_root_or_one_group_reads_the_key(group: str | None, mode: str) -> None:
    entry = {"name": "x"} if group is None else {"name": "x", "group": group}
    (item,) = certificate_requests([entry], **HOST)
    assert (item["owner"], item["group"], item["mode"]) == ("root", group or "root", mode)


def test_a_given_certificate_only_has_to_cover_what_is_asked_for() -> None:
    given = {"nginx": {"cert": "/c", "key": "/k"}, "elsewhere": {"cert": "/c", "key": "/k"}}
    first, second = certificate_requests(
        [{"name": "nginx", "dns": ["a.example.com"]}, {"name": "redis"}], given=given, **HOST
    )
    assert (first["source"], first["names"], first["ca"], first["dns"], first["ip"]) == (
        "given",
        "covers",
        False,
        ["a.example.com"],
        [],
    )
    assert first["given"] == {"cert": "/c", "key": "/k", "chain": ""}
    assert second["source"] == "ca"


@pytest.mark.parametrize(
    ("entries", "more", "message"),
    [
        ({"name": "x"}, {}, "expected a list"),
        (["x"], {}, "expected entries"),
        ([{}], {}, "None is not a name"),
        ([{"name": "../x"}], {}, "not a name of a certificate"),
        ([{"name": "ca"}], {}, "taken by the authority"),
        ([{"name": "x"}, {"name": "x"}], {}, "stands twice"),
        ([{"name": "x", "sans": []}], {}, "unknown keys: sans"),
        ([{"name": "x", "dns": "a.example.com"}], {}, "has to be a list"),
        ([{"name": "x", "dns": ["192.0.2.1"]}], {}, "addresses belong into ip"),
        ([{"name": "x", "ip": ["a.example.com"]}], {}, "names belong into dns"),
        ([{"name": "x", "dns": ["a b"]}], {}, "not a host name"),
        ([{"name": "x"}], {"given": {"x": {"cert": "/c"}}}, "needs the paths cert and key"),
        ([{"name": "x"}], {"given": {"x": {"cert": "/c", "key": "/k", "pem": "/p"}}}, "unknown keys: pem"),
        ([{"name": "x", "dns": ["a"]}], {"given": {"x": {}}, "acme": ["x"]}, "choose one"),
        ([{"name": "x"}], {"acme": ["x"]}, "needs dns"),
    ],
)
def test_mistakes_are_told(entries: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        certificate_requests(entries, **HOST, **more)


# --- the module, with certificates made by another library ------------------------------------------------------------


class Pki:
    """An authority and a directory of a host."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fleet, authority")])
        self.certificate = self.sign(self.key, self.name, 3650, [])
        self.ca = self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(
        self, key: Key, subject: x509.Name, days: float, names: list[x509.GeneralName], starts: float = -1
    ) -> x509.Certificate:
        own, now = subject == self.name, datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=min(starts, days - 1)))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=own, path_length=0 if own else None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(
        self, name: str, days: float = 100, key: Key | None = None, starts: float = -1, dns: str = "app1"
    ) -> dict[str, Any]:
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "app1")])
        names = [x509.DNSName(dns), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        signed = self.sign(key, subject, days, [*names, x509.IPAddress(ipaddress.ip_address("2001:db8::1"))], starts)
        cert, secret = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        cert.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        secret.chmod(0o600)
        return self.want(name)

    def want(self, name: str, **more: Any) -> dict[str, Any]:
        base = {"name": name, "cert": str(self.directory / f"{name}.crt"), "key": str(self.directory / f"{name}.key")}
        names = {"dns": ["APP1", "localhost"], "ip": ["127.0.0.1", "2001:0db8::1"], "common_name": "app1"}
        return {**base, **names, "key_type": "ECC:secp256r1", "mode": "0600", **more}


@pytest.fixture
def pki(tmp_path: pathlib.Path) -> Pki:
    return Pki(tmp_path)


Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(run_module: Callable[..., dict[str, Any]], pki: Pki) -> Ask:
    def ask_about(*wanted: dict[str, Any], diff: bool = False, **more: Any) -> dict[str, Any]:
        return run_module(
            certificate_info,
            {"certificates": list(wanted), "ca_content": pki.ca, "renew_before": 30, **more},
            diff=diff,
        )

    return ask_about


def test_a_good_certificate_is_not_due(pki: Pki, ask: Ask) -> None:
    answer = ask(pki.issue("a"), pki.issue("b"))
    assert answer["due"] == [], answer
    assert not answer["changed"]
    first = answer["certificates"][0]
    assert 99 < first["days_left"] <= 100
    assert first["issuer"] == answer["ca"]["subject"] == r"CN=Fleet\, authority"
    assert len(first["fingerprint"]) == 64


@pytest.mark.parametrize(
    ("issue", "want", "reason"),
    [
        ({"days": 29.5}, {}, "expires in 29.5 days, renewed below 30"),
        ({"days": -2}, {}, "expired 2 days ago"),
        ({"starts": 3}, {}, "not valid before"),
        ({"dns": "app2"}, {}, "names differ: app1, app2"),
        ({}, {"dns": ["app1"]}, "names differ: localhost"),
        ({}, {"ip": ["127.0.0.1", "192.0.2.1", "2001:db8::1"]}, "names differ: 192.0.2.1"),
        ({}, {"common_name": "other"}, "common name is 'app1', wanted 'other'"),
        ({}, {"key_type": "RSA:3072"}, "key is ECC:secp256r1, wanted RSA:3072"),
        ({}, {"key_type": "ECC:secp384r1"}, "key is ECC:secp256r1"),
        ({}, {"mode": "0640"}, "mode is 0600, wanted 0640"),
        ({}, {"owner": "no-such-user"}, "owner is not no-such-user"),
        ({}, {"group": "no-such-group"}, "group is not no-such-group"),
    ],
)
def test_what_is_due_says_why(pki: Pki, ask: Ask, issue: dict[str, Any], want: dict[str, Any], reason: str) -> None:
    pki.issue("a", **issue)
    answer = ask(pki.want("a", **want), diff=True)
    assert answer["due"] == ["a"]
    assert reason in answer["certificates"][0]["reasons"][0]
    assert answer["diff"]["prepared"].startswith("a: ")


def test_rsa_keys_are_known(pki: Pki, ask: Ask) -> None:
    pki.issue("a", key=rsa.generate_private_key(65537, 2048))
    assert ask(pki.want("a", key_type="RSA:2048"))["due"] == []


def test_a_missing_file_is_due(pki: Pki, ask: Ask) -> None:
    want = pki.issue("a")
    os.unlink(want["key"])
    assert ask(want)["certificates"][0]["reasons"] == [f"{want['key']} does not exist"]
    assert ask(pki.want("b"))["certificates"][0]["days_left"] is None


def test_a_broken_file_is_due(pki: Pki, ask: Ask) -> None:
    want = pki.issue("a")
    pathlib.Path(want["cert"]).write_text("nonsense")
    assert "not a readable certificate" in ask(want)["certificates"][0]["reasons"][0]
    pki.issue("a")
    pathlib.Path(want["key"]).write_text("nonsense")
    assert "not a readable private key" in ask(want)["certificates"][0]["reasons"][0]


def test_the_key_of_another_certificate_is_due(pki: Pki, ask: Ask) -> None:
    want, other = pki.issue("a"), pki.issue("b")
    os.replace(other["key"], want["key"])
    assert "the private key does not belong to the certificate" in ask(want)["certificates"][0]["reasons"]


def test_a_certificate_of_another_authority_is_due_though_it_has_the_same_name(
    pki: Pki, ask: Ask, tmp_path: pathlib.Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    want = Pki(other).issue("a")
    assert ask(want)["certificates"][0]["reasons"] == ["not signed by the present authority"]
    assert ask({**want, "ca": False})["due"] == []
    assert ask(want, ca_content="")["certificates"][0]["reasons"] == ["there is no authority yet"]


def test_copies_of_the_authority_are_compared(pki: Pki, ask: Ask, tmp_path: pathlib.Path) -> None:
    good, bad, bundle = tmp_path / "good", tmp_path / "bad", tmp_path / "bundle"
    good.write_text(pki.ca + "\n")
    bad.write_text(pki.ca.rstrip("\n") + "\\n")
    bundle.write_text("# others\n" + pki.ca)
    answer = ask(ca_paths=[str(good), str(bad), str(tmp_path / "none")], ca_bundle=str(bundle))
    assert answer["ca"]["due_paths"] == [str(bad), str(tmp_path / "none")]
    bundle.write_text("# others\n")
    assert ask(ca_bundle=str(bundle))["ca"]["due_paths"] == [str(bundle)]


def test_a_bare_host_without_openssl_is_due(pki: Pki, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    want = pki.issue("a")
    monkeypatch.setattr(certificate_info.AnsibleModule, "get_bin_path", lambda *_args, **_more: None)
    answer = ask(want)
    assert answer["certificates"][0]["reasons"] == ["openssl is not installed"]
    assert answer["certificates"][0]["days_left"] is None


def test_a_broken_authority_fails(run_module: Callable[..., dict[str, Any]]) -> None:
    assert run_module(certificate_info, {"ca_content": "nonsense"})["msg"].startswith(
        "ca_content: not a readable certificate"
    )


@pytest.mark.parametrize(
    ("have", "want", "missing"),
    [
        (["*.example.com"], ["a.example.com"], []),
        (["*.example.com"], ["a.b.example.com", "example.com"], ["a.b.example.com", "example.com"]),
        (["A.example.com"], ["a.EXAMPLE.com."], []),
        (["*.com"], ["*.com"], []),
    ],
)
def test_wildcards_stand_for_one_label(have: list[str], want: list[str], missing: list[str]) -> None:
    assert certs.missing_names(have, want) == missing


# --- the role ---------------------------------------------------------------------------------------------------------


def tasks(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load((ROOT / "roles/certificates/tasks" / file).read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"certificates_renew_before": 365}, "every run would renew everything"),
        ({"certificates_acme_names": ["nginx"], "certificates_acme_terms_agreed": True}, "certificates_acme_directory"),
        (
            {"certificates_acme_names": ["nginx"], "certificates_acme_directory": "http://acme.example.com"},
            "https address",
        ),
        (
            {"certificates_acme_names": ["nginx"], "certificates_acme_directory": "https://acme.example.com"},
            "certificates_acme_terms_agreed",
        ),
        ({}, ""),
    ],
)
def test_preflight(given: dict[str, Any], message: str) -> None:
    problems = Role("certificates", {}, **given).value("{{ __certificates_problems }}")
    assert message in " ".join(problems) if message else problems == []


def due(renew: list[str], **state: Any) -> list[str]:
    requests = [{"name": "a", "source": "ca"}, {"name": "b", "source": "given"}, {"name": "c", "source": "acme"}]
    found = [{"name": n, "due": state.get(n, False), "days_left": state.get("left")} for n in ("a", "c")]
    there = Role(
        "certificates",
        {},
        __certificates_all=requests,
        certificates_renew=renew,
        __certificates_info={"certificates": found},
    )
    return [item["name"] for item in there.value("{{ __certificates_due }}")]


def test_the_authority_signs_what_is_due_and_stands_in_for_acme_only_at_first() -> None:
    assert due([]) == []
    assert due([], a=True) == ["a"]
    assert due([], c=True) == ["c"]
    assert due([], c=True, left=3.0) == []
    assert due(["a"]) == due(["all"]) == ["a"]


def test_a_leaf_never_outlives_its_authority() -> None:
    def days(left: float | None) -> int:
        there = Role("certificates", {}, __certificates_info={"ca": {"days_left": left}})
        return int(there.value("{{ __certificates_days }}"))

    assert days(3649.9) == days(None) == 365
    assert days(100.7) == 99


def test_a_repeated_run_is_one_module_call() -> None:
    calls = [
        t for t in tasks("main.yml") if "ansible.builtin.include_tasks" not in t and "ansible.builtin.assert" not in t
    ]
    assert [next(k for k in t if "." in k) for t in calls] == ["flowfleet.langflow.certificate_info"]
    assert all("when" in t for t in tasks("main.yml") if "ansible.builtin.include_tasks" in t)


def test_no_private_key_of_a_host_travels() -> None:
    """Keys are made where they are used; what runs on the controller gets requests only."""
    for task in tasks("issue.yml"):
        module = next(key for key in task if "." in key)
        if "privatekey" in module:
            assert "delegate_to" not in task, task["name"]
        if "delegate_to" in task:
            assert module == "community.crypto.x509_certificate_pipe"
            assert "privatekey_path" not in task[module]


def test_everything_with_the_passphrase_is_hidden() -> None:
    for file in ("authority.yml", "issue.yml"):
        for task in tasks(file):
            if "certificates_ca_passphrase" in str(task):
                assert task["no_log"] == "{{ certificates_no_log }}", task["name"]


def test_given_keys_are_secret(tmp_path: pathlib.Path) -> None:
    for name in ("cert", "key"):
        (tmp_path / name).write_text(name)
    given = {"nginx": {"cert": str(tmp_path / "cert"), "key": str(tmp_path / "key")}}
    item = certificate_requests([{"name": "nginx", "dns": ["a.example.com"]}], given=given, **HOST)
    found = Role("certificates", {}, __certificates_all=item).value("{{ __certificates_given_files }}")
    key = next(file for file in found if file["path"].endswith(".key"))
    assert (key["secret"], key["mode"], key["content"]) == (True, "0600", "key\n")
