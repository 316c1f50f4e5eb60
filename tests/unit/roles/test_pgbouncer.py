# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role pgbouncer: what it writes for each system and mode, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from rendering import Role

TRIXIE = {"distribution": "Debian", "distribution_major_version": "13"}
BOOKWORM = {"distribution": "Debian", "distribution_major_version": "12"}
PASSWORD = 'quote"and' + "%-sign"
GIVEN: dict[str, Any] = {
    "langflow_fleet_database_hosts": [{"name": "data1", "address": "192.0.2.31"}],
    "pgbouncer_password": PASSWORD,
}


def role(facts: dict[str, str] | None = None, **changes: Any) -> Role:
    return Role("pgbouncer", dict(facts or TRIXIE), **{**GIVEN, **changes})


def settings(made: Role) -> dict[str, str]:
    """The section [pgbouncer] as PgBouncer reads it."""
    text = made.file("pgbouncer.ini.j2")
    lines = text.partition("[pgbouncer]\n")[2].splitlines()
    return {
        name.strip(): value.strip() for name, _sign, value in (line.partition("=") for line in lines if "=" in line)
    }


def database(made: Role) -> str:
    return next(line for line in made.file("pgbouncer.ini.j2").splitlines() if line.startswith("langflow = "))


def test_it_leads_to_the_first_database_host_or_to_the_proxy_of_this_host() -> None:
    assert database(role()) == "langflow = host=192.0.2.31 port=5432 dbname=langflow timezone=UTC"
    behind = role(langflow_fleet_proxy=True, langflow_fleet_database_port=15432)
    assert "host=127.0.0.1 port=15432 " in database(behind)
    assert "host=db.example.com port=5433 " in database(
        role(langflow_database_host="db.example.com", langflow_database_port=5433)
    )


def test_both_sides_are_encrypted_and_the_server_is_verified() -> None:
    found = settings(role())
    assert (found["client_tls_sslmode"], found["server_tls_sslmode"]) == ("require", "verify-full")
    assert found["auth_type"] == "scram-sha-256"
    assert found["client_tls_key_file"] == "/etc/flowfleet/tls/pgbouncer.key"
    assert found["server_tls_ca_file"] == "/etc/flowfleet/tls/ca.crt"
    assert settings(role(langflow_database_ca_file="/etc/ssl/own.pem"))["server_tls_ca_file"] == "/etc/ssl/own.pem"


def test_the_mode_follows_from_what_the_package_can() -> None:
    new, old = settings(role()), settings(role(BOOKWORM))
    assert (new["pool_mode"], new["max_prepared_statements"]) == ("transaction", "200")
    assert (old["pool_mode"], "max_prepared_statements" in old) == ("session", False)
    # 1.18 refuses a client that sends options, which Langflow does.
    assert old["ignore_startup_parameters"] == "extra_float_digits,options"
    assert new["ignore_startup_parameters"] == "extra_float_digits"


@pytest.mark.parametrize(
    ("facts", "changes", "size", "total"),
    [
        (TRIXIE, {}, "20", "25"),
        (TRIXIE, {"langflow_workers": "3", "langflow_db_pool_size": 8, "pgbouncer_reserve_size": 0}, "24", "24"),
        (BOOKWORM, {}, "44", "49"),
        (TRIXIE, {"pgbouncer_pool_size": "7"}, "7", "12"),
    ],
)
def test_the_pool_follows_from_the_workers(
    facts: dict[str, str], changes: dict[str, Any], size: str, total: str
) -> None:
    found = settings(role(facts, **changes))
    assert (found["default_pool_size"], found["max_db_connections"]) == (size, total)


def test_settings_of_the_operator_win() -> None:
    found = settings(role(pgbouncer_settings={"log_connections": 1, "server_lifetime": 60}))
    assert (found["log_connections"], found["server_lifetime"]) == ("1", "60")


def test_the_included_part_begins_no_section() -> None:
    """A second heading would take all settings before it back to the defaults of PgBouncer."""
    made = role()
    assert made.file("pgbouncer.ini.j2").count("[pgbouncer]") == 1
    lines = [line for line in made.file("listen.ini.j2").splitlines() if line and not line.startswith(";")]
    assert lines == [
        "listen_addr = 127.0.0.1",
        "listen_port = 6432",
        "unix_socket_dir = /run/langflow-pgbouncer",
        "unix_socket_mode = 0700",
    ]


