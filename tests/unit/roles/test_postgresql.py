# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role postgresql: what it writes, how it sizes, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from rendering import Role

FACTS = {
    "distribution": "Debian",
    "distribution_version": "13.1",
    "distribution_release": "trixie",
    "memtotal_mb": 8192,
    "all_ipv4_addresses": ["192.0.2.21"],
    "all_ipv6_addresses": [],
    "default_ipv4": {"address": "192.0.2.21"},
}
APPS = [{"name": "app1", "address": "192.0.2.11"}, {"name": "app2", "address": "2001:db8::12"}]
USER = {"name": "langflow", "password": "secret", "databases": ["langflow"]}
GIVEN: dict[str, Any] = {
    "langflow_fleet_app_hosts": APPS,
    "langflow_fleet_address": "192.0.2.21",
    "postgresql_users": [USER],
}


def role(**changes: Any) -> Role:
    return Role("postgresql", {**FACTS, **changes.pop("facts", {})}, **{**GIVEN, **changes})


def settings(restart: bool, **changes: Any) -> dict[str, str]:
    text = role(**changes).file("settings.conf.j2", __postgresql_restart=restart)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = dict(re.fullmatch(r"(\w+) = '(.*)'", line).groups() for line in lines)  # type: ignore[union-attr]
    assert len(found) == len(lines)
    return found


def hba(**changes: Any) -> list[list[str]]:
    text = role(**changes).file("pg_hba.conf.j2")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_connections_and_memory_follow_the_fleet_and_the_host() -> None:
    restart, reload = settings(True, postgresql_client_workers=4), settings(False, postgresql_client_workers=4)
    assert restart["max_connections"] == str(2 * 4 * 22 + 20)
    assert restart["shared_buffers"] == "2048MB"
    assert reload["effective_cache_size"] == "6144MB"
    assert reload["work_mem"] == "10MB"
    assert reload["maintenance_work_mem"] == "512MB"


@pytest.mark.parametrize(("memory", "buffers", "maintenance"), [(256, 128, 64), (1024, 256, 64), (65536, 16384, 2048)])
def test_memory_has_floors_and_ceilings(memory: int, buffers: int, maintenance: int) -> None:
    assert settings(True, postgresql_memory_mb=memory)["shared_buffers"] == f"{buffers}MB"
    assert settings(False, postgresql_memory_mb=memory)["maintenance_work_mem"] == f"{maintenance}MB"


def test_only_tls_and_scram() -> None:
    reload = settings(False)
    assert reload["ssl"] == "on"
    assert reload["ssl_min_protocol_version"] == "TLSv1.2"
    assert reload.items() >= {("password_encryption", "scram-sha-256")}
    assert reload["ssl_key_file"] == "/etc/flowfleet/tls/postgresql.key"
    # What a statement carries may be a secret.
    assert reload["log_parameter_max_length"] == reload["log_parameter_max_length_on_error"] == "0"


def test_each_setting_stands_where_it_takes_effect() -> None:
    changes = {
        "postgresql_settings": {
            "shared_preload_libraries": "pg_stat_statements",
            "work_mem": "1MB",
            "application_name": "it's",
        }
    }
    restart, reload = settings(True, **changes), settings(False, **changes)
    assert not set(restart) & set(reload)
    assert restart["shared_preload_libraries"] == "pg_stat_statements"
    assert reload["work_mem"] == "1MB"
    assert reload["application_name"] == "it''s"
    assert {"listen_addresses", "port", "max_connections", "shared_buffers", "wal_level"} <= set(restart)


def test_text_and_number_give_the_same_file() -> None:
    # ansible-core before 2.19 gives computed numbers as text; a change of the controller must not restart a database.
    assert settings(True, postgresql_max_connections="108") == settings(True, postgresql_max_connections=108)


def test_access_ends_in_rejection() -> None:
    lines = hba()
    assert lines[0] == ["local", "all", "postgres", "peer", "map=operators"]
    assert lines[1:3] == [
        ["hostssl", "langflow", "langflow", "192.0.2.11/32", "scram-sha-256"],
        ["hostssl", "langflow", "langflow", "2001:db8::12/128", "scram-sha-256"],
    ]
    assert lines[-2:] == [["local", "all", "all", "reject"], ["host", "all", "all", "all", "reject"]]
    assert len(lines) == 5


