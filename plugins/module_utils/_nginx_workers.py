# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Which workers Nginx has, and which of their connections lead to a backend.

Nginx keeps the numbers of its backends to itself, so the kernel is asked. A connection of a worker to a backend is
either a request or an idle one that is kept for the next request, and nothing outside of Nginx can tell these apart.
After a reload this does not matter any more:

* New workers follow the new configuration. They never connect to a backend that is marked C(down).
* Old workers close their idle connections when they are told to leave. What they still hold are requests and streams.

So all connections to a backend that is down in the configuration that runs are work in progress.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from collections.abc import Iterable, Iterator

from ansible_collections.flowfleet.langflow.plugins.module_utils import _proc_net, _processes

MASTER = "nginx: master process"
WORKER = "nginx: worker process"
LEAVING = "nginx: worker process is shutting"


class WorkersError(Exception):
    """The processes or their connections cannot be looked at."""


@dataclasses.dataclass(frozen=True)
class Worker:
    """One worker process."""

    pid: int
    started: float
    leaving: bool


@dataclasses.dataclass(frozen=True)
class Processes:
    """The master, if Nginx runs, and its workers."""

    master: int | None = None
    workers: tuple[Worker, ...] = ()

    @property
    def current(self) -> tuple[Worker, ...]:
        """Workers that take new requests."""
        return tuple(worker for worker in self.workers if not worker.leaving)

    @property
    def leaving(self) -> tuple[Worker, ...]:
        """Workers of an earlier configuration that finish what they have begun."""
        return tuple(worker for worker in self.workers if worker.leaving)


def _master(pid_file: str) -> int | None:
    """The process the file names, if it is an Nginx."""
    try:
        with open(pid_file, encoding="ascii", errors="replace") as stream:
            pid = stream.read().strip()
    except OSError:
        return None
    process = _processes.look(int(pid)) if pid.isdigit() else None
    return process.pid if process and process.title.startswith(MASTER) else None


def processes(pid_file: str) -> Processes:
    """Look at the processes once."""
    master = _master(pid_file)
    if master is None:
        return Processes()
    workers = (
        Worker(process.pid, process.started, process.title.startswith(LEAVING))
        for process in _processes.everyone()
        if process.parent == master and process.title.startswith(WORKER)
    )
    return Processes(master, tuple(sorted(workers, key=lambda worker: worker.pid)))


def endpoints(address: str, port: int) -> frozenset[str]:
    """All addresses of a backend, in the notation of the kernel; none if the name is unknown."""
    try:
        answers = socket.getaddrinfo(address, port, proto=socket.IPPROTO_TCP)
    except OSError:
        return frozenset()
    found = {str(answer[4][0]).partition("%")[0] for answer in answers}
    mapped = {f"::ffff:{one}" for one in found if ":" not in one}
    return frozenset(_proc_net.encode(one, port) for one in found | mapped)


def _sockets(pid: int) -> Iterator[str]:
    """Numbers of the sockets a process holds."""
    directory = os.path.join(_processes.PROC, str(pid), "fd")
    try:
        entries = os.listdir(directory)
    except FileNotFoundError:
        return  # ended meanwhile
    except PermissionError:
        raise WorkersError("only root can see the connections of Nginx: run this task with become: true") from None
    for entry in entries:
        with contextlib.suppress(OSError):
            number = _proc_net.socket_number(os.path.join(directory, entry))
            if number:
                yield number


def connections(workers: Iterable[Worker]) -> list[tuple[Worker, str]]:
    """Each open TCP connection of these workers, with its other end in the notation of the kernel."""
    owners = {number: worker for worker in workers for number in _sockets(worker.pid)}
    found = []
    for table in _proc_net.TABLES:
        try:
            text = _processes.read("net", table)
        except FileNotFoundError:
            continue
        for row in _proc_net.rows(text):
            if row.state in _proc_net.OPEN and row.number in owners:
                found.append((owners[row.number], row.remote))
    return found


def count(workers: Iterable[Worker], ends: frozenset[str]) -> int:
    """How many connections to these addresses there are."""
    return sum(remote in ends for _worker, remote in connections(workers))
