# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Who is master of a replicated Redis, do all agree, and how the role is handed over without losing a write."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import ssl
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _probe, _redis

THREADS = 16
# No write for this long at most while the role is handed over; it ends earlier, as soon as the new master is there.
PAUSE = 10.0
POLL = 0.1
# Answers of Sentinel while another failover is not long over.
NOT_NOW = ("INPROG", "NOGOODSLAVE")

OPTIONS: dict[str, dict[str, Any]] = {
    "hosts": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"name": {"type": "str", "required": True}, "address": {"type": "str", "required": True}},
    },
    "instances": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"name": {"type": "str", "required": True}, "port": {"type": "int", "required": True}},
    },
    "sentinel_port": {"type": "int", "default": 26379},
    "user": {"type": "str", "default": "admin"},
    "password": {"type": "str", "required": True, "no_log": True},
    "ca_path": {"type": "path", "default": "/etc/flowfleet/tls/ca.crt"},
    "timeout": {"type": "float", "default": 120.0},
    "interval": {"type": "float", "default": 0.5},
    "request_timeout": {"type": "float", "default": 3.0},
    "max_lag_bytes": {"type": "int", "default": 1048576},
}


class HandoverError(Exception):
    """The role could not be handed over."""


@dataclasses.dataclass(frozen=True)
class Fleet:
    """The hosts, and how to log in on them. Every host runs every instance and one sentinel."""

    hosts: Mapping[str, str]
    sentinel_port: int
    user: str
    password: str
    context: ssl.SSLContext
    request_timeout: float = 3.0
    max_lag_bytes: int = 1048576

    def connect(self, host: str, port: int) -> _redis.Client:
        """Log in on one server of a host."""
        return _redis.Client(
            self.hosts[host],
            port,
            user=self.user,
            password=self.password,
            context=self.context,
            timeout=self.request_timeout,
        )

    def name_of(self, address: str | None) -> str | None:
        """The host that has an address."""
        return next((name for name, own in self.hosts.items() if own == address), None)

    @property
    def majority(self) -> int:
        """How many sentinels are more than half of them."""
        return len(self.hosts) // 2 + 1


def make_fleet(params: Mapping[str, Any]) -> Fleet:
    """A fleet from the validated options of a module."""
    return Fleet(
        hosts={host["name"]: host["address"] for host in params["hosts"]},
        sentinel_port=params["sentinel_port"],
        user=params["user"],
        password=params["password"],
        context=_probe.tls_context(params["ca_path"]),
        request_timeout=params["request_timeout"],
        max_lag_bytes=params["max_lag_bytes"],
    )


def ports(params: Mapping[str, Any]) -> dict[str, int]:
    """The instances that the options of a module name, and their ports."""
    return {instance["name"]: instance["port"] for instance in params["instances"]}


@dataclasses.dataclass
class View:
    """What one instance looks like from everywhere."""

    instance: str
    master: str | None = None
    source: str = "none"
    members: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    sentinels: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    problems: list[dict[str, str]] = dataclasses.field(default_factory=list)

    def apart_from(self, hosts: Collection[str]) -> list[str]:
        """What is wrong, except with some hosts."""
        return [problem["text"] for problem in self.problems if problem["host"] not in hosts]

    def result(self) -> dict[str, Any]:
        """The same for the result of a module."""
        return dataclasses.asdict(self)


def ask_member(fleet: Fleet, host: str, port: int) -> dict[str, Any]:
    """Role and progress of one server."""
    try:
        with fleet.connect(host, port) as client:
            info = _redis.section(client.call("INFO", "replication"))
    except _redis.RedisError as exc:
        return {"role": None, "error": str(exc)}
    role = "replica" if info.get("role") in ("slave", "replica") else info.get("role")
    offset = info.get("slave_repl_offset" if role == "replica" else "master_repl_offset", "0")
    seen: dict[str, Any] = {"role": role, "offset": int(offset), "error": None}
    if role == "replica":
        seen.update(follows=fleet.name_of(info.get("master_host")), link=info.get("master_link_status"))
    else:
        seen["replicas"] = int(info.get("connected_slaves", "0"))
    return seen


