"""python -m tools.drills.encryption: encryption at rest on a machine with a kernel and disks of its own.

PostgreSQL lives on a LUKS2 volume, another directory is encrypted with fscrypt. The raw disks are searched from
outside.
"""

from __future__ import annotations

import hashlib
import mmap
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.drills.core import BIN, RESULTS, ROOT, Drill, DrillError, environment, say
from tools.drills.machine import Machine, blank, call

PLAY = ROOT / "tools/drills/encryption.yml"
UNIT = "postgresql@17-main.service"


def occurrences(path: Path, needle: bytes) -> int:
    """How often a disk holds some bytes."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as disk:
        found, at = 0, disk.find(needle)
        while at >= 0:
            found, at = found + 1, disk.find(needle, at + 1)
        return found


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Runner:
    """The playbook of this drill on the machine."""

    def __init__(self, drill: Drill, machine: Machine) -> None:
        self.drill, self.machine, self.runs = drill, machine, 0

    def play(self, volumes: list[dict[str, Any]], *options: str) -> tuple[int, str]:
        """Exit status and output."""
        self.runs += 1
        folder = self.machine.folder
        inventory = self.machine.inventory(
            {
                "encrypted_volume_list": volumes,
                "encrypted_volume_header_escrow_dir": str(folder / "headers"),
                "langflow_fleet_secrets_dir": str(folder / ".secrets"),
                "langflow_fleet_pki_dir": str(folder / ".pki"),
                "common_time_sync_enabled": False,
            }
        )
        log = self.drill.folder / f"{self.runs:02d}-encryption.log"
        began = time.monotonic()
        with log.open("wb") as stream:
            argv = [str(BIN / "ansible-playbook"), "-i", str(inventory), str(PLAY), *options]
            done = subprocess.run(
                argv, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
                check=False,
            )  # fmt: skip
        say(f"play {self.runs} {' '.join(options)} ended with {done.returncode} in {time.monotonic() - began:.0f} s")
        return done.returncode, log.read_text(errors="replace")

    def must(self, volumes: list[dict[str, Any]], *options: str) -> str:
        status, output = self.play(volumes, *options)
        if status:
            raise DrillError(f"the play failed:\n{output[-3000:]}")
        return output


def changed(output: str) -> str:
    """The figure behind changed= in the recap."""
    return output.rpartition("changed=")[2].split()[0] if "changed=" in output else "?"


def sql(machine: Machine, text: str, check: bool = True) -> str:
    return machine.ssh(f'runuser -u postgres -- psql -XAtc "{text}"', check=check).strip()


def exercise(drill: Drill, machine: Machine, disks: Mapping[str, Path]) -> None:
    """All steps, in the order of a life."""
    runner = Runner(drill, machine)
    row, secret, open_text = (f"{word}-{secrets.token_hex(24)}" for word in ("row", "file", "open"))
    vdb: dict[str, Any] = {"name": "pgdata", "device": "/dev/vdb", "mount": "/var/lib/postgresql", "services": [UNIT]}
    folder: dict[str, Any] = {"name": "papers", "method": "fscrypt", "mount": "/srv/plain/papers"}
    volumes = [vdb, folder]
    machine.start()
    machine.ssh("mkdir -p /srv/plain && echo '/dev/vdd /srv/plain ext4 defaults 0 2' >> /etc/fstab && mount /srv/plain")

    before = digest(disks["dirty"])
    for name, volume in {
        "a disk with a file system": {**vdb, "device": "/dev/vdc"},
        "the disk of the system": {**vdb, "device": "/dev/vda"},
        "a mount that would hide files": {**vdb, "mount": "/usr/local"},
    }.items():
        status, output = runner.play([volume], "--tags", "volumes")
        refused = status != 0 and any(word in output for word in ("holds data", "which the mount would hide"))
        drill.check(f"refused: {name}", refused, f"status {status}", "refused")
    machine.ssh("sync")
    drill.check("the refused disk is as it was", digest(disks["dirty"]) == before, "compared", "same checksum")

    status, output = runner.play(volumes, "--check", "--diff", "--tags", "volumes")
    drill.check("check mode on a bare machine", status == 0, f"status {status}", "0")
    runner.must(volumes)
    drill.check("a second run changes nothing", (n := changed(runner.must(volumes))) == "0", n, "0")
    source = machine.ssh("findmnt -no SOURCE,FSTYPE /var/lib/postgresql").strip()
    drill.check("PostgreSQL lives on the volume", source.startswith("/dev/mapper/pgdata"), source, "/dev/mapper/pgdata")

    sql(machine, f"CREATE TABLE known (v text); INSERT INTO known VALUES ('{row}'); CHECKPOINT")
    machine.ssh(f"echo {secret} > /srv/plain/papers/note; echo {open_text} > /srv/plain/open; sync")
    machine.reboot()
    drill.check("after a boot the row is there", (v := sql(machine, "SELECT v FROM known", check=False)) == row, v, row)
    note = machine.ssh("cat /srv/plain/papers/note", check=False).strip()
    drill.check("after a boot the file is there", note == secret, note, secret)

    say("taking the keys away")
    machine.ssh("mkdir -m 700 /root/away && mv /etc/flowfleet/keys/*.key /root/away/")
    machine.reboot()
    state = machine.ssh(f"systemctl is-active {UNIT}", check=False).strip()
    drill.check("without the key PostgreSQL does not start", state != "active", state, "not active")
    bare = machine.ssh("ls -A /var/lib/postgresql").split()
    drill.check("nothing was written to the bare directory", not bare, bare, "[]")
    denied = machine.ssh("cat /srv/plain/papers/note 2>&1", check=False).strip()
    names = machine.ssh("ls /srv/plain/papers", check=False).split()
    drill.check(
        "without the key the file has no name and no content",
        "note" not in names and secret not in denied,
        names,
        "no note",
    )
    machine.stop()
    for name, path, needle, wanted in (
        ("the row on the LUKS disk", disks["luks"], row, 0),
        ("the file on the fscrypt disk", disks["fscrypt"], secret, 0),
    ):
        hits = occurrences(path, needle.encode())
        drill.check(f"raw disk: {name}", hits == wanted, f"{hits} times", f"{wanted} times")
    hits = occurrences(disks["fscrypt"], open_text.encode())
    drill.check("control: an open file on the same disk is found", hits > 0, f"{hits} times", "at least once")

    machine.start()
    machine.ssh("mv /root/away/*.key /etc/flowfleet/keys/")
    machine.reboot()
    drill.check(
        "with the key it comes back by itself", (v := sql(machine, "SELECT v FROM known", check=False)) == row, v, row
    )

    say("destroying the LUKS header")
    machine.stop()
    with disks["luks"].open("r+b") as stream:
        stream.write(b"\xff" * (4 * 1024 * 1024))
    copies = sorted((machine.folder / "headers/vm1").glob("pgdata-*.header"))
    drill.check("the controller has a copy of the header", bool(copies), len(copies), "at least 1")
    machine.start()
    drill.check(
        "control: without its header the volume is lost",
        sql(machine, "SELECT 1", check=False) != "1",
        "no answer",
        "no answer",
    )
    newest = "$(ls -t /var/lib/flowfleet/luks/pgdata-*.header | head -1)"
    machine.ssh(f"cryptsetup luksHeaderRestore --batch-mode /dev/vdb --header-backup-file {newest}")
    machine.reboot()
    drill.check(
        "the copy brings the volume back", (v := sql(machine, "SELECT v FROM known", check=False)) == row, v, row
    )
    drill.note("cipher", machine.ssh("cryptsetup status pgdata").split("cipher:")[1].split()[0])
    drill.note("kernel", machine.ssh("uname -r").strip())


def main() -> int:
    drill = Drill("encryption", "encryption at rest: LUKS2 and fscrypt")
    folder = RESULTS / "encryption/vm"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    disks = {"luks": blank(folder / "luks.img", 1024), "dirty": blank(folder / "dirty.img", 128)}
    disks["fscrypt"] = blank(folder / "fscrypt.img", 256)
    call("mke2fs", "-q", "-t", "ext4", disks["dirty"])
    call("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "encrypt", disks["fscrypt"])
    machine = Machine(folder, [disks["luks"], disks["dirty"], disks["fscrypt"]])
    try:
        exercise(drill, machine, disks)
    except DrillError as error:
        drill.check("the drill came to its end", False, error, "yes")
    finally:
        machine.kill()
    drill.write({"machine": "qemu, emulated", **{k: drill.facts[k] for k in ("kernel",) if k in drill.facts}})
    print("\n" + "\n".join(drill.lines()))
    return 0 if drill.passed else 1


if __name__ == "__main__":
    sys.exit(main())
