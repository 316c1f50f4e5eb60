# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""An open-loop load generator: requests start by the clock, whatever became of the earlier ones.

A client that waits for an answer before it asks again is slowed down by the very stall it should measure, and reports
one slow request where its users had hundreds. Here every request has a moment at which it is due, its latency counts
from that moment, and how far the generator itself was behind is recorded with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import heapq
import json
import os
import re
import resource
import secrets
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from ansible_collections.flowfleet.langflow.plugins.module_utils import _probe
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import (
    ApiError,
    Endpoint,
    output_text,
    parse_event,
)

KINDS = ("get", "run", "long_run", "stream")
USER_AGENT = "flowfleet-request-probe"
TOKEN = re.compile(r"\bffp-[0-9a-f]{12}-[0-9]{7,}\b")
PLAN, RESULTS, MARKS, LOG = "plan.json", "results.jsonl", "marks.jsonl", "generator.log"

# What can become of a request, beside C(http_<status>).
OK, LATE, UNFINISHED, UNSENT = "ok", "late", "unfinished", "unsent"
FAULTS = ("refused", "unreachable", "tls", "reset", "timeout", "truncated", "duplicate", "disordered", "wrong")

MAX_RATE = 2000.0
MAX_DURATION = 86400.0
MAX_REQUESTS = 5_000_000
MAX_IN_FLIGHT = 4000
MAX_KEPT = 1024 * 1024
CHUNK = 65536
FLUSH = 1.0
DETAIL = 160
GOLDEN = 0.6180339887498949
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")


class PlanError(ValueError):
    """The load cannot be made as it was asked for."""


