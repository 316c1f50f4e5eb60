# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Schedules: data from a file, and the times at which they are due."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import zoneinfo
from collections.abc import Iterator
from typing import Any

import cronsim

from . import config, submit
from .errors import ConfigError, RequestError
from .front import User

UTC = datetime.UTC
OWN = {"name", "cron", "every", "timezone", "key", "enabled", "misfire_grace"}
# However long nobody looked: so many due times of one schedule are counted, the older ones are not.
MOST_MISSED = 1000


@dataclasses.dataclass(frozen=True)
class Schedule:
    """One schedule: a cron line in its time zone, or a number of seconds."""

    name: str
    cron: str
    every: int
    timezone: str
    key: str
    enabled: bool
    misfire_grace: float
    body: dict[str, Any]

    def after(self, moment: datetime.datetime) -> Iterator[datetime.datetime]:
        """Yield the due times after I(moment), each the same for whoever computes it."""
        if self.every:
            seconds = int(moment.timestamp()) // self.every * self.every
            while True:
                seconds += self.every
                yield datetime.datetime.fromtimestamp(seconds, UTC)
        local = moment.astimezone(zoneinfo.ZoneInfo(self.timezone))
        for due in cronsim.CronSim(self.cron, local):
            yield due.astimezone(UTC)

    def due(self, last: datetime.datetime, now: datetime.datetime) -> list[datetime.datetime]:
        """Return the due times after I(last) up to I(now)."""
        found: list[datetime.datetime] = []
        for moment in self.after(last):
            if moment > now or len(found) == MOST_MISSED:
                break
            found.append(moment)
        return found

    def next(self, now: datetime.datetime) -> datetime.datetime | None:
        """Return the next due time."""
        return next(self.after(now), None)


def _zone(name: Any, where: str, faults: list[str]) -> str:
    try:
        return zoneinfo.ZoneInfo(str(name)).key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        faults.append(f"{where}: there is no time zone {name!r}")
        return "UTC"


def _times(entry: dict[str, Any], zone: str, where: str, faults: list[str]) -> None:
    cron, every = entry.get("cron"), entry.get("every")
    if bool(cron) == bool(every):
        faults.append(f"{where}: has to have either cron or every")
    elif cron:
        try:
            next(cronsim.CronSim(str(cron), datetime.datetime.now(zoneinfo.ZoneInfo(zone))))
        except cronsim.CronSimError as error:
            faults.append(f"{where}: {cron!r} is no cron line: {error}")
        except StopIteration:
            faults.append(f"{where}: {cron!r} never comes true")
    elif not isinstance(every, int) or isinstance(every, bool) or every < 1:
        faults.append(f"{where}: every has to be a number of seconds from 1 on")


def _one(entry: Any, zone: str, settings: config.Config, faults: list[str]) -> Schedule | None:
    before = len(faults)
    if not isinstance(entry, dict) or not config.NAME.match(str(entry.get("name", ""))):
        faults.append(f"a schedule has to have a name that matches {config.NAME.pattern}: {entry!r:.80}")
        return None
    where = f"schedule {entry['name']}"
    own_zone = _zone(entry.get("timezone", zone), where, faults)
    _times(entry, own_zone, where, faults)
    body = {name: value for name, value in entry.items() if name not in OWN}
    try:
        submit.plan(body, settings, User("", "", True), ("", ""))
    except RequestError as error:
        faults.append(f"{where}: {error.message}")
    grace = entry.get("misfire_grace", 120)
    if not isinstance(grace, int | float) or isinstance(grace, bool) or grace < 0:
        faults.append(f"{where}: misfire_grace has to be a number of seconds")
    if not isinstance(entry.get("enabled", True), bool):
        faults.append(f"{where}: enabled has to be true or false")
    if len(faults) > before:
        return None
    return Schedule(
        name=str(entry["name"]),
        cron=str(entry.get("cron") or ""),
        every=int(entry.get("every") or 0),
        timezone=own_zone,
        key=str(entry.get("key", "default")),
        enabled=bool(entry.get("enabled", True)),
        misfire_grace=float(grace),
        body=body,
    )


def parse(data: Any, settings: config.Config) -> list[Schedule]:
    """Build the schedules; every fault is named."""
    faults: list[str] = []
    entries = data.get("schedules") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(entries, list):
        raise ConfigError(["the schedules have to be an object with a list `schedules`"])
    faults.extend(f"{name} is unknown" for name in sorted(set(data) - {"timezone", "schedules"}))
    zone = _zone(data.get("timezone", "UTC"), "timezone", faults)
    found = [made for entry in entries if (made := _one(entry, zone, settings, faults))]
    names = [schedule.name for schedule in found]
    faults.extend(
        f"schedule {name}: the name is used twice" for name in sorted({n for n in names if names.count(n) > 1})
    )
    if faults:
        raise ConfigError(faults)
    return found


def load(path: str, settings: config.Config) -> list[Schedule]:
    """Read the schedules file; no file is no schedules."""
    try:
        data = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigError([f"{path} is not JSON: {error}"]) from error
    return parse(data, settings)
