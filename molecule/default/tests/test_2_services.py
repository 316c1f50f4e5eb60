"""Units: running, enabled, hardened, limited."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Cluster, ask
from testinfra.host import Host

UNITS = [
    ("loadbalancers", "nginx.service"),
    ("langflow", "langflow.service"),
    # One server alone, or one that Patroni runs.
    ("postgresql", "postgresql@*-main.service patroni.service"),
    ("redis", "redis-cache.service"),
    ("redis", "redis-queue.service"),
]


def properties(host: Host, unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit, by name."""
    if "*" in unit:
        patterns = unit.split()
        command = "systemctl list-units --plain --no-legend" + " %s" * len(patterns)
        unit = host.check_output(command, *patterns).split()[0]
    output = host.check_output("systemctl show %s --property=%s", unit, ",".join(names))
    return dict(line.split("=", 1) for line in output.splitlines())


@pytest.mark.parametrize(("group", "unit"), UNITS)
def test_unit_runs_and_is_enabled(cluster: Cluster, group: str, unit: str) -> None:
    for host in cluster.all(group):
        found = properties(host, unit, "ActiveState", "UnitFileState")
        assert found == {"ActiveState": "active", "UnitFileState": "enabled"}, host.backend.hostname


def test_nothing_has_failed(cluster: Cluster) -> None:
    for name, host in cluster.hosts.items():
        failed = host.check_output("systemctl list-units --failed --no-legend --plain")
        assert failed == "", f"{name}: {failed}"


@pytest.mark.parametrize(
    ("group", "unit"),
    [("langflow", "langflow.service"), ("redis", "redis-cache.service"), ("redis", "redis-queue.service")],
)
def test_unit_is_hardened(cluster: Cluster, group: str, unit: str) -> None:
    for host in cluster.all(group):
        output = host.check_output("systemd-analyze security --no-pager %s", unit)
        exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", output)
        assert exposure
        print(f"{host.backend.hostname} {unit}: exposure {exposure[1]}")
        assert float(exposure[1]) <= 2.0


def test_langflow_is_limited(cluster: Cluster) -> None:
    for host in cluster.all("langflow"):
        found = properties(
            host, "langflow.service", "MemoryHigh", "MemoryMax", "TasksMax", "LimitNOFILE", "User", "Restart"
        )
        print(host.backend.hostname, found)
        assert "infinity" not in (found["MemoryHigh"], found["MemoryMax"], found["TasksMax"])
        assert int(found["LimitNOFILE"]) >= 16384
        assert found["User"] == "langflow"
        assert found["Restart"] in {"always", "on-failure"}


def test_langflow_shows_no_secret(cluster: Cluster) -> None:
    """Secrets stand in one file for root, not in the unit, the command line or anywhere a user can read."""
    secret = str(cluster.template("{{ lookup('flowfleet.langflow.secret', 'database_password') }}"))
    for host in cluster.all("langflow"):
        assert secret not in host.check_output("systemctl cat langflow.service")
        assert secret not in host.check_output("systemctl show langflow.service")
        assert secret not in host.check_output("ps axww -o args")
        readable = host.run("runuser -u nobody -- grep -rlF %s /etc /opt/langflow/current/bin /usr/lib/systemd", secret)
        assert readable.stdout == ""


def test_keys_are_for_root_only(cluster: Cluster) -> None:
    for name, host in cluster.hosts.items():
        keys = host.check_output("find /etc/flowfleet/tls -name '*.key' -printf '%m %u %p\\n'").splitlines()
        assert keys, name
        for mode, owner, path in (line.split(" ", 2) for line in keys):
            assert owner == "root", path
            assert mode in {"600", "640"}, path


def test_memory_of_workers(cluster: Cluster) -> None:
    """A figure to print: what a worker costs."""
    for host in cluster.all("langflow"):
        pids = host.check_output("cat /sys/fs/cgroup/system.slice/langflow.service/cgroup.procs").split()
        sizes = []
        for pid in pids:
            rollup = host.run("cat /proc/%s/smaps_rollup", pid).stdout
            pss = re.search(r"^Pss:\s+(\d+) kB", rollup, re.M)
            if pss:
                sizes.append(int(pss[1]) // 1024)
        print(f"{host.backend.hostname}: processes {len(sizes)}, memory in MiB (PSS) {sorted(sizes, reverse=True)}")
        assert sizes


def test_access_log_is_rotated_and_read_across(cluster: Cluster, front: Callable[..., Any]) -> None:
    """Nginx writes to the new file, the old one is kept, and what reads the log sees both as one."""
    name = cluster.groups["loadbalancers"][0]
    host = cluster.hosts[name]
    log = "/var/log/nginx/access.json"
    client = front()

    def count() -> dict[str, Any]:
        spans = [{"name": "all", "since": began}]
        found = ask(name, "nginx_traffic_info", {"spans": spans, "exclude_paths": ["^(?!/api/v1/version)"]})
        return dict(found["spans"][0])

    def inode(path: str) -> str:
        return host.check_output("stat --format %%i %s", path)

    began = float(host.check_output("date +%s.%N"))
    for _number in range(5):
        client.version()
    before, workers = inode(log), host.check_output("pgrep --oldest nginx")
    assert count()["requests"] >= 5
    host.check_output("logrotate --force /etc/logrotate.d/flowfleet-nginx")
    assert inode(f"{log}.1") == before
    assert inode(log) != before
    assert host.check_output("stat --format '%%U %%G %%a' %s", log) == "root adm 640"
    # The master has opened the new file before its new workers take requests.
    deadline = time.monotonic() + 20
    while not host.file(log).size:
        client.version()
        assert time.monotonic() < deadline, "nobody writes to the new file"
    assert host.check_output("pgrep --oldest nginx") == workers, "rotation restarted Nginx"
    for _number in range(5):
        client.version()
    found = count()
    print(f"requests before, in and after the rotation: {found['requests']}, failed {found['failed']}")
    assert found["requests"] >= 10
    assert found["failed"] == 0
    seen = ask(
        name,
        "canary_gate",
        {"new": ["192.0.2.1"], "collect_only": True, "since": began, "warmup": 0, "window": 1, "exclude_paths": []},
    )
    assert seen["lines_unreadable"] == 0
