# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A strict reader of Logstash's configuration language: what it reads, Logstash reads, and the same way.

Not more than the language of the documentation: sections, plugins with settings, conditions, comments.
"""

from __future__ import annotations

import re
from typing import Any

SPACE = re.compile(r"(?:\s+|#[^\n]*\n)*")
TOKENS = {
    "name": re.compile(r"[A-Za-z0-9_-]+"),
    "double": re.compile(r"\"((?:\\\"|[^\"])*)\""),
    "single": re.compile(r"'((?:\\'|[^'])*)'"),
    "number": re.compile(r"-?[0-9]+(?:\.[0-9]*)?(?![A-Za-z_])"),
    "bareword": re.compile(r"[A-Za-z_][A-Za-z0-9_]+"),
    "regexp": re.compile(r"/((?:\\/|[^/])*)/"),
    "selector": re.compile(r"(?:\[[^\]\[,]+\])+"),
}


class GrammarError(Exception):
    """The text is not of the language; the message says where."""


class Reader:
    """Goes through a text once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def skip(self) -> None:
        found = SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def fail(self, wanted: str) -> GrammarError:
        line = self.text.count("\n", 0, self.at) + 1
        return GrammarError(f"line {line}: {wanted} wanted, got {self.text[self.at : self.at + 30]!r}")

    def sees(self, sign: str) -> bool:
        self.skip()
        return self.text.startswith(sign, self.at)

    def take(self, sign: str) -> None:
        if not self.sees(sign):
            raise self.fail(repr(sign))
        self.at += len(sign)

    def token(self, *kinds: str) -> tuple[str, str] | None:
        self.skip()
        for kind in kinds:
            found = TOKENS[kind].match(self.text, self.at)
            if found:
                self.at = found.end()
                return kind, found.group(found.lastindex or 0)
        return None

    def config(self) -> dict[str, list[Any]]:
        """The whole text: sections in any order."""
        sections: dict[str, list[Any]] = {}
        self.skip()
        while self.at < len(self.text):
            kind = self.token("name")
            if kind is None or kind[1] not in ("input", "filter", "output"):
                raise self.fail("input, filter or output")
            sections.setdefault(kind[1], []).extend(self.block())
            self.skip()
        return sections

    def block(self) -> list[Any]:
        self.take("{")
        steps: list[Any] = []
        while not self.sees("}"):
            steps.append(self.branch() if re.match(r"if[\s(!\[\"]", self.text[self.at :]) else self.plugin())
        self.take("}")
        return steps

    def branch(self) -> dict[str, Any]:
        self.take("if")
        made: dict[str, Any] = {"if": self.condition(), "then": self.block()}
        if self.sees("else"):
            self.take("else")
            made["else"] = [self.branch()] if self.sees("if") else self.block()
        return made

    def condition(self) -> list[Any]:
        parts = [self.expression()]
        while True:
            self.skip()
            found = re.compile(r"(and|or|xor|nand)\b").match(self.text, self.at)
            if not found:
                return parts
            self.at = found.end()
            parts += [found.group(), self.expression()]

    def expression(self) -> Any:
        if self.sees("!"):
            self.take("!")
            if self.sees("("):
                return {"not": self.inside()}
            selector = self.token("selector")
            if selector is None:
                raise self.fail("a field or a bracket")
            return {"not": selector[1]}
        if self.sees("("):
            return self.inside()
        left = self.operand()
        self.skip()
        found = re.compile(r"==|!=|<=|>=|=~|!~|<|>|not\s+in\b|in\b").match(self.text, self.at)
        if not found:
            return left
        self.at = found.end()
        return {found.group(): [left, self.operand()]}

    def inside(self) -> list[Any]:
        self.take("(")
        found = self.condition()
        self.take(")")
        return found

    def operand(self) -> Any:
        found = self.token("double", "single", "number", "selector", "regexp")
        if found is None and self.sees("["):
            return self.array()
        if found is None:
            raise self.fail("a field, text, number or pattern")
        return found[1]

    def plugin(self) -> dict[str, Any]:
        name = self.token("name")
        if name is None:
            raise self.fail("a plugin")
        self.take("{")
        settings: dict[str, Any] = {}
        while not self.sees("}"):
            key = self.token("name", "double", "single")
            if key is None:
                raise self.fail("a setting")
            if key[1] in settings:
                raise self.fail(f"{key[1]} once; it")
            self.take("=>")
            settings[key[1]] = self.value()
        self.take("}")
        return {name[1]: settings}

    def value(self) -> Any:
        self.skip()
        if self.sees("["):
            return self.array()
        if self.sees("{"):
            return self.hash()
        if re.match(r"[A-Za-z0-9_-]+\s*\{", self.text[self.at :]):
            return self.plugin()
        found = self.token("double", "single", "number", "bareword")
        if found is None:
            raise self.fail("a value")
        return {"true": True, "false": False}.get(found[1], found[1]) if found[0] == "bareword" else found[1]

    def array(self) -> list[Any]:
        self.take("[")
        found: list[Any] = []
        while not self.sees("]"):
            if found:
                self.take(",")
            found.append(self.value())
        self.take("]")
        return found

    def hash(self) -> dict[str, Any]:
        self.take("{")
        found: dict[str, Any] = {}
        while not self.sees("}"):
            key = self.token("number", "double", "single", "bareword")
            if key is None or key[1] in found:
                raise self.fail("a new key")
            self.take("=>")
            found[key[1]] = self.value()
        self.take("}")
        return found


def read(text: str) -> dict[str, list[Any]]:
    """Read a pipeline, or say where it is none."""
    return Reader(text).config()
