# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules redis_replication_info and redis_failover against servers that speak the real protocol over real TLS."""

from __future__ import annotations

import pathlib
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from ansible_collections.flowfleet.langflow.plugins.module_utils import _redis
from ansible_collections.flowfleet.langflow.plugins.modules import redis_failover, redis_replication_info
from redis_fake import PASSWORD, FakeFleet

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def fleet(authority: Any) -> Iterator[FakeFleet]:
    made = FakeFleet(authority.server_context("127.0.0.1", "127.0.0.2", "127.0.0.3"))
    yield made
    made.close()


@pytest.fixture
def given(fleet: FakeFleet, authority: Any) -> dict[str, Any]:
    return {
        "hosts": [{"name": name, "address": address} for name, address in fleet.hosts.items()],
        "instances": [{"name": "queue", "port": fleet.port}],
        "sentinel_port": fleet.sentinel_port,
        "password": PASSWORD,
        "ca_path": str(authority.path),
        "request_timeout": 2.0,
        "interval": 0.05,
    }


def test_all_is_well(run_module: Run, fleet: FakeFleet, given: dict[str, Any]) -> None:
    result = run_module(redis_replication_info, {**given, "wait": True})
    assert result["settled"]
    assert result["problems"] == []
    queue = result["instances"]["queue"]
    assert (queue["master"], queue["source"]) == ("redis1", "sentinels")
    assert queue["members"]["redis3"] == {
        "role": "replica",
        "offset": 4711,
        "error": None,
        "follows": "redis1",
        "link": "up",
    }
    assert PASSWORD not in str(result)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"link": {"redis1": "up", "redis2": "up", "redis3": "down"}}, "queue on redis3 has no link to its master"),
        ({"roles": {"redis3": "master"}}, "queue on redis3 should be a replica and is master"),
        ({"roles": {"redis1": "slave"}}, "queue on redis1 should be master and is replica"),
        ({"offsets": {"redis1": 9000000, "redis2": 9000000, "redis3": 1}}, "queue on redis3 is 8999999 bytes behind"),
        ({"says": {"redis1": "redis1", "redis2": "redis1", "redis3": "redis2"}}, "takes redis2 for the master"),
        ({"flags": "master,o_down"}, "sees the master of queue as master,o_down"),
    ],
)
def test_what_is_wrong_is_said(
    run_module: Run, fleet: FakeFleet, given: dict[str, Any], change: dict[str, Any], text: str
) -> None:
    for name, value in change.items():
        setattr(fleet, name, value)
    result = run_module(redis_replication_info, given)
    assert not result["settled"]
    assert text in "; ".join(result["problems"])
    waited = run_module(redis_replication_info, {**given, "wait": True, "timeout": 0.2})
    assert waited["failed"]
    assert text in waited["msg"]


def test_a_host_that_is_about_to_restart_need_not_be_well(
    run_module: Run, fleet: FakeFleet, given: dict[str, Any]
) -> None:
    fleet.stop("server", "redis3")
    fleet.stop("sentinel", "redis3")
    assert not run_module(redis_replication_info, given)["settled"]
    assert run_module(redis_replication_info, {**given, "without": ["redis3"], "wait": True, "timeout": 5})["settled"]


def test_a_minority_of_the_sentinels_decides_nothing(run_module: Run, fleet: FakeFleet, given: dict[str, Any]) -> None:
    fleet.stop("sentinel", "redis2")
    fleet.stop("sentinel", "redis3")
    queue = run_module(redis_replication_info, given)["instances"]["queue"]
    assert (queue["master"], queue["source"]) == (None, "none")
    refused = run_module(redis_failover, {**given, "host": "redis1"})
    assert refused["failed"]
    assert "no majority" in refused["msg"]
    assert fleet.calls == []


def test_without_any_sentinel_the_only_master_counts(run_module: Run, fleet: FakeFleet, given: dict[str, Any]) -> None:
    for name in fleet.hosts:
        fleet.stop("sentinel", name)
    queue = run_module(redis_replication_info, given)["instances"]["queue"]
    assert (queue["master"], queue["source"]) == ("redis1", "servers")
    fleet.roles = {"redis2": "master"}
    queue = run_module(redis_replication_info, given)["instances"]["queue"]
    assert (queue["master"], queue["source"]) == (None, "none")


