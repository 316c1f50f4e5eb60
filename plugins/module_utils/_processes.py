# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Processes of this host, as the kernel shows them."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator

PROC = "/proc"


@dataclasses.dataclass(frozen=True)
class Process:
    """One process; its start is known to a hundredth of a second."""

    pid: int
    parent: int
    started: float
    title: str


def read(*parts: str) -> str:
    """A file below C(/proc)."""
    with open(os.path.join(PROC, *parts), "rb") as stream:
        return stream.read().decode("utf-8", errors="replace")


def look(pid: int) -> Process | None:
    """One process, if it is there."""
    try:
        # The name in parentheses may hold anything; what follows the last one is numbers.
        fields = read(str(pid), "stat").rpartition(")")[2].split()
        title = read(str(pid), "cmdline").replace("\0", " ").strip()
    except OSError:
        return None
    if len(fields) < 20:
        return None
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return Process(pid, int(fields[1]), boot + int(fields[19]) / os.sysconf("SC_CLK_TCK"), title)


def everyone() -> Iterator[Process]:
    """All processes."""
    for entry in os.listdir(PROC):
        if entry.isdigit() and (process := look(int(entry))):
            yield process


def of_control_group(path: str) -> dict[int, Process]:
    """The processes of a unit, whose control group systemd gives."""
    found = {}
    for process in everyone():
        try:
            groups = [line.split(":", 2)[-1] for line in read(str(process.pid), "cgroup").splitlines()]
        except OSError:
            continue
        if any(group == path or group.startswith(f"{path}/") for group in groups):
            found[process.pid] = process
    return found
