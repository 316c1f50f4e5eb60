# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""See a Patroni cluster, judge its health, change its shared settings, hand over its leadership."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Access, RestError

LEADERS = ("leader", "standby_leader")
SYNCHRONOUS = ("sync_standby", "quorum_standby")
# What a member says of itself while all is well: a standby that streams, a leader that runs.
RUNNING = ("running", "streaming")

ACCESS_OPTIONS: dict[str, dict[str, Any]] = {
    "url": {"type": "str", "default": "https://127.0.0.1:8008"},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "request_timeout": {"type": "float", "default": 10.0},
}


class PatroniError(Exception):
    """The cluster cannot do what was asked; the message says why."""


def make_access(params: Mapping[str, Any]) -> Access:
    """From the options of a module."""
    return Access(
        params["ca_path"],
        params["client_cert"],
        params["client_key"],
        params["username"],
        params["password"],
        params["request_timeout"],
    )


def whole_number(value: Any) -> int | None:
    """A number, or nothing where Patroni does not know it."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclasses.dataclass(frozen=True)
class Member:
    """One server as the cluster sees it, and what it says of itself if it was asked."""

    name: str
    role: str
    state: str
    api_url: str = ""
    host: str = ""
    port: int | None = None
    timeline: int | None = None
    lag: int | None = None
    pending_restart: bool = False
    tags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    server_version: int | None = None
    patroni_version: str = ""
    unreachable: str = ""

    @property
    def leads(self) -> bool:
        """Whether it holds the leader lock."""
        return self.role in LEADERS

    @property
    def eligible(self) -> bool:
        """Whether it may lead at all."""
        return not self.tags.get("nofailover") and self.tags.get("failover_priority", 1) != 0

    def result(self) -> dict[str, Any]:
        """For people and plays."""
        return dataclasses.asdict(self)


def make_member(raw: Mapping[str, Any]) -> Member:
    """One entry of C(GET /cluster)."""
    return Member(
        name=str(raw.get("name", "")),
        role=str(raw.get("role", "")),
        state=str(raw.get("state", "")),
        api_url=str(raw.get("api_url", "")),
        host=str(raw.get("host", "")),
        port=whole_number(raw.get("port")),
        timeline=whole_number(raw.get("timeline")),
        lag=whole_number(raw.get("lag")),
        pending_restart=bool(raw.get("pending_restart")),
        tags=dict(raw.get("tags") or {}),
    )


@dataclasses.dataclass(frozen=True)
class Cluster:
    """All servers and the settings they share."""

    members: Sequence[Member]
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    paused: bool = False

    @property
    def leader(self) -> Member | None:
        """Who leads now."""
        return next((member for member in self.members if member.leads), None)

    @property
    def synchronous(self) -> bool:
        """Whether a write is acknowledged only when a standby has it."""
        return bool(self.config.get("synchronous_mode"))

    def member(self, name: str) -> Member | None:
        """The member with this name."""
        return next((member for member in self.members if member.name == name), None)

    def problems(self, expected: int | None = None, max_lag: int = 0) -> list[str]:
        """What keeps the cluster from being able to lose any one server now. Empty means healthy."""
        found = []
        leader = self.leader
        if self.paused:
            found.append("the cluster is paused: nobody would take over")
        if expected is not None and len(self.members) < expected:
            found.append(f"{len(self.members)} of {expected} members are there")
        if leader is None:
            return [*found, "nobody leads"]
        for member in self.members:
            found.extend(self._doubts(member, leader, max_lag))
        if self.synchronous and len(self.members) > 1 and not self._confirmed():
            found.append("no synchronous standby")
        return found

    def _confirmed(self) -> bool:
        return any(member.role in SYNCHRONOUS and member.state == "streaming" for member in self.members)

    @staticmethod
    def _doubts(member: Member, leader: Member, max_lag: int) -> list[str]:
        if member.unreachable:
            return [f"{member.name} does not answer: {member.unreachable}"]
        if member is leader:
            return [] if member.state in RUNNING else [f"leader {member.name} is {member.state}"]
        if member.state != "streaming":
            return [f"{member.name} is {member.state or 'in an unknown state'}, not streaming"]
        if member.timeline != leader.timeline:
            return [f"{member.name} is on timeline {member.timeline}, the leader on {leader.timeline}"]
        if member.lag is None or member.lag > max_lag:
            return [f"{member.name} is {'unknown' if member.lag is None else member.lag} bytes behind"]
        return []

    def candidates(self, max_lag: int) -> tuple[list[Member], list[str]]:
        """Who could take over now, the best first, and why the others cannot."""
        leader = self.leader
        good: list[Member] = []
        refused: list[str] = []
        for member in self.members:
            if leader is None or member is leader:
                continue
            doubts = self._doubts(member, leader, max_lag)
            if not member.eligible:
                doubts = [f"{member.name} is tagged never to lead"]
            elif self.synchronous and member.role not in SYNCHRONOUS:
                doubts = doubts or [f"{member.name} is not the synchronous standby"]
            refused.extend(doubts)
            if not doubts:
                good.append(member)
        return sorted(good, key=lambda member: (member.role not in SYNCHRONOUS, member.lag or 0, member.name)), refused


@dataclasses.dataclass
class Client:
    """Talks to the REST API of one member, and through its answers to the others."""

    url: str
    access: Access

    def _json(self, path: str, url: str = "") -> Any:
        answer = self.access.call("GET", (url or self.url).rstrip("/") + path)
        if not answer.good:
            raise RestError(f"{path}: status {answer.status}: {answer.shown()}")
        return answer.json()

    def cluster(self, ask_members: bool = False) -> Cluster:
        """The whole picture; with I(ask_members) every member was asked for its own view as well."""
        raw = self._json("/cluster")
        members = [make_member(entry) for entry in raw.get("members", [])]
        if ask_members:
            members = [self._asked(member) for member in members]
        return Cluster(members, self.config(), bool(raw.get("pause")))

    def _asked(self, member: Member) -> Member:
        base = member.api_url.rsplit("/", 1)[0] if member.api_url else ""
        try:
            raw = self._json("/patroni", base)
        except RestError as exc:
            return dataclasses.replace(member, unreachable=str(exc))
        return dataclasses.replace(
            member,
            server_version=whole_number(raw.get("server_version")),
            patroni_version=str((raw.get("patroni") or {}).get("version", "")),
            pending_restart=member.pending_restart or bool(raw.get("pending_restart")),
        )

    def config(self) -> dict[str, Any]:
        """The settings that all members share."""
        found = self._json("/config")
        return found if isinstance(found, dict) else {}

    def own_name(self) -> str:
        """The name of the member that is asked."""
        return str((self._json("/patroni").get("patroni") or {}).get("name", ""))

    def patch_config(self, changes: Mapping[str, Any]) -> None:
        """Change what I(changes) names and nothing else."""
        answer = self.access.call("PATCH", f"{self.url.rstrip('/')}/config", changes)
        if not answer.good:
            raise PatroniError(f"settings were not taken: status {answer.status}: {answer.shown()}")

    def switchover(self, leader: str, candidate: str, timeout: float) -> str:
        """Ask for it; the answer comes when it is done or refused. A lost answer is no verdict: look again."""
        body = {"leader": leader, "candidate": candidate}
        try:
            answer = self.access.call("POST", f"{self.url.rstrip('/')}/switchover", body, timeout)
        except RestError as exc:
            return str(exc)
        if answer.status in (400, 401, 403, 404, 412):
            raise PatroniError(f"switchover refused: status {answer.status}: {answer.shown()}")
        return "" if answer.good else f"status {answer.status}: {answer.shown()}"


# --- waiting ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Watch:
    """Look until the cluster is as it should be, or time is over."""

    client: Client
    timeout: float
    interval: float = 1.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    waited: float = 0.0

    def until(self, judge: Callable[[Cluster], list[str]], ask_members: bool = True) -> tuple[Cluster, list[str]]:
        """The last picture, and what is still wrong with it."""
        start = self.clock()
        cluster = Cluster([])
        while True:
            try:
                cluster = self.client.cluster(ask_members)
                problems = judge(cluster)
            except RestError as exc:
                problems = [f"cannot be asked: {exc}"]
            self.waited = self.clock() - start
            if not problems or self.waited + self.interval > self.timeout:
                return cluster, problems
            self.sleep(self.interval)


# --- shared settings --------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    """A value as PostgreSQL and Patroni read it: 1, "1"; true, "on"."""
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value).strip()
    return {"true": "on", "false": "off"}.get(text.lower(), text)


def typed(value: Any) -> Any:
    """What a template has turned into text, as the number or truth value it was."""
    if isinstance(value, Mapping):
        return {key: typed(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    return int(value) if value.lstrip("-").isdigit() else value


def config_changes(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest patch that makes I(held) agree with I(wanted); what I(wanted) does not name is not looked at."""
    changes: dict[str, Any] = {}
    for name, value in wanted.items():
        if isinstance(value, Mapping):
            inner = held.get(name)
            below = config_changes(inner if isinstance(inner, Mapping) else {}, value)
            if below:
                changes[name] = below
        elif value is None:
            if held.get(name) is not None:
                changes[name] = None
        elif name not in held or _text(held[name]) != _text(value):
            changes[name] = value
    return changes


