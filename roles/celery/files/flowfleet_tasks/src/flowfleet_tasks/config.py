# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration: one JSON file without secrets, and a directory with one file for each secret."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import re
import typing
import urllib.parse
from typing import Any

from .errors import ConfigError

CONFIG_VARIABLE = "FLOWFLEET_TASKS_CONFIG"
CONFIG_DEFAULT = "/etc/flowfleet-tasks/config.json"
CREDENTIALS_VARIABLE = "FLOWFLEET_TASKS_CREDENTIALS"
CREDENTIALS_DEFAULT = "/etc/flowfleet-tasks/credentials"

NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,39}$")
ENDPOINT = re.compile(r"^https?://[^/@ ]+/")
RATE = re.compile(r"^(?P<count>[1-9][0-9]*)/(?P<unit>[smh])$")
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}
# A worker notices within so many seconds that it has to go: the distance of the limits to each other.
MARGIN = 30


@dataclasses.dataclass(frozen=True)
class Langflow:
    """The front door."""

    url: str = ""
    connect: str = ""
    ca_file: str = "/etc/flowfleet/tls/ca.crt"
    connect_timeout: float = 5.0
    request_timeout: float = 300.0
    gateway_timeout: float = 310.0


@dataclasses.dataclass(frozen=True)
class Redis:
    """The queue Redis: broker and records."""

    host: str = "127.0.0.1"
    port: int = 16380
    db: int = 0
    username: str = "celery"
    tls: bool = True
    ca_file: str = "/etc/flowfleet/tls/ca.crt"
    prefix: str = "flowfleet:tasks:"
    timeout: float = 10.0


@dataclasses.dataclass(frozen=True)
class Queue:
    """Limits of one queue, for the whole fleet."""

    rate: str = ""
    run_timeout: float = 3600.0
    superuser_only: bool = False

    @property
    def interval(self) -> float:
        """Seconds between two starts; 0 is no limit."""
        match = RATE.match(self.rate)
        return UNIT_SECONDS[match["unit"]] / int(match["count"]) if match else 0.0


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds. The order of these is checked, see L(check)."""

    soft_limit: float = 270.0
    hard_limit: float = 285.0
    visibility_timeout: float = 330.0
    slice: float = 120.0
    held_below: float = 30.0
    lease: float = 30.0
    result_expires: int = 86400
    dead_expires: int = 604800


@dataclasses.dataclass(frozen=True)
class Retry:
    """How often after an execution failed, how far apart, and how long while none can begin."""

    max: int = 5
    backoff: float = 2.0
    backoff_max: float = 120.0
    patience: float = 900.0


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a caller may ask for."""

    body_bytes: int = 1024 * 1024
    result_bytes: int = 4 * 1024 * 1024
    pending_per_user: int = 1000
    batch_size: int = 1000


@dataclasses.dataclass(frozen=True)
class Api:
    """Where the API listens. Without a certificate it speaks plain HTTP, for a front door on the same host."""

    host: str = "127.0.0.1"
    port: int = 8443
    tls_cert: str = ""
    tls_key: str = ""
    auth_cache: float = 30.0
    path: str = "/tasks/v1"


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Where Prometheus asks."""

    host: str = "127.0.0.1"
    port: int = 9540
    tls: bool = False
    max_flows: int = 50


@dataclasses.dataclass(frozen=True)
class Traces:
    """Where spans go, OTLP over HTTP (empty: nowhere), whom to trust there, and this host's name in them.

    They are sent every so many seconds, an attempt takes no longer than its timeout, so many wait in a process, and so
    many seconds are left for them when it ends.
    """

    endpoint: str = ""
    ca_file: str = ""
    host: str = ""
    interval: float = 1.0
    timeout: float = 5.0
    queue_size: int = 2048
    flush: float = 3.0


@dataclasses.dataclass(frozen=True)
class Beat:
    """The leader: how often it looks, and how long its lock lives without it."""

    tick: float = 1.0
    lock: float = 5.0


@dataclasses.dataclass(frozen=True)
class Recovery:
    """The nets below a run. Only a control experiment takes them away."""

    acks_late: bool = True
    sweep: float = 5.0
    queued_check: float = 20.0


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that is not a secret."""

    langflow: Langflow = dataclasses.field(default_factory=Langflow)
    redis: Redis = dataclasses.field(default_factory=Redis)
    queues: dict[str, Queue] = dataclasses.field(default_factory=lambda: {"default": Queue()})
    default_queue: str = "default"
    times: Times = dataclasses.field(default_factory=Times)
    retry: Retry = dataclasses.field(default_factory=Retry)
    limits: Limits = dataclasses.field(default_factory=Limits)
    api: Api = dataclasses.field(default_factory=Api)
    metrics: Metrics = dataclasses.field(default_factory=Metrics)
    traces: Traces = dataclasses.field(default_factory=Traces)
    beat: Beat = dataclasses.field(default_factory=Beat)
    recovery: Recovery = dataclasses.field(default_factory=Recovery)
    schedules_file: str = "/etc/flowfleet-tasks/schedules.json"
    state_dir: str = "/run/flowfleet-tasks"


# --- reading ----------------------------------------------------------------------------------------------------------


def _scalar(value: Any, wanted: type, where: str, faults: list[str]) -> Any:
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
        return value
    faults.append(f"{where} has to be of type {wanted.__name__}, not {type(value).__name__}")
    return wanted()


