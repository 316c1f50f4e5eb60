# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Silences of Alertmanager, through version 2 of its interface."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Access, Answer, RestError

LIVING = ("active", "pending")


class SilenceError(Exception):
    """Alertmanager could not be asked, or refused; the message says why."""


@dataclasses.dataclass(frozen=True, order=True)
class Matcher:
    """What a label has to be."""

    name: str
    value: str
    regex: bool = False
    equal: bool = True

    def body(self) -> dict[str, Any]:
        """The matcher as Alertmanager takes it."""
        return {"name": self.name, "value": self.value, "isRegex": self.regex, "isEqual": self.equal}

    def shown(self) -> str:
        """The matcher as people write it."""
        sign = {(True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~"}
        return f'{self.name}{sign[self.equal, self.regex]}"{self.value}"'

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Matcher:
        """The matcher in an answer."""
        return cls(
            str(item["name"]), str(item["value"]), bool(item.get("isRegex")), item.get("isEqual", True) is not False
        )


@dataclasses.dataclass(frozen=True)
class Silence:
    """A silence that is there."""

    id: str
    state: str
    created_by: str
    comment: str
    starts_at: datetime.datetime
    ends_at: datetime.datetime
    matchers: tuple[Matcher, ...]


def moment(text: str) -> datetime.datetime:
    """Read a time such as 2026-11-22T10:00:00.123456789Z."""
    whole, _dot, rest = text.strip().replace("Z", "+00:00").partition(".")
    if rest:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        whole = f"{whole}.{rest[:digits][:6].ljust(6, '0')}{rest[digits:]}"
    found = datetime.datetime.fromisoformat(whole)
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def written(when: datetime.datetime) -> str:
    """Write a time."""
    return when.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Alertmanager:
    """One cluster, asked through the first member that answers."""

    def __init__(self, urls: Sequence[str], access: Access) -> None:
        if not urls:
            raise SilenceError("no address of an Alertmanager is given")
        self._urls = [url.rstrip("/") for url in urls]
        self._access = access
        self.url = ""

    def _call(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask; the member that has answered once is asked again."""
        failures = []
        for url in [self.url] if self.url else self._urls:
            try:
                answer = self._access.call(method, f"{url}/api/v2/{path}", body)
            except RestError as error:
                failures.append(str(error))
                continue
            if answer.status >= 500:
                failures.append(f"{url}: status {answer.status}: {answer.shown()}")
                continue
            self.url = url
            if not answer.good:
                hint = ", user or password is wrong" if answer.status == 401 else ""
                raise SilenceError(f"{url} answers {method} {path} with status {answer.status}{hint}: {answer.shown()}")
            return answer
        raise SilenceError("no Alertmanager answers: " + "; ".join(failures))

    def living(self, created_by: str) -> list[Silence]:
        """Silences of an author that have not ended, the latest end first."""
        try:
            items = self._call("GET", "silences").json()
            found = [
                Silence(
                    id=str(item["id"]),
                    state=str(item["status"]["state"]),
                    created_by=str(item["createdBy"]),
                    comment=str(item["comment"]),
                    starts_at=moment(item["startsAt"]),
                    ends_at=moment(item["endsAt"]),
                    matchers=tuple(sorted(Matcher.of(matcher) for matcher in item["matchers"])),
                )
                for item in items
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise SilenceError(f"{self.url} gives a list of silences that is not one: {error!r}") from error
        except RestError as error:
            raise SilenceError(f"{self.url}: {error}") from error
        ours = [item for item in found if item.created_by == created_by and item.state in LIVING]
        return sorted(ours, key=lambda item: item.ends_at, reverse=True)

    def put(
        self,
        matchers: Iterable[Matcher],
        created_by: str,
        comment: str,
        starts_at: datetime.datetime,
        ends_at: datetime.datetime,
        silence_id: str = "",
    ) -> str:
        """Make a silence, or change the one with this identifier; gives the identifier that it has then."""
        body: dict[str, Any] = {
            "matchers": [matcher.body() for matcher in matchers],
            "createdBy": created_by,
            "comment": comment,
            "startsAt": written(starts_at),
            "endsAt": written(ends_at),
        }
        if silence_id:
            body["id"] = silence_id
        try:
            return str(self._call("POST", "silences", body).json()["silenceID"])
        except (KeyError, TypeError, RestError) as error:
            raise SilenceError(f"{self.url} made a silence and does not say which: {error}") from error

    def end(self, silence_id: str) -> None:
        """End a silence now."""
        self._call("DELETE", f"silence/{silence_id}")
