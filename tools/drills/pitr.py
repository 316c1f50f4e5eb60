"""Drill 6 of tier "data": go back to random moments, and find exactly the rows of that moment.

A ledger is written on the primary, one transaction for each row, with the clock of that host just before and just
after each commit. Then random moments of that time are restored beside the server. Every row that was committed before
the moment must be there, and none that was begun after it; a row whose commit contains the moment may be either.

Then playbook verify_backup has to find the repository whole, and must not with one bit of it flipped, in a backup or in
the log, nor with one of the keys withheld that are kept elsewhere.

On its own, and for any inventory: python -m tools.drills.pitr -i INVENTORY
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tools.drills.core import BIN, ROOT, Drill, DrillError, Lab, environment, say

HERE = Path(__file__).parent
BACKUP = "flowfleet.langflow.backup"
RESTORE = "flowfleet.langflow.restore"
VERIFY = "flowfleet.langflow.verify_backup"
MOMENTS = 10
# In the result of verify_backup.
OPENED = re.compile(r"credentials opened\s+(\d+) of (\d+)")
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


@dataclass
class Books:
    """Playbooks against one inventory; what they say goes to files of the drill."""

    drill: Drill
    inventory: str
    # Opens the escrow file that is made for this drill.
    phrase: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def folder(self) -> Path:
        return self.drill.folder

    def run(self, name: str, *books: str | Path, **variables: object) -> tuple[int, str, float]:
        """Run playbooks one after the other; returns status, output and the seconds they took."""
        argv = [str(BIN / "ansible-playbook"), "-i", self.inventory, *map(str, books)]
        argv += ["-e", json.dumps({"pitr_folder": str(self.folder), **variables})]
        began = time.monotonic()
        escrow = {"FLOWFLEET_ESCROW_PASSPHRASE": self.phrase}
        done = subprocess.run(argv, cwd=ROOT, env=environment() | escrow, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        (self.folder / f"{name}.log").write_text(output, encoding="utf-8")
        return done.returncode, output, time.monotonic() - began

    def must(self, name: str, *books: str | Path, **variables: object) -> tuple[str, float]:
        """The same, and it has to go well."""
        status, output, seconds = self.run(name, *books, **variables)
        if status:
            raise DrillError(f"{name} ended with {status}:\n{output[-2000:]}")
        return output, seconds


def run(inventory: str, count: int, name: str = "pitr") -> Drill:
    """The drill: backup, ledger, moments, and what verification makes of damage."""
    drill = Drill(name, f"point-in-time recovery to {count} random moments, and a proof that damage fails")
    books = Books(drill, inventory)
    go_back(books, count)
    prove(books)
    return drill


def drill_6(lab: Lab) -> Drill:
    """For the command that runs the drills of a lab."""
    return run(str(lab.inventory), MOMENTS, f"{lab.scenario}-6")


def go_back(books: Books, count: int) -> None:
    """Write, choose moments, restore each beside the server, compare."""
    drill = books.drill
    say("a full backup, then the ledger")
    # That of an earlier drill opens with another passphrase.
    shutil.rmtree(books.folder / "escrow", ignore_errors=True)
    books.must("backup", BACKUP, backup_type="full", backup_escrow_dir=str(books.folder / "escrow"))
    books.must("write", HERE / "pitr_write.yml")
    rows = read_ledger((drill.folder / "ledger.txt").read_text(encoding="utf-8"))
    moments = choose(rows, count)
    say(f"{len(rows)} rows in {(rows[-1].done - rows[0].begun).total_seconds():.1f} s")
    answers, seconds = [], []
    for number, target in enumerate(moments, 1):
        name, text = f"moment-{number:02d}", target.strftime(FORMAT) + "+00"
        where = {"restore_cluster": "drill", "restore_port": 5498}
        given = {"restore_time": text, "pitr_name": name, **where}
        seconds.append(books.must(name, RESTORE, HERE / "pitr_read.yml", **given)[1])
        found = [int(line) for line in (drill.folder / f"{name}.txt").read_text(encoding="utf-8").split()]
        answer = judge(rows, target, found)
        answers.append(answer)
        sides = ", ".join("none" if side is None else f"{side:+.1f} ms" for side in distance(answer))
        say(f"{text}: {len(found)} rows, newest and next at {sides}: {'exact' if answer.exact else 'WRONG'}")
    books.must("clean", HERE / "pitr_write.yml", pitr_rows=0)
    drill.note("rows", len(rows))
    drill.note("moments", [target.isoformat() for target in moments])
    drill.note("seconds_per_moment", [round(value, 1) for value in seconds])
    drill.note("newest_and_next_ms", [distance(answer) for answer in answers])
    exact = sum(answer.exact for answer in answers)
    lost, early = sum(len(answer.lost) for answer in answers), sum(len(answer.early) for answer in answers)
    drill.check("moments with exactly their rows", exact == count, f"{exact} of {count}", f"{count} of {count}")
    looked = f"of {len(rows)} rows at {count} moments"
    drill.check("committed rows that were lost", not lost, f"{lost} {looked}", "0")
    drill.check("rows of a later time", not early, f"{early} {looked}", "0")


def prove(books: Books) -> None:
    """The same verification of a whole repository and of five that are not."""
    drill, escrow = books.drill, {"backup_escrow_dir": str(books.folder / "escrow")}
    say("verification of the whole repository")
    # A lab may have no credential yet; whether one is opened is looked at where there is one.
    sound = {**escrow, "backup_verify_credential_required": False}
    status, output, seconds = books.run("verify-whole", VERIFY, **sound)
    drill.check("verification of the whole repository passes", status == 0, f"status {status}", "status 0")
    drill.note("seconds_of_verification", round(seconds, 1))
    for what, below, pattern in (("a backup", "backup", r"\d+"), ("the log", "archive", r"[0-9A-F]{24}-.*")):
        name = f"flip-{below}"
        books.must(name, HERE / "pitr_flip.yml", pitr_below=below, pitr_pattern=pattern)
        path = (books.folder / "flipped.txt").read_text(encoding="utf-8").strip()
        try:
            fails(books, f"verification with a flipped bit in {what} fails", "repository is damaged", **sound)
        finally:
            books.must(f"{name}-back", HERE / "pitr_flip.yml", pitr_path=path)
        drill.note(f"flipped_in_{below}", path)
    other = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    fails(
        books, "verification without the escrow file fails", "There is no", **{**sound, "backup_escrow_dir": "/nowhere"}
    )
    wrong = {"backup_verify_cipher_passphrase": secrets.token_urlsafe(48)}
    fails(books, "verification with another passphrase fails", "cannot be read", **{**sound, **wrong})
    opened = OPENED.search(output)
    if opened and int(opened[2]):
        wrong = {"backup_verify_secret_key": other}
        fails(books, "verification with another secret key fails", "The secret key opens 0 of", **{**sound, **wrong})
    drill.note("credentials_opened", opened[0] if opened else "unknown")
    status, _output, _seconds = books.run("verify-again", VERIFY, **sound)
    drill.check("verification passes again when all is put back", status == 0, f"status {status}", "status 0")


def fails(books: Books, what: str, reason: str, **variables: object) -> None:
    """A verification that must fail, and for this reason."""
    name = re.sub(r"[^a-z]+", "-", what)
    status, output, _seconds = books.run(name, VERIFY, **variables)
    # Ansible breaks no lines, but it shows text as JSON does.
    said = reason in output
    measured = f"status {status}, {'said so' if said else 'for another reason'}"
    books.drill.check(what, status != 0 and said, measured, f"not 0, {reason!r}")


def distance(answer: Answer) -> list[float | None]:
    """From the moment to the commit of the newest row that is there and of the next one that is not, in ms."""
    sides = (answer.newest, answer.following)
    return [round((row.done - answer.moment).total_seconds() * 1000, 1) if row else None for row in sides]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.drills.pitr", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-i", "--inventory", required=True)
    parser.add_argument("--moments", type=int, default=MOMENTS)
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
