# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""As much of a PostgreSQL client as judging a server needs: TLS, one login, simple queries.

A bare host has neither psql nor a driver, and the question whether a server will do has to be answered before anything
is installed. Protocol 3.0 with the standard library is small: the server's own authentication is verified as well.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import struct
import time
import unicodedata

from ansible_collections.flowfleet.langflow.plugins.module_utils._conversation import Conversation
from ansible_collections.flowfleet.langflow.plugins.module_utils._probe import describe

PROTOCOL = 196608
SSL_REQUEST = 80877103
MESSAGE_LIMIT = 16 * 1024 * 1024
SCRAM = "SCRAM-SHA-256"
SSLMODES = ("verify-full", "verify-ca", "require")
# A server that lets a client guess its password by asking for few rounds is not worth an answer.
MINIMUM_ITERATIONS = 4096


class PostgresError(Exception):
    """The server cannot be asked, or it refuses; the message holds nothing secret."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def context_for(sslmode: str, ca_file: str | None, ca_text: str = "") -> ssl.SSLContext:
    """What a server has to show, in the words of libpq."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if sslmode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.check_hostname = sslmode == "verify-full"
    load_authorities(context, ca_file, ca_text)
    return context


def load_authorities(context: ssl.SSLContext, ca_file: str | None, ca_text: str = "") -> None:
    """Authorities of a file, and those that the file will have when the run is over."""
    try:
        if ca_text.strip():
            context.load_verify_locations(cadata=ca_text)
        if ca_file and (os.path.exists(ca_file) or not ca_text.strip()):
            context.load_verify_locations(cafile=ca_file)
    except FileNotFoundError:
        raise PostgresError(f"file {ca_file} does not exist on this host", "ca_file") from None
    except (OSError, ValueError) as exc:
        raise PostgresError(f"the authorities in {ca_file} cannot be read: {describe(exc)}", "ca_file") from None


def _prepared(password: str) -> bytes:
    """A password as it goes into the hash; what is plain stays as it is."""
    return (password if password.isascii() else unicodedata.normalize("NFKC", password)).encode()


class Scram:
    """One login with SCRAM-SHA-256, in which both sides prove that they know the password."""

    def __init__(self, password: str, nonce: str = "") -> None:
        self._password = _prepared(password)
        self._nonce = nonce or base64.b64encode(os.urandom(18)).decode()
        self._bare = f"n=,r={self._nonce}"
        self._expected = b""

    def first(self) -> bytes:
        """The client's first word."""
        return f"n,,{self._bare}".encode()

    def final(self, challenge: bytes) -> bytes:
        """The client's proof."""
        text = challenge.decode("utf-8", errors="replace")
        fields = dict(item.split("=", 1) for item in text.split(",") if "=" in item)
        try:
            nonce, salt, rounds = fields["r"], base64.b64decode(fields["s"], validate=True), int(fields["i"])
        except (KeyError, ValueError, binascii.Error):
            raise PostgresError("the server's challenge is not one of SCRAM-SHA-256") from None
        if not nonce.startswith(self._nonce) or nonce == self._nonce or rounds < MINIMUM_ITERATIONS:
            raise PostgresError("the server's challenge is not one of SCRAM-SHA-256")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, rounds)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c={base64.b64encode(b'n,,').decode()},r={nonce}"
        message = f"{self._bare},{text},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = bytes(left ^ right for left, right in zip(client_key, signature, strict=True))
        self._expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, last: bytes) -> None:
        """Refuse a server that does not know the password itself."""
        shown = last.decode("utf-8", errors="replace").partition("v=")[2].split(",")[0]
        if not self._expected or not hmac.compare_digest(shown.encode(), base64.b64encode(self._expected)):
            raise PostgresError("the server could not prove that it knows the password")


