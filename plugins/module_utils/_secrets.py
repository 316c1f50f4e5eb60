# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Make secrets, judge given ones, and keep them one per file on the controller."""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import os
import re
import secrets
import stat
import string
import tempfile
import uuid
from collections.abc import Callable

from ansible_collections.flowfleet.langflow.plugins.module_utils._lock import exclusive

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
TYPES = ("password", "fernet", "hex", "uuid")
# Letters and digits only: such a password needs no quoting in a URL, a DSN, an environment file or YAML.
ALPHABET = string.ascii_letters + string.digits
SHORTEST = 8
FERNET_BYTES = 32


class SecretError(Exception):
    """A secret cannot be given; the message names it and what to do, and never contains its value."""


def check_name(name: object) -> str:
    """I(name) if it can be the name of a file and of a variable."""
    if not isinstance(name, str) or not NAME.match(name):
        raise SecretError(f"{name!r} cannot be the name of a secret: use letters, digits, _ and -")
    return str(name)


def generate(kind: str, length: int) -> str:
    """A new value from the system's random source."""
    if kind == "fernet":
        return base64.urlsafe_b64encode(secrets.token_bytes(FERNET_BYTES)).decode("ascii")
    if kind == "uuid":
        return str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
    if length < SHORTEST:
        raise SecretError(f"length {length} is too short, use {SHORTEST} or more")
    if kind == "hex":
        return secrets.token_hex((length + 1) // 2)[:length]
    if kind != "password":
        raise SecretError(f"type must be one of {', '.join(TYPES)}, got {kind!r}")
    while True:
        value = "".join(secrets.choice(ALPHABET) for _position in range(length))
        if any(c.islower() for c in value) and any(c.isupper() for c in value) and any(c.isdigit() for c in value):
            return value


def problem(kind: str, value: str) -> str | None:
    """Why I(value) cannot be used as I(kind), without showing it."""
    if not value:
        return "is empty"
    if "\n" in value or "\0" in value:
        return "has more than one line"
    if kind == "fernet":
        # The padding at the end may be missing: programs that use such keys add it.
        try:
            bare = value.rstrip("=")
            raw = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != FERNET_BYTES:
            return f"is not a Fernet key, which is {FERNET_BYTES} random bytes in URL-safe base64 (44 characters)"
    if kind == "hex" and not re.fullmatch(r"[0-9A-Fa-f]+", value):
        return "has characters other than hexadecimal digits"
    if kind == "uuid":
        try:
            uuid.UUID(value)
        except ValueError:
            return "is not a UUID"
    return None


class Store:
    """A directory with one file per secret, shared safely by any number of processes."""

    def __init__(
        self,
        directory: str,
        *,
        encrypt: Callable[[bytes], bytes] | None = None,
        decrypt: Callable[[bytes], bytes] | None = None,
        is_encrypted: Callable[[bytes], bool] = lambda data: False,
    ) -> None:
        self.directory = directory
        self._encrypt = encrypt
        self._decrypt = decrypt
        self._is_encrypted = is_encrypted

    def path(self, name: str) -> str:
        """The file of one secret."""
        return os.path.join(self.directory, check_name(name))

    def read(self, name: str) -> str | None:
        """The stored value, or nothing."""
        path = self.path(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise SecretError(f"secret {name}: cannot read {path}: {exc.strerror}") from None
        with os.fdopen(descriptor, "rb") as handle:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            data = handle.read()
        if self._is_encrypted(data):
            if self._decrypt is None:
                raise SecretError(f"secret {name}: {path} is encrypted; give the vault password to this run")
            try:
                data = self._decrypt(data)
            except Exception:  # whatever it says could show more than the name
                raise SecretError(f"secret {name}: cannot decrypt {path}; check this run's vault password") from None
        elif mode & 0o077:
            raise SecretError(f"secret {name}: {path} can be read by others; run chmod 0600 {path}")
        try:
            value = data.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise SecretError(f"secret {name}: {path} is not text; remove the file to have a new secret made") from None
        if not value:
            raise SecretError(f"secret {name}: {path} is empty; remove the file to have a new secret made")
        return value

    def read_or_create(self, name: str, make: Callable[[], str]) -> str:
        """The stored value; if there is none, exactly one of all callers makes it and the others get the same."""
        value = self.read(name)
        if value is not None:
            return value
        path = self.path(name)
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            with exclusive(os.path.join(self.directory, ".lock")):
                value = self.read(name)
                if value is None:
                    value = make()
                    self._write(path, value)
        except OSError as exc:
            raise SecretError(f"secret {name}: cannot store it in {path}: {exc.strerror}") from None
        return value

    def _write(self, path: str, value: str) -> None:
        data = value.encode("utf-8") + b"\n"
        if self._encrypt is not None:
            data = self._encrypt(data)
        descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=self.directory)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            try:
                # Unlike a rename, a link never replaces what is there.
                os.link(temporary, path)
            except OSError as exc:
                if exc.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                    raise
                # This file system has no hard links; the lock has to do.
                os.rename(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
