# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Turn gateway rules (data) into the patterns that Nginx decides by.

A path is written as in the application: ``{x}`` stands for one segment, ``/*`` at the end for the path itself and
everything below it. The pattern is matched, whatever the case of the letters, against ``METHOD:/path`` where the path
is the one Nginx has decoded and normalised, and which is also the one that is handed on.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
METHOD = re.compile(r"^[A-Z]{1,16}$")
PATH = re.compile(r"^/[A-Za-z0-9._~{}/-]*(?:/\*)?$")
HOLDER = re.compile(r"\{[A-Za-z_]+\}")
KEYS = {"name", "group", "path", "methods", "modes", "reason", "body"}


class GatewayError(ValueError):
    """A rule, or the choice of rules, is not usable."""


@dataclass(frozen=True)
class Decision:
    """One line of the decision table; an empty name lets the request pass."""

    pattern: str
    name: str
    reason: str
    body: str


def path_pattern(path: str) -> str:
    """Give the regular expression of a path, without anchors."""
    if not PATH.match(path) or "//" in path:
        raise GatewayError(
            f"{path!r} is not a path: it starts with /, holds no //, and may use {{name}} and a final /*"
        )
    below = path.endswith("/*")
    parts = HOLDER.split(path[:-2] if below else path)
    if any("{" in part or "}" in part for part in parts):
        raise GatewayError(f"{path!r} has a placeholder that is not {{name}}")
    escaped = "[^/]+".join(part.replace(".", r"\.") for part in parts)
    if below:
        return escaped + r"(?:[^\w-].*)?"
    # Behind an exact path, anything that is no further letter still counts as this path: ;x, %20, %0a, a final slash.
    return escaped.rstrip("/") + r"(?:[^\w/-].*)?/?" if escaped != "/" else "/"


def methods_pattern(methods: Sequence[str]) -> str:
    """Give the regular expression of the methods; none means any, and GET covers HEAD."""
    names = [str(method).upper() for method in methods]
    for name in names:
        if not METHOD.match(name):
            raise GatewayError(f"{name!r} is not a request method")
    if "GET" in names and "HEAD" not in names:
        names.append("HEAD")
    return "(?:" + "|".join(names) + ")" if names else "[A-Z]+"


def rule_pattern(rule: Mapping[str, t.Any]) -> str:
    """Give the whole pattern of a rule; (?s) makes the dot cover a line feed that was sent as %0a."""
    return f"(?s)^{methods_pattern(rule.get('methods') or [])}:{path_pattern(str(rule.get('path', '')))}$"


def _checked(rules: Iterable[Mapping[str, t.Any]]) -> list[Mapping[str, t.Any]]:
    checked: list[Mapping[str, t.Any]] = []
    names: set[str] = set()
    for rule in rules:
        name = rule.get("name")
        if not isinstance(name, str) or not NAME.match(name):
            raise GatewayError(f"{name!r} is not a name of a rule: small letters, digits and _")
        if name in names:
            raise GatewayError(f"two rules are named {name!r}")
        unknown = sorted(set(rule) - KEYS)
        if unknown:
            raise GatewayError(f"rule {name!r} has unknown keys: {', '.join(unknown)}")
        names.add(name)
        checked.append(rule)
    return checked


def decisions(
    deny: Iterable[Mapping[str, t.Any]],
    allow: Iterable[Mapping[str, t.Any]] = (),
    mode: str = "ui",
    opened: Iterable[str] = (),
) -> list[Decision]:
    """Give the decision table, first match wins.

    Denied rules of this mode come first, without those that are opened by name or by group; in mode ``api`` the allowed
    rules follow, and whatever is left is refused by the caller's default.
    """
    denied, allowed = _checked(deny), _checked(allow)
    wanted = set(opened)
    known = {str(rule[key]) for rule in denied for key in ("name", "group") if rule.get(key)}
    unknown = sorted(wanted - known)
    if unknown:
        raise GatewayError(f"no rule and no group is named {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    table = []
    for rule in denied:
        is_open = rule["name"] in wanted or rule.get("group") in wanted
        if is_open:
            if mode == "api":  # what is opened by name passes in either mode
                table.append(Decision(rule_pattern(rule), "", "", ""))
        elif mode in (rule.get("modes") or ("ui", "api")):
            reason = str(rule.get("reason") or "")
            table.append(Decision(rule_pattern(rule), str(rule["name"]), reason, str(rule.get("body") or "")))
    if mode == "api":
        table += [Decision(rule_pattern(rule), "", "", "") for rule in allowed]
    return table


def decide(table: Iterable[Decision], method: str, path: str, default: str = "") -> str:
    """Say what Nginx would decide about a normalised path: the name of the rule, or nothing."""
    for decision in table:
        if re.search(decision.pattern, f"{method}:{path}", re.I):
            return decision.name
    return default
