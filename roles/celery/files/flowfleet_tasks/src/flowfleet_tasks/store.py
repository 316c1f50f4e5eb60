# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The records of runs and batches in Redis: the one truth about what a run is and who owns it."""

from __future__ import annotations

import dataclasses
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from . import config as configuration
from . import scripts
from .errors import Fenced
from .names import FINAL

MOST_LOSSES = 5
NAMESPACE = uuid.UUID("b7d6a3c2-5f8e-5c0a-9a55-1f6d2f0e7c11")
# What the API shows of a record, as text and as numbers.
TEXTS = (
    *("flow_name", "queue", "mode", "guarantee", "reason", "message", "batch", "schedule", "due"),
    *("replay_of", "replayed", "job", "trace_id"),
)
NUMBERS = ("created", "started", "ended", "attempt", "timeout", "wake")


def tls_options(settings: configuration.Redis) -> dict[str, Any]:
    """Return what a TLS connection to Redis needs; names are always verified."""
    return {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_ca_certs": settings.ca_file,
        "ssl_check_hostname": True,
    }


def connect(settings: configuration.Redis, *, retries: int = 1) -> redis.Redis:
    """Return a client; it connects when it is used, and again after a failover.

    Every script may be run twice (the second time tells that the first one worked), so a worker repeats a command whose
    answer got lost for as long as a failover takes.
    """
    options: dict[str, Any] = {}
    if settings.tls:
        options = {"ssl": True, **tls_options(settings)}
    return redis.Redis(
        host=settings.host,
        port=settings.port,
        db=settings.db,
        username=settings.username or None,
        password=configuration.secret("redis_password") or None,
        decode_responses=True,
        socket_timeout=settings.timeout,
        socket_connect_timeout=settings.timeout,
        socket_keepalive=True,
        health_check_interval=15,
        retry=Retry(ExponentialWithJitterBackoff(base=0.2, cap=3), retries),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, redis.BusyLoadingError],
        **options,
    )


@dataclasses.dataclass(frozen=True)
class Claim:
    """The answer to a worker that wants a run."""

    verdict: str
    token: str = ""
    now: float = 0.0
    until: float = 0.0
    # How the run ended, if this attempt to own it ended it, and why.
    state: str = ""
    reason: str = ""
    record: dict[str, str] = dataclasses.field(default_factory=dict)


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