def test_a_wrong_password_or_authority_is_a_clear_problem(
    run_module: Run, given: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    result = run_module(redis_replication_info, {**given, "password": "not-the-password"})
    assert "WRONGPASS" in result["problems"][0]
    assert "not-the-password" not in str(result)
    result = run_module(redis_replication_info, {**given, "ca_path": str(tmp_path / "absent")})
    assert not result["settled"]
    assert "cannot read certificates" in result["problems"][0]


def test_a_certificate_for_another_address_is_refused(
    run_module: Run, authority: Any, fleet: FakeFleet, given: dict[str, Any]
) -> None:
    fleet._context = authority.server_context("127.0.0.9")
    result = run_module(redis_replication_info, given)
    assert "certificate not accepted" in result["problems"][0]


def test_the_role_is_handed_over_with_writes_held_back(
    run_module: Run, fleet: FakeFleet, given: dict[str, Any]
) -> None:
    result = run_module(redis_failover, {**given, "host": "redis1"})
    assert result["changed"]
    assert (result["before"], result["masters"]) == ({"queue": "redis1"}, {"queue": "redis2"})
    assert fleet.calls == [
        ("redis1", "CLIENT PAUSE"),
        ("redis2", "SENTINEL FAILOVER"),
        ("redis1", "REPLICAOF 127.0.0.2"),
        ("redis1", "CLIENT KILL"),
        ("redis1", "CLIENT UNPAUSE"),
    ]


def test_nothing_is_handed_over_without_need_or_in_check_mode(
    run_module: Run, fleet: FakeFleet, given: dict[str, Any]
) -> None:
    assert not run_module(redis_failover, {**given, "host": "redis2"})["changed"]
    predicted = run_module(redis_failover, {**given, "host": "redis1"}, check=True)
    assert predicted["changed"]
    assert predicted["masters"] == {"queue": "redis1"}
    assert fleet.calls == []


def test_a_replica_that_does_not_catch_up_stops_it_and_writes_go_on(
    run_module: Run, fleet: FakeFleet, given: dict[str, Any]
) -> None:
    fleet.offsets["redis3"] = 4000
    result = run_module(redis_failover, {**given, "host": "redis1"})
    assert result["failed"]
    assert "redis3 did not catch up" in result["msg"]
    assert fleet.calls == [("redis1", "CLIENT PAUSE"), ("redis1", "CLIENT UNPAUSE")]


def test_a_failover_under_way_is_waited_for_and_other_refusals_are_told(
    run_module: Run, fleet: FakeFleet, given: dict[str, Any]
) -> None:
    fleet.refusals = [b"-INPROG Failover already in progress\r\n"]
    assert run_module(redis_failover, {**given, "host": "redis1"})["masters"] == {"queue": "redis2"}
    fleet.master, fleet.says = "redis1", dict.fromkeys(fleet.hosts, "redis1")
    fleet.refusals = [b"-NOPERM no permissions\r\n"] * 3
    result = run_module(redis_failover, {**given, "host": "redis1"})
    assert result["failed"]
    assert "NOPERM" in result["msg"]
    assert fleet.calls[-1] == ("redis1", "CLIENT UNPAUSE")


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not from a Redis server"),
        (b"$5\r\nab", "closed without an answer"),
        (b"x" * 70000, "not from a Redis server"),
        (b"", "closed without an answer"),
    ],
)
def test_other_protocols_are_told(sent: bytes, text: str, serve: Any) -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(sent)

    server = serve(behave)
    with _redis.Client("127.0.0.1", server.port, timeout=2.0) as client, pytest.raises(_redis.RedisError, match=text):
        client.call("PING")


def test_a_dripping_answer_ends_in_time(serve: Any, behaviours: Any) -> None:
    server = serve(lambda connection: [connection.sendall(b"+"), behaviours.silence(3.0)(connection)])
    with _redis.Client("127.0.0.1", server.port, timeout=0.3) as client, pytest.raises(_redis.RedisError, match="time"):
        client.call("PING")
