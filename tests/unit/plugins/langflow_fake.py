# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Langflow in memory, with the answers of the real one (1.13) as far as the smoke test reads them."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "admin", "correct-horse-battery"
FIELD = {"type": "str", "input_types": ["Message", "Table", "JSON"], "value": "", "show": False}
INPUTS = {
    "ChatInput": [],
    "Operations": [
        *["input_type", "operation", "use_regex", "search_pattern", "replacement_text", "column_name", "ascending"],
        *["case_type", "text_input", "df"],
    ],
    "SplitText": ["separator", "chunk_size", "chunk_overlap", "clean_output", "data_inputs"],
    "ParserComponent": ["pattern", "sep", "input_data"],
    "Prompt Template": ["template"],
    "ChatOutput": ["input_value"],
}
OUTPUTS = {
    "ChatInput": ("message", "Message"),
    "Operations": ("message_output", "Message"),
    "SplitText": ("dataframe", "Table"),
    "ParserComponent": ("parsed_text", "Message"),
    "Prompt Template": ("prompt", "Message"),
    "ChatOutput": ("message", "Message"),
}


def catalogue() -> dict[str, Any]:
    """Component templates as GET /api/v1/all gives them."""
    return {
        "everything": {
            name: {
                "template": {"_type": "Component", **{field: dict(FIELD) for field in fields}},
                "outputs": [{"name": OUTPUTS[name][0], "method": "build", "types": [OUTPUTS[name][1]]}],
            }
            for name, fields in INPUTS.items()
        },
        "component_display_names": {"ChatInput": "Chat Input"},
    }


def answer_of_flow(text: str) -> str:
    """What the real flow answered to this input when it was recorded."""
    parts = text.split(" ")
    unique = list(dict.fromkeys(sorted(parts)))
    return f"{len(parts)} words, {len(text)} characters: {'|'.join(part.upper() for part in unique)}"


class State:
    """What the server holds, and what is wrong with it."""

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, Any]] = {}
        self.flows: dict[str, dict[str, Any]] = {}
        self.files: dict[str, tuple[str, bytes]] = {}
        self.jobs: dict[str, str] = {}
        self.tasks: dict[str, tuple[dict[str, Any], list[str]]] = {}
        self.task_states = ["running", "succeeded"]
        self.requests: list[tuple[str, str, str]] = []
        self.faults: dict[str, tuple[int, dict[str, Any], dict[str, str]]] = {}
        self.logins = 0
        self.gap = 0.05
        self.stream: list[str] | None = None

    def add_key(self, name: str) -> str:
        value = f"sk-{uuid.uuid4().hex}"
        self.keys[value] = {"id": str(uuid.uuid4()), "name": name}
        return value


