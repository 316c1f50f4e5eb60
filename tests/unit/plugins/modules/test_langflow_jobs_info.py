# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module C(langflow_jobs_info), with a real database, a real query program and processes that are there."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
import sqlite3
import sys
import threading
import time
import uuid
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.filter.langflow_environment import langflow_environment
from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_jobs as jobs
from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_jobs_query as query
from ansible_collections.flowfleet.langflow.plugins.module_utils import _processes
from ansible_collections.flowfleet.langflow.plugins.modules import langflow_jobs_info

TABLES = """
CREATE TABLE job (job_id CHAR(32), flow_id CHAR(32), type VARCHAR, status VARCHAR, created_timestamp DATETIME,
                  finished_timestamp DATETIME, job_metadata JSON);
CREATE TABLE trigger_lease (name VARCHAR, owner VARCHAR, expires_at DATETIME);
"""
MINE = f"jobs:{os.getpid()}:0a1b2c3d"


def stamp(seconds_ago: float = 0.0) -> str:
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds_ago)).isoformat()


class Database:
    """Langflow's table of jobs."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.url = f"sqlite+aiosqlite:///{path}"
        self.execute(TABLES)

    def execute(self, statements: str) -> None:
        connection = sqlite3.connect(self.path)
        connection.executescript(statements)
        connection.close()

    def add(
        self, status: str = "in_progress", kind: str | None = "workflow", age: float = 1, **metadata: str | None
    ) -> str:
        number = uuid.uuid4()
        text = json.dumps({**metadata, "request": {"input_value": "private words"}})
        with sqlite3.connect(self.path) as connection:
            row = (number.hex, uuid.uuid4().hex, kind, status, stamp(age)[:26].replace("T", " "), None, text)
            connection.execute("INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.close()
        return str(number)

    def own(self, **more: Any) -> str:
        return self.add(owner=MINE, heartbeat_at=stamp(), **more)


@pytest.fixture
def database(tmp_path: pathlib.Path) -> Database:
    return Database(tmp_path / "langflow.db")


@pytest.fixture
def ask(run_module: Any, systemd: Any, database: Database, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call the module on a node whose service consists of the process of this test."""
    systemd.run()
    systemd.properties["ControlGroup"] = "/system.slice/langflow.service"
    process = _processes.look(os.getpid())
    assert process is not None
    process = dataclasses.replace(process, started=time.time() - 3600)
    monkeypatch.setattr(_processes, "of_control_group", lambda path: {process.pid: process})

    def call(check: bool = False, **more: Any) -> Any:
        arguments = {"python": sys.executable, "database_url": database.url, "interval": 0.05, "settle": 0.1}
        return run_module(langflow_jobs_info, {**arguments, "user": "root", **more}, check=check)

    return call


# --- what is seen -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"owner": MINE}, "run"),
        ({"owner": MINE.replace("jobs", "api")}, "background"),
        ({"owner": MINE.replace("jobs", "api"), "status": "queued"}, "background"),
        ({"owner": MINE, "kind": "ingestion"}, "ingestion"),
        ({"owner": MINE, "kind": "evaluation"}, "evaluation"),
        ({"owner": MINE, "kind": None}, "run"),
    ],
)
def test_work_of_this_node(ask: Any, database: Database, row: dict[str, Any], kind: str) -> None:
    number = database.add(heartbeat_at=stamp(3), age=5, **row)
    result = ask()
    assert (result["changed"], result["count"], result["left"], result["known"]) == (False, 1, 1, True)
    found = result["running"][0]
    assert (found["id"], found["kind"], found["process"]) == (number, kind, os.getpid())
    assert (found["age"], found["last_sign"]) == (5, 3)
    assert found["started"].endswith("+00:00")
    assert "private words" not in json.dumps(result)


@pytest.mark.parametrize(
    "row",
    [
        {"owner": "jobs:99999999:0a1b2c3d", "heartbeat_at": stamp()},
        # The number was given to another process before.
        {"owner": MINE, "heartbeat_at": stamp(10**8)},
        {"owner": MINE},
        *(
            {"owner": MINE, "heartbeat_at": stamp(), "status": status}
            for status in ("completed", "failed", "suspended")
        ),
    ],
)
def test_not_work_of_this_node(ask: Any, database: Database, row: dict[str, Any]) -> None:
    database.add(**row)
    result = ask()
    assert (result["running"], result["left"], result["unattributed"]) == ([], 0, [])