def test_the_password_is_in_one_secret_file() -> None:
    made = role()
    files = {item["path"]: item for item in made.value("{{ __pgbouncer_service.files }}")}
    assert (files["/etc/flowfleet/pgbouncer/userlist.txt"]["secret"]) is True
    assert files["/etc/flowfleet/pgbouncer/userlist.txt"]["mode"] == "0640"
    assert made.file("userlist.txt.j2").splitlines()[-1] == '"langflow" "quote""and%-sign"'
    rest = [made.file(name) for name in ("pgbouncer.ini.j2", "listen.ini.j2", "langflow-pgbouncer.service.j2")]
    assert "sign" not in "".join(rest) + str(made.value("{{ __pgbouncer_service }}"))


def test_the_unit_of_the_package_is_masked() -> None:
    files = {item["path"]: item for item in role().value("{{ __pgbouncer_service.files }}")}
    assert files["/etc/systemd/system/pgbouncer.service"]["target"] == "/dev/null"


def test_what_can_be_reloaded_is_not_restarted() -> None:
    made = role()
    tasks = yaml.safe_load((made.path / "tasks/service.yml").read_text(encoding="utf-8"))
    (task,) = [task for task in tasks if "flowfleet.langflow.rolling_restart" in task]
    assert task["throttle"] == 1
    units = task["flowfleet.langflow.rolling_restart"]["units"]
    assert [unit["apply"] for unit in units] == ["restart", "reload"]
    assert [made.value(item) for item in units[0]["watch"]] == [
        "/usr/sbin/pgbouncer",
        "/etc/systemd/system/langflow-pgbouncer.service",
        "/etc/flowfleet/pgbouncer/listen.ini",
    ]
    assert "/etc/flowfleet/tls/pgbouncer.crt" in [made.value(item) for item in units[1]["watch"]]


def test_the_server_is_reached_before_anything_is_changed() -> None:
    tasks = yaml.safe_load((role().path / "tasks/main.yml").read_text(encoding="utf-8"))
    names = [task["name"] for task in tasks]
    assert names.index("Preflight | Reach the server itself") < names.index("PgBouncer | Install and configure")


def test_a_stop_waits_for_transactions_and_not_for_sessions() -> None:
    assert "KillSignal=SIGINT" in role().file("langflow-pgbouncer.service.j2")
    assert "KillSignal=SIGQUIT" in role(BOOKWORM).file("langflow-pgbouncer.service.j2")


@pytest.mark.parametrize("facts", [TRIXIE, BOOKWORM])
def test_what_is_right_is_not_refused(facts: dict[str, str]) -> None:
    assert role(facts).refusals() == []


@pytest.mark.parametrize(
    ("facts", "changes", "message"),
    [
        (BOOKWORM, {"pgbouncer_pool_mode": "transaction"}, "needs PgBouncer 1.21"),
        (TRIXIE, {"pgbouncer_pool_mode": "statement"}, "has to be one of"),
        (TRIXIE, {"pgbouncer_pool_size": 1}, "at least 2"),
        (TRIXIE, {"pgbouncer_max_clients": 20}, "more than pgbouncer_pool_size"),
        (TRIXIE, {"pgbouncer_port": 432}, "above 1023"),
        (TRIXIE, {"pgbouncer_server_host": "127.0.0.1", "pgbouncer_server_port": 6432}, "is PgBouncer itself"),
        (TRIXIE, {"pgbouncer_server_host": "db port=1"}, "letters, digits"),
        (TRIXIE, {"pgbouncer_database": "pgbouncer"}, "name of the console"),
        (TRIXIE, {"pgbouncer_password": "two\nlines and more"}, "no control characters"),
        (TRIXIE, {"pgbouncer_settings": {"listen_addr": "*"}}, "listen_addr is set by the role"),
    ],
)
def test_refusals(facts: dict[str, str], changes: dict[str, Any], message: str) -> None:
    refusals = role(facts, **changes).refusals()
    assert len(refusals) == 1
    assert message in refusals[0]
    assert "and more" not in refusals[0]
