# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""W3C trace context: the submitter's trace goes on in every request that a run causes."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType

TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")
TRACESTATE = re.compile(r"^[\x20-\x7e]{1,512}$")


# What this thread works on, for the lines that it logs.
_at_work: ContextVar[Mapping[str, str]] = ContextVar("at_work", default=MappingProxyType({}))


def at_work() -> Mapping[str, str]:
    """Return the names that lines of the log carry now."""
    return _at_work.get()


@contextlib.contextmanager
def working(run_id: str, traceparent: str) -> Iterator[None]:
    """Let every line of the log carry the run and its trace."""
    match = TRACEPARENT.match(traceparent)
    names = {"run_id": run_id, **({"trace_id": match[1], "span_id": match[2]} if match else {})}
    token = _at_work.set(names)
    try:
        yield
    finally:
        _at_work.reset(token)


def valid(traceparent: str | None) -> str:
    """Return the caller's C(traceparent) if it is valid, or nothing."""
    match = TRACEPARENT.match((traceparent or "").strip())
    return match[0] if match and int(match[1], 16) and int(match[2], 16) else ""


def accept(traceparent: str | None) -> str:
    """Return the caller's C(traceparent) if it is valid, or begin a trace."""
    return valid(traceparent) or f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def accept_state(tracestate: str | None) -> str:
    """Return the caller's C(tracestate) if it can be passed on as it is."""
    value = (tracestate or "").strip()
    return value if TRACESTATE.match(value) else ""


def child(traceparent: str) -> str:
    """Return the same trace with an identifier of this request's own."""
    match = TRACEPARENT.match(traceparent)
    if not match:
        return accept(None)
    return f"00-{match[1]}-{secrets.token_hex(8)}-{match[3]}"


def trace_id(traceparent: str) -> str:
    """Return the trace's identifier, for people who look for it."""
    match = TRACEPARENT.match(traceparent)
    return match[1] if match else ""
