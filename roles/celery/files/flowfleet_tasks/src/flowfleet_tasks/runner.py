# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One delivery of a run to a worker: own it, start it or go on watching it, and end it or hand it on."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from . import config, trace
from .errors import Fenced
from .front import FrontDoor, Outcome
from .names import AT_LEAST_ONCE, AT_MOST_ONCE, FINAL, ONCE
from .seal import Seal, SealBroken
from .spans import Span, Spans
from .store import Claim, Store

log = logging.getLogger(__name__)

POLL_FIRST, POLL_MOST = 0.25, 5.0

# The queue does not answer: nothing can be written about a run now.
TROUBLE = (RedisError, OperationalError)

_dice = random.SystemRandom()


def backoff(settings: config.Retry, attempt: int, asked: float = 0.0) -> float:
    """Return the seconds to wait: doubled with each attempt, spread by half, never less than the server asked for."""
    wait = min(settings.backoff_max, settings.backoff * float(2 ** min(attempt, 20)))
    return max(asked, wait * (0.5 + _dice.random() / 2))


@dataclasses.dataclass
class Run:
    """A run that this process owns."""

    id: str
    token: str
    record: dict[str, str]
    request: dict[str, Any]
    key: str
    clock: float  # what to add to the monotonic clock to get that of Redis
    span: Span

    @property
    def now(self) -> float:
        """Return the time of Redis."""
        return time.monotonic() + self.clock

    @property
    def guarantee(self) -> str:
        """Return what was promised to the submitter."""
        return self.record.get("guarantee", ONCE)

    @property
    def doubtful(self) -> bool:
        """Whether a start request left that was never answered."""
        return self.record.get("sent") == "1" and not self.record.get("job")

    @property
    def traces(self) -> tuple[str, str]:
        """Return the trace that a request goes on with."""
        return self.span.onward() if self.span.traceparent else "", self.record.get("tracestate", "")

    def number(self, name: str) -> float:
        """Return a field as a number."""
        return float(self.record.get(name) or 0)


