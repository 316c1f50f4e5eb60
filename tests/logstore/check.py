#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove with real documents what a log store does: `check.py --url https://192.0.2.71:9200 --ca ca.crt --secrets DIR`.

Every document goes in as a shipper sends it, with the shipper's login, and is read back with the login of people. DIR
has files with the names of the secrets (elasticsearch_admin_password and so on). All that is written stands in streams
of a namespace of its own, which are deleted in the end.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import datetime
import http.client
import json
import pathlib
import secrets
import ssl
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

HERE = pathlib.Path(__file__).resolve().parent
USERS = ("admin", "writer", "reader", "monitor")

# Secrets that mean nothing, by the name of what should find them. The number is one that card networks use for tests.
CANARIES = {
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ",
    "api_key": "sk-canary0123456789abcdef",
    "card": "4242 4242 4242 4242",
    "card_plain": "5555555555554444",
    "email": "canary.person@example.com",
    "phone": "+49 171 5550142",
    "fernet": "gAAAAAB" + "canary0" * 9,
}
# Secrets that only their surroundings give away.
NAMED = {"word": "hunter2-canary-word", "bearer": "opaque-canary-bearer-0001"}
# Looks like a card and is none; changes to it would be damage.
INNOCENT = "4242 4242 4242 4243"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One question and its answer."""

    name: str
    good: bool
    text: str = ""


class Store:
    """The log store, asked as one of its users."""

    def __init__(self, url: str, ca: str | None, passwords: Mapping[str, str]) -> None:
        self.host = urllib.parse.urlsplit(url).netloc
        self.context = ssl.create_default_context(cafile=ca)
        self.passwords = passwords

    def ask(self, user: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer."""
        name = f"flowfleet_{user}"
        word = base64.b64encode(f"{name}:{self.passwords.get(user, '')}".encode()).decode()
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
        client = http.client.HTTPSConnection(self.host, timeout=120, context=self.context)
        try:
            client.request(method, path, data, {"Authorization": f"Basic {word}", "Content-Type": kind})
            answer = client.getresponse()
            return answer.status, parsed(answer.read())
        finally:
            client.close()

    def bulk(self, rows: list[tuple[str, str, dict[str, Any]]], query: str = "") -> list[dict[str, Any]]:
        """Add documents (stream, id, document) with the shipper's login; the answer for each."""
        lines = b"".join(
            json.dumps({"create": {"_index": stream, "_id": name}}).encode()
            + b"\n"
            + json.dumps(document).encode()
            + b"\n"
            for stream, name, document in rows
        )
        status, answer = self.ask("writer", "POST", f"/_bulk{query}", lines)
        if status != 200:
            raise SystemExit(f"the store takes no documents: {status} {answer}")
        return [item["create"] for item in answer["items"]]

    def sources(self, pattern: str) -> dict[str, dict[str, Any]]:
        """All documents of streams, by id."""
        self.ask("admin", "POST", f"/{pattern}/_refresh")
        status, answer = self.ask("reader", "POST", f"/{pattern}/_search", {"size": 1000, "query": {"match_all": {}}})
        if status != 200:
            raise SystemExit(f"the store shows no documents: {status} {answer}")
        return {hit["_id"]: hit["_source"] for hit in answer["hits"]["hits"]}


def parsed(content: bytes) -> Any:
    """JSON, or the text."""
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")


def field(document: Any, name: str) -> Any:
    """A field by its dotted name."""
    for part in name.split("."):
        document = document.get(part) if isinstance(document, dict) else None
    return document


def shipped(dataset: str, namespace: str, document: dict[str, Any]) -> dict[str, Any]:
    """A document with what the shipper puts into each."""
    return {
        "@timestamp": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "host": {"name": "check"},
        "event": {"dataset": dataset},
        "data_stream": {"type": "logs", "dataset": dataset, "namespace": namespace},
        **document,
    }


def read_documents() -> list[dict[str, Any]]:
    """The documents beside this file."""
    rows: list[dict[str, Any]] = yaml.safe_load((HERE / "documents.yml").read_text(encoding="utf-8"))
    return rows


