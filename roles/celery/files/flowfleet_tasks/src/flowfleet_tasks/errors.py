# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong, as types. Messages are for people and never hold a secret."""

from __future__ import annotations

from typing import Any


class TasksError(Exception):
    """Anything that this package reports by itself."""


class ConfigError(TasksError):
    """The configuration cannot work; C(faults) has one line for each reason."""

    def __init__(self, faults: list[str]) -> None:
        """Keep all the faults, not only the first."""
        super().__init__("; ".join(faults))
        self.faults = faults


class RequestError(TasksError):
    """A caller asked for something that is refused: the status, a stable code and a sentence."""

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        """Keep what the answer is made of."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details


class Fenced(TasksError):
    """This process no longer owns the run it works on: another one took it over, or it has ended."""


class NotSent(TasksError):
    """A request did not leave this machine, so nothing can have begun."""


class NoAnswer(TasksError):
    """A request was sent, at least in part, and no complete answer came back."""
