#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask the PostgreSQL of this host ten times a second, through its own socket, whether it takes writes.

sampler.py FILE

One line per question: when it was asked, when it was answered, and `primary`, `standby` or `down`. It runs on each
database server itself, so it goes on seeing a server that the network does not.
"""

from __future__ import annotations

import sys
import time
from typing import Any

EVERY = 0.1
DSN = "host=/run/postgresql user=postgres dbname=postgres connect_timeout=2 options='-c statement_timeout=2000'"
QUESTION = "SELECT NOT pg_is_in_recovery() AND NOT current_setting('default_transaction_read_only')::boolean"


class Server:
    """One connection at a time; a broken one is replaced at the next question."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._connection: Any = None

    def state(self) -> str:
        """What the server is, as it says itself."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._driver.connect(DSN, autocommit=True)
            row = self._connection.execute(QUESTION).fetchone()
        except self._driver.Error:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return "down"
        return "primary" if row[0] else "standby"


def main() -> None:
    import psycopg

    server = Server(psycopg)
    with open(sys.argv[1], "a", encoding="ascii") as stream:
        while True:
            began = time.time()
            state = server.state()
            stream.write(f"{began:.3f} {time.time():.3f} {state}\n")
            stream.flush()
            # At full tenths, on every host at the same moment.
            time.sleep(EVERY - time.time() % EVERY)


if __name__ == "__main__":
    main()
