#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a lab's traces are kept: takes OTLP over HTTP as JSON and writes one line for each span.

trace_store.py [--address 0.0.0.0] --port 4320 --cert FILE --key FILE --file /var/lib/lab-trace-store/spans.jsonl

POST /v1/traces is what the Collector sends with `encoding: json`, gzip or not. Every line is written before the
answer. It listens for its own host unless told otherwise. Needs nothing but Python, so that any host can run it.
"""

from __future__ import annotations

import argparse
import gzip
import http.server
import json
import ssl
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

LIMIT = 64 * 1024 * 1024
KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUS = ("unset", "ok", "error")
IDLE_TIMEOUT = 120.0


def plain(value: Mapping[str, Any]) -> Any:
    """A value of OTLP as Python has it."""
    if "kvlistValue" in value:
        return pairs(value["kvlistValue"].get("values", []))
    if "arrayValue" in value:
        return [plain(item) for item in value["arrayValue"].get("values", [])]
    if "intValue" in value:
        return int(value["intValue"])
    return next(iter(value.values()), None)


def pairs(attributes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {item["key"]: plain(item.get("value", {})) for item in attributes}


def seconds(nanoseconds: Any) -> float:
    return int(nanoseconds or 0) / 1e9


def rows_of(request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each span of a request."""
    for item in request.get("resourceSpans", []):
        resource = pairs(item.get("resource", {}).get("attributes", []))
        for scope in item.get("scopeSpans", []):
            for span in scope.get("spans", []):
                status = span.get("status", {})
                yield {
                    "trace_id": span["traceId"],
                    "span_id": span["spanId"],
                    "parent_span_id": span.get("parentSpanId", ""),
                    "name": span.get("name", ""),
                    "kind": KINDS[span.get("kind", 0)],
                    "service": resource.get("service.name", ""),
                    "status": STATUS[status.get("code", 0)],
                    "message": status.get("message", ""),
                    "start": seconds(span.get("startTimeUnixNano")),
                    "end": seconds(span.get("endTimeUnixNano")),
                    "attributes": pairs(span.get("attributes", [])),
                    "resource": resource,
                    "scope": scope.get("scope", {}).get("name", ""),
                    "events": [
                        {"name": event.get("name", ""), "attributes": pairs(event.get("attributes", []))}
                        for event in span.get("events", [])
                    ],
                }


class Store(http.server.ThreadingHTTPServer):
    """The server. A client that says nothing keeps no other one waiting."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], file: Path, context: ssl.SSLContext | None = None) -> None:
        super().__init__(address, Handler)
        self.context = context
        self._stream = file.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def take(self, request: Mapping[str, Any]) -> None:
        lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in rows_of(request)]
        with self._lock:
            self._stream.writelines(lines)
            self._stream.flush()

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the connection's own thread: a handshake that never ends is nobody else's.
        request.settimeout(IDLE_TIMEOUT)
        if self.context is None:
            super().finish_request(request, client_address)
            return
        with self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is the client's affair."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), LIMIT))
        if self.path != "/v1/traces" or "json" not in self.headers.get("Content-Type", ""):
            self._answer(415, {"message": "POST /v1/traces as JSON, please"})
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.take(json.loads(body))
        self._answer(200, {})

    def log_message(self, format: str, *args: Any) -> None:
        """Its file says enough."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cert", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--file", type=Path, required=True)
    given = parser.parse_args(arguments)
    context = None
    if given.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(given.cert, given.key)
    Store((given.address, given.port), given.file, context).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
