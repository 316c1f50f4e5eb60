"""The data tier of a lab as a drill sees it: who leads, what clients can write, and how servers are taken away."""

from __future__ import annotations

import json
import math
import shlex
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.drills import ledger
from tools.drills.core import Drill, DrillError, Lab, count_text, say
from tools.drills.load import quantile

HERE = Path(__file__).parent
# Where drills keep their own on a host.
FOLDER = "/var/lib/flowfleet-drill"
LIST = "timeout 15 patronictl -c /etc/patroni/config.yml list --format json"
CURL = "curl -s -m 5 --cacert /etc/flowfleet/tls/ca.crt"
TICK = 0.1
SAMPLER = """[Unit]
Description=Samples of PostgreSQL, for a drill
Before=patroni.service
[Service]
ExecStart=/usr/bin/python3 {folder}/sampler.py {folder}/samples
Restart=always
RestartSec=100ms
Nice=-5
[Install]
WantedBy=multi-user.target
"""
WHOLE = ["Leader running", "Replica streaming", "Sync Standby streaming"]
WHOLE_BOUNDED = ["Leader running", "Replica streaming", "Replica streaming"]


# --- what was measured -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One answer of one server."""

    began: float
    ended: float
    state: str


def read_samples(text: str) -> list[Sample]:
    """The lines of a sampler; one that was cut off by a kill is left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] in ("primary", "standby", "down"):
            found.append(Sample(float(words[0]), float(words[1]), words[2]))
    return found


def ticks(began: float, ended: float) -> range:
    """The tenths of a second that a span of time touches."""
    return range(math.floor(began / TICK + 1e-6), math.floor(ended / TICK + 1e-6) + 1)


def writable_ticks(samples: Sequence[Sample], bridge: float = 1.0) -> set[int]:
    """The tenths of a second in which a server took writes; between two such answers it did all the time."""
    found: set[int] = set()
    last: Sample | None = None
    for sample in samples:
        if sample.state == "primary":
            joined = last is not None and last.state == "primary" and sample.began - last.ended <= bridge
            found.update(ticks(last.began if last and joined else sample.began, sample.ended))
        last = sample
    return found


def writable_twice(samples: Mapping[str, Sequence[Sample]]) -> dict[int, list[str]]:
    """The tenths of a second in which more than one server took writes, and which did."""
    by_tick: dict[int, list[str]] = defaultdict(list)
    for name, rows in samples.items():
        for tick in writable_ticks(rows):
            by_tick[tick].append(name)
    return {tick: sorted(names) for tick, names in sorted(by_tick.items()) if len(names) > 1}


def outage(entries: Sequence[ledger.Entry], since: float, until: float) -> dict[str, float] | None:
    """The longest time without a good write that has a part in a span of time; None while it is not over."""
    found = [gap for gap in ledger.gaps(entries, 0.0) if gap["to"] >= since and gap["from"] <= until]
    last = max((entry.ended for entry in entries if entry.outcome == ledger.ACKNOWLEDGED), default=0.0)
    if not found or last < since:
        return None
    return max(found, key=lambda gap: gap["seconds"])


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and the longest of some times."""
    values = {
        "p50": quantile(seconds, 0.5),
        "p95": quantile(seconds, 0.95),
        "max": max(seconds, default=None),
    }
    return {name: round(value, 2) for name, value in values.items() if value is not None}


def spread_text(seconds: Sequence[float]) -> str:
    found = spread(seconds)
    return ", ".join(f"{name} {value:g} s" for name, value in found.items()) + f" (n = {len(seconds)})"


# --- the tier --------------------------------------------------------------------------------------------------------


