#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write rows with growing numbers into PostgreSQL and keep account of what became of each; then compare with the table.

ledger.py write --dsn 'host=127.0.0.1 port=15432 ... sslmode=verify-full' --run ID --journal FILE --seconds 60
ledger.py verify --dsn ... --run ID --journal FILE

Every attempt ends as one of three: acknowledged (COMMIT was answered; its number was synced to the journal before the
next write), rejected (the server said no, or there was no connection to say it through), unknown (the connection died
while COMMIT was under way). Lost is an acknowledged number that is not in the table; an unknown one may be.

Runs on a client host of the cluster with python3-psycopg; the password comes from PGPASSWORD or a passfile, never from
an argument.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TextIO

ACKNOWLEDGED, REJECTED, UNKNOWN = CLASSES = ("acknowledged", "rejected", "unknown")
TABLE = "flowfleet_ledger"


class Rejected(Exception):
    """The row is certainly not there."""


class Unknown(Exception):
    """Nobody knows whether the row is there."""


class Store(Protocol):
    """Where rows go."""

    def write(self, run: str, number: int) -> None:
        """Commit one row, or raise C(Rejected) or C(Unknown)."""

    def numbers(self, run: str) -> list[int]:
        """All numbers that are there, in any order, twice if they are there twice."""


# --- the journal ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Entry:
    """What became of one number."""

    number: int
    outcome: str
    began: float
    ended: float
    reason: str = ""


