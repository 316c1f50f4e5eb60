"""What counts as data on a device, and who uses it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _block_device as blocks
from ansible_collections.flowfleet.langflow.plugins.module_utils._command import CommandMissing, Done

SIZE = 64 * 1024 * 1024


def tools(answers: dict[str, Done | Exception]) -> Callable[[Sequence[str]], Done]:
    """Programs that answer what they are told to."""

    def run(argv: Sequence[str]) -> Done:
        answer = answers[argv[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return run


def wipefs(*kinds: str, label: str | None = None) -> Done:
    found = [{"device": "vdb", "offset": "0x0", "type": kind, "uuid": "u-1", "label": label} for kind in kinds]
    return Done(0, json.dumps({"signatures": found}) if found else "", "")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A device of zeros, as far as a file can be one."""
    path = tmp_path / "vdb"
    with path.open("wb") as stream:
        stream.truncate(SIZE)
    return path


@pytest.fixture
def kernel(tmp_path: Path) -> blocks.Paths:
    """What the kernel tells about an unused device."""
    sys = tmp_path / "sys"
    (sys / "vdb/holders").mkdir(parents=True)
    (sys / "vdb/size").write_text(f"{SIZE // 512}\n")
    (tmp_path / "mountinfo").write_text("22 1 254:0 / / rw - ext4 /dev/vda rw\n")
    (tmp_path / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")
    return blocks.Paths(sys, tmp_path / "mountinfo", tmp_path / "swaps")


def test_zeros_without_a_signature_are_blank(disk: Path, kernel: blocks.Paths) -> None:
    found = blocks.describe(str(disk), "254:16", tools({"wipefs": wipefs()}), kernel)
    assert found["blank"]
    assert (found["holders"], found["partitions"], found["mounts"], found["swap"]) == ([], [], [], False)
    assert found["size"] == SIZE


@pytest.mark.parametrize("offset", [0, 1, blocks.HEAD - 1, SIZE - blocks.TAIL, SIZE - 1])
def test_one_byte_at_either_end_is_data(disk: Path, kernel: blocks.Paths, offset: int) -> None:
    with disk.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\x01")
    assert not blocks.describe(str(disk), "254:16", tools({"wipefs": wipefs()}), kernel)["blank"]


@pytest.mark.parametrize("size", [0, 1, 4096, blocks.TAIL, blocks.HEAD])
def test_small_devices(tmp_path: Path, size: int) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"\0" * size)
    assert blocks.is_blank(str(path), size)
    if size:
        path.write_bytes(b"\0" * (size - 1) + b"x")
        assert not blocks.is_blank(str(path), size)


@pytest.mark.parametrize("kind", ["ext4", "dos", "LVM2_member", "zfs_member", "crypto_LUKS", "swap"])
def test_a_signature_is_data_even_on_zeros(disk: Path, kernel: blocks.Paths, kind: str) -> None:
    run = tools({"wipefs": wipefs(kind), "cryptsetup": Done(1, "", "no")})
    assert not blocks.describe(str(disk), "254:16", run, kernel)["blank"]


def test_users_of_a_device(disk: Path, kernel: blocks.Paths) -> None:
    (kernel.sys / "vdb/holders/dm-0").touch()
    (kernel.sys / "dm-0").mkdir()
    (kernel.sys / "dm-0/dev").write_text("252:0\n")
    (kernel.sys / "vdb/vdb1").mkdir()
    (kernel.sys / "vdb/vdb1/partition").write_text("1\n")
    (kernel.sys / "vdb1").mkdir()
    (kernel.sys / "vdb1/dev").write_text("254:17\n")
    kernel.mountinfo.write_text(
        "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
        "40 22 252:0 / /srv/with\\040space rw - ext4 /dev/mapper/x rw\n"
        "41 22 254:17 / /boot rw shared:1 - vfat /dev/vdb1 rw\n"
    )
    kernel.swaps.write_text(f"Filename\tType\tSize\tUsed\tPriority\n{disk}\tpartition\t1\t0\t-2\n")
    found = blocks.describe(str(disk), "254:16", tools({"wipefs": wipefs()}), kernel)
    assert found["holders"] == ["dm-0"]
    assert found["partitions"] == ["vdb1"]
    assert found["mounts"] == ["/boot", "/srv/with space"]
    assert found["swap"]


