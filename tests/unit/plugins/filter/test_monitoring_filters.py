# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hosts show, whom Prometheus asks, and what is tried from outside."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.filter.exporter_modules import exporter_modules
from ansible_collections.flowfleet.langflow.plugins.filter.probe_targets import probe_targets
from ansible_collections.flowfleet.langflow.plugins.filter.scrape_targets import scrape_targets

GROUPS = {
    "loadbalancers": ["lb1"],
    "langflow": ["app1", "app2"],
    "postgresql": ["data1"],
    "redis": ["data1"],
    "celery": ["app1", "task1"],
    "monitoring": ["mon1"],
}
HOSTVARS: dict[str, dict[str, Any]] = {
    name: {"ansible_host": f"192.0.2.{number}"}
    for number, name in enumerate(["lb1", "app1", "app2", "data1", "task1", "mon1"], 1)
}


def test_every_host_shows_what_its_groups_say() -> None:
    assert exporter_modules(GROUPS, HOSTVARS) == {
        "lb1": ["node", "nginx", "gateway"],
        "app1": ["node", "celery"],
        "app2": ["node"],
        "data1": ["node", "postgres", "redis_cache", "redis_queue"],
        "task1": ["node", "celery"],
        "mon1": ["node"],
    }


def test_modes_add_what_they_bring() -> None:
    found = exporter_modules({**GROUPS, "etcd": ["data1"], "gpu": ["app2"]}, HOSTVARS, patroni=True, proxy=True)
    assert found["data1"] == ["node", "postgres", "redis_cache", "redis_queue", "etcd", "patroni"]
    assert found["app2"] == ["node", "dcgm", "haproxy"]
    assert found["task1"] == ["node", "celery", "haproxy"]
    without = exporter_modules({**GROUPS, "redis": []}, HOSTVARS, proxy=True)
    assert "haproxy" not in without["task1"]


def test_what_carries_logs_and_traces_is_shown() -> None:
    groups = {**GROUPS, "logging": ["log1"]}
    found = exporter_modules(groups, {**HOSTVARS, "log1": {"ansible_host": "192.0.2.7"}}, tracing=True)
    assert found["log1"] == ["node", "elasticsearch"]
    assert found["lb1"] == ["node", "nginx", "gateway", "otel_agent"]
    assert found["app1"] == ["node", "celery", "otel_agent"]
    assert found["task1"] == ["node", "celery", "otel_agent"]
    assert found["data1"] == ["node", "postgres", "redis_cache", "redis_queue"]
    assert found["mon1"] == ["node", "otel_gateway", "span_metrics"]


def test_the_pool_is_shown_where_there_is_a_program_for_it() -> None:
    old = {"ansible_facts": {"distribution_major_version": "12"}}
    hosts = {**HOSTVARS, "app1": {**HOSTVARS["app1"], **old}}
    found = exporter_modules(GROUPS, hosts, pgbouncer=True)
    assert "pgbouncer" not in found["app1"]
    assert "pgbouncer" in found["app2"]
    hosts["app1"]["exporters_archives"] = {"pgbouncer": {"url": "https://example.com/a.tar.gz"}}
    assert "pgbouncer" in exporter_modules(GROUPS, hosts, pgbouncer=True)["app1"]


def test_jobs_have_the_hosts_that_show_them() -> None:
    hosts = {**HOSTVARS, "app2": {**HOSTVARS["app2"], "exporters_modules_extra": {"own": {"port": 9999}}}}
    found = {item["job"]: item["targets"] for item in scrape_targets(exporter_modules(GROUPS, hosts), hosts, GROUPS)}
    assert [target["instance"] for target in found["node"]] == ["lb1", "app1", "app2", "data1", "task1", "mon1"]
    assert found["redis_queue"] == [{"address": "192.0.2.4", "instance": "data1", "role": "postgresql"}]
    assert [target["instance"] for target in found["own"]] == ["app2"]
    assert {target["role"] for target in found["celery"]} == {"langflow", "celery"}


def test_wrong_values_are_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="groups and hostvars"):
        exporter_modules([], HOSTVARS)  # type: ignore[arg-type]
    hosts = {**HOSTVARS, "app2": {**HOSTVARS["app2"], "exporters_modules_extra": ["own"]}}
    with pytest.raises(AnsibleFilterError, match="exporters_modules_extra of host app2"):
        scrape_targets({"app2": ["node"]}, hosts, GROUPS)


def test_doors_flow_and_certificates_are_tried() -> None:
    balancers = [{"name": "lb1", "address": "192.0.2.1"}, {"name": "lb2", "address": "2001:db8::2"}]
    monitoring = [{"name": "mon1", "address": "192.0.2.6"}]
    found = probe_targets(
        balancers, "f.example.com", front="192.0.2.10", flow="a probe", monitoring=monitoring, ports=[9090]
    )
    assert [(row["job"], row["instance"], row["target"]) for row in found] == [
        ("probe_front", "lb1", "https://192.0.2.1:443/health"),
        ("probe_front", "lb2", "https://[2001:db8::2]:443/health"),
        ("probe_front", "f.example.com", "https://192.0.2.10:443/health"),
        ("probe_flow", "f.example.com", "https://192.0.2.10:443/api/v1/run/a%20probe?stream=false"),
        ("probe_tls", "lb1", "192.0.2.1:443"),
        ("probe_tls", "lb2", "[2001:db8::2]:443"),
        ("probe_tls", "mon1", "192.0.2.6:9090"),
    ]


def test_without_a_shared_address_or_flow_there_is_less() -> None:
    found = probe_targets([{"name": "lb1", "address": "192.0.2.1"}], "f.example.com", port=8443)
    assert [row["job"] for row in found] == ["probe_front", "probe_tls"]
    assert found[0]["target"] == "https://192.0.2.1:8443/health"
    assert probe_targets([], "f.example.com", flow="probe") == []
