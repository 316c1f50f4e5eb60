# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""The state of some files and of a release before a change, kept so that it can be put back exactly.

One directory, for root only:

* C(manifest.json) says what was kept; it is replaced in one step, so there is always a whole one or none,
* C(<id>/0001) and so on are copies of the files.

A snapshot is C(open) from the moment it is taken until the change is C(settled) or undone (C(restored)). While it is
open, what lies in place may be half of one state and half of another, so it is never replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _lock, _release
from ansible_collections.flowfleet.langflow.plugins.module_utils._managed_files import (
    ApplyError,
    Item,
    Labels,
    Outcome,
    Transaction,
)

FORMAT = 1
MANIFEST = "manifest.json"
OPEN, SETTLED, RESTORED = "open", "settled", "restored"


class SnapshotError(Exception):
    """The snapshot cannot be taken or put back; nothing was changed."""


class Damaged(SnapshotError):
    """What is kept is not what was kept."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One path as it was."""

    path: str
    state: str
    uid: int = 0
    gid: int = 0
    mode: int = 0
    target: str = ""
    copy: str = ""
    size: int = 0
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Everything that is known about a snapshot."""

    id: str
    label: str
    release: str
    taken_at: str
    status: str
    entries: tuple[Entry, ...]

    def described(self) -> dict[str, Any]:
        """What may be shown."""
        return {
            "id": self.id,
            "label": self.label,
            "release": self.release,
            "taken_at": self.taken_at,
            "status": self.status,
        }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _write(path: Path, content: bytes) -> None:
    """A new file that is on the disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def look(path: str) -> tuple[Entry, bytes]:
    """A path as it is now, and the content if it is a file."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Entry(path, "absent"), b""
    owner: dict[str, Any] = {"uid": status.st_uid, "gid": status.st_gid, "mode": stat.S_IMODE(status.st_mode)}
    if stat.S_ISLNK(status.st_mode):
        return Entry(path, "link", **owner, target=os.readlink(path)), b""
    if stat.S_ISDIR(status.st_mode):
        return Entry(path, "directory", **owner), b""
    if not stat.S_ISREG(status.st_mode):
        raise SnapshotError(f"{path} is neither a file nor a directory nor a link")
    content = Path(path).read_bytes()
    return Entry(path, "file", **owner, size=len(content), sha256=_digest(content)), content


class Store:
    """The directory that holds one snapshot."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest = directory / MANIFEST

    @contextlib.contextmanager
    def locked(self, timeout: float = 60.0) -> Iterator[None]:
        """Make the directory, for root only, and keep everybody else out while it is changed."""
        self.directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        with _lock.exclusive(str(self.directory / ".lock"), timeout=timeout):
            yield

    # Reading

    def read(self) -> Snapshot | None:
        """The snapshot, if there is one."""
        try:
            text = self.manifest.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            document = json.loads(text)
            body = document["snapshot"]
            if document["format"] != FORMAT or document["sha256"] != _digest(_canonical(body)):
                raise ValueError
            entries = tuple(Entry(**entry) for entry in body["entries"])
            return Snapshot(**{**body, "entries": entries})
        except (ValueError, KeyError, TypeError):
            raise Damaged(
                f"{self.manifest} was damaged or changed by hand, it cannot be trusted; "
                f"if what is in place now is good, remove {self.directory}"
            ) from None

    def copy_of(self, snapshot: Snapshot, entry: Entry) -> Path:
        """Where the content of a file is kept."""
        return self.directory / snapshot.id / entry.copy

    def copies(self, snapshot: Snapshot) -> dict[str, str]:
        """For each kept file, where its content is."""
        return {entry.path: str(self.copy_of(snapshot, entry)) for entry in snapshot.entries if entry.state == "file"}

    def items(self, snapshot: Snapshot) -> list[Item]:
        """What has to be put in place, after every kept byte was found to be what it was."""
        status = os.stat(self.directory)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise Damaged(f"{self.directory} is not for root only: somebody else could have changed what is kept there")
        items = []
        for entry in snapshot.entries:
            owner: dict[str, Any] = {"owner": entry.uid, "group": entry.gid}
            if entry.state == "file":
                path = self.copy_of(snapshot, entry)
                try:
                    content = path.read_bytes()
                except OSError as error:
                    raise Damaged(f"the copy of {entry.path} cannot be read: {error.strerror}: {path}") from None
                if _digest(content) != entry.sha256:
                    raise Damaged(f"the copy of {entry.path} is not what was kept: {path}")
                items.append(Item(entry.path, content=content, mode=entry.mode, secret=True, **owner))
            elif entry.state == "directory":
                items.append(Item(entry.path, "directory", mode=entry.mode, **owner))
            elif entry.state == "link":
                items.append(Item(entry.path, "link", target=entry.target, **owner))
            elif not os.path.isdir(entry.path) or os.path.islink(entry.path):
                # A directory that was not there may stay: what was put into it goes.
                items.append(Item(entry.path, "absent"))
        return items

    # Writing; to be called with the lock

    def save(self, paths: Iterable[str], label: str, release: str) -> Snapshot:
        """Keep what is there now; what was kept before goes when all of the new is on the disk."""
        now = datetime.datetime.now(datetime.UTC)
        name = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        folder = self.directory / name
        os.chmod(self.directory, 0o700)
        folder.mkdir(mode=0o700)
        try:
            entries = []
            for number, path in enumerate(dict.fromkeys(paths), 1):
                entry, content = look(path)
                if entry.state == "file":
                    entry = dataclasses.replace(entry, copy=f"{number:04d}")
                    _write(folder / entry.copy, content)
                entries.append(entry)
            _sync(folder)
            taken = now.isoformat(timespec="seconds").replace("+00:00", "Z")
            snapshot = Snapshot(name, label, release, taken, OPEN, tuple(entries))
            staged = self._stage(snapshot)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._commit(staged)
        self._tidy(name)
        return snapshot

    def mark(self, snapshot: Snapshot, status: str, *, write: bool = True) -> Snapshot:
        """The same snapshot with another status."""
        marked = dataclasses.replace(snapshot, status=status)
        if write:
            self._commit(self._stage(marked))
        return marked

    def remove(self) -> None:
        """Forget it; the manifest goes first, so that a removal that is interrupted leaves no snapshot."""
        self.manifest.unlink(missing_ok=True)
        shutil.rmtree(self.directory)

    def _stage(self, snapshot: Snapshot) -> Path:
        """Write the manifest beside its place."""
        body = dataclasses.asdict(snapshot)
        document = {"format": FORMAT, "sha256": _digest(_canonical(body)), "snapshot": body}
        staged = self.directory / f".{MANIFEST}.{secrets.token_hex(4)}"
        try:
            _write(staged, json.dumps(document, indent=1).encode() + b"\n")
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        return staged

    def _commit(self, staged: Path) -> None:
        """From here on the new manifest counts."""
        os.replace(staged, self.manifest)
        _sync(self.directory)

    def _tidy(self, keep: str) -> None:
        """Remove earlier copies and what interrupted runs have left."""
        for path in self.directory.iterdir():
            if path.name in (keep, MANIFEST, ".lock"):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


