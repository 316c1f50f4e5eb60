# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Let workers of this host come to an end with what they have, or go on. All of them at the same time."""

from __future__ import annotations

import contextlib
import json
import subprocess
import typing as t
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

# How the program ends when it has an answer: done, not in time, no answer from worker or broker.
DRAINED, DEADLINE, UNREACHABLE = 0, 3, 4
COUNTS = ("active", "reserved", "finished", "handed_back")
# Seconds on top of a deadline for the program to begin and to say how it went.
SLACK = 60.0


class DrainError(Exception):
    """The program gave no usable answer."""


@dataclass(frozen=True)
class Answer:
    """What the program said about one worker."""

    status: int
    content: t.Any


@dataclass
class Summary:
    """All workers together."""

    workers: list[dict[str, t.Any]] = field(default_factory=list)

    def add(self, name: str, answer: Mapping[str, t.Any]) -> None:
        """Take in what was said about one worker."""
        row = {"name": name, "state": str(answer.get("state", "unknown")), "seconds": float(answer.get("seconds") or 0)}
        row.update({key: int(answer.get(key) or 0) for key in COUNTS})
        row["consumers_cancelled"] = [str(queue) for queue in answer.get("consumers_cancelled") or []]
        row["runs"] = [str(run) for run in answer.get("runs") or []]
        self.workers.append(row)

    def named(self, *states: str) -> list[str]:
        """Names of the workers in one of these states."""
        return [row["name"] for row in self.workers if row["state"] in states]

    @property
    def totals(self) -> dict[str, int]:
        """Counts of all workers together."""
        return {key: sum(row[key] for row in self.workers) for key in COUNTS}

    @property
    def changed(self) -> bool:
        """Whether any worker was made to stop taking tasks, or handed some back."""
        return any(row["consumers_cancelled"] or row["handed_back"] for row in self.workers)


Run = Callable[[Sequence[str], float], Answer]


def last_json(text: str) -> t.Any:
    """Read the JSON that a text ends with, whatever stands before it; None when there is none."""
    lines = text.strip().splitlines()
    for number, line in enumerate(lines):
        if line.startswith(("{", "[")):
            with contextlib.suppress(ValueError):
                return json.loads("\n".join(lines[number:]))
    return None


def run_program(argv: Sequence[str], timeout: float) -> Answer:
    """Run the program and read the JSON that it prints last."""
    try:
        done = subprocess.run(
            list(argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise DrainError(f"no end after {timeout:g} s: {' '.join(argv)}") from None
    except OSError as error:
        raise DrainError(f"cannot start {argv[0]}: {error.strerror}") from error
    content = last_json(done.stdout)
    if content is None:
        text = (done.stderr.strip() or done.stdout.strip())[-1500:]
        raise DrainError(f"status {done.returncode} and no answer from {' '.join(argv)}: {text}")
    if done.returncode not in (DRAINED, DEADLINE, UNREACHABLE):
        raise DrainError(f"status {done.returncode} from {' '.join(argv)}: {done.stderr.strip()[-1500:]}")
    return Answer(done.returncode, content)


class Workers:
    """The workers of this host, reached through the program that runs them."""

    def __init__(self, command: Sequence[str], run: Run = run_program) -> None:
        self._command = list(command)
        self._run = run

    def _each(self, names: Sequence[str], arguments: Sequence[str], timeout: float) -> Summary:
        def one(name: str) -> Mapping[str, t.Any]:
            content = self._run(
                [*self._command, arguments[0], "--name", name, *arguments[1:], "--json"], timeout
            ).content
            if not isinstance(content, Mapping) or "state" not in content:
                raise DrainError(f"the answer for worker {name} names no state")
            return content

        summary = Summary()
        with ThreadPoolExecutor(max_workers=max(len(names), 1)) as pool:
            for name, answer in zip(names, pool.map(one, names), strict=True):
                summary.add(name, answer)
        return summary

    def status(self, names: Sequence[str]) -> Summary:
        """Say what each worker does, and touch none."""
        summary = Summary()
        for name in names:
            content = self._run([*self._command, "worker-status", "--name", name, "--json"], SLACK).content
            rows = content if isinstance(content, list) else []
            answer = next((row for row in rows if isinstance(row, Mapping)), {"state": "absent"})
            summary.add(name, answer)
        return summary

    def drain(self, names: Sequence[str], timeout: float) -> Summary:
        """Let the workers take nothing more, and wait until they have nothing left."""
        return self._each(names, ["drain", "--timeout", f"{timeout:g}"], timeout + SLACK)

    def resume(self, names: Sequence[str]) -> Summary:
        """Let the workers take tasks again."""
        return self._each(names, ["undrain"], SLACK)
