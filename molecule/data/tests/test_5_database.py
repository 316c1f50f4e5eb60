"""The database cluster: one leads, the others follow, and a change of leader costs no acknowledged write."""

from __future__ import annotations

import base64
import importlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Cluster, Play
from testinfra.host import Host

# What the drills of this tier are made of.
sys.path.insert(0, str(ROOT))
core, data_tier = (importlib.import_module(f"tools.drills.{name}") for name in ("core", "data_tier"))

TLS = "/etc/flowfleet/tls"
CURL = f"curl -s -m 5 --cacert {TLS}/ca.crt"
# What a run of site does to the database tier, and nothing else of it.
DATABASE = ("--limit", "postgresql:etcd:localhost")


@pytest.fixture(scope="session")
def tier() -> Iterator[Any]:
    found = data_tier.Tier(core.Lab("data"))
    found.settled()
    yield found
    found.clean()


@pytest.fixture
def servers(cluster: Cluster) -> list[Host]:
    return cluster.all("postgresql")


def shown_by(name: str) -> str:
    """How curl shows one of a host's certificates."""
    return f"--cert {TLS}/{name}.crt --key {TLS}/{name}.key"


def test_units_are_hardened(servers: list[Host]) -> None:
    for host in servers:
        for unit in ("etcd.service", "patroni.service"):
            output = host.check_output(f"systemd-analyze security --no-pager {unit}")
            exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", output)
            assert exposure
            print(f"{host.backend.hostname} {unit}: exposure {exposure[1]}")
            assert float(exposure[1]) <= 2.0


def test_changes_need_a_certificate_and_a_password(cluster: Cluster, tier: Any) -> None:
    name = tier.leader()
    host, url = cluster.hosts[name], f"https://{cluster.address(name)}:8008/config"
    own = shown_by("patroni")
    code = f"{CURL} -o /dev/null -w '%{{http_code}}' -X PATCH -d '{{\"ttl\": 20}}'"
    assert host.run(f"{code} {url}").stdout == "403"
    assert host.run(f"{code} {own} {url}").stdout == "401"
    outside = cluster.one("langflow")
    assert outside.run(f"{CURL} -o /dev/null -w '%{{http_code}}' {url}").stdout == "200"
    assert outside.run(f"{code} {url}").stdout == "403"


def asked(host: Host, address: str, certificate: str, path: str, body: dict[str, str], token: str = "") -> str:
    """What etcd answers to a question over its JSON interface; nothing if the connection is refused."""
    header = f"-H {shlex.quote(f'Authorization: {token}')}" if token else ""
    data = shlex.quote(json.dumps(body))
    return host.run(f"{CURL} {shown_by(certificate)} {header} -d {data} https://{address}:2379/v3/{path}").stdout


def key(text: bytes) -> str:
    return base64.b64encode(text).decode()


def test_etcd_lets_in_only_whom_it_serves(cluster: Cluster) -> None:
    """A certificate of the authority opens no data: that takes a password, which opens the keys of its user."""
    first, address = cluster.one("etcd"), cluster.address(cluster.groups["etcd"][0])
    ours = {"key": key(b"/flowfleet/"), "range_end": key(b"/flowfleet0")}
    every = {"key": key(b"\0"), "range_end": key(b"\0")}
    note = {"key": key(b"/flowfleet/note"), "value": key(b"text")}
    assert first.run(f"{CURL} https://{address}:2379/health").rc != 0
    outside = cluster.one("langflow")
    for host, certificate in [(outside, "langflow"), (outside, "nginx")] + [
        (first, name) for name in ("redis", "postgresql", "patroni", "etcd")
    ]:
        for path, body in (("kv/range", ours), ("kv/range", every), ("kv/put", note), ("auth/disable", {})):
            answer = asked(host, address, certificate, path, body)
            assert "user name is empty" in answer, f"{certificate} {path}: {answer}"
    password = str(cluster.template("{{ lookup('flowfleet.langflow.secret', 'etcd_patroni_password') }}"))
    login = {"name": "patroni", "password": password}
    wrong = asked(first, address, "patroni", "auth/authenticate", {**login, "password": "wrong"})
    assert "invalid user ID or password" in wrong
    token = json.loads(asked(first, address, "patroni", "auth/authenticate", login))["token"]
    assert json.loads(asked(first, address, "patroni", "kv/range", ours, token))["kvs"]
    for path, body in (("kv/range", every), ("kv/put", {**note, "key": key(b"/elsewhere")}), ("auth/disable", {})):
        assert "permission denied" in asked(first, address, "patroni", path, body, token), path
    # Nor is a certificate of the authority enough to be a member.
    for other in ("postgresql", "patroni"):
        assert first.run(f"{CURL} {shown_by(other)} https://{address}:2380/members").rc != 0


def test_a_switchover_loses_nothing_and_a_run_changes_nothing(
    cluster: Cluster, playbook: Callable[..., Play], tier: Any
) -> None:
    tier.settled()
    before = tier.leader()
    candidate = next(name for name, member in tier.members().items() if member["Role"] == "Sync Standby")
    with data_tier.writing(tier) as ledger:
        cluster.hosts[before].check_output(
            "patronictl -c /etc/patroni/config.yml switchover langflow --force"
            f" --leader {before} --candidate {candidate}"
        )
        ledger.wait_good(20)
        ledger.stop()
        result = ledger.verify()
        print(json.dumps({key: value for key, value in result.items() if key != "reasons"}))
        assert result["verdict"] == "pass"
        assert result["acknowledged"] > 30
        # The control: what was acknowledged is taken away behind its back.
        tier.settled()
        assert tier.leader() == candidate
        cluster.hosts[candidate].check_output(
            "psql -XAtq -h /run/postgresql -U postgres -d langflow -c"
            f" \"DELETE FROM flowfleet_ledger WHERE run = '{ledger.run_id}' AND number = 3\""
        )
        result = ledger.verify()
        assert (result["verdict"], result["lost"]) == ("fail", [3])

    command = "systemctl show patroni etcd -P ActiveEnterTimestamp"
    started = {name: cluster.hosts[name].check_output(command) for name in tier.servers}
    play = playbook("site", *DATABASE)
    assert play.status == 0, play.output[-3000:]
    assert play.tasks_with("changed") == []
    assert tier.leader() == candidate, "a run must not switch back"
    assert started == {name: cluster.hosts[name].check_output(command) for name in tier.servers}


def test_a_member_of_etcd_never_founds_a_second_cluster(
    cluster: Cluster, playbook: Callable[..., Play], tier: Any
) -> None:
    """The control of the guard: a member that has lost its data is refused, and put back afterwards."""
    host = cluster.all("etcd")[-1]
    data = Path("/var/lib/etcd/langflow")
    host.check_output(f"systemctl stop etcd && mv {data} {data}.kept")
    try:
        play = playbook("site", *DATABASE)
        assert play.status != 0
        assert "has no data below" in play.output
        assert not host.file(str(data)).exists
    finally:
        host.check_output(f"rm -rf {data} && mv {data}.kept {data} && systemctl start etcd")
    tier.settled()