def ask_sentinel(fleet: Fleet, host: str, instance: str) -> dict[str, Any]:
    """What one sentinel thinks of one instance."""
    try:
        with fleet.connect(host, fleet.sentinel_port) as client:
            address = client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", instance)
            if not address:
                return {"master": None, "error": f"does not watch {instance}"}
            state = _redis.pairs(client.call("SENTINEL", "MASTER", instance))
    except _redis.RedisError as exc:
        return {"master": None, "error": str(exc)}
    return {
        "master": fleet.name_of(address[0]) or str(address[0]),
        "flags": state.get("flags", ""),
        "others": int(state.get("num-other-sentinels", "0")),
        "error": None,
    }


def look(fleet: Fleet, instance: str, port: int) -> View:
    """Ask every server and every sentinel at once."""
    view = View(instance)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        members = {host: pool.submit(ask_member, fleet, host, port) for host in fleet.hosts}
        sentinels = {host: pool.submit(ask_sentinel, fleet, host, instance) for host in fleet.hosts}
        view.members = {host: task.result() for host, task in members.items()}
        view.sentinels = {host: task.result() for host, task in sentinels.items()}
    decide(fleet, view)
    return view


def decide(fleet: Fleet, view: View) -> None:
    """Find the master and everything that is not as it should be; I(view) takes the answers."""
    votes = Counter(answer["master"] for answer in view.sentinels.values() if answer["master"])
    masters = [host for host, answer in view.members.items() if answer["role"] == "master"]
    winner, count = votes.most_common(1)[0] if votes else (None, 0)
    if winner is not None and count >= fleet.majority:
        view.master, view.source = winner, "sentinels"
    elif not votes and len(masters) == 1:
        view.master, view.source = masters[0], "servers"

    def say(host: str, text: str) -> None:
        view.problems.append({"host": host, "text": text})

    for host, answer in view.sentinels.items():
        if answer["error"]:
            say(host, f"sentinel on {host}: {answer['error']}")
        elif answer["master"] != view.master:
            say(host, f"sentinel on {host} takes {answer['master']} for the master of {view.instance}")
        elif answer["flags"] != "master":
            say(host, f"sentinel on {host} sees the master of {view.instance} as {answer['flags']}")
        elif answer["others"] != len(fleet.hosts) - 1:
            say(host, f"sentinel on {host} knows {answer['others']} others, not {len(fleet.hosts) - 1}")
    if view.source != "sentinels":
        say("", f"no majority of the sentinels names a master of {view.instance}")
    ahead = view.members.get(view.master or "", {}).get("offset", 0)
    for host, answer in view.members.items():
        wrong = _wrong(answer, is_master=host == view.master, master=view.master)
        if wrong is None and answer["role"] == "replica" and ahead - answer["offset"] > fleet.max_lag_bytes:
            wrong = f"is {ahead - answer['offset']} bytes behind"
        if wrong is not None:
            say(host, f"{view.instance} on {host} {wrong}")


def _wrong(answer: Mapping[str, Any], *, master: str | None, is_master: bool) -> str | None:
    """What is wrong with one server."""
    if answer["error"]:
        return f"does not answer: {answer['error']}"
    if is_master:
        return None if answer["role"] == "master" else f"should be master and is {answer['role']}"
    if answer["role"] != "replica":
        return f"should be a replica and is {answer['role']}"
    if answer["follows"] != master:
        return f"follows {answer['follows']} and not {master}"
    return None if answer["link"] == "up" else "has no link to its master"


