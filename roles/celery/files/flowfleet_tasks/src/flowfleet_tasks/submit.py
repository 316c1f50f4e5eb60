# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making runs: what may be asked for, the record that is written first, and the message that follows it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from . import config, trace
from .errors import RequestError
from .front import User
from .names import AT_LEAST_ONCE, GUARANTEES, MODES, ONCE
from .seal import Seal
from .store import NAMESPACE, Store

Publish = Callable[[Mapping[str, str]], None]

# Fields of a request and what they have to be.
KNOWN: dict[str, type | tuple[type, ...]] = {
    "flow": str,
    "input": str,
    "tweaks": dict,
    "globals": dict,
    "session_id": str,
    "files": list,
    "output_ids": list,
    "queue": str,
    "mode": str,
    "guarantee": str,
    "timeout": (int, float),
    "max_retries": int,
}
# Those that Langflow gets.
HANDED_ON = ("input", "tweaks", "globals", "session_id", "files", "output_ids")


@dataclasses.dataclass(frozen=True)
class Plan:
    """A request that was found good: what the record says and what is sealed in it."""

    fields: dict[str, str]
    request: dict[str, Any]


def invalid(field: str, message: str) -> RequestError:
    """Return the refusal of one field."""
    return RequestError(422, f"invalid_{field}", message, field=field)


def _types(body: Mapping[str, Any]) -> None:
    for name, value in body.items():
        wanted = KNOWN.get(name)
        if wanted is None:
            raise invalid("field", f"There is no field {name!r}.")
        if not isinstance(value, wanted) or isinstance(value, bool):
            kinds = wanted if isinstance(wanted, tuple) else (wanted,)
            raise invalid(name, f"{name} has to be {' or '.join(kind.__name__ for kind in kinds)}.")


def mode_of(asked: str, guarantee: str, timeout: float, times: config.Times) -> str:
    """Choose how a run is waited for.

    A job that Langflow keeps can be found again by another worker and can be cancelled, so it is the rule. A held
    connection costs one request instead of several, but who loses it knows nothing: right for short runs that may be
    repeated.
    """
    if asked != "auto":
        return asked
    return "held" if guarantee == AT_LEAST_ONCE and timeout <= times.held_below else "background"


def plan(body: Mapping[str, Any], settings: config.Config, user: User, traces: tuple[str, str]) -> Plan:
    """Check everything that can be checked without asking Langflow."""
    _types(body)
    flow = str(body.get("flow", "")).strip()
    if not flow or len(flow) > 200:
        raise invalid("flow", "flow has to name the flow, by its identifier or its endpoint name.")
    queue = str(body.get("queue") or settings.default_queue)
    if queue not in settings.queues:
        raise invalid("queue", f"There is no queue {queue!r}; there are {', '.join(sorted(settings.queues))}.")
    if settings.queues[queue].superuser_only and not user.superuser:
        raise RequestError(403, "forbidden", f"The queue {queue!r} is for superusers.")
    guarantee = str(body.get("guarantee") or ONCE)
    if guarantee not in GUARANTEES:
        raise invalid("guarantee", f"guarantee has to be one of {', '.join(GUARANTEES)}.")
    asked = str(body.get("mode") or "auto")
    if asked not in MODES:
        raise invalid("mode", f"mode has to be one of {', '.join(MODES)}.")
    most = settings.queues[queue].run_timeout
    held_most = settings.times.soft_limit - 10
    timeout = float(body.get("timeout") or (held_most if asked == "held" else most))
    if not 0 < timeout <= most:
        raise invalid("timeout", f"timeout has to be above 0 and at most {most:g} s in queue {queue!r}.")
    mode = mode_of(asked, guarantee, timeout, settings.times)
    if mode == "held" and timeout > held_most:
        raise invalid("timeout", f"A held connection lasts at most {held_most:g} s; use mode background.")
    retries = int(body.get("max_retries", settings.retry.max))
    if not 0 <= retries <= 100:
        raise invalid("max_retries", "max_retries has to be between 0 and 100.")
    fields = {
        "flow": flow,
        "queue": queue,
        "guarantee": guarantee,
        "mode": mode,
        "timeout": f"{timeout:g}",
        "max_retries": str(retries),
        "traceparent": traces[0],
        "tracestate": traces[1],
        "trace_id": trace.trace_id(traces[0]),
    }
    return Plan(fields, {name: body[name] for name in HANDED_ON if body.get(name)})


def with_flow(made: Plan, flow: tuple[str, str]) -> Plan:
    """Put the flow that Langflow found in place of what the caller called it."""
    fields = {**made.fields, "flow": flow[0], "flow_name": flow[1][:200]}
    return Plan(fields, {**made.request, "flow": flow[0]})


def fingerprint(body: Any) -> str:
    """Return what two equal requests have in common."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def sealed(seal: Seal, made: Plan, run_id: str, key: str) -> dict[str, str]:
    """Return the record's fields, the secret ones sealed."""
    return {**made.fields, "sealed": seal.close({"key": key, "request": {**made.request, "id": run_id}})}


def create(
    store: Store,
    seal: Seal,
    user: User,
    key: str,
    made: Plan,
    *,
    run_id: str = "",
    idempotency: str = "",
    limited: bool = True,
    **more: str,
) -> tuple[str, bool]:
    """Write the record of a run; return its identifier and whether it is new."""
    run_id = run_id or str(uuid.uuid4())
    fields = {**sealed(seal, made, run_id, key), **more}
    mark = fingerprint([made.request, made.fields["queue"], made.fields["guarantee"]])
    verdict, found = store.create(run_id, user.id, fields, idempotency=idempotency, fingerprint=mark, limited=limited)
    if verdict == "conflict":
        raise RequestError(409, "idempotency_conflict", "This Idempotency-Key was used for another request.", id=found)
    if verdict == "limit":
        most = store.settings.limits.pending_per_user
        raise RequestError(429, "too_many_pending", f"At most {most} runs of one user may be pending.")
    return found, verdict == "created"


# --- batches ----------------------------------------------------------------------------------------------------------


def batch_run(batch_id: str, number: int) -> str:
    """Return the identifier of one run of a batch: always the same one."""
    return str(uuid.uuid5(NAMESPACE, f"{batch_id}/{number}"))


def unfold(store: Store, seal: Seal, batch_id: str, publish: Publish) -> int:
    """Make the runs of a batch that are not there yet."""
    batch = store.batch(batch_id)
    if not batch or "sealed" not in batch:
        return 0
    opened = seal.open(batch["sealed"])
    user = User(batch["user"], "", False)
    new = 0
    for number, item in enumerate(opened["items"]):
        made = Plan({**opened["fields"]}, {**opened["request"], **item})
        run_id, fresh = create(
            store,
            seal,
            user,
            opened["key"],
            made,
            run_id=batch_run(batch_id, number),
            limited=False,
            batch=batch_id,
            number=str(number),
        )
        if fresh:
            new += 1
            record = store.get(run_id)
            if record:
                publish(record)
    store.folded_out(batch_id)
    return new
