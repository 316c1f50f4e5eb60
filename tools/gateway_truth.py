#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare what a client counted with what the metrics say: the ground truth of the figures of the business.

    LANGFLOW_API_KEY=... tools/gateway_truth.py --url https://langflow.example.com --ca ca.crt --flow smoke \\
        --metrics http://127.0.0.1:3903/metrics [--metrics ...] --requests 600

Sends runs, streamed runs, background runs and requests that fail, one connection for each, counts the answers by kind
and class, and reads `langflow_gateway_requests_total` of every load balancer before and after. Each cell may differ by
less than half a percent: one lost line in a cell of 200 requests is too much. Nobody else may use the flow meanwhile.
`--forget N` leaves every Nth request out of the client's own count: the control, which has to end with 1.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import os
import re
import socket
import ssl
import sys
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

TOLERANCE = 0.005
SERIES = re.compile(r"^langflow_gateway_requests_total\{(?P<labels>.*)\} (?P<value>[0-9.e+]+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')
Cell = tuple[str, str, str]


def plan(flow: str) -> list[tuple[str, str, str, str]]:
    """Kind, flow in the label, path and body of each request of one round."""
    body = json.dumps({"input_value": "one two three"})
    return [
        ("run", flow, f"/api/v1/run/{flow}?stream=false", body),
        ("stream", flow, f"/api/v1/run/{flow}?stream=true", body),
        ("background", flow, "/api/v2/workflows", json.dumps({"flow_id": flow, "mode": "background"})),
        ("run", "", "/api/v1/run/there-is-no-such-flow", body),
        # No JSON, so Langflow refuses it.
        ("run", flow, f"/api/v1/run/{flow}?stream=false", "{"),
    ]


def code_class(status: int) -> str:
    """As the metric has it."""
    return f"{status // 100}xx"


def label_of(flow: str, status: int, proven: bool) -> str:
    """The label `flow`: the name, once an answer has proven it."""
    return flow if proven or status < 400 else ""


def parse(text: str) -> collections.Counter[Cell]:
    """Requests by flow, kind and class of one page of metrics."""
    found: collections.Counter[Cell] = collections.Counter()
    for line in text.splitlines():
        if match := SERIES.match(line):
            labels = dict(LABEL.findall(match["labels"]))
            found[labels.get("flow", ""), labels["kind"], labels["code_class"]] += round(float(match["value"]))
    return found


def read(pages: Iterable[str], context: ssl.SSLContext | None) -> collections.Counter[Cell]:
    """All load balancers together."""
    total: collections.Counter[Cell] = collections.Counter()
    for page in pages:
        parts = urllib.parse.urlsplit(page)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(parts.netloc, timeout=30, context=context)
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        try:
            connection.request("GET", parts.path or "/metrics")
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != 200:
                raise SystemExit(f"{page} answered {answer.status}")
            total.update(parse(text))
        finally:
            connection.close()
    return total


def judge(truth: Mapping[Cell, int], counted: Mapping[Cell, int]) -> list[tuple[Cell, int, int, bool]]:
    """Each cell of the client with both counts, and whether they agree."""
    return [
        (cell, count, counted.get(cell, 0), abs(counted.get(cell, 0) - count) < TOLERANCE * count)
        for cell, count in sorted(truth.items())
    ]


class Client:
    """One connection for each request, so that no request is lost on a connection that a reload has closed."""

    def __init__(self, url: str, key: str, context: ssl.SSLContext | None, address: str | None) -> None:
        parts = urllib.parse.urlsplit(url)
        self._tls = context if parts.scheme == "https" else None
        self._name, self._port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._headers = {
            "Content-Type": "application/json",
            "x-api-key": key,
            "Host": self._name,
            "Connection": "close",
        }
        self._address = address

    def post(self, path: str, body: str) -> int:
        """The status, read to the end."""
        connection = http.client.HTTPConnection(self._name, self._port, timeout=120)
        plain = socket.create_connection((self._address or self._name, self._port), timeout=120)
        connection.sock = self._tls.wrap_socket(plain, server_hostname=self._name) if self._tls else plain
        try:
            connection.request("POST", path, body, self._headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--connect", help="address to connect to instead of the name in --url")
    parser.add_argument("--ca")
    parser.add_argument("--flow", required=True)
    parser.add_argument("--metrics", action="append", required=True)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--settle", type=float, default=3.0, help="seconds until the last line is read")
    parser.add_argument("--forget", type=int, default=0)
    given = parser.parse_args(arguments)
    context = ssl.create_default_context(cafile=given.ca) if given.ca else None
    client = Client(given.url, os.environ.get("LANGFLOW_API_KEY", ""), context, given.connect)
    work = plan(given.flow)
    # The first good answer makes the name a label.
    if client.post(work[0][2], work[0][3]) >= 400:
        print(f"the flow {given.flow} does not answer, so there is nothing to count", file=sys.stderr)
        return 2
    time.sleep(given.settle)
    before = read(given.metrics, context)
    truth: collections.Counter[Cell] = collections.Counter()
    todo = [work[number % len(work)] for number in range(given.requests)]
    with ThreadPoolExecutor(given.parallel) as pool:
        statuses = pool.map(lambda one: client.post(one[2], one[3]), todo)
        for number, ((kind, flow, _path, _body), status) in enumerate(zip(todo, statuses, strict=True), 1):
            if not given.forget or number % given.forget:
                truth[label_of(flow, status, bool(flow)), kind, code_class(status)] += 1
    time.sleep(given.settle)
    counted = read(given.metrics, context)
    counted.subtract(before)
    rows = judge(truth, counted)
    for (flow, kind, code), client_count, metric_count, good in rows:
        counts = f"{client_count:>7}{metric_count:>7}"
        print(f"{kind:<11}{code:<5}{flow or '-':<40}{counts}  {'' if good else 'DIFFERS'}".rstrip())
    return 0 if all(good for _cell, _client, _metric, good in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
