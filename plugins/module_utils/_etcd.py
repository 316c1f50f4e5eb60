# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""See an etcd cluster from outside, and change who belongs to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Access, RestError

TLS_OPTIONS: dict[str, dict[str, Any]] = {
    "hosts": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"name": {"type": "str", "required": True}, "address": {"type": "str", "required": True}},
    },
    "client_port": {"type": "int", "default": 2379},
    "peer_port": {"type": "int", "default": 2380},
    "ca_path": {"type": "path", "required": True},
    "client_cert": {"type": "path", "required": True},
    "client_key": {"type": "path", "required": True},
    "request_timeout": {"type": "float", "default": 5.0},
}


class EtcdError(Exception):
    """The cluster cannot be asked, or does not do what it is told."""


class NotEnabled(EtcdError):
    """The cluster asks nobody for a password yet."""


class Refused(EtcdError):
    """There is no such user, or its password is another one."""


def url(address: str, port: int, path: str = "") -> str:
    """An address of a member."""
    return f"https://{f'[{address}]' if ':' in address else address}:{port}{path}"


@dataclasses.dataclass(frozen=True)
class Member:
    """A member as the cluster knows it."""

    id: str
    name: str
    peer_urls: Sequence[str]
    client_urls: Sequence[str]

    @property
    def started(self) -> bool:
        """Whether it has ever told the cluster where its clients find it."""
        return bool(self.client_urls)

    def result(self) -> dict[str, Any]:
        """For people and plays."""
        return {
            "id": self.id,
            "name": self.name,
            "peer_urls": list(self.peer_urls),
            "client_urls": list(self.client_urls),
            "started": self.started,
        }


def make_member(raw: Mapping[str, Any]) -> Member:
    """One entry of a list of members; both interfaces of etcd name the fields alike, but for the identifier."""
    number = raw.get("id", raw.get("ID", ""))
    return Member(
        f"{int(number):x}" if str(number).isdigit() else str(number),
        str(raw.get("name") or ""),
        tuple(raw.get("peerURLs") or ()),
        tuple(raw.get("clientURLs") or ()),
    )


@dataclasses.dataclass
class Cluster:
    """The hosts that should form a cluster, and how to ask them."""

    hosts: Sequence[Mapping[str, str]]
    access: Access
    client_port: int = 2379
    peer_port: int = 2380
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    def members(self) -> list[Member]:
        """Who belongs to it, from the first host that knows. Also answers while no majority is there."""
        for host in self.hosts:
            try:
                answer = self.access.call("GET", url(host["address"], self.peer_port, "/members"))
                if answer.good:
                    return [make_member(raw) for raw in answer.json()]
                self.failures[host["name"]] = f"status {answer.status}: {answer.shown()}"
            except RestError as exc:
                self.failures[host["name"]] = str(exc)
        return []

    def healthy(self) -> dict[str, str]:
        """By host, why it is not healthy; empty if it is. Healthy means that a majority has agreed to a read."""
        found = {}
        for host in self.hosts:
            try:
                answer = self.access.call("GET", url(host["address"], self.client_port, "/health"))
                healthy = answer.good and str(answer.json().get("health")).lower() == "true"
                found[host["name"]] = "" if healthy else answer.shown() or f"status {answer.status}"
            except RestError as exc:
                found[host["name"]] = str(exc)
        return found

    def change(self, path: str, body: Any) -> Any:
        """Tell the cluster something, through the first host that takes it."""
        problems = []
        for host in self.hosts:
            try:
                answer = self.access.call("POST", url(host["address"], self.client_port, path), body)
            except RestError as exc:
                problems.append(str(exc))
                continue
            if answer.good:
                return answer.json()
            # What the cluster has decided is the same through every host.
            if "authentication is not enabled" in answer.text:
                raise NotEnabled(answer.shown())
            if "invalid user ID or password" in answer.text:
                raise Refused(answer.shown())
            problems.append(f"{host['name']}: status {answer.status}: {answer.shown()}")
        raise EtcdError("; ".join(problems) or "no host to ask")

    def login(self, name: str, password: str) -> str:
        """What the cluster gives a user to be known by."""
        return str(self.change("/v3/auth/authenticate", {"name": name, "password": password})["token"])

    def known_as(self, name: str, password: str) -> Cluster:
        """The same cluster, asked as a user; asked without any while it wants no password."""
        if not password:
            return self
        try:
            token = self.login(name, password)
        except NotEnabled:
            return self
        return dataclasses.replace(self, access=dataclasses.replace(self.access, token=token))

    def remove(self, member: Member) -> None:
        """Give up a member and its data."""
        self.change("/v3/cluster/member/remove", {"ID": str(int(member.id, 16))})

    def add(self, peer_url: str) -> None:
        """Announce a member that will start with empty hands."""
        self.change("/v3/cluster/member/add", {"peerURLs": [peer_url]})


def find(members: Iterable[Member], name: str, peer_url: str) -> Member | None:
    """The member with this name or, before it has told its name, with this address."""
    for member in members:
        if member.name == name or (not member.name and peer_url in member.peer_urls):
            return member
    return None
