# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses and sockets as this very kernel shows them."""

from __future__ import annotations

import os
import pathlib
import socket
import sys

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _proc_net as pn


@pytest.mark.parametrize(
    ("address", "port", "little"),
    [
        ("127.0.0.1", 7860, "0100007F:1EB4"),
        ("192.0.2.10", 80, "0A0200C0:0050"),
        ("::1", 443, "00000000000000000000000001000000:01BB"),
        ("2001:db8::7", 65535, "B80D0120000000000000000007000000:FFFF"),
    ],
)
def test_notation(address: str, port: int, little: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "byteorder", "little")
    assert pn.encode(address, port) == little
    assert pn.decode(little) == (address, port)
    monkeypatch.setattr(sys, "byteorder", "big")
    assert pn.decode(pn.encode(address, port)) == (address, port)
    assert pn.encode("127.0.0.1", 7860) == "7F000001:1EB4"


def test_real_sockets(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        accepted, _peer = listener.accept()
        with accepted:
            table = list(pn.rows(pathlib.Path("/proc/net/tcp").read_text(encoding="ascii")))
            mine = {pn.socket_number(f"/proc/self/fd/{one.fileno()}"): one for one in (listener, client, accepted)}
            found = {row.number: row for row in table if row.number in mine}
            assert set(found) == set(mine)
            for number, one in mine.items():
                assert pn.decode(found[number].local) == one.getsockname()
                assert found[number].state in ({pn.LISTENING} if one is listener else pn.OPEN)
            assert found[pn.socket_number(f"/proc/self/fd/{client.fileno()}")].remote == pn.encode(
                *listener.getsockname()
            )
    plain = tmp_path / "file"
    plain.touch()
    with plain.open() as stream:
        assert pn.socket_number(f"/proc/self/fd/{stream.fileno()}") is None
    with pytest.raises(FileNotFoundError):
        pn.socket_number(os.fspath(tmp_path / "none"))


@pytest.mark.parametrize("text", ["", "head only\n", "head\nshort line\n"])
def test_nothing_to_read(text: str) -> None:
    assert list(pn.rows(text)) == []
