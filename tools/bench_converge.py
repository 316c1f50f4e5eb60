#!/usr/bin/env python3
"""Measure what the site playbook costs: a first run on a fresh lab, and a run that finds nothing to do.

Prints a table for people and, with --json, the same as JSON; both go to .lab/reports/bench-converge.json as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import node_health

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / ".lab/reports/bench-converge.json"
# Seconds in which a run that has nothing to do should be over, for eight hosts on two cores.
GOAL = 90.0


def seconds_between(start: str, end: str) -> float:
    """Seconds between two times as Ansible's callbacks write them."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def read_events(lines: Iterable[str]) -> dict[str, Any]:
    """Tasks and changes per host, and seconds per play, from the events of the callback `jsonl`."""
    hosts: dict[str, dict[str, int]] = {}
    plays: dict[str, dict[str, Any]] = defaultdict(lambda: {"seconds": 0.0, "tasks": 0, "hosts": set()})
    tasks: dict[str, float] = {}
    play = ""
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if not isinstance(event, dict):
            continue
        kind = event.get("_event")
        if kind == "v2_playbook_on_play_start":
            play = event["play"]["name"]
        if kind in {"v2_runner_on_ok", "v2_runner_on_failed", "v2_runner_on_skipped", "v2_runner_on_unreachable"}:
            task = event["task"]
            for host, result in event.get("hosts", {}).items():
                if not result.get("skipped"):
                    plays[play]["hosts"].add(host)
                    plays[play]["tasks"] += 1
            duration = task.get("duration", {})
            if "end" in duration:
                # The task's wall time grows with each host that answers; the last one counts.
                took = seconds_between(duration["start"], duration["end"])
                plays[play]["seconds"] += took - tasks.get(task["id"], 0.0)
                tasks[task["id"]] = took
        elif kind == "v2_playbook_on_stats":
            hosts = event["stats"]
    return {
        "hosts": {
            name: {"tasks": row["ok"] + row["skipped"] + row["failures"], "run": row["ok"], "changed": row["changed"]}
            for name, row in sorted(hosts.items())
        },
        "plays": {
            name: {
                "seconds": round(row["seconds"], 2),
                "hosts": len(row["hosts"]),
                "tasks_per_host": round(row["tasks"] / len(row["hosts"]), 1),
                "seconds_per_host": round(row["seconds"] / len(row["hosts"]), 2),
            }
            for name, row in plays.items()
            if row["hosts"]
        },
    }


def play(inventory: Path, name: str) -> dict[str, Any]:
    """Run a playbook and measure it."""
    environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.jsonl", "ANSIBLE_FORCE_COLOR": "0"}
    started = time.monotonic()
    done = subprocess.run(
        ["ansible-playbook", "-i", str(inventory), f"flowfleet.langflow.{name}"],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    seconds = round(time.monotonic() - started, 1)
    if done.returncode:
        sys.stderr.write(done.stdout[-4000:])
        raise SystemExit(f"bench: {name} failed with status {done.returncode}")
    return {"seconds": seconds, **read_events(done.stdout.splitlines())}


def on_host(host: str, command: str) -> str:
    argv = ["ssh", "-F", str(ROOT / ".lab/ssh_config"), host, command]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def members(inventory: Path, group: str) -> list[str]:
    argv = ["ansible-inventory", "-i", str(inventory), "--list"]
    data = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    return list(data.get(group, {}).get("hosts", []))


def start_to_healthy(host: str) -> float:
    """Seconds from `systemctl restart` to a good answer about database and cache."""
    script = (
        "systemctl stop langflow.service; start=$(date +%s%N); systemctl start langflow.service || exit 1; "
        f"until {node_health.COMMAND}; do sleep 0.2; done; echo $(( ($(date +%s%N) - start) / 1000000 ))"
    )
    return int(on_host(host, script).splitlines()[-1]) / 1000


def memory(host: str) -> list[int]:
    """MiB (PSS) of each process of the service, the largest first."""
    script = (
        "for pid in $(cat /sys/fs/cgroup/system.slice/langflow.service/cgroup.procs); do "
        "awk '/^Pss:/ {print int($2 / 1024)}' /proc/$pid/smaps_rollup; done"
    )
    return sorted(map(int, on_host(host, script).split()), reverse=True)


def table(result: Mapping[str, Any]) -> list[str]:
    """The figures in lines."""
    lines = [f"{'':24}{'first run':>12}{'no-op run':>12}"]
    first, again = result["first"], result["again"]
    lines.append(f"{'seconds':24}{first['seconds']:>12}{again['seconds']:>12}")
    for host in again["hosts"]:
        for key in ("tasks", "changed"):
            values = [run["hosts"].get(host, {}).get(key, 0) for run in (first, again)]
            lines.append(f"{f'{key} {host}':24}{values[0]:>12}{values[1]:>12}")
    lines.append("")
    met = "met" if again["seconds"] < GOAL else "missed"
    hosts = len(set(again["hosts"]) - {"localhost"})
    lines.append(f"no-op run: {again['seconds']} s for {hosts} hosts (goal: less than {GOAL:g} s, {met})")
    lines.append(f"{'where it goes, longest play first':52}{'s':>8}{'hosts':>8}{'s per host':>12}{'tasks/host':>12}")
    for name, row in sorted(again["plays"].items(), key=lambda play: -play[1]["seconds"]):
        per_host = f"{row['seconds_per_host']:>12}{row['tasks_per_host']:>12}"
        lines.append(f"{name:52}{row['seconds']:>8}{row['hosts']:>8}{per_host}")
    lines.append("")
    lines.append(f"lab created in {result['create_seconds']} s")
    for host, row in result["nodes"].items():
        lines.append(f"{host}: start to healthy {row['start_to_healthy']} s, MiB per process (PSS) {row['memory']}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="default")
    parser.add_argument("--inventory", type=Path, default=ROOT / "inventories/lab")
    parser.add_argument("--keep", action="store_true", help="measure on the lab as it is instead of a fresh one")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    given = parser.parse_args()
    result: dict[str, Any] = {"create_seconds": 0.0}
    if not given.keep:
        subprocess.run([ROOT / "tools/lab", "down", given.scenario], check=True, stdout=sys.stderr)
        started = time.monotonic()
        subprocess.run([ROOT / "tools/lab", "up", given.scenario], check=True, stdout=sys.stderr)
        result["create_seconds"] = round(time.monotonic() - started, 1)
    result["first"] = play(given.inventory, "site")
    result["again"] = play(given.inventory, "site")
    result["nodes"] = {
        host: {"start_to_healthy": start_to_healthy(host), "memory": memory(host)}
        for host in members(given.inventory, "langflow")
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2) if given.json else "\n".join(table(result)))
    changed = {host: row["changed"] for host, row in result["again"]["hosts"].items() if row["changed"]}
    if changed:
        print(f"the second run changed something: {changed}", file=sys.stderr)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
