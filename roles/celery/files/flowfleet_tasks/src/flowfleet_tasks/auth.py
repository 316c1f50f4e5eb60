# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is calling: Langflow says whose key it is, and the answer is remembered for a short time under the key's hash."""

from __future__ import annotations

import hashlib
import threading
import time

from .errors import RequestError
from .front import FrontDoor, User

MOST_REMEMBERED = 10_000
# Seconds for which a remembered key is good for looking while Langflow is away.
GRACE = 900.0


class Gate:
    """Checks API keys."""

    def __init__(self, front: FrontDoor, seconds: float) -> None:
        """Take whom to ask, and how long an answer holds."""
        self.front = front
        self.seconds = seconds
        self._known: dict[str, tuple[User, float]] = {}
        self._lock = threading.Lock()

    def user(self, key: str | None, *, reading: bool = False) -> User:
        """Return whose key this is; a refusal is never remembered.

        While Langflow does not answer, a key that it knew a moment ago still lets its owner look at runs.
        """
        if not key or len(key) > 512 or not key.isascii() or not key.isprintable():
            raise RequestError(401, "unauthorized", "Send your Langflow API key in the header x-api-key.")
        mark = hashlib.sha256(key.encode()).hexdigest()
        now = time.monotonic()
        with self._lock:
            found = self._known.get(mark)
        if found and found[1] > now:
            return found[0]
        try:
            user = self.front.user(key)
        except RequestError as error:
            if error.status == 503 and reading and found and found[1] + GRACE > now:
                return found[0]
            raise
        with self._lock:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[mark] = (user, now + self.seconds)
        return user
