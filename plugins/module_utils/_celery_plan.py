# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Judge the variables of role celery: workers, queues, schedules, and times that have to lie inside of each other.

The program judges its configuration itself when it is written. This finds the same before any host is changed, and says
it in the words of the inventory.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import typing as t
import zoneinfo
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,39}$")
RATE = re.compile(r"^[1-9][0-9]*/[smh]$")
ENDPOINT = re.compile(r"https?://[^/@ ]+/")
QUEUE_KEYS = {"rate", "run_timeout", "superuser_only"}
WORKER_KEYS = {"name", "queues", "concurrency", "memory_mb"}
SCHEDULE_KEYS = {
    *("name", "cron", "every", "timezone", "key", "enabled", "misfire_grace"),
    *("flow", "input", "tweaks", "globals", "session_id", "files", "output_ids"),
    *("queue", "mode", "guarantee", "timeout", "max_retries"),
}
MODES = ("auto", "background", "held")
GUARANTEES = ("once", "at_most_once", "at_least_once")
MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTHS = {name: number for number, name in enumerate(MONTH_NAMES, 1)}
DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
# Name, least and greatest value, names, and how the last value of the field may be asked for.
CRON_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, MONTHS),
    ("day of week", 0, 7, DAYS),
)
CRON_PART = re.compile(r"^(?:\*|(?P<first>[0-9a-z]+)(?:-(?P<last>[0-9a-z]+))?)(?:/(?P<step>[0-9]+))?$", re.I)
# Distance of a limit to the next one, for what has to be written down in between.
MARGIN = 30


class Problem(t.NamedTuple):
    """A variable, what is wrong with it, and what to do."""

    variable: str
    message: str
    fix: str

    def line(self) -> str:
        """Show the problem as one line."""
        return f"{self.variable}: {self.message}. Fix: {self.fix}"


# --- cron -------------------------------------------------------------------------------------------------------------


def _cron_value(word: str, least: int, greatest: int, names: Mapping[str, int]) -> int | None:
    value = names.get(word.lower(), int(word) if word.isdigit() else None)
    return value if value is not None and least <= value <= greatest else None


def _cron_part(part: str, least: int, greatest: int, names: Mapping[str, int]) -> bool:
    match = CRON_PART.match(part)
    if not match or (match["step"] is not None and int(match["step"]) < 1):
        return False
    if match["first"] is None:
        return True
    first = _cron_value(match["first"], least, greatest, names)
    last = _cron_value(match["last"], least, greatest, names) if match["last"] else greatest
    return first is not None and last is not None and first <= last


def cron_fault(line: t.Any) -> str:
    """Say what is wrong with a cron line of five fields; empty when nothing is."""
    if not isinstance(line, str):
        return f"{line!r} is not text"
    words = line.split()
    if len(words) != len(CRON_FIELDS):
        return f"'{line}' has {len(words)} fields instead of {len(CRON_FIELDS)}"
    for word, (field, least, greatest, names) in zip(words, CRON_FIELDS, strict=True):
        if field == "day of month" and word.upper() == "L":
            continue
        if not all(_cron_part(part, least, greatest, names) for part in word.split(",")):
            return f"'{word}' in '{line}' is no {field} ({least} to {greatest})"
    if words[3] == "*" or words[4] != "*":
        return ""
    # A day that none of the months has would never come.
    days = [part for part in words[2].split(",") if part.isdigit()]
    longest = max((_month_days(part) for part in words[3].split(",")), default=31)
    if days and len(days) == len(words[2].split(",")) and min(map(int, days)) > longest:
        return f"'{line}' never comes: the month has no such day"
    return ""


def _month_days(part: str) -> int:
    value = _cron_value(part, 1, 12, MONTHS) if re.fullmatch(r"[0-9a-zA-Z]+", part) else None
    return {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}.get(value or 0, 31)


def known_zone(name: t.Any) -> bool:
    """Tell whether a time zone exists. Where the controller knows none at all, nothing can be said against it."""
    zones = zoneinfo.available_timezones()
    return isinstance(name, str) and bool(name) and (not zones or name in zones)


# --- the parts --------------------------------------------------------------------------------------------------------


