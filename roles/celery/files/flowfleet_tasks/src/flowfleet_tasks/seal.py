# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sealing: what a caller sends and gets is kept in Redis encrypted and authenticated, keys and results alike."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from .errors import ConfigError, TasksError

# API keys of Langflow, and whatever stands behind the name of the header.
SECRETS = re.compile(r"sk-[A-Za-z0-9_-]{8,}|(?i:(?<=x-api-key)(['\"]?\s*[:=,]\s*['\"]?)[^\s'\",}]+)")


class SealBroken(TasksError):
    """None of the keys opens what was sealed."""


class Seal:
    """Opens with every key of the file, seals with the first one: so a new key is put on top."""

    def __init__(self, keys: str) -> None:
        """Take the text of the key file."""
        lines = [line.strip() for line in keys.splitlines() if line.strip()]
        try:
            ciphers = [Fernet(line) for line in lines]
        except ValueError as error:
            raise ConfigError(["the secret seal_key has to hold Fernet keys, one in a line"]) from error
        if not ciphers:
            raise ConfigError(["the secret seal_key is empty"])
        self._fernet = MultiFernet(ciphers)

    def close(self, value: Any) -> str:
        """Seal a JSON value."""
        return self._fernet.encrypt(json.dumps(value, separators=(",", ":")).encode()).decode()

    def open(self, sealed: str) -> Any:
        """Open what C(close) returned."""
        try:
            return json.loads(self._fernet.decrypt(sealed.encode()))
        except InvalidToken:
            raise SealBroken("none of the keys in seal_key opens this record") from None


def redact(text: str) -> str:
    """Return I(text) without API keys."""
    return SECRETS.sub(lambda match: f"{match[1] or ''}***", text)


class Redactor(logging.Filter):
    """The last net: no line of the log has an API key in it, whoever wrote it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the record's text; its arguments are part of that already."""
        record.msg = redact(record.getMessage())
        record.args = ()
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True


def redact_logs() -> None:
    """Put the net below every handler that exists by now."""
    names = ("", "celery", "uvicorn", "uvicorn.error", "uvicorn.access")
    for logger in map(logging.getLogger, names):
        for handler in logger.handlers:
            if not any(isinstance(known, Redactor) for known in handler.filters):
                handler.addFilter(Redactor())