def canary_documents() -> list[dict[str, Any]]:
    """The canaries on every way in: body, address, header, exception, JSON in JSON, lists, names of fields."""
    rows: list[dict[str, Any]] = []
    for value in CANARIES.values():
        inner = json.dumps({"input": {"text": f"x {value} y"}})
        rows += [
            {"message": f"body {value}, and more"},
            {
                "message": "m",
                "url": {"path": "/x", "query": f"q=pay%20{value.replace(' ', '%20').replace('+', '%2B')}&b=1"},
            },
            {
                "message": "m",
                "flowfleet": {"langflow": {"headers": {"x-note": value}, "list": [value, {"deep": [value]}]}},
            },
            {
                "message": "m",
                "flowfleet": {"langflow": {"exception": f'Traceback:\n  File "a.py"\nValueError: bad {value}\n'}},
            },
            {"message": f"json {inner}", "flowfleet": {"langflow": {"payload": json.dumps({"outer": inner})}}},
            {"message": "m", "flowfleet": {"langflow": {f"name {value}": 1}}},
            {
                "message": "m",
                "error": {"message": value, "stack_trace": f"at {value}"},
                "user_agent": {"original": value},
            },
        ]
    word, bearer = NAMED["word"], NAMED["bearer"]
    rows += [
        {"message": f'login password="{word}" failed'},
        {"message": f"GET /x?api_key={word}&b=1"},
        {"message": json.dumps({"a": {"api_key": word, "password": [word]}})},
        {"message": json.dumps({"outer": json.dumps({"client_secret": word})})},
        {"message": f"Authorization: Bearer {bearer}"},
        {"message": f"sent bearer {bearer} on"},
        {
            "message": "m",
            "flowfleet": {"langflow": {"headers": {"Authorization": f"Bearer {bearer}", "Cookie": f"s={word}"}}},
        },
        {"message": "m", "flowfleet": {"langflow": {"global": {"OPENAI_API_KEY": word, "x-api-key": {"v": word}}}}},
        {"message": "m", "flowfleet": {"langflow": {"dsn": f"postgresql://langflow:{word}@192.0.2.31/langflow"}}},
        {"message": "m", "flowfleet": {"langflow": {"number": int(CANARIES["card_plain"])}}},
    ]
    return rows


def leaks(document: Any) -> list[str]:
    """Names of canaries that can still be read somewhere in a document."""
    text = json.dumps(document, ensure_ascii=False)
    spellings = {
        name: {value, value.replace(" ", "%20").replace("+", "%2B")} for name, value in {**CANARIES, **NAMED}.items()
    }
    return [name for name, values in spellings.items() if any(value in text for value in values)]


def check_rights(store: Store, namespace: str) -> Iterator[Finding]:
    """Who may do what."""
    stream = f"logs-own.program-{namespace}"
    document = {"@timestamp": "2026-11-22T00:00:00Z", "message": "m"}
    bulk = json.dumps({"create": {"_index": stream}}).encode() + b"\n" + json.dumps(document).encode() + b"\n"
    table: list[tuple[str, str, str, Any, tuple[int, ...]]] = [
        ("writer", "POST", f"/{stream}/_search", {}, (403,)),
        ("writer", "DELETE", f"/_data_stream/{stream}", None, (403,)),
        ("writer", "GET", "/_ingest/pipeline/flowfleet-mask", None, (403,)),
        ("writer", "PUT", "/_ingest/pipeline/mine", {"processors": []}, (403,)),
        ("reader", "POST", f"/{stream}/_search", {}, (200,)),
        ("reader", "POST", "/_bulk", bulk, (403, 200)),
        ("reader", "DELETE", f"/_data_stream/{stream}", None, (403,)),
        ("monitor", "GET", "/_cluster/health", None, (200,)),
        ("monitor", "GET", "/_nodes/_local/stats", None, (200,)),
        ("monitor", "GET", "/_all/_stats", None, (200,)),
        ("monitor", "POST", f"/{stream}/_search", {}, (403,)),
        ("nobody", "GET", "/", None, (401,)),
    ]
    store.bulk([(stream, "rights", document)])
    for user, method, path, body, expected in table:
        status, answer = store.ask(user, method, path, body)
        good = status in expected
        # A bulk request is answered as a whole; what counts is what happened to its document.
        if good and status == 200 and path == "/_bulk":
            good = all(item["create"]["status"] == 403 for item in answer["items"])
        yield Finding(f"{user} {method} {path}", good, f"status {status}")


