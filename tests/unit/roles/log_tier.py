# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small server over TLS that takes lines as Elasticsearch's bulk interface and Logstash's HTTP input do.

Tests start it in their own process. By hand: log_tier.py --address ADDRESS --port 9200 --certificate c.pem --key
k.pem --store docs.jsonl --mode mode.txt; the last file says how it behaves: ok, full (429), part (429 for every second
document), refuse (400 for documents with the word refuse-me), denied (401) or broken (500).
"""

from __future__ import annotations

import argparse
import http.server
import json
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Store:
    """Documents by name, in the order in which they came."""

    def __init__(self, path: Path | None = None) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.repeated = 0
        self.requests: list[tuple[str, str | None]] = []
        self.lock = threading.Lock()
        self.file = path.open("a", encoding="utf-8") if path else None

    def create(self, name: str, document: dict[str, Any]) -> int:
        """Take a document; returns its status."""
        with self.lock:
            if name in self.documents:
                self.repeated += 1
                return 409
            self.documents[name] = document
            if self.file:
                self.file.write(json.dumps({"id": name, **document}) + "\n")
                self.file.flush()
            return 201

    @property
    def messages(self) -> list[str]:
        """Return the texts, in the order in which they came."""
        return [str(document.get("message")) for document in self.documents.values()]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the mode says."""

    protocol_version = "HTTP/1.1"
    store: Store
    mode: Callable[[], str]

    def log_message(self, format: str, *_arguments: Any) -> None:  # pylint: disable=redefined-builtin
        """Say nothing: on a host whose journal is sent it would feed itself."""

    def reply(self, status: int, body: Any) -> None:
        """Send an answer."""
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        """Take documents."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("utf-8")
        self.store.requests.append((self.path, self.headers.get("Authorization")))
        mode = type(self).mode()
        refused = {"full": 429, "denied": 401, "broken": 500}.get(mode)
        if refused:
            self.reply(refused, {"error": {"type": mode}, "status": refused})
        elif self.path.startswith("/_bulk"):
            self.bulk(body, mode)
        else:
            for document in json.loads(body):
                self.store.create(document["event"]["id"], document)
            self.reply(200, "ok")

    def bulk(self, body: str, mode: str) -> None:
        """Take documents as Elasticsearch does."""
        lines = body.rstrip("\n").split("\n")
        items = []
        for number, (action, text) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
            create = json.loads(action)["create"]
            error = {"type": "es_rejected_execution_exception", "reason": "full"}
            if mode == "part" and number % 2:
                items.append({"create": {"status": 429, "error": error}})
            elif mode == "refuse" and "refuse-me" in text:
                items.append(
                    {"create": {"status": 400, "error": {"type": "document_parsing_exception", "reason": "no"}}}
                )
            else:
                status = self.store.create(create["_id"], json.loads(text))
                items.append(
                    {
                        "create": {
                            "status": status,
                            **({"error": {"type": "version_conflict_engine_exception"}} if status == 409 else {}),
                        }
                    }
                )
        self.reply(200, {"errors": any(item["create"]["status"] > 299 for item in items), "items": items})


def server(
    address: str, port: int, certificate: Path, key: Path, store: Store, mode: Callable[[], str]
) -> http.server.ThreadingHTTPServer:
    """Return a server that is ready to serve."""
    handler = type("ModeHandler", (Handler,), {"store": store, "mode": staticmethod(mode)})
    made = http.server.ThreadingHTTPServer((address, port), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    made.socket = context.wrap_socket(made.socket, server_side=True)
    return made


def main() -> None:
    """Serve until somebody ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--mode", type=Path, required=True)
    given = parser.parse_args()
    store = Store()
    if given.store.exists():
        for line in given.store.read_text(encoding="utf-8").splitlines():
            document = json.loads(line)
            store.documents[document.pop("id")] = document
    store.file = given.store.open("a", encoding="utf-8")
    server(
        given.address,
        given.port,
        given.certificate,
        given.key,
        store,
        lambda: given.mode.read_text(encoding="utf-8").strip(),
    ).serve_forever()


if __name__ == "__main__":
    main()
