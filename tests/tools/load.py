#!/usr/bin/env python3
# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load one address at a constant rate of arrival and count what becomes of every request.

    LOAD_API_KEY=... tests/tools/load.py --url https://10.0.0.5 --server-name langflow.example.com --ca ca.crt \\
        --flow FLOW_ID --gets-per-second 20 --runs-per-second 2 --seconds 60 --output report.json

The requests start by the clock, whether or not earlier ones have been answered (an open loop): a server that stalls
does not slow the load down, and what it costs is counted. Every request has one connection, one deadline and one entry
in the report. The tool ends after --seconds plus one deadline at the latest, and sends no more than --max-requests.

With --event-file the tool reads, when all is over, the moment (seconds since 1970) that a test wrote into that file
when it broke something. The report then tells how many requests were in flight at that moment, how many of those
failed, and how many failed that only became due after it.

Exit code: 0 when every request was answered with its expected status, 1 when some were not, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MAX_BODY = 4 * 1024 * 1024


@dataclass
class Sample:
    """What became of one request. `start` and `seconds` are measured from the moment it was due."""

    kind: str
    start: float
    seconds: float
    outcome: str
    status: int = 0
    late: float = 0.0


class HttpFault(Exception):
    """The answer is not one of HTTP, or too large."""


@dataclass(frozen=True)
class Target:
    """The only address that is ever connected to."""

    host: str
    port: int
    server_name: str
    context: ssl.SSLContext | None
    timeout: float
    api_key: str
    user_agent: str

    def message(self, method: str, path: str, body: bytes) -> bytes:
        default = 443 if self.context else 80
        host = self.server_name if self.port == default else f"{self.server_name}:{self.port}"
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {host}",
            f"User-Agent: {self.user_agent}",
            "Accept: application/json",
            "Connection: close",
        ]
        if self.api_key:
            lines.append(f"x-api-key: {self.api_key}")
        if method == "POST":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Status of an answer that was read to its announced end."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise HttpFault(lines[0][:80])
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size > MAX_BODY:
                raise HttpFault("chunk too large")
            await reader.readexactly(size + 2)
            if size == 0:
                break
    elif "content-length" in headers:
        await reader.readexactly(min(int(headers["content-length"]), MAX_BODY))
    else:
        await reader.read(MAX_BODY)
    return int(parts[1])


async def exchange(target: Target, method: str, path: str, body: bytes, stage: list[str]) -> int:
    """One request; `stage` tells afterwards how far it came."""
    reader, writer = await asyncio.open_connection(
        target.host,
        target.port,
        ssl=target.context,
        server_hostname=target.server_name if target.context else None,
    )
    try:
        stage.append("sent")
        writer.write(target.message(method, path, body))
        await writer.drain()
        return await read_answer(reader)
    finally:
        writer.transport.abort()


def classify(error: BaseException, stage: list[str]) -> str:
    """The class of a failure. Before `sent` the server has not seen the request."""
    if isinstance(error, TimeoutError):
        return "timeout" if stage else "connect-timeout"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls"
    if isinstance(error, asyncio.IncompleteReadError | ConnectionError | ssl.SSLError):
        return "cut" if stage else "refused"
    if isinstance(error, HttpFault | ValueError | asyncio.LimitOverrunError):
        return "protocol"
    return "cut" if stage else "refused"


async def one(target: Target, kind: str, request: tuple[str, str, bytes], due: float, begin: float) -> Sample:
    stage: list[str] = []
    late = time.monotonic() - due
    try:
        async with asyncio.timeout(target.timeout):
            status = await exchange(target, *request, stage)
        outcome = "ok" if 200 <= status < 300 else f"http-{status}"
    except (OSError, HttpFault, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        status, outcome = 0, classify(error, stage)
    return Sample(kind, due - begin, time.monotonic() - due, outcome, status, late)


def schedule(kind: str, rate: float, seconds: float) -> list[tuple[float, str]]:
    """The moments at which requests of one kind are due."""
    return [(number / rate, kind) for number in range(int(rate * seconds))] if rate > 0 else []


async def run_load(
    target: Target, plan: list[tuple[float, str]], requests: dict[str, tuple[str, str, bytes]]
) -> list[Sample]:
    """Start each request when it is due and wait for all of them."""
    begin = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for moment, kind in plan:
            delay = begin + moment - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            tasks.append(group.create_task(one(target, kind, requests[kind], begin + moment, begin)))
    return [task.result() for task in tasks]


def quantile(values: list[float], part: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(part * len(values)))], 4) if values else 0.0


