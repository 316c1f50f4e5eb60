"""The shared address, the firewall, the gateway behind them, and Valkey."""

from __future__ import annotations

import importlib
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Cluster, Play
from test_2_services import properties
from test_3_negative import CA, LOG, in_the_clear
from testinfra.host import Host

sys.path.insert(0, str(ROOT / "tests/corpus"))
gateway = importlib.import_module("gateway_corpus")

EVERY = 0.1
BALANCERS = (0, 1)
OPEN, DROPPED = 0, 124


@pytest.fixture(scope="module")
def vip(cluster: Cluster) -> str:
    return str(cluster.variable("keepalived_vip")).split("/")[0]


def holders(cluster: Cluster, vip: str) -> list[str]:
    """The load balancers that have the shared address."""
    names = cluster.groups["loadbalancers"]
    return [name for name in names if f" {vip}/" in cluster.hosts[name].check_output("ip -4 -o address show")]


def log_length(host: Host) -> int:
    return int(host.check_output("wc -l < " + LOG))


# --- the shared address ----------------------------------------------------------------------------------------------


def test_keepalived_runs_hardened(cluster: Cluster) -> None:
    for host in cluster.all("loadbalancers"):
        wanted = {
            "ActiveState": "active", "UnitFileState": "enabled", "Restart": "always",
            "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
        }  # fmt: skip
        assert properties(host, "keepalived.service", *wanted) == wanted
        allowed = properties(host, "keepalived.service", "CapabilityBoundingSet")["CapabilityBoundingSet"]
        assert "cap_net_admin" in allowed
        assert "cap_sys_admin" not in allowed
        output = host.check_output("systemd-analyze security --no-pager keepalived.service")
        exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", output)
        assert exposure
        print(f"{host.backend.hostname} keepalived.service: exposure {exposure[1]}")
        # What systemd calls OK. It changes addresses and sends raw packets as root: this is not the place for 2.0.
        assert float(exposure[1]) < 5.0
        config = host.file("/etc/keepalived/keepalived.conf")
        assert (config.user, config.group, config.mode) == ("root", "root", 0o600)


def test_one_balancer_holds_the_address(cluster: Cluster, vip: str) -> None:
    assert len(holders(cluster, vip)) == 1


def test_every_balancer_holds_the_address_in_its_certificate(cluster: Cluster, vip: str) -> None:
    for host in cluster.all("loadbalancers"):
        host.check_output("openssl x509 -noout -checkip %s -in /etc/flowfleet/tls/nginx.crt | grep -v NOT", vip)


