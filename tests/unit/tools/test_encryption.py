# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The encryption drill: what its search finds, and that its list of volumes is one that the role takes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3]))
encryption: Any = importlib.import_module("tools.drills.encryption")

WORD = "row-0123456789abcdef"


@pytest.mark.parametrize("at", [0, 4096 - 5, 1024 * 1024 - len(WORD)])
def test_a_text_is_found_wherever_it_lies(tmp_path: Path, at: int) -> None:
    disk = encryption.blank(tmp_path / "disk", 1)
    assert encryption.occurrences(disk, WORD) == 0
    with disk.open("r+b") as stream:
        stream.seek(at)
        stream.write(WORD.encode())
    assert encryption.occurrences(disk, WORD) == 1


def test_every_copy_counts(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xff" + WORD.encode() * 3 + b"\0" * 100 + WORD.encode())
    assert encryption.occurrences(disk, WORD) == 4


def test_one_byte_is_another_disk(tmp_path: Path) -> None:
    disk = encryption.blank(tmp_path / "disk", 1)
    before = encryption.digest(disk)
    assert encryption.digest(disk) == before
    with disk.open("r+b") as stream:
        stream.seek(1024 * 1024 - 1)
        stream.write(b"\x01")
    assert encryption.digest(disk) != before


@pytest.mark.parametrize(
    ("output", "wanted"),
    [("vm1 : ok=12   changed=0    unreachable=0", "0"), ("vm1 : ok=12   changed=17    failed=0", "17"), ("", "?")],
)
def test_the_recap(output: str, wanted: str) -> None:
    assert encryption.changed(output) == wanted


def test_every_way_to_open_a_volume_is_in_the_drill() -> None:
    found = {entry.get("unlock", entry.get("method")) for entry in encryption.VOLUMES}
    # The Tang server is set up later, and its volume with it.
    assert found == {"keyfile", "tpm2", "none", "fscrypt"}
    assert len({entry["mount"] for entry in encryption.VOLUMES}) == len(encryption.VOLUMES)
