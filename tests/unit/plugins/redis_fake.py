# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three hosts with one Redis and one sentinel each, as far as the modules see them, over real TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Any

PASSWORD = "-".join(("a", "long", "admin", "password"))


def encode(answer: Any) -> bytes:
    if isinstance(answer, list):
        return f"*{len(answer)}\r\n".encode() + b"".join(encode(item) for item in answer)
    if answer is None:
        return b"*-1\r\n"
    if isinstance(answer, bytes):
        return answer
    data = str(answer).encode()
    return f"${len(data)}\r\n".encode() + data + b"\r\n"


OK = b"+OK\r\n"


class FakeFleet:
    """Who is master is one variable; tests break whatever they want to see noticed."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.hosts = {f"redis{number}": f"127.0.0.{number}" for number in (1, 2, 3)}
        self.master = "redis1"
        self.offsets = dict.fromkeys(self.hosts, 4711)
        self.link = dict.fromkeys(self.hosts, "up")
        self.says = dict.fromkeys(self.hosts, "redis1")
        self.roles: dict[str, str] = {}
        self.flags = "master"
        self.refusals: list[bytes] = []
        self.calls: list[tuple[str, str]] = []
        self._context = context
        self._listeners: dict[tuple[str, str], socket.socket] = {}
        self.port, self.sentinel_port = self._listen("server"), self._listen("sentinel")

    def _listen(self, kind: str) -> int:
        port = 0
        for name, address in self.hosts.items():
            listener = socket.create_server((address, port))
            port = int(listener.getsockname()[1])
            self._listeners[kind, name] = listener
            threading.Thread(target=self._serve, args=(kind, name, listener), daemon=True).start()
        return port

    def stop(self, kind: str, name: str) -> None:
        """From now on connections are refused."""
        listener = self._listeners.pop((kind, name))
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()

    def close(self) -> None:
        for kind, name in list(self._listeners):
            self.stop(kind, name)

    def _serve(self, kind: str, name: str, listener: socket.socket) -> None:
        while True:
            try:
                plain, _peer = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(kind, name, plain), daemon=True).start()

    def _talk(self, kind: str, name: str, plain: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), self._context.wrap_socket(plain, server_side=True) as connection:
            stream = connection.makefile("rb")
            known = False
            while line := stream.readline():
                words = []
                for _index in range(int(line[1:])):
                    size = int(stream.readline()[1:])
                    words.append(stream.read(size + 2)[:-2].decode())
                if words[0] == "AUTH":
                    known = words[1:] == ["admin", PASSWORD]
                    connection.sendall(OK if known else b"-WRONGPASS invalid username-password pair\r\n")
                elif not known:
                    connection.sendall(b"-NOAUTH Authentication required.\r\n")
                else:
                    connection.sendall(encode(self._answer(kind, name, words)))

    def _answer(self, kind: str, name: str, words: list[str]) -> Any:
        command = " ".join(words[:2])
        if kind == "sentinel":
            if command == "SENTINEL GET-MASTER-ADDR-BY-NAME":
                return [self.hosts[self.says[name]], str(self.port)] if words[2] == "queue" else None
            if command == "SENTINEL MASTER":
                return ["name", words[2], "flags", self.flags, "num-other-sentinels", "2"]
            self.calls.append((name, command))
            if self.refusals:
                return self.refusals.pop(0)
            self.master = "redis2"
            self.says = dict.fromkeys(self.hosts, "redis2")
            return OK
        if command == "INFO replication":
            role = self.roles.get(name, "master" if name == self.master else "slave")
            if role == "master":
                return (
                    f"# Replication\r\nrole:master\r\nconnected_slaves:2\r\nmaster_repl_offset:{self.offsets[name]}\r\n"
                )
            return (
                f"# Replication\r\nrole:slave\r\nmaster_host:{self.hosts[self.master]}\r\n"
                f"master_link_status:{self.link[name]}\r\nslave_repl_offset:{self.offsets[name]}\r\n"
            )
        self.calls.append((name, command))
        return OK
