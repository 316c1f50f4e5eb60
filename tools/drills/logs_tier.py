"""A lab as the drills of logs and traces see it: its client, what is kept of traces, what is found in the log store."""

from __future__ import annotations

import base64
import http.client
import json
import shlex
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.drills.alert_stage import Stage
from tools.drills.core import ROOT, Drill, DrillError, Lab, say
from tools.drills.front import Front
from tools.drills.logs_ledger import FAILING, KINDS, Run, datasets_by_trace, numbers

ARTIFACTS = ROOT / ".cache/lab-artifacts"
STORE_PORT = 9200
READER = "flowfleet_reader"
SPANS = "/var/lib/lab-trace-store/spans.jsonl"
SHIPPER, SHIPPER_DIR = "log-shipper.service", "/var/lib/log-shipper"
GATEWAY = "otelcol-gateway.service"
CALLS = "traces_span_metrics_calls_total"
PAGE = 1000


def left_out() -> dict[str, str]:
    """Parts that this machine has not made, and what goes without them."""
    parts = {"elasticsearch.tar.gz": "the log store", "otelcol-contrib.tar.gz": "the collector"}
    return {what: name for name, what in parts.items() if not (ARTIFACTS / f"{name}.sha256").is_file()}


def need(*parts: str) -> None:
    """End a drill that needs what is not there, and say so."""
    missing = left_out()
    if gone := [f"{part} ({missing[part]})" for part in parts if part in missing]:
        raise DrillError(f"not run, left out: {', '.join(gone)}; make lab-artifacts makes it")


