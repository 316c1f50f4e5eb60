# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role backup: what it writes on each kind of host, and what it refuses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from rendering import Role

Play = Callable[..., "subprocess.CompletedProcess[str]"]

FACTS = {"distribution": "Debian", "distribution_version": "13.1", "distribution_major_version": "13"}
DB1, DB2, REPO = (
    {"name": name, "address": f"192.0.2.{number}"} for name, number in (("db1", 1), ("db2", 2), ("repo", 9))
)
OPENER = "what-opens-the-repository"


def role(host: str, facts: dict[str, Any] | None = None, **given: Any) -> Role:
    variables: dict[str, Any] = {
        "inventory_hostname": host,
        "inventory_dir": "/nowhere",
        "backup_database_hosts": [DB1],
        "backup_repository_hosts": [REPO],
        "backup_cipher_passphrase": OPENER,
        "backup_verify_cipher_passphrase": OPENER,
        **given,
    }
    return Role("backup", {**FACTS, **(facts or {})}, **variables)


def settings(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def paths(found: Role) -> set[str]:
    return {file["path"] for file in found.value("{{ __backup_service.files }}") if file.get("state") != "absent"}


def units(found: Role) -> list[str]:
    return [unit["unit"] for unit in found.value("{{ __backup_service.units }}")]


def test_the_repository_host_has_the_repository_and_the_server_has_none_of_its_secrets() -> None:
    repository, server = role("repo"), role("db1")
    ours, theirs = (settings(found.file("pgbackrest.conf.j2")) for found in (repository, server))
    assert (ours["repo1-path"], ours["repo1-cipher-type"]) == ("/var/lib/pgbackrest", "aes-256-cbc")
    assert (ours["pg1-host"], ours["pg1-host-type"]) == ("192.0.2.1", "tls")
    assert ours["tls-server-auth"] == "backup.db1=langflow"
    assert (theirs["repo1-host"], theirs["repo1-host-type"]) == ("192.0.2.9", "tls")
    assert theirs["tls-server-auth"] == "backup.repo=langflow"
    assert "repo1-path" not in theirs
    assert "pg1-host" not in theirs
    assert "/etc/pgbackrest/conf.d/50-secrets.conf" in paths(repository)
    assert "/etc/pgbackrest/conf.d/50-secrets.conf" not in paths(server)
    assert OPENER not in server.file("restore.conf.j2") + server.file("pgbackrest.conf.j2")


def test_the_passphrase_is_only_in_files_that_are_never_shown() -> None:
    found = role("repo")
    for file in found.value("{{ __backup_service.files }}"):
        if "template" in file and OPENER in found.file(file["template"], **file.get("vars", {})):
            assert file.get("secret"), file["path"]
            assert (file["mode"], file["group"]) == ("0640", "postgres")


def test_one_host_talks_to_nobody() -> None:
    found = role("db1", backup_repository_hosts=[])
    written = settings(found.file("pgbackrest.conf.j2"))
    assert not [name for name in written if name.startswith("tls-") or "-host" in name]
    assert written["repo1-path"] == "/var/lib/pgbackrest"
    assert "pgbackrest.service" not in units(found)
    assert "pgbackrest-full.timer" in units(found)


def test_a_bucket_without_repository_host_is_reached_by_every_server() -> None:
    given = {
        "backup_database_hosts": [DB1, DB2],
        "backup_repository_hosts": [],
        "backup_repository_type": "s3",
        "backup_s3_endpoint": "s3.example.com",
        "backup_s3_bucket": "backups",
        "backup_s3_access_key": "key",
        "backup_s3_secret_key": "secret",
    }
    first, second = role("db1", **given), role("db2", **given)
    for found in (first, second):
        assert settings(found.file("pgbackrest.conf.j2"))["repo1-s3-bucket"] == "backups"
        assert "/etc/pgbackrest/conf.d/50-secrets.conf" in paths(found)
    written = settings(first.file("pgbackrest.conf.j2"))
    assert "pg1-host" not in written
    assert written["pg2-host"] == "192.0.2.2"
    assert written["backup-standby"] == "prefer"
    assert "pgbackrest-full.timer" not in units(second)


def test_a_host_to_restore_onto_reads_the_repository_and_serves_nobody() -> None:
    scratch = {"name": "scratch", "address": "192.0.2.20"}
    found = role("scratch", backup_restore_hosts=[scratch])
    assert units(found) == []
    assert "postgresql-17" in found.value("{{ __backup_service.packages }}")
    assert "tls-server-auth=backup.scratch=langflow" in role("repo", backup_restore_hosts=[scratch]).file(
        "pgbackrest.conf.j2"
    )
    assert "backup.scratch" not in role("db1", backup_restore_hosts=[scratch]).file("pgbackrest.conf.j2")


def test_a_type_without_a_schedule_loses_its_timer() -> None:
    found = role("repo", backup_schedules=[{"type": "full", "calendar": "daily", "randomized_delay": "5min"}])
    gone = {file["path"] for file in found.value("{{ __backup_files_schedule }}") if file.get("state") == "absent"}
    assert "/etc/systemd/system/pgbackrest-incr.timer" in gone
    assert found.value("{{ __backup_unscheduled }}") == ["pgbackrest-diff.timer", "pgbackrest-incr.timer"]
    timer = settings(found.file("pgbackrest.timer.j2", __backup_timer="full"))
    assert (timer["OnCalendar"], timer["RandomizedDelaySec"], timer["Persistent"]) == ("daily", "5min", "true")


def test_own_settings_win() -> None:
    written = settings(role("repo", backup_settings={"repo1-block": "y", "process-max": 8}).file("pgbackrest.conf.j2"))
    assert (written["repo1-block"], written["process-max"]) == ("y", "8")


def test_a_copy_is_closed_to_the_network_and_never_archives() -> None:
    found = role("repo")
    assert "listen_addresses = ''" in found.file("copy.conf.j2")
    assert "-carchive_mode=off" in found.file("copy_ctl.conf.j2")
    assert "fsync" not in found.file("copy.conf.j2")
    assert "fsync = off" in found.file("copy.conf.j2", __backup_disposable=True)


def test_the_metrics_script_is_python() -> None:
    compile(role("repo").file("backup-metrics.py.j2"), "metrics", "exec")


def test_a_sound_setup_is_accepted() -> None:
    assert role("repo").refusals() == []
    assert role("db1").refusals() == []
    assert role("db1", backup_repository_hosts=[]).refusals() == []


@pytest.mark.parametrize(
    ("host", "given", "told"),
    [
        ("stranger", {}, "is in none of"),
        ("db1", {"backup_database_hosts": [DB1, DB2], "backup_repository_hosts": []}, "after a failover"),
        ("repo", {"backup_repository_type": "s3"}, "backup_s3_bucket"),
        ("repo", {"backup_repository_path": "relative"}, "backup_repository_path"),
        (
            "db1",
            {"backup_repository_hosts": [], "backup_repository_path": "/var/lib/postgresql/17/main/x"},
            "not inside",
        ),
        ("repo", {"backup_stanza": "Big Name"}, "backup_stanza"),
        ("repo", {"backup_schedules": [{"type": "hourly", "calendar": "hourly"}]}, "backup_schedules"),
        ("repo", {"backup_cipher_passphrase": "short"}, "20 characters"),
        (
            "repo",
            {"facts": {"distribution_major_version": "12"}, "backup_from_standby": "prefer"},
            "backup_from_standby",
        ),
    ],
)
def test_what_cannot_work_is_refused(host: str, given: dict[str, Any], told: str) -> None:
    messages = role(host, **given).refusals()
    assert len(messages) == 1
    assert told in messages[0]


def test_no_variable_of_the_role_needs_a_file_that_only_the_proof_reads() -> None:
    """Every public variable is evaluated when the role's arguments are checked."""
    found = role("repo", backup_escrow_dir="")
    default = Role("backup", FACTS).variables["backup_verify_cipher_passphrase"]
    assert found.value("{{ given }}", given=str(default)) == OPENER
    assert found.value("{{ backup_escrow_secrets }}") == {}


# --- in place ---------------------------------------------------------------------------------------------------------

DB3 = {"name": "db3", "address": "2001:db8::3"}
MEMBERS = [{"name": name} for name in ("db1", "db2", "db3")]


def server(leader: str = "db1", **given: Any) -> Role:
    return role(
        "db1",
        **{
            "backup_database_hosts": [DB1, DB2, DB3],
            "backup_postgresql_mode": "patroni",
            "backup_restore_seen": {"leader": leader, "members": MEMBERS, "problems": ["nobody leads"]},
            "backup_restore_confirm": "langflow",
            **given,
        },
    )


def refusals(found: Role, tasks: str) -> list[str]:
    """Messages of the assertions of a file that has other tasks as well, those that look at a host left out."""
    messages = []
    for task in yaml.safe_load((found.path / "tasks" / tasks).read_text(encoding="utf-8")):
        arguments = task.get("ansible.builtin.assert", {})
        conditions = arguments.get("that", [])
        extra = task.get("vars", {})
        for condition in conditions if isinstance(conditions, list) else [conditions]:
            if not found.value("{{ (" + condition + ") | bool }}", **extra):
                messages.append(str(found.value(arguments["fail_msg"], **extra)))
                break
    return messages


def test_a_restore_in_place_that_is_confirmed_and_led_is_accepted() -> None:
    assert refusals(server(), "in_place_check.yml") == []
    # The plan may be asked for by anybody.
    assert refusals(server(backup_restore_confirm="", ansible_check_mode=True), "in_place_check.yml") == []


@pytest.mark.parametrize(
    ("leader", "given", "told"),
    [
        ("db1", {"backup_restore_confirm": ""}, "-e restore_confirm=langflow"),
        ("db1", {"backup_restore_confirm": "yes"}, "-e restore_confirm=langflow"),
        ("db2", {}, "db2 leads the cluster"),
        ("", {}, "Nobody leads the cluster (nobody leads)"),
        ("db1", {"backup_postgresql_mode": "standalone"}, "backup_postgresql_mode is standalone"),
        (
            "db1",
            {"backup_restore_seen": {"leader": "db1", "members": [*MEMBERS, {"name": "db4"}], "problems": []}},
            "db4 belong(s) to the cluster",
        ),
        (
            "db1",
            {
                "backup_restore_undo": "20261122T040000Z",
                "__backup_kept_before": {"results": [{"stat": {"exists": False}, "__backup_member": "db1"}]},
            },
            "There is no /var/lib/postgresql/17/main.before-20261122T040000Z on db1",
        ),
    ],
)
def test_what_could_not_go_well_is_refused_before_anything_is_touched(
    leader: str, given: dict[str, Any], told: str
) -> None:
    messages = refusals(server(leader, **given), "in_place_check.yml")
    assert len(messages) == 1
    assert told in messages[0]
    assert "Nothing was touched" in messages[0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"__backup_info": {"backups": [], "locked": False, "begin": {"database_bytes": 0}}},
            "The repository has no backup",
        ),
        ({"__backup_info": {"backups": [1], "locked": True, "begin": {"database_bytes": 0}}}, "A backup is being made"),
        ({"__backup_links": {"matched": 1, "files": [{"path": "/x/pg_tblspc/16400"}]}}, "/x/pg_tblspc/16400"),
        ({"__backup_room": {"results": [{"__backup_member": "db2", "stdout_lines": ["Avail", "1099"]}]}}, "on db2"),
        ({"__backup_clients_info": {"clients": [{"user": "bi", "address": "192.0.2.77"}]}}, "bi from 192.0.2.77"),
        ({"backup_restore_stopped_addresses": []}, "langflow from 192.0.2.50"),
        ({"backup_restore_watching_users": []}, "monitor from local"),
        # Whoever looks from elsewhere is not the exporter of this host.
        ({"__backup_clients_info": {"clients": [{"user": "monitor", "address": "192.0.2.77"}]}}, "monitor from 192"),
    ],
)
def test_backup_room_and_connections_are_looked_at(given: dict[str, Any], told: str) -> None:
    sound: dict[str, Any] = {
        "__backup_info": {"backups": [1], "locked": False, "begin": {"database_bytes": 1000}},
        "__backup_links": {"matched": 0, "files": []},
        "__backup_places": {"results": [{"stat": {"exists": True, "dev": 1}}, {"stat": {"exists": True, "dev": 1}}]},
        "__backup_room": {"results": [{"__backup_member": "db2", "stdout_lines": ["Avail", "1100"]}]},
        "__backup_clients_info": {
            "clients": [{"user": "langflow", "address": "192.0.2.50"}, {"user": "monitor", "address": "local"}]
        },
        "backup_restore_stopped_addresses": ["192.0.2.50"],
    }
    assert refusals(server(**sound), "in_place_check_target.yml") == []
    messages = refusals(server(**{**sound, **given}), "in_place_check_target.yml")
    assert len(messages) == 1
    assert told in messages[0]
    # Unless it was said that connections may be cut.
    if "-e restore_disconnect=true" in messages[0]:
        assert (
            refusals(server(**{**sound, **given, "backup_restore_disconnect": True}), "in_place_check_target.yml") == []
        )


