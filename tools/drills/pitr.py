"""python -m tools.drills.pitr -i INVENTORY: go back to random moments, and find exactly the rows of that moment.

A ledger is written on the primary, one transaction for each row, with the clock of that host just before and just
after each commit. Then random moments of that time are restored beside the server. Every row that was committed before
the moment must be there, and none that was begun after it; a row whose commit contains the moment may be either.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tools.drills.core import BIN, ROOT, Drill, DrillError, environment, say

HERE = Path(__file__).parent
RESTORE = "flowfleet.langflow.restore"
FORMAT = "%Y-%m-%d %H:%M:%S.%f"


@dataclass(frozen=True)
class Row:
    """One row of the ledger."""

    id: int
    begun: datetime
    done: datetime


@dataclass(frozen=True)
class Answer:
    """What was found at one moment."""

    moment: datetime
    newest: Row | None
    following: Row | None
    lost: list[int]
    early: list[int]
    between: int

    @property
    def exact(self) -> bool:
        """Nothing lost, nothing from the future, and a row on both sides."""
        return not self.lost and not self.early and self.newest is not None and self.following is not None


def moment(text: str) -> datetime:
    return datetime.strptime(text, FORMAT).replace(tzinfo=UTC)


def read_ledger(text: str) -> list[Row]:
    """Pairs of lines, `row|id|time` and `done|time`; the last row counts only if its commit was seen."""
    rows: list[Row] = []
    begun: tuple[int, datetime] | None = None
    for line in text.splitlines():
        fields = line.split("|")
        if fields[0] == "row":
            begun = (int(fields[1]), moment(fields[2]))
        elif fields[0] == "done" and begun:
            rows.append(Row(*begun, moment(fields[1])))
            begun = None
    return rows


def choose(rows: Sequence[Row], count: int) -> list[datetime]:
    """Moments with a committed row before and a row after them."""
    if len(rows) < 3:
        raise DrillError(f"the ledger has {len(rows)} rows, too few to choose a moment between them")
    first, last = rows[0].done, rows[-1].begun
    chance = secrets.SystemRandom()
    return [first + timedelta(seconds=chance.random() * (last - first).total_seconds()) for _number in range(count)]


def judge(rows: Sequence[Row], target: datetime, found: Sequence[int]) -> Answer:
    """Compare what a restore has with what was committed by then."""
    present = set(found)
    there = [row for row in rows if row.id in present]
    absent = [row for row in rows if row.id not in present]
    return Answer(
        moment=target,
        newest=there[-1] if there else None,
        following=absent[0] if absent else None,
        lost=[row.id for row in absent if row.done <= target],
        early=[row.id for row in there if row.begun > target],
        between=sum(row.begun <= target < row.done for row in rows),
    )


def play(drill: Drill, inventory: str, name: str, books: Sequence[str | Path], **variables: object) -> float:
    """Run playbooks one after the other; returns the seconds they took."""
    argv = [str(BIN / "ansible-playbook"), "-i", inventory, *map(str, books)]
    argv += ["-e", json.dumps({"pitr_folder": str(drill.folder), **variables})]
    began = time.monotonic()
    done = subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    (drill.folder / f"{name}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        raise DrillError(f"{name} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
    return time.monotonic() - began


def run(inventory: str, count: int) -> Drill:
    """The drill: backup, ledger, moments."""
    drill = Drill("pitr", f"point-in-time recovery to {count} random moments")
    say("a full backup, then the ledger")
    play(drill, inventory, "backup", ["flowfleet.langflow.backup"], backup_type="full")
    play(drill, inventory, "write", [HERE / "pitr_write.yml"])
    rows = read_ledger((drill.folder / "ledger.txt").read_text(encoding="utf-8"))
    moments = choose(rows, count)
    say(f"{len(rows)} rows in {(rows[-1].done - rows[0].begun).total_seconds():.1f} s")
    answers, seconds = [], []
    for number, target in enumerate(moments, 1):
        name, text = f"moment-{number:02d}", target.strftime(FORMAT) + "+00"
        books: list[str | Path] = [RESTORE, HERE / "pitr_read.yml"]
        where = {"restore_cluster": "drill", "restore_port": 5498}
        seconds.append(play(drill, inventory, name, books, restore_time=text, pitr_name=name, **where))
        found = [int(line) for line in (drill.folder / f"{name}.txt").read_text(encoding="utf-8").split()]
        answer = judge(rows, target, found)
        answers.append(answer)
        sides = ", ".join("none" if side is None else f"{side:+.1f} ms" for side in distance(answer))
        say(f"{text}: {len(found)} rows, newest and next at {sides}: {'exact' if answer.exact else 'WRONG'}")
    play(drill, inventory, "clean", [HERE / "pitr_write.yml"], pitr_rows=0)
    drill.note("rows", len(rows))
    drill.note("moments", [target.isoformat() for target in moments])
    drill.note("seconds_per_moment", [round(value, 1) for value in seconds])
    drill.note("newest_and_next_ms", [distance(answer) for answer in answers])
    exact = sum(answer.exact for answer in answers)
    lost, early = sum(len(answer.lost) for answer in answers), sum(len(answer.early) for answer in answers)
    drill.check("moments with exactly their rows", exact == count, f"{exact} of {count}", f"{count} of {count}")
    drill.check("committed rows that were lost", not lost, lost, "0")
    drill.check("rows of a later time", not early, early, "0")
    return drill


def distance(answer: Answer) -> list[float | None]:
    """From the moment to the commit of the newest row that is there and of the next one that is not, in ms."""
    sides = (answer.newest, answer.following)
    return [round((row.done - answer.moment).total_seconds() * 1000, 1) if row else None for row in sides]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.drills.pitr", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-i", "--inventory", required=True)
    parser.add_argument("--moments", type=int, default=10)
    given = parser.parse_args(arguments)
    try:
        drill = run(str(Path(given.inventory).resolve()), given.moments)
    except (DrillError, subprocess.CalledProcessError) as error:
        say(str(error))
        return 2
    path = drill.write({})
    print("\n".join(drill.lines()))
    say(f"result: {path}")
    return 0 if drill.passed else 1


if __name__ == "__main__":
    sys.exit(main())
