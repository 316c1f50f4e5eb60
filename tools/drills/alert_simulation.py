"""Alerts that no fault in a lab can cause, end to end all the same: only the series are made up.

On a monitoring host a second Prometheus gets blocks that are made of the alert's own rule test, such that the moment at
which that test looks is now. It has the real rules with one alert in them, without its `for`, and tells the real
Alertmanagers. Everything that comes of it carries the label `simulated`.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import yaml

from tools.drills import alert_blocks, alert_rules
from tools.drills.alert_blocks import Story
from tools.drills.alert_rules import Alert, Row
from tools.drills.alert_stage import Stage
from tools.drills.core import Drill, DrillError
from tools.drills.sink import SinkError

FOLDER = "/var/lib/prometheus/drill"
FIRST_PORT = 19090
# So many at the same time.
SLOTS = 3
LABEL = "simulated"
# Making blocks and starting takes a moment; the story ends when the rules look at it.
LEAD = 10.0
# And it goes on, as it was at its end, for as long as Alertmanager may take.
TAIL = 170.0
PATIENCE = 150.0
# The tier of hours is told to be over at Alertmanager's next turn, which is a quarter of an hour later at most.
CLEARED = 1200.0
# One block, however long the story is.
BLOCKS = "--max-block-duration=1200h"


class Second:
    """A Prometheus without targets beside the real one."""

    def __init__(self, stage: Stage, slot: int = 0) -> None:
        self.stage, self.host = stage, stage.monitors[0]
        self.folder, self.unit, self.port = f"{FOLDER}-{slot}", f"drill-prometheus-{slot}", FIRST_PORT + slot
        self.url = f"http://127.0.0.1:{self.port}"
        texts = self._shell("for file in /etc/prometheus/rules/*.yml; do echo '---'; cat $file; done")
        self.rules: list[Mapping[str, Any]] = [content for content in yaml.safe_load_all(texts) if content]
        self.real = yaml.safe_load(self._shell("cat /etc/prometheus/prometheus.yml"))

    def _shell(self, command: str) -> str:
        return self.stage.shell(self.host, command)

    def _promtool(self, *argv: str) -> None:
        self.stage.lab.inside(self.host, "nice", "-n", "19", "promtool", *argv)

    def prepare(self, alert: str, story: Story) -> None:
        """Blocks, rules, configuration."""
        self.stop()
        self._shell(f"rm -rf {self.folder}; install -d {self.folder}/data")
        ends = time.time() + LEAD
        text = "\n".join(alert_blocks.open_metrics(story.samples(ends, TAIL))) + "\n"
        self.stage.put(self.host, text, f"{self.folder}/series")
        files = f"{self.folder}/series", f"{self.folder}/data"
        self._promtool("tsdb", "create-blocks-from", BLOCKS, "openmetrics", *files)
        groups = alert_blocks.groups_for(self.rules, alert, {name.split("{")[0] for name in story.series})
        if not any(rule.get("alert") == alert for group in groups for rule in group["rules"]):
            raise DrillError(f"the rules on {self.host} have no alert {alert}")
        self.stage.put(self.host, yaml.safe_dump({"groups": groups}), f"{self.folder}/rules.yml")
        settings = alert_blocks.configuration(self.real, f"{self.folder}/rules.yml", LABEL)
        self.stage.put(self.host, yaml.safe_dump(settings), f"{self.folder}/prometheus.yml")
        records = [{**g, "rules": [r for r in g["rules"] if "record" in r]} for g in groups]
        records = [group for group in records if group["rules"]]
        self._record(records, story, ends)
        self._shell(f"chown -R prometheus: {self.folder}")

    def _record(self, groups: Sequence[Mapping[str, Any]], story: Story, ends: float) -> None:
        """What recording rules would have written meanwhile; those that read others come after them."""
        for depth in itertools.count():
            if not (due := alert_blocks.layer(groups, depth)):
                return
            paced = [{**group, "interval": f"{story.pace:.0f}s"} for group in due]
            self.stage.put(self.host, yaml.safe_dump({"groups": paced}), f"{self.folder}/record.yml")
            self._shell(f"chown -R prometheus: {self.folder}")
            self.start(empty=True)
            try:
                span = [f"--start={ends - story.at:.0f}", f"--end={time.time():.0f}"]
                self._promtool(
                    "tsdb", "create-blocks-from", BLOCKS, "rules", *span, f"--url={self.url}",
                    f"--output-dir={self.folder}/data", f"{self.folder}/record.yml",
                )  # fmt: skip
            finally:
                self.stop()

    def start(self, empty: bool = False) -> None:
        config = f"{self.folder}/prometheus.yml"
        if empty:
            config = f"{self.folder}/empty.yml"
            self.stage.put(self.host, "global: {}\n", config)
        argv = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.folder}/data"]
        argv += ["--storage.tsdb.retention.time=1y", "--rules.alert.resend-delay=5s"]
        argv += [f"--web.listen-address=127.0.0.1:{self.port}"]
        options = [f"--unit={self.unit}", "--uid=prometheus", "--gid=prometheus", "--nice=10"]
        self.stage.lab.inside(self.host, "systemd-run", "--quiet", "--collect", *options, "--", *argv)
        ready = f"curl -sf -o /dev/null {self.url}/-/ready && echo yes"
        for _attempt in range(60):
            if self.stage.shell(self.host, ready, check=False) == "yes":
                return
            time.sleep(0.5)
        raise DrillError(f"the second Prometheus did not start: journalctl -u {self.unit} on {self.host}")

    def calm(self, alert: str) -> None:
        """The same alert with a condition that nothing meets: Prometheus itself says that it is over."""
        content = yaml.safe_load(self._shell(f"cat {self.folder}/rules.yml"))
        for group in content["groups"]:
            for rule in group["rules"]:
                if rule.get("alert") == alert:
                    rule["expr"] = "vector(0) > 1"
        self.stage.put(self.host, yaml.safe_dump(content), f"{self.folder}/rules.yml")
        self.stage.lab.inside(self.host, "systemctl", "kill", "--signal=SIGHUP", f"{self.unit}.service")
        # Two rounds of the rules, and the way to Alertmanager.
        time.sleep(12)

    def stop(self) -> None:
        self._shell(f"systemctl stop {self.unit}.service 2>/dev/null; true")

    def clean(self) -> None:
        self.stop()
        self._shell(f"rm -rf {self.folder}")


def is_the_one(row: Row, alert: Alert, story: Story) -> bool:
    """Whether a notification is the simulated one, with the labels that the rule test wants."""
    labels = row["labels"] or {}
    if labels.get(LABEL) != "true" or row["status"] != "firing":
        return False
    expected = [{**wanted, **alert.labels} for wanted in story.fires]
    return any(all(labels.get(name) == value for name, value in wanted.items()) for wanted in expected)


def one(stage: Stage, second: Second, alert: Alert, story: Story) -> tuple[float, Row | None]:
    """Let one alert fire; when it could, and what has arrived."""
    second.prepare(alert.name, story)
    began = time.time()
    try:
        second.start()
        row = stage.sink.wait_for(lambda row: is_the_one(row, alert, story), began, PATIENCE, alert.name)
        second.calm(alert.name)
    finally:
        second.stop()
    return began, row


def figure(alert: Alert, row: Row | None, began: float) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "tier": alert.tier,
        "simulated": True,
        "seconds": round(row["received"] - began, 1) if row else None,
        "labels": dict(row["labels"]) if row else {},
    }


def run(drill: Drill, stage: Stage, alerts: Sequence[Alert]) -> None:
    """All of them, some at a time."""
    stories, since = alert_blocks.read_stories(), time.time()
    free: queue.SimpleQueue[Second] = queue.SimpleQueue()
    seconds = [Second(stage, slot) for slot in range(SLOTS)]
    for second in seconds:
        free.put(second)
    lock = threading.Lock()
    fired: list[Row] = []

    def go(alert: Alert) -> None:
        second, row, began, text = free.get(), None, time.time(), "nothing arrived"
        try:
            if alert.name not in stories:
                raise DrillError("no rule test in which it fires")
            began, row = one(stage, second, alert, stories[alert.name])
        except (DrillError, SinkError) as error:
            text = str(error)
        finally:
            free.put(second)
        with lock:
            if row is not None:
                fired.append(row)
                text = f"{row['received'] - began:.1f} s"
            drill.facts.setdefault("alerts", []).append(figure(alert, row, began))
            drill.check(f"{alert.name} ({alert.tier}, simulated)", row is not None, text, "arrives, labels as tested")

    try:
        with ThreadPoolExecutor(SLOTS) as pool:
            list(pool.map(go, alerts))
    finally:
        for second in seconds:
            second.clean()
    deadline = time.monotonic() + CLEARED
    while True:
        rows = stage.sink.rows(since)
        left = [row for row in fired if not alert_rules.first_resolved(rows, row["fingerprint"], since)]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(5)
    names = sorted(alert_rules.named(row) for row in left)
    drill.check("simulated alerts that are over", not left, names or f"{len(fired)} of {len(fired)}", "all")