@pytest.mark.parametrize("begun", [False, True])
def test_a_refusal_before_the_stop_stops_nobody(play: Play, begun: bool) -> None:
    """To stop and start the servers would cut off the very clients on whose account it refuses."""
    variables = {
        "backup_postgresql_version": 17,
        "backup_postgresql_socket_dir": "/nonexistent",
        "backup_postgresql_unit": "flowfleet-no-such-unit.service",
        "backup_restore_plan": {"first": "localhost", "others": [], "stamp": "20261122T040000Z"},
        "__backup_foreign": [{"user": "bi", "address": "192.0.2.77"}],
    }
    # The control: as if it had begun.
    extra = json.dumps({**variables, **({"__backup_begun": True} if begun else {})})
    include = {"name": "flowfleet.langflow.backup", "tasks_from": "in_place.yml"}
    run = play([{"ansible.builtin.include_role": include}], "-e", extra)
    assert run.returncode != 0
    assert "bi from 192.0.2.77" in run.stdout
    assert ("No server was stopped." in run.stdout) is not begun
    assert ("Undo | Stop what runs" in run.stdout) is begun


def test_a_server_that_replays_alone_is_closed_and_follows_nobody() -> None:
    control = [
        "Latest checkpoint's TimeLineID:       1",
        "max_connections setting:              64",
        "max_prepared_xacts setting:           0",
        "wal_level setting:                    replica",
        "bytes per WAL segment:                16777216",
    ]
    found = server(__backup_control={"stdout": "\n".join(control), "stdout_lines": control})
    text = found.file("recovery.service.j2")
    assert " -c max_connections=64 -c max_prepared_transactions=0 -c wal_level=replica " in text
    assert "restore_command" not in text
    # What is put back begins a timeline that the archive does not have.
    again = found.file("recovery.service.j2", __backup_recovery_line=True)
    assert "-c recovery_target_timeline=current" in again
    assert 'archive-get %%f \\"%%p\\""' in again
    histories = found.value("{{ __backup_histories }}", __backup_timeline={"stdout": "12"})
    assert (histories[0], histories[-1], len(histories)) == ("00000002.history", "0000000B.history", 10)
    for option in (
        "listen_addresses=",
        "hot_standby=off",
        "synchronous_standby_names=",
        "primary_conninfo=",
        "archive_mode=on",
    ):
        assert f"-c {option} " in text + " " or f"-c {option}\n" in text, option
    assert "Conflicts=patroni.service" in text


def test_the_target_is_taken_out_of_the_settings_and_members_are_asked_where_they_are() -> None:
    found = server()
    statements = found.value("{{ __backup_reset_statements }}")
    assert "ALTER SYSTEM RESET recovery_target_time;" in statements
    assert "ALTER SYSTEM RESET restore_command;" in statements
    assert found.value("{{ __backup_patroni_urls }}")["db3"] == "https://[2001:db8::3]:8008"
    assert found.value("{{ backup_postgresql_unit }}") == "patroni.service"
    assert role("db1").value("{{ backup_postgresql_unit }}") == "postgresql@17-main.service"
