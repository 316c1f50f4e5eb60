"""What must not work: each of these is tried for real."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Cluster
from testinfra.host import Host

CA = "/etc/flowfleet/tls/ca.crt"
LOG = "/var/log/nginx/access.json"
# Sends bytes to a port in the clear and prints what comes back, as a Python literal.
PLAIN = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
s.settimeout(5)
s.sendall(bytes.fromhex(sys.argv[3]))
try:
    print(s.recv(4096))
except (ConnectionError, TimeoutError) as error:
    print(type(error).__name__)
"""


def in_the_clear(host: Host, address: str, port: int, request: bytes) -> str:
    return host.check_output("python3 -c %s %s %s %s", PLAIN, address, str(port), request.hex())


def client_of(cluster: Cluster) -> Host:
    """An application node: the one that may connect to the data tier at all."""
    return cluster.one("langflow")


# --- names -----------------------------------------------------------------------------------------------------------


def handshake(host: Host, address: str, port: int, name: str, *extra: str) -> Any:
    """A TLS handshake by openssl, which is none of our code, that insists on a name."""
    check = ["-verify_ip", name] if name.replace(".", "").isdigit() else ["-verify_hostname", name]
    options = " ".join([f"-connect {address}:{port} -CAfile {CA} -verify_return_error", *check, *extra])
    return host.run(f"timeout 10 openssl s_client {options} </dev/null")


@pytest.mark.parametrize(
    ("client", "group", "port", "right", "extra"),
    [
        ("langflow", "loadbalancers", 443, "{{ langflow_fleet_domain }}", ()),
        ("loadbalancers", "langflow", 7860, "langflow.internal", ()),
        ("langflow", "postgresql", 5432, "{{ ansible_host }}", ("-starttls", "postgres")),
        ("langflow", "redis", 6379, "{{ ansible_host }}", ()),
        ("langflow", "redis", 6380, "{{ ansible_host }}", ()),
    ],
)
def test_certificate_proves_its_name_and_no_other(
    cluster: Cluster, client: str, group: str, port: int, right: str, extra: tuple[str, ...]
) -> None:
    server = cluster.groups[group][0]
    name = str(cluster.template(right, server))
    arguments = (cluster.one(client), cluster.address(server), port)
    accepted = handshake(*arguments, name, *extra)
    assert accepted.rc == 0, accepted.stdout[-800:] + accepted.stderr[-800:]
    refused = handshake(*arguments, "wrong.lab.internal", *extra)
    assert refused.rc != 0
    assert "mismatch" in refused.stdout + refused.stderr


def test_front_door_is_refused_under_a_wrong_name(front: Callable[..., Any]) -> None:
    from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import ApiError

    with pytest.raises(ApiError, match="wrong.lab.internal") as caught:
        front(name="wrong.lab.internal").request("GET", "/health")
    assert caught.value.kind == "tls"


@contextmanager
def other_certificate(cluster: Cluster, node: Host) -> Iterator[None]:
    """Give a Langflow node the load balancer's certificate: right authority, wrong name."""
    balancer = cluster.one("loadbalancers")
    for suffix in ("crt", "key"):
        node.check_output("cp -p /etc/flowfleet/tls/langflow.%s /root/langflow.%s.test", suffix, suffix)
        content = balancer.check_output("cat /etc/flowfleet/tls/nginx.%s", suffix)
        node.check_output("printf '%%s\\n' %s > /etc/flowfleet/tls/langflow.%s", content, suffix)
    try:
        node.check_output("systemctl restart langflow.service")
        yield
    finally:
        for suffix in ("crt", "key"):
            node.check_output("mv /root/langflow.%s.test /etc/flowfleet/tls/langflow.%s", suffix, suffix)
        node.check_output("systemctl restart langflow.service")


def wait_until_served(front: Callable[..., Any], seconds: float = 180) -> None:
    """Until the cluster answers five times in a row."""
    from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import ApiError

    deadline, good = time.monotonic() + seconds, 0
    while good < 5:
        assert time.monotonic() < deadline, "the cluster did not come back"
        try:
            front(timeout=5).request("GET", "/health_check")
            good += 1
        except ApiError:
            good = 0
            time.sleep(1)


def answers(node: Host, seconds: float = 180) -> None:
    """Until Langflow on a node answers over TLS, whatever its certificate says."""
    deadline = time.monotonic() + seconds
    while node.run("curl -sk -o /dev/null -m 5 https://127.0.0.1:7860/health").rc != 0:
        assert time.monotonic() < deadline, f"Langflow on {node.backend.hostname} did not come back"
        time.sleep(1)


def log_entries(balancer: Host, agent: str) -> list[dict[str, Any]]:
    """What the load balancer logged about the requests of one user agent; the log holds no query."""
    return [json.loads(line) for line in balancer.check_output("grep -F %s " + LOG, agent).splitlines()]


@pytest.fixture
def nobody_runs(cluster: Cluster) -> Iterator[None]:
    """Monitoring runs a flow every few seconds, which writes rows and would be the first to meet a bad node."""
    probes = [cluster.hosts[name] for name in cluster.groups.get("monitoring", [])]
    for host in probes:
        host.check_output("systemctl stop langflow-blackbox.service")
    time.sleep(2)
    yield
    for host in probes:
        host.check_output("systemctl start langflow-blackbox.service")


