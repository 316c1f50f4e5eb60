# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Bring a list of files, directories and links to a wanted state as one transaction.

Three parts, in the order in which they are used:

* C(check_items) says whether what the user wrote makes sense (runs on the controller),
* C(pack) and C(unpack) carry the rendered list to the managed host in one opaque argument,
* C(Transaction) compares, writes, validates and, if anything goes wrong, puts everything back.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import errno
import grp
import json
import os
import posixpath
import pwd
import re
import secrets
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from ansible_collections.flowfleet.langflow.plugins.module_utils import _command

STATES = ("file", "directory", "link", "absent")
SOURCES = ("template", "content", "src")
KEYS_OF_STATE: dict[str, frozenset[str]] = {
    "file": frozenset({*SOURCES, "vars", "owner", "group", "mode", "secret", "validate"}),
    "directory": frozenset({"owner", "group", "mode"}),
    "link": frozenset({"target", "owner", "group"}),
}
# An item that is to vanish may keep the keys it had: `state` is often an expression.
KEYS_OF_STATE["absent"] = frozenset({"recursive"}.union(*KEYS_OF_STATE.values()))
COMMON_KEYS = frozenset({"path", "state"})
KNOWN_KEYS = COMMON_KEYS | KEYS_OF_STATE["absent"]

DEFAULT_MODE = {"file": 0o644, "directory": 0o755}
SECRET_MODE = 0o600
DIFF_LIMIT = 100 * 1024
COMMAND_TIMEOUT = 300
EXTENDED_ATTRIBUTES = re.compile(r"^(security\.selinux|system\.posix_acl_.*|user\..*)$")
REDACTED = "********"
SHORTEST_REDACTED = 6


class ItemError(Exception):
    """The list of items cannot be used; the message says which item and why."""