@dataclass
class Tier:
    """The hosts that keep and choose, and the clients of a drill."""

    lab: Lab
    front: Front
    stage: Stage
    _login: str = ""
    _context: ssl.SSLContext | None = None

    @classmethod
    def of(cls, lab: Lab) -> Tier:
        return cls(lab, Front.of(lab), Stage(lab))

    # --- who is there

    @property
    def hosts(self) -> list[str]:
        """Those that send lines."""
        groups = ("loadbalancers", "langflow", "postgresql", "redis", "celery", "monitoring", "logging")
        return sorted({host for group in groups for host in self.lab.groups.get(group, [])})

    @property
    def keeper(self) -> str:
        hosts = self.lab.groups.get("logging", [])
        if not hosts:
            raise DrillError("nobody is in group logging")
        return hosts[0]

    # --- the log store

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 60) -> dict[str, Any]:
        """What the log store answers to a reader."""
        if self._context is None:
            lookup = "{{ lookup('flowfleet.langflow.secret', 'elasticsearch_reader_password') }}"
            self._login = base64.b64encode(f"{READER}:{self.lab.template(lookup)}".encode()).decode()
            self._context = ssl.create_default_context(cafile=str(self.front.ca))
        address = self.lab.addresses[self.keeper]
        connection = http.client.HTTPSConnection(address, STORE_PORT, timeout=timeout, context=self._context)
        try:
            headers = {"Authorization": f"Basic {self._login}", "Content-Type": "application/json"}
            connection.request(method, f"/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise DrillError(
                f"log store: {method} {path}: status {answer.status}: {text[:300].decode(errors='replace')}"
            )
        return dict(json.loads(text))

    def store_answers(self) -> bool:
        try:
            return bool(self.ask("POST", "logs-*/_search", {"size": 0}, timeout=10).get("hits"))
        except (OSError, DrillError):
            return False

    def documents(self, query: Mapping[str, Any], index: str = "logs-*") -> Iterator[dict[str, Any]]:
        """All documents that a query finds, page by page."""
        body: dict[str, Any] = {"size": PAGE, "query": query, "sort": [{"@timestamp": "asc"}, {"_id": "asc"}]}
        while True:
            hits = self.ask("POST", f"{index}/_search", body)["hits"]["hits"]
            yield from hits
            if len(hits) < PAGE:
                return
            body["search_after"] = hits[-1]["sort"]

    def datasets_of(self, traces: Sequence[str]) -> dict[str, set[str]]:
        """In which datasets lines of each trace were found."""
        found: dict[str, set[str]] = {}
        for start in range(0, len(traces), PAGE):
            part = list(traces[start : start + PAGE])
            inner = {"datasets": {"terms": {"field": "event.dataset", "size": 50}}}
            body = {
                "size": 0,
                "query": {"terms": {"trace.id": part}},
                "aggs": {"traces": {"terms": {"field": "trace.id", "size": PAGE}, "aggs": inner}},
            }
            found |= datasets_by_trace(self.ask("POST", "logs-*/_search", body))
        return found

    def numbered(self, mark: str, host: str) -> list[int]:
        """The numbers of the lines of a host that bear a mark, in the order of their time."""
        query = {"bool": {"filter": [{"match_phrase": {"message": mark}}, {"term": {"host.name": host}}]}}
        return numbers((str(hit["_source"].get("message", "")) for hit in self.documents(query)), mark)

    # --- traces

    def spans(self) -> list[dict[str, Any]]:
        """Every span that was kept."""
        host = self.lab.groups["lab_traces"][0]
        text = self.lab.inside(host, "sh", "-c", f"cat {SPANS} 2>/dev/null", check=False)
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def kept_traces(self) -> set[str]:
        return {str(span["trace_id"]) for span in self.spans()}

    def settled(self, still: float = 45, timeout: float = 600) -> float:
        """Wait until no more spans come; the seconds that took."""
        began = moved = time.monotonic()
        before = -1
        host = self.lab.groups["lab_traces"][0]
        while time.monotonic() - moved < still:
            count = int(self.lab.inside(host, "sh", "-c", f"cat {SPANS} 2>/dev/null | wc -l") or 0)
            if count != before:
                before, moved = count, time.monotonic()
            if time.monotonic() - began > timeout:
                raise DrillError(f"spans keep coming after {timeout:g} s")
            time.sleep(3)
        return time.monotonic() - began

    def calls(self, flow: str) -> float:
        """How many runs of a flow the gateways have counted, before any trace was dropped."""
        where = f'{CALLS}{{service_name="langflow", span_name="flow.execute", flow_id="{flow}"}}'
        rows = self.stage.query(f"sum({where})")
        return rows[0]["value"] if rows else 0.0

    # --- shippers

    def queues(self) -> dict[str, float]:
        """Lines that wait on each host."""
        rows = self.stage.query("flowfleet_log_shipper_queue_lines")
        return {str(row["labels"]["instance"]): row["value"] for row in rows}

    def delivered(self, timeout: float = 600) -> float:
        """Wait until no line waits anywhere, seen twice; the seconds that took."""
        began, good = time.monotonic(), 0
        while good < 3:
            found = self.queues()
            good = good + 1 if set(self.hosts) <= set(found) and not any(found.values()) else 0
            if time.monotonic() - began > timeout:
                left = {host: count for host, count in found.items() if count}
                raise DrillError(f"lines still wait after {timeout:g} s: {left or 'figures are missing'}")
            time.sleep(5)
        return time.monotonic() - began


# --- the client ------------------------------------------------------------------------------------------------------


@dataclass
class Flows:
    """One flow for each kind of run."""

    tier: Tier
    ids: dict[str, str] = field(default_factory=dict)

    def make(self, counter: str = "") -> None:
        for kind in KINDS:
            self.ids[kind] = self.tier.front.import_flow(counter)

    def remove(self) -> None:
        for kind, flow in list(self.ids.items()):
            self.tier.front.delete_flow(flow)
            del self.ids[kind]

    def options(self, **more: Any) -> tuple[str, str]:
        """What tells the gateways which flows are which."""
        flows = {"otel_collector_hot_flows": [self.ids["hot"]], "otel_collector_critical_flows": [self.ids["critical"]]}
        return "-e", json.dumps({**flows, **more})


