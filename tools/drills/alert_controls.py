"""Controls of the alerts: what sees nothing is not silent. Exporters are stopped, and the way in to all of a host."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tools.drills import alert_rules
from tools.drills.alert_rules import Alert, Row
from tools.drills.alert_stage import Stage
from tools.drills.core import Drill, say

CASE, HOST_CASE = "exporter_stopped", "host_killed"
GATE = "langflow-exporters.service"
# Exporters with units of their own. The metrics of all others come from the service itself, whose stop is another case.
UNIT = "langflow-exporter-{module}.service"
LIMIT = 60.0
CLEARED = 600.0


def units(stage: Stage) -> dict[str, list[str]]:
    """For each host the exporters that it has."""
    found = {}
    for host in sorted(stage.lab.addresses):
        names = stage.units(host, UNIT.format(module="*"))
        found[host] = sorted(name.removeprefix("langflow-exporter-").removesuffix(".service") for name in names)
    return {host: modules for host, modules in found.items() if modules}


def told_of(rows: Sequence[Row], names: Sequence[str], job: str, host: str, since: float) -> Row | None:
    """The first notification that says of a job that it cannot be seen, on a host or as a whole."""
    for row in sorted(rows, key=lambda row: float(row["received"])):
        labels = row["labels"] or {}
        if row["status"] != "firing" or row["received"] < since or alert_rules.named(row) not in names:
            continue
        if labels.get("job", job) == job and labels.get("instance", host) == host:
            return row
    return None


def turn(
    drill: Drill,
    stage: Stage,
    names: Sequence[str],
    stopped: Mapping[str, Sequence[str]],
    jobs: Sequence[tuple[str, str]],
) -> list[dict[str, Any]]:
    """Stop some units at once, wait until each job of them is told of, start them again."""
    moment = time.time()
    for host, words in stopped.items():
        stage.stop([host], *words)
    found: dict[tuple[str, str], Row] = {}
    try:
        while time.time() < moment + LIMIT and len(found) < len(jobs):
            time.sleep(1)
            rows = stage.sink.rows(moment)
            for job, host in jobs:
                if (job, host) not in found and (row := told_of(rows, names, job, host, moment)):
                    found[job, host] = row
    finally:
        # With the first of them it may be over for some.
        repaired = time.time()
        for host, words in stopped.items():
            stage.start([host], *words)
    prints = {row["fingerprint"] for row in found.values()}
    while time.time() < repaired + CLEARED:
        rows = stage.sink.rows(moment)
        if all(alert_rules.first_resolved(rows, fingerprint, repaired) for fingerprint in prints):
            break
        time.sleep(3)
    figures = []
    for job, host in jobs:
        told = found.get((job, host))
        seconds = round(told["received"] - moment, 1) if told else None
        over = alert_rules.first_resolved(rows, told["fingerprint"], repaired) if told else None
        text = "no alert" if told is None else f"{seconds:g} s by {alert_rules.named(told)}"
        text += "" if told is None else ", cleared" if over else ", not cleared"
        drill.check(f"{job} of {host} stopped", bool(told and over), text, f"an alert within {LIMIT:g} s")
        figures.append(
            {"job": job, "host": host, "seconds": seconds, "alert": alert_rules.named(told) if told else None}
        )
    left = stage.whole() + stage.quiet()
    drill.check("everything is as before", not left, ", ".join(left) or "yes", "yes")
    time.sleep(alert_rules.APART)
    return figures


def exporters(drill: Drill, stage: Stage, alerts: Sequence[Alert]) -> None:
    names = [alert.name for alert in alert_rules.for_case(alerts, CASE)]
    # Where nothing of a host can be seen any more, it counts as gone.
    gone = [*names, *(alert.name for alert in alert_rules.for_case(alerts, HOST_CASE))]
    drill.check("alerts that tell of a missing exporter", bool(names), ", ".join(names) or "none", "at least one")
    installed = units(stage)
    drill.note("exporters", installed)
    figures: list[dict[str, Any]] = []
    # The exporter of the host itself in a turn of its own: without it the whole host may count as gone.
    for label, own in (("all but those of the hosts", False), ("those of the hosts", True)):
        chosen = {host: [name for name in modules if (name == "node") == own] for host, modules in installed.items()}
        chosen = {host: modules for host, modules in chosen.items() if modules}
        if not chosen:
            continue
        say(f"--- stopped at once: {label}")
        words = {host: [UNIT.format(module=name) for name in modules] for host, modules in chosen.items()}
        jobs = [(name, host) for host, modules in chosen.items() for name in modules]
        figures += turn(drill, stage, names, words, jobs)
    say("--- the way in to all exporters of one host")
    host = stage.last_node
    figures += turn(drill, stage, gone, {host: [GATE]}, [("node", host)])
    drill.note("alerts", figures)