@pytest.mark.usefixtures("nobody_runs")
def test_balancer_sends_nothing_to_a_node_with_a_wrong_certificate(cluster: Cluster, front: Callable[..., Any]) -> None:
    balancer, node = cluster.one("loadbalancers"), cluster.all("langflow")[-1]
    address = cluster.address(cluster.groups["langflow"][-1])
    alone = len(cluster.groups["langflow"]) == 1
    marker = uuid.uuid4().hex
    with other_certificate(cluster, node):
        answers(node)
        for _ in range(12):
            response = front(agent=marker).request("GET", "/health", expect=(200, 502, 503, 504))
            assert (response.status == 200) is not alone
    answers(node)
    wait_until_served(front)
    entries = [entry for entry in log_entries(balancer, marker) if entry["path"] == "/health"]
    assert len(entries) == 12
    # The balancer did try the node, and turned away.
    assert [entry for entry in entries if address in entry["upstream_addr"]]
    for entry in entries:
        tried = zip(entry["upstream_addr"].split(", "), entry["upstream_status"].split(", "), strict=True)
        assert [status for upstream, status in tried if upstream.startswith(address) and status != "502"] == []


# --- plaintext -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [6379, 6380])
def test_redis_does_not_speak_plaintext(cluster: Cluster, port: int) -> None:
    address = cluster.address(cluster.groups["redis"][0])
    answer = in_the_clear(client_of(cluster), address, port, b"PING\r\n")
    assert "PONG" not in answer
    assert "NOAUTH" not in answer
    assert answer in {"b''", "ConnectionResetError"} or answer.startswith("b'\\x15\\x03"), answer


def test_redis_refuses_without_a_password(cluster: Cluster) -> None:
    client, address = client_of(cluster), cluster.address(cluster.groups["redis"][0])
    probe = f"printf 'PING\\r\\n' | timeout 5 openssl s_client -quiet -connect {address}:6380 -CAfile {CA} 2>/dev/null"
    assert "NOAUTH" in client.run(probe).stdout


def test_postgresql_refuses_plaintext(cluster: Cluster) -> None:
    address = cluster.address(cluster.groups["postgresql"][0])
    body = (196608).to_bytes(4, "big") + b"user\0langflow\0database\0langflow\0\0"
    answer = in_the_clear(client_of(cluster), address, 5432, (len(body) + 4).to_bytes(4, "big") + body)
    assert answer.startswith("b'E"), answer
    assert "28000" in answer or "no encryption" in answer, answer


# --- the schema ------------------------------------------------------------------------------------------------------


def query(cluster: Cluster, statement: str) -> str:
    return cluster.one("postgresql").check_output("runuser -u postgres -- psql -qAt -d langflow -c %s", statement)


def fingerprint(cluster: Cluster) -> str:
    """Every table with its number of rows, and the schema itself."""
    database = cluster.one("postgresql")
    # Newer patch releases of pg_dump write a random key into every dump.
    dump = "pg_dump --schema-only langflow | grep -v -e restrict | sha256sum"
    counted = (
        "SELECT string_agg(format('%s=%s', relname, (xpath('/row/c/text()', query_to_xml("
        "format('SELECT count(*) AS c FROM %I', relname), false, true, '')))[1]), ' ' ORDER BY relname) "
        "FROM pg_stat_user_tables"
    )
    return query(cluster, counted) + " " + database.check_output("runuser -u postgres -- sh -c %s", dump)


@pytest.mark.usefixtures("nobody_runs")
def test_node_refuses_a_newer_schema_and_leaves_it_alone(cluster: Cluster, front: Callable[..., Any]) -> None:
    node = cluster.all("langflow")[-1]
    revision = query(cluster, "SELECT version_num FROM alembic_version")
    assert revision
    node.check_output("systemctl stop langflow.service")
    try:
        query(cluster, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
        before = fingerprint(cluster)
        started = node.run("timeout 60 systemctl start langflow.service")
        time.sleep(5)
        state = node.run("systemctl is-active langflow.service").stdout.strip()
        journal = node.check_output("journalctl -u langflow.service --no-pager -n 30 -o cat")
        print(f"start: rc {started.rc}, unit {state}")
        assert state not in {"active", "reloading"}
        assert "ffffffffffff" in journal, journal
        assert fingerprint(cluster) == before
        assert query(cluster, "SELECT version_num FROM alembic_version") == "ffffffffffff"
    finally:
        query(cluster, f"UPDATE alembic_version SET version_num = '{revision}'")
        node.run("systemctl reset-failed langflow.service")
        node.check_output("systemctl restart langflow.service")
    answers(node)
    wait_until_served(front)


# --- the gateway -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/store/check/", "/api/v1/validate/code", "/api/v1/custom_component"])
@pytest.mark.parametrize("disguise", ["{}", "/{}", "/x/..{}"])
def test_denied_path_reaches_no_backend(cluster: Cluster, front: Callable[..., Any], path: str, disguise: str) -> None:
    marker = uuid.uuid4().hex
    method = "GET" if "store" in path else "POST"
    front(agent=marker).request(method, disguise.format(path), expect=(400, 401, 403, 404, 405, 421))
    time.sleep(1)
    (entry,) = log_entries(cluster.one("loadbalancers"), marker)
    assert entry["upstream_addr"] == ""
    assert entry["status"] in {400, 403, 404, 405}
