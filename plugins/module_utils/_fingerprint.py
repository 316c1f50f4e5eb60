# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Count and hash the rows of every table of a PostgreSQL server, and compare two servers.

The hash of a table is the sum of the hashes of its rows: it needs no order and no memory. A table is *steady* when it
had the
same rows before and after a named point of the write-ahead log; only then must a copy restored to that point be equal.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _command
from ansible_collections.flowfleet.langflow.plugins.module_utils._pgbackrest import run_as_account

# Text of a value must not depend on the settings of a server.
SESSION = (
    "SET statement_timeout = 0; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = 0; "
    "SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET bytea_output = 'hex'; "
    "SET extra_float_digits = 1; "
    "SET search_path = pg_catalog;"
)
DATABASES = "SELECT json_agg(datname ORDER BY datname) FROM pg_database WHERE datallowconn AND NOT datistemplate"
# Ordinary tables that survive a crash, and partitions; a view or an unlogged table has nothing to compare.
TABLES = (
    "SELECT coalesce(json_agg(json_build_array(n.nspname, c.relname, pg_table_size(c.oid)) "
    "ORDER BY n.nspname, c.relname), '[]') "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND c.relpersistence = 'p' "
    "AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"
)
EQUAL, BUSY, DIFFERS, MISSING, EXTRA = "equal", "busy", "differs", "missing", "extra"
BAD = (DIFFERS, MISSING, EXTRA)


class FingerprintError(Exception):
    """The server could not be asked."""


def identifier(name: str) -> str:
    """A name as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as it stands in a statement."""
    return "'" + text.replace("'", "''") + "'"


def table_statement(schema: str, name: str, size: int, limit: int) -> str:
    """One line of JSON about one table; beyond I(limit) bytes rows are counted only."""
    digest = "NULL::text"
    if size <= limit:
        digest = "coalesce(sum(('x' || left(md5(__row::text), 16))::bit(64)::bigint::numeric), 0)::text"
    return (
        f"SELECT json_build_array({literal(schema)}, {literal(name)}, count(*), {digest}) "
        f"FROM ONLY {identifier(schema)}.{identifier(name)} AS __row;"
    )


class NotInstalled(FingerprintError):
    """There is no server here, not even a stopped one."""