def _number(value: t.Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _said(entries: t.Any) -> list[dict[str, t.Any]]:
    """What a list of dictionaries says; a key without a value is one that was left out."""
    return [{key: value for key, value in entry.items() if value is not None} for entry in entries or []]


def _twice(names: Iterable[t.Any]) -> list[str]:
    counts = Counter(map(str, names))
    return sorted(name for name, count in counts.items() if count > 1)


def _unknown(entry: Mapping[str, t.Any], known: set[str]) -> str:
    return ", ".join(sorted(str(key) for key in entry if key not in known))


def _queues(values: Mapping[str, t.Any]) -> Iterator[Problem]:
    queues = values.get("celery_queues")
    if not isinstance(queues, Mapping) or not queues:
        yield Problem("celery_queues", "names no queue", "give at least one, such as {default: {}}")
        return
    for name, limits in queues.items():
        where = f"celery_queues.{name}"
        if not NAME.match(str(name)):
            yield Problem(where, "is no name of a queue", "use small letters, digits, - and _")
        entry = _said([limits])[0] if isinstance(limits, Mapping) else {}
        if limits is not None and not isinstance(limits, Mapping):
            yield Problem(where, "is not a dictionary", "write {} where there is nothing to say")
        if unknown := _unknown(entry, QUEUE_KEYS):
            yield Problem(where, f"has unknown keys ({unknown})", f"use {', '.join(sorted(QUEUE_KEYS))}")
        if entry.get("rate") and not RATE.match(str(entry["rate"])):
            yield Problem(f"{where}.rate", f"'{entry['rate']}' is no rate", "write it like 5/s, 30/m or 100/h")
        if "run_timeout" in entry and (_number(entry["run_timeout"]) or 0) <= 0:
            yield Problem(f"{where}.run_timeout", "is not above 0", "give the seconds that a run may take")
    if values.get("celery_default_queue") not in queues:
        yield Problem(
            "celery_default_queue",
            f"'{values.get('celery_default_queue')}' is none of celery_queues",
            f"use one of {', '.join(map(str, queues))}",
        )


def _form(where: str, entry: Mapping[str, t.Any], keys: set[str]) -> Iterator[Problem]:
    """What every named entry of a list has to be like."""
    if not NAME.match(str(entry.get("name", ""))):
        yield Problem(where, "has no usable name", "use small letters, digits, - and _")
    if unknown := _unknown(entry, keys):
        yield Problem(where, f"has unknown keys ({unknown})", f"use {', '.join(sorted(keys))}")


def _workers(values: Mapping[str, t.Any]) -> Iterator[Problem]:
    workers = _said(values.get("celery_workers"))
    queues = list(values.get("celery_queues") or {})
    for name in _twice(worker.get("name") for worker in workers):
        yield Problem("celery_workers", f"two workers are named '{name}'", "give each one a name of its own")
    for worker in workers:
        where = f"celery_workers[{worker.get('name')}]"
        yield from _form(where, worker, WORKER_KEYS)
        if missing := [str(queue) for queue in worker.get("queues") or [] if queue not in queues]:
            yield Problem(
                where, f"serves {', '.join(missing)}, which is none of celery_queues", "add the queue, or take it out"
            )
        if "concurrency" in worker and (_number(worker["concurrency"]) or 0) < 1:
            yield Problem(where, "has no process", "give concurrency 1 or more")


def _schedules(values: Mapping[str, t.Any]) -> Iterator[Problem]:
    schedules = _said(values.get("celery_schedules"))
    queues = list(values.get("celery_queues") or {})
    keys = list(values.get("celery_schedule_keys") or {})
    zone = values.get("celery_schedules_timezone")
    if not known_zone(zone):
        yield Problem(
            "celery_schedules_timezone", f"'{zone}' is no time zone", "use a name such as Europe/Berlin or UTC"
        )
    for name in _twice(schedule.get("name") for schedule in schedules):
        yield Problem("celery_schedules", f"two schedules are named '{name}'", "give each one a name of its own")
    for schedule in schedules:
        where = f"celery_schedules[{schedule.get('name')}]"
        yield from _form(where, schedule, SCHEDULE_KEYS)
        if not schedule.get("flow"):
            yield Problem(where, "names no flow", "give the identifier or the endpoint name of a flow")
        if ("cron" in schedule) == ("every" in schedule):
            yield Problem(where, "needs either cron or every", "say with one of them when it runs")
        elif "cron" in schedule and (fault := cron_fault(schedule["cron"])):
            yield Problem(
                f"{where}.cron", fault, "write minute, hour, day of month, month and day of week, such as 0 3 * * *"
            )
        elif "every" in schedule and ((every := _number(schedule["every"])) is None or every < 1 or every % 1):
            yield Problem(f"{where}.every", f"'{schedule['every']}' is no interval", "give 1 second or more")
        if "timezone" in schedule and not known_zone(schedule["timezone"]):
            yield Problem(
                f"{where}.timezone",
                f"'{schedule['timezone']}' is no time zone",
                "use a name such as Europe/Berlin or UTC",
            )
        if schedule.get("queue") and schedule["queue"] not in queues:
            yield Problem(
                f"{where}.queue", f"'{schedule['queue']}' is none of celery_queues", f"use one of {', '.join(queues)}"
            )
        if "timeout" in schedule and (_number(schedule["timeout"]) or 0) <= 0:
            yield Problem(f"{where}.timeout", f"'{schedule['timeout']}' is not above 0", "give seconds")
        for key, known in (("mode", MODES), ("guarantee", GUARANTEES)):
            if schedule.get(key, known[0]) not in known:
                yield Problem(f"{where}.{key}", f"'{schedule[key]}' is unknown", f"use one of {', '.join(known)}")
        if schedule.get("enabled", True) and schedule.get("key", "default") not in keys:
            yield Problem(
                f"{where}.key",
                f"'{schedule.get('key', 'default')}' is none of celery_schedule_keys",
                "add the key there, or name another one",
            )


TIMES = (
    ("celery_soft_time_limit", "celery_hard_time_limit", 1.0),
    ("celery_hard_time_limit", "celery_request_timeout", 1.0),
    ("celery_request_timeout", "celery_gateway_timeout", 0.0),
    ("celery_hard_time_limit", "celery_visibility_timeout", float(MARGIN)),
)


def _times(values: Mapping[str, t.Any]) -> Iterator[Problem]:
    names = sorted({name for inner, outer, _least in TIMES for name in (inner, outer)})
    for name in names:
        if name in values and (_number(values[name]) or 0) <= 0:
            yield Problem(name, f"'{values[name]}' is not above 0", "give seconds")
    for inner, outer, least in TIMES:
        low, high = _number(values.get(inner)), _number(values.get(outer))
        if low is not None and high is not None and high - low < least:
            wanted = f"at least {least:g} s below" if least else "not above"
            yield Problem(
                inner, f"{low:g} s has to be {wanted} {outer} ({high:g} s)", f"lower {inner} or raise {outer}"
            )


def is_fernet_key(value: t.Any) -> bool:
    """Tell whether a text is 32 bytes in URL-safe base64."""
    try:
        return isinstance(value, str) and len(base64.urlsafe_b64decode(value.encode("ascii"))) == 32
    except (binascii.Error, UnicodeEncodeError, ValueError):
        return False


def _others(values: Mapping[str, t.Any]) -> Iterator[Problem]:
    keys = [values.get("celery_seal_key"), *(values.get("celery_seal_keys_old") or [])]
    if "celery_seal_key" in values and not all(map(is_fernet_key, keys)):
        yield Problem("celery_seal_key", "is no Fernet key", "let it be generated, or give 32 bytes in URL-safe base64")
    if "celery_redis_prefix" in values and not str(values["celery_redis_prefix"]).endswith(":"):
        yield Problem("celery_redis_prefix", "does not end with a colon", "add one")
    if not isinstance(values.get("celery_settings", {}), Mapping):
        yield Problem("celery_settings", "is not a dictionary", "write {section: {key: value}}")
    if (endpoint := values.get("celery_otlp_traces_endpoint")) and not ENDPOINT.match(str(endpoint)):
        yield Problem(
            "celery_otlp_traces_endpoint",
            "an address with its path is needed, and no login in it",
            "write it such as http://127.0.0.1:4328/v1/traces, or leave it empty",
        )
    if values.get("celery_install_source") == "wheelhouse":
        if not values.get("celery_wheelhouse"):
            yield Problem(
                "celery_wheelhouse", "is empty", "name the archive, because celery_install_source is wheelhouse"
            )
        elif re.match(r"https?://", str(values["celery_wheelhouse"])) and not re.fullmatch(
            r"[0-9a-fA-F]{64}", str(values.get("celery_wheelhouse_sha256", ""))
        ):
            yield Problem(
                "celery_wheelhouse_sha256", "is no checksum", "give it, because celery_wheelhouse is an address"
            )


def problems(values: Mapping[str, t.Any]) -> list[Problem]:
    """Everything that is wrong with the variables of one host."""
    return [problem for part in (_queues, _workers, _schedules, _times, _others) for problem in part(values)]