def _section(kind: type, data: Any, where: str, faults: list[str]) -> Any:
    """Build one dataclass from a dictionary; every key that it does not know is a fault."""
    if not isinstance(data, dict):
        faults.append(f"{where or 'the file'} has to be an object")
        return kind()
    hints = typing.get_type_hints(kind)
    fields = {}
    for key, value in data.items():
        name = f"{where}.{key}" if where else key
        if key not in hints:
            faults.append(f"{name} is unknown")
        elif key == "queues":
            fields[key] = _queues(value, faults)
        elif dataclasses.is_dataclass(hints[key]):
            fields[key] = _section(hints[key], value, name, faults)
        else:
            fields[key] = _scalar(value, hints[key], name, faults)
    return kind(**fields)


def _queues(data: Any, faults: list[str]) -> dict[str, Queue]:
    if not isinstance(data, dict) or not data:
        faults.append("queues has to name at least one queue")
        return {"default": Queue()}
    faults.extend(f"queue {name!r} has to match {NAME.pattern}" for name in data if not NAME.match(name))
    return {name: _section(Queue, value, f"queues.{name}", faults) for name, value in data.items()}


def _positive(config: Config) -> list[str]:
    values = {
        "langflow.connect_timeout": config.langflow.connect_timeout,
        "times.slice": config.times.slice,
        "times.held_below": config.times.held_below,
        "times.result_expires": config.times.result_expires,
        "times.dead_expires": config.times.dead_expires,
        "retry.backoff": config.retry.backoff,
        "retry.backoff_max": config.retry.backoff_max,
        "limits.body_bytes": config.limits.body_bytes,
        "limits.result_bytes": config.limits.result_bytes,
        "limits.pending_per_user": config.limits.pending_per_user,
        "limits.batch_size": config.limits.batch_size,
        "beat.tick": config.beat.tick,
        "traces.interval": config.traces.interval,
        "traces.timeout": config.traces.timeout,
        "traces.queue_size": config.traces.queue_size,
        "traces.flush": config.traces.flush,
        **{f"queues.{name}.run_timeout": queue.run_timeout for name, queue in config.queues.items()},
    }
    return [f"{name} has to be above 0" for name, value in values.items() if value <= 0]


def _ordered(config: Config) -> list[str]:
    """Whether each limit lies inside of the next one, so that the innermost reports the clean error."""
    times, langflow = config.times, config.langflow
    chain = [
        ("times.slice", times.slice),
        ("times.soft_limit", times.soft_limit),
        ("times.hard_limit", times.hard_limit),
        ("langflow.request_timeout", langflow.request_timeout),
    ]
    faults = [
        f"{inner} ({low:g} s) has to be below {outer} ({high:g} s)"
        for (inner, low), (outer, high) in zip(chain, chain[1:], strict=False)
        if low >= high
    ]
    if langflow.request_timeout > langflow.gateway_timeout:
        faults.append(
            f"langflow.request_timeout ({langflow.request_timeout:g} s) must not exceed "
            f"langflow.gateway_timeout ({langflow.gateway_timeout:g} s)"
        )
    if times.visibility_timeout < times.hard_limit + MARGIN:
        faults.append(
            f"times.visibility_timeout ({times.visibility_timeout:g} s) has to be at least {MARGIN} s above "
            f"times.hard_limit ({times.hard_limit:g} s), or Redis hands out a task that is still running"
        )
    if times.held_below >= times.soft_limit:
        faults.append("times.held_below has to be below times.soft_limit")
    if times.lease < 3:
        faults.append("times.lease has to be at least 3 s")
    if config.beat.lock < 3 * config.beat.tick:
        faults.append("beat.lock has to be at least three times beat.tick")
    return faults


def check(config: Config) -> list[str]:
    """Return every reason why this configuration cannot work."""
    faults = _positive(config) + _ordered(config)
    parts = urllib.parse.urlsplit(config.langflow.url)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        faults.append("langflow.url has to be the https:// address of the front door")
    if config.default_queue not in config.queues:
        faults.append(f"default_queue {config.default_queue!r} is none of the queues")
    faults.extend(
        f"queues.{name}.rate {queue.rate!r} has to look like 5/s, 30/m or 100/h"
        for name, queue in config.queues.items()
        if queue.rate and not RATE.match(queue.rate)
    )
    if config.traces.endpoint and not ENDPOINT.match(config.traces.endpoint):
        faults.append(
            "traces.endpoint has to be an address with its path, such as http://127.0.0.1:4328/v1/traces, "
            "and no login in it"
        )
    if not config.redis.prefix.endswith(":"):
        faults.append("redis.prefix has to end with a colon")
    if not config.api.path.startswith("/") or config.api.path.endswith("/"):
        faults.append("api.path has to start with a slash and to end without one")
    return faults


def parse(data: Any) -> Config:
    """Build and check the configuration that I(data) describes."""
    faults: list[str] = []
    config: Config = _section(Config, data, "", faults)
    if not faults:
        faults = check(config)
    if faults:
        raise ConfigError(faults)
    return config


def load(path: str | os.PathLike[str] | None = None) -> Config:
    """Read the configuration file."""
    place = pathlib.Path(path or os.environ.get(CONFIG_VARIABLE) or CONFIG_DEFAULT)
    try:
        data = json.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{place}: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigError([f"{place} is not JSON: {error}"]) from error
    return parse(data)


# --- secrets ----------------------------------------------------------------------------------------------------------


def credentials_directory() -> pathlib.Path:
    """Where the secrets are: what systemd gives, what the caller says, or the usual place."""
    place = os.environ.get("CREDENTIALS_DIRECTORY") or os.environ.get(CREDENTIALS_VARIABLE) or CREDENTIALS_DEFAULT
    return pathlib.Path(place)


@functools.lru_cache(maxsize=32)
def _read(path: pathlib.Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def secret(name: str) -> str:
    """Return one secret; a secret that is missing is a fault of the configuration."""
    path = credentials_directory() / name
    try:
        return _read(path)
    except OSError as error:
        raise ConfigError([f"the secret {name} cannot be read ({path}): {error.strerror}"]) from error
