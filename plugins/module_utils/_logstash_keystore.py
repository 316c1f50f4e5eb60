# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""What is in a keystore of Logstash, known without opening it."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The program asks again for anything else, for ever.
VALUE = re.compile(r"[\x20-\x7e]+")
COST = {"n": 2**12, "r": 8, "p": 1}


class KeystoreError(Exception):
    """The keystore cannot be as wanted; the message says why and holds no secret."""


def check(wanted: Mapping[str, Any]) -> None:
    """Refuse what the program does not take."""
    for name, value in wanted.items():
        if not NAME.fullmatch(name):
            raise KeystoreError(f"{name!r}: names are letters, digits and _")
        if not isinstance(value, str) or not VALUE.fullmatch(value):
            raise KeystoreError(f"{name}: a value is one line of plain ASCII, and not empty")
    if len({name.lower() for name in wanted}) != len(wanted):
        raise KeystoreError("two names differ only in capitals, which the keystore does not tell apart")


@dataclasses.dataclass
class Memory:
    """What was put into a keystore: the sum of the file, and of each secret a hash that is slow to guess at."""

    keystore: str
    salt: str
    entries: dict[str, str]

    @classmethod
    def of(cls, keystore: bytes, wanted: Mapping[str, str], password: str) -> Memory:
        """Remember a new keystore."""
        salt = secrets.token_hex(16)
        everything = {**wanted, "": password}
        return cls(digest(keystore), salt, {name: slow(value, salt) for name, value in everything.items()})

    @classmethod
    def read(cls, text: str) -> Memory | None:
        """What was remembered, unless it is unreadable, which means the same as nothing."""
        try:
            data = json.loads(text)
            return cls(str(data["keystore"]), str(data["salt"]), {str(k): str(v) for k, v in data["entries"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def text(self) -> str:
        """As it is kept."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    def differences(self, keystore: bytes | None, wanted: Mapping[str, str], password: str) -> list[str]:
        """Names of secrets that are missing, other or too many; an empty name is the keystore itself."""
        everything = {**wanted, "": password}
        found = {
            name
            for name, value in everything.items()
            if not hmac.compare_digest(self.entries.get(name, ""), slow(value, self.salt))
        }
        found |= set(self.entries) - set(everything)
        if keystore is None or digest(keystore) != self.keystore:
            found.add("")
        return sorted(found)


def digest(data: bytes) -> str:
    """Sum of a file."""
    return hashlib.sha256(data).hexdigest()


def slow(value: str, salt: str) -> str:
    """Hash of a secret."""
    return hashlib.scrypt(value.encode(), salt=salt.encode(), dklen=32, n=COST["n"], r=COST["r"], p=COST["p"]).hex()
