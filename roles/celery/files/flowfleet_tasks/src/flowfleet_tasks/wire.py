# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP over a connection of its own for each request, so that it is always known whether a request left this machine.

Standard library only: the command line tool uses this on hosts where nothing is installed.
"""

from __future__ import annotations

import dataclasses
import functools
import http.client
import json
import socket
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from .errors import NoAnswer, NotSent, TasksError


@functools.lru_cache(maxsize=8)
def _context(ca_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file or None)


class _Connection(http.client.HTTPConnection):
    """Connects to another address than the one in the URL if asked to, and still asks for the URL's name."""

    elsewhere: tuple[str, int]
    wrapper: ssl.SSLContext | None = None

    def connect(self) -> None:
        """Open the connection, TLS included."""
        self.sock = socket.create_connection(self.elsewhere, self.timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self.wrapper is not None:
            self.sock = self.wrapper.wrap_socket(self.sock, server_hostname=self.host)


@dataclasses.dataclass(frozen=True)
class Answer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, or nothing if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def detail(self) -> dict[str, Any]:
        """Return what Langflow says about an error."""
        data = self.json()
        found = data.get("detail") if isinstance(data, dict) else None
        if isinstance(found, dict):
            return found
        return {"message": found} if isinstance(found, str) else {}

    @property
    def retry_after(self) -> float:
        """Return the seconds that the server asks to wait; 0 if it does not say."""
        value = self.headers.get("retry-after", "")
        return min(float(value), 3600.0) if value.isdigit() else 0.0


@dataclasses.dataclass(frozen=True)
class Door:
    """A server: its URL, where to connect to, and whom to trust."""

    url: str
    connect: str = ""
    ca_file: str = ""
    connect_timeout: float = 5.0
    largest: int = 64 * 1024 * 1024

    def _connection(self) -> http.client.HTTPConnection:
        parts = urllib.parse.urlsplit(self.url)
        host = parts.hostname or ""
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        there, there_port = host, port
        if self.connect:
            other = urllib.parse.urlsplit(f"//{self.connect}")
            there, there_port = other.hostname or host, other.port or port
        connection = _Connection(host, port, timeout=self.connect_timeout)
        if secure:
            connection.default_port = 443
            connection.wrapper = _context(self.ca_file)
        connection.elsewhere = (there, there_port)
        return connection

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float = 30.0,
    ) -> Answer:
        """Send one request and return the complete answer.

        Raises C(NotSent) if not a byte of the request left this machine, and C(NoAnswer) if some of it may have.
        """
        prefix = urllib.parse.urlsplit(self.url).path.rstrip("/")
        payload = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        all_headers = {"Accept": "application/json", "Connection": "close", **(headers or {})}
        if payload is not None:
            all_headers["Content-Type"] = "application/json"
        connection = self._connection()
        try:
            try:
                connection.connect()
            except (OSError, ValueError) as error:
                raise NotSent(f"{self.url} cannot be reached: {error}") from error
            return self._exchange(connection, method, prefix + path, all_headers, payload, timeout)
        finally:
            connection.close()

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        payload: bytes | None,
        timeout: float,
    ) -> Answer:
        begun = time.monotonic()
        try:
            sock = connection.sock
            sock.settimeout(timeout)
            connection.request(method, path, body=payload, headers=dict(headers))
            response = connection.getresponse()
            sock.settimeout(max(1.0, timeout - (time.monotonic() - begun)))
            content = response.read(self.largest + 1)
            if len(content) > self.largest:
                raise NoAnswer(f"the answer is larger than {self.largest} bytes")
            lowered = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, lowered, content)
        except (OSError, http.client.HTTPException) as error:
            what = str(error) or type(error).__name__
            raise NoAnswer(f"no complete answer after {time.monotonic() - begun:.1f} s: {what}") from error


def require(answer: Answer, *statuses: int) -> Answer:
    """Return the answer if its status is one of these."""
    if answer.status not in statuses:
        raise TasksError(f"status {answer.status}: {answer.detail().get('message', '')}")
    return answer