class ApplyError(Exception):
    """The host cannot be brought to the wanted state; everything done so far has to be undone."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


# --- what the user wrote ----------------------------------------------------------------------------------------------


def label(index: int, item: Any) -> str:
    """How messages call an item."""
    path = item.get("path") if isinstance(item, Mapping) else None
    return f"files[{index}] ({path})" if isinstance(path, str) and path else f"files[{index}]"


def parse_mode(value: Any) -> int:
    """The number behind C("0640"); an unquoted one has already lost its meaning in YAML."""
    if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3,4}", value):
        return int(value, 8)
    raise ItemError(f'mode must be a quoted octal number such as "0640", got {value!r}')


def _check_path(path: Any) -> str:
    if not isinstance(path, str) or not path:
        raise ItemError("path is missing")
    if not path.startswith("/") or "\0" in path:
        raise ItemError("path must be absolute")
    clean = posixpath.normpath(path)
    if clean in ("/", "//") or ".." in path.split("/"):
        raise ItemError("path must not be / or contain ..")
    return clean


def _check_values(item: dict[str, Any]) -> None:
    for key in ("owner", "group"):
        value = item.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int)) or value == ""):
            raise ItemError(f"{key} must be a name or a number, got {value!r}")
    for key in ("secret", "recursive"):
        if key in item and not isinstance(item[key], bool):
            raise ItemError(f"{key} must be true or false")
    if item.get("mode") is not None:
        parse_mode(item["mode"])
    if item.get("vars") is not None and not isinstance(item["vars"], Mapping):
        raise ItemError("vars must be a dictionary")
    command = item.get("validate")
    if command is not None and (not isinstance(command, str) or "%s" not in command):
        raise ItemError("validate must be a command with %s where the path of the file goes")


def _check_source(item: dict[str, Any]) -> None:
    if "content" in item and item["content"] is None:
        raise ItemError('content is null; an empty file is content: ""')
    given = [key for key in SOURCES if item.get(key) is not None]
    if len(given) != 1:
        raise ItemError(f"needs exactly one of {', '.join(SOURCES)}, got {' and '.join(given) or 'none'}")
    if given != ["content"] and (not isinstance(item[given[0]], str) or not item[given[0]]):
        raise ItemError(f"{given[0]} must be the name of a file")
    if given == ["content"]:
        content = item["content"]
        if isinstance(content, bool) or not isinstance(content, (str, int, float)):
            kind = type(content).__name__
            raise ItemError(f"content must be text, got {kind}; turn it into text with a filter such as to_nice_json")


def check_item(raw: Any) -> dict[str, Any]:
    """One item with its defaults, or an C(ItemError) that says what is wrong with it."""
    if not isinstance(raw, Mapping):
        raise ItemError(f"expected a dictionary, got {type(raw).__name__}")
    unknown = sorted(str(key) for key in raw if key not in KNOWN_KEYS)
    if unknown:
        raise ItemError(f"unknown key {', '.join(unknown)}; known are {', '.join(sorted(KNOWN_KEYS))}")
    item = dict(raw)
    item["path"] = _check_path(item.get("path"))
    item["state"] = item.get("state") or "file"
    if item["state"] not in STATES:
        raise ItemError(f"state must be one of {', '.join(STATES)}, got {item['state']!r}")
    _check_values(item)
    allowed = COMMON_KEYS | KEYS_OF_STATE[item["state"]]
    useless = sorted(key for key, value in item.items() if key not in allowed and value not in (None, False))
    if useless:
        raise ItemError(f"{', '.join(useless)} means nothing for state {item['state']}")
    if item["state"] == "file":
        _check_source(item)
    if item["state"] == "link" and (not isinstance(item.get("target"), str) or not item["target"]):
        raise ItemError("a link needs a target")
    return item


def check_items(raw: Any) -> list[dict[str, Any]]:
    """All items with their defaults; the same path twice is fine only if both say the same."""
    if not isinstance(raw, Sequence) or isinstance(raw, (str, bytes)):
        raise ItemError(f"files must be a list, got {type(raw).__name__}")
    items: list[dict[str, Any]] = []
    seen: dict[str, dict[str, Any]] = {}
    for index, entry in enumerate(raw):
        try:
            item = check_item(entry)
        except ItemError as exc:
            raise ItemError(f"{label(index, entry)}: {exc}") from None
        earlier = seen.setdefault(item["path"], item)
        if earlier is item:
            items.append(item)
        elif earlier != item:
            raise ItemError(f"{label(index, entry)}: the same path stands earlier in the list with other values")
    return items


# --- from the controller to the host ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Item:
    """What one path shall look like."""

    path: str
    state: str = "file"
    content: bytes | None = None
    target: str | None = None
    owner: str | int | None = None
    group: str | int | None = None
    mode: int | None = None
    secret: bool = False
    validate: str | None = None
    recursive: bool = False


def pack(items: Iterable[Item], validate: Sequence[str]) -> str:
    """One string that carries all items, to be passed as an argument that is never logged."""
    files = []
    for item in items:
        entry = dataclasses.asdict(item)
        if item.content is not None:
            entry["content"] = base64.b64encode(item.content).decode("ascii")
        files.append(entry)
    return base64.b64encode(json.dumps({"files": files, "validate": list(validate)}).encode()).decode("ascii")


def unpack(payload: str) -> tuple[list[Item], list[str]]:
    """The reverse of C(pack)."""
    data = json.loads(base64.b64decode(payload))
    items = []
    for entry in data["files"]:
        if entry["content"] is not None:
            entry["content"] = base64.b64decode(entry["content"])
        items.append(Item(**entry))
    return items, data["validate"]


# --- on the host ------------------------------------------------------------------------------------------------------


class Labels(Protocol):
    """The part of AnsibleModule that knows about SELinux."""

    def set_default_selinux_context(self, path: str, changed: bool) -> bool:
        """Label a new file as the policy wants it."""


def redact(text: str, contents: Iterable[bytes]) -> str:
    """I(text) without any word of the secret I(contents) in it."""
    words: set[str] = set()
    for content in contents:
        decoded = content.decode("utf-8", errors="replace")
        for separators in (r"\s", r"\s\"'=", r"\s\"'=:,;@/{}()\[\]"):
            words.update(re.split(f"[{separators}]+", decoded))
    for word in sorted((word for word in words if len(word) >= SHORTEST_REDACTED), key=len, reverse=True):
        text = text.replace(word, REDACTED)
    return text


def _user_id(value: str | int | None) -> int | None:
    if value is None or isinstance(value, int):
        return value
    return int(value) if value.isdigit() else pwd.getpwnam(value).pw_uid


def _group_id(value: str | int | None) -> int | None:
    if value is None or isinstance(value, int):
        return value
    return int(value) if value.isdigit() else grp.getgrnam(value).gr_gid


def _name_of(kind: str, number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name if kind == "owner" else grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _kind_of(status: os.stat_result | None) -> str:
    if status is None:
        return "absent"
    for kind, test in (("link", stat.S_ISLNK), ("directory", stat.S_ISDIR), ("file", stat.S_ISREG)):
        if test(status.st_mode):
            return kind
    return "special file"


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read(path: str) -> bytes:
    with open(path, "rb") as handle:
        return handle.read()


def _extended_attributes(path: str) -> dict[str, bytes]:
    found = {}
    with contextlib.suppress(OSError):
        for name in os.listxattr(path, follow_symlinks=False):
            if EXTENDED_ATTRIBUTES.match(name):
                found[name] = os.getxattr(path, name, follow_symlinks=False)
    return found


@dataclasses.dataclass
class Outcome:
    """What happened to one path, or would happen."""

    path: str
    changes: list[str] = dataclasses.field(default_factory=list)
    diff: list[dict[str, str]] = dataclasses.field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything differs from the wanted state."""
        return bool(self.changes)


