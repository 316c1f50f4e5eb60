"""Monitoring: all is measured, an alert reaches its receiver once, silences end, panels have data."""

from __future__ import annotations

import base64
import gzip
import importlib
import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Cluster, ask

RULES = "/etc/prometheus/rules/*.yml"
UNITS = ("langflow-prometheus", "langflow-alertmanager", "langflow-blackbox", "langflow-otlp", "langflow-exporters")
# What the whole way of an alert may take on a machine with two cores.
PATIENCE = 90.0


@pytest.fixture(autouse=True)
def _wanted(cluster: Cluster) -> None:
    if not cluster.groups.get("monitoring"):
        pytest.skip("the inventory has no host in group monitoring")


@pytest.fixture(scope="module")
def password(cluster: Cluster) -> str:
    return str(cluster.template("{{ lookup('flowfleet.langflow.secret', 'monitoring_password') }}"))


@pytest.fixture(scope="module")
def monitor(cluster: Cluster) -> str:
    """Address of the first monitoring host."""
    return cluster.address(cluster.groups["monitoring"][0])


class Api:
    """Prometheus or Alertmanager, as their users reach them."""

    def __init__(self, url: str, ca: Path, user: str = "", password: str = "") -> None:
        from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Access, basic_login

        self.url, self.access = url, Access(str(ca), timeout=20, token=basic_login(user, password))

    def status(self, path: str) -> int:
        return int(self.access.call("GET", self.url + path).status)

    def get(self, path: str) -> Any:
        answer = self.access.call("GET", self.url + path)
        assert answer.good, f"{path}: {answer.status}: {answer.shown()}"
        return answer.json()

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self.get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])


@pytest.fixture(scope="module")
def prometheus(monitor: str, ca: Path, password: str) -> Api:
    return Api(f"https://{monitor}:9090", ca, "monitoring", password)


@pytest.fixture(scope="module")
def alertmanager(monitor: str, ca: Path, password: str) -> Api:
    return Api(f"https://{monitor}:9093", ca, "monitoring", password)


@pytest.fixture(scope="module")
def sink(cluster: Cluster, ca: Path) -> Any:
    """Where the lab's alerts arrive."""
    if not cluster.groups.get("lab_sink"):
        pytest.skip("the inventory has no host in group lab_sink")
    token = str(cluster.template("{{ lookup('flowfleet.langflow.secret', 'alert_sink_token') }}"))
    client = importlib.import_module("drills.sink").Client
    return client(f"https://{cluster.address(cluster.groups['lab_sink'][0])}:9099", ca, token)


def down(prometheus: Api) -> list[str]:
    return sorted(f"{row['metric']['job']}/{row['metric']['instance']}" for row in prometheus.query("up == 0"))


def test_configuration_and_rules_are_valid(cluster: Cluster) -> None:
    for host in cluster.all("monitoring"):
        host.check_output("promtool check config /etc/prometheus/prometheus.yml")
        found = host.check_output(f"promtool check rules {RULES}")
        assert "SUCCESS" in found
        assert "FAILED" not in found
        host.check_output("amtool check-config /etc/flowfleet/alertmanager/alertmanager.yml")
        host.check_output("promtool check web-config /etc/prometheus/web.yml")


def test_promtool_refuses_a_broken_rule(cluster: Cluster) -> None:
    host = cluster.one("monitoring")
    broken = "groups: [{name: broken, rules: [{alert: Broken, expr: 'up ==='}]}]"
    assert host.run(f'promtool check rules <(echo "{broken}")').rc != 0


@pytest.mark.parametrize("tier", ["seconds", "minutes", "hours"])
def test_routes_lead_to_a_receiver(cluster: Cluster, tier: str) -> None:
    host = cluster.one("monitoring")
    route = "amtool config routes test --config.file=/etc/flowfleet/alertmanager/alertmanager.yml"
    for severity in ("page", "ticket"):
        labels = f"alertname=Any tier={tier} severity={severity}"
        host.check_output(f"{route} --verify.receivers={tier}-{severity} {labels}")
    host.check_output(f"{route} --verify.receivers=deadman alertname=Watchdog tier=seconds severity=none")


