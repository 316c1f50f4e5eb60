# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of the operator's own are judged by what a node measured, and shown with what they have to take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flowfleet.langflow.plugins.module_utils._preflight import Fleet, Host
from ansible_collections.flowfleet.langflow.plugins.module_utils._preflight_data import data_lines, data_problems

HERE = Path(__file__).parent
DATA: dict[str, Any] = yaml.safe_load((HERE / "valid_data.yml").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = yaml.safe_load((HERE / "own_servers.yml").read_text(encoding="utf-8"))
VALUES: dict[str, Any] = {
    "langflow_workers": 2,
    "langflow_db_pool_size": 10,
    "langflow_db_max_overflow": 10,
    "langflow_deployment_profile": "prod",
    "langflow_database_host": "db.example.com",
    "langflow_database_port": 5432,
    "langflow_database_name": "langflow",
    "langflow_database_user": "langflow",
    "langflow_redis_cache_host": "cache.example.com",
    "langflow_redis_cache_port": 6379,
    "langflow_redis_queue_host": "queue.example.com",
    "langflow_redis_queue_port": 6379,
    "langflow_s3_bucket": "flows",
    "langflow_s3_endpoint": "https://s3.example.com",
    "langflow_s3_ca_file": "/etc/ssl/certs/ca-certificates.crt",
}


def overlay(base: Any, change: Any) -> Any:
    """Lay `change` over `base`."""
    if not isinstance(base, Mapping) or not isinstance(change, Mapping):
        return change
    return {**base, **{key: overlay(base[key], value) if key in base else value for key, value in change.items()}}


def fleet(case: Mapping[str, Any]) -> Fleet:
    """Two nodes, of which the first one met what the case says and the second one what is right."""
    values = {**VALUES, **case.get("values", {})}
    hosts = {name: Host(name, frozenset({"langflow"}), values) for name in ("app1", "app2")}
    data = {"app1": overlay(DATA, case["measured"]), "app2": DATA}
    return Fleet(hosts=hosts, tiers={"langflow": ("app1", "app2")}, data=data)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_what_a_node_met_is_judged(case: dict[str, Any]) -> None:
    found = data_problems(fleet(case))
    assert [problem.subject for problem in found] == ([case["subject"]] if "subject" in case else []), found
    for problem in found:
        assert case["phrase"] in problem.message
        assert problem.fix
        assert problem.hosts in ((), ("app1",)), "the node that met it, or the whole fleet"


def test_the_cases_differ_and_are_many() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES) >= 30
    assert data_problems(fleet({"measured": {}})) == []


def test_connections_and_servers_are_shown() -> None:
    lines = data_lines(fleet({"measured": {"redis": {"queue": {"append_only": False}}, "database": {"login": "md5"}}}))
    assert lines[1:5] == [
        "connections to PostgreSQL",
        "  2 nodes x 2 workers x (pool 10 + overflow 10 + telemetry 2) = 88",
        "  in all 88 of 200, 17 are reserved, 95 are left",
        "  while knowledge bases are in use up to 140 more",
    ]
    table = [line.split() for line in lines if "app1" in line]
    assert table == [
        ["PostgreSQL", "db.example.com:5432", "app1", "17", "0.6", "ms", "answers"],
        ["Redis", "cache", "cache.example.com:6379", "app1", "7.0.15", "0.2", "ms", "answers"],
        ["Redis", "queue", "queue.example.com:6379", "app1", "7.0.15", "0.2", "ms", "answers"],
        ["S3", "https://s3.example.com", "flows", "app1", "-", "-", "put,", "get,", "delete"],
    ]
    assert lines[-2:] == [
        "note: PostgreSQL lets the role in with 'md5' instead of scram-sha-256",
        "note: the queue's Redis keeps no append-only file: what waits there is lost with its process",
    ]


def test_a_service_that_was_not_asked_is_noted() -> None:
    case = next(case for case in CASES if case["id"].startswith("a bare host"))
    assert [line for line in data_lines(fleet(case)) if line.startswith("note: app1 has no /etc/ssl/certs/")]


def test_a_pool_takes_the_place_of_the_workers() -> None:
    case = next(case for case in CASES if case["id"].endswith("and PgBouncer"))
    assert "  2 nodes x (pool 20 + reserve 5) of PgBouncer, mode transaction = 50" in data_lines(fleet(case))
