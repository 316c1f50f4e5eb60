# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Prometheus gets: counts that Redis keeps for the whole fleet, so every API host shows the same numbers."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import redis
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .names import FINAL, OPEN
from .scripts import BUCKETS
from .store import Store

PREFIX = "flowfleet_tasks_"
# The lists of one queue in the broker: kombu appends the priority to all but the first one.
STEPS = ("", "\x06\x165")


def broker_lists(store: Store, queue: str) -> list[str]:
    """Return the names of a queue's lists."""
    return [store.key(f"queue.{queue}{step}") for step in STEPS]


def depth(store: Store, queue: str) -> int:
    """Return how many messages wait in a queue."""
    return sum(int(store.client.llen(name)) for name in broker_lists(store, queue))


def oldest_sent(store: Store, queue: str) -> float | None:
    """Return when the oldest message that waits was sent."""
    found = []
    for name in broker_lists(store, queue):
        text = store.client.lindex(name, -1)
        if text:
            try:
                found.append(float(json.loads(text)["headers"]["flowfleet_sent"]))
            except (ValueError, KeyError, TypeError):
                continue
    return min(found, default=None)


class Figures(Collector):
    """Reads everything when it is asked."""

    def __init__(self, store: Store) -> None:
        """Take the records."""
        self.store = store

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, or only that Redis cannot be reached."""
        try:
            metrics = list(self._all())
        except redis.RedisError:
            metrics = []
        up = GaugeMetricFamily(PREFIX + "up", "Whether the records can be read.")
        up.add_metric([], 1.0 if metrics else 0.0)
        yield up
        yield from metrics

    def _all(self) -> Iterator[Metric]:
        yield from self._queues()
        yield from self._counts()
        yield from self._times()
        yield from self._schedules()

    def _queues(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(PREFIX + "queue_depth", "Messages that wait.", labels=["queue"])
        age = GaugeMetricFamily(PREFIX + "queue_age_seconds", "Age of the oldest message that waits.", labels=["queue"])
        for queue in sorted(self.store.settings.queues):
            waiting.add_metric([queue], depth(self.store, queue))
            sent = oldest_sent(self.store, queue)
            age.add_metric([queue], max(0.0, time.time() - sent) if sent else 0.0)
        runs = GaugeMetricFamily(PREFIX + "runs", "Runs that have not ended.", labels=["state"])
        for state in OPEN:
            runs.add_metric([state], int(self.store.client.scard(self.store.key("state", state))))
        dead = GaugeMetricFamily(PREFIX + "dead_letters", "Runs that failed or whose end is unknown, not replayed.")
        dead.add_metric([], int(self.store.client.zcard(self.store.key("dead"))))
        leader = GaugeMetricFamily(PREFIX + "beat_leader_timestamp_seconds", "When a leading beat was last seen.")
        leader.add_metric([], float(self.store.client.get(self.store.key("beat")) or 0))
        workers = GaugeMetricFamily(PREFIX + "workers", "Workers that were alive within the last minute.")
        workers.add_metric([], int(self.store.client.zcount(self.store.key("workers"), time.time() - 60, "+inf")))
        yield from (waiting, age, runs, dead, leader, workers)

    def _counts(self) -> Iterator[Metric]:
        counted = self.store.client.hgetall(self.store.key("stats"))
        total = CounterMetricFamily(PREFIX + "runs_total", "Runs that ended.", labels=["queue", "state"])
        others = {
            "retries": CounterMetricFamily(PREFIX + "retries_total", "Attempts put off.", labels=["queue"]),
            "revived": CounterMetricFamily(
                PREFIX + "revived_total", "Runs taken over from dead workers.", labels=["queue"]
            ),
            "dead": CounterMetricFamily(
                PREFIX + "dead_letters_total", "Runs that became dead letters.", labels=["queue"]
            ),
        }
        for queue in sorted(self.store.settings.queues):
            for state in FINAL:
                total.add_metric([queue, state], int(counted.get(f"total|{queue}|{state}", 0)))
            for name, metric in others.items():
                metric.add_metric([queue], int(counted.get(f"{name}|{queue}", 0)))
        yield total
        yield from others.values()

    def _times(self) -> Iterator[Metric]:
        metric = HistogramMetricFamily(PREFIX + "run_seconds", "Seconds from first start to end.", labels=["flow"])
        flows: dict[str, dict[str, float]] = defaultdict(dict)
        for name, value in self.store.client.hgetall(self.store.key("hist")).items():
            flow, _bar, edge = str(name).rpartition("|")
            flows[flow]["sum" if edge == "sum" else f"{float(edge):g}"] = float(value)
        for flow, found in sorted(flows.items()):
            metric.add_metric([flow], buckets=_cumulated(found), sum_value=found.get("sum", 0.0))
        yield metric

    def _schedules(self) -> Iterator[Metric]:
        fired = GaugeMetricFamily(PREFIX + "schedule_last_fire_timestamp_seconds", "Last firing.", labels=["schedule"])
        late = GaugeMetricFamily(PREFIX + "schedule_late_seconds", "How late that was.", labels=["schedule"])
        missed = CounterMetricFamily(PREFIX + "schedule_missed_total", "Due times skipped.", labels=["schedule"])
        for schedule in listed_schedules(self.store):
            name = str(schedule["name"])
            state = self.store.client.hgetall(self.store.key("schedule", name))
            fired.add_metric([name], float(state.get("fired", 0)))
            late.add_metric([name], float(state.get("late", 0)))
            missed.add_metric([name], float(state.get("missed", 0)))
        yield from (fired, late, missed)


def listed_schedules(store: Store) -> list[dict[str, Any]]:
    """Return the schedules that the leader has read."""
    text = store.client.get(store.key("schedules"))
    found = json.loads(text) if text else []
    return [entry for entry in found if isinstance(entry, dict)]


def _cumulated(found: dict[str, float]) -> list[tuple[str, float]]:
    total, result = 0.0, []
    for edge in BUCKETS:
        total += found.get(f"{edge:g}", 0.0)
        result.append((f"{edge:g}", total))
    result.append(("+Inf", total + found.get("inf", 0.0)))
    return result


def registry(store: Store, more: Iterable[Collector] = ()) -> CollectorRegistry:
    """Return what the exporter serves."""
    made = CollectorRegistry()
    made.register(Figures(store))
    for collector in more:
        made.register(collector)
    return made
