# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the services write for the log shipper: files that it may read, in JSON, with the trace of the request."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rendering import ROLES, Role

TRIXIE = {
    "distribution": "Debian",
    "distribution_major_version": "13",
    "distribution_version": "13.1",
    "memtotal_mb": 4096,
}
TRACE = 0x4BF92F3577B34DA6A3CE929D0E0E4736


def postgresql(**changes: Any) -> Role:
    return Role(
        "postgresql",
        TRIXIE,
        langflow_database_password=len(TRIXIE) * "secret",
        postgresql_listen_addresses=["192.0.2.1"],
        **changes,
    )


def test_postgresql_writes_json_where_somebody_reads_it() -> None:
    made = postgresql(langflow_fleet_log_sources=["postgresql"])
    at_start = made.file("settings.conf.j2", __postgresql_restart=True)
    by_reload = made.file("settings.conf.j2", __postgresql_restart=False)
    assert "logging_collector = 'on'" in at_start
    for line in (
        "log_destination = 'syslog,jsonlog'",
        "log_directory = '/var/log/postgresql/json'",
        "log_file_mode = '0640'",
        "log_timezone = 'UTC'",
    ):
        assert line in by_reload
    files = {file["path"]: file for file in made.value("{{ __postgresql_service.files }}")}
    assert (files["/var/log/postgresql/json"]["group"], files["/var/log/postgresql/json"]["mode"]) == ("adm", "2750")
    cleanup = made.file(files["/etc/tmpfiles.d/flowfleet-postgresql-log.conf"]["template"])
    assert cleanup.splitlines()[-1] == "d /var/log/postgresql/json 2750 postgres adm 3d"


def test_postgresql_writes_none_otherwise_and_takes_its_file_away() -> None:
    made = postgresql()
    text = made.file("settings.conf.j2", __postgresql_restart=True) + made.file(
        "settings.conf.j2", __postgresql_restart=False
    )
    assert "logging_collector" not in text
    assert "jsonlog" not in text
    files = {file["path"]: file for file in made.value("{{ __postgresql_service.files }}")}
    assert files["/etc/tmpfiles.d/flowfleet-postgresql-log.conf"]["state"] == "absent"
    assert "/var/log/postgresql/json" not in files


def test_values_of_statements_are_logged_in_neither() -> None:
    text = postgresql(postgresql_json_log=True).file("settings.conf.j2", __postgresql_restart=False)
    assert "log_parameter_max_length = '0'" in text
    assert "log_parameter_max_length_on_error = '0'" in text


def test_group_adm_may_read_the_access_log_from_its_first_line_on() -> None:
    made = Role("nginx", TRIXIE, langflow_fleet_log_sources=["nginx"])
    assert re.findall("^UMask=.*$", made.file("nginx.service.conf.j2"), re.M) == ["UMask=0027"]
    assert "create 0640 root adm" in (ROLES / "nginx/templates/logrotate.j2").read_text(encoding="utf-8")


def test_a_host_without_a_shipper_keeps_the_unit_that_it_has() -> None:
    assert re.findall("^UMask=.*$", Role("nginx", TRIXIE).file("nginx.service.conf.j2"), re.M) == ["UMask=0077"]


# --- the trace in PostgreSQL's application_name -----------------------------------------------------------------------


class Cursor:
    def __init__(self, said: list[str], *, broken: bool = False) -> None:
        self.said = said
        self.broken = broken

    def execute(self, statement: str) -> None:
        if self.broken:
            raise OSError("connection lost")
        self.said.append(statement)

    def close(self) -> None:
        self.said.append("closed")


class Connection:
    """As much of SQLAlchemy's connection as is used."""

    def __init__(self, *, broken: bool = False) -> None:
        self.said: list[str] = []
        self.info: dict[str, Any] = {}
        self.transaction: object | None = object()
        self.connection = SimpleNamespace(cursor=lambda: Cursor(self.said, broken=broken))

    def get_transaction(self) -> object | None:
        return self.transaction


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The file that gunicorn reads, run with what it imports replaced."""
    span = SimpleNamespace(is_valid=True, trace_id=TRACE)
    listened: list[tuple[Any, ...]] = []
    fakes: dict[str, dict[str, Any]] = {
        "langflow": {},
        "langflow.server": {"LangflowUvicornWorker": type("LangflowUvicornWorker", (), {"CONFIG_KWARGS": {}})},
        "opentelemetry": {},
        "opentelemetry.trace": {"get_current_span": lambda: SimpleNamespace(get_span_context=lambda: span)},
        "sqlalchemy": {"event": SimpleNamespace(listen=lambda *given: listened.append(given))},
        "sqlalchemy.engine": {"Engine": "Engine"},
    }
    for name, content in fakes.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    text = Role("langflow", TRIXIE, langflow_database_trace_names=True, langflow_tls_enabled=False).file(
        "gunicorn.conf.py.j2"
    )
    path = tmp_path / "gunicorn.conf.py"
    path.write_text(text, encoding="utf-8")
    return {**runpy.run_path(str(path)), "span": span, "listened": listened}


def test_a_transaction_is_named_once_by_the_trace_of_its_request(hook: dict[str, Any]) -> None:
    hook["post_worker_init"](None)
    assert hook["listened"] == [("Engine", "before_cursor_execute", hook["name_transactions"])]
    connection = Connection()
    named = [f"SELECT set_config('application_name', 'langflow {TRACE:032x}', true)", "closed"]
    for _statement in range(3):
        hook["name_transactions"](connection, None, "SELECT 1", (), None, False)
    assert connection.said == named
    connection.transaction = object()
    hook["name_transactions"](connection, None, "SELECT 1", (), None, False)
    assert connection.said == 2 * named


def test_nothing_is_said_without_a_trace_or_a_transaction(hook: dict[str, Any]) -> None:
    connection = Connection()
    connection.transaction = None
    hook["name_transactions"](connection)
    connection.transaction = object()
    hook["span"].is_valid = False
    hook["name_transactions"](connection)
    assert connection.said == []


def test_a_lost_connection_is_told_as_such(hook: dict[str, Any]) -> None:
    connection = Connection(broken=True)
    with pytest.raises(OSError, match="lost"):
        hook["name_transactions"](connection)
    assert connection.said == ["closed"]


def test_transactions_are_named_only_where_traces_are_sent() -> None:
    assert Role("langflow", TRIXIE).value("{{ langflow_database_trace_names }}") is False
    assert (
        Role("langflow", TRIXIE, langflow_fleet_trace_endpoint="http://127.0.0.1:4328").value(
            "{{ langflow_database_trace_names }}"
        )
        is True
    )
    text = Role("langflow", TRIXIE, langflow_database_trace_names=False).file("gunicorn.conf.py.j2")
    assert "sqlalchemy" not in text
    assert "post_worker_init" not in text
