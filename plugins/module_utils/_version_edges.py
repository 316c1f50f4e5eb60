# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What is known about going from one Langflow release to another.

An edge is data (``roles/langflow/vars/version_edges.yml``): the patterns of two versions, what the step needs, and why.
A step that no edge describes is refused: a release that meets a schema it does not know throws the schema's history
away.
"""

from __future__ import annotations

import fnmatch
import re
import typing as t
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

ROLLING, STOP, REFUSE = ACTIONS = ("rolling", "stop", "refuse")
KEYS = {"from", "to", "action", "reason"}
VERSION = re.compile(r"\d+(\.\d+)+([a-z.]+\d+)*")


class EdgeError(ValueError):
    """The list of edges is not usable."""


@dataclass(frozen=True)
class Edge:
    """One step: `action` is what it needs, `known` tells whether somebody has tested it."""

    old: str
    new: str
    action: str
    reason: str
    known: bool

    def as_dict(self) -> dict[str, t.Any]:
        """Give the edge as plain data, with the names of the list."""
        plain = asdict(self)
        return {"from": plain.pop("old"), "to": plain.pop("new"), **plain}


def version_tuple(text: str) -> tuple[int, ...]:
    """Give the leading numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", text.split("-")[0].split("rc")[0])[:4])


def goes_back(old: str, new: str) -> bool:
    """Tell whether a step leads to an older release."""
    return version_tuple(new) < version_tuple(old)


def checked(edges: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Refuse a list that would be misread: a wrong word in it must not turn into a permission."""
    found = list(edges)
    for item in found:
        if not isinstance(item, Mapping) or set(item) != KEYS or not all(isinstance(item[key], str) for key in KEYS):
            raise EdgeError(f"an edge has the texts {', '.join(sorted(KEYS))} and nothing else: {item!r}")
        if item["action"] not in ACTIONS:
            raise EdgeError(f"action of an edge is one of {', '.join(ACTIONS)}, not {item['action']!r}")
    return found


def judge(edges: Iterable[Mapping[str, str]], old: str, new: str) -> Edge:
    """Say what the step from `old` to `new` needs; the first edge whose patterns fit counts."""
    listed = checked(edges)
    for version in (old, new):
        if not VERSION.fullmatch(version):
            return Edge(old, new, REFUSE, f"{version!r} is not a version, so nothing is known about this step.", False)
    if old == new:
        reason = "The same release on the same schema; only its lock file, its Python or its configuration differ."
        return Edge(old, new, ROLLING, reason, True)
    for item in listed:
        if fnmatch.fnmatchcase(old, item["from"]) and fnmatch.fnmatchcase(new, item["to"]):
            return Edge(old, new, item["action"], item["reason"], True)
    reason = "This step is unknown: nobody has tested it and put it into the role's list of version edges."
    if goes_back(old, new):
        reason += " An older release on a newer schema replays every migration."
    return Edge(old, new, REFUSE, reason, False)