def check_documents(store: Store, namespace: str) -> Iterator[Finding]:
    """Every document is read as it says beside it."""
    rows = read_documents()
    answers = store.bulk(
        [
            (f"logs-{row['dataset']}-{namespace}", f"d{number}", shipped(row["dataset"], namespace, row["document"]))
            for number, row in enumerate(rows)
        ]
    )
    found = store.sources(f"logs-*-{namespace}")
    for number, row in enumerate(rows):
        name = f"{row['dataset']}: {row['name']}"
        document = found.get(f"d{number}")
        if document is None:
            yield Finding(name, False, f"was not taken: {answers[number]}")
            continue
        wrong = {key: field(document, key) for key, value in row["expect"].items() if field(document, key) != value}
        wrong.update({key: field(document, key) for key in row.get("absent", []) if field(document, key) is not None})
        yield Finding(name, not wrong, json.dumps(wrong) if wrong else "")
    again = store.bulk(
        [(f"logs-{rows[0]['dataset']}-{namespace}", "d0", shipped(rows[0]["dataset"], namespace, rows[0]["document"]))]
    )
    yield Finding(
        "a document that comes twice is there once", again[0]["status"] == 409, f"status {again[0]['status']}"
    )


def check_masking(store: Store, namespace: str) -> Iterator[Finding]:
    """No canary can be read, on whatever way it came, and what is none stays."""
    rows = canary_documents()
    stream = f"logs-langflow.app-{namespace}"
    answers = store.bulk(
        [(stream, f"c{number}", shipped("langflow.app", namespace, row)) for number, row in enumerate(rows)]
    )
    lost = [answer for answer in answers if answer["status"] != 201]
    yield Finding(
        "documents with canaries are taken", not lost, json.dumps(lost)[:500] if lost else f"{len(rows)} documents"
    )
    # A client that asks for no pipeline passes the last one all the same.
    store.bulk(
        [(stream, "c-none", shipped("langflow.app", namespace, {"message": f"key {CANARIES['api_key']}"}))],
        "?pipeline=_none",
    )
    store.bulk([(stream, "c-good", shipped("langflow.app", namespace, {"message": f"no card {INNOCENT}"}))])
    found = store.sources(f"logs-*-{namespace}")
    left = {name: leaks(document) for name, document in found.items() if leaks(document)}
    yield Finding(
        "canaries that can be read",
        not left,
        json.dumps({n: [v, found[n]] for n, v in left.items()})[:2000] if left else f"0 in {len(found)} documents",
    )
    failed = [name for name, document in found.items() if field(document, "labels.masking_failed")]
    yield Finding("no document failed to be masked", not failed, ", ".join(failed))
    yield Finding(
        "the last pipeline cannot be passed by",
        "[masked:" in str(found.get("c-none", {}).get("message")),
        str(found.get("c-none")),
    )
    yield Finding(
        "what is no secret stays", INNOCENT in str(found.get("c-good", {}).get("message")), str(found.get("c-good"))
    )
    # Far beyond what a line of a log is: whatever becomes of the text, the canary is not in it.
    deep = 'password="' + "\\x" * 60000 + NAMED["word"]
    answer = store.bulk([(stream, "c-deep", shipped("langflow.app", namespace, {"message": deep}))])[0]
    kept = store.sources(stream).get("c-deep", {})
    text = str(kept.get("message"))[:60]
    yield Finding(
        "a text that is too much is not kept", answer["status"] == 201 and not leaks(kept), f"{answer['status']} {text}"
    )
    # Control: without the last pipeline all of this would stand there to be read.
    free = f"logs-own.control-{namespace}"
    store.bulk([(free, "f0", shipped("own.control", namespace, {"message": "begins the stream"}))])
    store.ask("admin", "PUT", f"/{free}/_settings", {"index.final_pipeline": "_none"})
    store.bulk([(free, f"f{number}", shipped("own.control", namespace, row)) for number, row in enumerate(rows, 1)])
    seen = {name for document in store.sources(free).values() for name in leaks(document)}
    store.ask("admin", "DELETE", f"/_data_stream/{free}")
    yield Finding(
        "control: without masking every canary is found", seen == {*CANARIES, *NAMED}, ", ".join(sorted(seen))
    )
    # The store finds what stands in its index too, not only in the documents.
    for name in ("hunter2", "canary0123456789abcdef", "5555555555554444"):
        _, answer = store.ask(
            "reader",
            "POST",
            f"/logs-*-{namespace}/_search",
            {"query": {"query_string": {"query": f"*{name}*", "lenient": True}}},
        )
        hits = answer.get("hits", {}).get("total", {}).get("value", -1)
        yield Finding(f"a search for {name} finds nothing", hits == 0, f"{hits} hits")