class Fault(Exception):
    """The answer is not what it should be; C(kind) is the class that it is counted in."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


# --- the plan ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Load:
    """One stream of equal requests."""

    kind: str
    rate: float
    name: str = ""
    path: str = "/health_check"
    status: tuple[int, ...] = (200,)
    flow: str = ""
    input: str = ""
    tweaks: Mapping[str, Any] | None = None
    seconds: tuple[float, ...] = (30.0, 60.0)
    events: int = 0
    sequence: str = r"seq=(\d+)\b"
    expect: str | None = None
    executions: str = r"executions=(\d+)\b"
    keep_alive: float = 0.5
    timeout: float = 60.0
    late_after: float = 0.0

    def __post_init__(self) -> None:
        name = self.name or self.kind
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "status", tuple(self.status))
        object.__setattr__(self, "seconds", tuple(self.seconds))
        if self.kind not in KINDS:
            raise PlanError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not NAME.match(name):
            raise PlanError(f"{name!r} is no name for a load: letters, digits, dot, dash and underscore")
        if not 0 < self.rate <= MAX_RATE:
            raise PlanError(f"{name}: rate must be more than 0 and at most {MAX_RATE:g} a second")
        if not 0 <= self.keep_alive <= 1:
            raise PlanError(f"{name}: keep_alive is a share between 0 and 1")
        if self.timeout <= 0 or self.late_after < 0 or self.events < 0:
            raise PlanError(f"{name}: timeout must be more than 0, late_after and events not less")
        if self.kind == "get":
            if not re.match(r"^/[!-~]*$", self.path):
                raise PlanError(f"{name}: path must start with / and hold no blanks")
        elif not self.flow:
            raise PlanError(f"{name}: a load of kind {self.kind} needs a flow")
        if len(self.seconds) not in (1, 2) or any(value <= 0 for value in self.seconds):
            raise PlanError(f"{name}: seconds is one number or the least and the most, each more than 0")
        for option in ("sequence", "executions"):
            try:
                groups = re.compile(getattr(self, option)).groups
            except re.error as error:
                raise PlanError(f"{name}: {option} is no regular expression: {error}") from error
            if groups != 1:
                raise PlanError(f"{name}: {option} must have exactly one group")
        if self.kind != "get" and "{token}" not in self.template + json.dumps(self.tweaks or {}):
            raise PlanError(f"{name}: the input must hold {{token}}, so that each execution can be told from others")

    @property
    def template(self) -> str:
        """What the flow is given, with places for what differs from request to request."""
        usual = {"long_run": "{token} {seconds}", "stream": "{token} {events}" if self.events else "{token}"}
        return self.input or usual.get(self.kind, "{token}")

    @property
    def expected(self) -> str:
        """What the output must contain. A stream that numbers its events needs nothing else."""
        if self.expect is not None:
            return self.expect
        return "" if self.kind == "stream" and self.events else "{token}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to send where, and the bounds that end it without anybody's help."""

    url: str
    loads: tuple[Load, ...]
    run: str = dataclasses.field(default_factory=lambda: secrets.token_hex(6))
    server_name: str | None = None
    ca_path: str | None = None
    max_duration: float = 600.0
    max_requests: int = 100_000
    max_in_flight: int = 256
    max_lag: float = 0.1
    grace: float = 90.0
    sampled: bool = True
    node_header: str = ""

    def __post_init__(self) -> None:
        loads = tuple(load if isinstance(load, Load) else Load(**load) for load in self.loads)
        object.__setattr__(self, "loads", loads)
        if not self.url:
            raise PlanError("url is missing: a probe never guesses its target")
        try:
            target = self.endpoint
        except ValueError as error:
            raise PlanError(str(error)) from error
        if re.search(r"[^!-~]", target.host_header + target.prefix):
            raise PlanError("url and server_name hold characters that no header can")
        if not loads:
            raise PlanError("there is no load to make")
        names = [load.name for load in loads]
        if len(set(names)) < len(names):
            raise PlanError(f"the loads need different names, got {', '.join(names)}")
        if sum(load.rate for load in loads) > MAX_RATE:
            raise PlanError(f"all loads together are more than {MAX_RATE:g} requests a second")
        for name, most in (
            ("max_duration", MAX_DURATION),
            ("max_requests", MAX_REQUESTS),
            ("max_in_flight", MAX_IN_FLIGHT),
        ):
            if not 0 < getattr(self, name) <= most:
                raise PlanError(f"{name} must be more than 0 and at most {most:g}")
        if self.max_lag <= 0 or self.grace < 0:
            raise PlanError("max_lag must be more than 0 and grace not less")

    @property
    def endpoint(self) -> Endpoint:
        """The only address that is ever connected to."""
        return Endpoint(self.url, ca_path=self.ca_path, server_name=self.server_name, user_agent=USER_AGENT)

    @property
    def patience(self) -> float:
        """Seconds after which the last request has ended by its own timeout."""
        return max(load.timeout for load in self.loads) + 5

    def as_json(self) -> str:
        """The plan as it is kept beside the results."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def read_plan(directory: str) -> Plan:
    """The plan that results belong to."""
    with open(os.path.join(directory, PLAN), encoding="utf-8") as handle:
        return Plan(**json.load(handle))


def fill(value: Any, places: Mapping[str, str]) -> Any:
    """Put values into the places of every text inside I(value)."""
    if isinstance(value, str):
        for name, text in places.items():
            value = value.replace(f"{{{name}}}", text)
        return value
    if isinstance(value, Mapping):
        return {key: fill(item, places) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [fill(item, places) for item in value]
    return value


# --- connections ------------------------------------------------------------------------------------------------------


class _Reader(asyncio.StreamReader):
    """A reader that knows whether anything came at all, and whether more can come."""

    received = 0
    ended = False

    def feed_data(self, data: Any) -> None:
        self.received += len(data)
        super().feed_data(data)

    def feed_eof(self) -> None:
        self.ended = True
        super().feed_eof()


@dataclasses.dataclass
class _Connection:
    """A connection and how much of what it received has been asked for."""

    reader: _Reader
    transport: asyncio.Transport
    settled: int = 0

    def fit(self) -> bool:
        """Whether a request can be sent on it: open, and nothing has come that nobody asked for."""
        reader = self.reader
        closed = self.transport.is_closing() or reader.ended or reader.exception() is not None
        return not closed and reader.received == self.settled

    @property
    def answered(self) -> bool:
        """Whether a byte has come since the last request."""
        return self.reader.received > self.settled


@dataclasses.dataclass
class Head:
    """The head of an answer."""

    status: int
    headers: dict[str, str]
    lasting: bool


async def read_head(reader: asyncio.StreamReader) -> Head:
    """The head of the answer that counts, after those that only say that there will be one."""
    while True:
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise Fault("truncated", "the connection was closed inside the head of the answer") from None
            raise ConnectionResetError("the connection was closed without an answer") from None
        lines = raw.decode("latin-1").split("\r\n")
        version, _blank, rest = lines[0].partition(" ")
        code = rest[:3]
        if version not in ("HTTP/1.1", "HTTP/1.0") or not (len(code) == 3 and code.isascii() and code.isdigit()):
            raise Fault("wrong", f"not an answer of HTTP: {lines[0][:40]!r}")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip()
        if int(code) >= 200:
            words = headers.get("connection", "").lower()
            lasting = "close" not in words and (version == "HTTP/1.1" or "keep-alive" in words)
            return Head(int(code), headers, lasting)


def _number(text: str, base: int) -> int:
    """A length as HTTP writes it."""
    digits = "0123456789abcdef"[:base]
    if not text or text.lower().strip(digits):
        raise Fault("wrong", f"not a length: {text[:20]!r}")
    return int(text, base)


async def _pass_on(reader: asyncio.StreamReader, left: int, sink: Callable[[bytes], None]) -> None:
    while left > 0:
        piece = await reader.read(min(left, CHUNK))
        if not piece:
            raise Fault("truncated", f"the connection was closed {left} bytes before the announced end")
        left -= len(piece)
        sink(piece)


async def read_body(reader: asyncio.StreamReader, head: Head, sink: Callable[[bytes], None]) -> bool:
    """Pass the body on as it comes; whether its end was announced, so that the connection can be used again."""
    if head.status in (204, 304):
        return True
    if head.headers.get("transfer-encoding", "").lower().endswith("chunked"):
        try:
            while size := _number((await reader.readuntil(b"\r\n"))[:-2].split(b";")[0].decode("latin-1").strip(), 16):
                await _pass_on(reader, size, sink)
                if await reader.readexactly(2) != b"\r\n":
                    raise Fault("wrong", "a chunk is longer than announced")
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
        except asyncio.IncompleteReadError:
            raise Fault("truncated", "the connection was closed before the last chunk") from None
        return True
    if "content-length" in head.headers:
        await _pass_on(reader, _number(head.headers["content-length"], 10), sink)
        return True
    while piece := await reader.read(CHUNK):
        sink(piece)
    return False


# --- judging answers --------------------------------------------------------------------------------------------------


class Judge:
    """Takes a body piece by piece and says at its end what it was worth. This one only counts."""

    def __init__(self) -> None:
        self.size = 0
        self.facts: dict[str, Any] = {}

    def feed(self, piece: bytes) -> None:
        """Take a piece."""
        self.size += len(piece)

    def end(self) -> None:
        """Raise a C(Fault) unless the body is right."""


class OutputJudge(Judge):
    """The result of a run: it has to bring back what was sent, and may say how often it was executed."""

    def __init__(self, expected: str, executions: str) -> None:
        super().__init__()
        self._expected = expected
        self._executions = re.compile(executions)
        self._body = bytearray()

    def feed(self, piece: bytes) -> None:
        super().feed(piece)
        if self.size > MAX_KEPT:
            raise Fault("wrong", f"the answer is larger than {MAX_KEPT} bytes")
        self._body += piece

    def end(self) -> None:
        try:
            result = json.loads(self._body)
        except ValueError:
            raise Fault("wrong", "the answer is not JSON") from None
        self.check(result)

    def check(self, result: Any) -> None:
        """Look at the output of the flow."""
        try:
            text = output_text(result)
        except ApiError as error:
            raise Fault("wrong", str(error)) from None
        if self._expected not in text:
            raise Fault("wrong", f"the output lacks {self._expected!r}")
        if found := self._executions.search(text):
            self.facts["executions"] = int(found[1])
            if self.facts["executions"] > 1:
                raise Fault("duplicate", f"the flow says that it was executed {found[1]} times")


def check_sequence(numbers: list[int], wanted: int) -> None:
    """Each number once and in order, from 1 to I(wanted)."""
    doubles = len(numbers) - len(set(numbers))
    if doubles:
        raise Fault("duplicate", f"{doubles} numbers came more than once")
    if numbers != sorted(numbers):
        raise Fault("disordered", "the numbers are out of order")
    if len(numbers) != wanted or (wanted and (numbers[0], numbers[-1]) != (1, wanted)):
        raise Fault("truncated", f"{len(numbers)} of {wanted} numbers came")


class StreamJudge(OutputJudge):
    """A stream of events: complete, in order, nothing twice."""

    def __init__(self, load: Load, expected: str) -> None:
        super().__init__(expected, load.executions)
        self._wanted = load.events
        self._sequence = re.compile(load.sequence)
        self._text: list[str] = []
        self._rest = b""
        self._ends: list[Any] = []
        self._last = 0.0
        self.facts.update(events=0, pause=0.0)

    def feed(self, piece: bytes) -> None:
        now = time.monotonic()
        if self._last:
            self.facts["pause"] = round(max(self.facts["pause"], now - self._last), 4)
        self._last = now
        Judge.feed(self, piece)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MAX_KEPT or self.size > 16 * MAX_KEPT:
            raise Fault("wrong", "the stream is too large")
        for line in lines:
            self._line(line)

    def _line(self, line: bytes) -> None:
        try:
            event = parse_event(line, 0.0)
        except ApiError as error:
            raise Fault("wrong", str(error)) from None
        if event is None:
            return
        self.facts["events"] += 1
        if event.name == "token" and isinstance(event.data, dict):
            self._text.append(str(event.data.get("chunk", "")))
        elif event.name == "error":
            raise Fault("wrong", f"the stream reports an error: {json.dumps(event.data)}")
        elif event.name == "end":
            self._ends.append(event.data)

    def end(self) -> None:
        if self._rest.strip():
            self._line(self._rest)
        numbers = [int(found) for found in self._sequence.findall("".join(self._text))]
        if len(self._ends) > 1:
            raise Fault("duplicate", f"the stream ended {len(self._ends)} times")
        if self._wanted:
            check_sequence(numbers, self._wanted)
        if not self._ends:
            raise Fault("truncated", f"the stream stopped after {self.facts['events']} events, before its end")
        if self._expected:
            self.check((self._ends[0] or {}).get("result") if isinstance(self._ends[0], dict) else None)


# --- one request ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Attempt:
    """How far a request came."""

    phase: str = "connect"
    reused: bool = False
    reconnected: bool = False
    status: int = 0
    connect: float = 0.0
    first: float = 0.0
    node: str = ""


@dataclasses.dataclass
class Exchange:
    """One request, what it belongs to, and who judges the answer."""

    load: Load
    token: str
    trace: str
    keep: bool
    judge: Judge
    attempt: Attempt = dataclasses.field(default_factory=Attempt)


def _refused(error: OSError) -> bool:
    """Whether every address of the target refused."""
    numbers = re.findall(r"\[Errno (\d+)\]", str(error))
    return isinstance(error, ConnectionRefusedError) or (bool(numbers) and set(numbers) == {str(errno.ECONNREFUSED)})


def classify(error: BaseException, phase: str) -> str:
    """The class of a failed request. What breaks after the head of the answer has come is a cut answer."""
    if isinstance(error, Fault):
        return error.kind
    if isinstance(error, TimeoutError):
        return "timeout"
    if not isinstance(error, OSError):
        return "wrong"
    if phase == "body":
        return "truncated"
    if isinstance(error, ssl.SSLError) and phase == "connect" and not isinstance(error, ssl.SSLEOFError):
        return "tls"
    if phase == "connect" and not isinstance(error, ssl.SSLError | ConnectionResetError | ConnectionAbortedError):
        return "refused" if _refused(error) else "unreachable"
    return "reset"


class Client:
    """Sends requests to one endpoint, some on connections that are kept and some on new ones."""

    def __init__(self, plan: Plan, api_key: str) -> None:
        self.plan = plan
        self._endpoint = plan.endpoint
        self._key = api_key
        self._context: ssl.SSLContext | None = None
        if self._endpoint.tls:
            self._context = _probe.tls_context(plan.ca_path)
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._idle: list[_Connection] = []
        self._runs = 0
        if any(character in api_key for character in "\r\n\0") or not api_key.isascii():
            raise PlanError("the API key holds characters that no header can")

    def _message(self, load: Load, token: str, trace: str, keep: bool) -> bytes:
        get = load.kind == "get"
        body = b""
        if not get:
            self._runs += 1
            # Evenly spread over the range without chance, so that two probes of one plan make the same load.
            length = load.seconds[0] + (load.seconds[-1] - load.seconds[0]) * (self._runs * GOLDEN % 1)
            places = {"token": token, "seconds": f"{length:.1f}", "events": str(load.events)}
            content = {
                "input_value": fill(load.template, places),
                "input_type": "chat",
                "output_type": "chat",
                "session_id": token,
            }
            if load.tweaks:
                content["tweaks"] = fill(load.tweaks, places)
            body = json.dumps(content).encode()
        mode = "true" if load.kind == "stream" else "false"
        path = load.path if get else f"/api/v1/run/{quote(load.flow, safe='')}?stream={mode}"
        lines = [
            f"{'GET' if get else 'POST'} {self._endpoint.prefix}{path} HTTP/1.1",
            f"Host: {self._endpoint.host_header}",
            f"User-Agent: {USER_AGENT}/{self.plan.run}",
            f"Accept: {'*/*' if get else 'application/json, text/event-stream, application/x-ndjson'}",
            "Accept-Encoding: identity",
            f"Connection: {'keep-alive' if keep else 'close'}",
            f"X-Request-Id: {token}",
            f"traceparent: 00-{trace}-{secrets.token_hex(8)}-0{int(self.plan.sampled)}",
        ]
        if not get:
            lines += [
                f"Idempotency-Key: {token}",
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
            ]
            if self._key:
                lines.append(f"x-api-key: {self._key}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    async def _connect(self, attempt: Attempt) -> _Connection:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        reader = _Reader()
        name = (self._endpoint.server_name or self._endpoint.host) if self._context else None
        transport, _protocol = await loop.create_connection(
            lambda: asyncio.StreamReaderProtocol(reader),
            self._endpoint.host,
            self._endpoint.port,
            ssl=self._context,
            server_hostname=name,
        )
        attempt.connect = time.monotonic() - began
        return _Connection(reader, transport)

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.fit():
                return connection
            connection.transport.abort()  # nothing was sent on it: the server may close what is idle
        return None

    async def _talk(self, connection: _Connection, message: bytes, exchange: Exchange) -> None:
        load, attempt, judge = exchange.load, exchange.attempt, exchange.judge
        done = False
        try:
            attempt.phase = "wait"
            connection.transport.write(message)
            head = await read_head(connection.reader)
            attempt.phase, attempt.first = "body", time.monotonic()
            attempt.status = head.status
            if self.plan.node_header:
                attempt.node = head.headers.get(self.plan.node_header.lower(), "")[:80]
            good = head.status in load.status
            announced = await read_body(connection.reader, head, judge.feed if good else lambda _piece: None)
            if not good:
                raise Fault(f"http_{head.status}", "")
            done = announced and head.lasting and exchange.keep
        finally:
            if done and len(self._idle) < self.plan.max_in_flight:
                connection.settled = connection.reader.received
                self._idle.append(connection)
            else:
                connection.transport.abort()

    async def send(self, exchange: Exchange) -> None:
        """One request to its end; raises what went wrong.

        A kept connection may be closed by the server in the moment in which a request is sent on it. A GET that got
        no byte of an answer then is sent once more on a new connection, as every HTTP client does, and counted. A POST
        is not: the server may have executed it.
        """
        attempt = exchange.attempt
        message = self._message(exchange.load, exchange.token, exchange.trace, exchange.keep)
        connection = self._take() if exchange.keep else None
        if connection is not None:
            attempt.reused = True
            try:
                await self._talk(connection, message, exchange)
            except (ConnectionError, ssl.SSLError):
                if exchange.load.kind != "get" or connection.answered:
                    raise
                attempt.reconnected, attempt.phase = True, "connect"
            else:
                return
        await self._talk(await self._connect(attempt), message, exchange)

    def close(self) -> None:
        """Give up all idle connections."""
        while self._idle:
            self._idle.pop().transport.abort()

    def redact(self, text: str) -> str:
        """A short text without the key."""
        text = text.replace(self._key, "********") if self._key else text
        return " ".join(text.split())[:DETAIL]


# --- the generator ----------------------------------------------------------------------------------------------------


class Journal:
    """One JSON object a line. Each line is with the kernel at once, and on disk a second later."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one line."""
        os.write(self._descriptor, json.dumps(entry, separators=(",", ":")).encode() + b"\n")

    def sync(self) -> None:
        """Wait until all of it is on disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Put the last lines on disk."""
        self.sync()
        os.close(self._descriptor)