@contextmanager
def flows_for(tier: Tier, drill: Drill) -> Iterator[Flows]:
    """The flows of a drill. Afterwards they are gone, and the tier is as its inventory says."""
    flows = Flows(tier)
    flows.make()
    try:
        yield flows
    finally:
        tier.lab.playbook("logging", folder=drill.folder)
        flows.remove()


def post(tier: Tier, run: Run, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> int:
    """One request through the front door, in the trace that its client has begun; the status of the answer."""
    given = {"Content-Type": "application/json", "traceparent": run.traceparent, **(headers or {})}
    anything = tuple(range(200, 600))
    run.begun = time.time()
    answer = tier.front.door(timeout=60).request(
        "POST", path, body=json.dumps(body).encode(), headers=given, expect=anything
    )
    run.ended, run.status = time.time(), answer.status
    return int(answer.status)


def send(tier: Tier, flow: str, run: Run, text: str = "", headers: Mapping[str, str] | None = None) -> int:
    """One run, whose answer is waited for."""
    words = [f"run-{run.trace[:12]}", *(["error=1"] if run.kind == FAILING else []), *([text] if text else [])]
    body = {"input_value": " ".join(words), "input_type": "chat", "output_type": "chat", "session_id": run.trace}
    return post(tier, run, f"/api/v1/run/{flow}?stream=false", body, headers)


def submit(tier: Tier, flow: str, run: Run) -> int:
    """The same as a task: it is taken at once, and runs when a worker has time."""
    return post(tier, run, "/tasks/v1/runs", {"flow": flow, "input": f"run-{run.trace[:12]}"})


def run_all(tier: Tier, flows: Flows, runs: Sequence[Run], journal: Path, parallel: int = 4) -> None:
    """Send all runs, and write down each with its answer."""
    from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_api

    lock, done = threading.Lock(), 0

    def one(run: Run) -> None:
        nonlocal done
        try:
            send(tier, flows.ids[run.kind], run)
        except _langflow_api.ApiError:
            run.ended = time.time()
        with lock:
            stream.write(json.dumps(vars(run)) + "\n")
            done += 1
            if done % 500 == 0:
                say(f"  {done} of {len(runs)} runs")

    with journal.open("w", encoding="utf-8") as stream, ThreadPoolExecutor(max_workers=parallel) as pool:
        for _result in pool.map(one, runs):
            pass


# --- numbered lines --------------------------------------------------------------------------------------------------


@dataclass
class Writer:
    """A program on every host that says numbered lines, and keeps on its own disk which numbers it has said."""

    tier: Tier
    mark: str
    every: float = 0.2

    @property
    def _file(self) -> str:
        return f"/var/lib/{self.mark}"

    def start(self) -> None:
        line = f"n=$((n+1)); logger -t drill '{self.mark} '$n; echo $n >> {self._file}; sleep {self.every:g}"
        loop = f"n=0; while :; do {line}; done"
        for host in self.tier.hosts:
            self.tier.stage.run_aside(host, self.mark, loop)

    def stop(self) -> None:
        for host in self.tier.hosts:
            self.tier.stage.stop_aside(host, self.mark)

    def written(self, host: str) -> list[int]:
        return [int(word) for word in self.tier.stage.shell(host, f"cat {self._file}").split()]

    def clean(self) -> None:
        for host in self.tier.hosts:
            self.tier.stage.shell(host, f"rm -f {shlex.quote(self._file)}")


@contextmanager
def writing(tier: Tier, mark: str) -> Iterator[Writer]:
    writer = Writer(tier, mark)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()


@dataclass
class Watch:
    """The lines that wait, every few seconds."""

    tier: Tier
    every: float = 5.0
    samples: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def _go(self) -> None:
        while not self._over.wait(self.every):
            try:
                self.samples.append((time.time(), self.tier.queues()))
            except (DrillError, ValueError):
                # A look that fails is one sample less.
                continue

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join(30)

    def most(self) -> dict[str, float]:
        """The most lines that have waited on each host."""
        found: dict[str, float] = {}
        for _moment, row in self.samples:
            for host, count in row.items():
                found[host] = max(found.get(host, 0.0), count)
        return found