def test_rules_do_what_they_say(cluster: Cluster, tmp_path: Path) -> None:
    """The cases of tests/rules with the very program of the monitoring host."""
    subprocess.run([sys.executable, str(ROOT / "tests/rules/render.py"), str(tmp_path)], check=True)
    host = cluster.one("monitoring")
    folder = host.check_output("mktemp -d")
    try:
        for file in sorted(tmp_path.iterdir()):
            content = base64.b64encode(gzip.compress(file.read_bytes())).decode()
            # A command line has room for 128 KiB.
            for start in range(0, len(content), 100_000):
                host.check_output(f"echo {content[start : start + 100_000]} >> {folder}/{file.name}.b64")
            host.check_output(f"base64 -di {folder}/{file.name}.b64 | gunzip > {folder}/{file.name}")
        done = host.run(f"cd {folder} && promtool test rules *.test.yml")
        assert done.rc == 0, done.stdout[-3000:] + done.stderr[-3000:]
    finally:
        host.check_output(f"rm -rf {folder}")


def test_the_reader_counts_as_it_should(cluster: Cluster) -> None:
    """The program of the gateway's log, run by the very reader of the load balancer."""
    sys.path.insert(0, str(ROOT / "tests/unit/roles"))
    gateway = importlib.import_module("test_gateway_metrics")
    host = cluster.one("loadbalancers")
    folder = host.check_output("mktemp -d")
    try:
        for name, text in (("gateway.mtail", gateway.PROGRAM), ("access.json", gateway.sample())):
            content = base64.b64encode(text.encode()).decode()
            host.check_output(f"echo {content} | base64 -d > {folder}/{name}")
        # A port of its own: the service has the usual one.
        done = host.run(
            f"mtail --port 0 --one_shot --one_shot_format prometheus --emit_prog_label=false --logtostderr "
            f"--progs {folder} --logs {folder}/access.json"
        )
        assert done.rc == 0, done.stderr
        gateway.check_counts(done.stdout)
    finally:
        host.check_output(f"rm -rf {folder}")


def test_units_are_hardened(cluster: Cluster) -> None:
    for host in cluster.all("monitoring"):
        for unit in UNITS:
            assert host.service(unit).is_running, unit
            shown = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -1")
            exposure = re.search(r": (\d+\.\d) ", shown)
            assert exposure, shown
            assert float(exposure[1]) <= 2.0, f"{unit}: {shown}"


def test_all_targets_are_up(prometheus: Api) -> None:
    deadline = time.monotonic() + PATIENCE
    while (missing := down(prometheus)) and time.monotonic() < deadline:
        time.sleep(3)
    assert not missing
    jobs = {row["metric"]["job"] for row in prometheus.query("count by (job) (up)")}
    assert {"node", "nginx", "gateway", "postgres", "redis_cache", "redis_queue", "prometheus", "alertmanager"} <= jobs
    assert {"probe_front", "probe_flow", "probe_tls"} <= jobs


def test_probes_succeed(prometheus: Api) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        rows = prometheus.query("probe_success")
        failed = [row["metric"] for row in rows if row["value"][1] != "1"]
        if rows and not failed:
            return
        time.sleep(3)
    raise AssertionError(failed)


def test_every_worker_pushes_its_own_metrics(cluster: Cluster, prometheus: Api) -> None:
    workers = int(cluster.variable("langflow_workers", cluster.groups["langflow"][0]))
    seen = "count by (host) (count by (host, instance) (present_over_time(langflow_db_pool_size{job='langflow'}[1m])))"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = {row["metric"].get("host"): int(row["value"][1]) for row in prometheus.query(seen)}
        if set(found) == set(cluster.groups["langflow"]) and min(found.values()) >= workers:
            return
        time.sleep(3)
    raise AssertionError(found)


def test_nobody_gets_in_without_a_login(cluster: Cluster, monitor: str, ca: Path) -> None:
    for port, path in ((9090, "/api/v1/targets"), (9093, "/api/v2/alerts"), (4318, "/metrics")):
        assert Api(f"https://{monitor}:{port}", ca).status(path) == 401
        assert Api(f"https://{monitor}:{port}", ca, "monitoring", "wrong-password-000").status(path) == 401
    from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import RestError

    # Exporters want the certificate of Prometheus; without one there is no conversation at all.
    for name in cluster.groups["langflow"]:
        with pytest.raises(RestError):
            Api(f"https://{cluster.address(name)}:9998", ca).get("/proxy?module=node")
    for name, host in cluster.hosts.items():
        exporters = host.check_output("ss -Hltn 'sport = :9100 or sport = :9115'")
        assert all("127.0.0.1:" in line for line in exporters.splitlines()), f"{name}: {exporters}"