@dataclasses.dataclass(order=True)
class _Turn:
    """When a load is next due."""

    due: float
    index: int
    count: int


class Generator:
    """Makes the load of a plan and writes down what becomes of each request."""

    def __init__(self, plan: Plan, journal: Journal, api_key: str = "") -> None:
        self.plan = plan
        self.client = Client(plan, api_key)
        self.journal = journal
        self.started = 0
        self.ended = 0
        self.reason = ""
        self._begin = 0.0
        self._until = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._pace: asyncio.Task[None] | None = None

    def stop(self, reason: str = "stopped") -> None:
        """Start no more requests."""
        if not self.reason:
            self.reason = reason
            self._until = time.monotonic() - self._begin
        if self._pace is not None:
            self._pace.cancel()

    def _judge(self, load: Load, token: str) -> Judge:
        expected = load.expected.replace("{token}", token)
        if load.kind == "get":
            return Judge()
        return StreamJudge(load, expected) if load.kind == "stream" else OutputJudge(expected, load.executions)

    def _entry(self, load: Load, number: int, due: float) -> dict[str, Any]:
        return {"n": number, "load": load.name, "id": f"ffp-{self.plan.run}-{number:07d}", "due": round(due, 5)}

    async def _one(self, load: Load, number: int, due: float, keep: bool) -> None:
        began = time.monotonic()
        entry = self._entry(load, number, due)
        entry["trace"] = secrets.token_hex(16)
        judge = self._judge(load, entry["id"])
        exchange = Exchange(load, entry["id"], entry["trace"], keep, judge)
        attempt, detail = exchange.attempt, ""
        try:
            async with asyncio.timeout(load.timeout):
                await self.client.send(exchange)
                judge.end()
            outcome = OK
        except asyncio.CancelledError:
            outcome, detail = UNFINISHED, f"given up by the probe itself in phase {attempt.phase}"
        except Exception as error:  # every request ends in the journal, whatever happened to it
            outcome = classify(error, attempt.phase)
            detail = str(error) or (
                "" if isinstance(error, Fault) else f"{type(error).__name__} in phase {attempt.phase}"
            )
        now = time.monotonic()
        latency = now - self._begin - due
        if outcome == OK and load.late_after and latency > load.late_after:
            outcome, detail = LATE, f"complete, but not within {load.late_after:g} s"
        entry.update(lag=round(began - self._begin - due, 5), latency=round(latency, 5), service=round(now - began, 5))
        entry["class"] = outcome
        for name in ("status", "connect", "node", "reused", "reconnected"):
            if value := getattr(attempt, name):
                entry[name] = round(value, 5) if isinstance(value, float) else value
        if attempt.first:
            entry["first"] = round(attempt.first - began, 5)
        if outcome not in (OK, LATE):
            entry["phase"] = attempt.phase
        if detail:
            entry["detail"] = self.client.redact(detail)
        entry.update(judge.facts)
        self._write(entry)
        self.ended += 1

    def _write(self, entry: Mapping[str, Any]) -> None:
        """Write down, or give up: a load whose outcome cannot be recorded has no use."""
        try:
            self.journal.write(entry)
        except OSError as error:
            complain(f"results cannot be written: {error.strerror}")
            self.stop("results cannot be written")

    def _launch(self, load: Load, number: int, due: float, keep: bool) -> None:
        self.started += 1
        if len(self._tasks) >= self.plan.max_in_flight:
            lag = time.monotonic() - self._begin - due
            self._write({**self._entry(load, number, due), "lag": round(lag, 5), "class": UNSENT})
            self.ended += 1
            return
        task = asyncio.get_running_loop().create_task(self._one(load, number, due, keep))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _schedule(self) -> None:
        """Start each request when it is due. A request that is overdue starts at once; none is left out."""
        plan = self.plan
        share = [0.0] * len(plan.loads)
        turns = [_Turn(i / len(plan.loads) / load.rate, i, 0) for i, load in enumerate(plan.loads)]
        first = [turn.due for turn in turns]
        heapq.heapify(turns)
        for number in range(1, plan.max_requests + 1):
            turn = turns[0]
            if turn.due >= plan.max_duration:
                self.stop("max_duration reached")
                return
            await asyncio.sleep(max(0.0, turn.due + self._begin - time.monotonic()))
            load = plan.loads[turn.index]
            share[turn.index] += load.keep_alive
            keep = share[turn.index] >= 1 - 1e-9
            share[turn.index] -= keep
            self._launch(load, number, turn.due, keep)
            count = turn.count + 1
            heapq.heapreplace(turns, _Turn(first[turn.index] + count / load.rate, turn.index, count))
        self.stop("max_requests reached")

    def _progress(self) -> dict[str, Any]:
        times = os.times()
        return {
            "at": round(time.monotonic() - self._begin, 3),
            "started": self.started,
            "ended": self.ended,
            "cpu": round(times.user + times.system, 3),
            "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }

    async def _keep(self) -> None:
        """Say now and then how far it is, and make sure that it is on disk."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(FLUSH)
            self._write({"progress": self._progress()})
            await loop.run_in_executor(None, self.journal.sync)

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Make the load, wait for what is still under way, and write the last line."""
        loop = asyncio.get_running_loop()
        self._begin = time.monotonic()
        self._write({"begin": {"run": self.plan.run, "monotonic": self._begin, "time": time.time()}})
        ready()
        keeper = loop.create_task(self._keep())
        self._pace = loop.create_task(self._schedule())
        # What is overdue then stays unsent: the bound holds for the clock, not for the schedule.
        end = loop.call_later(self.plan.max_duration, self.stop, "max_duration reached")
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._pace
            patience = self.plan.patience
            if self.reason == "stopped":
                patience = min(patience, self.plan.grace)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=patience)
            left = list(self._tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        finally:
            end.cancel()
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            self.client.close()
            self._write(
                {"end": {**self._progress(), "reason": self.reason or "failed", "until": round(self._until, 5)}}
            )


def say(text: str) -> None:
    """A line for whoever started the process."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """A line for the log."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _bound(plan: Plan) -> None:
    """Enough files for the connections; and if memory runs out, the probe goes before what it looks at."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * plan.max_in_flight + 64
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as handle:
        handle.write("800")


async def _live(generator: Generator, ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, generator.stop)
    loop.set_exception_handler(lambda _loop, context: complain(str(context.get("message"))))
    await generator.run(ready)


def main(argv: list[str]) -> int:
    """The detached process: directory as its argument, secrets on its standard input, C(ready) on its output."""
    directory = argv[1]
    api_key = str(json.loads(sys.stdin.read() or "{}").get("api_key", ""))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o077)

    def ready() -> None:
        say("ready")
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)

    try:
        plan = read_plan(directory)
        _bound(plan)
        # Resolved once here, so that a wrong name is told at the start and not by each request.
        socket.getaddrinfo(plan.endpoint.host, plan.endpoint.port, type=socket.SOCK_STREAM)
        generator = Generator(plan, Journal(os.path.join(directory, RESULTS)), api_key)
    except (PlanError, _probe.ConfigurationError) as error:
        say(str(error))
        return 1
    except OSError as error:
        say(_probe.describe(error))
        return 1
    # Should all else fail, the kernel ends the process.
    signal.alarm(int(plan.max_duration + plan.patience + 30))
    try:
        asyncio.run(_live(generator, ready))
    finally:
        generator.journal.close()
    return 0