class Journal:
    """One line per attempt; an acknowledged one is on the disk before anything else happens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def add(self, entry: Entry) -> None:
        """Write a line, and sync it."""
        self._stream.write(json.dumps(dataclasses.asdict(entry)) + "\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())


def read_journal(lines: Iterable[str]) -> Iterator[Entry]:
    """The entries of a journal; a last line that was cut off by a crash belongs to no acknowledged number."""
    for line in lines:
        if line.endswith("\n"):
            yield Entry(**json.loads(line))


# --- writing ----------------------------------------------------------------------------------------------------------


def write(
    store: Store,
    journal: Journal,
    run: str,
    seconds: float,
    interval: float,
    *,
    first: int = 1,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Entry]:
    """Write one number after the other, every I(interval) or as fast as it goes, and never the same number again."""
    entries = []
    over = clock() + seconds
    number = first
    while clock() < over:
        began = clock()
        outcome, reason = ACKNOWLEDGED, ""
        try:
            store.write(run, number)
        except Rejected as exc:
            outcome, reason = REJECTED, str(exc)
        except Unknown as exc:
            outcome, reason = UNKNOWN, str(exc)
        entry = Entry(number, outcome, began, clock(), reason)
        journal.add(entry)
        entries.append(entry)
        number += 1
        rest = interval - (clock() - began)
        if rest > 0:
            sleep(rest)
    return entries


# --- judging ----------------------------------------------------------------------------------------------------------


def gaps(entries: Iterable[Entry], shortest: float) -> list[dict[str, float]]:
    """Times without a good write: from the end of the last good one to the end of the next one."""
    found = []
    last: float | None = None
    for entry in entries:
        if entry.outcome != ACKNOWLEDGED:
            continue
        if last is not None and entry.ended - last >= shortest:
            found.append({"from": round(last, 3), "to": round(entry.ended, 3), "seconds": round(entry.ended - last, 3)})
        last = entry.ended
    return found


def summary(entries: list[Entry], shortest: float) -> dict[str, Any]:
    """Counts by class, why writes were rejected, and the times without a good write."""
    reasons: dict[str, int] = {}
    for entry in entries:
        if entry.reason:
            reasons[entry.reason] = reasons.get(entry.reason, 0) + 1
    return {
        "attempts": len(entries),
        **{name: sum(1 for entry in entries if entry.outcome == name) for name in CLASSES},
        "reasons": reasons,
        "gaps": gaps(entries, shortest),
    }


def compare(entries: Iterable[Entry], present: list[int]) -> dict[str, Any]:
    """Hold the journal against the table."""
    outcomes = {entry.number: entry.outcome for entry in entries}
    there = set(present)
    twice = sorted({number for number in there if present.count(number) > 1}) if len(there) != len(present) else []
    acknowledged = {number for number, outcome in outcomes.items() if outcome == ACKNOWLEDGED}
    rejected = {number for number, outcome in outcomes.items() if outcome == REJECTED}
    unknown = {number for number, outcome in outcomes.items() if outcome == UNKNOWN}
    lost = sorted(acknowledged - there)
    return {
        "acknowledged": len(acknowledged),
        "lost": lost,
        "twice": twice,
        "rejected_but_present": sorted(rejected & there),
        "unknown_present": len(unknown & there),
        "unknown_absent": len(unknown - there),
        "verdict": "pass" if not lost and not twice and not rejected & there else "fail",
    }


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


class PostgresStore:
    """One connection at a time; a broken one is replaced at the next write."""

    def __init__(self, dsn: str, timeout: float) -> None:
        import psycopg

        self._driver = psycopg
        if "sslmode=verify-full" not in dsn.split():
            raise SystemExit("ledger: the connection has to say sslmode=verify-full")
        self._dsn = dsn
        self._timeout = timeout
        self._connection: Any = None
        self._notices: list[str] = []

    def _connected(self) -> Any:
        if self._connection is None or self._connection.closed:
            self._connection = self._driver.connect(
                self._dsn,
                connect_timeout=max(2, int(self._timeout)),
                tcp_user_timeout=int(self._timeout * 1000),
                keepalives_idle=1,
                keepalives_interval=1,
                keepalives_count=3,
                options=f"-c statement_timeout={int(self._timeout * 1000)}",
            )
            self._connection.add_notice_handler(lambda said: self._notices.append(said.message_primary or ""))
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def prepare(self) -> None:
        """Make the table. No unique index: a row that is there twice has to be seen."""
        with self._connected() as connection:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {TABLE} (run text NOT NULL, number bigint NOT NULL,"
                " at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )

    def write(self, run: str, number: int) -> None:
        """One row, one transaction."""
        error = self._driver.Error
        try:
            connection = self._connected()
            connection.execute(f"INSERT INTO {TABLE} (run, number) VALUES (%s, %s)", (run, number))
        except error as exc:
            self._drop()
            raise Rejected(self._reason(exc)) from exc
        try:
            # A cancelled wait for the standby commits here with a warning: that is no acknowledgement.
            self._notices.clear()
            connection.commit()
        except error as exc:
            self._drop()
            raise Unknown(self._reason(exc)) from exc
        if any("synchronous replication" in notice for notice in self._notices):
            self._drop()
            raise Unknown("the wait for the standby was cancelled")

    def numbers(self, run: str) -> list[int]:
        """All rows of a run."""
        with self._connected() as connection:
            rows = connection.execute(f"SELECT number FROM {TABLE} WHERE run = %s", (run,)).fetchall()
        return [int(row[0]) for row in rows]

    @staticmethod
    def _reason(exc: Exception) -> str:
        state = getattr(exc, "sqlstate", None)
        return f"{type(exc).__name__}{f' {state}' if state else ''}"


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Keep account of writes to PostgreSQL.")
    parser.add_argument("action", choices=["write", "verify"])
    parser.add_argument("--dsn", required=True, help="without a password; sslmode=verify-full")
    parser.add_argument("--run", required=True, help="name of this run in the table")
    parser.add_argument("--journal", required=True, type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--interval", type=float, default=0.1)
    parser.add_argument("--timeout", type=float, default=3.0, help="for one connection or statement")
    parser.add_argument("--shortest-gap", type=float, default=1.0)
    options = parser.parse_args(argv)
    store = PostgresStore(options.dsn, options.timeout)
    if options.action == "write":
        store.prepare()
        with options.journal.open("x", encoding="utf-8") as stream:
            entries = write(store, Journal(stream), options.run, options.seconds, options.interval)
        result = summary(entries, options.shortest_gap)
    else:
        with options.journal.open(encoding="utf-8") as stream:
            entries = list(read_journal(stream))
        result = {**summary(entries, options.shortest_gap), **compare(entries, store.numbers(options.run))}
    print(json.dumps(result, indent=2))
    return 0 if result.get("verdict", "pass") == "pass" else 1


if __name__ == "__main__":
    sys.exit(main())
