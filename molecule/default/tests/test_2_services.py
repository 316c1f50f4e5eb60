"""Units: running, enabled, hardened, limited."""

from __future__ import annotations

import re

import pytest
from conftest import Cluster
from testinfra.host import Host

UNITS = [
    ("loadbalancers", "nginx.service"),
    ("langflow", "langflow.service"),
    ("postgresql", "postgresql@*-main.service"),
    ("redis", "redis-cache.service"),
    ("redis", "redis-queue.service"),
]


def properties(host: Host, unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit, by name."""
    if "*" in unit:
        unit = host.check_output("systemctl list-units --plain --no-legend %s", unit).split()[0]
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
