#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ground truth of tracing: sends traces whose number and kind are known, and judges what was kept of them.

traces.py send --agent http://127.0.0.1:4328 --truth FILE [--hot N --critical N --failing N --slow N --rest N ...]
traces.py judge --truth FILE --spans FILE [--metrics URL]

`send` makes traces as Langflow does: a request, the run of a flow in it, a statement to the database. It writes what it
made, one line for each trace, and some of them hold canaries: values that masking has to find. `judge` compares that
with what trace_store.py was given and with the metrics of the gateway. Needs nothing but Python, so that any host of a
lab can run it.

The ids of traces follow from `--seed`: the same every time. Which of them a share picks follows from the id, by a hash
that the Collector uses, so that it can be said beforehand. Of the seeds 1 to 30, 1, 3 and 14 put the share of 5,000 hot
traces outside the 95 % interval, as one in twenty does by its definition; the default is one of the others.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import itertools
import json
import math
import random
import re
import sys
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIDENCE = 0.95
METRICS_TOLERANCE = 0.005
HOT_SHARE = 0.01
SERIES = re.compile(r"^traces_span_metrics_calls_total\{(?P<labels>.*?)\} (?P<value>[0-9.e+]+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# What is made of each kind: the flow, the path of the request, seconds that it takes, and whether it fails.
KINDS: dict[str, tuple[str, str, float, bool]] = {
    "hot": ("hot-flow", "/api/v1/run/hot-flow", 0.02, False),
    "critical": ("critical-flow", "/api/v1/run/critical-flow", 0.02, False),
    "failing": ("hot-flow", "/api/v1/run/hot-flow", 0.02, True),
    "slow": ("hot-flow", "/api/v1/run/hot-flow", 7.5, False),
    "rest": ("some-flow", "/api/v1/run/some-flow", 0.02, False),
    "health": ("", "/health_check", 0.002, False),
}
# Kinds of which every trace has to be kept.
KEPT_ALL = ("critical", "failing", "slow")
CANARIES = {
    "key": "sk-canary0A1b2C3d4E5f6G7h8I9j",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ",
    "bearer": "canaryBearerToken0123456789",
    "card": "4111111111111111",
    "email": "canary.person@example.org",
    "phone": "+4915112345678",
    "password": "canary-pass-phrase-42",
}


@dataclass(frozen=True)
class Trace:
    """One trace that a client made."""

    kind: str
    trace_id: str
    canaries: bool = False


class Dice(random.Random):
    """Falls the same way every time."""


def plan(counts: Mapping[str, int], seed: int) -> list[Trace]:
    """Traces of all kinds, mixed; every tenth of those that are kept holds canaries."""
    source = Dice(seed)
    kinds = [kind for kind, number in counts.items() for _ in range(number)]
    source.shuffle(kinds)
    return [
        Trace(kind, f"{source.getrandbits(128):032x}", kind in KEPT_ALL and number % 10 == 0)
        for number, kind in enumerate(kinds)
    ]


# --- sending ---------------------------------------------------------------------------------------------------------


def text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def hidden() -> dict[str, Any]:
    """Parts of a span with canaries in every place that a text may stand."""
    deep: Any = {"authorization": f"Bearer {CANARIES['bearer']}", "note": f"write to {CANARIES['email']}"}
    for depth in range(6):
        deep = {f"level{depth}": [deep, f"card {CANARIES['card']}"]}
    nested = {
        "kvlistValue": {"values": [text("inner", f"key {CANARIES['key']}"), text("password", CANARIES["password"])]}
    }
    return {
        "name": f"GET /report/{CANARIES['email']}",
        "status": {"code": 1, "message": f"refused {CANARIES['key']}"},
        "attributes": [
            text("url.query", f"x-api-key={CANARIES['key']}&phone={urllib.parse.quote(CANARIES['phone'])}"),
            text("url.full", f"https://user:{CANARIES['password']}@example.org/?token={CANARIES['jwt']}"),
            text("http.request.header.authorization", f"Bearer {CANARIES['bearer']}"),
            text("password", CANARIES["password"]),
            text("input", json.dumps(deep)),
            {"key": "nested", "value": nested},
            {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": f"call {CANARIES['phone']}"}]}}},
            {"key": "number", "value": {"intValue": CANARIES["card"]}},
        ],
        "events": [
            {
                "name": f"exception of {CANARIES['email']}",
                "attributes": [
                    text("exception.message", f"401 for {CANARIES['jwt']}"),
                    text("exception.stacktrace", f'File "a.py", line 1\n  login(password="{CANARIES["password"]}")'),
                ],
            }
        ],
    }


def spans_of(trace: Trace, number: int, now: int) -> Iterator[dict[str, Any]]:
    """The spans of a trace, as Langflow makes them; the gateway's id of the request is the parent of the first one."""
    flow, path, seconds, failed = KINDS[trace.kind]
    end, start = now, now - int(seconds * 1e9)
    ids = [f"{number * 8 + place + 1:016x}" for place in range(4)]
    status = {"code": 2 if failed else 0}
    route = path if trace.kind == "health" else "/api/v1/run/{flow_id_or_name}"
    method = "GET" if trace.kind == "health" else "POST"
    common = {"traceId": trace.trace_id, "startTimeUnixNano": str(start), "endTimeUnixNano": str(end)}
    yield {
        **common,
        "spanId": ids[0],
        "parentSpanId": trace.trace_id[16:],
        "name": f"{method} {route}",
        "kind": 2,
        "status": status,
        "attributes": [text("http.route", route), text("url.path", path), text("http.request.method", method)],
    }
    yield {**common, "spanId": ids[1], "parentSpanId": ids[0], "name": f"{method} {route} http send", "kind": 1}
    if flow:
        yield {
            **common,
            "spanId": ids[2],
            "parentSpanId": ids[0],
            "name": "flow.execute",
            "kind": 1,
            "status": status,
            "attributes": [
                text("flow_id", flow),
                text("run_id", trace.trace_id),
                text("status", "error" if failed else "ok"),
            ],
        }
    if trace.canaries:
        yield {**common, "spanId": ids[3], "parentSpanId": ids[0], "kind": 3, **hidden()}
    else:
        yield {**common, "spanId": ids[3], "parentSpanId": ids[0], "name": "SELECT langflow", "kind": 3}


def payload(spans: Sequence[Mapping[str, Any]], host: str) -> dict[str, Any]:
    """A request of OTLP as JSON."""
    resource = {"attributes": [text("service.name", "langflow"), text("host.name", host)]}
    scope = {"name": "langflow.observability"}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": list(spans)}]}]}


def send(agents: Sequence[str], traces: Sequence[Trace], truth: Path, rate: float, batch: int = 50) -> int:
    """Send all, the spans of a trace in two requests, as from two hosts; returns how many requests were refused."""
    refused = 0
    begun = time.monotonic()
    ways = [http.client.HTTPConnection(urllib.parse.urlsplit(agent).netloc, timeout=30) for agent in agents]
    try:
        with truth.open("a", encoding="utf-8") as stream:
            for first in range(0, len(traces), batch):
                group = traces[first : first + batch]
                now = time.time_ns()
                made = [list(spans_of(trace, first + place, now)) for place, trace in enumerate(group)]
                children = [span for spans in made for span in spans[1:]]
                parents = [span for spans in made for span in spans[:1]]
                for place, spans in enumerate((children, parents)):
                    connection = ways[place % len(ways)]
                    body = json.dumps(payload(spans, f"app{place + 1}")).encode()
                    for _attempt in range(20):
                        connection.request("POST", "/v1/traces", body, {"Content-Type": "application/json"})
                        answer = connection.getresponse()
                        answer.read()
                        if answer.status == 200:
                            break
                        refused += 1
                        time.sleep(0.5)
                    else:
                        raise SystemExit(f"the agent refuses spans: {answer.status}")
                for trace in group:
                    stream.write(json.dumps(vars(trace)) + "\n")
                time.sleep(max(0.0, begun + (first + len(group)) / rate - time.monotonic()))
    finally:
        for connection in ways:
            connection.close()
    return refused


# --- judging ---------------------------------------------------------------------------------------------------------


def binomial_interval(number: int, share: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """The least and the most of so many that are expected with this confidence."""
    tail = (1 - confidence) / 2
    chance = [
        math.exp(
            math.lgamma(number + 1)
            - math.lgamma(hits + 1)
            - math.lgamma(number - hits + 1)
            + hits * math.log(share)
            + (number - hits) * math.log1p(-share)
        )
        for hits in range(number + 1)
    ]
    total, least, most = 0.0, None, number
    for hits, value in enumerate(chance):
        total += value
        if least is None and total > tail:
            least = hits
        if total >= 1 - tail:
            most = hits
            break
    return least or 0, most


def picked(trace_id: str, share: float) -> bool:
    """Whether the Collector's hash of an id (FNV-1a over its default salt and the id) falls into a share."""
    value = 0xCBF29CE484222325
    for byte in b"default-hash-seed" + bytes.fromhex(trace_id):
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value <= int(share * 0xFFFFFFFFFFFFFFFF)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def calls(page: str) -> collections.Counter[tuple[str, str, str]]:
    """Spans by name, flow and status, of one page of metrics."""
    found: collections.Counter[tuple[str, str, str]] = collections.Counter()
    for line in page.splitlines():
        if match := SERIES.match(line):
            labels = dict(LABEL.findall(match["labels"]))
            found[labels.get("span_name", ""), labels.get("flow_id", ""), labels.get("status_code", "")] += round(
                float(match["value"])
            )
    return found


def expected_calls(truth: Iterable[Trace]) -> collections.Counter[tuple[str, str, str]]:
    """What the metrics have to say about runs and requests."""
    wanted: collections.Counter[tuple[str, str, str]] = collections.Counter()
    for trace in truth:
        flow, _path, _seconds, failed = KINDS[trace.kind]
        if flow:
            status = "STATUS_CODE_ERROR" if failed else "STATUS_CODE_UNSET"
            wanted["flow.execute", flow, status] += 1
            wanted["POST /api/v1/run/{flow_id_or_name}", "", status] += 1
    return wanted


Row = tuple[str, bool, str, str]


def judge_kept(truth: Sequence[Trace], kept: Iterable[Mapping[str, Any]], hot_share: float = HOT_SHARE) -> list[Row]:
    """What was to be shown, whether it was, what was measured and what was wanted."""
    spans: dict[str, set[str]] = collections.defaultdict(set)
    leaks: collections.Counter[str] = collections.Counter()
    repeated = 0
    for line in kept:
        raw = json.dumps(line)
        leaks.update(name for name, value in CANARIES.items() if value in raw or urllib.parse.quote(value) in raw)
        repeated += line["span_id"] in spans[line["trace_id"]]
        spans[line["trace_id"]].add(line["span_id"])
    rows: list[Row] = []
    for kind in KINDS:
        ours = [trace for trace in truth if trace.kind == kind]
        found = [trace for trace in ours if trace.trace_id in spans]
        if not ours:
            continue
        measured = f"{len(found)} of {len(ours)} ({len(found) / len(ours):.2%})"
        if kind in KEPT_ALL:
            whole = sum(len(spans[trace.trace_id]) == 4 for trace in found)
            rows.append((f"{kind} traces are kept", len(found) == len(ours), measured, "all"))
            rows.append((f"{kind} traces are whole", whole == len(ours), f"{whole} of {len(ours)}", "all with 4 spans"))
        elif kind == "health":
            rows.append(("health checks leave no trace", not found, measured, "none"))
        else:
            share = hot_share if kind == "hot" else 0.1
            least, most = binomial_interval(len(ours), share)
            wanted = f"{least} to {most}, the {CONFIDENCE:.0%} interval of {share:.0%}"
            rows.append((f"{kind} traces have their share", least <= len(found) <= most, measured, wanted))
            expected = {trace.trace_id for trace in ours if picked(trace.trace_id, share)}
            others = expected ^ {trace.trace_id for trace in found}
            rows.append((f"{kind} traces are those that were to be picked", not others, f"{len(others)} others", "0"))
    if any(trace.canaries for trace in truth):
        total = sum(leaks.values())
        measured = f"{total} in {sum(len(ids) for ids in spans.values())} spans {dict(leaks) or ''}".rstrip()
        rows.append(("no canary is in the backend", not total, measured, "0"))
    rows.append(("no span came twice", not repeated, str(repeated), "0"))
    return rows


def judge_metrics(truth: Sequence[Trace], pages: Iterable[str]) -> list[Row]:
    """Metrics from spans against the truth, each cell by itself."""
    counted: collections.Counter[tuple[str, str, str]] = collections.Counter()
    leaks = 0
    for page in pages:
        counted.update(calls(page))
        leaks += sum(value in page for value in CANARIES.values())
    rows: list[Row] = []
    for cell, number in sorted(expected_calls(truth).items()):
        difference = abs(counted[cell] - number) / number
        measured = f"{counted[cell]} for {number} ({difference:.3%} off)"
        rows.append(
            (f"metrics of {' '.join(filter(None, cell))}", difference < METRICS_TOLERANCE, measured, "within 0.5 %")
        )
    health = sum(number for (name, _flow, _status), number in counted.items() if "health" in name)
    rows.append(("metrics leave health checks out", not health, str(health), "0"))
    rows.append(("no canary is in the metrics", not leaks, str(leaks), "0"))
    return rows


def page(url: str) -> str:
    """Metrics of a gateway, which listens for its own host only."""
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=30)
    try:
        connection.request("GET", where.path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"{url} answers {answer.status}")
        return answer.read().decode()
    finally:
        connection.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    sender = verbs.add_parser("send")
    sender.add_argument(
        "--agent", action="append", help="http://127.0.0.1:4328; of two, each gets a part of each trace"
    )
    sender.add_argument("--truth", type=Path, required=True)
    sender.add_argument("--seed", type=int, default=2)
    sender.add_argument("--rate", type=float, default=200.0, help="traces in a second")
    for kind in KINDS:
        sender.add_argument(f"--{kind}", type=int, default=0)
    judge = verbs.add_parser("judge")
    judge.add_argument("--truth", type=Path, required=True)
    judge.add_argument("--spans", type=Path, action="append", required=True)
    judge.add_argument("--metrics", action="append", default=[])
    given = parser.parse_args(arguments)

    if given.verb == "send":
        traces = plan({kind: getattr(given, kind) for kind in KINDS}, given.seed)
        refused = send(given.agent or ["http://127.0.0.1:4328"], traces, given.truth, given.rate)
        print(f"{len(traces)} traces sent; {refused} requests were refused and repeated")
        return 0
    truth = [Trace(**line) for line in read_lines(given.truth)]
    rows = judge_kept(truth, itertools.chain.from_iterable(map(read_lines, given.spans)))
    pages = [page(url) for url in given.metrics]
    if pages:
        rows += judge_metrics(truth, pages)
    for what, passed, measured, wanted in rows:
        print(f"{'pass' if passed else 'FAIL'}  {what}: {measured}; wanted: {wanted}")
    return 0 if all(passed for _what, passed, _measured, _wanted in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
