"""The load of a drill: probes at each load balancer, background jobs, and a counter as ground truth.

The counter is an HTTP server in the drill's own process. The drills' flow tells it each of its executions, so that what
was executed is known from outside of Langflow, its database and its load balancers, whatever is done to them.
"""

from __future__ import annotations

import http.server
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.drills.core import Drill, DrillError, Lab, say
from tools.drills.front import Front

BEFORE, DURING, AFTER = "before", "during", "after"
# What two cores bear beside three nodes, one of them starting. For both load balancers together.
RATES = {"get": 5.0, "run": 0.6, "long_run": 0.12, "stream": 0.2}
PIECES = 30


class ExecutionCounter:
    """Counts the executions of each token, and writes one line for each."""

    def __init__(self, address: str, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stream = path.open("w", encoding="utf-8")
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                count = owner.add(self.path.rsplit("/", 1)[-1], self.client_address[0])
                body = str(count).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        address, port = self._server.server_address[:2]
        return f"http://{address!s}:{port}/count"

    def add(self, token: str, client: str) -> int:
        with self._lock:
            self.counts[token] += 1
            self._stream.write(f"{time.time():.3f} {client} {token}\n")
            self._stream.flush()
            return self.counts[token]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._stream.close()


def gateway(lab: Lab) -> str:
    """The controller's address in the lab's network."""
    argv = ["docker", "network", "inspect", "langflow-lab", "-f", "{{(index .IPAM.Config 0).Subnet}}"]
    subnet = lab.run(argv).stdout.strip()
    return subnet.rsplit(".", 1)[0] + ".1"


@contextmanager
def counting(lab: Lab, drill: Drill, label: str = "load") -> Iterator[ExecutionCounter]:
    counter = ExecutionCounter(gateway(lab), drill.folder / f"executions-{label}.log")
    try:
        yield counter
    finally:
        counter.close()


# --- probes ----------------------------------------------------------------------------------------------------------


def loads(flow: str, rates: Mapping[str, float], parts: int, path: str = "/health_check") -> list[dict[str, Any]]:
    """The loads of one of several probes."""
    kinds: dict[str, dict[str, Any]] = {
        "get": {"path": path, "timeout": 30},
        "run": {"flow": flow, "input": "{token}", "timeout": 60},
        "long_run": {"flow": flow, "input": "{token} sleep={seconds}", "seconds": [30, 60], "timeout": 180},
        "stream": {"flow": flow, "input": "{token} pieces={events}", "events": PIECES, "timeout": 120},
    }
    return [
        {"kind": kind, "rate": rate / parts, **kinds[kind]} for kind, rate in rates.items() if rate
    ]  # fmt: skip


def quantile(values: Sequence[float], part: float) -> float | None:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else None


GOOD = ("ok", "late")
UNCOUNTED = ("unfinished", "unsent")


def summarise(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and times (milliseconds) of requests."""
    counted = [entry for entry in entries if entry["class"] not in UNCOUNTED]
    failed = sum(1 for entry in counted if entry["class"] != "ok")
    times = [entry["latency"] * 1000 for entry in counted if entry["class"] in GOOD]
    return {
        "n": len(counted),
        "failed": failed,
        "bound": 3 / len(counted) if counted and not failed else None,
        "classes": dict(Counter(str(entry["class"]) for entry in counted)),
        **{f"p{part}_ms": round(value, 1) if (value := quantile(times, part / 100)) is not None else None
           for part in (50, 95, 99)},
    }  # fmt: skip


@dataclass
class Outcome:
    """What all probes of a drill have seen together."""

    reports: list[dict[str, Any]]
    requests: list[dict[str, Any]]

    @property
    def failed(self) -> int:
        return sum(int(report["failed"]) for report in self.reports)

    @property
    def n(self) -> int:
        return sum(int(report["n"]) for report in self.reports)

    @property
    def doubts(self) -> list[str]:
        return [doubt for report in self.reports for doubt in report["doubts"]]

    @property
    def doubles(self) -> int:
        return sum(int((report["executions"] or {}).get("double", 0)) for report in self.reports)

    @property
    def lost(self) -> int:
        return sum(int((report["executions"] or {}).get("lost", 0)) for report in self.reports)

    def of(self, kind: str = "", window: str = "") -> dict[str, Any]:
        """Figures of the requests of one kind and window."""
        return summarise(
            entry for entry in self.requests
            if kind in ("", entry["load"]) and window in ("", entry["window"])
        )  # fmt: skip

    def failures(self, count: int = 20) -> list[dict[str, Any]]:
        bad = [entry for entry in self.requests if entry["class"] not in ("ok", *UNCOUNTED)]
        return sorted(bad, key=lambda entry: float(entry["due"]))[:count]

    def p99_ratio(self, kind: str = "get") -> float | None:
        """p99 during ÷ before."""
        before, during = self.of(kind, BEFORE)["p99_ms"], self.of(kind, DURING)["p99_ms"]
        return round(during / before, 2) if before and during else None

    def facts(self) -> dict[str, Any]:
        """What a result keeps."""
        kinds = sorted({entry["load"] for entry in self.requests})
        windows = list(dict.fromkeys(entry["window"] for entry in self.requests))
        return {
            "all": self.of(),
            "kinds": {kind: self.of(kind) for kind in kinds},
            "windows": {window: {kind: self.of(kind, window) for kind in kinds} for window in windows},
            "p99_during_over_before": {kind: self.p99_ratio(kind) for kind in kinds},
            "double_executed": self.doubles,
            "answered_but_not_executed": self.lost,
            "doubts": self.doubts,
            "failures": self.failures(),
            "generators": [report["generator"] for report in self.reports],
        }


@dataclass
class Load:
    """A probe at each load balancer, all with the same loads at a part of the rate."""

    lab: Lab
    front: Front
    counter: ExecutionCounter
    folder: Path
    flow: str
    rates: Mapping[str, float]
    max_duration: float
    doors: Sequence[str] = ()
    path: str = "/health_check"
    started: bool = False

    def _call(self, door: str, state: str, **options: Any) -> dict[str, Any]:
        directory = self.folder / f"probe-{door}"
        return self.lab.do("localhost", "request_probe", {"state": state, "directory": str(directory), **options})

    @property
    def _doors(self) -> Sequence[str]:
        return self.doors or self.lab.balancers

    def start(self) -> None:
        self.started = True
        for door in self._doors:
            self._call(
                door,
                "started",
                url=f"https://{self.lab.addresses[door]}",
                server_name=self.front.domain,
                ca_path=str(self.front.ca),
                api_key_path=str(self.front.key_path),
                max_duration=self.max_duration,
                max_lag=0.5,
                timeout=60,
                loads=loads(self.flow, self.rates, len(self._doors), self.path),
            )

    def mark(self, name: str) -> None:
        for door in self._doors:
            self._call(door, "marked", mark=name)

    def stop(self) -> Outcome:
        """Wait for what is under way and read the results."""
        # The collection's own reader of raw results, once its packages can be imported.
        from ansible_collections.flowfleet.langflow.plugins.module_utils import _request_probe_report as probe_report

        reports, requests = [], []
        for door in self._doors:
            self._call(door, "stopped")
        self.started = False
        for door in self._doors:
            found = self._call(door, "reported", executed_path=str(self.counter.path))["report"]
            reports.append(found)
            results = probe_report.read_results(str(self.folder / f"probe-{door}"))
            for entry in results.requests:
                window = BEFORE
                for name, begin in results.marks:
                    window = name if entry["due"] >= begin else window
                requests.append({**entry, "door": door, "window": window})
        outcome = Outcome(reports, requests)
        for kind in sorted({entry["load"] for entry in requests}):
            row = outcome.of(kind)
            say(f"  {kind:<9} {row['n']:>6} sent {row['failed']:>4} failed  ms p50 {row['p50_ms']} p99 {row['p99_ms']}")
        return outcome


@contextmanager
def loaded(
    lab: Lab,
    front: Front,
    counter: ExecutionCounter,
    drill: Drill,
    *,
    label: str = "load",
    rates: Mapping[str, float] = RATES,
    warm: float = 45.0,
    max_duration: float = 3600,
    doors: Sequence[str] = (),
    path: str = "/health_check",
) -> Iterator[Load]:
    """Load while something is done. The time until the first mark is the one to compare with."""
    front.settle()
    flow = front.import_flow(counter.url)
    load = Load(lab, front, counter, drill.folder / label, flow, rates, max_duration, doors, path)
    try:
        load.start()
        time.sleep(warm)
        yield load
    finally:
        if load.started:
            try:
                load.stop()
            except DrillError as error:
                say(f"the load could not be ended in an orderly way: {error}")
        front.delete_flow(flow)


# --- background jobs -------------------------------------------------------------------------------------------------

JOB_ENDS = {"completed", "failed", "cancelled", "timed_out", "error"}


@dataclass
class BackgroundJobs:
    """Background jobs through the front door while something is done, and what became of each."""

    front: Front
    flow: str
    every: float
    seconds: float
    run_id: str = field(default_factory=lambda: f"{int(time.time()):x}")
    jobs: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def _post(self, number: int) -> None:
        token = f"job-{self.run_id}-{number:04d}"
        try:
            self.jobs[token] = self.front.start_job(self.flow, f"{token} sleep={self.seconds}")
        except Exception as error:  # each job that was not taken is counted
            self.refused.append(f"{token}: {error}")

    def _go(self) -> None:
        number = 0
        while not self._over.wait(self.every):
            number += 1
            self._post(number)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread:
            self._thread.join(90)

    def outcome(self, patience: float = 180.0) -> dict[str, int]:
        """How many ended how."""
        deadline = time.monotonic() + patience
        states: dict[str, str] = {}
        while time.monotonic() < deadline:
            waiting = [token for token in self.jobs if states.get(token) not in JOB_ENDS]
            if not waiting:
                break
            for token in waiting:
                states[token] = self.front.job_status(self.jobs[token])
            time.sleep(2)
        return dict(Counter(states.values()))
