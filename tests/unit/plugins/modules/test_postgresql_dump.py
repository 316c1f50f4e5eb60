# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module postgresql_dump, with programs that stand in for those of PostgreSQL and keep their databases in one file."""

from __future__ import annotations

import getpass
import json
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _postgresql_dump as dumps
from ansible_collections.flowfleet.langflow.plugins.modules import postgresql_dump

PROGRAM = r"""#!{python}
import json, pathlib, re, sys
place = pathlib.Path({state!r})
program, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
load = lambda: json.loads(place.read_text())
save = lambda state: place.write_text(json.dumps(state))
database = arguments[arguments.index("-d") + 1] if "-d" in arguments else ""
state = load()

def stop(text):
    print(f"{{program}}: error: {{text}}", file=sys.stderr, flush=True)
    sys.exit(3)

def answer(query):
    mine = load()["databases"].get(database, {{}})
    if "FROM pg_class" in query:
        return [{{"name": name}} for name in sorted(mine["tables"])]
    if "pg_get_userbyid(d.datdba)" in query:
        row = {{"datcollate": "C.UTF-8", "datctype": "C.UTF-8", "datlocprovider": "c", "datconnlimit": -1}}
        return [{{"row": row, "encoding": "UTF8", "bytes": 1000, **mine["properties"]}}]
    if "count(*)" in query:
        return [{{"n": mine["tables"][query.split("ONLY ")[1]]}}]
    if "to_regclass" in query:
        return [{{"there": bool(mine["revisions"])}}]
    if "FROM alembic_version" in query:
        return [{{"version_num": item}} for item in mine["revisions"]]
    if "FROM pg_extension" in query:
        return [{{"extname": item}} for item in mine["extensions"]]
    if "pg_export_snapshot" in query:
        return [{{"id": "0003-1", "version": "17.2"}}]
    if "pg_is_in_recovery" in query:
        return [{{"standby": load()["standby"]}}]
    if "data_directory" in query:
        return [{{"path": str(place.parent)}}]
    if "FROM pg_database" in query:
        return [{{"datname": name}} for name in load()["databases"]]
    stop(f"not understood: {{query}}")

def run(statement, state):
    state["log"].append(statement)
    if any(re.search(pattern, statement) for pattern in state["fail"]):
        stop("it does not work")
    names = re.findall(r'"([^"]+)"', statement)
    if statement.startswith("CREATE DATABASE"):
        empty = {{"tables": {{}}, "revisions": [], "extensions": [], "properties": {{"owner": names[1]}}}}
        state["databases"][names[0]] = empty
    elif statement.startswith("DROP DATABASE"):
        state["databases"].pop(names[0], None)
    elif "RENAME TO" in statement:
        state["databases"][names[1]] = state["databases"].pop(names[0])

if program == "psql":
    if database != "postgres" and database not in state["databases"]:
        stop(f'database "{{database}}" does not exist')
    open_state = None
    for line in sys.stdin:
        line = line.strip()
        if line.startswith("\\echo "):
            print(line[6:], flush=True)
        elif found := re.search(r"jsonb_agg\(to_jsonb\(q\)\), '\[\]'\) FROM \((.*)\) q;$", line):
            print(json.dumps(answer(found[1])), flush=True)
        elif line.startswith("SELECT coalesce"):  # a query of several lines
            text = line
            while not text.endswith("q;"):
                text += " " + sys.stdin.readline().strip()
            print(json.dumps(answer(text)), flush=True)
        else:
            now = load()
            for statement in line.rstrip(";").split("; "):
                run(statement, now)
            save(now)
elif program == "pg_dump":
    if state["full"]:
        stop("No space left on device")
    json.dump(state["databases"][database], sys.stdout)
elif program == "pg_restore":
    content = json.load(sys.stdin)
    if "--list" in arguments:
        for number, table in enumerate(content["tables"]):
            print(f"{{number}}; 0 {{number}} TABLE DATA public {{table}} owner")
    elif database:
        if state["broken_restore"]:
            stop("could not execute query")
        content["tables"].update(state["lost"])
        state["databases"][database].update(content)
        save(state)
"""
PROPERTIES = {
    "owner": "langflow",
    "privileges": [{"grantee": None, "privilege": "CONNECT", "grantable": False}],
    "settings": [{"role": "langflow", "settings": ["work_mem=9MB", "search_path=public, x"]}],
}
PRESENT = {
    "tables": {"public.flow": 3, "public.user": 1},
    "revisions": ["a1"],
    "extensions": ["vector"],
    "properties": PROPERTIES,
}


