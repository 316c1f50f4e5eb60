# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What a host is, read from its files alone; `root` lets a test put a directory in the place of the file system."""

from __future__ import annotations

import json
import os
import platform
import re
import typing as t
from pathlib import Path

from ansible_collections.flowfleet.langflow.plugins.module_utils import _proc_net


def _read(path: Path) -> str:
    """Give the content of a file; empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def operating_system(root: Path) -> dict[str, str]:
    """Give identifier and version from os-release."""
    values = dict(re.findall(r'^(\w+)="?(.*?)"?$', _read(root / "etc/os-release"), re.M))
    return {"id": values.get("ID", platform.system().lower()), "version": values.get("VERSION_ID", "")}


def memory_mb(root: Path) -> int:
    """Give the memory of the host in MB, or the limit of its control group when that is lower."""
    total = re.search(r"^MemTotal:\s+(\d+) kB", _read(root / "proc/meminfo"), re.M)
    limits = [int(total[1]) // 1024] if total else []
    limit = _read(root / "sys/fs/cgroup/memory.max").strip()
    if limit.isdigit():
        limits.append(int(limit) // 1024 // 1024)
    return min(limits, default=0)


def systemd_version(root: Path) -> int:
    """Give systemd's version when it is the running init, else 0."""
    if not (root / "run/systemd/system").is_dir():
        return 0
    for pattern in ("usr/lib/systemd", "lib/systemd", "usr/lib/*-linux-gnu*/systemd"):
        for library in sorted(root.glob(f"{pattern}/libsystemd-shared-*.so")):
            if found := re.search(r"-(\d+)", library.name):
                return int(found[1])
    return 0


def free_mb(root: Path, path: str) -> int:
    """Give the free space of the file system that would hold `path`."""
    place = root / path.lstrip("/")
    while not place.exists() and place != place.parent:
        place = place.parent
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize // 1024 // 1024


def _owners(root: Path) -> dict[str, Path]:
    """Map the inode of every open socket to a process."""
    owners: dict[str, Path] = {}
    for process in (root / "proc").glob("[0-9]*"):
        try:
            for entry in os.scandir(process / "fd"):
                number = _proc_net.socket_number(entry.path)
                if number:
                    owners.setdefault(number, process)
        except OSError:
            continue  # ended meanwhile, or not ours to look into
    return owners


def listeners(root: Path) -> list[dict[str, t.Any]]:
    """List listening TCP ports with address, process and systemd unit."""
    owners = _owners(root)
    found: dict[tuple[str, int], dict[str, t.Any]] = {}
    for table in _proc_net.TABLES:
        for row in _proc_net.rows(_read(root / "proc/net" / table)):
            if row.state != _proc_net.LISTENING:
                continue
            address, port = _proc_net.decode(row.local)
            process = owners.get(row.number)
            unit = ""
            if process:
                units = re.findall(r"([^/\n]+\.(?:service|socket|scope))", _read(process / "cgroup"))
                unit = units[-1] if units else ""
            item = {
                "address": address,
                "port": port,
                "process": _read(process / "comm").strip() if process else "",
                "unit": unit.replace("\\x2d", "-"),
            }
            found[address, port] = item
    return [found[key] for key in sorted(found, key=lambda key: (key[1], key[0]))]


def release(root: Path, path: str) -> dict[str, t.Any] | None:
    """Describe the Langflow release in use; nothing when there is none."""
    text = _read(root / path.lstrip("/"))
    try:
        content = json.loads(text) if text else None
    except ValueError:
        content = None
    return content if isinstance(content, dict) else ({"version": "unreadable"} if text else None)


def measure(paths: list[str], release_file: str, root: Path = Path("/")) -> dict[str, t.Any]:
    """Measure everything."""
    return {
        "os": operating_system(root),
        "python": platform.python_version(),
        "systemd": systemd_version(root),
        "memory_mb": memory_mb(root),
        "cpus": os.cpu_count() or 1,
        "disk_free_mb": {path: free_mb(root, path) for path in paths},
        "listeners": listeners(root),
        "release": release(root, release_file),
    }