class Transaction:
    """All items of one call: either every one of them ends as wanted, or none is touched."""

    def __init__(self, labels: Labels | None = None, *, check_mode: bool = False, workdir: str | None = None) -> None:
        self.labels = labels
        self.check_mode = check_mode
        self.workdir = workdir
        self.outcomes: list[Outcome] = []
        self.skipped: list[str] = []
        self._undo: list[tuple[str, Callable[[], None]]] = []
        self._at_end: list[Callable[[], None]] = []
        self._directories: set[str] = set()
        self._secrets: list[bytes] = []

    # The whole call

    def run(self, items: Sequence[Item], validate: Sequence[str] = ()) -> list[Outcome]:
        """Apply I(items), run the commands I(validate) if anything changed, and undo everything if one fails."""
        self._secrets = [item.content for item in items if item.secret and item.content is not None]
        try:
            for item in items:
                try:
                    self.outcomes.append(self._one(item))
                except OSError as exc:
                    raise ApplyError(f"{item.path}: {exc.strerror or exc}") from exc
                except ApplyError as exc:
                    raise ApplyError(f"{item.path}: {exc}", **exc.details) from exc
            if not self.check_mode and any(outcome.changed for outcome in self.outcomes):
                for command in validate:
                    self._validate(command, shlex.split(command))
        except BaseException as exc:
            restored, lost = self._put_back()
            if isinstance(exc, ApplyError):
                exc.details.update(restored=restored, not_restored=lost)
            raise
        for finish in self._at_end:
            finish()
        for directory in sorted(self._directories):
            self._sync(directory)
        return self.outcomes

    def _put_back(self) -> tuple[list[str], list[str]]:
        restored, lost = [], []
        for path, undo in reversed(self._undo):
            try:
                undo()
                restored.append(path)
            except OSError as exc:
                lost.append(f"{path}: {exc.strerror}")
        self._undo.clear()
        return sorted(set(restored)), lost

    def _one(self, item: Item) -> Outcome:
        handlers = {"file": self._file, "directory": self._directory, "link": self._link, "absent": self._absent}
        return handlers[item.state](item)

    # Comparison

    def _wanted_ids(self, item: Item) -> tuple[int | None, int | None, list[str]]:
        """User and group number, and which of them cannot be known yet (check mode only)."""
        numbers: dict[str, int | None] = {}
        unknown = []
        for key, value, resolve in (("owner", item.owner, _user_id), ("group", item.group, _group_id)):
            try:
                numbers[key] = resolve(value)
            except KeyError:
                numbers[key] = None
                if not self.check_mode:
                    kind = "user" if key == "owner" else "group"
                    raise ApplyError(f"there is no {kind} {value} on this host; create it before its files") from None
                unknown.append(key)
        return numbers["owner"], numbers["group"], unknown

    def _attributes(
        self, item: Item, status: os.stat_result | None, mode: int | None, outcome: Outcome
    ) -> tuple[int, int, int]:
        """Numbers to set; what differs from I(status) goes to I(outcome)."""
        uid, gid, unknown = self._wanted_ids(item)
        before: dict[str, str] = {}
        after: dict[str, str] = {}
        if status is None:
            uid, gid = os.geteuid() if uid is None else uid, os.getegid() if gid is None else gid
            mode = DEFAULT_MODE.get(item.state, 0o777) if mode is None else mode
            before["state"], after["state"] = "absent", item.state
            after.update(owner=_name_of("owner", uid), group=_name_of("group", gid))
            if item.state != "link":
                after["mode"] = f"{mode:04o}"
            outcome.changes.append("state")
        else:
            for key, wanted, present in (("owner", uid, status.st_uid), ("group", gid, status.st_gid)):
                if wanted is not None and wanted != present:
                    before[key], after[key] = _name_of(key, present), _name_of(key, wanted)
            present_mode = stat.S_IMODE(status.st_mode)
            if mode is not None and mode != present_mode:
                before["mode"], after["mode"] = f"{present_mode:04o}", f"{mode:04o}"
            uid = status.st_uid if uid is None else uid
            gid = status.st_gid if gid is None else gid
            mode = present_mode if mode is None else mode
        for key in unknown:
            after[key] = str(getattr(item, key))
        outcome.changes.extend(key for key in after if key not in outcome.changes and status is not None)
        if after:
            outcome.diff.append(
                {
                    "before_header": f"{item.path} (attributes)",
                    "after_header": f"{item.path} (attributes)",
                    "before": "".join(f"{key}: {value}\n" for key, value in before.items()),
                    "after": "".join(f"{key}: {value}\n" for key, value in after.items()),
                }
            )
        return uid, gid, mode

    @staticmethod
    def _content_diff(item: Item, before: bytes | None, after: bytes) -> dict[str, str]:
        headers = {"before_header": item.path, "after_header": item.path}
        if item.secret:
            word = "created" if before is None else "changed"
            return {**headers, "before": "", "after": f"content of a secret file {word}\n"}
        sides = {}
        for side, data in (("before", before or b""), ("after", after)):
            if len(data) > DIFF_LIMIT:
                sides[side] = f"{len(data)} bytes, too many to show\n"
            elif b"\0" in data:
                sides[side] = f"{len(data)} bytes that are not text\n"
            else:
                try:
                    sides[side] = data.decode("utf-8")
                except UnicodeDecodeError:
                    sides[side] = f"{len(data)} bytes that are not text\n"
        return {**headers, **sides}

    def _has_parent(self, item: Item) -> bool:
        parent = os.path.dirname(item.path)
        if os.path.isdir(parent):
            return True
        if self.check_mode:
            return False
        raise ApplyError(f"its directory {parent} does not exist; list it before the file")

    # One item of each state

    def _file(self, item: Item) -> Outcome:
        outcome = Outcome(item.path)
        content = item.content if item.content is not None else b""
        status = _lstat(item.path)
        kind = _kind_of(status)
        if kind in ("directory", "special file"):
            raise ApplyError(f"is a {kind}, a file is wanted")
        if status is None:
            self._has_parent(item)
        before = _read(item.path) if kind == "file" else None
        wanted_mode = SECRET_MODE if item.secret and item.mode is None else item.mode
        uid, gid, mode = self._attributes(item, status if kind == "file" else None, wanted_mode, outcome)
        if before != content:
            if kind == "file":
                outcome.changes.insert(0, "content")
            outcome.diff.insert(0, self._content_diff(item, before, content))
            self._validate_copy(item, content)
            if not self.check_mode:
                self._remember(item.path)
                extended = _extended_attributes(item.path) if kind == "file" else None
                self._write(item.path, content, uid, gid, mode, extended=extended)
        elif outcome.changed and not self.check_mode:
            self._set_attributes(item.path, uid, gid, mode)
        return outcome

    def _directory(self, item: Item) -> Outcome:
        outcome = Outcome(item.path)
        status = _lstat(item.path)
        if _kind_of(status) == "link":
            if not os.path.isdir(item.path):
                raise ApplyError("is a link that leads to no directory, a directory is wanted")
            status = os.stat(item.path)
        if _kind_of(status) not in ("absent", "directory"):
            raise ApplyError(f"is a {_kind_of(status)}, a directory is wanted")
        if status is None:
            self._has_parent(item)
        uid, gid, mode = self._attributes(item, status, item.mode, outcome)
        if self.check_mode or not outcome.changed:
            return outcome
        if status is None:
            os.mkdir(item.path, 0o700)
            self._undo.append((item.path, lambda: os.rmdir(item.path)))
            if self.labels is not None:
                self.labels.set_default_selinux_context(item.path, False)
            os.chown(item.path, uid, gid)
            os.chmod(item.path, mode)
            self._directories.add(os.path.dirname(item.path))
        else:
            self._set_attributes(item.path, uid, gid, mode)
        return outcome

    def _link(self, item: Item) -> Outcome:
        outcome = Outcome(item.path)
        status = _lstat(item.path)
        kind = _kind_of(status)
        if kind in ("directory", "special file"):
            raise ApplyError(f"is a {kind}, a link is wanted")
        if status is None:
            self._has_parent(item)
        target = item.target or ""
        present = os.readlink(item.path) if kind == "link" else None
        uid, gid, _mode = self._attributes(item, status if kind == "link" else None, None, outcome)
        if present != target:
            if present is not None:
                outcome.changes.insert(0, "target")
            headers = {"before_header": f"{item.path} (target)", "after_header": f"{item.path} (target)"}
            before = "" if present is None else f"{present}\n"
            outcome.diff.insert(0, {**headers, "before": before, "after": f"{target}\n"})
        if self.check_mode or not outcome.changed:
            return outcome
        self._remember(item.path)
        if present != target:
            self._write_link(item.path, target, uid, gid)
        else:
            os.chown(item.path, uid, gid, follow_symlinks=False)
        return outcome

    def _absent(self, item: Item) -> Outcome:
        outcome = Outcome(item.path)
        kind = _kind_of(_lstat(item.path))
        if kind == "absent":
            return outcome
        if kind == "directory" and not item.recursive:
            raise ApplyError("is a directory; it is removed only with recursive: true")
        outcome.changes.append("state")
        headers = {"before_header": item.path, "after_header": item.path}
        outcome.diff.append({**headers, "before": f"state: {kind}\n", "after": "state: absent\n"})
        if self.check_mode:
            return outcome
        # Moved aside first, so that it comes back as it was, and removed once all else has succeeded.
        aside = self._beside(item.path, "removed")
        os.rename(item.path, aside)
        self._undo.append((item.path, lambda: os.rename(aside, item.path)))
        self._at_end.append((lambda: shutil.rmtree(aside)) if kind == "directory" else (lambda: os.unlink(aside)))
        self._directories.add(os.path.dirname(item.path))
        return outcome

    # Writing and undoing

    @staticmethod
    def _beside(path: str, suffix: str) -> str:
        directory, name = os.path.split(path)
        return os.path.join(directory, f".{name[:100]}.{secrets.token_hex(6)}.{suffix}")

    def _remember(self, path: str) -> None:
        """Make sure that I(path) can be put back exactly as it is now, with its times."""
        status = _lstat(path)
        kind = _kind_of(status)
        undo: Callable[[], None]
        if status is None:

            def undo() -> None:
                os.unlink(path)

        elif kind == "link":
            target = os.readlink(path)

            def undo() -> None:
                self._write_link(path, target, status.st_uid, status.st_gid, (status.st_atime_ns, status.st_mtime_ns))

        else:
            content, extended = _read(path), _extended_attributes(path)
            mode = stat.S_IMODE(status.st_mode)

            def undo() -> None:
                times = (status.st_atime_ns, status.st_mtime_ns)
                self._write(path, content, status.st_uid, status.st_gid, mode, extended=extended, times=times)

        self._undo.append((path, undo))

    def _write(
        self,
        path: str,
        content: bytes,
        uid: int,
        gid: int,
        mode: int,
        *,
        extended: Mapping[str, bytes] | None = None,
        times: tuple[int, int] | None = None,
    ) -> None:
        """Replace I(path) in one step: readers see the old file or the new one, with its final owner and mode."""
        temporary = self._beside(path, "new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(content)
                handle.flush()
                for name, value in (extended or {}).items():
                    with contextlib.suppress(OSError):
                        os.setxattr(temporary, name, value)
                os.fchown(handle.fileno(), uid, gid)
                os.fchmod(handle.fileno(), mode)
                if times is not None:
                    os.utime(handle.fileno(), ns=times)
                os.fsync(handle.fileno())
            try:
                os.rename(temporary, path)
            except OSError as exc:
                if exc.errno != errno.EBUSY:
                    raise
                self._write_in_place(path, content, uid, gid, mode, times)
                return
            if not extended and self.labels is not None:
                self.labels.set_default_selinux_context(path, False)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        self._directories.add(os.path.dirname(path))

    @staticmethod
    def _write_in_place(
        path: str, content: bytes, uid: int, gid: int, mode: int, times: tuple[int, int] | None
    ) -> None:
        """The only way to change a file that is a mount point itself, such as /etc/hosts in a container."""
        with open(path, "r+b") as handle:
            handle.write(content)
            handle.truncate()
            os.fchown(handle.fileno(), uid, gid)
            os.fchmod(handle.fileno(), mode)
            handle.flush()
            os.fsync(handle.fileno())
            if times is not None:
                os.utime(handle.fileno(), ns=times)

    def _write_link(self, path: str, target: str, uid: int, gid: int, times: tuple[int, int] | None = None) -> None:
        temporary = self._beside(path, "new")
        os.symlink(target, temporary)
        try:
            os.chown(temporary, uid, gid, follow_symlinks=False)
            if times is not None:
                os.utime(temporary, ns=times, follow_symlinks=False)
            os.rename(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        self._directories.add(os.path.dirname(path))

    def _set_attributes(self, path: str, uid: int, gid: int, mode: int) -> None:
        status = os.stat(path)
        old = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        self._undo.append((path, lambda: self._change_attributes(path, *old)))
        self._change_attributes(path, uid, gid, mode)

    @staticmethod
    def _change_attributes(path: str, uid: int, gid: int, mode: int) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    @staticmethod
    def _sync(directory: str) -> None:
        with contextlib.suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    # Validation

    def _validate_copy(self, item: Item, content: bytes) -> None:
        """Run the item's own command on a copy of the new content, before the file itself is touched."""
        if item.validate is None:
            return
        # What the command needs besides the file may not be there yet on a host that is only looked at.
        if self.check_mode and (any(outcome.changed for outcome in self.outcomes) or _lstat(item.path) is None):
            self.skipped.append(item.validate)
            return
        directory = tempfile.mkdtemp(prefix="managed_files_", dir=self.workdir)
        try:
            copy = os.path.join(directory, os.path.basename(item.path))
            with open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
                handle.write(content)
            self._validate(item.validate, [word.replace("%s", copy) for word in shlex.split(item.validate)])
        finally:
            shutil.rmtree(directory)

    def _validate(self, command: str, argv: Sequence[str]) -> None:
        try:
            done = _command.run(argv, timeout=COMMAND_TIMEOUT)
        except _command.CommandMissing as exc:
            if self.check_mode:
                self.skipped.append(command)
                return
            raise ApplyError(f"cannot validate, {exc} is not installed") from None
        except _command.CommandTimeout as exc:
            raise ApplyError(f"validation failed: {exc}") from None
        except OSError as exc:
            raise ApplyError(f"cannot validate with {command}: {exc.strerror}") from None
        if done.code != 0:
            said = redact("\n".join(part for part in (done.err, done.out) if part), self._secrets) or "no output"
            raise ApplyError(
                f"validation failed: `{command}` ended with {done.code}: {said}", rc=done.code, command=command
            )