@dataclasses.dataclass(frozen=True)
class Server:
    """A server on this host, asked over its local socket by the account that owns it."""

    socket_dir: str
    port: int
    timeout: float

    def sql(self, database: str, statements: str) -> list[str]:
        """The lines that I(statements) answer with."""
        argv = ["psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-h", self.socket_dir, "-p", str(self.port)]
        # A connection string: a database may have any name, that of an option or a URL included.
        name = database.replace("\\", "\\\\").replace("'", "\\'")
        argv += ["-U", "postgres", "-d", f"dbname='{name}'", "-c", statements]
        try:
            done = run_as_account(argv, timeout=self.timeout)
        except _command.CommandMissing as exc:
            raise NotInstalled(f"{exc} is not installed on this host") from None
        except _command.CommandTimeout:
            raise FingerprintError(f"the server did not answer within {self.timeout:g} s") from None
        if done.code != 0:
            raise FingerprintError(f"database {database}: {done.err or 'exit code ' + str(done.code)}")
        return [line for line in done.out.splitlines() if line]

    def value(self, statement: str, database: str = "postgres") -> Any:
        """One value in JSON."""
        lines = self.sql(database, statement)
        try:
            return json.loads("\n".join(lines)) if lines else None
        except ValueError:
            raise FingerprintError(f"database {database}: unexpected answer {lines[:1]}") from None

    def in_recovery(self) -> bool:
        """Whether it is a standby."""
        return bool(self.value("SELECT to_json(pg_is_in_recovery())"))

    def databases(self) -> list[str]:
        """Those that hold something of ours."""
        return list(self.value(DATABASES) or [])

    def tables(self, database: str, limit: int) -> dict[str, dict[str, Any]]:
        """Rows and hash of every table at one moment."""
        names = self.value(TABLES, database) or []
        if not names:
            return {}
        script = [SESSION, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"]
        script += [table_statement(schema, name, size, limit) for schema, name, size in names]
        script.append("COMMIT;")
        answers = [json.loads(line) for line in self.sql(database, "\n".join(script))]
        return {f"{schema}.{name}": {"rows": rows, "hash": digest} for schema, name, rows, digest in answers}

    def fingerprint(self, databases: Sequence[str], limit: int) -> dict[str, dict[str, dict[str, Any]]]:
        """Every table of I(databases), or of all."""
        return {name: self.tables(name, limit) for name in databases or self.databases()}

    def tokens(self, place: Mapping[str, str]) -> list[dict[str, str]]:
        """Some Fernet tokens of one column; none where the table does not exist."""
        table = f"{identifier(place['schema'])}.{identifier(place['table'])}"
        if self.value(f"SELECT to_json(to_regclass({literal(table)})::text)", place["database"]) is None:
            return []
        column = identifier(place["column"])
        found = self.value(
            f"SELECT json_agg(v) FROM (SELECT {column} AS v FROM {table} WHERE {column} LIKE 'gAAAAA%' LIMIT 5) AS s",
            place["database"],
        )
        return [{"column": f"{place['table']}.{place['column']}", "token": str(value)} for value in found or []]

    def mark(self, name: str) -> dict[str, Any]:
        """Write a named point into the log, and close the segment so that it gets archived."""
        found = self.value(
            f"SELECT json_build_object('lsn', pg_create_restore_point({literal(name)})::text, 'at', clock_timestamp())"
        )
        segment = self.value("SELECT to_json(pg_walfile_name(pg_switch_wal()))")
        return {"name": name, "lsn": found["lsn"], "at": found["at"], "segment": segment}

    def wait_archived(self, segment: str, seconds: float) -> float:
        """Until I(segment) has left the server; the names of segments of one timeline sort by age."""
        begun = time.monotonic()
        while True:
            stats = self.value("SELECT json_build_array(last_archived_wal, last_failed_wal) FROM pg_stat_archiver") or [
                "",
                "",
            ]
            last = str(stats[0] or "")[:24]
            if len(last) == len(segment) and last >= segment:
                return time.monotonic() - begun
            if time.monotonic() - begun > seconds:
                failed = f"; the last one that could not be archived is {stats[1]}" if stats[1] else ""
                raise FingerprintError(
                    f"{segment} was not archived within {seconds:g} s, the last one is {last or 'none'}{failed}"
                )
            time.sleep(0.5)


def steady(
    before: Mapping[str, Mapping[str, Mapping[str, Any]]], after: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """The tables of both looks, each with whether it stayed the same in between."""
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for database in sorted(set(before) | set(after)):
        first, second = before.get(database, {}), after.get(database, {})
        result[database] = {
            table: {
                **(second.get(table) or first.get(table) or {}),
                "steady": table in first and first.get(table) == second.get(table),
            }
            for table in sorted(set(first) | set(second))
        }
    return result


def compare(
    source: Mapping[str, Mapping[str, Mapping[str, Any]]], copy: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """One row for each table of either side."""
    rows = []
    for database in sorted(set(source) | set(copy)):
        left, right = source.get(database, {}), copy.get(database, {})
        for table in sorted(set(left) | set(right)):
            ours, theirs = left.get(table), right.get(table)
            rows.append(
                {
                    "table": f"{database}.{table}",
                    "rows": (ours or {}).get("rows", ""),
                    "restored": (theirs or {}).get("rows", ""),
                    "hashed": bool(ours and theirs and ours.get("hash") is not None and theirs.get("hash") is not None),
                    "verdict": _verdict(ours, theirs),
                }
            )
    return rows


def _verdict(ours: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None) -> str:
    if ours is None:
        return EXTRA
    if not ours.get("steady", True):
        return BUSY
    if theirs is None:
        return MISSING
    # A hash may be left out on one side: the limit is about bytes, and a restored table may have other ones.
    digests = {side["hash"] for side in (ours, theirs) if side.get("hash") is not None}
    return EQUAL if ours.get("rows") == theirs.get("rows") and len(digests) < 2 else DIFFERS


def bad(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that speak against the copy."""
    return [row for row in rows if row["verdict"] in BAD]
