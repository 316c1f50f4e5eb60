# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client of the API, with the standard library only."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from .errors import NoAnswer, NotSent, RequestError, TasksError
from .names import FINAL
from .wire import Answer, Door

DEFAULT_PATH = "/tasks/v1"


def api_key(path: str) -> str:
    """Return the caller's Langflow API key, from a file or from the environment; never from the command line."""
    if path:
        try:
            return pathlib.Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise TasksError(f"the API key cannot be read: {path}: {error.strerror}") from error
    found = os.environ.get("LANGFLOW_API_KEY", "")
    if not found:
        raise TasksError("no API key: name a file with --key-file or set LANGFLOW_API_KEY")
    return found


@dataclasses.dataclass(frozen=True)
class Client:
    """The verbs of the API for a program."""

    door: Door
    key: str
    path: str = DEFAULT_PATH
    tries: int = 4

    def _once(self, method: str, path: str, body: Any, headers: dict[str, str], timeout: float) -> Answer:
        return self.door.request(
            method, self.path + path, headers={"x-api-key": self.key, **headers}, body=body, timeout=timeout
        )

    def call(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, timeout: float = 60
    ) -> Any:
        """Make one request; trouble on the way is met by asking again, which no request of this client suffers from."""
        trouble: Exception = TasksError("never tried")
        for attempt in range(self.tries):
            if attempt:
                time.sleep(min(8.0, 0.5 * 2**attempt))
            try:
                answer = self._once(method, path, body, headers or {}, timeout)
            except (NotSent, NoAnswer) as error:
                trouble = error
                continue
            if answer.status < 400:
                return answer.json()
            trouble = self._refused(answer)
            if answer.status not in {502, 503, 504}:
                break
        raise trouble

    @staticmethod
    def _refused(answer: Answer) -> RequestError:
        data = answer.json()
        error = data.get("error") if isinstance(data, dict) else None
        if isinstance(error, dict):
            details = error.get("details") or {}
            return RequestError(answer.status, str(error.get("code", "")), str(error.get("message", "")), **details)
        text = answer.detail().get("message") or answer.body[:200].decode(errors="replace")
        return RequestError(answer.status, f"status_{answer.status}", str(text))

    def submit(self, body: dict[str, Any], *, idempotency: str = "", traceparent: str = "") -> dict[str, Any]:
        """Make a run. An idempotency key makes asking again safe, so there always is one."""
        return self._made("/runs", body, idempotency, traceparent)

    def submit_batch(self, body: dict[str, Any], *, idempotency: str = "", traceparent: str = "") -> dict[str, Any]:
        """Make a batch."""
        return self._made("/batches", body, idempotency, traceparent)

    def _made(self, path: str, body: dict[str, Any], idempotency: str, traceparent: str) -> dict[str, Any]:
        headers = {"Idempotency-Key": idempotency or str(uuid.uuid4())}
        if traceparent:
            headers["traceparent"] = traceparent
        made: dict[str, Any] = self.call("POST", path, body, headers=headers)
        return made

    def run(self, run_id: str, wait: float = 0.0) -> dict[str, Any]:
        """Return a run; with I(wait) not before it has ended or the seconds are over."""
        shown: dict[str, Any] = self.call("GET", f"/runs/{_quoted(run_id)}?wait={wait:g}", timeout=wait + 60)
        return shown

    def result(self, run_id: str) -> dict[str, Any]:
        """Return a run with its result."""
        shown: dict[str, Any] = self.call("GET", f"/runs/{_quoted(run_id)}/result")
        return shown

    def finish(self, run_id: str, deadline: float) -> dict[str, Any]:
        """Wait until a run has ended."""
        while True:
            shown = self.run(run_id, wait=max(0.0, min(20.0, deadline - time.monotonic())))
            if shown["state"] in FINAL or time.monotonic() >= deadline:
                return shown

    def cancel(self, run_id: str) -> dict[str, Any]:
        """Cancel a run."""
        shown: dict[str, Any] = self.call("DELETE", f"/runs/{_quoted(run_id)}")
        return shown

    def replay(self, run_id: str) -> dict[str, Any]:
        """Make a new run like a dead letter."""
        shown: dict[str, Any] = self.call("POST", f"/runs/{_quoted(run_id)}/replay")
        return shown

    def runs(self, limit: int, **wanted: str) -> Iterator[dict[str, Any]]:
        """Yield the caller's runs, the newest first."""
        before = None
        while limit > 0:
            query = {name: value for name, value in wanted.items() if value}
            query["limit"] = str(min(limit, 200))
            if before:
                query["before"] = f"{before:.6f}"
            page = self.call("GET", f"/runs?{urllib.parse.urlencode(query)}")
            yield from page["runs"]
            limit -= len(page["runs"])
            before = page.get("before")
            if not before:
                return

    def batch(self, batch_id: str) -> dict[str, Any]:
        """Return the summary of a batch."""
        shown: dict[str, Any] = self.call("GET", f"/batches/{_quoted(batch_id)}")
        return shown

    def follow_batch(self, batch_id: str, deadline: float, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Wait until a batch has ended, and tell how far it is."""
        while True:
            shown = self.batch(batch_id)
            tell(shown)
            if shown["state"] == "ended" or time.monotonic() >= deadline:
                return shown
            time.sleep(1.0)

    def listed(self, what: str) -> list[dict[str, Any]]:
        """Return the queues or the schedules."""
        found: list[dict[str, Any]] = self.call("GET", f"/{what}")[what]
        return found


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def load_json(text: str, what: str) -> Any:
    """Read JSON from the command line, or from a file named with @."""
    try:
        if text.startswith("@"):
            text = pathlib.Path(text[1:]).read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise TasksError(f"{what}: {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise TasksError(f"{what} is not JSON: {error}") from error