def check_streams(store: Store, namespace: str) -> Iterator[Finding]:
    """Streams are what the templates say."""
    status, answer = store.ask("admin", "GET", f"/_data_stream/logs-nginx.access-{namespace}")
    streams = answer.get("data_streams", []) if status == 200 else []
    yield Finding(
        "a first document begins a data stream",
        len(streams) == 1 and streams[0]["template"] == "logs-flowfleet",
        str(streams)[:300],
    )
    status, answer = store.ask("admin", "GET", f"/logs-nginx.access-{namespace}/_settings?flat_settings=true")
    settings = next(iter(answer.values()))["settings"] if status == 200 and answer else {}
    wanted = {"index.default_pipeline": "flowfleet-logs", "index.final_pipeline": "flowfleet-mask"}
    yield Finding(
        "its index has both pipelines", all(settings.get(k) == v for k, v in wanted.items()), str(settings)[:300]
    )
    status, before = store.ask("admin", "POST", f"/logs-nginx.access-{namespace}/_rollover")
    yield Finding(
        "it begins a new index when told so", status == 200 and bool(before.get("rolled_over")), str(before)[:300]
    )
    status, _ = store.ask("admin", "PUT", f"/app-{namespace}/_doc/1", {"message": "m"})
    yield Finding("other names begin nothing", status in (403, 404, 400), f"status {status}")


def check_ages(store: Store, _namespace: str) -> Iterator[Finding]:
    """Ages, where the program has them."""
    status, answer = store.ask("admin", "GET", "/_ilm/policy/flowfleet-logs")
    if status in (400, 404, 405):
        print("left out: this program has no lifecycle by age and size (ILM)")
        return
    phases = answer.get("flowfleet-logs", {}).get("policy", {}).get("phases", {})
    yield Finding(
        "logs are deleted by age",
        "delete" in phases and "rollover" in phases.get("hot", {}).get("actions", {}),
        str(phases)[:300],
    )


CHECKS: tuple[Callable[[Store, str], Iterator[Finding]], ...] = (
    check_rights,
    check_documents,
    check_masking,
    check_streams,
    check_ages,
)


def run(store: Store) -> list[Finding]:
    """All checks, in a namespace of their own that is gone afterwards."""
    namespace = f"check{secrets.token_hex(4)}"
    try:
        return [finding for check in CHECKS for finding in check(store, namespace)]
    finally:
        store.ask("admin", "DELETE", f"/_data_stream/logs-*-{namespace}")


def main() -> int:
    """Take the arguments, ask, tell."""
    parser = argparse.ArgumentParser(description="Prove with real documents what a log store does.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--ca", required=True, help="certificates of the authority")
    parser.add_argument(
        "--secrets", type=pathlib.Path, required=True, help="directory with elasticsearch_<user>_password"
    )
    parser.add_argument("--json", type=pathlib.Path, help="write all findings there")
    arguments = parser.parse_args()
    passwords = {
        user: (arguments.secrets / f"elasticsearch_{user}_password").read_text(encoding="utf-8").strip()
        for user in USERS
    }
    began = time.monotonic()
    findings = run(Store(arguments.url, arguments.ca, passwords))
    bad = [finding for finding in findings if not finding.good]
    for finding in bad:
        print(f"FAILED {finding.name}: {finding.text}")
    if arguments.json:
        arguments.json.write_text(
            json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1) + "\n", encoding="utf-8"
        )
    print(f"{len(findings) - len(bad)} of {len(findings)} good in {time.monotonic() - began:.1f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