METADATA: dict[str, Any] = {
    "keyslots": {"1": {"kdf": {"salt": "one"}}, "0": {"kdf": {"salt": "two"}}},
    "tokens": {"0": {"type": "clevis", "keyslots": ["1"]}},
    "segments": {"0": {"type": "crypt", "offset": str(blocks.HEAD), "size": "dynamic"}},
}


def header(disk: Path, kernel: blocks.Paths, metadata: dict[str, Any]) -> dict[str, Any]:
    run = tools({"wipefs": wipefs("crypto_LUKS", label="pgdata"), "cryptsetup": Done(0, json.dumps(metadata), "")})
    return dict(blocks.describe(str(disk), "254:16", run, kernel)["luks"])


def test_luks_header(disk: Path, kernel: blocks.Paths) -> None:
    found = header(disk, kernel, METADATA)
    assert len(found.pop("digest")) == 64
    assert found == {
        "uuid": "u-1",
        "label": "pgdata",
        "version": 2,
        "keyslots": [0, 1],
        "tokens": ["clevis"],
        "unused": True,
    }


def test_another_key_in_the_same_slot_is_another_header(disk: Path, kernel: blocks.Paths) -> None:
    exchanged = {**METADATA, "keyslots": {**METADATA["keyslots"], "1": {"kdf": {"salt": "three"}}}}
    before, same, after = (header(disk, kernel, data)["digest"] for data in (METADATA, METADATA, exchanged))
    assert before == same != after


@pytest.mark.parametrize(
    ("offset", "wanted"),
    [(0, True), (blocks.HEAD - 1, True), (blocks.HEAD, False), (blocks.HEAD + 1024, False), (SIZE - 1, False)],
)
def test_only_a_volume_that_was_never_written_to_is_unused(
    disk: Path, kernel: blocks.Paths, offset: int, wanted: bool
) -> None:
    """The header itself, before the first segment, does not count."""
    with disk.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\x01")
    assert header(disk, kernel, METADATA)["unused"] is wanted


@pytest.mark.parametrize("segments", [{}, {"0": {"offset": "0"}, "1": {"offset": "4096"}}])
def test_a_volume_that_is_being_encrypted_anew_is_in_use(
    disk: Path, kernel: blocks.Paths, segments: dict[str, Any]
) -> None:
    assert header(disk, kernel, {**METADATA, "segments": segments})["unused"] is False


@pytest.mark.parametrize(("answer", "version"), [(CommandMissing("cryptsetup"), None), (Done(1, "", "not 2"), 1)])
def test_luks_header_without_details(
    disk: Path, kernel: blocks.Paths, answer: Done | Exception, version: int | None
) -> None:
    run = tools({"wipefs": wipefs("crypto_LUKS"), "cryptsetup": answer})
    found = blocks.describe(str(disk), "254:16", run, kernel)["luks"]
    assert (found["version"], found["label"], found["keyslots"]) == (version, "", [])
    assert found["unused"] is False


def test_a_device_that_cannot_be_read(disk: Path, kernel: blocks.Paths) -> None:
    with pytest.raises(blocks.DeviceError, match="wipefs cannot read"):
        blocks.describe(str(disk), "254:16", tools({"wipefs": Done(1, "", "I/O error")}), kernel)


def test_devices_that_are_none(tmp_path: Path) -> None:
    assert blocks.inspect(str(tmp_path / "gone"), tools({})) == {
        "device": str(tmp_path / "gone"),
        "path": str(tmp_path / "gone"),
        "exists": False,
    }
    with pytest.raises(blocks.DeviceError, match="not a block device"):
        blocks.inspect(str(tmp_path), tools({}))


def test_mount_points(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    table = f"22 1 254:0 / / rw - ext4 /dev/vda rw\n40 22 0:50 / {tmp_path} rw - tmpfs tmpfs rw\n"
    assert blocks.mount_point(str(tmp_path), table) == {
        "mounted": True,
        "source": "tmpfs",
        "type": "tmpfs",
        "entries": len(os.listdir(tmp_path)),
    }
    assert blocks.mount_point("/nowhere/at/all", table) == {
        "mounted": False,
        "source": None,
        "type": None,
        "entries": 0,
    }