class Connection(Conversation):
    """One connection over TLS. Every step has to be done within I(timeout) seconds."""

    _buffer: bytes

    def __init__(
        self,
        host: str,
        port: int,
        *,
        database: str,
        user: str,
        password: str,
        context: ssl.SSLContext,
        timeout: float = 5.0,
        application: str = "flowfleet-preflight",
    ) -> None:
        super().__init__(timeout)
        self.tls = ""
        self.login = "none"
        self._verified = context.verify_mode != ssl.CERT_NONE
        with self._plain_words():
            self._socket = socket.create_connection((host, port), timeout=timeout)
            try:
                self._encrypt(host, context)
                self._login(database, user, password, application)
            except BaseException:
                self._socket.close()
                raise

    def _failure(self, reason: str | OSError) -> PostgresError:
        if isinstance(reason, str):
            return PostgresError(reason)
        return PostgresError(describe(reason), "tls" if isinstance(reason, ssl.SSLError) else "")

    def close(self) -> None:
        """Say goodbye and hang up."""
        with contextlib.suppress(OSError):
            self._socket.settimeout(1.0)
            self._send(b"X", b"")
        super().close()

    # --- messages

    def _send(self, kind: bytes, body: bytes) -> None:
        self._socket.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _message(self) -> tuple[bytes, bytes]:
        """The next message that is not a notice; an error becomes an exception."""
        while True:
            kind, size = struct.unpack("!cI", self._take(5))
            if not 4 <= size <= MESSAGE_LIMIT:
                raise PostgresError("answer is not from a PostgreSQL server")
            body = self._take(size - 4)
            if kind == b"E":
                fields = {part[:1]: part[1:].decode("utf-8", errors="replace") for part in body.split(b"\0") if part}
                raise PostgresError(fields.get(b"M", "error without a message"), fields.get(b"C", ""))
            if kind not in (b"N", b"S", b"A"):
                return kind, body

    def _encrypt(self, host: str, context: ssl.SSLContext) -> None:
        self._socket.sendall(struct.pack("!II", 8, SSL_REQUEST))
        answer = self._socket.recv(1)
        if answer == b"N":
            raise PostgresError("the server does not offer TLS", "tls")
        if answer != b"S":
            raise PostgresError("answer is not from a PostgreSQL server")
        self._socket = context.wrap_socket(self._socket, server_hostname=host)
        self.tls = str(self._socket.version() or "")

    def _login(self, database: str, user: str, password: str, application: str) -> None:
        words = {"user": user, "database": database, "application_name": application, "client_encoding": "UTF8"}
        body = b"".join(f"{name}\0{value}\0".encode() for name, value in words.items()) + b"\0"
        self._socket.sendall(struct.pack("!II", len(body) + 8, PROTOCOL) + body)
        scram: Scram | None = None
        proven = False
        while True:
            kind, body = self._message()
            if kind == b"Z":
                return
            if kind != b"R":
                continue  # parameters, and the key for cancelling
            (method,) = struct.unpack("!I", body[:4])
            if method == 0:
                # A server in the middle could skip its own proof by saying that all is well.
                if scram is not None and not proven:
                    raise PostgresError("the server could not prove that it knows the password")
            elif method == 10 and SCRAM.encode() in body[4:].split(b"\0"):
                self.login = SCRAM.lower()
                scram = Scram(password)
                first = scram.first()
                self._send(b"p", SCRAM.encode() + b"\0" + struct.pack("!I", len(first)) + first)
            elif method == 11 and scram is not None:
                self._send(b"p", scram.final(body[4:]))
            elif method == 12 and scram is not None:
                scram.verify(body[4:])
                proven = True
            elif method in (3, 5) and not self._verified:
                raise PostgresError("the server asks for the password in a form that is not safe without verified TLS")
            elif method == 5:
                self.login = "md5"
                inner = hashlib.md5(password.encode() + user.encode(), usedforsecurity=False).hexdigest()
                outer = hashlib.md5(inner.encode() + body[4:8], usedforsecurity=False).hexdigest()
                self._send(b"p", f"md5{outer}\0".encode())
            elif method == 3:
                self.login = "password"
                self._send(b"p", password.encode() + b"\0")
            else:
                raise PostgresError(f"the server asks for a kind of login (number {method}) that is not supported")

    def query(self, statement: str) -> list[list[str | None]]:
        """The rows of one simple query, as text."""
        self._deadline = time.monotonic() + self.timeout
        rows: list[list[str | None]] = []
        failure: PostgresError | None = None
        with self._plain_words():
            self._send(b"Q", statement.encode() + b"\0")
            while True:
                try:
                    kind, body = self._message()
                except PostgresError as exc:
                    if not exc.code:
                        raise
                    failure = exc  # the server says that it is ready again after it
                    continue
                if kind == b"Z":
                    break
                if kind == b"D":
                    rows.append(self._row(body))
        if failure is not None:
            raise failure
        return rows

    @staticmethod
    def _row(body: bytes) -> list[str | None]:
        (count,) = struct.unpack("!H", body[:2])
        row: list[str | None] = []
        position = 2
        for _column in range(count):
            (size,) = struct.unpack("!i", body[position : position + 4])
            position += 4
            row.append(None if size < 0 else body[position : position + size].decode("utf-8", errors="replace"))
            position += max(size, 0)
        return row