@pytest.mark.parametrize(
    ("row", "options", "left"),
    [
        ({"status": "queued"}, {}, 1),
        ({"status": "in_progress"}, {}, 1),
        ({"status": "queued", "owner": "rubbish"}, {}, 1),
        ({"status": "queued"}, {"unattributed": "report"}, 0),
        ({"status": "queued", "age": 1000}, {}, 0),
        ({"status": "queued", "age": 1000}, {"abandoned_after": 2000}, 1),
    ],
)
def test_work_of_nobody(ask: Any, database: Database, row: dict[str, Any], options: dict[str, Any], left: int) -> None:
    database.add(**row)
    result = ask(**options)
    assert (result["count"], len(result["unattributed"]), result["left"]) == (0, 1, left)


def test_sort_out() -> None:
    process = _processes.Process(7, 1, 1000.0, "gunicorn")

    def job(owner: str | None, heartbeat: float | None) -> dict[str, Any]:
        fields = {"id": "i", "flow_id": "i", "type": "workflow", "status": "in_progress", "created": 1.0}
        return {**fields, "owner": owner, "heartbeat": heartbeat}

    def picture(*entries: dict[str, Any], dispatcher: Any = None) -> jobs.Picture:
        answer = {"known": True, "jobs": list(entries), "dispatcher": dispatcher}
        return jobs.sort_out(answer, {7: process}, 2000.0, 90.0)

    assert len(picture(job("jobs:7:a", 1990.0)).running) == 1
    assert len(picture(job("jobs:7:a", 1900.0)).silent) == 1
    assert picture(job("jobs:7:a", 990.0)) == jobs.Picture()
    assert not picture(job("jobs:7:a", 1990.0), job("api:7:b", 1990.0), job("jobs:7:a", 1990.0)).ambiguous
    assert picture(job("jobs:7:a", 1990.0), job("jobs:7:b", 1990.0)).ambiguous
    for owner, expires, here in (
        ("dispatcher:7:a", 2001.0, True),
        ("dispatcher:7:a", 1999.0, False),
        ("x", 2001.0, False),
    ):
        assert picture(dispatcher={"owner": owner, "expires": expires}).dispatcher is here
    result = jobs.Job(**job(None, None)).result(2000.0)
    assert (result["flow_id"], result["kind"], result["process"], result["last_sign"]) == (None, "unknown", None, None)


def test_trigger_dispatcher(ask: Any, database: Database) -> None:
    owner = f"dispatcher:{os.getpid()}:0a1b2c3d"
    database.execute(f"INSERT INTO trigger_lease VALUES ('trigger_dispatcher', '{owner}', '{stamp(-20)}')")
    assert ask()["dispatches_triggers"] is True


@pytest.mark.parametrize("change", ["DROP TABLE job", "ALTER TABLE job DROP COLUMN job_metadata"])
def test_a_release_that_does_not_sign(ask: Any, database: Database, change: str) -> None:
    database.execute(change)
    result = ask(wait=True, timeout=1)
    assert (result["known"], result["left"]) == (False, 0)


def test_without_the_table_of_leases(ask: Any, database: Database) -> None:
    database.execute("DROP TABLE trigger_lease")
    database.own()
    assert (ask()["count"], ask()["dispatches_triggers"]) == (1, False)


def test_service_does_not_run(ask: Any, systemd: Any) -> None:
    systemd.set_state("inactive", "dead")
    result = ask(wait=True, python="/nonexistent")
    assert (result["service_running"], result["left"]) == (False, 0)


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_wait(ask: Any, database: Database) -> None:
    database.own()
    database.add(status="queued")
    threading.Timer(0.5, lambda: database.execute("UPDATE job SET status = 'completed'")).start()
    result = ask(wait=True, timeout=20)
    assert (result["left"], result["running"]) == (0, [])
    assert 0.5 <= result["waited"] < 10


def test_deadline(ask: Any, database: Database) -> None:
    database.own()
    result = ask(wait=True, timeout=0.4)
    assert (result["left"], result.get("failed", False)) == (1, False)
    assert 0.4 <= result["waited"] < 3


