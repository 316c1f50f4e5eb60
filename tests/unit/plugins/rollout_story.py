# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rolls as they happen, by a clock that the teller sets: the real state machine on one side, a report on the other."""

from __future__ import annotations

import datetime
import random
from collections.abc import Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _nginx_traffic, _rollout
from ansible_collections.flowfleet.langflow.plugins.plugin_utils._rollout_report import Report

EPOCH = datetime.datetime(2026, 3, 14, 10, tzinfo=datetime.UTC).timestamp()
HOSTS = ("app1", "app2", "app3", "app4", "app5")
TOOK = {"drain": 6.0, "start": 21.0, "gate": 4.0}


class Dice(random.Random):
    """Falls the same way in each run."""


class Story:
    """One state file, and a report for each controller."""

    def __init__(self, skew: float = 0.0) -> None:
        self.now = EPOCH
        self.skew = skew
        self.file = _rollout.empty_state()
        self.report = Report()
        self.lines: list[str] = []
        self.run_id = ""
        self.dice = Dice(11)

    @property
    def theirs(self) -> datetime.datetime:
        """The clock of the host that keeps the file."""
        return datetime.datetime.fromtimestamp(self.now + self.skew, datetime.UTC)

    def show(self, line: str | None) -> None:
        if line:
            self.lines += line.split("\n")

    def tell(self, arguments: dict[str, Any], **result: Any) -> None:
        self.show(self.report.state(self.now, arguments, {**_rollout.summary(self.file), **result}))

    def plan(self, who: str = "alice", digest: str = "1.12.8-4f1c22ab", hosts: Sequence[str] = HOSTS) -> None:
        wanted = _rollout.Wanted("upgrade", digest, tuple(hosts), [1, "40%", "100%"], 2, None, who, 1.0)
        self.report = Report()
        self.run_id = _rollout.new_run_id(self.theirs)
        self.file, plan = _rollout.begin_run(self.file, wanted, self.theirs, self.run_id)
        arguments = {"state": "plan", "operation": wanted.operation, "digest": digest, "minimum": 2, "who": who}
        self.tell(arguments, plan=plan.result())

    def batch(self, *hosts: str) -> None:
        self.now += 1.5
        self.file, left = _rollout.begin_batch(self.file, self.run_id, hosts, HOSTS, None, self.theirs)
        self.tell({"state": "begin_batch", "hosts": list(hosts)}, serving_during=left)

    def record(self, host: str, phase: str, reason: str | None = None) -> None:
        self.file = _rollout.record(self.file, self.run_id, host, phase, None, reason, self.theirs)
        self.tell({"state": "record", "host": host, "phase": phase, "reason": reason})

    def work(self, *hosts: str, upto: str = "enabled") -> None:
        """Take the hosts through their phases, all at once."""
        for phase, took in TOOK.items():
            for host in hosts:
                self.record(host, phase)
                self.now += 0.4
            if phase == upto:
                return
            self.now += took * self.dice.uniform(0.8, 1.2)
        for host in hosts:
            self.record(host, "enabled")
            self.now += 0.4

    def finish(self) -> None:
        self.file = _rollout.finish(self.file, self.run_id, self.theirs)
        self.tell({"state": "finish"})

    def reset(self) -> None:
        self.file = _rollout.reset(self.file, "repaired", self.theirs)

    def canary(self, verdict: str, reason: str, errors: int, window: float = 40.0) -> None:
        start = self.now + self.skew
        self.now += window
        arm = {"requests": 420, "errors": errors, "latency_ms": {"p50": 41, "p95": 83, "p99": 120}}
        test = {
            "metric": "errors",
            "method": "fisher",
            "new": errors / 420,
            "old": 0.0,
            "p_value": 3e-9 if errors else 1.0,
        }
        test.update(alpha=0.0005, able=True, failed=verdict == "fail")
        result = {"verdict": verdict, "reason": reason, "start": start, "end": self.now + self.skew, "tests": [test]}
        result.update(new=arm, old={**arm, "requests": 1631, "errors": 0}, observation={"big": 1})
        self.show(self.report.canary(self.now, result))

    def traffic(self, failed: int = 0) -> None:
        """What two load balancers tell of all spans."""
        end = self.now + self.skew
        for balancer in ("lb1", "lb2"):
            spans = []
            for span in _nginx_traffic.make_spans(_rollout.summary(self.file)["spans"], end):
                one = _nginx_traffic.Traffic()
                calm = span.name in ("before", "after")
                for _number in range(int(20 * max(span.until - span.since, 1.0))):
                    one.requests += 1
                    value = _nginx_traffic.bucket(self.dice.lognormvariate(-3.1 if calm else -3.0, 0.5))
                    one.times[value] = one.times.get(value, 0) + 1
                one.statuses = {"200": one.requests}
                for number, host in enumerate(HOSTS):
                    one.backends[host] = _nginx_traffic.Backend(one.requests // 5 + number)
                if not calm:
                    one.retried = one.recovered = 3
                    one.failed = failed
                    one.backends["app1"].errors = 3 + failed
                spans.append({"name": span.name, "since": span.since, "until": span.until, **one.plain()})
            self.report.traffic(self.now, balancer, {"spans": spans})


def begin_with_app1(story: Story) -> None:
    """The first batch goes well."""
    story.plan()
    story.batch("app1")
    story.work("app1")


def earlier_roll(story: Story) -> None:
    """Something to go by for estimates."""
    story.plan(digest="1.12.7-0a0a0a0a")
    for hosts in (("app1",), ("app2", "app3"), ("app4", "app5")):
        story.batch(*hosts)
        story.work(*hosts)
        if hosts == ("app1",):
            story.canary("pass", "not worse beyond chance and tolerance", 0)
    story.finish()
    story.now += 86400
    story.lines.clear()


def good_roll(story: Story) -> None:
    """Five nodes in three batches, with a canary, a dump and figures."""
    earlier_roll(story)
    story.plan()
    story.batch("app1")
    begin = story.now
    story.now += 4
    story.show(story.report.event(begin, story.now, "Dump of the database"))
    story.work("app1")
    story.canary("pass", "not worse beyond chance and tolerance", 0)
    for hosts in (("app2", "app3"), ("app4", "app5")):
        story.batch(*hosts)
        story.work(*hosts)
    story.finish()
    story.now += 30
    story.traffic()
    story.show(story.report.end(story.now))


def failed_canary(story: Story) -> None:
    """The first node is worse, is taken back, and no other one is touched."""
    earlier_roll(story)
    begin_with_app1(story)
    reason = "errors 19.52 % against 0.00 % (p = 3e-09, limit 0.0005)"
    story.canary("fail", reason, 82, 20.0)
    story.work("app1", upto="gate")
    story.now += 4
    story.record("app1", "rolled_back", f"canary: {reason}")
    story.show(
        story.report.stop(story.now, "task failed", "app1", f"Stop | End the roll here: app1: canary: {reason}.")
    )
    story.traffic(failed=9)
    story.show(story.report.end(story.now))


def resumed_roll(story: Story) -> None:
    """The controller is killed while the second batch restarts, and somebody else goes on."""
    earlier_roll(story)
    begin_with_app1(story)
    story.batch("app2", "app3")
    story.work("app2", "app3", upto="start")
    story.now += 754
    story.lines.clear()
    story.plan(who="bob")
    for hosts in (("app2",), ("app3",), ("app4", "app5")):
        story.batch(*hosts)
        story.work(*hosts)
    story.finish()
    story.now += 30
    story.traffic()
    story.show(story.report.end(story.now))


def unreachable(story: Story) -> None:
    """No earlier roll, a lost host in the second batch, and a guard that refuses the third."""
    begin_with_app1(story)
    story.batch("app2", "app3")
    story.work("app2", "app3", upto="start")
    story.now += 12
    story.show(
        story.report.stop(story.now, "unreachable", "app3", "Node | Restart it: Failed to connect to the host via ssh")
    )
    story.now += 9
    story.record("app2", "gate")
    story.now += 5
    story.record("app2", "enabled")
    story.now += 2
    lost = "an earlier batch is not done: app3 (start)"
    story.tell({"state": "begin_batch", "hosts": ["app4", "app5"]}, failed=True, msg=lost)
    story.show(story.report.end(story.now))
