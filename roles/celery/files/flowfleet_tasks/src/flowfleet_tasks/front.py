# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Langflow through its front door: who a key belongs to, which flow is meant, starting, watching and stopping a job."""

from __future__ import annotations

import dataclasses
import urllib.parse
import uuid
from typing import Any

from . import config
from .errors import NoAnswer, NotSent, RequestError
from .wire import Answer, Door

# Answers of Langflow itself that say that it did not take the job.
NOT_TAKEN = {"SERVICE_BUSY", "QUEUE_SERVICE_UNAVAILABLE", "REQUEST_OVERRIDES_UNAVAILABLE"}
# Ends of a job that its flow did not cause: the node that ran it went away.
LOST = {"worker_lost", "cancelled", "CancelledError", "server_shutdown"}
BUSY_STATES = {"queued", "in_progress", "suspended"}


@dataclasses.dataclass(frozen=True)
class User:
    """Whom a key belongs to."""

    id: str
    name: str
    superuser: bool


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one request to start or to watch told.

    kind: C(accepted) with a job; C(done) with a result; C(running); C(again) - nothing has begun, ask once more;
    C(doubt) - it may have begun; C(failed) - the flow ended badly; C(lost) - its node went away; C(stopped);
    C(refused) - it will never begin.
    """

    kind: str
    job: str = ""
    result: Any = None
    reason: str = ""
    message: str = ""
    after: float = 0.0


def is_uuid(text: str) -> bool:
    """Whether a flow is named by its identifier."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


