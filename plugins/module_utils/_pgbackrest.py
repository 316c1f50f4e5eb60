# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Call pgBackRest as the account that owns the data, and understand what it says about a repository."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _command

ACCOUNT = "postgres"
TYPES = ("full", "diff", "incr")
# How a time is given to pgBackRest and PostgreSQL: with a zone, so that nobody's local time matters.
TARGET_TIME = re.compile(r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d(:?\d\d)?)$")
TIMELINE = re.compile(r"^([1-9]\d*|current|latest)$")
ENVIRONMENT_NAME = "PGBACKREST_REPO1_CIPHER_PASS"

# What setpriv ends with when there is no such program.
NOT_FOUND = 127

# What pgBackRest ends with when another one holds the lock.
LOCKED = 50

# Codes of `info` for one stanza.
NO_STANZA = (1, 3)
NO_BACKUP = 2
OK = 0


TARGET_OPTIONS: dict[str, dict[str, Any]] = {
    "type": {"type": "str", "choices": ["latest", "immediate", "time", "name"], "default": "latest"},
    "target": {"type": "str", "default": ""},
    "backup_set": {"type": "str", "default": ""},
}


def common_options(*, timeout: float, passphrase: bool = False) -> dict[str, dict[str, Any]]:
    """What every module has; I(timeout) is its default."""
    found: dict[str, dict[str, Any]] = {
        "stanza": {"type": "str", "required": True},
        "timeout": {"type": "float", "default": timeout},
    }
    if passphrase:
        found["cipher_passphrase"] = {"type": "str", "no_log": True}
    return found


class BackupError(Exception):
    """pgBackRest could not do what it was asked to."""


def as_account(argv: Sequence[str], account: str = ACCOUNT) -> list[str]:
    """I(argv) run by I(account), which takes over before the program starts: no shell, no session."""
    return ["setpriv", f"--reuid={account}", f"--regid={account}", "--init-groups", "--", *argv]


def run_as_account(
    argv: Sequence[str], *, timeout: float, environment: Mapping[str, str] | None = None
) -> _command.Done:
    """Run I(argv); without the account, whose packages bring it, the program counts as missing."""
    done = _command.run(as_account(argv), timeout=timeout, environment=environment)
    if done.code != 0 and (f"'{ACCOUNT}'" in done.err and "reuid" in done.err or done.code == NOT_FOUND):
        raise _command.CommandMissing(argv[0])
    return done


def call(
    command: str,
    options: Sequence[str],
    *,
    timeout: float,
    cipher_passphrase: str | None = None,
) -> _command.Done:
    """One command of pgBackRest. The passphrase goes through the environment: arguments can be read by everybody."""
    environment = {ENVIRONMENT_NAME: cipher_passphrase} if cipher_passphrase else {}
    try:
        return run_as_account(["pgbackrest", *options, command], timeout=timeout, environment=environment)
    except _command.CommandTimeout:
        raise BackupError(f"pgbackrest {command} did not end within {timeout:g} s") from None


def complaint(done: _command.Done) -> str:
    """What went wrong, in the words of the program: its errors, or the last lines when there are none."""
    lines = [line.strip() for line in (done.err + "\n" + done.out).splitlines() if line.strip()]
    # It repeats all its options, which says nothing.
    lines = [line for line in lines if " command begin " not in line]
    errors = [line for line in lines if "ERROR:" in line or line.startswith("HINT:")]
    return " / ".join((errors or lines)[-6:]) or f"exit code {done.code}"


def moment(seconds: float | None) -> str:
    """A point in time for people and for YAML, in UTC."""
    if not seconds:
        return ""
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def epoch(target: str) -> float:
    """A time with a zone, in seconds since 1970."""
    if not TARGET_TIME.match(target):
        raise BackupError(f"{target!r} is not a time with a zone, such as 2026-11-22 14:05:00+00")
    try:
        return datetime.datetime.fromisoformat(target).timestamp()
    except ValueError as exc:
        raise BackupError(f"{target!r} is not a time: {exc}") from None


