# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The beat: one leader among several hosts fires schedules, wakes what waits and revives what lost its worker.

It is a scheduler for Celery's own beat. Two things make it safe to have several: a lock with an end, and identifiers of
scheduled runs that follow from schedule and due time, so that even two leaders at once make one run.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import pathlib
import socket
import time
import uuid
from typing import Any

import redis
from celery import Celery, beat
from redis.exceptions import LockError
from redis.lock import Lock

from . import config, notify, schedules, spans, submit
from .app import Application
from .errors import ConfigError, RequestError
from .front import User
from .metrics import oldest_sent
from .store import NAMESPACE

log = logging.getLogger(__name__)

UTC = datetime.UTC
TIDY_EVERY = 600.0
# A look that comes before a due time is wasted, so it comes so much later.
SOONEST = 0.02


def scheduled_run(name: str, due: datetime.datetime) -> str:
    """Return the identifier of the run that a schedule causes at a due time."""
    return str(uuid.uuid5(NAMESPACE, f"schedule/{name}/{int(due.timestamp())}"))


class Leader:
    """What the beat does while it holds the lock."""

    def __init__(self, application: Application) -> None:
        """Take the application; nothing is read yet."""
        self.application = application
        self.settings = application.settings
        self.store = application.store
        self.name = f"{socket.gethostname()}/{os.getpid()}"
        self.leading = False
        self._lock: Lock | None = None
        self._schedules: list[schedules.Schedule] = []
        self._seen: tuple[int, int] | None = None
        self._users: dict[str, User] = {}
        self._flows: dict[tuple[str, str], tuple[str, str]] = {}
        self._swept = self._tidied = 0.0

    # --- the lock ---------------------------------------------------------------------------------------------------

    def lead(self) -> bool:
        """Take or keep the lock; return whether this beat is the leader now."""
        if self._lock is None:
            self._lock = Lock(
                self.store.client, self.store.key("leader"), timeout=self.settings.beat.lock, thread_local=False
            )
        try:
            if self.leading:
                self._lock.reacquire()
            else:
                self.leading = bool(self._lock.acquire(blocking=False, token=f"{self.name}/{uuid.uuid4()}"))
                if self.leading:
                    log.info("this beat is the leader now: %s", self.name)
        except LockError:
            log.warning("this beat is no longer the leader: %s", self.name)
            self.leading = False
        return self.leading

    def resign(self) -> None:
        """Let the next one take over at once."""
        if self._lock is not None and self.leading:
            self.leading = False
            try:
                self._lock.release()
            except (LockError, redis.RedisError):
                log.info("the lock ends by itself")

    # --- schedules --------------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Read the schedules again if the file has changed; a bad file changes nothing."""
        path = pathlib.Path(self.settings.schedules_file)
        try:
            status = path.stat()
            seen = (status.st_mtime_ns, status.st_ino)
        except OSError:
            seen = (0, 0)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._schedules = schedules.load(str(path), self.settings)
        except ConfigError as error:
            log.error("the schedules are left as they were: %s", error)
            return
        self._flows.clear()
        log.info("%d schedules are read", len(self._schedules))
        listed = [self._describe(schedule) for schedule in self._schedules]
        self.store.client.set(self.store.key("schedules"), json.dumps(listed))

    @staticmethod
    def _describe(schedule: schedules.Schedule) -> dict[str, Any]:
        shown = {name: getattr(schedule, name) for name in ("name", "cron", "every", "timezone", "enabled")}
        return {**shown, "flow": schedule.body.get("flow"), "queue": schedule.body.get("queue", "")}

    def pause(self, now: datetime.datetime) -> float:
        """Return the seconds until the next look: a tick, or less when something is due before that."""
        tick = self.settings.beat.tick
        due = [moment for schedule in self._schedules if schedule.enabled and (moment := schedule.next(now))]
        if not self.leading or not due:
            return tick
        return max(SOONEST, min(tick, (min(due) - now).total_seconds() + SOONEST))

    def fire_due(self, now: datetime.datetime) -> int:
        """Fire what is due; return how many runs were made."""
        return sum(self._fire(schedule, now) for schedule in self._schedules if schedule.enabled)

    def _fire(self, schedule: schedules.Schedule, now: datetime.datetime) -> int:
        key = self.store.key("schedule", schedule.name)
        last = self.store.client.hget(key, "last")
        if last is None:
            # Seen for the first time: what lies in the past was never promised.
            self.store.client.hset(key, "last", f"{now.timestamp():.0f}")
            return 0
        due = schedule.due(datetime.datetime.fromtimestamp(float(last), UTC), now)
        if not due:
            return 0
        fired = missed = 0
        for moment in due:
            late = (now - moment).total_seconds()
            update: dict[Any, Any] = {"last": f"{moment.timestamp():.0f}"}
            if late > schedule.misfire_grace:
                missed += 1
            elif self._make(schedule, moment):
                fired += 1
                update.update(fired=f"{time.time():.3f}", late=f"{late:.3f}")
            self.store.client.hset(key, mapping=update)
        if missed:
            log.warning("schedule %s: %d due times were missed", schedule.name, missed)
            self.store.client.hincrby(key, "missed", missed)
        return fired

    def _make(self, schedule: schedules.Schedule, due: datetime.datetime) -> int:
        """Make the run of one due time, if no other leader has."""
        with self.application.spans.submission(None, {spans.SCHEDULE: schedule.name}) as span:
            try:
                made = self._make_in(span, schedule, due)
            except _NotNow:
                span.drop()
                raise
            if not made:
                # Another leader's.
                span.drop()
            return made

    def _make_in(self, span: spans.Span, schedule: schedules.Schedule, due: datetime.datetime) -> int:
        run_id = scheduled_run(schedule.name, due)
        seal, traces = self.application.seal, (span.traceparent, "")
        try:
            api_key = self._key(schedule.key)
            user = self._user(api_key)
            plan = submit.plan(schedule.body, self.settings, user, traces)
            plan = submit.with_flow(plan, self._flow(api_key, str(schedule.body["flow"])))
        except (RequestError, ConfigError) as error:
            # Fired again with the next tick, until the grace is over.
            log.error("schedule %s cannot fire: %s", schedule.name, error)
            self.store.client.hset(self.store.key("schedule", schedule.name), "error", str(error)[:500])
            raise _NotNow from error
        span.tell(spans.described({**plan.fields, "id": run_id}))
        stamp = due.strftime("%Y-%m-%dT%H:%M:%SZ")
        _found, new = submit.create(
            self.store, seal, user, api_key, plan, run_id=run_id, limited=False, schedule=schedule.name, due=stamp
        )
        self.store.client.hdel(self.store.key("schedule", schedule.name), "error")
        if new:
            record = self.store.get(run_id)
            if record:
                self.application.publish(record)
        return int(new)

    @staticmethod
    def _key(name: str) -> str:
        try:
            keys = json.loads(config.secret("schedule_keys"))
            return str(keys[name])
        except (ValueError, KeyError, TypeError):
            raise ConfigError([f"the secret schedule_keys has no key {name!r}"]) from None

    def _user(self, api_key: str) -> User:
        mark = submit.fingerprint(api_key)
        if mark not in self._users:
            self._users[mark] = self.application.front.user(api_key)
        return self._users[mark]

    def _flow(self, api_key: str, wanted: str) -> tuple[str, str]:
        place = (submit.fingerprint(api_key), wanted)
        if place not in self._flows:
            self._flows[place] = self.application.front.flow(api_key, wanted)
        return self._flows[place]

    # --- looking after runs -----------------------------------------------------------------------------------------

    def sweep(self) -> int:
        """Send a message for every run that needs one; return how many."""
        sent = 0
        heads: dict[str, float | None] = {}
        for run_id in self.store.overdue():
            verdict, *more = self.store.look(run_id)
            record = self.store.get(run_id)
            if record is None or verdict == "nothing":
                continue
            if verdict == "check" and not self._lost(more[0], more[1], heads):
                continue
            if verdict == "check":
                log.warning("run %s: its message is gone, another one is sent", run_id)
            elif more[0] == "revived":
                log.warning("run %s: its worker is gone, another one goes on", run_id)
            self.application.publish(record, begun=bool(record.get("sent")) or more[0] == "revived")
            sent += 1
        return sent

    def _lost(self, published: str, queue: str, heads: dict[str, float | None]) -> bool:
        """Whether the message of a queued run is no longer in the queue: all that are there are younger."""
        if queue not in heads:
            heads[queue] = oldest_sent(self.store, queue)
        head = heads[queue]
        return head is None or head > float(published) + 5

    def unfold(self) -> None:
        """Send another message for batches that were never unfolded."""
        for batch_id in self.store.unfolded(60):
            batch = self.store.batch(batch_id)
            if batch:
                self.application.publish_batch(batch_id, batch["queue"])
                self.store.unfold_again(batch_id)

    def tick(self) -> None:
        """Do everything once."""
        if not self.lead():
            return
        self._reload()
        for schedule in self._schedules:
            if schedule.enabled:
                try:
                    self._fire(schedule, datetime.datetime.now(UTC))
                except _NotNow:
                    continue
        self.sweep()
        now = time.monotonic()
        if self.settings.recovery.sweep and now - self._swept > self.settings.recovery.sweep:
            self._swept = now
            self.unfold()
        if now - self._tidied > TIDY_EVERY:
            self._tidied = now
            self.store.tidy()
        self.store.client.set(self.store.key("beat"), f"{time.time():.3f}")


class _NotNow(Exception):
    """A schedule could not fire yet; its time is not over."""


class LeaderScheduler(beat.Scheduler):  # type: ignore[misc]
    """What Celery's beat calls in its loop."""

    def __init__(self, app: Celery, *args: Any, **kwargs: Any) -> None:
        """Find the application that this Celery application belongs to."""
        self.leader = Leader(app.flowfleet)
        super().__init__(app, *args, **kwargs)

    def setup_schedule(self) -> None:
        """Celery's own entries are not used: the schedules are in the file."""

    def tick(self, *_args: Any, **_kwargs: Any) -> float:
        """Look once; trouble with Redis ends the leadership, not the process."""
        try:
            self.leader.tick()
            notify.ready()
        except (redis.RedisError, OSError) as error:
            self.leader.leading = False
            log.error("the beat cannot work now: %s", error)
        notify.alive()
        return self.leader.pause(datetime.datetime.now(UTC))

    def sync(self) -> None:
        """There is nothing to write."""

    def close(self) -> None:
        """Let the next leader take over."""
        self.leader.resign()
