# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send the gateway corpus to a load balancer, byte for byte, and judge the answers.

HTTP libraries tidy a path up before they send it, which is exactly what must not happen here; so the requests are
written by hand. Whether a backend saw a request is read from the access log of the load balancer by the request id it
answers with.
"""

from __future__ import annotations

import json
import socket
import ssl
import typing as t
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

PATHS = Path(__file__).with_name("gateway_paths.yml")


@dataclass(frozen=True)
class Answer:
    """What came back for one request target."""

    method: str
    target: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        """Give the id the load balancer logs the request under; empty if it was refused before it had one."""
        return self.headers.get("x-request-id", "")


def corpus() -> dict[str, list[tuple[str, str]]]:
    """Read the corpus."""
    data = yaml.safe_load(PATHS.read_text(encoding="utf-8"))
    return {
        kind: [(method, target) for method, _space, target in (row.partition(" ") for row in rows)]
        for kind, rows in data.items()
    }


class Client:
    """Talk HTTP/1.1 over verified TLS to one address under one name."""

    def __init__(self, address: str, name: str, ca: str, port: int = 443, timeout: float = 10.0) -> None:
        self.address, self.name, self.port, self.timeout = address, name, port, timeout
        self.context = ssl.create_default_context(cafile=ca)

    def send(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send one request as it is and read the answer to the end of the connection."""
        target = target.replace("{host}", self.name)
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {self.name}",
            "Connection: close",
            f"Content-Length: {len(body)}",
        ]
        lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
        message = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
        with (
            socket.create_connection((self.address, self.port), timeout=self.timeout) as plain,
            self.context.wrap_socket(plain, server_hostname=self.name) as stream,
        ):
            stream.sendall(message)
            data = b""
            while block := stream.recv(65536):
                data += block
        head, _separator, content = data.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        fields = {key.strip().lower(): value.strip() for key, _colon, value in (line.partition(":") for line in rest)}
        return Answer(method, target, int(words[1]) if len(words) > 1 else 0, fields, content)

    def send_all(self, rows: Iterable[tuple[str, str]]) -> list[Answer]:
        """Send many requests, one connection each."""
        return [self.send(method, target) for method, target in rows]


def log_records(lines: Iterable[str]) -> dict[str, dict[str, t.Any]]:
    """Give the records of an access log by request id."""
    records = (json.loads(line) for line in lines if line.strip())
    return {record["request_id"]: record for record in records}


def complaints(answers: Mapping[str, Iterable[Answer]], log: Mapping[str, Mapping[str, t.Any]]) -> list[str]:
    """Judge the answers by the kind of row they belong to; nothing in the list means that the gateway holds."""
    found = []
    for kind, rows in answers.items():
        for answer in rows:
            what = f"{kind}: {answer.method} {answer.target!r} -> {answer.status}"
            record = log.get(answer.request_id)
            if kind == "passed":
                if record is None or not record["upstream_addr"]:
                    found.append(f"{what}, and no backend was asked")
                continue
            if record is not None and record["upstream_addr"]:
                found.append(f"{what}, and backend {record['upstream_addr']} saw it")
            if kind == "refused" and (
                answer.status != 403 or not answer.request_id or record is None or not record["gateway_rule"]
            ):
                found.append(f"{what}, not refused by a rule")
            if kind == "refused_method" and answer.status not in (400, 405):
                found.append(f"{what}, not refused for its method")
            if kind == "malformed" and not 400 <= answer.status < 500:
                found.append(f"{what}, not refused")
    return found