@dataclasses.dataclass(frozen=True)
class Backup:
    """One backup of a repository."""

    label: str
    type: str
    start: int
    stop: int
    database_bytes: int
    copied_bytes: int
    stored_bytes: int
    wal_start: str
    wal_stop: str
    lsn_start: str
    lsn_stop: str
    prior: str
    error: bool

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Backup:
        """From an entry of `info --output=json`."""
        times, sizes = raw.get("timestamp") or {}, raw.get("info") or {}
        wal, lsn = raw.get("archive") or {}, raw.get("lsn") or {}
        return cls(
            label=str(raw["label"]),
            type=str(raw.get("type") or ""),
            start=int(times.get("start") or 0),
            stop=int(times.get("stop") or 0),
            database_bytes=int(sizes.get("size") or 0),
            copied_bytes=int(sizes.get("delta") or 0),
            stored_bytes=int((sizes.get("repository") or {}).get("delta") or 0),
            wal_start=str(wal.get("start") or ""),
            wal_stop=str(wal.get("stop") or ""),
            lsn_start=str(lsn.get("start") or ""),
            lsn_stop=str(lsn.get("stop") or ""),
            prior=str(raw.get("prior") or ""),
            error=bool(raw.get("error")),
        )

    def result(self) -> dict[str, Any]:
        """For a task's result."""
        return {
            **dataclasses.asdict(self),
            "started": moment(self.start),
            "stopped": moment(self.stop),
            "seconds": max(self.stop - self.start, 0),
        }


@dataclasses.dataclass(frozen=True)
class Repository:
    """What `info` says about one stanza."""

    exists: bool
    code: int
    message: str
    locked: bool = False
    cipher: str = ""
    backups: tuple[Backup, ...] = ()
    wal_min: str = ""
    wal_max: str = ""

    @property
    def newest(self) -> Backup | None:
        """The last backup that is whole."""
        return self.backups[-1] if self.backups else None

    def begin(self, kind: str, target: str = "", backup_set: str = "", now: float | None = None) -> Backup:
        """The backup that a restore begins with. pgBackRest takes the newest one when none fits, and fails late."""
        labels = [backup.label for backup in self.backups]
        if not self.backups:
            raise BackupError("the repository has no backup")
        if backup_set and backup_set not in labels:
            raise BackupError(f"the repository has no backup {backup_set}, only {', '.join(labels)}")
        chosen = [backup for backup in self.backups if backup_set in ("", backup.label)]
        if kind != "time":
            return chosen[-1]
        seconds = epoch(target)
        if seconds > (time.time() if now is None else now):
            raise BackupError(f"{target} has not come yet")
        fitting = [backup for backup in chosen if backup.stop < seconds]
        if not fitting:
            which = "backup" if backup_set else "oldest backup"
            raise BackupError(
                f"{target} is before the end of the {which} {chosen[0].label} ({moment(chosen[0].stop)}): "
                "a restore can only go forward from a backup"
            )
        return fitting[-1]

    def result(self) -> dict[str, Any]:
        """For a task's result."""
        newest = self.newest
        return {
            "exists": self.exists,
            "code": self.code,
            "message": self.message,
            "locked": self.locked,
            "encrypted": self.cipher not in ("", "none"),
            "backups": [backup.result() for backup in self.backups],
            "newest": newest.result() if newest else {},
            "wal_min": self.wal_min,
            "wal_max": self.wal_max,
        }


MISSING = Repository(exists=False, code=NO_STANZA[0], message="pgBackRest is not installed or knows no such stanza")


def parse(text: str, stanza: str) -> Repository:
    """Read the answer of `info --output=json`; only the stanza that was asked for counts."""
    try:
        # Not strict: a message may hold what a wrong key has made of a file.
        entries = json.loads(text, strict=False)
        if not isinstance(entries, list):
            raise ValueError
        entry = next((item for item in entries if item.get("name") == stanza), None)
    except (ValueError, AttributeError):
        raise BackupError("pgbackrest info did not answer in JSON") from None
    if entry is None:
        return MISSING
    status = entry.get("status") or {}
    code = int(status.get("code") or 0)
    archives = entry.get("archive") or []
    # The last one belongs to the present major version.
    archive = archives[-1] if archives else {}
    message = str(status.get("message") or "")
    if code == 99:
        # The words of the repository itself may hold what a wrong key has made of a file.
        errors = [str((item.get("status") or {}).get("message") or "") for item in entry.get("repo") or []]
        words = next((error for error in errors if error), "").split("\n")[0]
        message = f"{''.join(c for c in words if c.isascii() and c.isprintable())} (is the passphrase right?)"
    lock = ((status.get("lock") or {}).get("backup") or {}).get("held")
    return Repository(
        exists=code not in NO_STANZA,
        code=code,
        message=message,
        locked=bool(lock),
        cipher=str(entry.get("cipher") or ""),
        backups=tuple(Backup.read(raw) for raw in entry.get("backup") or []),
        wal_min=str(archive.get("min") or ""),
        wal_max=str(archive.get("max") or ""),
    )


