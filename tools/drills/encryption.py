"""python -m tools.drills.encryption: encryption at rest on a machine with a kernel, disks and a TPM of its own.

The real roles put PostgreSQL, Redis and the backups on LUKS2 volumes: opened by a key file, by the TPM, and by nothing
but a run of the role. One more is opened by a Tang server, and a second PostgreSQL lives in an fscrypt directory. Keys
are taken away, the raw disks are searched from outside, headers are destroyed and put back.
"""

from __future__ import annotations

import hashlib
import mmap
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.drills.core import BIN, RESULTS, ROOT, Drill, DrillError, environment, say
from tools.drills.machine import Machine, blank, call

PLAY = ROOT / "tools/drills/encryption.yml"
POSTGRESQL, SECOND = "postgresql@17-main.service", "postgresql@17-papers.service"
REDIS = ["redis-cache.service", "redis-queue.service"]
# A service that would write wherever it is let.
CANARY = "canary.service"
CANARY_UNIT = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/touch /var/lib/postgresql/canary
[Install]
WantedBy=multi-user.target
"""
KEYS = "/etc/flowfleet/keys"
HEADERS = "/var/lib/flowfleet/luks"
MOUNTS = {"pgdata": "/var/lib/postgresql", "redisdata": "/var/lib/redis", "pgbackrest": "/var/lib/pgbackrest",
          "uploads": "/srv/uploads"}  # fmt: skip
DEVICES = {"pgdata": "/dev/vdb", "redisdata": "/dev/vdc", "pgbackrest": "/dev/vdd", "uploads": "/dev/vdg"}
PAPERS = "/srv/plain/papers"


def volume(name: str, unlock: str, services: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "device": DEVICES[name],
        "mount": MOUNTS[name],
        "unlock": unlock,
        "services": list(services),
    }


PGDATA = volume("pgdata", "keyfile", [POSTGRESQL, CANARY])
VOLUMES: list[dict[str, Any]] = [
    PGDATA,
    volume("redisdata", "tpm2", REDIS),
    volume("pgbackrest", "none", []),
    {"name": "papers", "method": "fscrypt", "mount": PAPERS, "services": [SECOND]},
]


def occurrences(path: Path, needle: str) -> int:
    """How often a disk holds a text."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as disk:
        found, at = 0, disk.find(needle.encode())
        while at >= 0:
            found, at = found + 1, disk.find(needle.encode(), at + 1)
        return found


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def changed(output: str) -> str:
    """The figure behind changed= in the recap."""
    return output.rpartition("changed=")[2].split()[0] if "changed=" in output else "?"


