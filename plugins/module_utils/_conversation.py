# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""What a talk with any server over one socket has in common: a time that it may take, and errors in plain words."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar

_Self = TypeVar("_Self", bound="Conversation")


class Conversation:
    """One connection; whoever speaks over it says how a failure is called."""

    _socket: socket.socket

    def __init__(self, timeout: float) -> None:
        """Begin the time, in seconds, that the first answer may take."""
        self.timeout = timeout
        self._buffer = b""
        self._deadline = time.monotonic() + timeout

    def _failure(self, reason: str | OSError) -> Exception:
        """The error for a reason in words, or for one of the operating system."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _plain_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise self._failure(exc) from exc

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _more(self) -> None:
        """Wait for more of the answer."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._failure("no answer in time")
        self._socket.settimeout(left)
        chunk = self._socket.recv(65536)
        if not chunk:
            raise self._failure("connection closed without an answer")
        self._buffer += chunk
