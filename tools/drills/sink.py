#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a lab's alerts arrive: takes notifications of Alertmanager over HTTPS, keeps them with their times, tells them.

sink.py --listen ADDRESS:PORT --certificate FILE --key FILE --token-file FILE --journal FILE

POST /RECEIVER                  a notification, as Alertmanager's webhook sends it
POST /fail?status=500&seconds=30  refuse notifications for a while; path=/RECEIVER: only those
GET  /notifications?since=TIME  what has arrived since, one row for each alert of each notification; further words:
                                alertname=, status=, path=, wait=SECONDS (until there is at least one)

Every request needs the bearer token. Needs nothing but Python, so that any host of a lab can run it.
"""

from __future__ import annotations

import argparse
import hmac
import http.client
import http.server
import json
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

LIMIT = 4 * 1024 * 1024
LONGEST_WAIT = 60.0
QUESTIONS = 3
KEPT = ("labels", "annotations", "startsAt", "endsAt", "fingerprint")


class SinkError(Exception):
    """The sink did not answer as it should."""


def rows_of(received: float, path: str, client: str, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each alert of a notification."""
    common = {"received": received, "path": path, "from": client}
    about = {name: payload.get(name, "") for name in ("receiver", "groupKey")}
    return [
        {**common, "status": alert.get("status", ""), **{name: alert.get(name) for name in KEPT}, **about}
        for alert in payload.get("alerts", [])
    ]


def matching(
    rows: Iterable[Mapping[str, Any]], since: float = 0.0, alertname: str = "", status: str = "", path: str = ""
) -> list[dict[str, Any]]:
    """The rows that a question is about; what it does not name may be anything."""
    return [
        dict(row)
        for row in rows
        if row["received"] >= since
        and (not alertname or (row["labels"] or {}).get("alertname") == alertname)
        and (not status or row["status"] == status)
        and (not path or row["path"] == path)
    ]


class Journal:
    """All rows, in memory and in a file; somebody may wait for the next one."""

    def __init__(self, path: Path) -> None:
        self._changed = threading.Condition()
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                # The last line of a sink that was killed may be cut off.
                if line.endswith("}"):
                    self.rows.append(json.loads(line))
        self._stream = path.open("a", encoding="utf-8")

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        with self._changed:
            for row in rows:
                self.rows.append(row)
                self._stream.write(json.dumps(row, separators=(",", ":")) + "\n")
            self._stream.flush()
            self._changed.notify_all()

    def find(self, wait: float = 0.0, **words: Any) -> list[dict[str, Any]]:
        deadline = time.monotonic() + min(wait, LONGEST_WAIT)
        with self._changed:
            while not (found := matching(self.rows, **words)):
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return matching(self.rows, **words)
            return found


