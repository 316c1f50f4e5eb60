# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""What systemd says about one unit, and whether its process still runs what is on disk."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.flowfleet.langflow.plugins.module_utils import _command

STAMPS = "/run/flowfleet"
PROPERTIES = (
    "Id",
    "LoadState",
    "DropInPaths",
    "LoadError",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "FragmentPath",
    "Type",
    "RemainAfterExit",
    "MainPID",
    "ExecMainStartTimestamp",
    "InactiveExitTimestamp",
    "ActiveEnterTimestamp",
    "InvocationID",
    "NeedDaemonReload",
    "NRestarts",
    "CanReload",
    "Result",
    "ExecMainStatus",
)
ACTIVE = ("active", "reloading", "refreshing")
WAITING_FOR_RESTART = ("auto-restart", "auto-restart-queued")
# States for which enabling or disabling means nothing.
FIXED_FILE_STATES = ("static", "generated", "alias", "transient", "indirect")


class SystemdError(Exception):
    """systemctl could not do what it was asked to."""


def systemctl(*arguments: str, timeout: float = 60.0) -> str:
    """Run systemctl and return what it prints."""
    command = f"systemctl {' '.join(arguments)}"
    try:
        done = _command.run(
            ["systemctl", "--no-ask-password", "--no-pager", *arguments], timeout=timeout, environment={"TZ": "UTC"}
        )
    except _command.CommandMissing:
        raise SystemdError("systemctl is not installed: this host does not run systemd") from None
    except _command.CommandTimeout:
        raise SystemdError(f"{command} did not end within {timeout:g} s") from None
    if done.code != 0:
        raise SystemdError(f"{command} ended with {done.code}: {done.err}")
    return done.out


def parse_properties(text: str) -> dict[str, str]:
    """The C(Name=value) lines of C(systemctl show)."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value for name, _separator, value in pairs}


def parse_timestamp(text: str) -> float | None:
    """Seconds since the epoch of C(Sun 2026-11-22 00:13:22.123456 UTC)."""
    words = text.split()
    if len(words) != 4 or words[3] != "UTC":
        return None
    form = "%Y-%m-%d %H:%M:%S.%f" if "." in words[2] else "%Y-%m-%d %H:%M:%S"
    try:
        moment = datetime.datetime.strptime(f"{words[1]} {words[2]}", form)
    except ValueError:
        return None
    return moment.replace(tzinfo=datetime.UTC).timestamp()


@dataclasses.dataclass(frozen=True)
class Unit:
    """One answer of C(systemctl show)."""

    name: str
    properties: Mapping[str, str]

    def get(self, key: str) -> str:
        """A property, empty if this type of unit has no such one."""
        return self.properties.get(key, "")

    @property
    def known(self) -> bool:
        """Whether there is such a unit."""
        return self.get("LoadState") not in ("not-found", "")

    @property
    def needs_daemon_reload(self) -> bool:
        """Whether the unit's files are newer than what systemd has read."""
        return self.get("NeedDaemonReload") == "yes"

    @property
    def running(self) -> bool:
        """Whether it is up, or on its way up for the first time."""
        if self.get("ActiveState") in ACTIVE:
            return True
        return self.get("ActiveState") == "activating" and not self.waiting_for_restart

    @property
    def starting(self) -> bool:
        """Whether its start is not complete yet."""
        return self.running and self.get("ActiveState") == "activating"

    @property
    def waiting_for_restart(self) -> bool:
        """Whether it has crashed and systemd is about to try again."""
        return self.get("SubState") in WAITING_FOR_RESTART

    @property
    def failed(self) -> bool:
        """Whether systemd has given up on it."""
        return self.get("ActiveState") == "failed"

    @property
    def restarts(self) -> int:
        """How often systemd has restarted it by itself."""
        return int(self.get("NRestarts") or 0)

    @property
    def started(self) -> float | None:
        """When what runs now was started."""
        if self.get("MainPID") not in ("", "0"):
            moment = parse_timestamp(self.get("ExecMainStartTimestamp"))
            if moment is not None:
                return moment
        # No main process: a one-off that remains, a socket, a timer. It read its files after it left "inactive".
        for stamp in ("InactiveExitTimestamp", "ActiveEnterTimestamp"):
            moment = parse_timestamp(self.get(stamp))
            if moment is not None:
                return moment
        return None

    def state(self) -> dict[str, str]:
        """What helps a person who has to find out what is wrong; nothing of it can be secret."""
        keys = ("LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "NRestarts")
        return {key: self.get(key) for key in keys if self.get(key)}

    def sentence(self) -> str:
        """The same in one line, with the command that tells more."""
        facts = ", ".join(f"{key}={value}" for key, value in self.state().items())
        return f"{self.name}: {facts}; see `journalctl -u {self.name} -n 50` on the host"


def show(name: str) -> Unit:
    """Ask systemd about one unit."""
    text = systemctl("show", name, "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}")
    return Unit(name, parse_properties(text))


def newest(paths: Iterable[str]) -> tuple[float, str] | None:
    """The latest change of any existing path, of links and of what they lead to."""
    found: tuple[float, str] | None = None
    for path in paths:
        for look in (os.lstat, os.stat):
            try:
                status = look(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            # A time of change that lies in the future was set by hand, no later than at the last status change.
            moment = min(status.st_mtime, status.st_ctime)
            if found is None or moment > found[0]:
                found = (moment, path)
    return found


def stamp_path(name: str) -> str:
    """Where the time of our last reload of a unit is kept; it vanishes at boot like the process it is about."""
    return os.path.join(STAMPS, f"{name}.reloaded")


def last_reload(name: str) -> float | None:
    """When we last reloaded a unit."""
    try:
        return os.stat(stamp_path(name)).st_mtime
    except OSError:
        return None


def record_reload(name: str, moment_ns: int) -> None:
    """Keep the time just before a reload: what changes while it runs has to be reloaded again."""
    os.makedirs(STAMPS, mode=0o755, exist_ok=True)
    descriptor = os.open(stamp_path(name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        os.utime(descriptor, ns=(moment_ns, moment_ns))
    finally:
        os.close(descriptor)


def stale_because(unit: Unit, paths: Sequence[str], *, reloads_count: bool) -> str | None:
    """Why what runs is older than what is on disk, or nothing."""
    change = newest(paths)
    if change is None:
        return None
    since = unit.started
    if since is None:
        return f"{unit.name} does not say when it was started"
    if reloads_count:
        since = max(since, last_reload(unit.name) or since)
    moment, path = change
    return f"{path} is newer than the running process" if moment > since else None
