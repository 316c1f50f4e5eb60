# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Pipelines of Logstash as data, written in Logstash's own language."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

SECTIONS = {"inputs": "input", "filters": "filter", "outputs": "output"}
PLUGIN = re.compile(r"[a-z][a-z0-9_]*")
SETTING = re.compile(r"[A-Za-z0-9_-]+")
# Text in quotes, a regular expression, or one sign outside of both.
PIECE = re.compile(r"\"(?:\\\"|[^\"])*\"|'(?:\\'|[^'])*'|(?:(?<=~)|(?<=~ ))/(?:\\/|[^/])*/|.", re.S)
INDENT = "  "


class PipelineError(Exception):
    """The data is no pipeline; the message says where."""


def quoted(text: str, where: str) -> str:
    """Put text into quotes. Logstash reads no escapes there, so not every text can be said."""
    for quote in ('"', "'"):
        if quote not in text and not text.endswith("\\"):
            return quote + text + quote
    raise PipelineError(f"{where}: text with both kinds of quotes, or a backslash at its end, cannot be written")


def value(data: Any, where: str, depth: int) -> str:
    """Write one value of a setting."""
    if isinstance(data, bool):
        return "true" if data else "false"
    if isinstance(data, (int, float)):
        return str(data)
    if isinstance(data, str):
        return quoted(str(data), where)
    if isinstance(data, Mapping):
        inner = INDENT * (depth + 1)
        rows = [
            f"{inner}{quoted(str(key), where)} => {value(item, f'{where}.{key}', depth + 1)}"
            for key, item in data.items()
        ]
        return "{\n" + "\n".join(rows) + f"\n{INDENT * depth}}}" if rows else "{ }"
    if isinstance(data, Sequence):
        return "[" + ", ".join(value(item, where, depth) for item in data) + "]"
    raise PipelineError(f"{where}: {type(data).__name__} is no value of a setting")


def one_entry(data: Any, where: str) -> tuple[str, Any]:
    """Read a plugin, {name: settings}."""
    if not isinstance(data, Mapping) or len(data) != 1:
        raise PipelineError(f"{where}: a plugin is one name with its settings, or if, then and else")
    ((name, settings),) = data.items()
    if not PLUGIN.fullmatch(str(name)):
        raise PipelineError(f"{where}: {name!r} is no name of a plugin")
    return str(name), settings if settings is not None else {}


def plugin(data: Any, where: str, depth: int) -> str:
    """Write a plugin; as value of codec it has settings too."""
    name, settings = one_entry(data, where)
    where = f"{where}.{name}"
    if not isinstance(settings, Mapping):
        raise PipelineError(f"{where}: settings are a dictionary")
    rows = []
    for key, item in settings.items():
        if not SETTING.fullmatch(str(key)):
            raise PipelineError(f"{where}: {key!r} is no name of a setting")
        nested = key == "codec" and isinstance(item, Mapping)
        text = plugin(item, f"{where}.codec", depth + 1) if nested else value(item, f"{where}.{key}", depth + 1)
        rows.append(f"{INDENT * (depth + 1)}{key} => {text}")
    return f"{name} {{\n" + "\n".join(rows) + f"\n{INDENT * depth}}}" if rows else f"{name} {{ }}"


def condition(text: Any, where: str) -> str:
    """Let a condition be one, not the end of its block and a beginning of something else."""
    said = str(text).strip()
    outside = "".join(piece for piece in PIECE.findall(said) if len(piece) == 1)
    if not said or re.search(r"[{}#\n\"';]", outside):
        raise PipelineError(f"{where}: {said!r} is no condition")
    if outside.count("(") != outside.count(")") or outside.count("[") != outside.count("]"):
        raise PipelineError(f"{where}: {said!r} has a bracket too many")
    return said


def block(steps: Any, where: str, depth: int) -> list[str]:
    """Write plugins and conditions, one after the other."""
    if not isinstance(steps, Sequence) or isinstance(steps, str):
        raise PipelineError(f"{where}: a list is wanted")
    rows = []
    pad = INDENT * depth
    for number, step in enumerate(steps, 1):
        here = f"{where}[{number}]"
        if not isinstance(step, Mapping) or "if" not in step:
            rows.append(pad + plugin(step, here, depth))
            continue
        if set(step) - {"if", "then", "else"} or "then" not in step:
            raise PipelineError(f"{here}: a condition has if, then and, where wanted, else")
        rows.append(f"{pad}if {condition(step['if'], here)} {{")
        rows += block(step["then"], f"{here}.then", depth + 1)
        if step.get("else"):
            rows.append(f"{pad}}} else {{")
            rows += block(step["else"], f"{here}.else", depth + 1)
        rows.append(f"{pad}}}")
    return rows


def pipeline(data: Mapping[str, Any]) -> str:
    """Write a whole pipeline; one without an input or an output would do nothing, and is refused."""
    name = str(data.get("id") or "")
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise PipelineError(f"id {name!r}: lower-case letters, digits, - and _ are wanted")
    unknown = set(data) - {"id", "settings", *SECTIONS}
    if unknown:
        raise PipelineError(f"{name}: unknown {', '.join(sorted(unknown))}")
    rows: list[str] = []
    for key, section in SECTIONS.items():
        steps = data.get(key) or []
        if not steps and key != "filters":
            raise PipelineError(f"{name}: it has no {key}")
        if key == "inputs" and any(isinstance(step, Mapping) and "if" in step for step in steps):
            raise PipelineError(f"{name}: inputs have no conditions")
        if steps:
            rows += [f"{section} {{", *block(steps, f"{name}.{key}", 1), "}"]
    return "\n".join(rows) + "\n"