def test_an_alert_reaches_its_receiver_once(cluster: Cluster, prometheus: Api, sink: Any) -> None:
    """The whole way: an exporter stops, the sink is told once, and told again when it is over."""
    victim = cluster.groups["loadbalancers"][0]
    host = cluster.hosts[victim]
    begun = time.time()
    host.check_output("systemctl stop langflow-exporter-nginx.service")
    try:
        deadline = time.monotonic() + PATIENCE
        rows: list[dict[str, Any]] = []
        while not rows and time.monotonic() < deadline:
            rows = [
                row
                for row in sink.rows(begun, status="firing", wait=10)
                if row["labels"].get("instance") == victim and row["labels"].get("job") == "nginx"
            ]
        assert rows, "no notification came"
        print(f"{rows[0]['labels']['alertname']} told after {rows[0]['received'] - begun:.1f} s")
        time.sleep(10)
        again = [
            row["labels"]["alertname"]
            for row in sink.rows(begun, status="firing")
            if row["fingerprint"] == rows[0]["fingerprint"]
        ]
        assert len(again) == 1
        assert rows[0]["annotations"]["runbook_url"].endswith(f"/{rows[0]['labels']['alertname']}.md")
        assert {"tier", "severity", "layer"} <= set(rows[0]["labels"])
    finally:
        host.check_output("systemctl start langflow-exporter-nginx.service")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ended = sink.rows(begun, status="resolved", wait=10)
        if rows[0]["fingerprint"] in {row["fingerprint"] for row in ended}:
            return
    raise AssertionError("nobody was told that it is over")


def test_the_watchdog_is_told_again_and_again(sink: Any) -> None:
    begun = time.time()
    deadline = time.monotonic() + 3 * PATIENCE
    while time.monotonic() < deadline:
        if any(row["path"] == "/watchdog" for row in sink.rows(begun, wait=30)):
            return
    raise AssertionError("the dead man's switch was not told")


@pytest.fixture
def silence(cluster: Cluster, monitor: str, password: str) -> Iterator[dict[str, Any]]:
    arguments = {
        "urls": [f"https://{monitor}:9093"],
        "created_by": "test of silences",
        "comment": "a test",
        "matchers": [{"name": "alertname", "value": "NothingLikeThis"}],
        "duration": 5,
        "username": "monitoring",
        "password": password,
        "ca_path": "/etc/flowfleet/tls/ca.crt",
    }
    yield arguments
    ask(cluster.groups["monitoring"][0], "alertmanager_silence", {**arguments, "state": "absent"})


def test_a_silence_is_made_once_and_ended(cluster: Cluster, silence: dict[str, Any], alertmanager: Api) -> None:
    host = cluster.groups["monitoring"][0]
    first = ask(host, "alertmanager_silence", silence)
    assert first["changed"], first
    second = ask(host, "alertmanager_silence", silence)
    assert (second["changed"], second["silence_id"]) == (False, first["silence_id"])
    there = [item for item in alertmanager.get("/api/v2/silences") if item["id"] == first["silence_id"]]
    assert there[0]["status"]["state"] == "active"
    ended = ask(host, "alertmanager_silence", {**silence, "state": "absent"})
    assert ended["ended"] == [first["silence_id"]]
    assert not ask(host, "alertmanager_silence", {**silence, "state": "absent"})["changed"]


def test_no_silence_is_left_behind_by_a_roll(alertmanager: Api) -> None:
    left = [
        item["comment"]
        for item in alertmanager.get("/api/v2/silences")
        if item["createdBy"].startswith("flowfleet roll") and item["status"]["state"] != "expired"
    ]
    assert left == []


def test_every_panel_has_data(monitor: str, ca: Path, password: str, prometheus: Api) -> None:
    panels = importlib.import_module("panels")
    server = panels.Prometheus(f"https://{monitor}:9090", ca=ca, user="monitoring", password=password)
    deadline = time.monotonic() + 2 * PATIENCE
    while panels.failures(results := panels.check(server)) and time.monotonic() < deadline:
        time.sleep(10)
    print(panels.report(results))
    assert not panels.failures(results), panels.report(results)
    # A panel over a series that nobody has, and one that does not parse.
    assert len(panels.failures(panels.check(server, panels=panels.broken()))) == 2