@dataclass
class Tier:
    """The database servers, and the host that writes to them as Langflow does."""

    lab: Lab

    @property
    def servers(self) -> list[str]:
        return self.lab.groups["postgresql"]

    @property
    def client(self) -> str:
        return self.lab.groups["langflow"][0]

    def shell(self, host: str, command: str, check: bool = True) -> str:
        """A line of shell on a host, past the network."""
        return self.lab.inside(host, "sh", "-c", command, check=check)

    def running(self, host: str) -> bool:
        state = self.lab.run(["docker", "inspect", "-f", "{{.State.Running}}", host], check=False)
        return state.stdout.strip() == "true"

    # --- looking

    def members(self) -> dict[str, dict[str, Any]]:
        """What the first server that answers says about all."""
        for name in self.servers:
            output = self.shell(name, LIST, check=False)
            if output.startswith("["):
                return {member["Member"]: member for member in json.loads(output)}
        return {}

    def leaders(self) -> list[str]:
        """The servers that say of themselves that they lead, each asked from itself."""
        found = []
        for name in self.servers:
            url = f"https://{self.lab.addresses[name]}:8008/primary"
            if self.shell(name, f"{CURL} -o /dev/null -w '%{{http_code}}' {url}", check=False) == "200":
                found.append(name)
        return found

    def leader(self) -> str:
        found = self.leaders()
        if len(found) != 1:
            raise DrillError(f"one server has to lead, these do: {', '.join(found) or 'none'}")
        return found[0]

    def other_leads(self, former: str, timeout: float = 120) -> bool:
        """Wait until another server than the former one leads; False if none does in time."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if set(self.leaders()) - {former}:
                return True
            time.sleep(0.5)
        return False

    def etcd_leader(self) -> str:
        """The member of etcd that leads, from its own metrics."""
        for name in self.lab.groups["etcd"]:
            output = self.shell(name, "curl -s -m 5 http://127.0.0.1:2381/metrics", check=False)
            if "\netcd_server_is_leader 1" in output:
                return name
        return ""

    def etcd_healthy(self) -> list[str]:
        command = "curl -s -m 5 http://127.0.0.1:2381/health"
        return [name for name in self.lab.groups["etcd"] if '"true"' in self.shell(name, command, check=False)]

    def settled(self, timeout: float = 240, shape: Sequence[str] = WHOLE) -> float:
        """Wait until one leads, all others stream, and every member of etcd is well; the seconds that took."""
        began = time.monotonic()
        while True:
            members = self.members()
            roles = sorted(f"{member['Role']} {member['State']}" for member in members.values())
            well = self.etcd_healthy() if roles == sorted(shape) else []
            if len(well) == len(self.lab.groups["etcd"]):
                return time.monotonic() - began
            if time.monotonic() - began > timeout:
                raise DrillError(f"the tier is not whole after {timeout:g} s: {roles}, etcd is well on {well}")
            time.sleep(1.5)

    # --- taking away, giving back

    def kill_postmaster(self, host: str) -> float:
        """SIGKILL for PostgreSQL's first process; the moment before it."""
        pid = "$(head -1 /var/lib/postgresql/*/main/postmaster.pid)"
        return float(self.shell(host, f"date +%s.%N; kill -9 {pid}"))

    def kill_host(self, host: str) -> float:
        """All processes of a host at once, those of etcd too."""
        moment = time.time()
        self.lab.run(["docker", "kill", host])
        return moment

    def stop_host(self, host: str) -> None:
        """An orderly halt."""
        self.lab.run(["docker", "stop", "-t", "120", host])

    def start_host(self, host: str) -> None:
        self.lab.run(["docker", "start", host])

    def cut_off(self, host: str) -> float:
        """No packet between a host and the other servers, in either direction; clients still reach it."""
        others = ", ".join(self.lab.addresses[name] for name in {*self.servers, *self.lab.groups["etcd"]} - {host})
        rules = (
            "table inet drill {"
            f" chain in {{ type filter hook input priority -300; ip saddr {{ {others} }} drop; }};"
            f" chain out {{ type filter hook output priority -300; ip daddr {{ {others} }} drop; }}; }}"
        )
        moment = time.time()
        self.shell(host, f"nft {shlex.quote(rules)}")
        return moment

    def join_again(self, host: str) -> None:
        self.shell(host, "nft list table inet drill >/dev/null 2>&1 && nft delete table inet drill; true")

    def repair(self) -> None:
        """Everything back that a broken drill may have taken away."""
        for name in self.servers:
            if not self.running(name):
                self.start_host(name)
            self.join_again(name)

    # --- preparing hosts

    def put(self, host: str, path: Path, name: str, mode: str = "0644") -> None:
        """A file below the drills' folder of a host."""
        self.lab.inside(host, "install", "-d", "-m", "0755", FOLDER)
        self.lab.run(["docker", "cp", "-q", str(path), f"{host}:{FOLDER}/{name}"])
        self.lab.inside(host, "chown", "0:0", f"{FOLDER}/{name}")
        self.lab.inside(host, "chmod", mode, f"{FOLDER}/{name}")

    def put_text(self, host: str, text: str, name: str, mode: str = "0644") -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8")
            self.put(host, path, name, mode)

    def need_driver(self, host: str) -> None:
        self.shell(
            host,
            "dpkg -s python3-psycopg >/dev/null 2>&1"
            " || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-psycopg",
        )

    def clean(self) -> None:
        """Nothing of a drill stays on the hosts but the driver."""
        for name in [*self.servers, self.client]:
            self.shell(name, f"rm -rf {FOLDER}", check=False)


