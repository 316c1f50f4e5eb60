# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Read the JSON access log of a load balancer, while it grows and is rotated."""

from __future__ import annotations

import glob
import gzip
import ipaddress
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple

# Lines of several workers may stand slightly out of order.
OUT_OF_ORDER = 10.0
SEARCH_FROM = 256 * 1024
# Nginx cuts what clients send long before; a line that is longer was not written by it.
LINE_LIMIT = 1024 * 1024
# Nginx separates attempts by commas, and by colons after an internal redirect.
REDIRECT = re.compile(r"\s+:\s+")
ATTEMPTS = re.compile(r"\s*,\s*|\s+:\s+")
NO_ATTEMPT = ("", "-")
# Of modules that read the log; described in the fragment nginx_log.
OPTIONS: dict[str, dict[str, Any]] = {
    "exclude_paths": {"type": "list", "elements": "str", "default": ["^/health"]},
    "error_statuses": {"type": "list", "elements": "str", "default": ["5xx", "499"]},
}


class LogError(Exception):
    """The log cannot be read; the message says why."""


class LogMissing(LogError):
    """There is no log."""


# --- addresses and statuses -------------------------------------------------------------------------------------------


def split_address(text: str) -> tuple[str, int | None]:
    """Host and port of C(host), C(host:port), C([v6]:port) or C(v6)."""
    match = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]+))?", text)
    if match:
        return match["v6"] or match["host"], int(match["port"]) if match["port"] else None
    return text, None


def addresses_of(text: str) -> set[tuple[str, int | None]]:
    """What an access log may call this instance: numeric addresses, or the path of a socket."""
    if text.startswith("unix:"):
        return {(text, None)}
    host, port = split_address(text)
    try:
        return {(str(ipaddress.ip_address(host)), port)}
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise LogError(f"instance {text!r} has no address: {exc}") from exc
    return {(str(entry[4][0]), port) for entry in found}


class Labels:
    """Which instance an address of the log belongs to."""

    def __init__(self) -> None:
        self._labels: dict[tuple[str, int | None], str] = {}
        self._known: dict[str, str | None] = {}

    def add(self, label: str, instance: str) -> None:
        """All addresses of I(instance) bear I(label)."""
        for address in addresses_of(instance):
            other = self._labels.setdefault(address, label)
            if other != label:
                raise LogError(f"{instance} is both {other} and {label}")

    def of(self, text: str) -> str | None:
        """The label of an address as the log writes it, if it has one."""
        if text not in self._known:
            address: tuple[str, int | None] = (text, None) if text.startswith("unix:") else split_address(text)
            self._known[text] = self._labels.get(address) or self._labels.get((address[0], None))
        return self._known[text]


def status_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern for C(5xx) and C(499)."""
    found = []
    for word in words:
        if not re.fullmatch(r"[1-5][0-9x]{2}", word):
            raise LogError(f"{word!r} is no status: give three digits, or x for any digit")
        found.append(word.replace("x", "[0-9]"))
    return re.compile("|".join(found) or r"(?!)")


# --- lines ------------------------------------------------------------------------------------------------------------


class Attempt(NamedTuple):
    """One try of a request on one instance. Its status is C(-) if there was no answer and nobody knows why."""

    address: str
    status: str
    time: str


def attempts(line: Mapping[str, Any], time_field: str) -> Iterator[Attempt]:
    """The tries of one request, in their order."""
    addresses = ATTEMPTS.split(str(line.get("upstream_addr") or ""))
    statuses = ATTEMPTS.split(str(line.get("upstream_status") or ""))
    times = ATTEMPTS.split(str(line.get(time_field) or ""))
    for number, address in enumerate(addresses):
        if address in NO_ATTEMPT:
            continue
        status = statuses[number] if number < len(statuses) else "-"
        if status in NO_ATTEMPT:
            # The client went away before this instance answered.
            gone = number == len(addresses) - 1 and str(line.get("status")) == "499"
            status = "499" if gone else "-"
        yield Attempt(address, status, times[number] if number < len(times) else "")


def parse(raw: bytes) -> dict[str, Any] | None:
    """The fields of a line, with its time as a number; nothing if it is no such line."""
    try:
        line = json.loads(raw)
        line["msec"] = float(line["msec"])
    except (ValueError, TypeError, KeyError):
        return None
    return line if isinstance(line, dict) else None


class AccessLog:
    """Gives each line once, whatever the file is called by then."""

    def __init__(self, path: str) -> None:
        self.path = path
        # A file is known by its first line, whatever it is called, compressed or not.
        self._read_upto: dict[bytes, int] = {}

    def new_lines(self, start: float, end: float | None = None) -> Iterator[dict[str, Any] | None]:
        """What was added since the last time, roughly from I(start) until I(end). Unreadable lines are nothing."""
        found = False
        for path in self._files(start):
            found = True
            for raw in self._new_lines(path, start):
                line = parse(raw)
                if line is not None and end is not None and line["msec"] > end + OUT_OF_ORDER:
                    break
                yield line
        if not found:
            raise LogMissing(f"{self.path} does not exist")

    def _files(self, start: float) -> Iterator[str]:
        """The log and its predecessors that were still written to after I(start)."""
        yield from (path for path in (self.path,) if os.path.exists(path))
        for path in sorted(glob.glob(f"{glob.escape(self.path)}[.-]*")):
            try:
                if os.stat(path).st_mtime >= start - OUT_OF_ORDER:
                    yield path
            except FileNotFoundError:  # rotated away meanwhile
                continue

    def _new_lines(self, path: str, start: float) -> Iterator[bytes]:
        try:
            with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as stream:
                yield from self._rest(stream, None if path.endswith(".gz") else start - OUT_OF_ORDER)
        except FileNotFoundError:  # rotated away meanwhile
            return
        except EOFError as exc:
            # It is being compressed: the plain file goes away after that.
            if not os.path.exists(path.removesuffix(".gz")):
                raise LogError(f"cannot read {path}: {exc}") from exc
        except OSError as exc:
            raise LogError(f"cannot read {path}: {getattr(exc, 'strerror', None) or exc}") from exc

    def _rest(self, stream: Any, moment: float | None) -> Iterator[bytes]:
        """Whole lines that were not read before, roughly from I(moment) on."""
        first = stream.readline(LINE_LIMIT)
        if not first.endswith(b"\n"):
            return
        if first not in self._read_upto:
            self._read_upto[first] = 0 if moment is None else first_offset(stream, moment)
        stream.seek(self._read_upto[first])
        while raw := stream.readline(LINE_LIMIT):
            if not raw.endswith(b"\n") and len(raw) < LINE_LIMIT:  # the rest of this line comes later
                return
            self._read_upto[first] += len(raw)
            yield raw


def first_offset(stream: IO[bytes], moment: float) -> int:
    """Where lines from I(moment) on begin, by halving: the lines of a log are in order of time."""
    low, high = 0, stream.seek(0, os.SEEK_END)
    while high - low > SEARCH_FROM:
        middle = (low + high) // 2
        stream.seek(middle)
        stream.readline(LINE_LIMIT)
        begin = stream.tell()
        found = re.search(rb'"msec":\s*"?([0-9]+\.[0-9]+)', stream.readline(LINE_LIMIT))
        if found is None or begin >= high:
            break
        if float(found[1]) < moment:
            low = begin
        else:
            high = middle
    return low
