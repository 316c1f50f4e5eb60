# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role etcd: who founds a cluster, who is let in, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from rendering import ROLES, Role

FACTS = {
    "distribution": "Debian",
    "distribution_major_version": "13",
    "all_ipv4_addresses": ["192.0.2.21"],
    "all_ipv6_addresses": [],
}
MEMBERS = [{"name": f"data{number}", "address": f"192.0.2.{20 + number}"} for number in range(1, 8)]


def seen(*present: bool) -> dict[str, Any]:
    """What this run knows of the hosts."""
    return {
        member["name"]: {"__etcd_data": {"stat": {"exists": there}}}
        for member, there in zip(MEMBERS, present, strict=False)
    }


def role(*present: bool, **changes: Any) -> Role:
    known = seen(*present)
    given = {"langflow_fleet_etcd_hosts": MEMBERS[:3], "langflow_fleet_address": "192.0.2.21", "hostvars": known}
    if "data1" in known:
        given["__etcd_data"] = known["data1"]["__etcd_data"]
    facts = {**FACTS, **changes.pop("facts", {})}
    return Role("etcd", facts, **{**given, **changes})


def environment(**changes: Any) -> dict[str, str]:
    lines = role(False, False, False, **changes).file("etcd.env.j2").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize(
    ("present", "fresh"),
    [
        ((False, False, False), True),
        ((True, True, True), False),
        ((False, True, True), False),
        ((False, False, True), False),
        # Hosts that this run does not know may hold a cluster.
        ((False, False), False),
        ((False,), False),
    ],
)
def test_a_cluster_is_founded_only_where_certainly_none_is(present: tuple[bool, ...], fresh: bool) -> None:
    host = role(*present)
    assert host.value("{{ __etcd_fresh }}") is fresh
    bootstrap = [item for item in host.value("{{ __etcd_service.files }}") if item["path"].endswith("bootstrap.env")]
    assert [item.get("state", "file") for item in bootstrap] == ["file" if fresh else "absent"]


def test_the_unit_alone_founds_nothing() -> None:
    assert environment()["ETCD_INITIAL_CLUSTER_STATE"] == "existing"


def test_a_member_with_data_is_only_started() -> None:
    assert role(True, True, True).value("{{ __etcd_service.units[0].mode }}") == "start"


def test_everybody_shows_a_certificate() -> None:
    found = environment()
    assert found["ETCD_TRUSTED_CA_FILE"] == found["ETCD_PEER_TRUSTED_CA_FILE"] == "/run/credentials/etcd.service/ca.crt"
    assert found["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"
    # A name in a certificate is no user: there is a certificate for each service of the fleet.
    assert found["ETCD_CLIENT_CERT_AUTH"] == "false"
    assert found["ETCD_PEER_CERT_ALLOWED_HOSTNAME"] == "etcd-peer.internal"
    for name, value in found.items():
        if name.endswith("_URLS") and "METRICS" not in name:
            assert all(url.startswith("https://") for url in value.split(","))
    assert found["ETCD_LISTEN_METRICS_URLS"].startswith("http://127.0.0.1:")


def test_patroni_is_let_in_below_its_own_keys_with_the_password_that_it_has() -> None:
    user, patroni = role().variables["etcd_users"][0], Role("postgresql", FACTS)
    template = (ROLES / "postgresql/templates/patroni.yml.j2").read_text(encoding="utf-8")
    assert f"\nnamespace: {user['prefix']}\n" in template
    assert patroni.variables["postgresql_etcd_user"] == user["name"]
    for text in (user["password"], patroni.variables["postgresql_etcd_password"]):
        assert "'flowfleet.langflow.secret', 'etcd_patroni_password'" in text


def test_addresses_of_version_6_are_bracketed() -> None:
    members = [{"name": "data1", "address": "2001:db8::1"}]
    found = environment(langflow_fleet_etcd_hosts=members, langflow_fleet_address="2001:db8::1")
    assert found["ETCD_INITIAL_CLUSTER"] == "data1=https://[2001:db8::1]:2380"
    assert found["ETCD_ADVERTISE_CLIENT_URLS"] == "https://[2001:db8::1]:2379"


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_odd_numbers_are_fine(count: int) -> None:
    assert role(langflow_fleet_etcd_hosts=MEMBERS[:count]).refusals() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"langflow_fleet_etcd_hosts": []}, "has 0 member(s)"),
        ({"langflow_fleet_etcd_hosts": MEMBERS[:2]}, "an even number survives no more losses"),
        ({"langflow_fleet_etcd_hosts": MEMBERS[:4]}, "etcd_hosts has 4 member(s)"),
        ({"inventory_hostname": "elsewhere"}, "contain this host (elsewhere)"),
        ({"etcd_election_ms": 900}, "at least five times"),
        ({"langflow_fleet_address": "db1.example.com"}, "etcd takes addresses, no names"),
        ({"facts": {"distribution_major_version": "12"}}, "use Debian 13"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    assert message in " ".join(role(**changes).refusals())
