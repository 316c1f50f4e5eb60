#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how many requests a second the generator of request_probe can make on this machine and still be trusted.

tools/bench_request_probe.py --rates 200 500 1000 --seconds 5

The target is a server on the loopback address in a process of its own, on kept connections. For each rate the tool
prints what was achieved, how late requests were started, and the processor time of one request. Exit code 1 when the
first rate is not reached.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + b'{"status":"ok"}'


class _Server(asyncio.Protocol):
    """Answers each request in one piece, and does nothing else."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


def serve(pipe: Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    asyncio.run(run())


def measure(port: int, rate: float, seconds: float) -> dict[str, Any]:
    """One probe as the module starts it."""
    from ansible_collections.flowfleet.langflow.plugins.module_utils import _request_probe as engine
    from ansible_collections.flowfleet.langflow.plugins.module_utils import _request_probe_control as control
    from ansible_collections.flowfleet.langflow.plugins.module_utils import _request_probe_report as reports

    load = engine.Load(kind="get", rate=rate, keep_alive=1.0, timeout=10.0)
    plan = engine.Plan(url=f"http://127.0.0.1:{port}", loads=(load,), max_duration=seconds)
    with tempfile.TemporaryDirectory() as directory:
        pid = control.start(directory, plan, "")
        os.waitpid(pid, 0)
        return reports.make_report(directory)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[200.0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--collections", type=Path, default=ROOT / ".cache" / "collections")
    options = parser.parse_args()
    sys.path.insert(0, str(options.collections))
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port = ours.recv()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, {time.strftime('%F %T')}")
    results = []
    for rate in options.rates:
        report = measure(port, rate, options.seconds)
        figures, latency = report["generator"], report["latency_ms"] or {}
        lag = figures["lag_ms"]
        print(
            f"wanted {rate:6g}/s  achieved {figures['achieved_rate']:8.1f}/s  failed {report['failed']}  "
            f"lag ms p50 {lag['p50']:g} p99 {lag['p99']:g} max {lag['max']:g}  "
            f"latency ms p50 {latency.get('p50')} p99 {latency.get('p99')}  "
            f"cpu {figures['cpu_seconds'] / max(report['n'], 1) * 1e6:.0f} us/request  "
            f"memory {figures['rss_mb']:.0f} MB  {'trusted' if report['trusted'] else '; '.join(report['doubts'])}",
            flush=True,
        )
        results.append(report["trusted"] and not report["failed"])
    server.terminate()
    return 0 if results[0] else 1


if __name__ == "__main__":
    sys.exit(main())
