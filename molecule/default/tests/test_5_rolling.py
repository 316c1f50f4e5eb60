"""A rolling restart under load: not one failed request, and the proof that this test could see one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import HEALTHY, Cluster, Play, ask


class Probe:
    """The collection's own load generator, as an operator runs it on the controller."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def call(self, state: str, **options: Any) -> dict[str, Any]:
        return ask("localhost", "request_probe", {"state": state, "directory": str(self.directory), **options})


def settle(front: Callable[..., Any]) -> None:
    """Wait until nginx trusts all nodes: it lets one request at a time try a node that was gone, and refuses others."""
    from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import ApiError

    deadline, answered = time.monotonic() + 60, 0
    while answered < 10:
        assert time.monotonic() < deadline, "the front door does not answer ten times in a row"
        try:
            front(timeout=10).health()
            answered += 1
        except ApiError:
            answered = 0
            time.sleep(0.5)


@pytest.fixture
def probe(
    tmp_path: Path,
    cluster: Cluster,
    ca: Path,
    domain: str,
    front: Callable[..., Any],
    flow: tuple[str, str, Callable[[str], str]],
) -> Iterator[Probe]:
    """Constant arrivals at the front door: health checks, runs and streams."""
    if len(cluster.groups["langflow"]) < 2:
        pytest.skip("one node: a restart of it is a pause")
    # What an earlier test broke is not this one's to count.
    settle(front)
    key_path = tmp_path / "key"
    key_path.touch(mode=0o600)
    key_path.write_text(flow[0])
    found = Probe(tmp_path / "probe")
    found.call(
        "started",
        url=f"https://{cluster.address(cluster.groups['loadbalancers'][0])}",
        server_name=domain,
        ca_path=str(ca),
        api_key_path=str(key_path),
        max_duration=900,
        timeout=60,
        # The generator shares two cores with the whole lab, which is busy on purpose.
        max_lag=0.5,
        loads=[
            {"kind": "get", "rate": 8, "path": "/health_check"},
            {"kind": "run", "rate": 0.5, "flow": flow[1], "expect": "1 words"},
            {"kind": "stream", "rate": 0.2, "flow": flow[1], "expect": "1 words"},
        ],
    )
    try:
        time.sleep(10)
        yield found
    finally:
        found.call("stopped")


def restarts(cluster: Cluster) -> dict[str, str]:
    """When each node's process was started."""
    return {
        name: cluster.hosts[name].check_output(
            "systemctl show langflow.service --property=ExecMainStartTimestampMonotonic"
        )
        for name in cluster.groups["langflow"]
    }


def rollout(cluster: Cluster) -> dict[str, Any]:
    """The state of the roll, as the first load balancer keeps it."""
    return ask(cluster.groups["loadbalancers"][0], "rollout_state_info", {})


def report_of(probe: Probe) -> dict[str, Any]:
    time.sleep(5)
    probe.call("stopped")
    report = dict(probe.call("reported")["report"])
    print("\n".join(report["lines"]))
    return report


def test_rolling_restart_fails_no_request(
    cluster: Cluster, probe: Probe, playbook: Callable[..., Play], tmp_path: Path
) -> None:
    before = restarts(cluster)
    probe.call("marked", mark="during")
    play = playbook("rolling_restart")
    assert play.status == 0, play.output[-3000:]
    probe.call("marked", mark="after")
    after = restarts(cluster)
    report = report_of(probe)
    assert all(after[name] != before[name] for name in before), "a node was not restarted"
    assert report["trusted"], report["doubts"]
    assert report["n"] > 200
    print(f"failed {report['failed']} of {report['n']}; classes {report['classes']}")
    assert report["failed"] == 0, report["failures"][:5]
    # Nobody is left out, and a plan that is finished leaves nothing to resume.
    assert rollout(cluster)["status"] == "finished"
    members = cluster.one("loadbalancers").check_output("grep -rh '^server' /etc/nginx/langflow/backends.d")
    assert " down" not in members


def test_restart_without_drain_would_be_seen(cluster: Cluster, probe: Probe) -> None:
    """Negative control: both nodes killed at once must show in the same report."""
    nodes = cluster.all("langflow")
    for node in nodes:
        node.check_output("systemctl kill --signal=SIGKILL langflow.service")
    time.sleep(10)
    report = report_of(probe)
    print(f"failed {report['failed']} of {report['n']}; classes {report['classes']}")
    assert report["failed"] > 0
    deadline = time.monotonic() + 240
    while any(node.run(HEALTHY).rc != 0 for node in nodes):
        assert time.monotonic() < deadline, "the nodes did not come back by themselves"
        time.sleep(2)
