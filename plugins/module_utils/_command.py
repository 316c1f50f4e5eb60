# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Run a program without a shell, in a fixed language and with a deadline."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

# Where programs of the administrator are, which are not always in the search path of a connection.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


class CommandMissing(Exception):
    """The program is not installed."""


class CommandTimeout(Exception):
    """The program took too long and was ended."""


@dataclasses.dataclass(frozen=True)
class Done:
    """How it ended and what it printed."""

    code: int
    out: str
    err: str


def run(argv: Sequence[str], *, timeout: float, environment: Mapping[str, str] | None = None) -> Done:
    """Run I(argv) with I(environment) added to the present one."""
    variables = {**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})}
    variables["PATH"] = f"{variables.get('PATH', os.defpath)}:{SYSTEM_PATH}"
    program = shutil.which(argv[0], path=variables["PATH"])
    if program is None:
        raise CommandMissing(argv[0])
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=variables,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CommandTimeout(f"{argv[0]} did not end within {timeout:g} s") from None
    return Done(done.returncode, done.stdout.strip(), done.stderr.strip())
