# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""As much of a Redis client as operating it needs: TLS, a user with a password, one command at a time."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _probe
from ansible_collections.flowfleet.langflow.plugins.module_utils._conversation import Conversation

LINE_LIMIT = 64 * 1024
BULK_LIMIT = 16 * 1024 * 1024


class RedisError(Exception):
    """The server cannot be asked, or it refuses; the message says why and holds nothing secret."""


class Client(Conversation):
    """One connection. Every command has to be answered within I(timeout) seconds, however slowly the answer drips."""

    _buffer: bytes

    def __init__(
        self,
        host: str,
        port: int,
        *,
        user: str | None = None,
        password: str | None = None,
        context: ssl.SSLContext | None = None,
        server_name: str | None = None,
        timeout: float = 3.0,
    ) -> None:
        super().__init__(timeout)
        with self._plain_words():
            self._socket = socket.create_connection((host, port), timeout=timeout)
            try:
                if context is not None:
                    self._socket = context.wrap_socket(self._socket, server_hostname=server_name or host)
                if password is not None:
                    self.call("AUTH", user or "default", password)
            except BaseException:
                self._socket.close()
                raise

    def _failure(self, reason: str | OSError) -> RedisError:
        return RedisError(reason if isinstance(reason, str) else _probe.describe(reason))

    def call(self, *words: str | int) -> Any:
        """Send one command; the answer is text, a number, nothing, or a list of these."""
        self._deadline = time.monotonic() + self.timeout
        parts = [f"*{len(words)}\r\n".encode()]
        for word in words:
            data = str(word).encode()
            parts += [f"${len(data)}\r\n".encode(), data, b"\r\n"]
        with self._plain_words():
            self._socket.sendall(b"".join(parts))
            answer = self._answer()
        if isinstance(answer, RedisError):
            raise answer
        return answer

    def _line(self) -> str:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > LINE_LIMIT:
                raise RedisError("answer is not from a Redis server")
            self._more()
        line, _separator, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode("utf-8", errors="replace")

    def _answer(self) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == "+":
            return rest
        if kind == "-":
            return RedisError(rest)
        try:
            number = int(rest) if kind in (":", "$", "*") else None
        except ValueError:
            number = None
        if number is None or number > BULK_LIMIT:
            raise RedisError("answer is not from a Redis server")
        if kind == ":":
            return number
        if number < 0:
            return None
        if kind == "*":
            return [self._answer() for _index in range(number)]
        while len(self._buffer) < number + 2:
            self._more()
        data, self._buffer = self._buffer[:number], self._buffer[number + 2 :]
        return data.decode("utf-8", errors="replace")


def pairs(answer: Any) -> dict[str, str]:
    """A flat list of names and values as a dictionary."""
    if not isinstance(answer, list):
        return {}
    return {str(name): str(value) for name, value in zip(answer[::2], answer[1::2], strict=False)}


def section(text: Any) -> dict[str, str]:
    """The C(name:value) lines of C(INFO)."""
    lines = (line.partition(":") for line in str(text or "").splitlines() if line and not line.startswith("#"))
    return {name: value for name, _separator, value in lines}
