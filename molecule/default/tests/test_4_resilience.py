"""The death of a node's master process under load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import HEALTHY, Cluster

CLIENTS = 6
# Prints three moments: right before the kill, right after it, and when the kernel has torn down the last process of the
# unit. Until then its sockets take requests that nobody will ever read.
KILL = """
read pids < <(tr '\\n' ' ' < /sys/fs/cgroup/system.slice/langflow.service/cgroup.procs)
master=$(systemctl show langflow.service --property=MainPID --value)
date +%s.%N; kill -9 $master; date +%s.%N
while kill -0 $pids 2>/dev/null; do sleep 0.005; done; date +%s.%N
"""
BEFORE, AFTER = 8.0, 25.0


@dataclass(frozen=True)
class Call:
    """One run of the flow: when it began and ended, and what went wrong."""

    began: float
    ended: float
    error: str


def test_killed_master_costs_only_what_was_in_flight(
    cluster: Cluster, front: Callable[..., Any], flow: tuple[str, str, Callable[[str], str]]
) -> None:
    from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import ApiError

    if len(cluster.groups["langflow"]) < 2:
        pytest.skip("one node: there is no other one to serve")
    key, flow_id, expected = flow
    node = cluster.all("langflow")[0]
    calls: list[Call] = []
    over = threading.Event()

    def work(number: int) -> None:
        client = front(timeout=60)
        client.api_key = key
        count = 0
        while not over.is_set():
            count += 1
            text, began, error = f"call {count} of client {number}", time.time(), ""
            try:
                if (found := client.run(flow_id, text, f"resilience-{number}-{count}")) != expected(text):
                    error = f"wrong answer {found!r}"
            except ApiError as caught:
                error = f"{caught.kind} {caught.status or ''} {caught}"
            calls.append(Call(began, time.time(), error))

    def restarts() -> int:
        return int(node.check_output("systemctl show langflow.service --property=NRestarts --value"))

    counted = restarts()
    with ThreadPoolExecutor(CLIENTS) as pool:
        futures = [pool.submit(work, number) for number in range(CLIENTS)]
        try:
            time.sleep(BEFORE)
            # The hosts share the controller's clock. The two moments enclose the kill itself, not the ssh around it.
            before, killed, gone = map(float, node.check_output("bash -c %s", KILL).split())
            time.sleep(AFTER)
            deadline = killed + 180
            while node.run(HEALTHY).rc != 0:
                assert time.time() < deadline, "the node did not come back by itself"
                time.sleep(1)
            back = time.time() - killed
        finally:
            over.set()
        for future in futures:
            future.result()

    failed = [call for call in calls if call.error]
    in_flight = [call for call in calls if call.began <= gone and call.ended >= before]
    at_the_kill = [call for call in in_flight if call.began <= killed]
    too_late = [call for call in failed if killed < call.began <= gone]
    new = [call for call in failed if call.began > gone]
    print(
        f"calls {len(calls)}, in flight at the kill {len(at_the_kill)}, lost {len(failed)}; of these sent in the "
        f"{(gone - killed) * 1000:.0f} ms until the processes were gone {len(too_late)}; "
        f"new calls lost {len(new)}; node healthy again after {back:.1f} s"
    )
    for call in failed:
        print(f"  began {call.began - killed:+.2f} s, ended {call.ended - killed:+.2f} s: {call.error}")
    assert not new
    assert all(call in in_flight for call in failed)
    assert restarts() == counted + 1
