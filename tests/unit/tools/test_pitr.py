# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The judgement of the drill for point-in-time recovery, on rows whose answer is known."""

from __future__ import annotations

import importlib
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.append(str(Path(__file__).resolve().parents[3]))
pitr: Any = importlib.import_module("tools.drills.pitr")

LEDGER = "\n".join(
    f"row|{number}|2026-11-22 03:00:0{number}.000000\ndone|2026-11-22 03:00:0{number}.100000" for number in range(1, 6)
)
ROWS = pitr.read_ledger(LEDGER)


def at(second: float) -> Any:
    return pitr.moment("2026-11-22 03:00:00.000000") + timedelta(seconds=second)


def test_a_row_without_its_commit_does_not_count() -> None:
    assert [row.id for row in ROWS] == [1, 2, 3, 4, 5]
    assert [row.id for row in pitr.read_ledger(LEDGER + "\nrow|6|2026-11-22 03:00:06.000000")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("second", "found", "exact", "lost", "early"),
    [
        (3.5, [1, 2, 3], True, [], []),
        (3.5, [1, 2], False, [3], []),
        (3.5, [1, 3], False, [2], []),
        (3.5, [1, 2, 3, 4], False, [], [4]),
        # The commit of the third row contains the moment: it may be there or not.
        (3.05, [1, 2], True, [], []),
        (3.05, [1, 2, 3], True, [], []),
        # Without a row on each side nothing is shown.
        (3.5, [], False, [1, 2, 3], []),
        (9.0, [1, 2, 3, 4, 5], False, [], []),
    ],
)
def test_a_moment_is_judged(second: float, found: list[int], exact: bool, lost: list[int], early: list[int]) -> None:
    answer = pitr.judge(ROWS, at(second), found)
    assert (answer.exact, answer.lost, answer.early) == (exact, lost, early)


def test_moments_lie_between_committed_rows() -> None:
    moments = pitr.choose(ROWS, 50)
    assert len(moments) == 50
    assert all(ROWS[0].done <= moment <= ROWS[-1].begun for moment in moments)
    with pytest.raises(pitr.DrillError):
        pitr.choose(ROWS[:2], 1)


def test_a_flipped_bit_is_one_bit_and_comes_back(tmp_path: Path) -> None:
    (play,) = yaml.safe_load((pitr.HERE / "pitr_flip.yml").read_text(encoding="utf-8"))
    (code,) = [task["vars"]["__pitr_code"] for task in play["tasks"] if "__pitr_code" in task.get("vars", {})]
    path, content = tmp_path / "file", bytes(range(256)) * 5
    path.write_bytes(content)
    argv = [sys.executable, "-I", "-c", code, str(path)]
    subprocess.run(argv, check=True)
    changed = [(old, new) for old, new in zip(content, path.read_bytes(), strict=True) if old != new]
    assert len(changed) == 1
    assert (changed[0][0] ^ changed[0][1]).bit_count() == 1
    subprocess.run(argv, check=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("status", "output", "passed"),
    [
        (2, "fatal: the repository is damaged", True),
        # Not for this reason, or not at all.
        (2, "fatal: unreachable", False),
        (0, "the repository is damaged", False),
    ],
)
def test_a_verification_has_to_fail_and_for_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, output: str, passed: bool
) -> None:
    program = tmp_path / "ansible-playbook"
    program.write_text(f"#!/bin/sh\necho '{output}'\nexit {status}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(pitr, "BIN", tmp_path)
    monkeypatch.setattr("tools.drills.core.RESULTS", tmp_path)
    books = pitr.Books(pitr.Drill("pitr", "a drill"), "inventory")
    pitr.fails(books, "it fails", "repository is damaged")
    assert books.drill.passed is passed


def test_the_number_of_opened_credentials_is_read_from_the_table() -> None:
    found = pitr.OPENED.search('        "credentials opened    3 of 3",')
    assert found is not None
    assert (found[1], found[2]) == ("3", "3")
