# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""One lock per purpose, held by one process at a time and freed by the kernel when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator


class LockTimeout(Exception):
    """Somebody else kept the lock for longer than we were willing to wait."""


@contextlib.contextmanager
def exclusive(path: str, timeout: float = 60.0, poll: float = 0.05) -> Iterator[None]:
    """Hold an exclusive C(flock) on I(path), which is created mode 0600 when it does not exist."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if time.monotonic() >= deadline:
                    raise LockTimeout(f"{path} has been locked by another process for {timeout:g} s") from exc
                time.sleep(poll)
        yield
    finally:
        os.close(descriptor)