def test_access_of_single_users_and_extra_lines() -> None:
    users = [
        USER,
        {
            "name": "report",
            "password": "x",
            "databases": ["langflow", "other"],
            "addresses": ["198.51.100.0/24", "bi.example.com"],
        },
    ]
    lines = hba(postgresql_users=users, postgresql_hba_extra=["hostssl all monitor 192.0.2.9/32 scram-sha-256"])
    assert ["hostssl", "langflow,other", "report", "198.51.100.0/24", "scram-sha-256"] in lines
    assert ["hostssl", "langflow,other", "report", "bi.example.com", "scram-sha-256"] in lines
    assert lines[-3] == ["hostssl", "all", "monitor", "192.0.2.9/32", "scram-sha-256"]
    assert not [line for line in lines if line[0] in ("host", "hostnossl") and line[-1] != "reject"]


@pytest.mark.parametrize(
    ("facts", "version"),
    [
        ({}, 17),
        ({"distribution_version": "12"}, 15),
        ({"distribution": "Ubuntu", "distribution_version": "24.04"}, 16),
    ],
)
def test_version_of_the_distribution(facts: dict[str, Any], version: int) -> None:
    host = role(facts=facts)
    assert host.value("{{ postgresql_version }}") == version
    assert host.value("{{ __postgresql_service.packages }}") == [
        f"postgresql-{version}",
        "python3-psycopg2",
        f"postgresql-{version}-pgvector",
    ]


@pytest.mark.parametrize("off", [False, "false", "no"])
def test_without_pgvector_nothing_of_it_is_left(off: Any) -> None:
    host = role(postgresql_pgvector_enabled=off)
    assert "vector" not in str(host.value("{{ __postgresql_service.packages }}"))
    assert host.value("{{ postgresql_databases }}")[0]["extensions"] == []


def test_the_repository_carries_its_key() -> None:
    key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc=\n-----END PGP PUBLIC KEY BLOCK-----\n"
    host = role(postgresql_repository_uris=["https://mirror.example.com/apt"], postgresql_repository_key=key)
    text = host.file("repository.sources.j2")
    assert "URIs: https://mirror.example.com/apt\nSuites: trixie-pgdg\nComponents: main\n" in text
    assert text.endswith(
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc=\n -----END PGP PUBLIC KEY BLOCK-----\n"
    )


def test_a_restart_watches_only_what_needs_one() -> None:
    restart, reload = role().value("{{ __postgresql_service.units }}")
    assert restart["unit"] == reload["unit"] == "postgresql@17-main.service"
    assert (restart["apply"], reload["apply"]) == ("restart", "reload")
    assert not set(restart["watch"]) & set(reload["watch"])
    assert "/etc/flowfleet/tls/postgresql.crt" in reload["watch"]
    assert "/etc/postgresql/17/main/pg_hba.conf" in reload["watch"]


