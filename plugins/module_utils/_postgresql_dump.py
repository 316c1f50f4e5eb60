# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Dumps of one PostgreSQL database that say what is in them, and the way back that never loses the present one.

A dump is C(<name>.dump), the archive that pg_dump makes, and C(<name>.json), written last: what the database was like
in the very transaction that was dumped (rows per table, schema revision, owner, privileges), and the checksum of the
archive.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import grp
import hashlib
import json
import os
import pwd
import re
import secrets
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

FORMAT = 1
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
LONGEST_IDENTIFIER = 63
# A database that is restored needs room for what it held, its indexes built anew, and its write-ahead log.
RESTORE_SPACE = 1.5
# Settings whose kept text is already a quoted list.
LIST_SETTINGS = ("local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces")

# Nothing but answers is printed, and a long dump is not ended by what guards other clients.
QUIET = (
    "client_min_messages = error",
    "statement_timeout = 0",
    "lock_timeout = 0",
    "idle_in_transaction_session_timeout = 0",
)

TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1
"""
DATABASE = """
SELECT to_jsonb(d) - 'datacl' AS row, pg_get_userbyid(d.datdba) AS owner, pg_encoding_to_char(d.encoding) AS encoding,
       pg_database_size(d.oid) AS bytes,
       (SELECT jsonb_agg(jsonb_build_object(
          'grantee', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
          'privilege', a.privilege_type,
          'grantable', a.is_grantable))
        FROM aclexplode(d.datacl) a) AS privileges,
       (SELECT jsonb_agg(jsonb_build_object(
          'role', CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END,
          'settings', s.setconfig))
        FROM pg_db_role_setting s WHERE s.setdatabase = d.oid) AS settings
