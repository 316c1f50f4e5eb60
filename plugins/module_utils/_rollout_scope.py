# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Which nodes a rolling change has to do with, and by which way: node by node, with a planned pause, or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _version_edges

RESTART, UPGRADE, ROLLBACK, SITE = VERBS = ("restart", "upgrade", "rollback", "site")
# What an upgrade with a pause is called where rolls are kept: the next run has to know that it was one.
PLANNED_STOP = "planned_stop"
UNFINISHED = ("running", "stopped", "given_up")
HARDNESS = {_version_edges.ROLLING: 0, _version_edges.STOP: 1, _version_edges.REFUSE: 2}
REVERTIBLE = ("open", "settled")
AGAIN = " after "


@dataclasses.dataclass
class Scope:
    """What a roll has to do, before anybody asks whether it may."""

    verb: str
    hosts: list[str] = dataclasses.field(default_factory=list)
    action: str = _version_edges.ROLLING
    reason: str = ""
    old: list[str] = dataclasses.field(default_factory=list)
    new: list[str] = dataclasses.field(default_factory=list)
    digest: str = ""
    why: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    refused: str = ""

    @property
    def operation(self) -> str:
        """The name under which the roll is kept."""
        return PLANNED_STOP if self.action == _version_edges.STOP else self.verb

    def plain(self) -> dict[str, Any]:
        """For plays."""
        return {
            "verb": self.verb,
            "operation": self.operation,
            "hosts": self.hosts,
            "action": self.action,
            "reason": self.reason,
            "from": self.old,
            "to": self.new,
            "digest": self.digest,
            "why": self.why,
            "refused": self.refused,
        }


def _unique(values: Iterable[Any]) -> list[str]:
    return sorted({str(value) for value in values if value})


def _part(state: Mapping[str, Any], part: str, key: str) -> Any:
    return (state.get(part) or {}).get(key)


def concerned(
    verb: str, names: Sequence[str], states: Mapping[str, Mapping[str, Any]], only: Sequence[str] | None
) -> dict[str, list[str]]:
    """The nodes that have to change, each with the reasons."""
    if verb == RESTART:
        return {name: ["a restart was asked for"] for name in names}
    found: dict[str, list[str]] = {}
    for name in names:
        state = states.get(name, {})
        if verb == ROLLBACK:
            if _part(state, "revertible", "status") in REVERTIBLE and (only is None or name in only):
                before, now = _part(state, "revertible", "release"), _part(state, "release", "id")
                found[name] = [f"release {now} -> {before}" if before != now else f"the files of {before} as they were"]
        elif state.get("stale") and (verb == UPGRADE or state.get("running")):
            found[name] = [str(reason) for reason in state["stale"]]
        elif verb == UPGRADE and not state.get("running"):
            found[name] = ["it does not run"]
    return found


def hardest_edge(
    edges: Iterable[Mapping[str, str]], states: Mapping[str, Mapping[str, Any]], wanted: str
) -> tuple[str, str]:
    """The way that suits every node, and why."""
    listed = list(edges)
    steps = [
        _version_edges.judge(listed, version, wanted)
        for version in _unique(_part(state, "release", "version") for state in states.values()) or [wanted]
    ]
    step = max(steps, key=lambda step: HARDNESS[step.action])
    if step.action == _version_edges.ROLLING:
        heads = _unique(
            _part(state, part, "schema_head") for state in states.values() for part in ("release", "target")
        )
        if len(heads) > 1:
            return _version_edges.REFUSE, (
                f"the releases work on different schemas ({', '.join(heads)}), although the step from {step.old} to "
                f"{step.new} is listed as rolling"
            )
    return step.action, step.reason


def _ids(verb: str, states: Mapping[str, Mapping[str, Any]], version: str) -> str:
    if verb in (UPGRADE, SITE):
        return "+".join(_unique(_part(state, "target", "id") for state in states.values())) or version
    if verb == ROLLBACK:
        back = "+".join(_unique(_part(state, "revertible", "release") for state in states.values()))
        return f"back to {back or 'nothing'}"
    return version


def rollout_scope(
    names: Sequence[str],
    *,
    verb: str,
    version: str,
    states: Mapping[str, Mapping[str, Any]],
    run: Mapping[str, Any] | None,
    edges: Iterable[Mapping[str, str]] = (),
    only: Sequence[str] | None = None,
    roll_id: str = "",
) -> Scope:
    """What to do, from what each node says (C(langflow_state)) and from the last roll that was kept."""
    scope = Scope(verb, why=concerned(verb, names, states, only))
    scope.old = _unique(_part(state, "release", "version") for state in states.values())
    scope.new = [version]
    if verb == ROLLBACK:
        scope.new = _unique(_part(states[name], "revertible", "version") for name in scope.why)
        missing = [name for name in only or () if name not in scope.why]
        broken = [name for name in scope.why if not _part(states[name], "revertible", "installed")]
        damaged = [name for name, state in states.items() if _part(state, "revertible", "status") == "damaged"]
        if unknown := [name for name in missing if name not in names]:
            scope.refused = f"rollback_hosts names {', '.join(unknown)}, which the group langflow does not have"
        elif damaged and (only is None or set(damaged) & set(only)):
            scope.refused = (
                f"what is kept on {', '.join(damaged)} is damaged: {_part(states[damaged[0]], 'revertible', 'reason')}"
            )
        elif broken:
            scope.refused = f"the earlier release is not installed any more on {', '.join(broken)}"
    ids = roll_id or _ids(verb, states, version)
    own = _own(run, verb, ids)
    if verb == UPGRADE:
        scope.action, scope.reason = hardest_edge(edges, states, version)
        if scope.action == _version_edges.REFUSE:
            scope.refused = f"from {' and '.join(scope.old)} to {version}: {scope.reason}"
        elif own and run and run["operation"] == PLANNED_STOP:
            scope.action = _version_edges.STOP
            scope.reason = scope.reason if len(scope.old) > 1 else "a planned pause was begun and not ended"
    scope.digest = ids
    wanted = set(scope.why)
    if own and run:
        done = [name for name in run["order"] if run["hosts"][name]["phase"] == "enabled"]
        again = [name for name in done if name in scope.why and verb in (UPGRADE, SITE)]
        if again and run["status"] == "running":
            scope.refused = scope.refused or (
                f"the roll that was interrupted has done {', '.join(again)}, and the inventory was changed since. "
                "Give that roll up with -e rollout_reset=true"
            )
        wanted |= set(run["order"]) - (set(done) if again else set())
        scope.digest = f"{ids}{AGAIN}{run['id']}" if again else run["digest"]
    if scope.action == _version_edges.STOP and wanted:
        wanted = set(names)
    scope.hosts = [name for name in names if name in wanted]
    return scope


def _own(run: Mapping[str, Any] | None, verb: str, ids: str) -> bool:
    """Whether the last roll is unfinished and the same one."""
    if not run or run["status"] not in UNFINISHED:
        return False
    if verb == ROLLBACK:
        return bool(run["operation"] == ROLLBACK)
    operations = (UPGRADE, PLANNED_STOP) if verb == UPGRADE else (verb,)
    return run["operation"] in operations and str(run["digest"]).split(AGAIN, maxsplit=1)[0] == ids