class Life:
    """One machine from its first run to the loss of its keys."""

    def __init__(self, drill: Drill, machine: Machine, disks: Mapping[str, Path]) -> None:
        self.drill, self.machine, self.disks, self.runs = drill, machine, disks, 0
        self.words = {
            name: f"{name}-{secrets.token_hex(24)}"
            for name in ("row", "temp", "queue", "dump", "file", "open", "upload")
        }
        self.given = secrets.token_hex(20)
        self.volumes = list(VOLUMES)
        self.extra: dict[str, Any] = {}

    # --- tools

    def play(self, volumes: Sequence[Mapping[str, Any]], *options: str) -> tuple[int, str]:
        """Exit status and output of the playbook of this drill."""
        self.runs += 1
        folder = self.machine.folder
        inventory = self.machine.inventory(
            {
                "encrypted_volume_list": list(volumes),
                "encrypted_volume_header_escrow_dir": str(folder / "headers"),
                # As from a vault file: where a passphrase comes from is the choice of the inventory.
                "langflow_fleet_secrets": {"encrypted_volume_vm1_pgbackrest_passphrase": self.given},
                "langflow_fleet_secrets_dir": str(folder / ".secrets"),
                "langflow_fleet_pki_dir": str(folder / ".pki"),
                "common_time_sync_enabled": False,
                **self.extra,
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

    def must(self, volumes: Sequence[Mapping[str, Any]], *options: str) -> str:
        status, output = self.play(volumes, *options)
        if status:
            raise DrillError(f"the play failed:\n{output[-3000:]}")
        return output

    def ask(self, command: str) -> str:
        """What a command prints, whether it fails or not."""
        return self.machine.ssh(command, check=False).strip()

    def equal(self, what: str, measured: str, wanted: str) -> None:
        self.drill.check(what, measured == wanted, measured or "nothing", wanted)

    def none(self, what: str, measured: Sequence[str]) -> None:
        self.drill.check(what, not measured, list(measured), "[]")

    def secret(self, name: str) -> str:
        """A secret of the inventory."""
        path = self.machine.folder / ".secrets" / name
        return path.read_text().strip() if path.exists() else self.given

    def row(self, cluster: str = "17/main") -> str:
        """The known row, from one of the two servers."""
        return self.ask(f"runuser -u postgres -- psql --cluster {cluster} -XAtc 'SELECT v FROM known'")

    def redis(self, command: str) -> str:
        """What the queue's master answers to its application."""
        argv = ["redis-cli", "--tls", "--cacert", "/etc/flowfleet/tls/ca.crt", "-h", "127.0.0.1", "-p", "6380"]
        login = f"REDISCLI_AUTH={self.secret('redis_queue_password')}"
        return self.ask(f"{login} {shlex.join([*argv, '--user', 'langflow', '--no-auth-warning'])} {command}")

    def opens(self, name: str, key: str) -> str:
        """Whether a passphrase opens a volume: yes or no. It is not handed over in an argument list."""
        argv = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", DEVICES[name]]
        script = f"import subprocess, sys; sys.exit(subprocess.run({argv!r}, input={key.encode()!r}).returncode)"
        done = subprocess.run(
            ["ssh", *self.machine.ssh_options, "root@127.0.0.1", "python3 - && echo yes || echo no"],
            input=script, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.split()[-1]

    def inside(self, name: str, word: str) -> int:
        """How often the opened volume holds a text."""
        return int(self.ask(f"grep -aoF {self.words[word]} /dev/mapper/{name} | wc -l"))

    def place(self, path: str) -> str:
        """The device that a file is stored on."""
        return self.ask(f"df --output=source {path} | tail -1")

    def bound(self, name: str) -> str:
        """What a volume is bound to beside its keys."""
        script = 'import json, sys; print(*[t["type"] for t in json.load(sys.stdin)["tokens"].values()])'
        return self.ask(f"cryptsetup luksDump --dump-json-metadata {DEVICES[name]} | python3 -c {shlex.quote(script)}")

    def active(self, *units: str) -> list[str]:
        return [unit for unit in units if self.ask(f"systemctl is-active {unit}") == "active"]

    # --- the steps

    def refusals(self) -> None:
        """Nothing that holds data is touched."""
        before = digest(self.disks["dirty"])
        for name, wrong, words in (
            ("a disk with a file system", {**PGDATA, "device": "/dev/vde"}, "holds data (ext4)"),
            ("the disk of the system", {**PGDATA, "device": "/dev/vda"}, "holds data (ext4)"),
            ("a mount that would hide files", {**PGDATA, "mount": "/usr/local"}, "which the mount would hide"),
        ):
            status, output = self.play([wrong], "--tags", "volumes")
            self.drill.check(f"refused: {name}", status != 0 and words in output, f"status {status}", words)
        self.machine.ssh("sync")
        self.drill.check(
            "the refused disk is as it was", digest(self.disks["dirty"]) == before, "compared", "same checksum"
        )

    def founding(self) -> None:
        """The real roles, twice and once more in check mode."""
        self.machine.ssh(f"cat > /etc/systemd/system/{CANARY} <<'END'\n{CANARY_UNIT}END")
        self.machine.ssh(f"systemctl daemon-reload && systemctl enable {CANARY} 2>&1")
        status, _output = self.play(self.volumes, "--check", "--diff", "--tags", "volumes")
        self.equal("check mode on a bare machine", f"status {status}", "status 0")
        self.must(self.volumes)
        self.equal("a second run changes nothing", changed(self.must(self.volumes)), "0")
        self.equal("--check --diff after it", changed(self.must(self.volumes, "--check", "--diff")), "0")

    def keys(self) -> None:
        """What the headers say, and who opens what."""
        for name, device in list(DEVICES.items())[:3]:
            version = self.ask(f"cryptsetup luksDump {device} | sed -n 's/^Version:[[:space:]]*//p'")
            self.equal(f"{name}: format", f"LUKS{version}", "LUKS2")
            passphrase = self.secret(f"encrypted_volume_vm1_{name}_passphrase")
            self.equal(f"{name}: the recovery passphrase opens it", self.opens(name, passphrase), "yes")
        self.equal(
            "pgdata: the key file opens it", self.opens("pgdata", self.secret("encrypted_volume_vm1_pgdata_key")), "yes"
        )
        self.equal("control: another key does not open it", self.opens("pgdata", "x" * 32), "no")
        self.equal("redisdata: bound to the TPM", self.bound("redisdata"), "systemd-tpm2")
        self.drill.note("cipher", self.ask("cryptsetup status pgdata").split("cipher:")[1].split()[0])
        for name in list(DEVICES)[:3]:
            copies = sorted((self.machine.folder / "headers/vm1").glob(f"{name}-*.header"))
            self.drill.check(f"{name}: copies of the header on the controller", bool(copies), len(copies), "at least 1")

    def writing(self) -> None:
        """Data of every kind, and where it is stored."""
        word = self.words
        for cluster, text in (("17/main", word["row"]), ("17/papers", word["file"])):
            script = f"CREATE TABLE known (v text); INSERT INTO known VALUES ('{text}'); CHECKPOINT"
            self.machine.ssh(f'runuser -u postgres -- psql --cluster {cluster} -XAtc "{script}"')
        # A sort that does not fit into memory, held open while the disks are written.
        temporary = "\n".join((
            "BEGIN; SET work_mem = '64kB';",
            f"DECLARE c CURSOR FOR SELECT '{word['temp']}' || i FROM generate_series(1, 100000) i"
            " ORDER BY md5(i::text);",
            "MOVE 1 FROM c;",
            "SELECT coalesce(sum(size), 0) FROM pg_ls_tmpdir();",
            "\\! df --output=source /var/lib/postgresql/17/main/base/pgsql_tmp | tail -1",
            "\\! sync",
            "COMMIT;",
        ))  # fmt: skip
        self.machine.ssh(f"cat > /tmp/temporary.sql <<'END'\n{temporary}\nEND")
        size, source = self.ask("runuser -u postgres -- psql -XAtqf /tmp/temporary.sql").splitlines()[-2:]
        self.drill.check("temporary files were written", int(size) > 0, f"{size} bytes", "more than 0")
        self.equal("queue: a job is accepted", self.redis(f"set langflow:known {word['queue']}"), "OK")
        self.machine.ssh(
            'pgbackrest() { runuser -u postgres -- pgbackrest "$@"; }; pgbackrest --stanza=langflow --type=full backup'
        )
        # A dump in plain text too: the repository is encrypted once more by itself, which would prove nothing here.
        self.machine.ssh(f"echo {word['dump']} > /var/lib/pgbackrest/dump.sql")
        self.machine.ssh(f"echo {word['open']} > /srv/plain/open; sync")
        data = "/var/lib/postgresql/17/main"
        for what, found, name in (
            ("data", self.place(f"{data}/base"), "pgdata"),
            ("write-ahead log", self.place(f"{data}/pg_wal/"), "pgdata"),
            ("temporary files", source, "pgdata"),
            ("append-only file", self.place("/var/lib/redis/queue/appendonlydir"), "redisdata"),
            ("backups and archive", self.place("/var/lib/pgbackrest/backup/langflow"), "pgbackrest"),
        ):
            self.equal(f"stored on: {what}", found, f"/dev/mapper/{name}")
        time.sleep(3)
        self.machine.ssh("sync")
        # The same search as later from outside finds every word while the volumes are open.
        for name, text in (("pgdata", "row"), ("pgdata", "temp"), ("redisdata", "queue"), ("pgbackrest", "dump")):
            hits = self.inside(name, text)
            self.drill.check(f"control: the {text} is on the opened {name}", hits > 0, f"{hits} times", "at least once")

    def present(self, moment: str) -> None:
        """Everything that opens by itself is open, and served."""
        self.equal(f"{moment}: the row is there", self.row(), self.words["row"])
        self.equal(f"{moment}: the job is there", self.redis("get langflow:known"), self.words["queue"])
        self.equal(f"{moment}: the row in the fscrypt directory is there", self.row("17/papers"), self.words["file"])
        self.equal(f"{moment}: the upload is there", self.ask("cat /srv/uploads/file"), self.words["upload"])

    def tang(self) -> None:
        """One more volume, bound to a Tang server; it runs on this machine too, its keys can be taken away."""
        self.machine.ssh("apt-get install -qqy --no-install-recommends tang >/dev/null && systemctl start tangd.socket")
        thumbprint = self.machine.ssh("curl -sf http://127.0.0.1/adv >/dev/null; tang-show-keys 80").split()[-1]
        self.extra = {"encrypted_volume_tang_servers": [{"url": "http://127.0.0.1", "thp": thumbprint}]}
        self.volumes.append(volume("uploads", "tang", []))
        self.must(self.volumes, "--tags", "volumes")
        self.equal("uploads: bound to Tang", self.bound("uploads"), "clevis")
        self.machine.ssh(f"echo {self.words['upload']} > /srv/uploads/file; sync")

    def unattended(self) -> None:
        self.machine.reboot()
        self.present("after a boot")
        self.none("after a boot what has no key here is closed", self.ask("ls /dev/mapper | grep pgbackrest").split())
        self.must(self.volumes, "--tags", "volumes")
        self.equal("a run of the role opens it", self.ask("cat /var/lib/pgbackrest/dump.sql"), self.words["dump"])
        self.equal("and the run after that changes nothing", changed(self.must(self.volumes, "--tags", "volumes")), "0")

    def without(self) -> None:
        """Another machine, as far as the disks are concerned: no key files, another TPM."""
        say("taking the keys away")
        self.machine.ssh(f"mkdir -m 700 /root/away && mv {KEYS}/*.key /root/away/")
        self.machine.ssh("mv /var/lib/tang /root/away/tang && mkdir /var/lib/tang")
        self.machine.stop()
        if self.machine.tpm is None:
            raise DrillError("the machine has no TPM")
        here, away = self.machine.tpm, self.machine.tpm.with_name("tpm-away")
        here.rename(away)
        self.machine.start()
        self.none("without keys these run", self.active(POSTGRESQL, *REDIS, SECOND, CANARY))
        bare = self.ask(f"find {' '.join(MOUNTS.values())} -mindepth 1").split()
        self.none("without keys: in the bare directories", bare)
        names = self.ask(f"ls {PAPERS}").split()
        self.drill.check("without keys: the fscrypt directory has no readable names", names != [] and "pg" not in names,
                         names, "names that say nothing")  # fmt: skip
        passphrase = self.secret("encrypted_volume_vm1_redisdata_passphrase")
        self.equal("another TPM: the passphrase still opens", self.opens("redisdata", passphrase), "yes")
        self.machine.ssh(f"rm -r /etc/systemd/system/{CANARY}.d && systemctl daemon-reload && systemctl start {CANARY}")
        self.equal("control: a service without the dependency writes there",
                   self.ask("ls /var/lib/postgresql"), "canary")  # fmt: skip
        status, output = self.play([PGDATA], "--tags", "volumes")
        words = "which the mount would hide"
        self.drill.check(
            "and what it wrote is not hidden by a mount", status != 0 and words in output, f"status {status}", words
        )
        self.machine.ssh(f"systemctl disable --now {CANARY} 2>&1; rm /var/lib/postgresql/canary")
        # For the next boot. What is searched now are disks of which none has a key.
        self.machine.ssh(f"mv /root/away/*.key {KEYS}/ && rm -r /var/lib/tang && mv /root/away/tang /var/lib/tang")
        self.machine.stop()
        for name, text in (("pgdata", "row"), ("pgdata", "temp"), ("redisdata", "queue"), ("pgbackrest", "dump"),
                           ("fscrypt", "file"), ("uploads", "upload")):  # fmt: skip
            hits = occurrences(self.disks[name], self.words[text])
            self.equal(f"raw disk {name}: the {text}", f"{hits} times", "0 times")
        hits = occurrences(self.disks["fscrypt"], self.words["open"])
        self.drill.check("control: an open file on the same disk is found", hits > 0, f"{hits} times", "at least once")
        shutil.rmtree(here)
        away.rename(here)
        self.machine.start()
        self.present("with the keys again")

    def rotation(self) -> None:
        """The host's key is exchanged: the new one is added by a run, the old one is revoked by hand."""
        name = "encrypted_volume_vm1_pgdata_key"
        old = self.secret(name)
        (self.machine.folder / ".secrets" / name).unlink()
        self.machine.ssh("systemd-cryptenroll --wipe-slot=tpm2 /dev/vdc")
        count = int(self.ask(f"ls {HEADERS}/pgdata-*.header | wc -l"))
        self.must(self.volumes, "--tags", "volumes")
        self.equal("rotation: bound to the TPM anew", self.bound("redisdata"), "systemd-tpm2")
        self.equal("rotation: the new key opens", self.opens("pgdata", self.secret(name)), "yes")
        self.equal("rotation: copies of the header", self.ask(f"ls {HEADERS}/pgdata-*.header | wc -l"), str(count + 1))
        self.machine.ssh("cryptsetup luksKillSlot --batch-mode /dev/vdb 1")
        self.equal("rotation: the old key does not open any more", self.opens("pgdata", old), "no")
        self.equal("rotation: the new key still opens", self.opens("pgdata", self.secret(name)), "yes")
        self.machine.ssh(f"rm {HEADERS}/pgdata-*.header")
        self.must(self.volumes, "--tags", "volumes")
        self.equal("rotation: copies of the header after it", self.ask(f"ls {HEADERS}/pgdata-*.header | wc -l"), "1")

    def damage(self) -> None:
        """A file system that cannot be recognised, and a header that is gone."""
        say("damaging a file system")
        mapped = "/dev/mapper/pgbackrest"
        self.machine.ssh(f"umount /var/lib/pgbackrest && dd if={mapped} of=/root/block bs=4096 count=1 2>&1")
        self.machine.ssh(f"dd if=/dev/zero of={mapped} bs=4096 count=1 conv=fsync 2>&1; sync")
        before = self.ask(f"sha256sum {mapped}")
        status, output = self.play(self.volumes, "--tags", "volumes")
        words = "perhaps a damaged one"
        self.drill.check(
            "no new file system over a damaged one", status != 0 and words in output, f"status {status}", words
        )
        self.equal("the damaged one is as it was", self.ask(f"sha256sum {mapped}"), before)
        self.machine.ssh(f"dd if=/root/block of={mapped} bs=4096 count=1 conv=fsync 2>&1")
        self.must(self.volumes, "--tags", "volumes")
        self.equal("repaired, it is taken again", self.ask("cat /var/lib/pgbackrest/dump.sql"), self.words["dump"])

        say("destroying a LUKS header")
        self.machine.stop()
        with self.disks["pgdata"].open("r+b") as stream:
            stream.write(b"\xff" * (4 * 1024 * 1024))
        self.machine.start()
        self.none("control: without its header these run", self.active(POSTGRESQL))
        self.equal("the TPM opens what was bound anew", self.redis("get langflow:known"), self.words["queue"])
        status, output = self.play([PGDATA], "--tags", "volumes")
        self.drill.check("the lost header is not taken for an empty disk", status != 0 and "holds data" in output,
                         f"status {status}", "holds data")  # fmt: skip
        copies = sorted(
            (self.machine.folder / "headers/vm1").glob("pgdata-*.header"), key=lambda path: path.stat().st_mtime
        )
        argv = ["scp", "-P", *self.machine.ssh_options[1:], str(copies[-1]), "root@127.0.0.1:/root/header"]
        call(*argv)
        self.machine.ssh("cryptsetup luksHeaderRestore --batch-mode /dev/vdb --header-backup-file /root/header")
        self.machine.ssh(f"udevadm settle; systemctl daemon-reload; systemctl start {POSTGRESQL}")
        self.equal("the controller's copy brings it back", self.row(), self.words["row"])

    def second_server(self) -> None:
        """PostgreSQL in the fscrypt directory."""
        self.machine.ssh(f"install -d -o postgres -g postgres -m 0700 {PAPERS}/pg && chmod 0755 /srv/plain {PAPERS}")
        self.machine.ssh(
            f"pg_createcluster 17 papers -p 5433 -d {PAPERS}/pg --start-conf auto && systemctl start {SECOND}"
        )

    def live(self) -> None:
        self.machine.start()
        self.machine.ssh("mkdir -p /srv/plain && echo '/dev/vdf /srv/plain ext4 defaults 0 2' >> /etc/fstab")
        self.machine.ssh("systemctl daemon-reload && mount /srv/plain")
        self.drill.note("kernel", self.machine.ssh("uname -r").strip())
        steps = (
            self.refusals,
            self.founding,
            self.keys,
            self.second_server,
            self.writing,
            self.tang,
            self.unattended,
            self.without,
            self.rotation,
            self.damage,
        )
        for step in steps:
            say(f"--- {step.__name__}")
            step()


def prepare(folder: Path) -> tuple[Machine, dict[str, Path]]:
    """A machine with a TPM and six disks: four of zeros, one with data on it, one that knows fscrypt."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sizes = {"pgdata": 768, "redisdata": 128, "pgbackrest": 192, "dirty": 64, "fscrypt": 384, "uploads": 64}
    disks = {name: blank(folder / f"{name}.img", size) for name, size in sizes.items()}
    call("mke2fs", "-q", "-t", "ext4", disks["dirty"])
    call("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "encrypt", disks["fscrypt"])
    return Machine(folder, list(disks.values()), tpm=folder / "tpm"), disks


def main() -> int:
    drill = Drill("encryption", "encryption at rest: LUKS2 and fscrypt")
    machine, disks = prepare(RESULTS / "encryption/vm")
    try:
        Life(drill, machine, disks).live()
    except DrillError as error:
        drill.check("the drill came to its end", False, error, "yes")
    finally:
        machine.kill()
    drill.write({"machine": "qemu, emulated", **{k: drill.facts[k] for k in ("kernel",) if k in drill.facts}})
    print("\n" + "\n".join(drill.lines()))
    return 0 if drill.passed else 1


if __name__ == "__main__":
    sys.exit(main())