def merged(held: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What Patroni makes of I(held) with I(changes)."""
    result = dict(held)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result


# --- handing over -----------------------------------------------------------------------------------------------------


def choose(cluster: Cluster, leader: str | None, candidate: str | None, max_lag: int) -> tuple[str, str] | None:
    """From whom to whom; nothing if that is already so. Refuses what would not work."""
    now = cluster.leader
    if now is None:
        raise PatroniError("nobody leads: a planned switchover is not possible")
    if candidate == now.name or (leader is not None and leader != now.name and candidate is None):
        return None
    if leader is not None and leader != now.name:
        raise PatroniError(f"{leader} does not lead, {now.name} does")
    if cluster.paused:
        raise PatroniError("the cluster is paused: resume it first")
    good, refused = cluster.candidates(max_lag)
    if candidate is None:
        if not good:
            raise PatroniError(f"no healthy candidate: {'; '.join(refused) or 'there is no other member'}")
        return now.name, good[0].name
    if cluster.member(candidate) is None:
        raise PatroniError(f"{candidate} is no member; members are {', '.join(m.name for m in cluster.members)}")
    if candidate not in [member.name for member in good]:
        raise PatroniError(f"{candidate} cannot lead: {'; '.join(reason for reason in refused if candidate in reason)}")
    return now.name, candidate


def handed_over(cluster: Cluster, old: str, new: str, max_lag: int) -> list[str]:
    """What is still missing after a switchover: the new leader leads, and the old one follows it."""
    if cluster.leader is None or cluster.leader.name != new:
        return [f"{cluster.leader.name if cluster.leader else 'nobody'} leads, not {new}"]
    former = cluster.member(old)
    if former is None:
        return [f"{old} has not come back"]
    return [problem for problem in cluster.problems(max_lag=max_lag) if old in problem or "synchronous" in problem]
