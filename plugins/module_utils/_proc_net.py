# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""What the kernel shows of TCP: the tables C(/proc/net/tcp) and C(tcp6), and which process holds which socket."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

TABLES = ("tcp", "tcp6")
LISTENING = "0A"
# Connecting, established, and closed by the other side only.
OPEN = frozenset({"01", "02", "08"})


class Row(NamedTuple):
    """One socket. Its ends are in the notation of the kernel."""

    local: str
    remote: str
    state: str
    number: str


def _swap(packed: bytes) -> bytes:
    """Words of four bytes between the order of the network and that of this host."""
    words = (packed[start : start + 4] for start in range(0, len(packed), 4))
    return b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)


def encode(address: str, port: int) -> str:
    """An address as the kernel prints it."""
    return f"{_swap(ipaddress.ip_address(address).packed).hex().upper()}:{port:04X}"


def decode(text: str) -> tuple[str, int]:
    """Address and port of what the kernel prints."""
    address, port = text.rsplit(":", 1)
    return str(ipaddress.ip_address(_swap(bytes.fromhex(address)))), int(port, 16)


def rows(table: str) -> Iterator[Row]:
    """The sockets of a table, given as its text."""
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) > 9:
            yield Row(columns[1], columns[2], columns[3], columns[9])


def socket_number(descriptor: str) -> str | None:
    """The number of the socket behind an entry of C(/proc/PID/fd); nothing for any other file."""
    target = os.readlink(descriptor)
    return target[8:-1] if target.startswith("socket:[") else None
