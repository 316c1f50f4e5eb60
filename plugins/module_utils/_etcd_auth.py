# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Users and roles of an etcd cluster."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils._etcd import Cluster, EtcdError, NotEnabled, Refused

ROOT = "root"


def encoded(text: bytes) -> str:
    """A key as etcd's JSON has it."""
    return base64.b64encode(text).decode()


def permission(prefix: str) -> dict[str, str]:
    """To read and write all keys that begin with a prefix: from it to the first key that does not."""
    if not prefix:
        raise EtcdError("a prefix must not be empty: it would be every key")
    first = prefix.encode()
    last = first[:-1] + bytes([first[-1] + 1])
    return {"permType": "READWRITE", "key": encoded(first), "range_end": encoded(last)}


@dataclasses.dataclass
class Authority:
    """Whom a cluster lets in, and what is done about it."""

    cluster: Cluster
    root_password: str
    dry: bool = False
    asks: bool = False
    actions: list[str] = dataclasses.field(default_factory=list)
    users: list[str] = dataclasses.field(default_factory=list)
    roles: list[str] = dataclasses.field(default_factory=list)

    def begin(self) -> None:
        """See whether the cluster asks for passwords, and whom it knows."""
        try:
            self.cluster.login(ROOT, self.root_password)
            self.asks = True
            self.cluster = self.cluster.known_as(ROOT, self.root_password)
        except NotEnabled:
            self.asks = False
        self.users = list(self._ask("user/list").get("users") or [])
        self.roles = list(self._ask("role/list").get("roles") or [])

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return dict(self.cluster.change(f"/v3/auth/{path}", body or {}))

    def _tell(self, action: str, path: str, body: dict[str, Any] | None = None) -> None:
        self.actions.append(action)
        if not self.dry:
            self._ask(path, body)

    def _user(self, name: str, password: str) -> None:
        """There is a user with this password."""
        if name not in self.users:
            self._tell(f"add user {name}", "user/add", {"name": name, "password": password})
            return
        if self.asks:
            try:
                self.cluster.login(name, password)
                return
            except Refused:
                pass
        # Nobody can be asked for a password that is not asked for.
        self._tell(f"set the password of {name}", "user/changepw", {"name": name, "password": password})

    def _role(self, name: str) -> None:
        if name not in self.roles:
            self._tell(f"add role {name}", "role/add", {"name": name})

    def _has(self, user: str, role: str) -> None:
        """A user has one role and no other."""
        held = (self._ask("user/get", {"name": user}).get("roles") or []) if user in self.users else []
        if role not in held:
            self._tell(f"give {user} the role {role}", "user/grant", {"user": user, "role": role})
        for other in held:
            if other != role:
                self._tell(f"take the role {other} from {user}", "user/revoke", {"name": user, "role": other})

    def _may(self, role: str, wanted: dict[str, str]) -> None:
        """A role may do one thing and no other."""
        held = (self._ask("role/get", {"role": role}).get("perm") or []) if role in self.roles else []
        for one in held:
            if one != wanted:
                where = {"key": one.get("key", ""), "range_end": one.get("range_end", "")}
                self._tell(f"take a permission from role {role}", "role/revoke", {"role": role, **where})
        if wanted not in held:
            self._tell(f"permit role {role} its prefix", "role/grant", {"name": role, "perm": wanted})

    def keep(self, name: str, password: str, prefix: str) -> None:
        """One user, who may read and write what begins with a prefix."""
        self._role(name)
        self._may(name, permission(prefix))
        self._user(name, password)
        self._has(name, name)

    def finish(self) -> None:
        """Ask for passwords from now on, beginning with root's."""
        if not self.asks:
            self._user(ROOT, self.root_password)
            self._role(ROOT)
            self._has(ROOT, ROOT)
            self._tell("enable", "enable")