class Store:
    """All reads and writes of records."""

    def __init__(self, settings: configuration.Config, *, retries: int = 1) -> None:
        """Prepare the scripts; nothing is sent yet."""
        self.settings = settings
        # Its types cannot tell an answer from the promise of one.
        self.client: Any = connect(settings.redis, retries=retries)
        self.prefix = settings.redis.prefix
        self._retries = retries
        self._scripts = {
            name: self.client.register_script(scripts.PRELUDE + getattr(scripts, name))
            for name in ("CREATE", "PUBLISHED", "CLAIM", "HOLD", "MARK", "RELEASE", "RETRY", "FINISH", "CANCEL", "LOOK")
        }

    def _run(self, name: str, *arguments: Any) -> Any:
        for _attempt in range(self._retries):
            try:
                return self._scripts[name](keys=[self.prefix], args=list(arguments))
            except redis.ResponseError as error:
                # A master that is cut off from its replicas: soon there is another one.
                if "NOREPLICAS" not in str(error):
                    raise
                time.sleep(1.0)
        return self._scripts[name](keys=[self.prefix], args=list(arguments))

    def key(self, *parts: str) -> str:
        """Return a key below the prefix."""
        return self.prefix + ":".join(parts)

    @property
    def _keep(self) -> tuple[int, int]:
        return self.settings.times.result_expires, self.settings.times.dead_expires

    # --- a run's life -----------------------------------------------------------------------------------------------

    def create(
        self,
        run_id: str,
        user: str,
        fields: Mapping[str, str],
        *,
        idempotency: str = "",
        fingerprint: str = "",
        limited: bool = True,
    ) -> tuple[str, str]:
        """Write a new record: C(created), C(exists), C(conflict) or C(limit), and the identifier that counts."""
        flat = [text for pair in fields.items() for text in pair]
        most = self.settings.limits.pending_per_user if limited else 0
        verdict, found = self._run(
            "CREATE",
            run_id,
            user,
            most,
            idempotency,
            fingerprint,
            self._keep[0],
            self.settings.metrics.max_flows,
            10,
            *flat,
        )
        return str(verdict), str(found)

    def published(self, run_id: str) -> None:
        """Note that a message for this run is in the queue."""
        self._run("PUBLISHED", run_id, self.settings.recovery.queued_check)

    def claim(self, run_id: str, owner: str) -> Claim:
        """Try to become the owner of a run."""
        queue = self.client.hget(self.key("run", run_id), "queue")
        known = self.settings.queues.get(str(queue))
        gap = known.interval if known else 0.0
        answer = self._run("CLAIM", run_id, owner, self.settings.times.lease, gap, *self._keep, MOST_LOSSES)
        verdict = str(answer[0])
        if verdict == "run":
            return Claim(verdict, token=str(answer[1]), now=float(answer[2]), record=_pairs(answer[3:]))
        if verdict == "busy":
            return Claim(verdict, until=float(answer[1]), now=float(answer[2]))
        if len(answer) == 3:
            return Claim(verdict, state=str(answer[1]), reason=str(answer[2]))
        return Claim(verdict)

    def hold(self, run_id: str, token: str) -> bool:
        """Prolong the lease; return whether someone cancelled the run."""
        verdict, cancelled = self._run("HOLD", run_id, token, self.settings.times.lease)
        if verdict != "ours":
            raise Fenced(run_id)
        return bool(cancelled == "1")

    def mark(self, run_id: str, token: str, **fields: str) -> None:
        """Write fields, if this token still owns the run."""
        if not self._run("MARK", run_id, token, *[text for pair in fields.items() for text in pair]):
            raise Fenced(run_id)

    def release(self, run_id: str, token: str) -> None:
        """Give the run up without an end: another worker goes on."""
        if not self._run("RELEASE", run_id, token, 10):
            raise Fenced(run_id)

    def retry(self, run_id: str, token: str, delay: float, reason: str, message: str, *, anew: bool) -> None:
        """Let the run wait for its next attempt."""
        if not self._run("RETRY", run_id, token, delay, reason, message, "1" if anew else ""):
            raise Fenced(run_id)

    def finish(self, run_id: str, token: str, state: str, reason: str, message: str, result: str = "") -> None:
        """Write the end of a run; there is only one."""
        verdict = self._run("FINISH", run_id, token, state, reason, message[:2000], result, *self._keep)
        if verdict != "ok":
            raise Fenced(run_id)

    def cancel(self, run_id: str, user: str = "") -> tuple[str, str]:
        """Cancel at once, or ask the owner to: C(done), C(asked), C(again), C(held), C(ended) or C(gone)."""
        verdict, state = self._run("CANCEL", run_id, user, *self._keep)
        return str(verdict), str(state)

    # --- looking after them -----------------------------------------------------------------------------------------

    def overdue(self, most: int = 200) -> list[str]:
        """Return the runs that somebody has to look at now."""
        seconds, micros = self.client.time()
        found = self.client.zrangebyscore(self.key("due"), "-inf", seconds + micros / 1e6, start=0, num=most)
        return [str(run_id) for run_id in found]

    def look(self, run_id: str) -> list[str]:
        """Decide about one overdue run."""
        revive = "1" if self.settings.recovery.sweep else ""
        return [str(word) for word in self._run("LOOK", run_id, self.settings.recovery.queued_check, revive)]

    def tidy(self) -> None:
        """Drop what has expired from the lists."""
        oldest = time.time() - max(self._keep)
        self.client.zremrangebyscore(self.key("dead"), "-inf", oldest)
        self.client.zremrangebyscore(self.key("workers"), "-inf", oldest)
        for key in self.client.scan_iter(match=self.key("runs", "*"), count=500):
            self.client.zremrangebyscore(key, "-inf", oldest - self.settings.times.visibility_timeout)

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(self, run_id: str, user: str = "") -> dict[str, str] | None:
        """Return a record, or nothing if it is not this user's."""
        record = self.client.hgetall(self.key("run", run_id))
        if not record or (user and record.get("user") != user):
            return None
        return {str(name): str(value) for name, value in record.items()}

    def _listed(self, key: str, before: float | None) -> Iterator[dict[str, str]]:
        """Yield records, the newest first, without those that have expired."""
        top: float | str = f"({before:.6f}" if before else "+inf"
        start = 0
        while True:
            page = self.client.zrevrangebyscore(key, top, "-inf", start=start, num=100)
            if not page:
                return
            start += len(page)
            for run_id in page:
                record = self.get(str(run_id))
                if record:
                    yield record

    def listing(
        self, user: str, *, wanted: Mapping[str, str], limit: int, before: float | None = None
    ) -> list[dict[str, str]]:
        """Return a user's runs that have all the wanted fields; C(state=dead) means failed or unknown."""
        found = []
        for record in self._listed(self.key("runs", user), before):
            dead = record["state"] in {"failed", "unknown"} and not record.get("replayed")
            shown = {**record, "state": "dead"} if dead and wanted.get("state") == "dead" else record
            if all(shown.get(name) == value for name, value in wanted.items()):
                found.append(record)
                if len(found) == limit:
                    break
        return found

    def pending(self, user: str) -> int:
        """Return how many runs of a user have not ended."""
        return int(self.client.scard(self.key("open", user)))

    def replayed(self, run_id: str, successor: str) -> bool:
        """Take a run off the dead letters because another one follows it; only the first caller does."""
        if not self.client.hsetnx(self.key("run", run_id), "replayed", successor):
            return False
        self.client.zrem(self.key("dead"), run_id)
        return True

    def unreplayed(self, run_id: str, ended: float) -> None:
        """Put a dead letter back because its successor could not be made."""
        self.client.hdel(self.key("run", run_id), "replayed")
        self.client.zadd(self.key("dead"), {run_id: ended})

    # --- batches ----------------------------------------------------------------------------------------------------

    def create_batch(self, batch_id: str, fields: Mapping[str, str]) -> bool:
        """Write a new batch; false if it is there already."""
        key = self.key("batch", batch_id)
        if not self.client.hsetnx(key, "id", batch_id):
            return False
        with self.client.pipeline() as pipe:
            written: dict[Any, Any] = {**fields, "created": f"{time.time():.6f}", "done": "0"}
            pipe.hset(key, mapping=written)
            pipe.zadd(self.key("unfolded"), {batch_id: time.time()})
            pipe.zadd(self.key("batches", fields["user"]), {batch_id: time.time()})
            pipe.execute()
        return True

    def batch(self, batch_id: str, user: str = "") -> dict[str, str] | None:
        """Return a batch, or nothing if it is not this user's."""
        found = self.client.hgetall(self.key("batch", batch_id))
        if not found or "user" not in found or (user and found["user"] != user):
            return None
        return {str(name): str(value) for name, value in found.items()}

    def unfolded(self, older: float) -> list[str]:
        """Return the batches whose runs are not all created yet although they should be."""
        found = self.client.zrangebyscore(self.key("unfolded"), "-inf", time.time() - older)
        return [str(batch_id) for batch_id in found]

    def unfold_again(self, batch_id: str) -> None:
        """Note that a message for this batch has been sent once more."""
        self.client.zadd(self.key("unfolded"), {batch_id: time.time()}, xx=True)

    def folded_out(self, batch_id: str) -> None:
        """Note that all runs of a batch exist."""
        with self.client.pipeline() as pipe:
            pipe.hdel(self.key("batch", batch_id), "sealed")
            pipe.zrem(self.key("unfolded"), batch_id)
            pipe.execute()


def public(record: Mapping[str, str]) -> dict[str, Any]:
    """Return what the API shows of a record: no sealed field, no owner, numbers as numbers."""
    shown: dict[str, Any] = {"id": record["id"], "state": record["state"], "flow": record.get("flow", "")}
    for name in TEXTS:
        if record.get(name):
            shown[name] = record[name]
    for name in NUMBERS:
        if record.get(name):
            shown[name] = float(record[name])
    shown["attempt"] = int(record.get("attempt") or 0)
    if record.get("cancel") == "1" and record["state"] not in FINAL:
        shown["cancel_requested"] = True
    return shown