def wait_settled(
    fleet: Fleet,
    instances: Mapping[str, int],
    *,
    timeout: float,
    interval: float,
    without: Collection[str] = (),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[View]:
    """Look until nothing is wrong, except on the hosts in I(without); the last views tell what still is."""
    deadline = clock() + timeout
    while True:
        views = [look(fleet, instance, port) for instance, port in instances.items()]
        if not any(view.apart_from(without) for view in views) or clock() + interval > deadline:
            return views
        sleep(interval)


# --- handing over -----------------------------------------------------------------------------------------------------


def hand_over(
    fleet: Fleet,
    instance: str,
    port: int,
    old: str,
    *,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Let Sentinel make another host the master; returns its name.

    Writes wait on the old master from before its last one is copied until it is a replica itself, so none that was
    acknowledged is lost. Should this process die on the way, the pause ends by itself.
    """
    deadline = clock() + timeout
    last = "no try"
    while clock() < deadline:
        try:
            return _one_handover(fleet, instance, port, old, clock=clock, sleep=sleep)
        except _redis.RedisError as exc:
            last = str(exc)
            if not last.startswith(NOT_NOW):
                raise HandoverError(f"{instance}: {last}") from exc
        sleep(1.0)
    raise HandoverError(f"{instance} is still mastered by {old} after {timeout:g} s; last answer: {last}")


def _one_handover(
    fleet: Fleet,
    instance: str,
    port: int,
    old: str,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> str:
    with fleet.connect(old, port) as master:
        paused = clock()
        master.call("CLIENT", "PAUSE", int(PAUSE * 1000), "WRITE")
        try:
            _wait_copied(fleet, port, old, master, until=paused + PAUSE / 3, clock=clock, sleep=sleep)
            _ask_for_failover(fleet, instance, old)
            new = _wait_named(fleet, instance, port, old, until=paused + PAUSE - 1, clock=clock, sleep=sleep)
            # Sentinel does the same a moment later; until then nothing may be written here. Programs connect anew.
            master.call("REPLICAOF", fleet.hosts[new], port)
            master.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        finally:
            with contextlib.suppress(_redis.RedisError):
                master.call("CLIENT", "UNPAUSE")
    return new


def _wait_copied(
    fleet: Fleet,
    port: int,
    old: str,
    master: _redis.Client,
    *,
    until: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """All replicas have everything; nothing new comes, because writes wait."""
    behind: list[str] = []
    while clock() < until:
        target = int(_redis.section(master.call("INFO", "replication")).get("master_repl_offset", "0"))
        answers = {host: ask_member(fleet, host, port) for host in fleet.hosts if host != old}
        behind = [host for host, answer in answers.items() if answer["error"] or answer["offset"] < target]
        if not behind:
            return
        sleep(POLL)
    raise HandoverError(f"nothing was handed over: {', '.join(behind)} did not catch up with {old}")


def _ask_for_failover(fleet: Fleet, instance: str, old: str) -> None:
    """Any sentinel can do it; one of another host is asked first, as the old master's host is about to restart."""
    last: _redis.RedisError | None = None
    for host in sorted(fleet.hosts, key=lambda name: name == old):
        try:
            with fleet.connect(host, fleet.sentinel_port) as sentinel:
                sentinel.call("SENTINEL", "FAILOVER", instance)
            return
        except _redis.RedisError as exc:
            last = exc
            if str(exc).startswith(NOT_NOW):
                raise
    raise last if last is not None else HandoverError("there is no sentinel")


def _wait_named(
    fleet: Fleet,
    instance: str,
    port: int,
    old: str,
    *,
    until: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> str:
    """Some sentinel names a new master, and that one says so itself."""
    while clock() < until:
        for host in fleet.hosts:
            new = ask_sentinel(fleet, host, instance)["master"]
            if new in fleet.hosts and new != old and ask_member(fleet, new, port)["role"] == "master":
                return str(new)
        sleep(POLL)
    raise HandoverError(f"the sentinels did not make another host the master of {instance} in time")