class Worker:
    """What a worker process does with a message."""

    def __init__(
        self,
        settings: config.Config,
        store: Store,
        seal: Seal,
        front: FrontDoor,
        spans: Spans,
        *,
        owner: str,
        publish: Callable[[Mapping[str, str]], None],
        draining: Callable[[], bool],
        handed_back: Callable[[str], None] = lambda _run_id: None,
    ) -> None:
        """Take the tools; I(publish) sends a message for a run that has begun."""
        self.handed_back = handed_back
        self.settings = settings
        self.store = store
        self.seal = seal
        self.front = front
        self.spans = spans
        self.owner = owner
        self.publish = publish
        self.draining = draining

    # --- ownership --------------------------------------------------------------------------------------------------

    def _claim(self, run_id: str) -> Claim:
        """Own the run, or find out that a living worker does: one whose lease grows."""
        claim = self.store.claim(run_id, self.owner)
        seen = claim.until
        while claim.verdict == "busy" and claim.until == seen:
            if self.draining():
                return Claim(self._leave(run_id))
            time.sleep(1.0)
            claim = self.store.claim(run_id, self.owner)
        return claim

    @contextlib.contextmanager
    def _heartbeat(self, run: Run) -> Iterator[None]:
        """Keep the lease while this thread waits for one long answer."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.settings.times.lease / 3):
                try:
                    self.store.hold(run.id, run.token)
                except Fenced:
                    return

        thread = threading.Thread(target=beat, name=f"lease-{run.id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=1.0)

    def _leave(self, run_id: str) -> str:
        """Pass a message on that came while this worker has to go; slowly, in case nobody else is there."""
        record = self.store.get(run_id)
        if record and record["state"] not in FINAL:
            time.sleep(1.0)
            self._pass_on(record)
        return "handed_back"

    def _pass_on(self, record: Mapping[str, str]) -> None:
        self.publish(record)
        self.handed_back(record["id"])

    def deliver(self, run_id: str) -> str:
        """Handle one message; return what became of it."""
        if self.draining():
            return self._leave(run_id)
        claim = self._claim(run_id)
        if claim.verdict != "run":
            if claim.reason:
                self._given_up(run_id, claim)
            return claim.verdict
        with self.spans.delivery(claim.record) as span, trace.working(run_id, span.traceparent):
            verdict = self._owned(run_id, claim, span)
            span.settle(verdict)
            return verdict

    def _given_up(self, run_id: str, claim: Claim) -> None:
        """Tell of a run that ended by the attempt to take it up."""
        with self.spans.delivery(self.store.get(run_id) or {"id": run_id}) as span:
            span.reason = claim.reason
            span.settle(claim.state)

    def _owned(self, run_id: str, claim: Claim, span: Span) -> str:
        """Open the record and do what it needs."""
        record = claim.record
        try:
            opened = self.seal.open(record["sealed"])
        except (SealBroken, KeyError):
            span.reason = "seal_broken"
            with contextlib.suppress(Fenced):
                self.store.finish(run_id, claim.token, "failed", "seal_broken", "The record cannot be opened.")
            return "failed"
        clock = claim.now - time.monotonic()
        return self._work(Run(run_id, claim.token, record, opened["request"], opened["key"], clock, span))

    def _work(self, run: Run) -> str:
        """Do what the run needs now; return what became of it."""
        try:
            return self._held(run) if run.record.get("mode") == "held" else self._background(run)
        except Fenced:
            log.info("run %s has another owner or has ended", run.id)
            return "fenced"
        except SoftTimeLimitExceeded:
            return self._time_is_up(run)
        except TROUBLE:
            # The record stays as it is; the message comes again, or the beat revives the run.
            raise
        except Exception:
            log.exception("run %s: internal error", run.id)
            return self._end(run, "unknown", "internal_error", "An error in the worker; its log has the details.")

    # --- ends -------------------------------------------------------------------------------------------------------

    def _end(self, run: Run, state: str, reason: str, message: str, result: Any = None) -> str:
        run.span.reason = reason
        sealed = "" if result is None else self.seal.close(result)
        if len(sealed) > self.settings.limits.result_bytes * 4 / 3 + 200:
            sealed = ""
            message = f"The result is larger than {self.settings.limits.result_bytes} bytes and was not kept. {message}"
        try:
            self.store.finish(run.id, run.token, state, reason, message.strip(), sealed)
        except Fenced:
            run.span.reason = ""
            return "fenced"
        log.info("run %s ended: %s %s", run.id, state, reason)
        return state

    def _hand_back(self, run: Run) -> str:
        self.store.release(run.id, run.token)
        self._pass_on(run.record)
        return "handed_back"

    def _time_is_up(self, run: Run) -> str:
        """The task used up its time: what is safe to go on with goes on elsewhere."""
        with contextlib.suppress(Fenced):
            if run.record.get("mode") == "held":
                late = Outcome("doubt", reason="time_limit", message="No answer within the task's time.")
                return self._unsure(run, late)
            return self._hand_back(run)
        return "fenced"

    def _again(self, run: Run, outcome: Outcome) -> str:
        """Nothing has begun by this request: wait and ask once more, as long as patience lasts."""
        if run.now - run.number("created") > self.settings.retry.patience + run.number("timeout"):
            state = "unknown" if run.doubtful else "failed"
            return self._end(run, state, "gave_up", f"It could not be started for too long: {outcome.message}")
        return self._wait(run, outcome, anew=False)

    def _wait(self, run: Run, outcome: Outcome, *, anew: bool) -> str:
        delay = backoff(self.settings.retry, int(run.number("attempt")), outcome.after)
        self.store.retry(run.id, run.token, delay, outcome.reason, outcome.message[:500], anew=anew)
        run.span.reason = outcome.reason
        return "waiting"

    def _anew(self, run: Run, outcome: Outcome, otherwise: str) -> str:
        """An execution failed or got lost: only what may run again does."""
        if run.guarantee != AT_LEAST_ONCE or run.number("failures") >= int(run.record.get("max_retries") or 0):
            return self._end(run, otherwise, outcome.reason, outcome.message, outcome.result)
        return self._wait(run, outcome, anew=True)

    def _unsure(self, run: Run, outcome: Outcome) -> str:
        """A held request got no answer."""
        return self._anew(run, outcome, "unknown")

    # --- a held connection ------------------------------------------------------------------------------------------

    def _held(self, run: Run) -> str:
        if run.record.get("sent") == "1":
            lost = Outcome("doubt", reason="worker_lost", message="The worker that held the connection died.")
            return self._unsure(run, lost)
        self.store.mark(run.id, run.token, sent="1")
        limit = min(run.number("timeout"), self.settings.times.soft_limit - 5)
        with self._heartbeat(run):
            outcome = self.front.held(run.request, run.key, run.traces, limit)
        if outcome.kind == "done":
            return self._end(run, "succeeded", "", "", outcome.result)
        if outcome.kind == "again":
            self.store.mark(run.id, run.token, sent="")
            return self._again(run, outcome)
        if outcome.kind == "doubt":
            return self._unsure(run, outcome)
        if outcome.kind == "failed":
            return self._anew(run, outcome, "failed")
        return self._end(run, "failed", outcome.reason, outcome.message)

    # --- a job that Langflow keeps ----------------------------------------------------------------------------------

    def _background(self, run: Run) -> str:
        if not run.record.get("job"):
            ended = self._start(run)
            if ended:
                return ended
        return self._watch(run)

    def _start(self, run: Run) -> str:
        """Make sure that Langflow has the job; return how it ended if it has not."""
        doubtful = run.doubtful
        if doubtful and run.guarantee == AT_MOST_ONCE:
            return self._end(run, "unknown", "no_answer", "The start request was sent and never answered.")
        if doubtful and run.record.get("cancel") == "1":
            return self._end(run, "cancelled", "cancelled", "Cancelled, but it may have begun.")
        self.store.mark(run.id, run.token, sent="1")
        run.record["sent"] = "1"
        outcome = self.front.start(run.request, run.key, run.traces)
        if outcome.kind == "accepted":
            began = f"{run.now:.6f}"
            self.store.mark(run.id, run.token, job=outcome.job, began=began, reason="", message="")
            run.record.update(job=outcome.job, began=began)
            return ""
        if outcome.kind == "again":
            if not doubtful:
                self.store.mark(run.id, run.token, sent="")
                run.record["sent"] = ""
            return self._again(run, outcome)
        if outcome.kind == "doubt":
            if run.guarantee == AT_MOST_ONCE:
                return self._end(run, "unknown", outcome.reason, outcome.message)
            return self._again(run, outcome)
        return self._end(run, "unknown" if doubtful else "failed", outcome.reason, outcome.message)

    def _watch(self, run: Run) -> str:
        """Ask for the job until it ends, the slice is over or this worker has to go."""
        job, pause = run.record["job"], POLL_FIRST
        until = time.monotonic() + self.settings.times.slice
        while True:
            if self.store.hold(run.id, run.token):
                return self._cancel(run, job)
            outcome = self.front.watch(job, run.key, run.traces)
            if outcome.kind != "running":
                return self._job_ended(run, outcome)
            if run.now > run.number("began") + run.number("timeout"):
                return self._too_long(run, job)
            if self.draining() or time.monotonic() > until:
                return self._hand_back(run)
            self._sleep(min(pause, POLL_MOST) if not outcome.after else min(outcome.after, POLL_MOST))
            pause *= 1.5

    def _sleep(self, seconds: float) -> None:
        """Sleep, but notice within half a second that this worker has to go."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.draining():
            time.sleep(min(0.5, left))

    def _job_ended(self, run: Run, outcome: Outcome) -> str:
        if outcome.kind == "done":
            return self._end(run, "succeeded", "", "", outcome.result)
        if outcome.kind == "failed":
            return self._anew(run, outcome, "failed")
        if outcome.kind == "lost":
            return self._anew(run, outcome, "unknown")
        if outcome.kind == "stopped":
            return self._end(run, "cancelled", "stopped", "The job was stopped in Langflow.")
        return self._end(run, "unknown", outcome.reason, outcome.message)

    def _cancel(self, run: Run, job: str) -> str:
        """Stop the job; if it ended before that, its own end counts."""
        if not self.front.stop(job, run.key, run.traces):
            self.store.retry(run.id, run.token, 2.0, "cancelling", "Langflow did not hear the stop yet.", anew=False)
            run.span.reason = "cancelling"
            return "waiting"
        outcome = self.front.watch(job, run.key, run.traces)
        if outcome.kind == "done":
            return self._end(run, "succeeded", "", "It had ended before it could be cancelled.", outcome.result)
        return self._end(run, "cancelled", "cancelled", "Cancelled while it was running.")

    def _too_long(self, run: Run, job: str) -> str:
        stopped = self.front.stop(job, run.key, run.traces)
        tail = "was stopped" if stopped else "could not be stopped"
        return self._end(run, "failed", "timeout", f"It ran longer than {run.number('timeout'):g} s and {tail}.")