def longest_gap(samples: list[Sample]) -> float:
    """The longest time in which no request that became due then was answered well."""
    good = sorted(sample.start for sample in samples if sample.outcome == "ok")
    return round(max((after - before for before, after in zip(good, good[1:], strict=False)), default=0.0), 3)


def around(samples: list[Sample], moment: float) -> dict[str, Any]:
    """What the requests went through that were under way at a moment, and those after it."""
    before = [sample for sample in samples if sample.start + sample.seconds < moment]
    after = [sample for sample in samples if sample.start > moment]
    during = [sample for sample in samples if sample.start <= moment <= sample.start + sample.seconds]
    bad = {
        name: sum(1 for sample in part if sample.outcome != "ok")
        for name, part in (("before", before), ("in_flight", during), ("after", after))
    }
    return {"at": round(moment, 3), "in_flight": len(during), "failed": bad}


def report(samples: list[Sample]) -> dict[str, Any]:
    """Counts and times, per kind and together."""
    kinds: dict[str, Any] = {}
    for kind in sorted({sample.kind for sample in samples}):
        own = [sample for sample in samples if sample.kind == kind]
        times = [sample.seconds for sample in own if sample.outcome == "ok"]
        kinds[kind] = {
            "sent": len(own),
            "ok": len(times),
            "failed": len(own) - len(times),
            "outcomes": dict(sorted(Counter(sample.outcome for sample in own).items())),
            "seconds": {"p50": quantile(times, 0.5), "p95": quantile(times, 0.95), "max": quantile(times, 1.0)},
            "longest_gap": longest_gap(own),
        }
    failed = [asdict(sample) for sample in samples if sample.outcome != "ok"]
    return {
        "sent": len(samples),
        "ok": len(samples) - len(failed),
        "failed": len(failed),
        "latest_start": round(max((sample.late for sample in samples), default=0.0), 4),
        "kinds": kinds,
        "failures": failed,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", required=True, help="scheme, host and port of the one target")
    parser.add_argument("--server-name", help="name that its certificate has to prove")
    parser.add_argument("--ca", help="authority that its certificate has to come from")
    parser.add_argument("--flow", help="flow to run; its API key is read from LOAD_API_KEY")
    parser.add_argument("--text", default="load test of words", help="input of the flow")
    parser.add_argument("--get-path", default="/health_check")
    parser.add_argument("--gets-per-second", type=float, default=0.0)
    parser.add_argument("--runs-per-second", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--timeout", type=float, default=30.0)
    parser.add_argument("--max-requests", type=int, default=20000)
    parser.add_argument("--user-agent", default="flowfleet-load")
    parser.add_argument("--event-file", type=Path, help="file that holds the moment of an event when the load is over")
    parser.add_argument("--output", type=Path, help="write the report here instead of standard output")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    parts = urlsplit(options.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        print("--url must be http://host[:port] or https://host[:port]", file=sys.stderr)
        return 2
    if options.runs_per_second and not options.flow:
        print("--runs-per-second needs --flow", file=sys.stderr)
        return 2
    context = ssl.create_default_context(cafile=options.ca) if parts.scheme == "https" else None
    target = Target(
        parts.hostname,
        parts.port or (443 if context else 80),
        options.server_name or parts.hostname,
        context,
        options.timeout,
        os.environ.get("LOAD_API_KEY", ""),
        options.user_agent,
    )
    body = {"input_value": options.text, "input_type": "chat", "output_type": "chat", "session_id": options.user_agent}
    requests = {
        "get": ("GET", options.get_path, b""),
        "run": ("POST", f"/api/v1/run/{options.flow}?stream=false", json.dumps(body).encode()),
    }
    plan = sorted(
        schedule("get", options.gets_per_second, options.seconds)
        + schedule("run", options.runs_per_second, options.seconds)
    )
    if not plan or len(plan) > options.max_requests:
        print(f"{len(plan)} requests planned, allowed are 1 to {options.max_requests}", file=sys.stderr)
        return 2
    begin = time.time()
    samples = asyncio.run(run_load(target, plan, requests))
    result = report(samples)
    if options.event_file and options.event_file.exists():
        result["event"] = around(samples, float(options.event_file.read_text(encoding="utf-8")) - begin)
    text = json.dumps(result, indent=2) + "\n"
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