# --- together with releases -------------------------------------------------------------------------------------------


def kept_release(directory: str | None) -> set[str]:
    """The release that a snapshot names and that must therefore stay; none without a snapshot."""
    snapshot = Store(Path(directory)).read() if directory else None
    return {snapshot.release} if snapshot and snapshot.release else set()


def _knows(layout: _release.Layout, name: str, others: Iterable[str | None]) -> bool:
    """Whether a release knows every schema that the others may have brought the database to."""
    known = set((_release.read_marker(layout.release(name)) or {}).get("schema_revisions", ()))
    markers = [_release.read_marker(layout.release(other)) for other in others if other]
    return bool(known) and all(marker is not None and marker.get("schema_head") in known for marker in markers)


def report(layout: _release.Layout, directory: str) -> dict[str, Any]:
    """What a snapshot offers to somebody who wants to go back; empty if there is none."""
    store = Store(Path(directory))
    try:
        snapshot = store.read()
    except Damaged as error:
        return {"release": "", "status": "damaged", "reason": str(error), "installed": False}
    if snapshot is None:
        return {}
    release = _release.describe(layout, snapshot.release) if snapshot.release else {}
    return {
        **snapshot.described(),
        "version": release.get("version", ""),
        "schema_head": release.get("schema_head", ""),
        "installed": release.get("installed", False),
        "same_schema": _knows(layout, snapshot.release, (snapshot.label, _release.active_id(layout))),
        "copies": store.copies(snapshot),
    }


def restore(
    store: Store, snapshot: Snapshot, layout: _release.Layout, labels: Labels | None, *, check_mode: bool
) -> list[Outcome]:
    """Put every path and C(current) back as they were, or leave all of them as they are."""
    if not snapshot.release:
        raise SnapshotError("no release was active when the snapshot was taken: there is nothing to go back to")
    if not _release.read_marker(layout.release(snapshot.release)):
        raise SnapshotError(f"release {snapshot.release}, which the snapshot names, is not installed any more")
    items = [*store.items(snapshot), Item(str(layout.current), "link", target=f"releases/{snapshot.release}")]
    transaction = Transaction(labels, check_mode=check_mode)
    if check_mode:
        return transaction.run(items)
    # A run that is killed from here on leaves half of both states: the snapshot stays the one that counts.
    store.mark(snapshot, OPEN)
    try:
        with _release.locked(layout):
            outcomes = transaction.run(items)
    except ApplyError as error:
        if not error.details.get("not_restored"):
            store.mark(snapshot, snapshot.status)
        raise
    store.mark(snapshot, RESTORED)
    return outcomes


def summary(snapshot: Snapshot | None) -> str:
    """For people: one line per fact, without any content."""
    if snapshot is None:
        return ""
    lines = [
        f"release: {snapshot.release or 'none'}",
        f"taken before: {snapshot.label}",
        f"status: {snapshot.status}",
        *(f"{entry.path}: {entry.state}" for entry in snapshot.entries),
    ]
    return "\n".join(lines) + "\n"
