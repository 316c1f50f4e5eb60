# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two programs that role langflow puts on a host: schema guard and restart policy."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.filter.langflow_environment import langflow_environment

FILES = Path(__file__).resolve().parents[3] / "roles" / "langflow" / "files"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"langflow_{name}", FILES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


guard = load("schema_guard")
policy = load("restart_policy")

URL = {"LANGFLOW_DATABASE_URL": "postgresql+psycopg://u:p@db/langflow"}
COMMAND = ["/opt/langflow/current/bin/gunicorn", "-c", "x.py"]


def database(*revisions: str, tables: bool = True, users: bool = True) -> Any:
    return guard.Database(frozenset(revisions), tables, users)


FRESH = database(tables=False, users=False)
INTERRUPTED = database(users=False)
CASES = [
    # what is there, state, may start, may migrate
    (database("c"), "current", True, True),
    (database("a"), "older", False, True),
    (FRESH, "empty", False, True),
    (INTERRUPTED, "empty", False, True),
    (database("zz"), "unknown", False, False),
    (database("c", "zz"), "unknown", False, False),
    (database(), "unversioned", False, False),
]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    marker = {"id": "1.13.0-ab12cd34-py313", "schema_head": "c", "schema_revisions": ["a", "b", "c"]}
    (tmp_path / "RELEASE.json").write_text(json.dumps(marker), encoding="utf-8")
    return tmp_path


def run(release: Path, found: Any, *options: str) -> tuple[int, list[str]]:
    became: list[str] = []

    def look(_url: str) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    status = guard.main([*options, "--", *COMMAND], URL, release, look, became.extend)
    return status, became


@pytest.mark.parametrize(("found", "state", "start", "migrate"), CASES)
def test_only_the_own_schema_is_started_and_only_a_known_one_migrated(
    release: Path, found: Any, state: str, start: bool, migrate: bool
) -> None:
    assert guard.judge(guard.read_release(release), found).state == state
    assert run(release, found) == ((0, COMMAND) if start else (78, []))
    assert run(release, found, "--for-migration") == ((0, COMMAND) if migrate else (78, []))


def test_an_unreachable_database_is_tried_again(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(release, OSError("connection refused")) == (75, [])
    assert "connection refused" in capsys.readouterr().err


def test_a_refusal_names_the_way_out(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(release, database("zz"))
    said = capsys.readouterr().err
    assert "schema revision zz" in said
    assert "restore the backup" in said


def test_a_report_starts_nothing_and_tells_the_state(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    became: list[str] = []
    assert guard.main(["--report", "--", *COMMAND], URL, release, lambda _url: database("a"), became.extend) == 0
    assert became == []
    assert json.loads(capsys.readouterr().out)["state"] == "older"
    assert guard.main(["--report"], URL, release, lambda _url: database("zz")) == 78


@pytest.mark.parametrize("url", ["", "sqlite:///x.db", "mysql://x"])
def test_anything_but_postgresql_is_a_configuration_error(release: Path, url: str) -> None:
    assert guard.main([], {"LANGFLOW_DATABASE_URL": url}, release, lambda _url: database("c")) == 78


def test_an_incomplete_release_never_starts(tmp_path: Path) -> None:
    assert guard.main([], URL, tmp_path, lambda _url: database("c")) == 78


def test_the_guard_reads_what_the_role_writes(release: Path) -> None:
    values = {"A": 'quote " dollar $HOME back \\ tick ` hash # end', "B": {"a": [1, "x"]}, "C": ["x", "y"], "D": True}
    text = "# head\n" + langflow_environment(values)
    assert guard.read_environment_file(text) == {
        "A": values["A"],
        "B": '{"a": [1, "x"]}',
        "C": "x,y",
        "D": "true",
    }
    file = release / "secrets.env"
    file.write_text(langflow_environment(URL), encoding="utf-8")
    seen: list[str] = []
    options = ["--report", "--environment-file", str(file)]
    assert guard.main(options, {}, release, lambda url: (seen.append(url), database("c"))[1]) == 0
    assert seen == [URL["LANGFLOW_DATABASE_URL"]]


def test_a_migration_goes_past_the_pool(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service keeps the pool's address; the migration looks at the server, and Langflow's own command does too."""
    direct = {**URL, "FLOWFLEET_DIRECT_DATABASE_URL": "postgresql+psycopg://langflow@db.example.com:5432/langflow"}
    monkeypatch.setenv("LANGFLOW_DATABASE_URL", URL["LANGFLOW_DATABASE_URL"])
    seen: list[tuple[str, str]] = []

    def look(url: str) -> object:
        seen.append((url, os.environ["LANGFLOW_DATABASE_URL"]))
        return database("a")

    assert guard.main(["--report"], direct, release, look) == 0
    assert guard.main(["--report", "--for-migration"], direct, release, look) == 0
    pooled, straight = URL["LANGFLOW_DATABASE_URL"], direct["FLOWFLEET_DIRECT_DATABASE_URL"]
    assert seen == [(pooled, pooled), (straight, straight)]


# --- restart policy ---------------------------------------------------------------------------------------------------


def test_delays_grow_geometrically_to_the_longest() -> None:
    delays = [policy.delay_before(number, 1.0, 4, 16.0) for number in range(9)]
    assert delays == pytest.approx([0, 1, 2, 4, 8, 16, 16, 16, 16])


def test_no_steps_means_always_the_first_delay() -> None:
    assert [policy.delay_before(number, 3.0, 0, 60.0) for number in (1, 5)] == [3.0, 3.0]


@pytest.mark.parametrize(("restarts", "expected"), [(0, []), (1, []), (3, [3.0]), (50, [15.0])])
def test_the_helper_sleeps_what_systemd_has_not(restarts: int, expected: list[float]) -> None:
    slept: list[float] = []
    options = ["delay", "x.service", "--first", "1", "--steps", "4", "--longest", "16"]
    assert policy.main(options, read=lambda _unit, _name: restarts, sleep=slept.append) == 0
    assert slept == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ready", "started", "now", "restarts", "forgotten"),
    [
        (100, 90, 500, 3, True),
        (100, 90, 300, 3, False),  # not long enough
        (100, 90, 500, 0, False),  # nothing to forget
        (100, 450, 500, 3, False),  # this run never became ready: the time is that of an earlier one
        (0, 0, 500, 3, False),
    ],
)
def test_only_a_long_good_run_forgets_failures(
    ready: int, started: int, now: int, restarts: int, forgotten: bool
) -> None:
    values = {
        "ActiveEnterTimestampMonotonic": ready * 1_000_000,
        "ExecMainStartTimestampMonotonic": started * 1_000_000,
        "NRestarts": restarts,
    }
    reset: list[str] = []
    options = ["settle", "x.service", "--healthy-after", "300"]
    assert policy.main(options, read=lambda _unit, name: values[name], reset=reset.append, now=lambda: float(now)) == 0
    assert reset == (["x.service"] if forgotten else [])
