# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What callers may do with runs and batches, without a word about HTTP servers: the API's handlers call this."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from typing import Any

import redis
from kombu.exceptions import OperationalError

from . import spans, submit, trace
from .app import Application
from .auth import Gate
from .errors import RequestError
from .front import User
from .metrics import broker_lists, depth, listed_schedules
from .names import FINAL
from .store import NAMESPACE, public
from .submit import Plan

STATES = (*FINAL, "queued", "waiting", "running", "dead")


def not_found(what: str, name: str) -> RequestError:
    """Return the refusal for what is not there, or not the caller's."""
    return RequestError(404, f"{what}_not_found", f"There is no {what} {name!r} of yours.")


class Service:
    """The verbs of the API."""

    def __init__(self, application: Application) -> None:
        """Take the application."""
        self.application = application
        self.settings = application.settings
        self.store = application.store
        self.seal = application.seal
        self.gate = Gate(application.front, self.settings.api.auth_cache)

    # --- runs -------------------------------------------------------------------------------------------------------

    def _publish(self, run_id: str) -> None:
        """Send the message; if that fails the record is there and the beat sends it."""
        record = self.store.get(run_id)
        if record:
            try:
                self.application.publish(record)
            except (redis.RedisError, OSError, OperationalError):
                return

    def submit(self, key: str, user: User, body: Any, headers: Mapping[str, str]) -> dict[str, Any]:
        """Make one run."""
        if not isinstance(body, dict):
            raise submit.invalid("body", "The body has to be a JSON object.")
        idempotency = headers.get("idempotency-key", "")
        if len(idempotency) > 200:
            raise submit.invalid("idempotency_key", "Idempotency-Key has at most 200 characters.")
        with self.application.spans.submission(headers.get("traceparent"), {}) as span:
            traces = span.traceparent, trace.accept_state(headers.get("tracestate"))
            made = submit.plan(body, self.settings, user, traces)
            made = submit.with_flow(made, self.application.front.flow(key, made.fields["flow"]))
            span.tell(spans.described(made.fields))
            run_id, new = submit.create(self.store, self.seal, user, key, made, idempotency=idempotency)
            span.tell({spans.RUN: run_id, spans.NEW: new})
            if new:
                self._publish(run_id)
            return self.run(user, run_id)

    def run(self, user: User, run_id: str) -> dict[str, Any]:
        """Return one run."""
        return public(self._own(user, run_id))

    def _own(self, user: User, run_id: str) -> dict[str, str]:
        record = self.store.get(run_id, user.id)
        if record is None:
            raise not_found("run", run_id)
        return record

    def result(self, user: User, run_id: str) -> tuple[bool, dict[str, Any]]:
        """Return whether a run has ended, and how."""
        record = self._own(user, run_id)
        shown = public(record)
        if record["state"] not in FINAL:
            return False, shown
        shown["result"] = self.seal.open(record["result"]) if record.get("result") else None
        return True, shown

    def runs(self, user: User, wanted: Mapping[str, str], limit: int, before: float | None) -> list[dict[str, Any]]:
        """Return a user's runs, the newest first."""
        if wanted.get("state") and wanted["state"] not in STATES:
            raise submit.invalid("state", f"state has to be one of {', '.join(STATES)}.")
        return [public(record) for record in self.store.listing(user.id, wanted=wanted, limit=limit, before=before)]

    def cancel(self, user: User, run_id: str) -> dict[str, Any]:
        """Cancel one run."""
        verdict, state = self.store.cancel(run_id, user.id)
        if verdict == "gone":
            raise not_found("run", run_id)
        if verdict == "again" or state == "cancelled" and verdict == "ended":
            raise RequestError(409, "already_cancelled", "The run was cancelled before.", state=state)
        if verdict == "ended":
            raise RequestError(409, "already_ended", f"The run has ended: {state}.", state=state)
        if verdict == "held":
            raise RequestError(409, "not_cancellable", "A run with a held connection ends by itself.", state=state)
        return self.run(user, run_id)

    def replay(self, user: User, key: str, run_id: str) -> dict[str, Any]:
        """Make a new run like one that became a dead letter, with the key of whoever asks for it."""
        record = self._own(user, run_id)
        if record["state"] not in {"failed", "unknown"}:
            raise RequestError(409, "not_dead", f"Only dead letters are replayed; this run is {record['state']}.")
        queue = record["queue"]
        if queue not in self.settings.queues:
            raise submit.invalid("queue", f"There is no queue {queue!r} any more.")
        kept = ("flow", "flow_name", "queue", "guarantee", "mode", "timeout", "max_retries")
        fields = {name: record.get(name, "") for name in kept}
        opened = self.seal.open(record["sealed"])
        successor = str(uuid.uuid4())
        told = {**spans.described(fields), spans.RUN: successor, spans.REPLAY_OF: run_id}
        # In the trace of the run that it follows.
        with self.application.spans.submission(record.get("traceparent"), told) as span:
            tracestate, trace_id = record.get("tracestate", ""), trace.trace_id(span.traceparent)
            fields.update(traceparent=span.traceparent, tracestate=tracestate, trace_id=trace_id)
            # The flow may be gone, the key may see less than the old one did.
            self.application.front.flow(key, fields["flow"])
            self._succeed(user, key, record, Plan(fields, opened["request"]), successor)
        return self.run(user, successor)

    def _succeed(self, user: User, key: str, record: Mapping[str, str], made: Plan, successor: str) -> None:
        """Put a new run in the place of a dead letter."""
        run_id = record["id"]
        if not self.store.replayed(run_id, successor):
            raise RequestError(
                409, "already_replayed", "This dead letter was replayed before.", id=record.get("replayed")
            )
        try:
            submit.create(self.store, self.seal, user, key, made, run_id=successor, replay_of=run_id)
        except RequestError:
            self.store.unreplayed(run_id, float(record["ended"]))
            raise
        self._publish(successor)

    # --- batches ----------------------------------------------------------------------------------------------------

    def submit_batch(self, key: str, user: User, body: Any, headers: Mapping[str, str]) -> dict[str, Any]:
        """Make many runs of one flow, each with its own input."""
        with self.application.spans.submission(headers.get("traceparent"), {}) as span:
            return self._submit_batch(span, key, user, body, headers)

    def _submit_batch(
        self, span: spans.Span, key: str, user: User, body: Any, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        if not isinstance(body, dict):
            raise submit.invalid("body", "The body has to be a JSON object.")
        items = body.get("items")
        most = self.settings.limits.batch_size
        if not isinstance(items, list) or not 0 < len(items) <= most:
            raise submit.invalid("items", f"items has to be a list of 1 to {most} inputs.")
        common = {name: value for name, value in body.items() if name != "items"}
        traces = span.traceparent, trace.accept_state(headers.get("tracestate"))
        own = [self._item(number, item, common, user) for number, item in enumerate(items)]
        made = submit.plan(common, self.settings, user, traces)
        made = submit.with_flow(made, self.application.front.flow(key, made.fields["flow"]))
        if self.store.pending(user.id) + len(items) > self.settings.limits.pending_per_user:
            allowed = self.settings.limits.pending_per_user
            raise RequestError(429, "too_many_pending", f"At most {allowed} runs of one user may be pending.")
        idempotency = headers.get("idempotency-key", "")
        batch_id = str(uuid.uuid5(NAMESPACE, f"{user.id}/{idempotency}")) if idempotency else str(uuid.uuid4())
        sealed = self.seal.close({"key": key, "fields": made.fields, "request": made.request, "items": own})
        span.tell({**spans.described(made.fields), spans.BATCH: batch_id, spans.COUNT: len(own)})
        fields = {
            "user": user.id,
            "queue": made.fields["queue"],
            "flow": made.fields["flow"],
            "total": str(len(own)),
            "print": submit.fingerprint(body),
            "sealed": sealed,
        }
        if self.store.create_batch(batch_id, fields):
            # If this fails the beat sends the message.
            with contextlib.suppress(redis.RedisError, OSError, OperationalError):
                self.application.publish_batch(batch_id, fields["queue"])
        elif (self.store.batch(batch_id) or {}).get("print") != fields["print"]:
            raise RequestError(
                409, "idempotency_conflict", "This Idempotency-Key was used for another batch.", id=batch_id
            )
        return self.batch(user, batch_id)

    def _item(self, number: int, item: Any, common: Mapping[str, Any], user: User) -> dict[str, Any]:
        """Return what one item has of its own: a text is its input."""
        own = {"input": item} if isinstance(item, str) else item
        if not isinstance(own, dict) or set(own) - set(submit.HANDED_ON):
            allowed = ", ".join(submit.HANDED_ON)
            raise submit.invalid("items", f"items[{number}] has to be a text or an object with some of {allowed}.")
        try:
            submit.plan({**common, **own}, self.settings, user, ("", ""))
        except RequestError as error:
            raise RequestError(error.status, error.code, f"items[{number}]: {error.message}", **error.details) from None
        return own

    def batch(self, user: User, batch_id: str) -> dict[str, Any]:
        """Return the summary of a batch."""
        found = self.store.batch(batch_id, user.id)
        if found is None:
            raise not_found("batch", batch_id)
        counts = {state: int(found.get(state, 0)) for state in FINAL}
        total, done = int(found["total"]), int(found.get("done", 0))
        shown: dict[str, Any] = {"id": batch_id, "state": "ended" if done >= total else "running", "total": total}
        shown.update(
            done=done, counts=counts, flow=found["flow"], queue=found["queue"], created=float(found["created"])
        )
        if found.get("ended"):
            shown["ended"] = float(found["ended"])
        return shown

    def batch_runs(self, user: User, batch_id: str, start: int, limit: int) -> list[dict[str, Any]]:
        """Return runs of a batch in the order of its items."""
        total = self.batch(user, batch_id)["total"]
        numbers = range(start, min(start + limit, total))
        found = [self.store.get(submit.batch_run(batch_id, number), user.id) for number in numbers]
        return [{**public(record), "number": int(record["number"])} for record in found if record]

    def cancel_batch(self, user: User, batch_id: str) -> dict[str, Any]:
        """Cancel what has not ended; what cannot be cancelled ends by itself."""
        shown = self.batch(user, batch_id)
        if shown["state"] == "ended":
            raise RequestError(409, "already_ended", "The batch has ended.", state="ended")
        found = self.store.batch(batch_id, user.id) or {}
        if "sealed" in found:
            # Its runs have to exist before they can be cancelled.
            submit.unfold(self.store, self.seal, batch_id, lambda _record: None)
        for number in range(shown["total"]):
            self.store.cancel(submit.batch_run(batch_id, number), user.id)
        return self.batch(user, batch_id)

    # --- the tier ---------------------------------------------------------------------------------------------------

    def queues(self) -> list[dict[str, Any]]:
        """Return the queues and how much waits in them."""
        return [
            {
                "name": name,
                "depth": depth(self.store, name),
                "rate": queue.rate,
                "run_timeout": queue.run_timeout,
                "default": name == self.settings.default_queue,
            }
            for name, queue in sorted(self.settings.queues.items())
        ]

    def schedules(self) -> list[dict[str, Any]]:
        """Return the schedules and when they fired last."""
        shown = []
        for entry in listed_schedules(self.store):
            state = self.store.client.hgetall(self.store.key("schedule", str(entry["name"])))
            times = {name: float(state[name]) for name in ("last", "fired", "late") if state.get(name)}
            shown.append({**entry, **times, "missed": int(state.get("missed", 0)), "error": state.get("error", "")})
        return shown

    def ready(self) -> bool:
        """Whether the queue can take a run."""
        try:
            self.store.client.exists(*broker_lists(self.store, self.settings.default_queue))
        except redis.RedisError:
            return False
        return True