def info(stanza: str, *, timeout: float = 300.0, cipher_passphrase: str | None = None) -> Repository:
    """What is in the repository. Raises when it cannot be read, with a wrong passphrase for example."""
    done = call(
        "info",
        [f"--stanza={stanza}", "--output=json", "--log-level-console=off", "--log-level-stderr=error"],
        timeout=timeout,
        cipher_passphrase=cipher_passphrase,
    )
    if done.code != 0:
        raise BackupError(f"pgbackrest info: {complaint(done)}")
    found = parse(done.out, stanza)
    if found.code > NO_BACKUP and found.code not in NO_STANZA and not found.backups:
        raise BackupError(f"the repository cannot be read: {found.message}")
    return found


def judge_verify(done: _command.Done) -> tuple[str, str]:
    """What `verify --output=text --verbose` found wrong, and how much it looked at. Its exit code says nothing."""
    lines = [line.strip() for line in done.out.splitlines() if line.strip()]
    verdict = next((line for line in lines if line.startswith("status:")), "")
    if done.code == 0 and verdict == "status: ok":
        segments = sum(int(number) for number in re.findall(r"total WAL checked: (\d+)", done.out))
        files = sum(int(number) for number in re.findall(r"total files checked: (\d+)", done.out))
        return "", f"{segments} WAL segments and {files} files are whole"
    suspicious = [
        line
        for line in lines
        if line.startswith(("No usable", "backup:"))
        and ", status: valid" not in line
        or re.search(r"(missing|invalid|other): [1-9]", line)
        or line.startswith("archiveId")
        and not re.search(r"total WAL checked: (\d+), total valid WAL: \1(?!\d)", line)
    ]
    return "; ".join(suspicious[:8]) or complaint(done), ""


def restore_options(
    *,
    stanza: str,
    path: str,
    kind: str,
    target: str = "",
    backup_set: str = "",
    config: str = "",
    scratch: bool = True,
    process_max: int = 0,
    target_action: str = "promote",
    target_timeline: str = "",
    log_path: str = "",
) -> list[str]:
    """The options of `restore`; refuses what could not mean anything."""
    options = [f"--stanza={stanza}", f"--pg1-path={path}", "--log-level-console=info"]
    if config:
        options.append(f"--config={config}")
    if kind not in ("latest", "immediate", "time", "name"):
        raise BackupError(f"there is no kind of restore called {kind!r}")
    if kind in ("time", "name") and not target:
        raise BackupError(f"a restore to a {kind} needs a target")
    if kind == "time" and not TARGET_TIME.match(target):
        raise BackupError(f"{target!r} is not a time with a zone, such as 2026-11-22 14:05:00+00")
    if kind in ("latest", "immediate") and target:
        raise BackupError(f"a restore to {kind} takes no target")
    if kind != "latest":
        options.append(f"--type={kind}")
        options.append(f"--target-action={target_action}")
    if target:
        options.append(f"--target={_target(kind, target)}")
    if target_timeline:
        if not TIMELINE.match(target_timeline):
            raise BackupError(f"{target_timeline!r} is no timeline: give its number, current or latest")
        options.append(f"--target-timeline={target_timeline}")
    if backup_set:
        options.append(f"--set={backup_set}")
    if scratch:
        # A copy must never write into the archive of the original, nor into its tablespaces.
        options.append("--archive-mode=off")
        options.append(f"--tablespace-map-all={path}.tablespaces")
    if process_max:
        options.append(f"--process-max={process_max}")
    if log_path:
        options.append(f"--log-path={log_path}")
    return options


def _target(kind: str, target: str) -> str:
    """pgBackRest wants a blank between date and time and a zone in digits."""
    if kind != "time":
        return target
    return re.sub(r"Z$", "+00", target.replace("T", " ", 1))