class Sink(http.server.ThreadingHTTPServer):
    """The server. A client that says nothing keeps no other one waiting."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, token: str, journal: Journal) -> None:
        super().__init__(address, Handler)
        self.context, self.token, self.journal = context, token, journal
        self.refuse_until, self.refuse_with, self.refuse_path = 0.0, 500, ""

    def refuses(self, path: str) -> bool:
        return time.monotonic() < self.refuse_until and self.refuse_path in ("", path)

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the connection's own thread: a handshake that never ends is nobody else's.
        request.settimeout(LONGEST_WAIT * 2)
        with self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is the client's affair."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sink

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _allowed(self) -> bool:
        given = self.headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode()):
            return True
        self._answer(401, {"error": "a bearer token is needed"})
        return False

    def _words(self) -> tuple[str, dict[str, str]]:
        parts = urllib.parse.urlsplit(self.path)
        return parts.path, dict(urllib.parse.parse_qsl(parts.query))

    def do_POST(self) -> None:
        received = time.time()
        length = int(self.headers.get("Content-Length") or 0)
        if length > LIMIT:
            self.close_connection = True
            self._answer(413, {"error": "too long"})
            return
        body = self.rfile.read(length)
        if not self._allowed():
            return
        path, words = self._words()
        if path == "/fail":
            self.server.refuse_with = int(words.get("status", 500))
            self.server.refuse_path = words.get("path", "")
            self.server.refuse_until = time.monotonic() + float(words.get("seconds", 0))
            self._answer(200, {})
        elif self.server.refuses(path):
            self._answer(self.server.refuse_with, {"error": "told to refuse"})
        else:
            try:
                rows = rows_of(received, path, self.client_address[0], json.loads(body))
            except (ValueError, AttributeError, TypeError):
                self._answer(400, {"error": "no notification"})
                return
            self.server.journal.add(rows)
            self._answer(200, {"alerts": len(rows)})

    def do_GET(self) -> None:
        if not self._allowed():
            return
        path, words = self._words()
        if path != "/notifications":
            self._answer(404, {"error": "no such page"})
            return
        names = {name: words[name] for name in ("alertname", "status", "path") if name in words}
        since, wait = float(words.get("since", 0)), float(words.get("wait", 0))
        self._answer(200, self.server.journal.find(wait, since=since, **names))

    def log_message(self, format: str, *args: Any) -> None:
        pass


# --- asking it -------------------------------------------------------------------------------------------------------


class Client:
    """What a drill or a test asks the sink."""

    def __init__(self, url: str, ca_file: str, token: str) -> None:
        self.url, self._token = url.rstrip("/"), token
        self._context = ssl.create_default_context(cafile=ca_file)

    def call(self, method: str, page: str, timeout: float = 15, **words: Any) -> Any:
        query = urllib.parse.urlencode({name: value for name, value in words.items() if value not in ("", None)})
        where = self.url.removeprefix("https://")
        connection = http.client.HTTPSConnection(where, timeout=timeout, context=self._context)
        try:
            connection.request(method, f"{page}?{query}", headers={"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status >= http.client.BAD_REQUEST:
                raise SinkError(f"{method} {page}: HTTP {answer.status}")
            return json.loads(content)
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise SinkError(f"{method} {page}: {error}") from None
        finally:
            connection.close()

    def rows(
        self, since: float = 0.0, alertname: str = "", status: str = "", path: str = "", wait: float = 0.0
    ) -> list[dict[str, Any]]:
        """What has arrived since a moment. On a busy machine an answer may take more than one question."""
        words = {"since": since, "alertname": alertname, "status": status, "path": path, "wait": wait}
        for _attempt in range(QUESTIONS - 1):
            try:
                return list(self.call("GET", "/notifications", timeout=wait + 15, **words))
            except SinkError:
                time.sleep(1)
        return list(self.call("GET", "/notifications", timeout=wait + 15, **words))

    def fail(self, seconds: float, status: int = 500, path: str = "") -> None:
        """Let it refuse notifications for a while, all or those of one receiver; 0: take them again."""
        self.call("POST", "/fail", seconds=seconds, status=status, path=path)

    def wait_for(
        self, wanted: Callable[[Mapping[str, Any]], bool], since: float, timeout: float, alertname: str = ""
    ) -> dict[str, Any] | None:
        """The first row that is wanted; None if none arrives in time."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            for row in self.rows(since, alertname):
                if wanted(row):
                    return row
            if left <= 0:
                return None
            # Rows of another kind are there already, so waiting for any would end at once.
            time.sleep(min(1.0, left))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--listen", default="127.0.0.1:9099", metavar="ADDRESS:PORT")
    for name in ("--certificate", "--key", "--token-file", "--journal"):
        parser.add_argument(name, required=True, type=Path)
    given = parser.parse_args()
    address, _, port = given.listen.rpartition(":")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(given.certificate, given.key)
    token = given.token_file.read_text(encoding="utf-8").strip()
    Sink((address, int(port)), context, token, Journal(given.journal)).serve_forever()


if __name__ == "__main__":
    main()
