# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell systemd how this process is doing. Without systemd nothing happens."""

from __future__ import annotations

import contextlib
import os
import socket

_told: set[str] = set()


def _send(text: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(text.encode(), address)


def ready() -> None:
    """Say once that the service is up."""
    if "ready" not in _told:
        _told.add("ready")
        _send("READY=1")


def alive() -> None:
    """Feed the watchdog."""
    _send("WATCHDOG=1")


def stopping() -> None:
    """Say that the service goes down."""
    _send("STOPPING=1")
