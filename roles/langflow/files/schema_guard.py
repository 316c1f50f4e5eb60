# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a Langflow release touch a database only when it knows the schema it finds there.

Langflow answers an unknown schema revision by dropping the table `alembic_version` and replaying every migration, so
an older release that is started on a newer database damages it silently. This guard runs in front of the service and
of the migration step, with the Python of the release it guards:

    schema_guard.py -- COMMAND ...                   run COMMAND when the schema is exactly this release's
    schema_guard.py --for-migration -- COMMAND ...   run COMMAND when the schema is empty, older or this release's
    schema_guard.py --report                         print what is there as JSON and run nothing

Exit status 78 (configuration error) says: never start this release on this database as it is. Exit status 75
(temporary failure) says: the database did not answer, try again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

# The way to the server itself, where the service uses a connection pool.
DIRECT = "FLOWFLEET_DIRECT_DATABASE_URL"
EX_TEMPFAIL = 75
EX_CONFIG = 78

CURRENT, OLDER, EMPTY, UNKNOWN, UNVERSIONED = "current", "older", "empty", "unknown", "unversioned"
_ESCAPABLE = '"\\`$'


@dataclass(frozen=True)
class Release:
    """What a release says about itself."""

    name: str
    head: str
    revisions: frozenset[str]


@dataclass(frozen=True)
class Database:
    """What a database says about itself."""

    revisions: frozenset[str]
    has_tables: bool
    has_users: bool


@dataclass(frozen=True)
class Verdict:
    """The state of a schema as one release sees it, and a sentence for the operator."""

    state: str
    message: str


def read_release(path: Path) -> Release:
    """Read the marker of a completely built release."""
    data = json.loads((path / "RELEASE.json").read_text(encoding="utf-8"))
    return Release(str(data["id"]), str(data["schema_head"]), frozenset(map(str, data["schema_revisions"])))


def read_environment_file(text: str) -> dict[str, str]:
    """Parse a file of NAME="value" lines, quoted as systemd reads them."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, raw = line.partition("=")
        if not separator or line.startswith(("#", ";")):
            continue
        raw = raw.strip()
        if len(raw) > 1 and raw[0] == raw[-1] == '"':
            value, rest = "", raw[1:-1]
            while rest:
                escaped = rest[0] == "\\" and rest[1:2] and rest[1] in _ESCAPABLE
                value += rest[1] if escaped else rest[0]
                rest = rest[2:] if escaped else rest[1:]
            raw = value
        found[name.strip()] = raw
    return found


def judge(release: Release, database: Database) -> Verdict:
    """Compare a database with a release."""
    if not database.revisions:
        if database.has_tables and database.has_users:
            return Verdict(
                UNVERSIONED,
                "the database holds Langflow data but no schema revision; a release that did not know its schema has "
                "probably been started on it. Restore the table alembic_version, or the database from a backup",
            )
        return Verdict(EMPTY, f"the database has no schema yet; run the migration step of release {release.name}")
    unknown = sorted(database.revisions - release.revisions)
    if unknown:
        return Verdict(
            UNKNOWN,
            f"the database is at schema revision {', '.join(unknown)}, which release {release.name} does not know: a "
            "newer Langflow has migrated it. Start a release that knows this revision, or restore the backup that was "
            "taken before the upgrade. Nothing was changed",
        )
    if database.revisions == {release.head}:
        return Verdict(CURRENT, f"the database is at schema revision {release.head}, as release {release.name} needs")
    return Verdict(
        OLDER,
        f"the database is at schema revision {', '.join(sorted(database.revisions))}, release {release.name} needs "
        f"{release.head}; run the migration step first",
    )


def inspect(url: str) -> Database:
    """Read the schema revision without changing anything."""
    import psycopg  # Of the release: this script runs with its interpreter.

    target = "postgresql://" + url.partition("://")[2]
    with psycopg.connect(target, connect_timeout=10, application_name="langflow-schema-guard") as connection:
        connection.read_only = True

        def first(query: str) -> Any:
            row = connection.execute(query).fetchone()
            return row[0] if row else None

        revisions: set[str] = set()
        if first("SELECT to_regclass('alembic_version')") is not None:
            revisions = {str(row[0]) for row in connection.execute("SELECT version_num FROM alembic_version")}
        has_tables = first("SELECT to_regclass('flow')") is not None
        has_users = first("SELECT to_regclass('\"user\"')") is not None and first('SELECT count(*) FROM "user"') != 0
    return Database(frozenset(revisions), has_tables, has_users)


def status_of(verdict: Verdict, for_migration: bool) -> int:
    """Exit status for a verdict."""
    allowed = {CURRENT, OLDER, EMPTY} if for_migration else {CURRENT}
    return 0 if verdict.state in allowed else EX_CONFIG


def say(message: str) -> None:
    """One line for the journal."""
    print(f"schema guard: {message}", file=sys.stderr, flush=True)


def execute(command: Sequence[str]) -> NoReturn:
    """Become the guarded command."""
    os.execv(command[0], list(command))


def main(
    argv: Sequence[str],
    environ: Mapping[str, str],
    release_path: Path,
    look: Callable[[str], Database] = inspect,
    become: Callable[[Sequence[str]], Any] = execute,
) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Guard a Langflow release against a schema it does not know.")
    parser.add_argument("--for-migration", action="store_true", help="accept an empty or an older schema too")
    parser.add_argument("--report", action="store_true", help="print the state as JSON and run nothing")
    parser.add_argument("--environment-file", type=Path, help="read LANGFLOW_DATABASE_URL from this file")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args(argv)
    known = dict(environ)
    if options.environment_file:
        known.update(read_environment_file(options.environment_file.read_text(encoding="utf-8")))
    url = known.get("LANGFLOW_DATABASE_URL", "")
    if options.for_migration and known.get(DIRECT):
        # A migration holds a lock for a session, and a pool may give the session's connection to another client.
        url = os.environ["LANGFLOW_DATABASE_URL"] = known[DIRECT]
    if not url.startswith(("postgresql://", "postgresql+psycopg://")):
        say("LANGFLOW_DATABASE_URL is not set to a postgresql+psycopg:// address")
        return EX_CONFIG
    try:
        release = read_release(release_path)
    except (OSError, ValueError, KeyError) as error:
        say(f"{release_path} is not a completely installed release: {error}")
        return EX_CONFIG
    try:
        verdict = judge(release, look(url))
    except Exception as error:  # Whatever the driver raises: the schema could not be read, so nothing may start.
        say(f"the database could not be read, will be tried again: {type(error).__name__}: {error}")
        return EX_TEMPFAIL
    status = status_of(verdict, options.for_migration or options.report)
    if options.report:
        print(json.dumps({"release": release.name, "state": verdict.state, "message": verdict.message}))
    if status:
        say(f"refused: {verdict.message}")
    elif options.command and not options.report:
        become(options.command)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ, Path(sys.prefix).resolve()))
