# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Read the unfinished jobs from Langflow's database.

This is a program of its own. It runs with the Python of a Langflow release, because the driver of the database is
only there, takes C(LANGFLOW_DATABASE_URL) from its environment, changes nothing and prints JSON. Of the metadata of a
job it reads the owner and the last sign of life; the rest holds what users have sent.
"""

from __future__ import annotations

import datetime
import json
import os
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

LIMIT = 10000
SECONDS = 10
# Tables and columns of the schema that this program knows.
NEEDED = {"job": {"job_id", "flow_id", "type", "status", "created_timestamp", "job_metadata"}}
JOBS = """
SELECT CAST(job_id AS VARCHAR(36)), CAST(flow_id AS VARCHAR(36)), CAST(type AS VARCHAR(32)),
       CAST(status AS VARCHAR(32)), created_timestamp, {owner}, {beat}
FROM job WHERE status IN ('queued', 'in_progress') ORDER BY created_timestamp LIMIT {limit}
"""
COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('{table}') AND attnum > 0"
LEASES = "SELECT name, owner, expires_at FROM trigger_lease WHERE name = 'trigger_dispatcher'"

Query = Callable[[str], Iterable[tuple[Any, ...]]]


def moment(value: Any) -> float | None:
    """Seconds since the epoch; times without a zone are UTC."""
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime.datetime):
        return None
    return (value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).timestamp()


def identity(value: Any) -> str:
    """The usual form of a UUID."""
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        return str(value)


def collect(query: Query, columns: dict[str, set[str]], owner: str, beat: str) -> dict[str, Any]:
    """Everything of interest; C(known) is false for a schema without what is needed."""
    if any(not needed <= columns.get(table, set()) for table, needed in NEEDED.items()):
        return {"known": False, "jobs": [], "dispatcher": None}
    jobs = [
        {
            "id": identity(row[0]),
            "flow_id": identity(row[1]),
            "type": str(row[2] or "workflow").lower(),
            "status": str(row[3]).lower(),
            "created": moment(row[4]),
            "owner": row[5],
            "heartbeat": moment(row[6]),
        }
        for row in query(JOBS.format(owner=owner, beat=beat, limit=LIMIT))
    ]
    leases = list(query(LEASES)) if "trigger_lease" in columns else []
    return {
        "known": True,
        "jobs": jobs,
        "dispatcher": {"owner": leases[0][1], "expires": moment(leases[0][2])} if leases else None,
    }


def from_postgresql(address: str) -> dict[str, Any]:
    """Ask PostgreSQL."""
    import psycopg  # of the release

    with psycopg.connect(address, connect_timeout=SECONDS, application_name="langflow-jobs") as connection:
        connection.read_only = True
        connection.execute(f"SET LOCAL statement_timeout = {SECONDS * 1000}")

        def query(statement: str) -> Iterable[tuple[Any, ...]]:
            return connection.execute(statement).fetchall()

        columns: dict[str, set[str]] = {}
        for table in ("job", "trigger_lease"):
            columns[table] = {row[0] for row in query(COLUMNS.format(table=table))}
        present = {table: names for table, names in columns.items() if names}
        return collect(query, present, "job_metadata->>'owner'", "job_metadata->>'heartbeat_at'")


def from_sqlite(path: str) -> dict[str, Any]:
    """Ask SQLite."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=SECONDS)
    try:

        def query(statement: str) -> Iterable[tuple[Any, ...]]:
            return connection.execute(statement).fetchall()

        columns: dict[str, set[str]] = {}
        for table in ("job", "trigger_lease"):
            names = {row[1] for row in query(f"PRAGMA table_info({table})")}
            if names:
                columns[table] = names
        return collect(
            query,
            columns,
            "json_extract(job_metadata, '$.owner')",
            "json_extract(job_metadata, '$.heartbeat_at')",
        )
    finally:
        connection.close()


def read(url: str) -> dict[str, Any]:
    """Ask the database that a Langflow address names."""
    scheme, _separator, rest = url.partition("://")
    kind = scheme.partition("+")[0]
    if kind in ("postgresql", "postgres"):
        return from_postgresql(f"postgresql://{rest}")
    if kind == "sqlite":
        return from_sqlite(unquote(rest.partition("?")[0]).removeprefix("/"))
    raise ValueError("LANGFLOW_DATABASE_URL is neither a postgresql nor a sqlite address")


def main() -> int:
    """Entry point."""
    try:
        found = read(os.environ.get("LANGFLOW_DATABASE_URL", ""))
    except Exception as error:  # whatever the driver raises
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())[:400]}\n")
        return 75
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
