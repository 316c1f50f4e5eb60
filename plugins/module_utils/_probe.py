# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Ask a service whether it is well, and believe it only after several good answers in a row."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import socket
import ssl
import statistics
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _command

TYPES = ("http", "tcp", "command")
BODY_LIMIT = 1024 * 1024
OUTPUT_LIMIT = 200
SHORTEST_REDACTED = 6
REDACTED = "********"

GATE_OPTIONS: dict[str, dict[str, Any]] = {
    "type": {"type": "str", "choices": list(TYPES), "default": "http"},
    "url": {"type": "str"},
    "status": {"type": "list", "elements": "int", "default": [200]},
    "host": {"type": "str", "default": "127.0.0.1"},
    "port": {"type": "int"},
    "tls": {"type": "bool", "default": False},
    "ca_path": {"type": "path"},
    "server_name": {"type": "str"},
    "argv": {"type": "list", "elements": "str"},
    "environment": {"type": "dict", "no_log": True},
    "successes": {"type": "int", "default": 3},
    "interval": {"type": "float", "default": 1.0},
    "timeout": {"type": "float", "default": 300.0},
    "request_timeout": {"type": "float", "default": 3.0},
}


class ProbeError(Exception):
    """The service did not answer as it should; the message says how."""


class ConfigurationError(Exception):
    """The probe itself cannot work, so that waiting is pointless."""


@dataclasses.dataclass(frozen=True)
class Gate:
    """What counts as a good answer, and how many of them are needed by when."""

    type: str = "http"
    url: str | None = None
    status: Sequence[int] = (200,)
    host: str = "127.0.0.1"
    port: int | None = None
    tls: bool = False
    ca_path: str | None = None
    server_name: str | None = None
    argv: Sequence[str] | None = None
    environment: Mapping[str, Any] | None = None
    successes: int = 3
    interval: float = 1.0
    timeout: float = 300.0
    request_timeout: float = 3.0

    def __post_init__(self) -> None:
        missing = {"http": self.url, "tcp": self.port, "command": self.argv}
        names = {"http": "url", "tcp": "port", "command": "argv"}
        if self.type not in TYPES:
            raise ConfigurationError(f"type must be one of {', '.join(TYPES)}, got {self.type!r}")
        if not missing[self.type]:
            raise ConfigurationError(f"a gate of type {self.type} needs {names[self.type]}")
        if self.type == "http":
            parts = urllib.parse.urlsplit(self.url or "")
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ConfigurationError(f"url must start with http:// or https:// and name a host, got {self.url!r}")
            if parts.username is not None:
                raise ConfigurationError("url must not contain a user or password")
        if self.port is not None and not 0 < self.port < 65536:
            raise ConfigurationError(f"port must be between 1 and 65535, got {self.port}")
        if self.successes < 1:
            raise ConfigurationError("successes must be 1 or more")
        for name in ("timeout", "request_timeout"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} must be more than 0")
        if self.interval < 0:
            raise ConfigurationError("interval must not be negative")


def make_gate(params: Mapping[str, Any]) -> Gate:
    """A gate from the validated options of a module."""
    return Gate(**{name: params[name] for name in GATE_OPTIONS})


def hide_environment(module: Any, params: dict[str, Any] | None) -> None:
    """Keep the environment out of the result, without turning each C(1) and C(on) of the result into asterisks."""
    if params and params.get("environment"):
        params["environment"] = dict.fromkeys(params["environment"], REDACTED)
        module.no_log_values = {value for value in module.no_log_values if len(value) >= SHORTEST_REDACTED}


@dataclasses.dataclass
class Verdict:
    """What the gate saw."""

    healthy: bool = False
    probes: int = 0
    consecutive: int = 0
    duration: float = 0.0
    last_failure: str | None = None
    latencies: list[float] = dataclasses.field(default_factory=list)

    def latency(self) -> dict[str, float] | None:
        """Smallest, median and largest time to a good answer, in milliseconds."""
        if not self.latencies:
            return None
        numbers = {"min": min(self.latencies), "median": statistics.median(self.latencies), "max": max(self.latencies)}
        return {name: round(seconds * 1000, 1) for name, seconds in numbers.items()}

    def result(self) -> dict[str, Any]:
        """The part of a module's result that describes the gate."""
        return {"probes": self.probes, "latency_ms": self.latency(), "last_failure": self.last_failure}


def tls_context(ca_path: str | None) -> ssl.SSLContext:
    """Verify certificate and name, always."""
    try:
        return ssl.create_default_context(cafile=ca_path)
    except (OSError, ssl.SSLError) as exc:
        why = getattr(exc, "strerror", None) or exc
        raise ConfigurationError(f"cannot read certificates from {ca_path}: {why}") from None


def describe(exc: BaseException) -> str:
    """A short reason for people."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {exc.verify_message}"
    if isinstance(exc, (socket.timeout, TimeoutError)):
        return "no answer in time"
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused"
    if isinstance(exc, ConnectionResetError):
        return "connection reset"
    if isinstance(exc, socket.gaierror):
        return "name cannot be resolved"
    if isinstance(exc, http.client.IncompleteRead):
        return "answer was cut off"
    if isinstance(exc, http.client.RemoteDisconnected):
        return "connection closed without an answer"
    if isinstance(exc, http.client.HTTPException):
        return f"answer is not valid HTTP ({type(exc).__name__})"
    return str(getattr(exc, "strerror", None) or exc or type(exc).__name__)


@contextlib.contextmanager
def _cut_off(connection: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """End all traffic after I(seconds), however slowly the other side drips: a socket's own timeout starts anew."""
    expired = threading.Event()

    def cut() -> None:
        expired.set()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(seconds, 0.001), cut)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


