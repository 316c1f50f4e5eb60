# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Spans of this tier: one for each submission, one for each time that a worker takes up a run.

What is needed for that is imported only where an address for spans is configured. A span holds identifiers, names and
codes; never what a caller sent, an answer or the text of an error. Nothing here fails a run or lets it wait: spans that
cannot be sent are dropped.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import __version__, config, trace
from .errors import RequestError

log = logging.getLogger(__name__)

# Attributes that sampling and metrics of the collector look at; Langflow's own spans have the same.
FLOW, RUN, STATUS = "flow_id", "run_id", "status"
QUEUE, OPERATION, OPERATION_TYPE = "messaging.destination.name", "messaging.operation.name", "messaging.operation.type"
SYSTEM, COUNT, ERROR = "messaging.system", "messaging.batch.message_count", "error.type"
BATCH, SCHEDULE, REPLAY_OF, REASON = "task.batch", "task.schedule", "task.replay_of", "task.reason"
ATTEMPT, GUARANTEE, MODE, NEW = "task.attempt", "task.guarantee", "task.mode", "task.new"

SUBMIT, DELIVER = "task.submit", "task.run"
BAD = ("failed", "unknown")
NEEDED = ("requests", "opentelemetry.sdk.trace.export", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
MOST_AT_ONCE = 512


class Span:
    """A piece of work, whether it is told to the collector or not."""

    def __init__(self, traceparent: str, inner: Any = None) -> None:
        """Take what others name as their parent and, if it is told, the span."""
        self.traceparent = traceparent
        self.reason = ""
        self._inner = inner

    def onward(self) -> str:
        """Return the C(traceparent) of a request that this work causes."""
        return self.traceparent if self._inner is not None else trace.child(self.traceparent)

    def tell(self, attributes: Mapping[str, str | int | bool]) -> None:
        """Add what is known by now; empty texts are left out."""
        if self._inner is not None:
            self._inner.set_attributes({name: value for name, value in attributes.items() if value != ""})

    def fail(self, kind: str) -> None:
        """Say that it ended badly, by a code."""
        if self._inner is not None:
            from opentelemetry.trace import StatusCode

            self._inner.set_status(StatusCode.ERROR)
            self._inner.set_attribute(ERROR, kind or "unknown")

    def settle(self, status: str) -> None:
        """Say what became of a run."""
        self.tell({STATUS: status, REASON: self.reason})
        if status in BAD:
            self.fail(self.reason)

    def end(self) -> None:
        """Let it be sent."""
        if self._inner is not None:
            self._inner.end()

    def drop(self) -> None:
        """Never tell it: what has not ended is not sent."""
        self._inner = None


class _Exporter:
    """The exporter of OpenTelemetry, with one line of the log when things change instead of one for each batch."""

    def __init__(self, inner: Any, endpoint: str) -> None:
        self._inner = inner
        self._endpoint = endpoint
        self._good = True

    def export(self, spans: Sequence[Any]) -> Any:
        result = self._inner.export(spans)
        good = result.name == "SUCCESS"
        if good != self._good:
            self._good = good
            if good:
                log.info("%s takes spans again", self._endpoint)
            else:
                log.warning("%s does not take spans; they are dropped", self._endpoint)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class Spans:
    """What makes spans. Each process has a sender of its own, made when first needed: a thread survives no fork."""

    def __init__(self, settings: config.Traces, instance: str) -> None:
        """Take the address, and the name of this worker, beat or API."""
        self.settings = settings
        self.instance = instance
        self._lock = threading.Lock()
        self._pid = 0
        self._provider: Any = None
        self._tracer: Any = None

    # --- the sender -------------------------------------------------------------------------------------------------

    def preload(self) -> None:
        """Import what is needed once, before processes are forked."""
        if self.settings.endpoint:
            for name in NEEDED:
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)

    def _make(self) -> Any:
        import requests
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

        # It logs every batch that it could not send.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        session = requests.Session()
        # No proxy and no login that the environment happens to name.
        session.trust_env = False
        exporter: Any = _Exporter(
            OTLPSpanExporter(
                endpoint=self.settings.endpoint,
                certificate_file=self.settings.ca_file or None,
                timeout=self.settings.timeout,
                compression=Compression.NoCompression,
                session=session,
            ),
            self.settings.endpoint,
        )
        host = self.settings.host or socket.gethostname()
        provider = TracerProvider(
            # Which traces are kept is decided by the collector. A parent that was not to be traced is heeded.
            sampler=ParentBased(ALWAYS_ON),
            resource=Resource.create(
                {
                    "service.name": "celery",
                    "service.version": __version__,
                    # Without service.instance.id: metrics of the collector are made for each service and host.
                    "host.name": host,
                    "task.process": self.instance,
                    "process.pid": os.getpid(),
                }
            ),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=self.settings.queue_size,
                max_export_batch_size=min(MOST_AT_ONCE, self.settings.queue_size),
                schedule_delay_millis=self.settings.interval * 1000,
            )
        )
        return provider

    def _ready(self) -> Any:
        """Return what begins spans in this process, or nothing."""
        if not self.settings.endpoint:
            return None
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._provider = self._tracer = None
                    try:
                        self._provider = self._make()
                        self._tracer = self._provider.get_tracer("flowfleet_tasks", __version__)
                    except Exception:
                        log.exception("no spans are sent")
                    self._pid = os.getpid()
        return self._tracer

    def close(self) -> None:
        """Send what is left, as far as that takes no longer than it may."""
        with self._lock:
            provider, self._provider, self._tracer = self._provider, None, None
            mine, self._pid = self._pid == os.getpid(), 0
        if provider is not None and mine:
            ending = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
            ending.start()
            ending.join(self.settings.flush)

    # --- spans ------------------------------------------------------------------------------------------------------

    def _begin(self, name: str, kind: str, parent: str, attributes: Mapping[str, str | int | bool]) -> Span | None:
        tracer = self._ready()
        if tracer is None:
            return None
        from opentelemetry.context import Context
        from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

        context = Context()
        match = trace.TRACEPARENT.match(parent)
        if match:
            flags = TraceFlags(int(match[3], 16))
            before = SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)
            context = set_span_in_context(NonRecordingSpan(before), context)
        inner = tracer.start_span(name, context=context, kind=SpanKind[kind])
        made = inner.get_span_context()
        # The one flag that every reader of the header knows.
        sampled = int(made.trace_flags) & 1
        span = Span(f"00-{made.trace_id:032x}-{made.span_id:016x}-{sampled:02x}", inner)
        span.tell({SYSTEM: "celery", **attributes})
        return span

    @contextlib.contextmanager
    def submission(self, traceparent: str | None, attributes: Mapping[str, str | int | bool]) -> Iterator[Span]:
        """Make runs: below the caller's span, or as the beginning of a trace."""
        told: dict[str, str | int | bool] = {OPERATION: "submit", OPERATION_TYPE: "send", **attributes}
        span = self._begin(SUBMIT, "PRODUCER", trace.valid(traceparent), told) or Span(trace.accept(traceparent))
        try:
            yield span
        except RequestError as error:
            # The caller's fault is no error of this service.
            span.tell({ERROR: error.code})
            if error.status >= 500:
                span.fail(error.code)
            raise
        except Exception as error:
            span.fail(type(error).__name__)
            raise
        finally:
            span.end()

    @contextlib.contextmanager
    def delivery(self, record: Mapping[str, str]) -> Iterator[Span]:
        """Work on a run that this worker owns, below the span of its submission."""
        parent = record.get("traceparent", "")
        told: dict[str, str | int | bool] = {
            OPERATION: "run",
            OPERATION_TYPE: "process",
            **described(record),
            ATTEMPT: int(record.get("attempt") or 0),
        }
        span = self._begin(DELIVER, "CONSUMER", parent, told) or Span(parent)
        try:
            yield span
        except BaseException as error:
            # The queue is away: the message comes again.
            span.tell({STATUS: "interrupted"})
            span.fail(type(error).__name__)
            raise
        finally:
            span.end()


def described(record: Mapping[str, str]) -> dict[str, str | int | bool]:
    """Return what a record says about its run, without anything that a caller wrote but names of queue and schedule."""
    names = {
        FLOW: "flow",
        RUN: "id",
        QUEUE: "queue",
        GUARANTEE: "guarantee",
        MODE: "mode",
        BATCH: "batch",
        SCHEDULE: "schedule",
        REPLAY_OF: "replay_of",
    }
    return {attribute: record.get(field, "") for attribute, field in names.items()}