def test_what_is_right_is_not_refused() -> None:
    assert role().refusals() == []
    given = {
        "postgresql_source": "pgdg",
        "postgresql_version": 17,
        "postgresql_repository_uris": ["https://mirror.example.com/apt"],
        "postgresql_repository_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----",
    }
    assert role(facts={"distribution_version": "12"}, **given).refusals() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"postgresql_version": 14, "postgresql_source": "distribution"}, "Langflow needs 15 or later"),
        ({"postgresql_version": 16}, "is not what Debian13 packages (17)"),
        ({"postgresql_source": "pgdg"}, "set postgresql_repository_uris and postgresql_repository_key"),
        ({"facts": {"distribution_version": "12.11"}}, "Debian12 has no package of pgvector"),
        ({"postgresql_databases": [{"name": "langflow", "owner": "nobody"}]}, "needs an entry in postgresql_users"),
        ({"postgresql_users": [USER, {**USER, "name": "postgres"}]}, "must not be called postgres"),
        ({"postgresql_users": [{**USER, "databases": ["langflow", "typo"]}]}, "postgresql_users[].databases"),
        ({"langflow_fleet_app_hosts": []}, "postgresql_client_addresses is empty"),
        ({"postgresql_memory_mb": 9000}, "at most the host's 8192"),
        ({"postgresql_memory_mb": 128}, "must be at least 256"),
        ({"postgresql_memory_mb": 512, "postgresql_client_workers": 20}, "900 connections of 2 MB"),
        ({"postgresql_listen_addresses": ["198.51.100.1"]}, "postgresql_listen_addresses names 198.51.100.1"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    refusals = role(**changes).refusals()
    assert message in " ".join(refusals)
    assert len(refusals) <= 2
    assert "secret" not in " ".join(refusals)


# --- several servers --------------------------------------------------------------------------------------------------

SERVERS = [{"name": f"data{number}", "address": f"192.0.2.{20 + number}"} for number in (1, 2, 3)]
CLUSTER: dict[str, Any] = {
    "postgresql_mode": "patroni",
    "langflow_fleet_database_hosts": SERVERS,
    "langflow_fleet_etcd_hosts": SERVERS,
    "postgresql_patroni_password": "rest-password",
    "postgresql_replication_password": "replication-password",
    "postgresql_rewind_password": "rewind-password",
    "postgresql_etcd_password": "etcd-password",
    "__postgresql_watchdog_found": False,
}


def member(**changes: Any) -> Role:
    return role(**{**CLUSTER, **changes})


def patroni(**changes: Any) -> dict[str, Any]:
    found = yaml.safe_load(member(**changes).file("patroni.yml.j2"))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("preset", ["fast", "normal", "safe"])
@pytest.mark.parametrize("policy", ["zero_strict", "zero", "bounded"])
def test_presets_keep_a_leader_from_outliving_its_lock(preset: str, policy: str) -> None:
    shared = patroni(postgresql_rto=preset, postgresql_rpo=policy)["bootstrap"]["dcs"]
    assert shared["ttl"] >= shared["loop_wait"] + 2 * shared["retry_timeout"]
    assert (shared["ttl"], shared["loop_wait"], shared["retry_timeout"]) >= (20, 1, 3)
    assert shared["synchronous_mode"] is (policy != "bounded")
    assert shared["synchronous_mode_strict"] is (policy == "zero_strict")
    assert shared["failsafe_mode"] is True
    assert shared["postgresql"]["use_pg_rewind"] is True
    assert member(postgresql_rto=preset, postgresql_rpo=policy).refusals("preflight_patroni.yml") == []


def test_servers_share_what_must_be_the_same_and_nothing_else() -> None:
    found = patroni(postgresql_settings={"max_connections": 150, "work_mem": "9MB"})
    shared, own = found["bootstrap"]["dcs"]["postgresql"]["parameters"], found["postgresql"]["parameters"]
    assert shared["max_connections"] == "150"
    assert own["work_mem"] == "9MB"
    assert not set(shared) & set(own)
    assert not {"listen_addresses", "port", "cluster_name"} & (set(shared) | set(own))
    assert own["ssl"] == "on"
    assert "data-checksums" in found["bootstrap"]["initdb"]


@pytest.mark.parametrize("command", ["", "pgbackrest --stanza=langflow archive-push %p"])
def test_the_log_is_archived_where_there_is_a_command_for_it(command: str) -> None:
    wanted = {"archive_mode": "on", "archive_command": command, "archive_timeout": "60s"} if command else {}
    given = {"langflow_fleet_archive_command": command}
    single = {**settings(True, **given), **settings(False, **given)}
    own = patroni(**given)["postgresql"]["parameters"]
    for found in (single, own):
        assert {name: value for name, value in found.items() if name.startswith("archive_")} == wanted
    assert "archive_mode" in settings(True, langflow_fleet_archive_command="true")
    # The command writes in places of its own.
    assert ("ProtectSystem=strict" in member(**given).file("patroni.service.j2")) is (not command)


def test_servers_verify_each_other() -> None:
    found = patroni()
    for name in ("replication", "rewind"):
        login = found["postgresql"]["authentication"][name]
        assert login["sslmode"] == "verify-full"
        assert login["sslrootcert"] == "/etc/flowfleet/tls/ca.crt"
        assert login["sslcert"] == "/etc/flowfleet/tls/patroni.crt"
    assert "password" not in found["postgresql"]["authentication"]["superuser"]
    assert found["restapi"]["verify_client"] == "optional"
    assert found["restapi"]["authentication"] == {"username": "patroni", "password": "rest-password"}
    assert found["restapi"]["allowlist"] == ["127.0.0.1", "192.0.2.21", "192.0.2.22", "192.0.2.23"]
    assert found["etcd3"]["protocol"] == "https"
    assert found["etcd3"]["hosts"] == ["192.0.2.21:2379", "192.0.2.22:2379", "192.0.2.23:2379"]


def test_nobody_logs_in_without_tls_and_a_password() -> None:
    lines = [line.split() for line in patroni()["postgresql"]["pg_hba"]]
    assert ["hostssl", "replication", "replicator", "192.0.2.22/32", "scram-sha-256", "clientcert=verify-ca"] in lines
    assert ["hostssl", "postgres", "rewinder", "192.0.2.22/32", "scram-sha-256", "clientcert=verify-ca"] in lines
    assert {line[3] for line in lines if line[0] == "host"} == {"all"}
    assert lines[-2:] == [["local", "all", "all", "reject"], ["host", "all", "all", "all", "reject"]]
    assert [line for line in lines if line[0] == "host"] == [lines[-1]]


@pytest.mark.parametrize(
    ("wish", "there", "mode", "private"),
    [("auto", False, "off", True), ("auto", True, "automatic", False), ("required", False, "required", False)],
)
def test_watchdog(wish: str, there: bool, mode: str, private: bool) -> None:
    changes = {"postgresql_watchdog": wish, "__postgresql_watchdog_found": there}
    assert patroni(**changes)["watchdog"]["mode"] == mode
    unit = member(**changes).file("patroni.service.j2")
    assert ("PrivateDevices=true" in unit) is private
    assert ("DeviceAllow=/dev/watchdog rw" in unit) is not private


def test_a_run_never_restarts_a_server_of_a_cluster() -> None:
    start, reload = member().value("{{ __postgresql_service.units }}")
    assert (start["mode"], reload["apply"]) == ("start", "reload")


@pytest.mark.parametrize(
    ("seen", "reasons"),
    [
        ({"server_version": 170012, "patroni_version": "4.0.7", "pending_restart": False}, []),
        ({"server_version": 170011, "patroni_version": "4.0.7", "pending_restart": False}, ["PostgreSQL is newer"]),
        ({"server_version": 170012, "patroni_version": "4.0.6", "pending_restart": False}, ["Patroni is newer"]),
        ({"server_version": 170012, "patroni_version": "4.0.7", "pending_restart": True}, ["settings wait"]),
        ({}, []),
    ],
)
def test_why_a_server_is_restarted(seen: dict[str, Any], reasons: list[str]) -> None:
    given = {
        "__postgresql_member": seen,
        "__postgresql_look": {"stale": False, "reason": ""},
        "__postgresql_installed": {"stdout": "postgres (PostgreSQL) 17.12 (Debian 17.12-0+deb13u1)"},
        "__postgresql_patroni_installed": {"stdout": "patroni 4.0.7"},
    }
    found = member(**given).value("{{ __postgresql_restart_reasons }}")
    assert len(found) == len(reasons)
    assert all(text.startswith(start) for text, start in zip(found, reasons, strict=True))
    forced = member(**given, postgresql_restart_force=True).value("{{ __postgresql_restart_reasons }}")
    assert forced == ["a restart was asked for", *found]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"facts": {"distribution_version": "12"}}, "which is made for Debian13"),
        ({"langflow_fleet_database_hosts": SERVERS[:2]}, "has 2 server(s); it needs 3"),
        ({"langflow_fleet_etcd_hosts": []}, "postgresql_etcd_hosts has 0 member(s)"),
        ({"langflow_fleet_etcd_hosts": SERVERS[:2]}, "postgresql_etcd_hosts has 2 member(s)"),
        ({"inventory_hostname": "elsewhere"}, "contain this host (elsewhere)"),
        ({"postgresql_patroni_settings": {"retry_timeout": 30}}, "two servers may lead at once"),
        ({"postgresql_users": [{**USER, "name": "replicator"}]}, "must not contain replicator"),
        ({"postgresql_settings": {"port": 5433}}, "postgresql_settings names port"),
    ],
)
def test_refusals_of_a_cluster(changes: dict[str, Any], message: str) -> None:
    refusals = member(**changes).refusals("preflight_patroni.yml")
    assert message in " ".join(refusals)
    assert "password" not in " ".join(refusals)
