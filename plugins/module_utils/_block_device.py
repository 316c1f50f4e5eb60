# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""What lies on a block device and who uses it, so that nothing is ever written over by mistake."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils._command import CommandMissing, Done

HEAD = 16 * 1024 * 1024
TAIL = 1024 * 1024
CHUNK = 1024 * 1024

Run = Callable[[Sequence[str]], Done]


class DeviceError(Exception):
    """The device could not be read."""


@dataclasses.dataclass(frozen=True)
class Paths:
    """Where the kernel tells about devices; tests bring their own."""

    sys: Path = Path("/sys/class/block")
    mountinfo: Path = Path("/proc/self/mountinfo")
    swaps: Path = Path("/proc/swaps")


def unescape(field: str) -> str:
    """Undo the octal escapes of C(/proc)."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def mounts(text: str) -> list[dict[str, str]]:
    """Each mount of a C(mountinfo) with its device number, source, type and place."""
    found = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        if separator and len(fields) > 4 and len(rest) > 1:
            found.append(
                {"number": fields[2], "path": unescape(fields[4]), "type": rest[0], "source": unescape(rest[1])}
            )
    return found


def mount_point(path: str, text: str) -> dict[str, Any]:
    """Whether something is mounted at I(path), and how many entries the directory has."""
    here = [mount for mount in mounts(text) if mount["path"] == os.path.normpath(path)]
    try:
        entries = len(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        entries = 0
    last = here[-1] if here else {}
    return {
        "mounted": bool(here),
        "source": os.path.realpath(last["source"]) if here and last["source"].startswith("/") else last.get("source"),
        "type": last.get("type"),
        "entries": entries,
    }


def is_blank(path: str, size: int, start: int = 0) -> bool:
    """Whether the begin and the end of a device are all zeros; I(start) is where its begin is."""
    with open(path, "rb") as stream:
        # What was written through a device built on this one is not in this one's cache.
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for begin, end in ((start, min(start + HEAD, size)), (max(start, size - TAIL), size)):
            stream.seek(begin)
            while chunk := stream.read(min(CHUNK, end - stream.tell())):
                if chunk.count(0) != len(chunk):
                    return False
    return True


def signatures(path: str, run: Run) -> list[dict[str, Any]]:
    """File systems, partition tables, LUKS headers and other things that C(wipefs) recognises."""
    done = run(["wipefs", "--no-act", "--json", path])
    if done.code:
        raise DeviceError(f"wipefs cannot read {path}: {done.err or done.out}")
    return list(json.loads(done.out or '{"signatures": []}')["signatures"]) if done.out else []


def unused(path: str, size: int, segments: Sequence[dict[str, Any]]) -> bool:
    """Whether nothing was ever written into a LUKS volume: whatever is, is no zero on the device."""
    return len(segments) == 1 and is_blank(path, size, int(segments[0]["offset"]))


def luks(path: str, size: int, found: Sequence[dict[str, Any]], run: Run) -> dict[str, Any]:
    """The LUKS header, without anything that is secret; empty when there is none."""
    header = next((item for item in found if item.get("type") == "crypto_LUKS"), None)
    if header is None:
        return {}
    answer: dict[str, Any] = {
        "uuid": header.get("uuid"),
        "label": header.get("label") or "",
        "version": None,
        "keyslots": [],
        "tokens": [],
        "digest": None,
        "unused": False,
    }
    try:
        done = run(["cryptsetup", "luksDump", "--dump-json-metadata", path])
    except CommandMissing:
        return answer
    if done.code:
        # Version 1 has no such metadata.
        return {**answer, "version": 1}
    data = json.loads(done.out)
    return {
        **answer,
        "version": 2,
        "keyslots": sorted(int(number) for number in data.get("keyslots", {})),
        "tokens": sorted(str(token.get("type")) for token in data.get("tokens", {}).values()),
        "digest": hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest(),
        "unused": unused(path, size, list(data.get("segments", {}).values())),
    }


def inspect(device: str, run: Run, paths: Paths = Paths()) -> dict[str, Any]:
    """Everything about one device. One that is not there has only C(exists) and C(path)."""
    real = os.path.realpath(device)
    try:
        status = os.stat(real)
    except FileNotFoundError:
        return {"device": device, "path": real, "exists": False}
    if not stat.S_ISBLK(status.st_mode):
        raise DeviceError(f"{device} is not a block device")
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return {"device": device, **describe(real, number, run, paths)}


def describe(real: str, number: str, run: Run, paths: Paths) -> dict[str, Any]:
    """What there is to say about the device I(real) with the number I(number)."""
    place = paths.sys / os.path.basename(real)
    size = int((place / "size").read_text()) * 512
    holders = sorted(entry.name for entry in (place / "holders").iterdir()) if (place / "holders").is_dir() else []
    partitions = sorted(entry.parent.name for entry in place.glob("*/partition"))
    table = paths.mountinfo.read_text()
    numbers = {number, *((paths.sys / name / "dev").read_text().strip() for name in [*holders, *partitions])}
    swaps = [unescape(line.split()[0]) for line in paths.swaps.read_text().splitlines()[1:] if line.strip()]
    found = signatures(real, run)
    return {
        "path": real,
        "exists": True,
        "size": size,
        "signatures": [{name: item.get(name) for name in ("type", "label", "uuid")} for item in found],
        "luks": luks(real, size, found, run),
        # Without a signature the contents decide: data without a known header is data too.
        "blank": not found and is_blank(real, size),
        "holders": holders,
        "partitions": partitions,
        "mounts": sorted({mount["path"] for mount in mounts(table) if mount["number"] in numbers}),
        "swap": any(os.path.realpath(swap) == real for swap in swaps),
    }
