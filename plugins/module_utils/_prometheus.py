# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Questions to the HTTP interface of Prometheus: one limit for a whole answer, one way to say what is wrong."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _probe

ANSWER_LIMIT = 16 * 1024 * 1024
SHOWN = 500


class PrometheusError(Exception):
    """There is no usable answer; the message says why."""


class Client:
    """One Prometheus. Certificates and names are always verified; a redirect is not followed."""

    def __init__(
        self,
        url: str,
        *,
        ca_path: str | None = None,
        login: str | None = None,
        timeout: float = 10.0,
        post: bool = False,
    ) -> None:
        """C(login) is what the Authorization header says; C(post) is for expressions that no address has room for."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise PrometheusError(f"the address of Prometheus must be http(s)://host[:port][/path], got {url!r}")
        try:
            self._context = _probe.tls_context(ca_path) if parts.scheme == "https" else None
        except _probe.ConfigurationError as exc:
            raise PrometheusError(str(exc)) from exc
        self.url = url
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/")
        self._headers = {"Accept": "application/json", "Connection": "close", "User-Agent": "flowfleet"}
        if login:
            self._headers["Authorization"] = login
        self._timeout, self._post = timeout, post

    def instant(self, query: str, moment: float | None = None) -> Mapping[str, Any]:
        """What an expression is at a moment; without one, now."""
        return self._ask("query", {"query": query, **({} if moment is None else {"time": moment})})

    def over(self, query: str, start: float, end: float, step: float) -> Mapping[str, Any]:
        """What an expression was in a span."""
        return self._ask("query_range", {"query": query, "start": start, "end": end, "step": step})

    def _ask(self, kind: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The data of an answer: C(resultType) and C(result)."""
        query = arguments["query"]
        status, body = self._exchange(f"{self._path}/api/v1/{kind}", urllib.parse.urlencode(arguments))
        if status != http.client.OK:
            raise PrometheusError(f"Prometheus at {self.url} answered {status} to {query!r}: {body[:SHOWN]!r}")
        try:
            data = json.loads(body)["data"]
            if not isinstance(data["result"], list):
                raise TypeError
        except (ValueError, KeyError, TypeError) as exc:
            raise PrometheusError(f"Prometheus at {self.url} gave no vector for {query!r}: {body[:SHOWN]!r}") from exc
        return dict(data)

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)

    def _exchange(self, path: str, words: str) -> tuple[int, bytes]:
        connection = self._connect()
        late = threading.Event()

        def cut() -> None:
            late.set()
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

        # A socket's own timeout starts anew with each byte.
        timer = threading.Timer(self._timeout, cut)
        timer.daemon = True
        try:
            connection.connect()
            timer.start()
            if self._post:
                form = {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request("POST", path, words, {**self._headers, **form})
            else:
                connection.request("GET", f"{path}?{words}", headers=self._headers)
            answer = connection.getresponse()
            body = answer.read(ANSWER_LIMIT)
            if answer.length or late.is_set():
                raise http.client.IncompleteRead(body)
        except (OSError, http.client.HTTPException) as exc:
            why = f"no complete answer within {self._timeout:g} s" if late.is_set() else _probe.describe(exc)
            raise PrometheusError(f"Prometheus at {self.url}: {why}") from exc
        finally:
            timer.cancel()
            connection.close()
        return answer.status, body
