# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Objects of an Elasticsearch cluster as they should be, and restarts of its nodes one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Access, Answer, RestError, basic_login

PAUSE = 2.0
# The number in which a pipeline and a template say what they were made of.
VERSION_LIMIT = 2**31 - 1


class ClusterError(Exception):
    """The cluster does not do what was asked; the message says why."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """How one kind of object is asked for, compared and written."""

    path: str
    # Where its content stands in the answer; <name> is its name.
    content: tuple[str, ...]
    # Where the fingerprint of what was wanted goes, if the API has a place for it.
    mark: tuple[str, ...] = ()
    number: bool = False


KINDS = {
    "ilm_policy": Kind("/_ilm/policy/{}", ("<name>",), ("policy", "_meta", "flowfleet")),
    "ingest_pipeline": Kind("/_ingest/pipeline/{}", ("<name>",), ("version",), number=True),
    "component_template": Kind(
        "/_component_template/{}",
        ("component_templates", "0", "component_template"),
        ("version",),
        number=True,
    ),
    "index_template": Kind(
        "/_index_template/{}", ("index_templates", "0", "index_template"), ("version",), number=True
    ),
    "role": Kind("/_security/role/{}", ("<name>",), ("metadata", "flowfleet")),
    "user": Kind("/_security/user/{}", ("<name>",), ("metadata", "flowfleet")),
    "password": Kind("/_security/user/{}/_password", ()),
    "snapshot_repository": Kind("/_snapshot/{}", ("<name>",)),
    "slm_policy": Kind("/_slm/policy/{}", ("<name>", "policy"), ("config", "metadata", "flowfleet")),
}


def flat(settings: Any, before: str = "") -> dict[str, str]:
    """Settings as dotted names and texts: the API gives them back in another shape than it takes them."""
    if not isinstance(settings, Mapping):
        return {before: text(settings)}
    found: dict[str, str] = {}
    for key, value in settings.items():
        found.update(flat(value, f"{before}.{key}" if before else str(key)))
    return (
        {key if key.startswith("index.") else f"index.{key}": value for key, value in found.items()}
        if not before
        else found
    )


def text(value: Any) -> str:
    """A value as settings give it back."""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, list) else str(value)


def has(actual: Any, wanted: Any, where: str = "") -> bool:
    """Whether all that is wanted is there; what else is there is left alone."""
    if where == "template.settings":
        mine, theirs = flat(wanted or {}), flat(actual or {})
        return all(theirs.get(key) == value for key, value in mine.items())
    if isinstance(wanted, Mapping):
        inside = f"{where}." if where else ""
        return isinstance(actual, Mapping) and all(
            has(actual.get(key), value, f"{inside}{key}") for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(wanted)
            and all(has(a, w, f"{where}[]") for a, w in zip(actual, wanted, strict=True))
        )
    if isinstance(wanted, bool) or isinstance(actual, bool) or wanted is None or actual is None:
        return (
            text(actual) == text(wanted)
            if wanted is not None and actual is not None
            else wanted is None and actual is None
        )
    return text(actual) == text(wanted)


def marked(kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
    """What is wanted, with a fingerprint of itself, so that what was taken away is noticed too."""
    wanted: dict[str, Any] = json.loads(json.dumps(body))
    if not kind.mark:
        return wanted
    secretless = {key: value for key, value in body.items() if key != "password"}
    digest = hashlib.sha256(json.dumps(secretless, sort_keys=True).encode()).hexdigest()
    place = wanted
    for step in kind.mark[:-1]:
        place = place.setdefault(step, {})
    place[kind.mark[-1]] = int(digest[:12], 16) % VERSION_LIMIT if kind.number else digest[:16]
    return wanted


def inside(answer: Any, path: tuple[str, ...], name: str) -> Any:
    """The part of an answer that is the object itself."""
    for step in path:
        if isinstance(answer, list):
            answer = answer[int(step)] if int(step) < len(answer) else None
        elif isinstance(answer, Mapping):
            answer = answer.get(name if step == "<name>" else step)
        else:
            return None
    return answer


@dataclasses.dataclass
class Cluster:
    """One node's way into its cluster."""

    url: str
    access: Access
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def known_as(cls, url: str, username: str, password: str, ca_path: str | None, timeout: float) -> Cluster:
        """With a login that goes with every request."""
        return cls(url.rstrip("/"), Access(ca_path, timeout=timeout, token=basic_login(username, password)))

    def ask(self, method: str, path: str, body: Any = None, good: tuple[int, ...] = ()) -> Answer:
        """One request; an answer that is neither good nor expected is an error."""
        answer = self.access.call(method, self.url + path, body)
        if answer.good or answer.status in good:
            return answer
        raise ClusterError(f"{method} {path}: {answer.status} {answer.shown()}")

    def health(self) -> dict[str, Any]:
        """How the cluster says it is."""
        return dict(self.ask("GET", "/_cluster/health").json())

    def wait(self, seconds: float, reason: Callable[[dict[str, Any]], str]) -> None:
        """Until there is no reason left why the cluster is not as it should be."""
        end = self.clock() + seconds
        while True:
            try:
                why = reason(self.health())
            except (ClusterError, RestError) as exc:
                why = str(exc)
            if not why:
                return
            if self.clock() >= end:
                raise ClusterError(f"the cluster is not as it should be after {seconds:g} s: {why}")
            self.sleep(PAUSE)

    def answers(self, seconds: float) -> None:
        """Until it has a master and every primary shard has a place."""
        self.wait(
            seconds,
            lambda health: "" if health.get("status") in ("yellow", "green") else f"status is {health.get('status')}",
        )

    # Objects

    def current(self, kind: Kind, name: str) -> Any:
        """An object as it is, or nothing."""
        answer = self.ask("GET", kind.path.format(urllib.parse.quote(name, safe="")), good=(404,))
        return None if answer.status == 404 else inside(answer.json(), kind.content, name)

    def lets_in(self, name: str, password: str) -> bool:
        """Whether a user has this password."""
        other = Cluster(self.url, dataclasses.replace(self.access, token=basic_login(name, password)))
        # 403 is for somebody who is known and may not ask that.
        return other.ask("GET", "/_security/_authenticate", good=(401, 403)).status != 401

    def differs(self, kind: str, name: str, body: Mapping[str, Any]) -> bool:
        """Whether an object is not as it is wanted."""
        if kind == "password":
            return not self.lets_in(name, str(body["password"]))
        wanted = marked(KINDS[kind], body)
        password = wanted.pop("password", None)
        if not has(self.current(KINDS[kind], name), wanted):
            return True
        return password is not None and not self.lets_in(name, str(password))

    def write(self, kind: str, name: str, body: Mapping[str, Any]) -> None:
        """Make an object what is wanted."""
        how = KINDS[kind]
        self.ask("PUT", how.path.format(urllib.parse.quote(name, safe="")), marked(how, body))

    # Restarts

    def whole(self, health: Mapping[str, Any], nodes: int) -> str:
        """Why a node must not be taken away now."""
        if health.get("number_of_nodes") != nodes:
            return f"{health.get('number_of_nodes')} of {nodes} nodes are there"
        good = ("green",) if nodes > 1 else ("green", "yellow")
        if health.get("status") not in good:
            return f"status is {health.get('status')}, {health.get('unassigned_shards')} shards have no place"
        moving = int(health.get("relocating_shards") or 0) + int(health.get("initializing_shards") or 0)
        return f"{moving} shards are on their way" if moving else ""

    def allocation(self, value: str | None) -> None:
        """What may be given a new place: all again, or primaries only while a node is away for a moment."""
        self.ask("PUT", "/_cluster/settings", {"persistent": {"cluster.routing.allocation.enable": value}})

    @contextlib.contextmanager
    def away(self, nodes: int, seconds: float, force: bool) -> Iterator[None]:
        """A time in which one node may be away; afterwards the cluster has to become whole again."""
        alone = nodes <= 1
        held = False
        try:
            if not force:
                self.wait(seconds, lambda health: self.whole(health, nodes))
            if not alone:
                self.allocation("primaries")
                held = True
                self.ask("POST", "/_flush", good=(409, 503))
        except (ClusterError, RestError):
            if not force:
                raise
        try:
            yield
        finally:
            if held:
                self._again(seconds)
        self.wait(seconds, lambda health: self.whole(health, nodes))

    def _again(self, seconds: float) -> None:
        """Let shards be placed again; the node that was away may be the one that is asked."""
        end = self.clock() + seconds
        while True:
            try:
                return self.allocation(None)
            except (ClusterError, RestError) as exc:
                if self.clock() >= end:
                    raise ClusterError(
                        f"cluster.routing.allocation.enable is still primaries, set it back to null by hand: {exc}"
                    ) from exc
            self.sleep(PAUSE)