@contextlib.contextmanager
def _connected(host: str, port: int, gate: Gate, context: ssl.SSLContext | None) -> Iterator[socket.socket]:
    """A connection that lives for C(request_timeout) at most, with TLS if there is a context."""
    deadline = time.monotonic() + gate.request_timeout
    plain = socket.create_connection((host, port), timeout=gate.request_timeout)
    connection = plain
    try:
        with _cut_off(plain, deadline - time.monotonic()) as expired:
            try:
                if context is not None:
                    connection = context.wrap_socket(plain, server_hostname=gate.server_name or host)
                yield connection
            except (OSError, http.client.HTTPException) as exc:
                if expired.is_set():
                    raise ProbeError(f"no complete answer within {gate.request_timeout:g} s") from exc
                raise
            if expired.is_set():
                raise ProbeError(f"no complete answer within {gate.request_timeout:g} s")
    finally:
        connection.close()


def _probe_http(gate: Gate, context: ssl.SSLContext | None) -> None:
    parts = urllib.parse.urlsplit(gate.url or "")
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    name = gate.server_name or host
    default = port in (80, 443)
    with _connected(host, port, gate, context) as connection:
        client = http.client.HTTPConnection(host, port, timeout=gate.request_timeout)
        client.sock = connection
        client.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
        shown = f"[{name}]" if ":" in name else name
        for header, value in (
            ("Host", shown if default else f"{shown}:{port}"),
            ("User-Agent", "flowfleet-health-gate"),
            ("Accept", "*/*"),
            ("Connection", "close"),
        ):
            client.putheader(header, value)
        client.endheaders()
        response = client.getresponse()
        left = BODY_LIMIT
        while left > 0 and (chunk := response.read(min(left, 65536))):
            left -= len(chunk)
        if left > 0 and response.length:
            raise ProbeError("answer was cut off")
        status = response.status
    if status not in gate.status:
        raise ProbeError(f"status {status}, expected {' or '.join(str(number) for number in gate.status)}")


def _probe_tcp(gate: Gate, context: ssl.SSLContext | None) -> None:
    with _connected(gate.host, gate.port or 0, gate, context):
        pass


def _probe_command(gate: Gate, _context: ssl.SSLContext | None) -> None:
    argv = list(gate.argv or ())
    extra = {str(key): str(value) for key, value in (gate.environment or {}).items()}
    try:
        done = _command.run(argv, timeout=gate.request_timeout, environment=extra)
    except _command.CommandMissing:
        raise ProbeError(f"{argv[0]} is not installed") from None
    except _command.CommandTimeout as exc:
        raise ProbeError(str(exc)) from None
    if done.code != 0:
        said = (done.err or done.out)[-OUTPUT_LIMIT:]
        for value in sorted(extra.values(), key=len, reverse=True):
            if len(value) >= SHORTEST_REDACTED:
                said = said.replace(value, REDACTED)
        raise ProbeError(f"{argv[0]} ended with {done.code}{f': {said}' if said else ''}")


PROBES: dict[str, Callable[[Gate, ssl.SSLContext | None], None]] = {
    "http": _probe_http,
    "tcp": _probe_tcp,
    "command": _probe_command,
}


def prepare(gate: Gate) -> Callable[[], None]:
    """A function that asks once and raises C(ProbeError) unless the answer is good."""
    secure = gate.tls if gate.type == "tcp" else gate.type == "http" and (gate.url or "").startswith("https:")
    context = tls_context(gate.ca_path) if secure else None

    def probe() -> None:
        try:
            PROBES[gate.type](gate, context)
        except (OSError, http.client.HTTPException) as exc:
            raise ProbeError(describe(exc)) from exc

    return probe


def watch(
    gate: Gate,
    *,
    still_same: Callable[[], str | None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Verdict:
    """Probe until C(successes) good answers came in a row or the deadline passes.

    I(still_same) is asked after each probe. What it returns ends the watch: no later answer can make up for it.
    """
    verdict = Verdict()
    probe = prepare(gate)
    start = clock()
    deadline = start + gate.timeout
    while True:
        began = clock()
        verdict.probes += 1
        try:
            probe()
        except ProbeError as exc:
            verdict.consecutive = 0
            verdict.last_failure = str(exc)
        else:
            verdict.consecutive += 1
            verdict.latencies.append(clock() - began)
        broken = still_same() if still_same is not None else None
        if broken is not None:
            verdict.last_failure = broken
            break
        if verdict.consecutive >= gate.successes:
            verdict.healthy = True
            break
        if clock() + gate.interval > deadline:
            break
        sleep(gate.interval)
    verdict.duration = clock() - start
    return verdict


def explain(gate: Gate, verdict: Verdict) -> str:
    """Why the gate stayed shut."""
    what = gate.url or (f"{gate.host}:{gate.port}" if gate.port else (gate.argv or ["command"])[0])
    return (
        f"{what}: {verdict.consecutive} of {gate.successes} good answers in a row after {verdict.probes} probes"
        f" in {verdict.duration:.1f} s; last failure: {verdict.last_failure or 'none, the time was too short'}"
    )
