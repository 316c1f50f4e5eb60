"""The database cluster: one leads, the others follow, and a change of leader costs no acknowledged write."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Cluster, Play
from testinfra.host import Host

CURL = "curl -s -m 5 --cacert /etc/flowfleet/tls/ca.crt"
LIST = "patronictl -c /etc/patroni/config.yml list --format json"
LEDGER = "/root/ledger.py"
# What a run of site does to the database tier, and nothing else of it.
TIER = ("--limit", "postgresql:etcd:localhost")


@pytest.fixture
def servers(cluster: Cluster) -> list[Host]:
    return cluster.all("postgresql")


def members(host: Host) -> dict[str, dict[str, Any]]:
    return {member["Member"]: member for member in json.loads(host.check_output(LIST))}


def leader(cluster: Cluster) -> str:
    """Ask every server itself."""
    found = []
    for name in cluster.groups["postgresql"]:
        url = f"https://{cluster.address(name)}:8008/primary"
        if cluster.hosts[name].run(f"{CURL} -o /dev/null -w '%{{http_code}}' {url}").stdout == "200":
            found.append(name)
    assert len(found) == 1, found
    return found[0]


def settled(cluster: Cluster, seconds: float = 120) -> None:
    """One leader, two that stream, one of them synchronous."""
    deadline = time.monotonic() + seconds
    while True:
        roles: list[str] = []
        for host in cluster.all("postgresql"):
            answer = host.run(LIST)
            if answer.rc == 0:
                found = json.loads(answer.stdout)
                roles = sorted(f"{member['Role']} {member['State']}" for member in found)
                break
        if roles == ["Leader running", "Replica streaming", "Sync Standby streaming"]:
            return
        assert time.monotonic() < deadline, roles
        time.sleep(1)


class Ledger:
    """Writes from a client host, through every server's own address, to whoever can be written."""

    def __init__(self, cluster: Cluster) -> None:
        self.host = cluster.one("langflow")
        addresses = ",".join(cluster.address(name) for name in cluster.groups["postgresql"])
        self.dsn = (
            f"host={addresses} port=5432 dbname=langflow user=langflow target_session_attrs=read-write"
            " sslmode=verify-full sslrootcert=/etc/flowfleet/tls/ca.crt"
        )
        password = str(cluster.template("{{ lookup('flowfleet.langflow.secret', 'database_password') }}"))
        self.host.check_output("install -m 0600 /dev/null /root/ledger.pgpass")
        self.host.check_output(f"printf '%s\\n' {shlex.quote(f'*:*:*:*:{password}')} > /root/ledger.pgpass")
        source = (ROOT / "tools/drills/ledger.py").read_text(encoding="utf-8")
        self.host.check_output(f"printf '%s' {shlex.quote(source)} > {LEDGER}")
        self.host.check_output("apt-get install -y -qq --no-install-recommends python3-psycopg")
        self.run_id = ""

    def _command(self, action: str, seconds: float) -> str:
        return (
            f"env PGPASSFILE=/root/ledger.pgpass python3 {LEDGER} {action} --dsn {shlex.quote(self.dsn)}"
            f" --run {self.run_id} --journal /root/{self.run_id}.journal --seconds {seconds}"
        )

    def start(self, seconds: float) -> None:
        self.run_id = f"molecule-{time.time():.0f}"
        self.host.check_output(f"systemd-run --quiet --unit={self.run_id} -- {self._command('write', seconds)}")

    def finish(self) -> dict[str, Any]:
        while self.host.run(f"systemctl is-active {self.run_id}").stdout.strip() in ("active", "activating"):
            time.sleep(1)
        answer = self.host.run(self._command("verify", 0))
        print(answer.stdout)
        result: dict[str, Any] = json.loads(answer.stdout)
        return result


@pytest.fixture
def ledger(cluster: Cluster) -> Iterator[Ledger]:
    yield Ledger(cluster)
    cluster.one("langflow").check_output("rm -f /root/ledger.pgpass")


def test_units_are_hardened(servers: list[Host]) -> None:
    for host in servers:
        for unit in ("etcd.service", "patroni.service"):
            output = host.check_output(f"systemd-analyze security --no-pager {unit}")
            exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", output)
            assert exposure
            print(f"{host.backend.hostname} {unit}: exposure {exposure[1]}")
            assert float(exposure[1]) <= 2.0