class Cluster:
    """A PostgreSQL of which everything is known."""

    def __init__(self, path: Path, run_module: Callable[..., dict[str, Any]]) -> None:
        self.file, self.bin, self.shelf = path / "state.json", path / "bin", path / "dumps"
        self.run_module = run_module
        self.bin.mkdir()
        for name in ("psql", "pg_dump", "pg_restore"):
            program = self.bin / name
            program.write_text(PROGRAM.format(python=sys.executable, state=str(self.file)), encoding="utf-8")
            program.chmod(0o755)
        quiet = {"log": [], "fail": [], "standby": False, "full": False, "broken_restore": False, "lost": {}}
        self.file.write_text(json.dumps({"databases": {"langflow": PRESENT}, **quiet}), encoding="utf-8")

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        return found

    def set(self, **values: Any) -> None:
        self.file.write_text(json.dumps({**self.state, **values}), encoding="utf-8")

    def edit(self, **tables: int) -> None:
        """What users do after the dump."""
        state = self.state
        state["databases"]["langflow"]["tables"].update({f"public.{name}": rows for name, rows in tables.items()})
        state["databases"]["langflow"]["revisions"] = ["b2"]
        self.set(**state)

    def call(self, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {
            "database": "langflow",
            "directory": str(self.shelf),
            "bin_dir": str(self.bin),
            "account": getpass.getuser(),
            "min_free_mb": 1,
            **options,
        }
        return self.run_module(postgresql_dump, given, check=check)


@pytest.fixture
def cluster(tmp_path: Path, run_module: Callable[..., dict[str, Any]]) -> Cluster:
    return Cluster(tmp_path, run_module)


# --- dumping ----------------------------------------------------------------------------------------------------------


def test_a_dump_says_what_is_in_it(cluster: Cluster) -> None:
    result = cluster.call(name="before")
    dump = result["dump"]
    assert result["changed"]
    assert (dump["path"], dump["revisions"]) == (str(cluster.shelf / "before.dump"), ["a1"])
    assert dump["bytes"] == Path(dump["path"]).stat().st_size > 0
    assert dump["sha256"] == dumps.file_sha256(Path(dump["path"]))
    kept = json.loads((cluster.shelf / "before.json").read_text(encoding="utf-8"))
    assert kept["tables"] == PRESENT["tables"]
    for path in (cluster.shelf, *cluster.shelf.iterdir()):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_a_dump_of_the_same_name_is_kept(cluster: Cluster) -> None:
    first = cluster.call(name="before")
    cluster.edit(flow=99)
    again = cluster.call(name="before")
    assert again["changed"] is False
    assert again["dump"] == first["dump"]


def test_without_a_name_each_one_is_new_and_old_ones_go(cluster: Cluster) -> None:
    cluster.call(name="one")
    data = json.loads((cluster.shelf / "one.json").read_text(encoding="utf-8"))
    data["taken_at"] = "2020-01-01T00:00:00Z"
    (cluster.shelf / "one.json").write_text(json.dumps(data), encoding="utf-8")
    cluster.call(name="two")
    result = cluster.call(keep=2)
    assert result["dump"]["name"].startswith("langflow-")
    assert result["removed"] == ["one"]
    assert sorted(path.name for path in cluster.shelf.glob("*.dump")) == [f"{result['dump']['name']}.dump", "two.dump"]


def test_half_a_dump_is_none(cluster: Cluster) -> None:
    cluster.call(name="before")
    (cluster.shelf / "before.json").unlink()
    (cluster.shelf / ".before.dump.abcd.partial").write_text("half", encoding="utf-8")
    assert "no complete dump" in cluster.call(state="restored", name="before")["msg"]
    assert cluster.call(name="before")["changed"]
    assert not list(cluster.shelf.glob(".*.partial"))


@pytest.mark.parametrize(
    ("situation", "options", "message"),
    [
        ({"full": True}, {}, "No space left"),
        ({}, {"min_free_mb": 10**9}, "MiB free"),
        ({}, {"database": "nothing"}, "does not exist"),
        ({}, {"name": "../etc"}, "cannot be the name"),
        ({}, {"bin_dir": "/nowhere"}, "not installed"),
        ({}, {"account": "nobody-of-that-name"}, "no account"),
    ],
)
def test_a_dump_that_fails_leaves_nothing(
    cluster: Cluster, situation: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    cluster.set(**situation)
    failed = cluster.call(**{"name": "before", **options})
    assert failed["failed"]
    assert message in failed["msg"]
    assert [path.name for path in cluster.shelf.iterdir()] == [".lock"]


def test_an_archive_that_lacks_a_table_is_no_dump(cluster: Cluster) -> None:
    program = cluster.bin / "pg_dump"
    text = program.read_text(encoding="utf-8")
    program.write_text(
        text.replace("json.dump(state", "state['databases'][database]['tables'].popitem(); json.dump(state"),
        encoding="utf-8",
    )
    assert "the data of 1 tables, the database had 2" in cluster.call(name="before")["msg"]
    assert not list(cluster.shelf.glob("*.json"))


def test_a_dump_of_another_database_is_not_taken_for_this_one(cluster: Cluster) -> None:
    state = cluster.state
    state["databases"]["other"] = PRESENT
    cluster.set(**state)
    cluster.call(name="before", database="other")
    assert "is a dump of other" in cluster.call(name="before")["msg"]


# --- the way back -----------------------------------------------------------------------------------------------------


def test_a_restore_takes_the_place_and_loses_nothing(cluster: Cluster) -> None:
    cluster.call(name="before")
    cluster.edit(flow=99)
    result = cluster.call(state="restored", name="before")
    databases = cluster.state["databases"]
    kept = result["restored"]["kept_as"]
    assert databases["langflow"]["tables"] == PRESENT["tables"]
    assert databases["langflow"]["revisions"] == result["restored"]["revisions"] == ["a1"]
    assert databases[kept]["tables"]["public.flow"] == 99
    assert set(databases) == {"langflow", kept}
    log = cluster.state["log"]
    create = next(line for line in log if line.startswith("CREATE DATABASE"))
    assert "TEMPLATE template0 OWNER \"langflow\" ENCODING 'UTF8'" in create
    new = create.split('"')[1]
    assert f'REVOKE ALL ON DATABASE "{new}" FROM PUBLIC, "langflow"' in log
    assert f'GRANT CONNECT ON DATABASE "{new}" TO PUBLIC' in log
    assert f'ALTER ROLE "langflow" IN DATABASE "{new}" SET "work_mem" TO \'9MB\'' in log
    assert f'ALTER ROLE "langflow" IN DATABASE "{new}" SET "search_path" TO public, x' in log
    # Both names change in one transaction.
    begin = log.index("BEGIN")
    assert [line.split(" ")[0] for line in log[begin : begin + 4]] == ["BEGIN", "ALTER", "ALTER", "COMMIT"]


def test_a_database_that_is_gone_comes_back(cluster: Cluster) -> None:
    cluster.call(name="before")
    cluster.set(databases={})
    assert cluster.call(state="restored", name="before")["restored"]["kept_as"] == ""
    assert cluster.state["databases"]["langflow"]["tables"] == PRESENT["tables"]


@pytest.mark.parametrize(
    ("situation", "message"),
    [
        ({"broken_restore": True}, "could not execute query"),
        ({"lost": {"public.flow": 2}}, "public.flow had 3 rows, has 2"),
        ({"lost": {"public.extra": 2}}, "public.extra had None rows, has 2"),
        ({"standby": True}, "standby"),
        ({"fail": ["RENAME"]}, "it does not work"),
        ({"fail": ["^GRANT"]}, "it does not work"),
        ({"fail": ["^CREATE"]}, "it does not work"),
    ],
)
def test_a_restore_that_fails_leaves_the_database(cluster: Cluster, situation: dict[str, Any], message: str) -> None:
    cluster.call(name="before")
    cluster.edit(flow=99)
    before = cluster.state["databases"]
    cluster.set(**situation)
    failed = cluster.call(state="restored", name="before")
    assert failed["failed"]
    assert message in failed["msg"]
    assert cluster.state["databases"] == before


def test_a_dump_that_was_changed_is_not_restored(cluster: Cluster) -> None:
    path = Path(cluster.call(name="before")["dump"]["path"])
    path.write_bytes(path.read_bytes() + b" ")
    assert "its checksum differs" in cluster.call(state="restored", name="before")["msg"]
    assert list(cluster.state["databases"]) == ["langflow"]


def test_what_a_killed_restore_has_left_is_removed(cluster: Cluster) -> None:
    cluster.call(name="before")
    state = cluster.state
    for name in ("langflow_restore_20260101t000000z", "langflow_restore_of_mine", "langflow_failed_20260101t000000z"):
        state["databases"][name] = PRESENT
    cluster.set(**state)
    cluster.call(state="restored", name="before")
    left = set(cluster.state["databases"])
    assert "langflow_restore_20260101t000000z" not in left
    assert {"langflow_restore_of_mine", "langflow_failed_20260101t000000z"} <= left


def test_a_restore_needs_a_name(cluster: Cluster) -> None:
    assert "name the dump" in cluster.call(state="restored")["msg"]
    assert "no complete dump" in cluster.call(state="restored", name="missing")["msg"]


# --- check mode, and details ------------------------------------------------------------------------------------------


def test_check_mode_asks_nobody(cluster: Cluster) -> None:
    shutil.rmtree(cluster.bin)
    predicted = cluster.call(check=True, name="before")
    assert (predicted["changed"], predicted["dump"]["bytes"]) == (True, 0)
    assert cluster.call(check=True, state="restored", name="before")["changed"]
    assert not cluster.shelf.exists()


@pytest.mark.parametrize(
    ("text", "expected"), [("a", "'a'"), ("it's", "'it''s'"), ("a\\b", "E'a\\\\b'"), ("'\\", "E'''\\\\'")]
)
def test_texts_in_statements(text: str, expected: str) -> None:
    assert dumps.literal(text) == expected


@pytest.mark.parametrize(
    ("provider", "locale", "expected"),
    [("c", None, ""), ("i", "de-DE", "LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'"), ("b", "C.UTF-8", "BUILTIN_LOCALE")],
)
def test_the_locale_stays(provider: str, locale: str | None, expected: str) -> None:
    like = {"owner": "o", "encoding": "UTF8", "collate": "C", "ctype": "C", "provider": provider, "locale": locale}
    statement = dumps.create_statement('new"one', {**like, "connections": 5})
    assert expected in statement
    assert ("LOCALE_PROVIDER" in statement) == (provider != "c")
    assert statement.startswith('CREATE DATABASE "new""one"')