class FrontDoor:
    """The requests that this package makes, with a user's own key."""

    def __init__(self, settings: config.Langflow) -> None:
        """Take the address from the configuration."""
        self.settings = settings
        self.door = Door(settings.url.rstrip("/"), settings.connect, settings.ca_file, settings.connect_timeout)

    def _ask(self, method: str, path: str, key: str, *, traces: tuple[str, str] = ("", ""), **options: Any) -> Answer:
        headers = {"x-api-key": key}
        if traces[0]:
            headers["traceparent"] = traces[0]
        if traces[1]:
            headers["tracestate"] = traces[1]
        return self.door.request(method, path, headers=headers, **options)

    # --- before a run -----------------------------------------------------------------------------------------------

    def _look_up(self, path: str, key: str) -> Answer:
        """Ask something that changes nothing; trouble on the way is a 503 for the caller."""
        try:
            answer = self._ask("GET", path, key, timeout=15)
        except (NotSent, NoAnswer):
            raise RequestError(503, "langflow_unreachable", "Langflow does not answer; nothing was queued.") from None
        if answer.status >= 500:
            raise RequestError(503, "langflow_unreachable", "Langflow cannot answer now; nothing was queued.")
        if answer.status == 429:
            raise RequestError(429, "rate_limited", "Langflow's front door asks to slow down; nothing was queued.")
        return answer

    def user(self, key: str) -> User:
        """Return whose key this is."""
        answer = self._look_up("/api/v1/users/whoami", key)
        data = answer.json()
        if answer.status != 200 or not isinstance(data, dict) or not data.get("id"):
            raise RequestError(401, "unauthorized", "Langflow does not accept this API key.")
        if data.get("is_active") is False:
            raise RequestError(403, "forbidden", "This user is not active.")
        return User(str(data["id"]), str(data.get("username", "")), bool(data.get("is_superuser")))

    def flow(self, key: str, wanted: str) -> tuple[str, str]:
        """Return identifier and name of a flow that this key may read, by its identifier or its endpoint name."""
        missing = RequestError(404, "flow_not_found", f"There is no flow {wanted!r} for this API key.")
        if is_uuid(wanted):
            answer = self._look_up(f"/api/v1/flows/{wanted.lower()}", key)
            data = answer.json()
            if answer.status != 200 or not isinstance(data, dict):
                raise missing
            return str(data.get("id", wanted)), str(data.get("name", ""))
        query = urllib.parse.urlencode({"get_all": "true", "header_flows": "true", "remove_example_flows": "true"})
        listed = self._look_up(f"/api/v1/flows/?{query}", key).json()
        for flow in listed if isinstance(listed, list) else []:
            if isinstance(flow, dict) and flow.get("endpoint_name") == wanted:
                return str(flow["id"]), str(flow.get("name", ""))
        raise missing

    # --- a run ------------------------------------------------------------------------------------------------------

    @staticmethod
    def _body(run: dict[str, Any], mode: str) -> dict[str, Any]:
        body = {"flow_id": run["flow"], "mode": mode, "input_value": run.get("input", "")}
        for name in ("tweaks", "session_id", "globals", "files", "output_ids"):
            if run.get(name):
                body[name] = run[name]
        return body

    def start(self, run: dict[str, Any], key: str, traces: tuple[str, str]) -> Outcome:
        """Hand a job to Langflow, which keeps it; the same run never makes a second one while the first one counts."""
        body = {**self._body(run, "background"), "idempotency_key": f"flowfleet-{run['id']}"}
        try:
            answer = self._ask("POST", "/api/v2/workflows", key, traces=traces, body=body, timeout=60)
        except NotSent as error:
            return Outcome("again", reason="not_sent", message=str(error))
        except NoAnswer as error:
            return Outcome("doubt", reason="no_answer", message=str(error))
        data = answer.json()
        if answer.status in {200, 201, 202} and isinstance(data, dict) and data.get("job_id"):
            return Outcome("accepted", job=str(data["job_id"]))
        return self._not_started(answer)

    def held(self, run: dict[str, Any], key: str, traces: tuple[str, str], timeout: float) -> Outcome:
        """Run a flow and keep the connection until it has ended."""
        try:
            answer = self._ask(
                "POST", "/api/v2/workflows", key, traces=traces, body=self._body(run, "sync"), timeout=timeout
            )
        except NotSent as error:
            return Outcome("again", reason="not_sent", message=str(error))
        except NoAnswer as error:
            return Outcome("doubt", reason="no_answer", message=str(error))
        if answer.status == 200:
            return self._ended(answer)
        if answer.status == 408:
            return Outcome("failed", reason="timeout", message="Langflow stopped the run at its own limit.")
        if answer.status == 500:
            return Outcome("failed", reason="flow_error", message=str(answer.detail().get("message", "")))
        return self._not_started(answer)

    @staticmethod
    def _not_started(answer: Answer) -> Outcome:
        """Tell apart what surely did not begin from what may have."""
        detail = answer.detail()
        code, message = str(detail.get("code", "")), str(detail.get("message") or f"status {answer.status}")
        if answer.status == 429:
            return Outcome("again", reason="rate_limited", message=message, after=answer.retry_after)
        if answer.status == 503 and (code in NOT_TAKEN or (not code and isinstance(answer.json(), dict))):
            # Langflow refused it, or the front door is paused: neither lets a flow begin.
            return Outcome("again", reason="unavailable", message=message, after=answer.retry_after)
        if answer.status >= 500:
            return Outcome("doubt", reason=f"status_{answer.status}", message=message, after=answer.retry_after)
        if answer.status in {401, 403}:
            return Outcome("refused", reason="key_refused", message=message)
        if answer.status == 404:
            return Outcome("refused", reason="flow_not_found", message=message)
        if answer.status == 409:
            return Outcome("doubt", reason="duplicate", message=message)
        return Outcome("refused", reason="rejected", message=message)

    @staticmethod
    def _ended(answer: Answer) -> Outcome:
        data = answer.json()
        if not isinstance(data, dict):
            return Outcome("doubt", reason="no_json", message="The answer is not JSON.")
        if str(data.get("status")) == "failed":
            errors = data.get("errors") or [{}]
            message = str(errors[0].get("error", "")) if isinstance(errors[0], dict) else str(errors[0])
            return Outcome("failed", reason="flow_error", message=message, result=data)
        return Outcome("done", result=data)

    def watch(self, job: str, key: str, traces: tuple[str, str]) -> Outcome:
        """Ask how a job is doing. Trouble on the way is C(running): asking again does no harm."""
        try:
            answer = self._ask("GET", f"/api/v2/workflows?job_id={job}", key, traces=traces, timeout=30)
        except (NotSent, NoAnswer) as error:
            return Outcome("running", reason="unreachable", message=str(error))
        data, detail = answer.json(), answer.detail()
        code = str(detail.get("code", ""))
        if answer.status == 200 and isinstance(data, dict):
            state = str(data.get("status", ""))
            if state in BUSY_STATES:
                return Outcome("running", job=job, reason=state)
            if state == "cancelled":
                return Outcome("stopped", reason="cancelled")
            return self._ended(answer)
        if answer.status == 500 and code == "JOB_FAILED":
            return self._failed(detail)
        if answer.status == 408:
            return Outcome("failed", reason="timeout", message=str(detail.get("message", "")))
        if answer.status == 404 and code == "JOB_NOT_FOUND":
            return Outcome("lost", reason="job_gone", message="Langflow no longer knows the job.")
        if answer.status in {401, 403}:
            return Outcome("refused", reason="key_refused", message="Langflow no longer accepts the API key.")
        return Outcome("running", reason=f"status_{answer.status}", after=answer.retry_after)

    @staticmethod
    def _failed(detail: dict[str, Any]) -> Outcome:
        error = detail.get("error_detail")
        error = error if isinstance(error, dict) else {}
        kind = str(error.get("type", ""))
        if not error or kind in LOST:
            return Outcome("lost", reason="node_lost", message="The Langflow node that ran the job went away.")
        message = str(error.get("message") or error.get("error") or kind)
        return Outcome("failed", reason="flow_error", message=message)

    def stop(self, job: str, key: str, traces: tuple[str, str]) -> bool:
        """Ask Langflow to stop a job; whether it heard."""
        try:
            answer = self._ask("POST", "/api/v2/workflows/stop", key, traces=traces, body={"job_id": job}, timeout=30)
        except (NotSent, NoAnswer):
            return False
        return answer.status in {200, 404, 409}
