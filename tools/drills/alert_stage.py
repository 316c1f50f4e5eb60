"""A lab as a drill of alerts sees it: where notifications arrive, what Prometheus knows, and how things are broken."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import yaml

from tools.drills.alert_rules import DEFAULTS, HOURS, still_open
from tools.drills.core import DrillError, Lab, say
from tools.drills.sink import Client, SinkError

SINK_PORT = 9099
CLIENT_CONFIG = "/etc/prometheus/client.yml"
HERE = "https://127.0.0.1:9090"
# Longer than anybody may take to tell that something is over, but for the tier of hours.
FORGOTTEN = 180.0
# Fingerprints of alerts whose end was never told; what one drill has named is not the next one's.
LOST: set[str] = set()
# About what all hosts of a lab share with whatever else runs on the machine.
MACHINE = {"HostCpuBusy", "HostMemoryHigh", "DiskFull", "DiskFillsUp", "InodesHigh"}


@dataclass(frozen=True)
class Struck:
    """A fault that was made: when, and whom an alert that names somebody may blame."""

    moment: float
    blamed: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass
class Stage:
    """A lab with monitoring and a sink."""

    lab: Lab
    _sink: Client | None = None
    _known: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    # --- who is there

    @property
    def monitors(self) -> list[str]:
        return self.lab.groups.get("monitoring", [])

    @property
    def last_node(self) -> str:
        """The node that is taken away when one has to go."""
        return self.lab.nodes[-1]

    def hosts(self, group: str) -> list[str]:
        return self.lab.groups.get(group, [])

    # --- looking

    @property
    def sink(self) -> Client:
        if self._sink is None:
            hosts = self.hosts("lab_sink")
            if not hosts:
                raise DrillError("the inventory has no group lab_sink: nobody would take the alerts")
            ca = str(self.lab.template("{{ langflow_fleet_pki_dir }}/ca.crt"))
            token = str(self.lab.template("{{ lookup('flowfleet.langflow.secret', 'alert_sink_token') }}"))
            self._sink = Client(f"https://{self.lab.addresses[hosts[0]]}:{SINK_PORT}", ca, token)
        return self._sink

    def query(self, expression: str, monitor: str = "") -> list[dict[str, Any]]:
        """What a Prometheus answers now: labels and value of each series."""
        argv = ["promtool", "query", "instant", "-o", "json", f"--http.config.file={CLIENT_CONFIG}", HERE, expression]
        output = self.lab.inside(monitor or self.monitors[0], *argv)
        return [{"labels": row["metric"], "value": float(row["value"][1])} for row in json.loads(output)]

    def versions(self) -> dict[str, str]:
        """Of what measures and tells, as Debian names them."""
        command = "dpkg-query -W -f '${Package} ${Version}\\n' 'prometheus*' 2>/dev/null | awk 'NF == 2'"
        rows = [line.split() for line in self.shell(self.monitors[0], command, check=False).splitlines()]
        return {row[0]: row[1] for row in rows if len(row) == 2}

    def threshold(self, name: str) -> float:
        """A threshold of the rules, as the inventory has it or else the role."""
        defaults = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
        return float(self.lab.template(f"{{{{ {name} | default({defaults[name]}) }}}}", self.monitors[0]))

    def targets_down(self, monitor: str = "") -> list[str]:
        rows = self.query("up == 0", monitor)
        return sorted(f"{row['labels'].get('job')} of {row['labels'].get('instance')}" for row in rows)

    def whole(self, timeout: float = 300) -> list[str]:
        """Wait until every Prometheus reaches every target; those that none has reached in time."""
        deadline = time.monotonic() + timeout
        while True:
            down = ["no answer from Prometheus"]
            with suppress(DrillError, ValueError):
                down = sorted({target for name in self.monitors for target in self.targets_down(name)})
            if not down or time.monotonic() > deadline:
                return down
            time.sleep(3)

    def quiet(self, timeout: float = 900) -> list[str]:
        """Wait until every alert is told to be over and none is about to fire; the names of those that go on.

        Budgets that an earlier fault has used up stay open for hours, and a machine that has other work is busy until
        that ends: nobody waits for those. What Prometheus has long forgotten and nobody is told the end of is named
        once, and no longer waited for.
        """
        deadline, calm = time.monotonic() + timeout, 0.0
        while True:
            told: dict[str, str] = {}
            names, now = {"no answer from Prometheus or the sink"}, time.monotonic()
            with suppress(DrillError, SinkError, ValueError):
                told = still_open(self.sink.rows(), besides=HOURS)
                told = {key: name for key, name in told.items() if key not in LOST and name not in MACHINE}
                open_now = self.query(f'ALERTS{{deadman!="true", tier!="{HOURS}"}}')
                names = {row["labels"]["alertname"] for row in open_now} - MACHINE
                calm = 0.0 if names else calm or now
                names |= set(told.values())
            if not names or now > deadline or (calm and now - calm > FORGOTTEN):
                LOST.update(told)
                return sorted(names)
            time.sleep(3)

    # --- breaking and mending

    def shell(self, host: str, command: str, check: bool = True) -> str:
        """A line of shell on a host, past the network."""
        return self.lab.inside(host, "sh", "-c", command, check=check)

    def running(self, host: str) -> bool:
        state = self.lab.run(["docker", "inspect", "-f", "{{.State.Running}}", host], check=False)
        return state.stdout.strip() == "true"

    def stop(self, hosts: Sequence[str], *units: str) -> Struck:
        """Stop services at once, without the time that they would take to end well."""
        if not units:
            raise DrillError(f"{', '.join(hosts)}: no such service")
        words = shlex.join(units)
        moment = time.time()
        for host in hosts:
            self.shell(host, f"systemctl kill --signal=SIGKILL {words} 2>/dev/null; systemctl stop {words}")
        return Struck(moment, {"instance": set(hosts)})

    def start(self, hosts: Sequence[str], *units: str) -> None:
        if not units:
            return
        words = shlex.join(units)
        for host in hosts:
            self.shell(host, f"systemctl reset-failed {words} 2>/dev/null; systemctl start {words}")

    def signal(self, hosts: Sequence[str], signal: str, unit: str) -> Struck:
        moment = time.time()
        for host in hosts:
            self.lab.inside(host, "systemctl", "kill", f"--signal={signal}", unit)
        return Struck(moment, {"instance": set(hosts)})

    def kill_host(self, host: str) -> Struck:
        moment = time.time()
        self.lab.run(["docker", "kill", host])
        return Struck(moment, {"instance": {host}})

    def start_host(self, host: str) -> None:
        if not self.running(host):
            self.lab.run(["docker", "start", host])

    def units(self, host: str, pattern: str) -> list[str]:
        """Services of a host that are loaded, by a pattern."""
        output = self.lab.inside(host, "systemctl", "list-units", "--all", "--plain", "--no-legend", pattern)
        rows = [line.split() for line in output.splitlines() if line.strip()]
        return [row[0] for row in rows if row[1] == "loaded"]

    def known_units(self, host: str, pattern: str) -> list[str]:
        """The same, also of services that systemd has forgotten since they were stopped."""
        found = sorted({*self._known.get((host, pattern), []), *self.units(host, pattern)})
        self._known[host, pattern] = found
        return found

    def run_aside(self, host: str, name: str, script: str, user: str = "root") -> Struck:
        """Something that goes on by itself as a unit of its own, of the lowest priority.

        Not by `su`: that opens a session, which what runs in it moves to, and a stop of the unit would not end it.
        """
        moment = time.time()
        options = ["--quiet", "--collect", f"--unit=drill-{name}", "--nice=19", f"--uid={user}"]
        self.lab.inside(host, "systemd-run", *options, "sh", "-c", script)
        return Struck(moment, {"instance": {host}})

    def stop_aside(self, host: str, name: str) -> None:
        self.shell(host, f"systemctl stop drill-{name}.service 2>/dev/null; true")

    def put(self, host: str, text: str, path: str, owner: str = "root:root", mode: str = "0644") -> None:
        """A file on a host, written there: `docker cp` does not reach what is mounted in it, such as /run."""
        target = shlex.quote(path)
        command = f"umask 077; cat > {target} && chown {owner} {target} && chmod {mode} {target}"
        argv = ["docker", "exec", "-i", host, "sh", "-c", command]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DrillError(f"{host}: {path} was not written: {done.stderr.strip()[-300:]}")

    def psql(self, sql: str) -> str:
        """What the database of Langflow answers, as its administrator."""
        command = f"cd / && su -s /bin/sh postgres -c {shlex.quote(f'psql -XAtq -d langflow -c {shlex.quote(sql)}')}"
        return self.shell(self.lab.data, command)

    def repair(self) -> None:
        """Hosts that a broken drill has left dead run again."""
        for name in self.lab.addresses:
            if not self.running(name):
                say(f"starting {name}")
                self.start_host(name)
