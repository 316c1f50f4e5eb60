"""What every drill needs: a lab, playbooks that can be killed, verdicts, and a result that can be kept."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / ".lab/drills"
COLLECTIONS = Path(os.environ.get("ANSIBLE_COLLECTIONS_PATH") or ROOT / ".cache/collections")
# Reading with a scope that is too narrow would find yesterday's `ansible`.
BIN = ROOT / ".venv/bin"
# What only a lab with a database cluster has: name, group of a host, and what tells the version.
CLUSTERED = [
    ("patroni", "postgresql", "patroni", "--version"),
    ("etcd", "etcd", "etcd", "--version"),
    ("redis", "redis", "redis-server", "--version"),
    ("haproxy", "langflow", "haproxy", "-v"),
]
CORE = re.compile(r"ansible-playbook \[core ([^\]]+)\]")


class DrillError(Exception):
    """The drill itself cannot go on; this says nothing about the product."""


def say(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


# --- verdicts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """One thing that was to be shown, and what was measured."""

    what: str
    passed: bool
    measured: str
    wanted: str


def bound(failed: int, n: int) -> float | None:
    """The share of failures is below 3/n in 95 of 100 tests that see none in n requests."""
    return 3 / n if n and not failed else None


def count_text(failed: int, n: int) -> str:
    """Failures of requests with what the number of requests is enough for."""
    least = bound(failed, n)
    return f"{failed} of {n}" + (f" (below {least:.3%})" if least else "")


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, but for the last one."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]) - 1)] if rows else []
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]


@dataclass
class Drill:
    """One drill: its verdicts and what else it has measured."""

    name: str
    title: str
    began: float = field(default_factory=time.time)
    verdicts: list[Verdict] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return bool(self.verdicts) and all(verdict.passed for verdict in self.verdicts)

    @property
    def folder(self) -> Path:
        """Logs and raw results."""
        path = RESULTS / self.name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def check(self, what: str, passed: bool, measured: object, wanted: str) -> bool:
        """Add a verdict and show it at once."""
        verdict = Verdict(what, bool(passed), str(measured), wanted)
        self.verdicts.append(verdict)
        say(f"{'ok' if passed else 'FAILED'}: {what}: {measured} (wanted: {wanted})")
        return verdict.passed

    def note(self, name: str, value: Any) -> None:
        """Keep a figure that is no verdict."""
        self.facts[name] = value

    def lines(self) -> list[str]:
        head = f"{self.name}: {self.title}: {'passed' if self.passed else 'FAILED'}"
        rows = [("verdict", "what", "wanted", "measured")]
        rows += [("ok" if v.passed else "FAILED", v.what, v.wanted, v.measured) for v in self.verdicts]
        return [head, *("  " + line for line in table(rows))]

    def result(self, versions: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "drill": self.name,
            "title": self.title,
            "passed": self.passed,
            "began": datetime.fromtimestamp(self.began, UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - self.began, 1),
            "versions": dict(versions),
            "verdicts": [vars(verdict) for verdict in self.verdicts],
            **self.facts,
        }

    def write(self, versions: Mapping[str, Any]) -> Path:
        RESULTS.mkdir(parents=True, exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        path.write_text(json.dumps(self.result(versions), indent=1, default=str) + "\n", encoding="utf-8")
        return path


# --- playbooks -------------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """That of `make`, whoever starts the drill."""
    given = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_FORCE")}
    given.update(
        PATH=f"{BIN}:{given.get('PATH', '')}",
        ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS),
        ANSIBLE_INJECT_FACT_VARS="false",
        ANSIBLE_NOCOLOR="1",
        ANSIBLE_NOCOWS="1",
        ANSIBLE_CALLBACKS_ENABLED="flowfleet.langflow.rollout_report",
        FLOWFLEET_ROLLOUT_REPORTS=str(RESULTS / "reports"),
    )
    return given


TASK = re.compile(r"^TASK \[(?:[\w.]+ : )?(?P<name>.*?)\] \*+$", re.M)
FATAL = re.compile(r"^(?:fatal|failed): \[(?P<host>[^\]]+?)(?: -> [^\]]*)?\]", re.M)


@dataclass
class Play:
    """A run of ansible-playbook, under way or ended."""

    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def seconds(self) -> float:
        return round((self.ended or time.monotonic()) - self.began, 1)

    @property
    def status(self) -> int:
        return self.wait()

    def tasks(self) -> list[str]:
        """Names of the tasks that were begun, in order."""
        return [match["name"] for match in TASK.finditer(self.output)]

    def failed_tasks(self) -> list[str]:
        """Names of the tasks that failed on some host."""
        found, task = [], ""
        for line in self.output.splitlines():
            if match := TASK.match(line):
                task = match["name"]
            elif FATAL.match(line):
                found.append(task)
        return found

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; a play that does not end in time is killed."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DrillError(f"{self.log.name}: no end after {timeout:g} s") from None
        self.ended = self.ended or time.monotonic()
        return status

    def wait_for(self, reached: Callable[[Play], bool], timeout: float, every: float = 0.3) -> bool:
        """Wait until something has happened; False when the play ended without it."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if reached(self):
                return True
            if self.process.poll() is not None:
                return reached(self)
            time.sleep(every)
        raise DrillError(f"{self.log.name}: what was waited for did not happen within {timeout:g} s")

    def kill(self) -> None:
        """SIGKILL for the controller and all of its children: nothing of it can clean up."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.ended = time.monotonic()

    def tail(self, count: int = 25) -> str:
        return "\n".join(self.output.splitlines()[-count:])


# --- the lab ---------------------------------------------------------------------------------------------------------


def parse_answer(output: str) -> dict[str, Any]:
    """What a module has returned, from the output of `ansible` for one host."""
    start = output.find("=> {")
    if start < 0:
        raise DrillError(f"no answer from a module: {output.strip()[-500:]}")
    found, _end = json.JSONDecoder().raw_decode(output[start + 3 :])
    return dict(found)


@dataclass
class Lab:
    """The hosts of a Molecule scenario."""

    scenario: str
    # How often a drill does what it does again and again; 0: as often as it thinks right.
    repeat: int = 0
    inventory: Path = field(init=False)
    groups: dict[str, list[str]] = field(init=False, default_factory=dict)
    addresses: dict[str, str] = field(init=False, default_factory=dict)
    _numbers: Iterator[int] = field(init=False, default_factory=lambda: iter(range(1, 10_000)))

    def __post_init__(self) -> None:
        own = ROOT / "molecule" / self.scenario / "inventory"
        # The same rule as in tools/lab: a scenario without an inventory of its own tests one of those to copy.
        self.inventory = (
            own if own.is_dir() else ROOT / "inventories" / {"default": "lab"}.get(self.scenario, self.scenario)
        )
        output = self.run(["ansible-inventory", "-i", str(self.inventory), "--list"]).stdout
        listed = json.loads(output)
        self.addresses = {name: row["ansible_host"] for name, row in listed["_meta"]["hostvars"].items()}
        self.groups = {name: row.get("hosts", []) for name, row in listed.items() if name != "_meta"}

    # --- controller

    def run(self, argv: Sequence[str], check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(list(argv), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise DrillError(f"{shlex.join(argv[:3])}: status {done.returncode}: {(done.stderr or done.stdout)[-600:]}")
        return done

    def up(self) -> None:
        """Create the hosts unless they run."""
        subprocess.run([str(ROOT / "tools/lab"), "up", self.scenario], cwd=ROOT, env=environment(), check=True)

    def down(self) -> None:
        subprocess.run([str(ROOT / "tools/lab"), "down", self.scenario], cwd=ROOT, env=environment(), check=True)

    def start(self, playbook: str, *options: str, folder: Path | None = None) -> Play:
        """Start a playbook in a process group of its own; its output goes to a file."""
        folder = folder or RESULTS
        folder.mkdir(parents=True, exist_ok=True)
        name = Path(playbook).stem if playbook.endswith(".yml") else playbook
        log = folder / f"{next(self._numbers):02d}-{name}.log"
        target = playbook if playbook.endswith(".yml") else f"flowfleet.langflow.{playbook}"
        argv = ["ansible-playbook", "-i", str(self.inventory), target, *options]
        say(f"{shlex.join(argv[3:])} (log: {os.path.relpath(log, ROOT)})")
        with log.open("wb") as stream:
            process = subprocess.Popen(
                argv,
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Play(process, log)

    def playbook(self, playbook: str, *options: str, folder: Path | None = None, timeout: float = 3600) -> Play:
        """Run a playbook to its end, however that is."""
        play = self.start(playbook, *options, folder=folder)
        status = play.wait(timeout)
        say(f"{playbook} ended with {status} after {play.seconds:g} s")
        return play

    def must(self, playbook: str, *options: str, folder: Path | None = None, timeout: float = 3600) -> Play:
        """Run a playbook that the drill builds upon."""
        play = self.playbook(playbook, *options, folder=folder, timeout=timeout)
        if play.status:
            raise DrillError(f"{playbook} failed with {play.status}:\n{play.tail()}")
        return play

    def ask(self, host: str, module: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a module returns when it is called by hand; failed or not."""
        name = module if "." in module else f"flowfleet.langflow.{module}"
        argv = ["ansible", "-i", str(self.inventory), host, "-m", name]
        if arguments:
            argv += ["-a", json.dumps(arguments)]
        done = self.run(argv, check=False)
        return parse_answer(done.stdout or done.stderr)

    def do(self, host: str, module: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The same, and it must not fail."""
        found = self.ask(host, module, arguments)
        if found.get("failed") or found.get("unreachable"):
            raise DrillError(f"{module} on {host}: {found.get('msg', found)}")
        return found

    def template(self, text: str, host: str = "") -> Any:
        """A template as Ansible renders it on a host."""
        return self.do(host or self.balancers[0], "ansible.builtin.debug", {"msg": text})["msg"]

    # --- hosts

    @property
    def nodes(self) -> list[str]:
        return self.groups["langflow"]

    @property
    def balancers(self) -> list[str]:
        return self.groups["loadbalancers"]

    @property
    def data(self) -> str:
        return self.groups["postgresql"][0]

    def ssh(self, host: str, command: str, check: bool = True, timeout: float = 120) -> str:
        """What a command on a host prints. Not through Ansible: this is who watches it."""
        argv = ["ssh", "-F", str(ROOT / ".lab/ssh_config"), "-o", "ConnectTimeout=10", host, command]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise DrillError(f"{host}: {command}: no end after {timeout:g} s") from None
        if check and done.returncode:
            raise DrillError(f"{host}: {command}: status {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout.strip()

    def inside(self, host: str, *argv: str, check: bool = True) -> str:
        """The same past the network, for hosts that were cut off from it."""
        done = self.run(["docker", "exec", host, *argv], check=check)
        return done.stdout.strip()

    def starts(self) -> dict[str, str]:
        """When each node's process was started."""
        command = "systemctl show langflow.service --property=ExecMainStartTimestampMonotonic --value"
        return {name: self.inside(name, "sh", "-c", command) for name in self.nodes}

    def releases(self) -> dict[str, str]:
        """The release that each node's `current` names."""
        return {
            name: Path(self.inside(name, "readlink", "/opt/langflow/current", check=False) or "none").name
            for name in self.nodes
        }

    def healthy(self, node: str) -> bool:
        """Whether a node answers well, asked from itself."""
        argv = ["docker", "exec", node, "curl", "-sf", "-o", "/dev/null", "-m", "10"]
        argv += ["--cacert", "/etc/flowfleet/tls/ca.crt", "--resolve", "langflow.internal:7860:127.0.0.1"]
        return self.run([*argv, "https://langflow.internal:7860/health_check"], check=False).returncode == 0

    def wait_healthy(self, *nodes: str, timeout: float = 400) -> float:
        """Wait for nodes that come up by themselves; the seconds that took."""
        began = time.monotonic()
        waiting = list(nodes or self.nodes)
        while waiting := [node for node in waiting if not self.healthy(node)]:
            if time.monotonic() - began > timeout:
                raise DrillError(f"{', '.join(waiting)} did not become healthy within {timeout:g} s")
            time.sleep(1)
        return time.monotonic() - began

    def left_out(self) -> dict[str, list[str]]:
        """For each load balancer, the nodes that it has out."""
        command = "awk '/^server .* down/ {print FILENAME}' /etc/nginx/langflow/backends.d/*.conf"
        return {
            name: [Path(line).stem for line in self.inside(name, "sh", "-c", command).splitlines()]
            for name in self.balancers
        }

    def in_maintenance(self) -> list[str]:
        """Load balancers that show the maintenance page."""
        command = "if test -e /etc/nginx/langflow/maintenance; then echo yes; fi"
        return [name for name in self.balancers if self.inside(name, "sh", "-c", command) == "yes"]

    def rollout(self) -> dict[str, Any]:
        """The state of the roll, as the first load balancer keeps it."""
        return self.ask(self.balancers[0], "rollout_state_info")

    def batches(self) -> list[list[str]]:
        """The nodes of the last roll, batch by batch."""
        return read_batches(self.rollout().get("content", {}))

    def versions(self) -> dict[str, Any]:
        """Of everything that a result depends on."""

        def first(text: str, pattern: str) -> str:
            found = re.search(pattern, text)
            return found[1] if found else "unknown"

        release = "cat /opt/langflow/current/RELEASE.json"
        galaxy = (ROOT / "galaxy.yml").read_text()
        return {
            "collection": first(galaxy, r"(?m)^version: (\S+)"),
            "commit": self.run(["git", "describe", "--always", "--dirty"], check=False).stdout.strip() or "unknown",
            "ansible_core": first(self.run(["ansible-playbook", "--version"]).stdout, CORE.pattern),
            "langflow": {
                name: json.loads(self.inside(name, "sh", "-c", release, check=False) or "{}").get("version", "unknown")
                for name in self.nodes
            },
            "nginx": {
                name: first(self.inside(name, "sh", "-c", "nginx -v 2>&1", check=False), r"nginx/(\S+)")
                for name in self.balancers
            },
            "postgresql": first(self.inside(self.data, "psql", "--version", check=False), r"(\d+\.\d+)"),
            **{
                name: first(self.inside(self.groups[group][0], *argv, check=False), r"(\d+\.\d+[.\d]*)")
                for name, group, *argv in CLUSTERED
                if self.groups.get("etcd")
            },
            "systems": {
                name: first(self.inside(name, "cat", "/etc/os-release", check=False), r'PRETTY_NAME="([^"]+)"')
                for name in sorted(self.addresses)
            },
            "controller": {"cores": os.cpu_count(), "python": sys.version.split()[0]},
        }


# --- what the state of a roll says -----------------------------------------------------------------------------------


def read_batches(content: Mapping[str, Any]) -> list[list[str]]:
    """The hosts of each batch that the last roll has begun, from the content of its file."""
    batches = (content.get("run") or {}).get("batches") or content.get("batches") or []
    return [list(batch.get("hosts", [])) if isinstance(batch, Mapping) else list(batch) for batch in batches]


def batch_figures(batches: Iterable[Sequence[str]], timings: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """For each batch its wall time, the sum of its nodes' times from start to healthy, and how they compare."""
    rows = []
    for hosts in batches:
        known = [timings[host] for host in hosts if host in timings]
        wall = max((row.get("total", sum(row.values())) for row in known), default=0.0)
        start = sum(row.get("stop", 0.0) + row.get("start", 0.0) + row.get("gate", 0.0) for row in known)
        rows.append(
            {
                "hosts": list(hosts),
                "wall": round(wall, 1),
                "start_to_healthy": round(start, 1),
                "drain": round(max((row.get("drain", 0.0) for row in known), default=0.0), 1),
                "ratio": round(wall / start, 2) if start else None,
            }
        )
    return rows


@contextmanager
def ended(play: Play) -> Iterator[Play]:
    """A play that does not outlive its drill."""
    try:
        yield play
    finally:
        if play.process.poll() is None:
            play.kill()
