# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""JSON over verified TLS with a client certificate, as the services of the data tier speak it."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import ssl
import urllib.parse
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils._probe import describe

BODY_LIMIT = 4 * 1024 * 1024
SHOWN = 300


class RestError(Exception):
    """There is no usable answer; the message says why."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """A complete answer, whatever its status."""

    status: int
    text: str

    @property
    def good(self) -> bool:
        """Whether the server did what it was asked."""
        return 200 <= self.status < 300

    def shown(self) -> str:
        """The text, short enough for a message."""
        return " ".join(self.text.split())[:SHOWN]

    def json(self) -> Any:
        """The text as JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            raise RestError(f"answer is not JSON: {self.shown()!r}") from None


def basic_login(username: str | None, password: str | None) -> str | None:
    """What an Authorization header says for a name and a password; nothing without a name."""
    if not username:
        return None
    return "Basic " + base64.b64encode(f"{username}:{password or ''}".encode()).decode()


@dataclasses.dataclass(frozen=True)
class Access:
    """How a client proves who it is, and whom it believes."""

    ca_path: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    username: str | None = None
    password: str | None = None
    timeout: float = 5.0
    # What the Authorization header says, with every request; goes before name and password, which go with changes only.
    token: str | None = None

    def context(self) -> ssl.SSLContext:
        """Verify certificate and name, always; show the own certificate where there is one."""
        try:
            context = ssl.create_default_context(cafile=self.ca_path)
        except OSError as exc:
            raise RestError(f"cannot read certificates from {self.ca_path}: {exc.strerror or exc}") from None
        if self.client_cert:
            try:
                context.load_cert_chain(self.client_cert, self.client_key)
            except OSError as exc:
                raise RestError(f"cannot use client certificate {self.client_cert}: {exc.strerror or exc}") from None
        return context

    def call(self, method: str, url: str, body: Any = None, timeout: float | None = None) -> Answer:
        """One request, one answer."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise RestError(f"an address starts with https:// and names a host, got {url!r}")
        headers = {"Accept": "application/json", "Connection": "close", "User-Agent": "flowfleet"}
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if self.token:
            headers["Authorization"] = self.token
        elif self.username and self.password and method != "GET":
            headers["Authorization"] = str(basic_login(self.username, self.password))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        client = http.client.HTTPSConnection(
            parts.hostname, parts.port or 443, timeout=timeout or self.timeout, context=self.context()
        )
        try:
            client.request(method, target, payload, headers)
            response = client.getresponse()
            text = response.read(BODY_LIMIT).decode("utf-8", "replace")
            return Answer(response.status, text)
        except (OSError, http.client.HTTPException) as exc:
            raise RestError(f"{parts.hostname}:{parts.port or 443}: {describe(exc)}") from exc
        finally:
            client.close()
