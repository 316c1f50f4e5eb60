# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ledger: it must see a loss, and must not make one up."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
ledger: Any = importlib.import_module("tools.drills.ledger")


class Table:
    """A table that fails where it is told to, in the way it is told to."""

    def __init__(self, **faults: set[int]) -> None:
        self.rows: list[int] = []
        self.faults = faults

    def write(self, _run: str, number: int) -> None:
        if number in self.faults.get("rejected", ()):
            raise ledger.Rejected("ReadOnlySqlTransaction 25006")
        if number not in self.faults.get("unknown_absent", ()):
            self.rows.append(number)
        if number in self.faults.get("unknown", ()) or number in self.faults.get("unknown_absent", ()):
            raise ledger.Unknown("OperationalError")


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run(table: Table, path: Path, seconds: float = 2.05) -> list[Any]:
    clock = Clock()
    with path.open("x", encoding="utf-8") as stream:
        ledger.write(table, ledger.Journal(stream), "r", seconds, 0.1, clock=clock, sleep=clock.sleep)
    with path.open(encoding="utf-8") as stream:
        return list(ledger.read_journal(stream))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_what_was_acknowledged_is_there(journal: Path) -> None:
    table = Table(rejected={5, 6, 7}, unknown={8}, unknown_absent={9})
    entries = run(table, journal)
    result = ledger.compare(entries, table.rows)
    assert result["verdict"] == "pass"
    assert (result["acknowledged"], result["unknown_present"], result["unknown_absent"]) == (16, 1, 1)
    counted = ledger.summary(entries, 0.5)
    assert (counted["attempts"], counted["rejected"], counted["unknown"]) == (21, 3, 2)
    assert counted["reasons"] == {"ReadOnlySqlTransaction 25006": 3, "OperationalError": 2}
    # From the end of write 4 to the end of write 10.
    assert [gap["seconds"] for gap in counted["gaps"]] == [0.6]


def test_a_lost_row_is_seen(journal: Path) -> None:
    table = Table()
    entries = run(table, journal)
    table.rows.remove(7)
    result = ledger.compare(entries, table.rows)
    assert (result["verdict"], result["lost"]) == ("fail", [7])


def test_a_row_that_is_there_twice_is_seen(journal: Path) -> None:
    table = Table()
    entries = run(table, journal)
    table.rows.append(3)
    assert ledger.compare(entries, table.rows)["twice"] == [3]


def test_a_rejected_row_that_is_there_is_seen(journal: Path) -> None:
    table = Table(rejected={4})
    entries = run(table, journal)
    table.rows.append(4)
    result = ledger.compare(entries, table.rows)
    assert (result["verdict"], result["rejected_but_present"]) == ("fail", [4])


def test_a_line_that_a_crash_cut_off_is_no_acknowledgement(journal: Path) -> None:
    entries = run(Table(), journal)
    whole = journal.read_text(encoding="utf-8")
    journal.write_text(whole[:-10], encoding="utf-8")
    with journal.open(encoding="utf-8") as stream:
        assert len(list(ledger.read_journal(stream))) == len(entries) - 1


def test_an_acknowledgement_is_on_the_disk_before_the_next_write(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(ledger.os, "fsync", lambda _number: synced.append(len(table.rows)))
    table = Table()
    run(table, journal, seconds=0.25)
    assert synced == [1, 2, 3]
    assert [json.loads(line)["number"] for line in journal.read_text(encoding="utf-8").splitlines()] == [1, 2, 3]