def test_changes_need_a_certificate_and_a_password(cluster: Cluster) -> None:
    name = leader(cluster)
    host, url = cluster.hosts[name], f"https://{cluster.address(name)}:8008/config"
    own = "--cert /etc/flowfleet/tls/patroni.crt --key /etc/flowfleet/tls/patroni.key"
    code = f"{CURL} -o /dev/null -w '%{{http_code}}' -X PATCH -d '{{\"ttl\": 20}}'"
    assert host.run(f"{code} {url}").stdout == "403"
    assert host.run(f"{code} {own} {url}").stdout == "401"
    outside = cluster.one("langflow")
    assert outside.run(f"{CURL} -o /dev/null -w '%{{http_code}}' {url}").stdout == "200"
    assert outside.run(f"{code} {url}").stdout == "403"


def test_etcd_lets_nobody_in_without_a_certificate(cluster: Cluster, servers: list[Host]) -> None:
    address = cluster.address(cluster.groups["etcd"][0])
    assert servers[0].run(f"{CURL} https://{address}:2379/health").rc != 0
    own = "--cert /etc/flowfleet/tls/etcd.crt --key /etc/flowfleet/tls/etcd.key"
    assert "true" in servers[0].check_output(f"{CURL} {own} https://{address}:2379/health")
    # A certificate of the authority is not enough to be a member.
    other = "--cert /etc/flowfleet/tls/postgresql.crt --key /etc/flowfleet/tls/postgresql.key"
    assert servers[0].run(f"{CURL} {other} https://{address}:2380/members").rc != 0


def test_a_planned_switchover_loses_nothing(cluster: Cluster, playbook: Callable[..., Play], ledger: Ledger) -> None:
    settled(cluster)
    before = leader(cluster)
    ledger.start(30)
    time.sleep(5)
    candidate = next(
        name for name, member in members(cluster.hosts[before]).items() if member["Role"] == "Sync Standby"
    )
    cluster.hosts[before].check_output(
        f"patronictl -c /etc/patroni/config.yml switchover langflow --leader {before} --candidate {candidate} --force"
    )
    result = ledger.finish()
    assert result["verdict"] == "pass"
    assert result["acknowledged"] > 50
    settled(cluster)
    assert leader(cluster) == candidate


def test_a_killed_postmaster_loses_nothing_and_a_run_changes_nothing(
    cluster: Cluster, playbook: Callable[..., Play], ledger: Ledger
) -> None:
    settled(cluster)
    before = leader(cluster)
    ledger.start(40)
    time.sleep(5)
    cluster.hosts[before].check_output("sh -c 'kill -9 $(head -1 /var/lib/postgresql/17/main/postmaster.pid)'")
    result = ledger.finish()
    assert result["verdict"] == "pass"
    assert result["acknowledged"] > 50
    settled(cluster)
    after = leader(cluster)
    started = {
        host.backend.hostname: host.check_output("systemctl show patroni -P ActiveEnterTimestamp")
        for host in cluster.all("postgresql")
    }
    play = playbook("site", *TIER)
    assert play.status == 0, play.output[-3000:]
    assert play.tasks_with("changed") == []
    assert leader(cluster) == after, "a run must not switch back"
    assert started == {
        host.backend.hostname: host.check_output("systemctl show patroni -P ActiveEnterTimestamp")
        for host in cluster.all("postgresql")
    }


def test_the_ledger_sees_a_loss(cluster: Cluster, ledger: Ledger) -> None:
    """The control: what was acknowledged is taken away behind its back."""
    settled(cluster)
    ledger.start(5)
    time.sleep(7)
    name = leader(cluster)
    cluster.hosts[name].check_output(
        f"psql -XAtq -h /run/postgresql -U postgres -d langflow -c"
        f" \"DELETE FROM flowfleet_ledger WHERE run = '{ledger.run_id}' AND number = 3\""
    )
    result = ledger.finish()
    assert (result["verdict"], result["lost"]) == ("fail", [3])


def test_a_member_of_etcd_never_founds_a_second_cluster(cluster: Cluster, playbook: Callable[..., Play]) -> None:
    """The control of the guard: a member that has lost its data is refused, and put back afterwards."""
    host = cluster.all("etcd")[-1]
    data = Path("/var/lib/etcd/langflow")
    host.check_output(f"systemctl stop etcd && mv {data} {data}.kept")
    try:
        play = playbook("site", *TIER)
        assert play.status != 0
        assert "has no data below" in play.output
        assert not host.file(str(data)).exists
    finally:
        host.check_output(f"rm -rf {data} && mv {data}.kept {data} && systemctl start etcd")
    settled(cluster)