FROM pg_database d WHERE d.datname = current_database()
"""


class DumpError(Exception):
    """The dump could not be made or put back; the database that is in use is as it was."""


@dataclasses.dataclass(frozen=True)
class Server:
    """How to reach the server on this host as its superuser."""

    account: str
    bin_dir: str
    socket_dir: str
    port: int

    def identity(self) -> dict[str, Any]:
        """Arguments that let a child run as the account, when this process is not it."""
        entry = pwd.getpwnam(self.account)
        if entry.pw_uid == os.geteuid():
            return {}
        groups = [group.gr_gid for group in grp.getgrall() if self.account in group.gr_mem]
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}

    def environment(self) -> dict[str, str]:
        """A child's environment, without what a person may have set for other servers."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        return {**kept, "LC_ALL": "C.UTF-8", "PGAPPNAME": "flowfleet-dump", "PGCONNECT_TIMEOUT": "10"}

    def argv(self, program: str, database: str, *arguments: str) -> list[str]:
        """A client program with its way to the server."""
        target = ["--no-password", "-h", self.socket_dir, "-p", str(self.port), "-U", self.account, "-d", database]
        return [os.path.join(self.bin_dir, program), *target, *arguments]

    def run(
        self, argv: list[str], stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a client program to its end."""
        try:
            done = subprocess.run(
                argv,
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=stdout if stdout is not None else subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.environment(),
                cwd="/",
                check=False,
                **self.identity(),
            )
        except FileNotFoundError:
            raise DumpError(f"{argv[0]} is not installed") from None
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", errors="replace").strip()[-2000:]
            raise DumpError(f"{os.path.basename(argv[0])} ended with {done.returncode}: {said}")
        return done


def identifier(name: str) -> str:
    """A name as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as it stands in a statement."""
    escaped = text.replace("'", "''")
    return f"E'{escaped}'".replace("\\", "\\\\") if "\\" in text else f"'{escaped}'"


class Session:
    """One connection, on which statements follow one another."""

    def __init__(self, server: Server, database: str) -> None:
        arguments = ("-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1")
        try:
            self._process = subprocess.Popen(
                server.argv("psql", database, *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=server.environment(),
                cwd="/",
                text=True,
                **server.identity(),
            )
        except FileNotFoundError:
            raise DumpError(f"psql is not installed in {server.bin_dir}") from None
        self._stdin, self._stdout = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        for setting in QUIET:
            self.do(f"SET {setting}")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        for stream in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                stream.close()
        self._process.wait()

    def send(self, sql: str) -> str:
        """Send statements without waiting; the word that stands behind their output."""
        marker = f"done-{secrets.token_hex(8)}"
        try:
            self._stdin.write(f"{sql.strip().rstrip(';')};\n\\echo {marker}\n")
            self._stdin.flush()
        except OSError:
            raise self._broken([]) from None
        return marker

    def receive(self, marker: str) -> list[str]:
        """The lines up to the word."""
        lines: list[str] = []
        for line in self._stdout:
            if line.rstrip("\n") == marker:
                return lines
            lines.append(line.rstrip("\n"))
        raise self._broken(lines)

    def answered(self, seconds: float) -> bool:
        """Whether something can be received, after waiting for it so long."""
        return bool(select.select([self._stdout], [], [], seconds)[0])

    def _broken(self, lines: list[str]) -> DumpError:
        """psql ends at the first error; what it said last tells why."""
        status = self._process.wait()
        return DumpError("\n".join(lines)[-2000:] or f"psql ended with {status}")

    def do(self, sql: str) -> list[str]:
        """Run statements; what they print."""
        return self.receive(self.send(sql))

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query."""
        text = "".join(self.do(f"SELECT coalesce(jsonb_agg(to_jsonb(q)), '[]') FROM ({query}) q"))
        found: list[dict[str, Any]] = json.loads(text)
        return found


# --- what a database is like ------------------------------------------------------------------------------------------


def contents(session: Session) -> dict[str, Any]:
    """What has to be equal after a restore."""
    names = [row["name"] for row in session.rows(TABLES)]
    tables = {name: session.rows(f"SELECT count(*) AS n FROM ONLY {name}")[0]["n"] for name in names}
    revisions = []
    if session.rows("SELECT to_regclass('alembic_version') IS NOT NULL AS there")[0]["there"]:
        revisions = sorted(row["version_num"] for row in session.rows("SELECT version_num FROM alembic_version"))
    extensions = sorted(row["extname"] for row in session.rows("SELECT extname FROM pg_extension"))
    return {"tables": tables, "revisions": revisions, "extensions": extensions}


def properties(session: Session) -> dict[str, Any]:
    """What is not in an archive: owner, locale, privileges and settings of the database itself."""
    row = session.rows(DATABASE)[0]
    raw = row["row"]
    return {
        "owner": row["owner"],
        "encoding": row["encoding"],
        "bytes": row["bytes"],
        "collate": raw["datcollate"],
        "ctype": raw["datctype"],
        "provider": raw.get("datlocprovider", "c"),
        "locale": raw.get("datlocale", raw.get("daticulocale")),
        "connections": raw["datconnlimit"],
        "privileges": row["privileges"],
        "settings": row["settings"] or [],
    }


def create_statement(name: str, like: Mapping[str, Any]) -> str:
    """A new, empty database with the given properties."""
    words = [
        f"CREATE DATABASE {identifier(name)} TEMPLATE template0",
        f"OWNER {identifier(like['owner'])}",
        f"ENCODING {literal(like['encoding'])}",
        f"LC_COLLATE {literal(like['collate'])}",
        f"LC_CTYPE {literal(like['ctype'])}",
        f"CONNECTION LIMIT {int(like['connections'])}",
    ]
    if like["provider"] == "i":
        words.append(f"LOCALE_PROVIDER icu ICU_LOCALE {literal(like['locale'])}")
    elif like["provider"] == "b":
        words.append(f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {literal(like['locale'])}")
    return " ".join(words)


def property_statements(name: str, like: Mapping[str, Any]) -> list[str]:
    """Privileges and settings of a database."""
    found = []
    database = identifier(name)
    if like["privileges"] is not None:
        # The defaults first go: what anybody may, and what the owner may.
        found.append(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC, {identifier(like['owner'])}")
        for item in like["privileges"]:
            who = "PUBLIC" if item["grantee"] is None else identifier(item["grantee"])
            option = " WITH GRANT OPTION" if item["grantable"] else ""
            found.append(f"GRANT {item['privilege']} ON DATABASE {database} TO {who}{option}")
    for item in like["settings"]:
        whose = "" if item["role"] is None else f"ROLE {identifier(item['role'])} IN "
        for setting in item["settings"]:
            key, _equals, value = setting.partition("=")
            shown = value if key in LIST_SETTINGS else literal(value)
            found.append(f"ALTER {whose}DATABASE {database} SET {identifier(key)} TO {shown}")
    return found


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What a restored database lacks or has too much, in words."""
    result = []
    for table in sorted({*wanted["tables"], *found["tables"]}):
        there, here = wanted["tables"].get(table), found["tables"].get(table)
        if there != here:
            result.append(f"table {table} had {there} rows, has {here}")
    for key in ("revisions", "extensions"):
        if wanted[key] != found[key]:
            result.append(f"{key} were {', '.join(wanted[key]) or 'none'}, are {', '.join(found[key]) or 'none'}")
    return result


# --- the directory of dumps -------------------------------------------------------------------------------------------


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def utc_stamp() -> str:
    """Now, as part of a name."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dt%H%M%Sz}"


def free_bytes(path: Path) -> int:
    """Room that is left where a path is, or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def need(path: Path, wanted: int, what: str) -> None:
    """Refuse to begin what cannot end well."""
    free = free_bytes(path)
    if free < wanted:
        mega = 1024 * 1024
        raise DumpError(f"{path} has {free // mega} MiB free, {what} may need {wanted // mega} MiB")


class Shelf:
    """All dumps of one directory, for root only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def make(self) -> None:
        """The directory."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(self.directory, 0o700)

    def archive(self, name: str) -> Path:
        """The file of one dump."""
        if not NAME.match(name):
            raise DumpError(f"{name!r} cannot be the name of a dump: letters, digits, dots, dashes and underscores")
        return self.directory / f"{name}.dump"

    def read(self, name: str) -> dict[str, Any] | None:
        """What is known about a complete dump."""
        archive = self.archive(name)
        try:
            data = json.loads(archive.with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(data, dict) or data.get("format") != FORMAT or not archive.is_file():
            return None
        return data

    def names(self, database: str) -> list[str]:
        """Complete dumps of a database, newest first."""
        if not self.directory.is_dir():
            return []
        found = []
        for path in self.directory.glob("*.json"):
            data = self.read(path.stem) if NAME.match(path.stem) else None
            if data and data["database"] == database:
                found.append((data["taken_at"], path.stem))
        return [name for _taken, name in sorted(found, reverse=True)]

    def remove(self, name: str) -> None:
        """The description goes first, so that half a removal leaves no dump that looks complete."""
        self.archive(name).with_suffix(".json").unlink(missing_ok=True)
        self.archive(name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what killed runs have left; to be called with the lock."""
        for path in self.directory.glob(".*.partial"):
            path.unlink()

    @contextlib.contextmanager
    def staged(self, path: Path) -> Iterator[IO[bytes]]:
        """A file that takes its name only when all of it is on the disk."""
        temporary = self.directory / f".{path.name}.{secrets.token_hex(4)}.partial"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w+b") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


# --- there and back ---------------------------------------------------------------------------------------------------


def verify_archive(server: Server, archive: Path, tables: int) -> None:
    """The archive can be read to its end and holds the data of every table."""
    argv = [os.path.join(server.bin_dir, "pg_restore")]
    with open(archive, "rb") as handle:
        listed = server.run([*argv, "--list"], stdin=handle).stdout.decode("utf-8", errors="replace")
    found = len(re.findall(r"^\d+; \d+ \d+ TABLE DATA ", listed, re.M))
    if found != tables:
        raise DumpError(f"the archive holds the data of {found} tables, the database had {tables}")
    with open(archive, "rb") as handle:
        server.run([*argv, "--file=/dev/null"], stdin=handle)


def dump(server: Server, shelf: Shelf, name: str, database: str, min_free: int) -> dict[str, Any]:
    """Dump a database as it is at one moment, even while it is written to."""
    began = time.monotonic()
    archive = shelf.archive(name)
    with Session(server, database) as session:
        session.do("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        like = properties(session)
        need(shelf.directory, like["bytes"] + min_free, f"the dump of {database}")
        moment = session.rows("SELECT pg_export_snapshot() AS id, current_setting('server_version') AS version")[0]
        with shelf.staged(archive) as handle:
            arguments = ("--format=custom", f"--snapshot={moment['id']}")
            server.run(server.argv("pg_dump", database, *arguments), stdout=handle)
            inside = contents(session)
    verify_archive(server, archive, len(inside["tables"]))
    data = {
        "format": FORMAT,
        "name": name,
        "database": database,
        "server_version": moment["version"],
        "taken_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "bytes": archive.stat().st_size,
        "sha256": file_sha256(archive),
        "seconds": round(time.monotonic() - began, 2),
        "properties": like,
        **inside,
    }
    with shelf.staged(archive.with_suffix(".json")) as handle:
        handle.write(json.dumps(data, indent=1, sort_keys=True).encode() + b"\n")
    return data


def _switch(server: Server, control: Session, database: str, kept_as: str, new: str) -> None:
    """Give the new database the name, in one transaction, while the connections to the old one are ended."""
    with Session(server, "postgres") as other:
        steps = [f"ALTER DATABASE {identifier(new)} RENAME TO {identifier(database)}"]
        if kept_as:
            steps.insert(0, f"ALTER DATABASE {identifier(database)} RENAME TO {identifier(kept_as)}")
        # The first rename lets nobody in any more and waits for those who are inside.
        marker = other.send("; ".join(["BEGIN", *steps, "COMMIT"]))
        while not other.answered(0.1):
            control.do(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {literal(database)}")
        other.receive(marker)


def restore(server: Server, shelf: Shelf, name: str, database: str, min_free: int) -> dict[str, Any]:
    """Put a dump into a new database, compare, and only then let it take the place of the present one."""
    began = time.monotonic()
    data = shelf.read(name)
    archive = shelf.archive(name)
    if data is None:
        raise DumpError(f"there is no complete dump {name} in {shelf.directory}")
    if file_sha256(archive) != data["sha256"]:
        raise DumpError(f"{archive} is not what was dumped: its checksum differs")
    stamp = utc_stamp()
    new, kept_as = f"{database}_restore_{stamp}", f"{database}_failed_{stamp}"
    if len(new.encode()) > LONGEST_IDENTIFIER:
        raise DumpError(f"{database} is too long a name to put something behind it")
    like = data["properties"]
    with Session(server, "postgres") as control:
        if control.rows("SELECT pg_is_in_recovery() AS standby")[0]["standby"]:
            raise DumpError("this server is a standby; restore on the primary")
        place = control.rows("SELECT current_setting('data_directory') AS path")[0]["path"]
        need(Path(place), int(like["bytes"] * RESTORE_SPACE) + min_free, f"the restore of {database}")
        pattern = f"^{re.escape(database)}_restore_[0-9]{{8}}t[0-9]{{6}}z$"
        names = [row["datname"] for row in control.rows("SELECT datname FROM pg_database")]
        for leftover in (item for item in names if re.match(pattern, item)):
            control.do(f"DROP DATABASE {identifier(leftover)} WITH (FORCE)")
        control.do(create_statement(new, like))
        try:
            with open(archive, "rb") as handle:
                server.run(server.argv("pg_restore", new, "--exit-on-error"), stdin=handle)
            with Session(server, new) as session:
                wrong = differences(data, contents(session))
                session.do("ANALYZE")
            if wrong:
                raise DumpError(f"what was restored is not what was dumped: {'; '.join(wrong[:10])}")
            for statement in property_statements(new, like):
                control.do(statement)
            present = database in names
            _switch(server, control, database, kept_as if present else "", new)
        except DumpError:
            # Not if the switch went through after all: then this name is gone.
            with Session(server, "postgres") as cleaner:
                cleaner.do(f"DROP DATABASE IF EXISTS {identifier(new)} WITH (FORCE)")
            raise
    return {
        "database": database,
        "from": name,
        "kept_as": kept_as if present else "",
        "revisions": data["revisions"],
        "seconds": round(time.monotonic() - began, 2),
    }