class Handler(BaseHTTPRequestHandler):
    """The routes."""

    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _reply(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _events(self, events: list[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(events):
            if number:
                time.sleep(self.state.gap)
            self._chunk(json.dumps(event).encode() + b"\n\n")
        self._chunk(b"")

    def _allowed(self) -> bool:
        if self.headers.get("x-api-key"):
            return self.headers["x-api-key"] in self.state.keys
        return self.headers.get("Authorization") == "Bearer the-token"

    def _result(self, text: str) -> dict[str, Any]:
        return {"outputs": [{"outputs": [{"results": {"message": {"text": answer_of_flow(text)}}}]}]}

    def _story(self, text: str, end: Any) -> list[dict[str, Any]]:
        story = [
            {"event": "add_message", "data": {"sender": "User", "text": text}},
            {"event": "add_message", "data": {"sender": "Machine", "text": answer_of_flow(text)}},
            {"event": "end", "data": end},
        ]
        if self.state.stream is None:
            return story
        by_name = {"user": story[0], "machine": story[1], "end": story[2]}
        error = {"event": "error", "data": {"error": "component broke"}}
        return [by_name.get(name, error) for name in self.state.stream]

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        path, state = parts.path, self.state
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        state.requests.append((self.command, path, self.headers.get("User-Agent", "")))
        fault = state.faults.get(f"{self.command} {path}") or state.faults.get(re.sub(r"/[0-9a-f-]{36}", "/*", path))
        if fault:
            self._reply(fault[1], fault[0], fault[2])
            return
        name = f"{self.command} {re.sub(r'/[0-9a-f-]{36}', '/*', path)}"
        if name == "GET /health_check":
            self._reply({"status": "ok", "chat": "ok", "db": "ok"})
        elif name == "GET /api/v1/version":
            self._reply({"version": "1.13.0"})
        elif name == "POST /api/v1/login":
            state.logins += 1
            form = parse_qs(body.decode())
            right = form == {"username": [USER], "password": [PASSWORD]}
            self._reply({"access_token": "the-token"} if right else {"detail": "Incorrect"}, 200 if right else 401)
        elif not self._allowed():
            self._reply({"detail": "Invalid API key"}, 403)
        else:
            self._inside(name, path.rsplit("/", 1)[-1], body, parse_qs(parts.query))

    def _inside(self, name: str, last: str, body: bytes, query: dict[str, list[str]]) -> None:
        state = self.state
        if name == "GET /api/v1/users/whoami":
            self._reply({"username": USER})
        elif name == "GET /api/v1/all":
            self._reply(catalogue())
        elif name == "GET /api/v1/api_key/":
            self._reply({"api_keys": list(state.keys.values())})
        elif name == "POST /api/v1/api_key/":
            value = state.add_key(json.loads(body)["name"])
            self._reply({**state.keys[value], "api_key": value})
        elif name == "DELETE /api/v1/api_key/*":
            state.keys = {value: key for value, key in state.keys.items() if key["id"] != last}
            self._reply({"detail": "API Key deleted"})
        elif name == "GET /api/v1/flows/":
            self._reply(list(state.flows.values()))
        elif name == "POST /api/v1/flows/":
            flow = json.loads(body)
            flow["id"] = str(uuid.uuid4())
            state.flows[flow["id"]] = flow
            self._reply(flow, 201)
        elif name == "DELETE /api/v1/flows/*":
            self._reply({"detail": "gone"} if state.flows.pop(last, None) else {"detail": "Flow not found"})
        elif name == "POST /api/v1/run/*":
            text = json.loads(body)["input_value"]
            if query["stream"] == ["true"]:
                self._events(self._story(text, {"result": self._result(text)}))
            else:
                self._reply(self._result(text))
        elif name == "POST /api/v1/build/*/flow":
            job = str(uuid.uuid4())
            state.jobs[job] = json.loads(body)["inputs"]["input_value"]
            self._reply({"job_id": job})
        elif name == "GET /api/v1/build/*/events":
            job = self.path.split("/")[4]
            if job in state.jobs:
                self._events(self._story(state.jobs[job], {"build_duration": 1}))
            else:
                self._reply({"detail": f"Job not found: {job}"}, 404)
        elif "/tasks/v1/runs" in name:
            self._task(name, body)
        else:
            self._file(name, last, body)

    def _task(self, name: str, body: bytes) -> None:
        """The tasks tier beside it: a run goes one state further with each look at it."""
        state = self.state
        if name == "POST /tasks/v1/runs":
            identifier = str(uuid.uuid4())
            state.tasks[identifier] = (json.loads(body), list(state.task_states))
            self._reply({"id": identifier, "state": "queued"}, 202)
            return
        identifier = self.path.split("/")[4].partition("?")[0]
        request, states = state.tasks[identifier]
        now = states.pop(0) if len(states) > 1 else states[0]
        if name == "GET /tasks/v1/runs/*":
            self._reply({"id": identifier, "state": now, "attempt": 1})
        else:
            text = answer_of_flow(request["input"])
            self._reply({"id": identifier, "state": now, "result": {"output": {"text": text}, "outputs": [text]}})

    def _file(self, name: str, last: str, body: bytes) -> None:
        state = self.state
        if name == "POST /api/v2/files":
            head, _, rest = body.partition(b"\r\n\r\n")
            content = rest[: rest.rindex(b"\r\n--")]
            found = re.search(rb'filename="([^"]+)[.]bin"', head)
            identifier = str(uuid.uuid4())
            state.files[identifier] = (found[1].decode() if found else "", content)
            self._reply({"id": identifier, "name": state.files[identifier][0], "size": len(content)}, 201)
        elif name == "GET /api/v2/files":
            self._reply([{"id": key, "name": value[0]} for key, value in state.files.items()])
        elif last in state.files and name == "GET /api/v2/files/*":
            self._reply(state.files[last][1])
        elif last in state.files and name == "DELETE /api/v2/files/*":
            del state.files[last]
            self._reply({"detail": "gone"})
        else:
            self._reply({"detail": "File not found"}, 404)

    do_GET = do_POST = do_DELETE = _serve


class Langflow:
    """A running server."""

    def __init__(self) -> None:
        self.state = State()
        handler = type("OneHandler", (Handler,), {"state": self.state})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def asked(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(1 for _method, seen, _agent in self.state.requests if seen == path)


def running() -> Iterator[Langflow]:
    """One server for one test; what a fixture yields from."""
    server = Langflow()
    yield server
    server.server.shutdown()
    server.server.server_close()