def test_new_jobs_of_nobody_are_not_waited_for(ask: Any, database: Database) -> None:
    database.own()

    def later() -> None:
        database.execute("UPDATE job SET status = 'completed'")
        database.add(status="queued", age=-0.5)

    threading.Timer(0.5, later).start()
    result = ask(wait=True, timeout=20)
    assert (result["left"], len(result["unattributed"])) == (0, 1)
    assert result["waited"] < 10


def test_settle(ask: Any, database: Database) -> None:
    """A job that appears right after the first look at nothing."""
    threading.Timer(0.3, database.own).start()
    result = ask(wait=True, timeout=1.5, settle=1.0)
    assert result["count"] == 1


def test_check_mode_does_not_wait(ask: Any, database: Database) -> None:
    database.own()
    assert ask(check=True, wait=True)["waited"] < 5


def test_the_database_may_be_away_for_a_moment(ask: Any, database: Database) -> None:
    database.path.rename(database.path.with_suffix(".away"))
    assert "the jobs could not be read" in ask()["msg"]
    started = time.monotonic()
    assert "after 0.4 s: the jobs could not be read" in ask(wait=True, timeout=0.4)["msg"]
    assert time.monotonic() - started < 5
    threading.Timer(0.4, lambda: database.path.with_suffix(".away").rename(database.path)).start()
    result = ask(wait=True, timeout=20)
    assert (result["left"], result["service_running"]) == (0, True)


# --- secrets and faults -----------------------------------------------------------------------------------------------

AWKWARD = 'p"a$s\\w%2Förd'


def test_the_password_is_never_shown(ask: Any, tmp_path: pathlib.Path) -> None:
    url = f"postgresql+psycopg://langflow:{AWKWARD.replace('%', '%25')}@db.example:5432/langflow"
    (tmp_path / "one.env").write_text('LANGFLOW_DATABASE_URL="sqlite:////nonexistent"\n')
    (tmp_path / "two.env").write_text(langflow_environment({"LANGFLOW_DATABASE_URL": url}))
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncat >/dev/null; echo "cannot connect to $LANGFLOW_DATABASE_URL" >&2; exit 75\n')
    python.chmod(0o755)
    files = [str(tmp_path / name) for name in ("one.env", "two.env")]
    result = ask(python=str(python), database_url=None, environment_files=files)
    assert "cannot connect to" in result["msg"]
    text = json.dumps(result, ensure_ascii=False)
    assert "db.example" not in text
    assert "örd" not in text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"python": "/nonexistent/python"}, "/nonexistent/python: No such file"),
        ({"database_url": "mysql://x"}, "neither a postgresql nor a sqlite address"),
        ({"database_url": None, "environment_files": ["/nonexistent"]}, "/nonexistent: No such file"),
        ({"database_url": None, "environment_files": ["/dev/null"]}, "stands in none of /dev/null"),
        ({"user": "no-such-user"}, "there is no user no-such-user"),
    ],
)
def test_faults(ask: Any, more: dict[str, Any], message: str) -> None:
    if "user" in more and os.geteuid() != 0:
        pytest.skip("the user only matters for root")
    assert message in ask(**more)["msg"]


@pytest.mark.parametrize("value", ["plain", AWKWARD, 'a"b', "a\\", "a b # c", "", "%41$x`y`"])
def test_environment_file(value: str) -> None:
    text = langflow_environment({"OTHER": "x", "X": "first"}) + langflow_environment({"X": value, "XY": "no"})
    assert jobs.environment_value(text, "X") == value
    assert jobs.environment_value(f"# X=no\nX={'y' if not value else value.replace(' ', '')}\n", "Y") is None


def test_moments_and_names() -> None:
    assert query.moment("2026-11-22 01:00:00") == query.moment("2026-11-22T02:00:00+01:00")
    assert [query.moment(value) for value in (None, "x", 3)] == [None, None, None]
    assert query.identity("x") == "x"


def test_processes_of_a_control_group() -> None:
    group = pathlib.Path("/proc/self/cgroup").read_text().splitlines()[-1].split(":", 2)[-1]
    process = _processes.of_control_group(group)[os.getpid()]
    assert process.parent == os.getppid()
    assert 0 <= time.time() - process.started < 24 * 3600
    assert _processes.of_control_group("/no/such/group") == {}
