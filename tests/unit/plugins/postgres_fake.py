# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server's side of PostgreSQL's protocol: TLS, SCRAM-SHA-256 with real proofs, simple queries with given rows."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable

ROUNDS = 4096
Rows = list[list[str | None]]


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def error(code: str, text: str) -> bytes:
    return message(b"E", b"".join(b"%s%s\0" % pair for pair in ((b"C", code.encode()), (b"M", text.encode()))) + b"\0")


class FakePostgres:
    """Tests change how it logs in, and what it answers."""

    def __init__(self, context: ssl.SSLContext | None, password: str) -> None:
        self.context = context
        self.password = password
        self.login = "scram"
        self.answers: Callable[[str], Rows | tuple[str, str]] = lambda _statement: [["1"]]
        self.statements: list[str] = []
        self.startup: dict[str, str] = {}
        self.passwords: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                plain, _peer = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(plain,), daemon=True).start()

    def _talk(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError, struct.error, ValueError), plain:
            plain.recv(8)
            if self.context is None:
                plain.sendall(b"N")
                return
            plain.sendall(b"S")
            with self.context.wrap_socket(plain, server_side=True) as connection:
                stream = connection.makefile("rb")
                (size,) = struct.unpack("!I", stream.read(4))
                words = stream.read(size - 4)[4:].rstrip(b"\0").split(b"\0")
                self.startup = {k.decode(): v.decode() for k, v in zip(words[::2], words[1::2], strict=False)}

                def receive() -> tuple[bytes, bytes]:
                    kind, length = struct.unpack("!cI", stream.read(5))
                    return kind, stream.read(length - 4)

                if not self._log_in(connection, receive):
                    return
                ready = message(b"Z", b"I")
                # Two reads in a row must not be taken for one message each.
                connection.sendall(message(b"R", struct.pack("!I", 0)) + message(b"S", b"a\0b\0") + ready)
                while True:
                    kind, body = receive()
                    if kind == b"X":
                        return
                    self.statements.append(body.rstrip(b"\0").decode())
                    found = self.answers(self.statements[-1])
                    data = error(*found) if isinstance(found, tuple) else b"".join(self._row(row) for row in found)
                    connection.sendall(message(b"N", b"\0") + data + message(b"C", b"SELECT\0") + ready)

    @staticmethod
    def _row(row: list[str | None]) -> bytes:
        parts = [struct.pack("!H", len(row))]
        for value in row:
            data = b"" if value is None else value.encode()
            parts.append(struct.pack("!i", -1 if value is None else len(data)) + data)
        return message(b"D", b"".join(parts))

    def _log_in(self, connection: ssl.SSLSocket, receive: Callable[[], tuple[bytes, bytes]]) -> bool:
        if self.login == "none":
            return True
        if self.login in ("password", "md5"):
            connection.sendall(message(b"R", struct.pack("!I", 3) if self.login == "password" else b"\0\0\0\5salt"))
            self.passwords.append(receive()[1].rstrip(b"\0"))
            return True
        connection.sendall(message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"))
        _mechanism, _nul, rest = receive()[1].partition(b"\0")
        bare = rest[4:].decode().removeprefix("n,,")
        salt = os.urandom(16)
        nonce = bare.partition("r=")[2] + (
            "" if self.login == "same nonce" else base64.b64encode(os.urandom(9)).decode()
        )
        rounds = 1 if self.login == "few rounds" else ROUNDS
        first = f"r={nonce},s={base64.b64encode(salt).decode()},i={rounds}"
        connection.sendall(message(b"R", struct.pack("!I", 11) + first.encode()))
        if self.login == "no proof of its own":
            receive()
            return True
        final = receive()[1].decode()
        without, _sign, proof = final.rpartition(",p=")
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), salt, rounds)
        key = hmac.digest(salted, b"Client Key", "sha256")
        text = f"{bare},{first},{without}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), text, "sha256")
        shown = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        if shown != key:
            connection.sendall(error("28P01", 'password authentication failed for user "langflow"'))
            return False
        server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), text, "sha256")
        if self.login == "wrong proof":
            server = bytes(32)
        connection.sendall(message(b"R", struct.pack("!I", 12) + b"v=" + base64.b64encode(server)))
        return True