# --- the ledger ------------------------------------------------------------------------------------------------------


@dataclass
class Ledger:
    """Writes from an application host through its service proxy, as Langflow does."""

    tier: Tier
    interval: float = TICK
    run_id: str = ""

    def __post_init__(self) -> None:
        lab, host = self.tier.lab, self.tier.client
        port = lab.template("{{ service_proxy_database_port | default(15432) }}", host)
        password = lab.template("{{ lookup('flowfleet.langflow.secret', 'database_password') }}", host)
        self._dsn = (
            f"host=127.0.0.1 port={port} dbname=langflow user=langflow"
            " sslmode=verify-full sslrootcert=/etc/flowfleet/tls/ca.crt"
        )
        self.tier.need_driver(host)
        self.tier.put(host, HERE / "ledger.py", "ledger.py")
        self.tier.put_text(host, f"*:*:*:*:{password}\n", "pgpass", "0600")

    @property
    def _journal(self) -> str:
        return f"{FOLDER}/{self.run_id}.journal"

    def _command(self, action: str, *options: str) -> list[str]:
        return [
            "env", f"PGPASSFILE={FOLDER}/pgpass", "python3", f"{FOLDER}/ledger.py", action, "--dsn", self._dsn,
            "--run", self.run_id, "--journal", self._journal, *options,
        ]  # fmt: skip

    def start(self, seconds: float = 7200) -> None:
        """Begin to write; it goes on by itself."""
        self.run_id = f"drill-{time.time():.0f}"
        command = self._command("write", "--seconds", f"{seconds:g}", "--interval", f"{self.interval:g}")
        self.tier.lab.inside(self.tier.client, "systemd-run", "--quiet", f"--unit={self.run_id}", "--", *command)

    def entries(self, last: int = 0) -> list[ledger.Entry]:
        """The journal as it is now, or its last lines."""
        command = f"tail -n {last}" if last else "cat"
        text = self.tier.shell(self.tier.client, f"{command} {self._journal} 2>/dev/null", check=False)
        return list(ledger.read_journal(f"{line}\n" for line in text.splitlines() if line.endswith("}")))

    def wait_good(self, count: int = 10, timeout: float = 120) -> float:
        """Wait until the last writes were all good; the moment of the last one."""
        deadline = time.monotonic() + timeout
        while True:
            last = self.entries(count)
            if len(last) == count and all(entry.outcome == ledger.ACKNOWLEDGED for entry in last):
                return last[-1].ended
            if time.monotonic() > deadline:
                raise DrillError(f"no {count} good writes in a row within {timeout:g} s: {[e.reason for e in last]}")
            time.sleep(0.7)

    def stop(self) -> None:
        """Stop writing. What was under way has no line in the journal, so nothing is claimed about it."""
        self.tier.shell(self.tier.client, f"systemctl stop {self.run_id} 2>/dev/null", check=False)

    def verify(self) -> dict[str, Any]:
        """Compare the journal with the table."""
        argv = ["docker", "exec", self.tier.client, *self._command("verify")]
        output = self.tier.lab.run(argv, check=False)
        if not output.stdout.startswith("{"):
            raise DrillError(f"the ledger could not be compared: {(output.stderr or output.stdout)[-300:]}")
        return dict(json.loads(output.stdout))


