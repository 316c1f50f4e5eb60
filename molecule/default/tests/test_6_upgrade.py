"""An upgrade, the way back and a bad release on a cluster that serves: no request fails, whatever happens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Cluster, Play, ask
from test_5_rolling import Probe, probe, report_of, restarts, rollout

__all__ = ["probe"]

# Enough for a verdict at the rate of the probe (health checks do not count), short enough for a test.
CANARY = {"langflow_canary_window": 16, "langflow_canary_warmup": 2, "langflow_canary_min_requests": 6}


def releases(cluster: Cluster) -> dict[str, str]:
    """What `current` names on each node."""
    return {
        name: cluster.hosts[name].check_output("readlink /opt/langflow/current") for name in cluster.groups["langflow"]
    }


def drained(cluster: Cluster) -> str:
    command = "awk '/ down;/ {print FILENAME}' /etc/nginx/langflow/backends.d/*.conf"
    return cluster.one("loadbalancers").check_output(command)


@pytest.fixture
def lock(tmp_path: Path, cluster: Cluster) -> Path:
    """The same packages under another checksum: another release, and nothing to download."""
    version = cluster.template("{{ langflow_version | default('1.13.0') }}")
    source = (ROOT / f"roles/langflow/files/requirements-{version}.txt").read_text()
    path = tmp_path / "requirements.txt"
    path.write_text(f"{source}# {time.time()}\n")
    return path


def test_upgrade_and_rollback_fail_no_request(
    cluster: Cluster, probe: Probe, playbook: Callable[..., Play], lock: Path
) -> None:
    options = ["-e", json.dumps({"langflow_requirements_file": str(lock), **CANARY})]
    before = releases(cluster)
    started = restarts(cluster)

    plan = playbook("upgrade", "--check", *options)
    assert plan.status == 0, plan.output[-3000:]
    assert '"estimated_seconds"' in plan.output
    assert releases(cluster) == before
    assert restarts(cluster) == started, "a plan restarts nothing"

    probe.call("marked", mark="upgrade")
    play = playbook("upgrade", *options)
    assert play.status == 0, play.output[-3000:]
    upgraded = releases(cluster)
    assert all(upgraded[name] != before[name] for name in before)
    assert rollout(cluster)["status"] == "finished"

    started = restarts(cluster)
    again = playbook("upgrade", *options)
    assert again.status == 0, again.output[-3000:]
    assert all(row["changed"] == 0 for row in again.recap.values()), again.tasks_with("changed")
    assert restarts(cluster) == started, "what runs already is not restarted"

    probe.call("marked", mark="rollback")
    play = playbook("rollback")
    assert play.status == 0, play.output[-3000:]
    assert releases(cluster) == before
    assert not drained(cluster)

    report = report_of(probe)
    assert report["trusted"], report["doubts"]
    assert report["failed"] == 0, report["failures"][:5]


def test_bad_release_is_put_back_and_stops_the_roll(
    cluster: Cluster, probe: Probe, playbook: Callable[..., Play]
) -> None:
    first, second = cluster.groups["langflow"][:2]
    files = "sha256sum /etc/langflow/* /etc/systemd/system/langflow.service"
    kept = {name: cluster.hosts[name].check_output(files) for name in (first, second)}
    started = restarts(cluster)
    bad = ["-e", json.dumps({"langflow_environment": {"GUNICORN_CMD_ARGS": "--no-such-option"}, **CANARY})]

    play = playbook("upgrade", *bad)
    assert play.status != 0
    assert "serves again" in play.output, play.output[-3000:]
    state = rollout(cluster)
    assert state["breaker"]["open"]
    assert state["breaker"]["host"] == first
    assert state["phases"] == {first: "rolled_back", second: "pending"}
    assert restarts(cluster)[second] == started[second], "a later batch was touched"
    assert {name: cluster.hosts[name].check_output(files) for name in (first, second)} == kept
    assert not drained(cluster)

    refused = playbook("upgrade", *bad)
    assert refused.status != 0
    assert "rollout_reset" in refused.output

    report = report_of(probe)
    assert report["trusted"], report["doubts"]
    assert report["failed"] == 0, report["failures"][:5]
    keeper = cluster.groups["loadbalancers"][0]
    assert ask(keeper, "rollout_state", {"state": "reset", "reason": "the test is over"})["breaker"] == {"open": False}