class Probes:
    """A request to the shared address every 100 ms, whether or not the one before it was answered."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.results: list[tuple[float, str]] = []
        self.over = threading.Event()

    def ask(self, began: float) -> None:
        try:
            status = self.client.send("GET", "/health_check").status
            error = "" if status == 200 else f"status {status}"
        except (OSError, ValueError) as caught:
            error = type(caught).__name__
        self.results.append((began, error))

    def run(self) -> None:
        with ThreadPoolExecutor(32) as pool:
            due = time.time()
            while not self.over.is_set():
                pool.submit(self.ask, time.time())
                due += EVERY
                time.sleep(max(0.0, due - time.time()))

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self.over.set()
            thread.join()
        self.results.sort()


def test_the_address_leaves_a_balancer_without_nginx(
    cluster: Cluster, vip: str, ca: Path, domain: str, playbook: Callable[..., Play]
) -> None:
    (before,) = holders(cluster, vip)
    (other,) = set(cluster.groups["loadbalancers"]) - {before}
    probes = Probes(gateway.Client(vip, domain, str(ca), timeout=2))
    with probes.running():
        time.sleep(3)
        stopped = time.time()
        cluster.hosts[before].check_output("systemctl stop nginx.service")
        try:
            time.sleep(10)
            assert holders(cluster, vip) == [other]
            # Users and the smoke test come in through the other one now, and only there.
            length = {name: log_length(cluster.hosts[name]) for name in (before, other)}
            play = playbook("smoke")
            assert play.status == 0, play.output[-3000:]
            assert log_length(cluster.hosts[before]) == length[before]
            assert log_length(cluster.hosts[other]) >= length[other] + 10
        finally:
            cluster.hosts[before].check_output("systemctl start nginx.service")
        # Who came back does not take the address away from the one that has it.
        time.sleep(6)
        assert holders(cluster, vip) == [other]

    missed = [(began, error) for began, error in probes.results if error]
    assert [row for row in missed if row[0] < stopped - EVERY] == []
    assert missed, "Nginx was stopped and nobody noticed: the probes do not measure"
    gone = missed[-1][0] + EVERY - missed[0][0]
    kinds = sorted({error for _began, error in missed})
    print(
        f"probes {len(probes.results)}, missed {len(missed)} within {gone:.1f} s, the first "
        f"{missed[0][0] - stopped:+.2f} s after the stop was asked for: {', '.join(kinds)}"
    )
    assert gone < 6
    assert len(missed) * EVERY < 6


# --- the firewall ----------------------------------------------------------------------------------------------------


def dial(host: Host, address: str, port: int) -> int:
    """OPEN, DROPPED (no answer at all), or something else (refused)."""
    return int(host.run("timeout 2 bash -c %s", f"exec 3<>/dev/tcp/{address}/{port}").rc)


def controller_reaches(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("number", BALANCERS)
def test_balancer_reaches_langflow_and_no_data(cluster: Cluster, number: int) -> None:
    node = cluster.groups["langflow"][0]
    balancer, address = cluster.all("loadbalancers")[number], cluster.address(node)
    wanted = {7860: OPEN, 5432: DROPPED, 6379: DROPPED, 6380: DROPPED}
    assert {port: dial(balancer, address, port) for port in wanted} == wanted
    # What the filter hides is there.
    assert {port: dial(cluster.hosts[node], address, port) for port in wanted} == dict.fromkeys(wanted, OPEN)


def test_outsider_reaches_the_front_door_only(cluster: Cluster, vip: str) -> None:
    address = cluster.address(cluster.groups["langflow"][0])
    assert {port: controller_reaches(address, port) for port in (22, 443, 5432, 6379, 6380, 7860)} == {
        22: True, 443: False, 5432: False, 6379: False, 6380: False, 7860: False,
    }  # fmt: skip
    for door in (vip, *map(cluster.address, cluster.groups["loadbalancers"])):
        assert {port: controller_reaches(door, port) for port in (22, 80, 443, 8404)} == {
            22: True, 80: True, 443: True, 8404: False,
        }  # fmt: skip


@pytest.mark.parametrize("number", BALANCERS)
def test_status_page_is_for_the_balancer_itself(cluster: Cluster, number: int) -> None:
    names = cluster.groups["loadbalancers"]
    address = cluster.address(names[number])
    assert dial(cluster.hosts[names[number]], "127.0.0.1", 8404) == OPEN
    assert dial(cluster.hosts[names[1 - number]], address, 8404) == DROPPED


def test_filter_comes_back_with_the_host(cluster: Cluster) -> None:
    for name, host in cluster.hosts.items():
        found = properties(host, "flowfleet-firewall.service", "ActiveState", "UnitFileState")
        assert found == {"ActiveState": "active", "UnitFileState": "enabled"}, name
        # The guard that takes a filter off which locked its maker out has been called back.
        guard = properties(host, "flowfleet-firewall-rollback.timer", "ActiveState")
        assert guard == {"ActiveState": "inactive"}, name


# --- the gateway -----------------------------------------------------------------------------------------------------


def test_gateway_holds_behind_the_address(cluster: Cluster, vip: str, ca: Path, domain: str) -> None:
    (holder,) = holders(cluster, vip)
    host = cluster.hosts[holder]
    client, length = gateway.Client(vip, domain, str(ca)), log_length(host)
    answers = {kind: client.send_all(rows) for kind, rows in gateway.corpus().items()}
    time.sleep(1)
    log = gateway.log_records(host.check_output("tail -n +%s " + LOG, str(length + 1)).splitlines())
    print(", ".join(f"{kind} {len(rows)}" for kind, rows in answers.items()))
    assert gateway.complaints(answers, log) == []


# --- Valkey ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [6379, 6380])
def test_valkey_answers_over_tls_only(cluster: Cluster, port: int) -> None:
    host, address = cluster.one("redis"), cluster.address(cluster.groups["redis"][0])
    unit = {6379: "redis-cache.service", 6380: "redis-queue.service"}[port]
    assert "path=/usr/bin/valkey-server " in host.check_output("systemctl show %s --property=ExecStart", unit)
    assert not host.package("redis-server").is_installed
    ask = f"printf 'PING\\r\\n' | timeout 5 openssl s_client -quiet -connect {address}:{port} -CAfile {CA} 2>/dev/null"
    assert "NOAUTH" in host.run(ask).stdout
    assert "NOAUTH" not in in_the_clear(host, address, port, b"PING\r\n")