@contextmanager
def writing(tier: Tier, interval: float = TICK) -> Iterator[Ledger]:
    """A ledger that writes while the block runs, and has begun well."""
    found = Ledger(tier, interval)
    found.start()
    try:
        found.wait_good()
        yield found
    finally:
        found.stop()


# --- the samplers ----------------------------------------------------------------------------------------------------


@dataclass
class Samplers:
    """One on each database server; they come back with their host."""

    tier: Tier
    began: float = field(default_factory=time.time)

    def start(self) -> None:
        for name in self.tier.servers:
            self.tier.need_driver(name)
            self.tier.put(name, HERE / "sampler.py", "sampler.py")
            self.tier.put_text(name, SAMPLER.format(folder=FOLDER), "drill-sampler.service")
            self.tier.shell(
                name,
                f"rm -f {FOLDER}/samples; cp {FOLDER}/drill-sampler.service /etc/systemd/system/ &&"
                " systemctl daemon-reload && systemctl enable -q --now drill-sampler.service",
            )
        self.began = time.time()

    def read(self) -> dict[str, list[Sample]]:
        return {name: read_samples(self.tier.shell(name, f"cat {FOLDER}/samples")) for name in self.tier.servers}

    def stop(self) -> None:
        for name in self.tier.servers:
            self.tier.shell(
                name,
                "systemctl disable -q --now drill-sampler.service; rm -f /etc/systemd/system/drill-sampler.service;"
                " systemctl daemon-reload",
                check=False,
            )


@contextmanager
def sampling(tier: Tier) -> Iterator[Samplers]:
    """Every server is asked ten times a second whether it takes writes while the block runs."""
    found = Samplers(tier)
    found.start()
    try:
        yield found
    finally:
        found.stop()


# --- verdicts --------------------------------------------------------------------------------------------------------


def check_ledger(drill: Drill, result: Mapping[str, Any], label: str = "") -> None:
    """Nothing lost, nothing twice, nothing that was said to be rejected."""
    n, lost = result["acknowledged"], len(result["lost"])
    drill.note(f"{label}ledger".replace(" ", "_").replace(":", ""), dict(result))
    drill.check(f"{label}acknowledged writes lost", lost == 0 and n > 0, count_text(lost, n), "0")
    drill.check(f"{label}writes that are there twice", not result["twice"], count_text(len(result["twice"]), n), "0")
    wrong, rejected = len(result["rejected_but_present"]), result["rejected"]
    drill.check(f"{label}rejected writes that are there all the same", not wrong, f"{wrong} of {rejected}", "0")


def check_samples(drill: Drill, samples: Mapping[str, Sequence[Sample]], label: str = "") -> None:
    """Never two that take writes; and the samplers did look."""
    twice = writable_twice(samples)
    counted = {name: len(rows) for name, rows in samples.items()}
    led = sum(len(writable_ticks(rows)) for rows in samples.values())
    drill.note(f"{label}samples".replace(" ", "_").replace(":", ""), counted)
    drill.check(
        f"{label}tenths of a second with two servers that take writes",
        not twice and led > 0,
        f"{count_text(len(twice), led)}{f', first {next(iter(twice.items()))}' if twice else ''}",
        "0",
    )


def show(found: Mapping[str, Any]) -> None:
    """Where writes went, in a line."""
    say(f"  {found['acknowledged']} acknowledged, {found['rejected']} rejected, {found['unknown']} unknown")
