# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Start, find and stop the one load generator of a directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import (
    _command,
    _langflow_api,
    _lock,
    _probe,
    _request_probe,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._request_probe import (
    LOG,
    MARKS,
    NAME,
    PLAN,
    RESULTS,
    Plan,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._request_probe_report import BEFORE, read_marks

# What the detached process is made of: it must not need the files of a task that has ended.
PARTS = (_command, _probe, _langflow_api, _request_probe)
PROGRAM, PROCESS, CONTROL, PREVIOUS = "generator.pyz", "generator.pid", "control.lock", "previous"
MAIN = "import sys\nfrom {name} import main\nsys.exit(main(sys.argv))\n"
READY_TIMEOUT = 30.0


class ControlError(Exception):
    """The probe cannot be started, found or stopped."""


def make_program(path: str) -> None:
    """Pack the generator into one file that Python can run."""
    with zipfile.ZipFile(path, "w") as archive:
        packages: set[str] = set()
        for part in PARTS:
            name = part.__name__
            source = part.__loader__.get_source(name) if part.__loader__ is not None else None  # type: ignore[attr-defined]
            if source is None:
                raise ControlError(f"the source of {name} is missing")
            archive.writestr(f"{name.replace('.', '/')}.py", source)
            parents = name.split(".")[:-1]
            packages |= {"/".join(parents[:depth]) for depth in range(1, len(parents) + 1)}
        for package in sorted(packages):
            archive.writestr(f"{package}/__init__.py", "")
        archive.writestr("__main__.py", MAIN.format(name=_request_probe.__name__))


def prepare(directory: str) -> None:
    """A directory that nobody else can write to."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise ControlError(f"{directory} must be a directory of this user that no other can write to")


@contextlib.contextmanager
def control(directory: str) -> Iterator[None]:
    """One of us at a time."""
    try:
        with _lock.exclusive(os.path.join(directory, CONTROL), timeout=READY_TIMEOUT + 5):
            yield
    except _lock.LockTimeout as error:
        raise ControlError(str(error)) from None


def _held(path: str) -> bool:
    """Whether a living process holds the lock on I(path)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def running(directory: str) -> int | None:
    """The process of the generator. It holds a lock as long as it lives, so that no number is taken for another's."""
    path = os.path.join(directory, PROCESS)
    for _try in range(20):
        if not _held(path):
            return None
        with open(path, encoding="ascii") as handle:
            text = handle.read().strip()
        if text.isdigit():
            return int(text)
        time.sleep(0.05)
    raise ControlError(f"{path} is locked, but names no process")


def _archive(directory: str) -> None:
    """Keep what the last probe left, once."""
    previous = os.path.join(directory, PREVIOUS)
    if not os.path.exists(os.path.join(directory, RESULTS)):
        return
    if os.path.isdir(previous):
        shutil.rmtree(previous)
    os.mkdir(previous, 0o700)
    for name in (PLAN, RESULTS, MARKS, LOG):
        with contextlib.suppress(FileNotFoundError):
            os.rename(os.path.join(directory, name), os.path.join(previous, name))


def _first_line(process: subprocess.Popen[bytes], timeout: float) -> str:
    """What the generator says first, or nothing."""
    if process.stdout is None:
        return ""
    data = b""
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while b"\n" not in data and selector.select(max(0.0, deadline - time.monotonic())):
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                break
            data += piece
    return data.decode("utf-8", "replace").partition("\n")[0].strip()


def _launch(directory: str, api_key: str) -> int:
    """Start the detached process and wait until it sends."""
    program = os.path.join(directory, PROGRAM)
    make_program(program)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(os.path.join(directory, PROCESS), flags, 0o600)
    log = os.open(os.path.join(directory, LOG), flags | os.O_APPEND, 0o600)
    try:
        # The lock belongs to the open file, which the generator inherits and keeps when this process is gone.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", program, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            pass_fds=(lock,),
            start_new_session=True,
        )
        os.write(lock, f"{process.pid}\n".encode("ascii"))
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(json.dumps({"api_key": api_key}).encode())
        said = _first_line(process, READY_TIMEOUT)
        if said != "ready":
            process.kill()
            process.wait()
            raise ControlError(f"the generator does not start: {said or f'see {os.path.join(directory, LOG)}'}")
        return process.pid
    finally:
        os.close(lock)
        os.close(log)


def start(directory: str, plan: Plan, api_key: str) -> int:
    """Start a generator, unless there is one."""
    prepare(directory)
    with control(directory):
        pid = running(directory)
        if pid is not None:
            raise ControlError(f"a probe runs in {directory} already, as process {pid}")
        _archive(directory)
        descriptor = os.open(
            os.path.join(directory, PLAN), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600
        )
        with open(descriptor, "w", encoding="utf-8") as handle:
            handle.write(plan.as_json())
        return _launch(directory, api_key)


def _signal(pid: int, directory: str, number: int) -> None:
    """Signal the process that held the lock a moment ago, and no later one of the same number."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if running(directory) == pid:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def _gone(directory: str, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while _held(os.path.join(directory, PROCESS)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def stop(directory: str, timeout: float) -> bool:
    """End the generator after it has waited for what is under way; whether there was one."""
    if not os.path.isdir(directory):
        return False
    with control(directory):
        pid = running(directory)
        if pid is None:
            return False
        _signal(pid, directory, signal.SIGTERM)
        if not _gone(directory, timeout):
            _signal(pid, directory, signal.SIGKILL)
            if not _gone(directory, 10.0):
                raise ControlError(f"process {pid} does not end")
        return True


def set_mark(directory: str, name: str) -> dict[str, Any]:
    """Begin a new window of time."""
    check_mark(name)
    if not os.path.isdir(directory) or running(directory) is None:
        raise ControlError(f"no probe runs in {directory}, so that there is nothing to mark")
    with control(directory):
        if name in [mark["mark"] for mark in read_marks(directory)]:
            raise ControlError(f"the mark {name!r} is set already")
        entry = {"mark": name, "monotonic": time.monotonic(), "time": time.time()}
        journal = _request_probe.Journal(os.path.join(directory, MARKS))
        journal.write(entry)
        journal.close()
    return entry


def check_mark(name: str) -> None:
    """Refuse what is no name for a window."""
    if not NAME.match(name) or name == BEFORE:
        raise ControlError(
            f"{name!r} is no name for a mark: letters, digits, dot, dash and underscore, and not {BEFORE!r}"
        )
