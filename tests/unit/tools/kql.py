# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A strict reader of Kibana's query language (KQL): what it reads, Kibana reads. It wants a field before each value."""

from __future__ import annotations

import re

TOKEN = re.compile(
    r"\s*(?:(?P<quoted>\"(?:\\.|[^\"\\])*\")|(?P<sign><=|>=|[<>:()])|(?P<word>(?:\\.|[^\\():<>\"{}\s])+))"
)
KEYWORDS = {"and", "or", "not"}


class KqlError(Exception):
    """The text is no query; the message says where."""


class Reader:
    """Goes through a query once and notes the fields."""

    def __init__(self, text: str) -> None:
        self.fields: set[str] = set()
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            found = TOKEN.match(text, at)
            if not found:
                raise KqlError(f"{text[at : at + 20]!r} is nothing known")
            kind = str(found.lastgroup)
            word = found.group(kind)
            self.tokens.append(("key" if kind == "word" and word.lower() in KEYWORDS else kind, word))
            at = found.end()

    def peek(self) -> tuple[str, str]:
        return self.tokens[0] if self.tokens else ("end", "")

    def key(self, word: str) -> bool:
        if self.peek()[0] == "key" and self.peek()[1].lower() == word:
            self.tokens.pop(0)
            return True
        return False

    def sign(self, sign: str) -> None:
        if self.peek() != ("sign", sign):
            raise KqlError(f"{sign} wanted, got {self.peek()[1]!r}")
        self.tokens.pop(0)

    def query(self) -> None:
        while True:
            self.term()
            if not (self.key("and") or self.key("or")):
                return

    def term(self) -> None:
        if self.key("not"):
            return self.term()
        if self.peek() == ("sign", "("):
            self.sign("(")
            self.query()
            return self.sign(")")
        kind, field = self.peek()
        if kind != "word":
            raise KqlError(f"a field wanted, got {field!r}")
        self.tokens.pop(0)
        self.fields.add(field)
        if self.peek()[0] == "sign" and self.peek()[1] in ("<=", ">=", "<", ">"):
            self.tokens.pop(0)
            return self.value()
        self.sign(":")
        if self.peek() != ("sign", "("):
            return self.value()
        self.sign("(")
        self.value()
        while self.key("or") or self.key("and"):
            self.value()
        return self.sign(")")

    def value(self) -> None:
        if self.peek()[0] not in ("word", "quoted"):
            raise KqlError(f"a value wanted, got {self.peek()[1]!r}")
        self.tokens.pop(0)


def fields(text: str) -> set[str]:
    """Read a query; gives the fields that it asks for."""
    reader = Reader(text)
    if reader.tokens:
        reader.query()
    if reader.tokens:
        raise KqlError(f"{reader.peek()[1]!r} is too much")
    return reader.fields
