# Copyright (c) The flowfleet.langflow contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The steps of the smoke test.

One run is known by its identifier, which goes into the name of everything it makes and into its user agent. Inputs,
expected outputs and file contents follow from the identifier, so that the steps can run on different hosts without
telling each other more than the identifiers the server gave out.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import (
    ApiError,
    Event,
    LangflowClient,
    output_text,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_flow import PlanError, make_flow
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Access, RestError, basic_login

PREFIX = "flowfleet-smoke"
RUN_ID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{12}$")
NAME = re.compile(rf"^{PREFIX}-([0-9a-f]{{8}})-[0-9a-f]{{12}}(-|$)")
LIFETIME = timedelta(hours=1)
LOGIN_PATIENCE = 70.0
FILE_SIZE = 256 * 1024
WORDS = 5
STREAM_WORDS = 60
STREAM_TRIES = 3
STREAM_GAP = 0.015
SPREAD_INTERVAL = 0.1
TARGETS_PATIENCE = 60.0
JOURNAL = "journal"
TASKS = "/tasks/v1"
LOG_TAIL = 64 * 1024 * 1024


class StepFailed(Exception):
    """A step of the smoke test failed; its row is recorded already."""


@dataclass
class Report:
    """What was tested, on which node, how long it took, and how it ended."""

    node: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time one step; what the body appends becomes its detail, an error its verdict."""
        detail: list[str] = []
        start = time.monotonic()
        try:
            yield detail
        except (ApiError, PlanError, OSError, subprocess.SubprocessError) as error:
            self._add(name, start, False, str(error))
            raise StepFailed(f"{name} ({self.node}): {error}") from error
        self._add(name, start, True, ", ".join(detail))

    def _add(self, name: str, start: float, passed: bool, detail: str) -> None:
        milliseconds = round((time.monotonic() - start) * 1000)
        verdict = "ok" if passed else "FAILED"
        self.rows.append({"step": name, "node": self.node, "ms": milliseconds, "verdict": verdict, "detail": detail})


# ---------------------------------------------------------------------- what follows from the identifier of a run


def new_run_id(now: float | None = None) -> str:
    """The second it began, and chance."""
    return f"{int(time.time() if now is None else now):08x}-{secrets.token_hex(6)}"


def run_name(run_id: str) -> str:
    """The name of the flow and of the API key of a run, and the beginning of the names of its files."""
    return f"{PREFIX}-{run_id}"


def user_agent(run_id: str) -> str:
    """What the requests of a run are found by in an access log."""
    return f"{PREFIX}/{run_id}"


def words(run_id: str, label: str, count: int = WORDS) -> str:
    """The input of one execution: words that nothing else sends, one of them twice."""
    digests = (hashlib.sha256(f"{run_id}/{label}/{index}".encode()).hexdigest()[:8] for index in range(count - 1))
    result = [f"w{digest}" for digest in digests]
    return " ".join([*result, result[0]])


def expected_output(text: str) -> str:
    """What the flow makes of an input."""
    rows = "|".join(sorted(set(text.split()))).upper()
    return f"{len(text.split())} words, {len(text)} characters: {rows}"


def file_content(run_id: str, label: str) -> bytes:
    """Bytes of every value, different in each run."""
    return hashlib.shake_256(f"{run_id}/{label}".encode()).digest(FILE_SIZE)


def is_ours(name: str, run_id: str | None, now: float) -> bool:
    """Whether something was made by this run, or by one so old that it cannot be running any more."""
    match = NAME.match(name)
    if not match:
        return False
    if run_id is not None and name.startswith(run_name(run_id)):
        return True
    return int(match[1], 16) < now - LIFETIME.total_seconds()


# ---------------------------------------------------------------------- through the front door


def sign_in(client: LangflowClient, report: Report, run_id: str, username: str, password: str) -> str:
    """Health, version, login and a temporary API key; the key."""
    with report.step("health") as detail:
        state = client.health()
        detail.append(", ".join(f"{key} {value}" for key, value in sorted(state.items())))
    with report.step("version") as detail:
        detail.append(f"Langflow {client.version()}")
    with report.step("login") as detail:
        client.login(username, password, patience=LOGIN_PATIENCE)
        detail.append(f"as {username}")
    with report.step("api key") as detail:
        expires = datetime.now(UTC) + LIFETIME
        key = str(client.create_api_key(run_name(run_id), expires.isoformat(timespec="seconds"))["api_key"])
        client.api_key = key
        client.whoami()
        detail.append(f"valid until {expires:%H:%M} UTC")
    return key


def import_flow(client: LangflowClient, report: Report, run_id: str, plan: Mapping[str, Any]) -> str:
    """Put the flow together from the server's own components and import it; its identifier."""
    with report.step("import flow") as detail:
        flow = make_flow(client.call("GET", "/api/v1/all"), plan, run_name(run_id))
        flow_id = client.create_flow(flow)
        detail.append(f"{len(flow['data']['nodes'])} components")
    return flow_id


def _compare(found: str, text: str) -> None:
    if found != expected_output(text):
        raise ApiError("flow", f"the flow answered {found[:120]!r} instead of {expected_output(text)[:120]!r}")


def run_flow(client: LangflowClient, report: Report, run_id: str, flow_id: str) -> None:
    """Run the flow to its end."""
    with report.step("run") as detail:
        text = words(run_id, "run")
        _compare(client.run(flow_id, text, f"{run_name(run_id)}-run"), text)
        detail.append("output as computed")


def _finished(events: list[Event], what: str) -> Event:
    """The last event of a stream that ended well."""
    for event in events:
        if event.name == "error":
            raise ApiError("flow", f"{what} reported an error: {json.dumps(event.data)[:200]}")
    if not events or events[-1].name != "end":
        raise ApiError("cut", f"{what} stopped after {len(events)} events, before its end")
    return events[-1]


def stream_flow(client: LangflowClient, report: Report, run_id: str, flow_id: str) -> None:
    """Run the flow and see its events come one after the other, not all at once at the end."""
    with report.step("run streamed") as detail:
        for number in range(1, STREAM_TRIES + 1):
            text = words(run_id, f"stream{number}", STREAM_WORDS * number)
            events = list(client.run_stream(flow_id, text, f"{run_name(run_id)}-stream{number}"))
            end = _finished(events, "the stream")
            _compare(output_text((end.data or {}).get("result")), text)
            gap = end.seconds - events[0].seconds
            if len(events) > 1 and gap >= STREAM_GAP:
                detail.append(f"{len(events)} events over {round(gap * 1000)} ms")
                return
        raise ApiError(
            "flow",
            f"{len(events)} events came all at once ({gap * 1000:.1f} ms from first to last): something on the way"
            " collects the stream before it passes it on",
        )


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def run_task(client: LangflowClient, report: Report, run_id: str, flow_id: str, deadline: float = 60) -> None:
    """Let the tasks tier run the flow, and fetch what came of it."""
    with report.step("run as task") as detail:
        text = words(run_id, "task")
        asked = {"flow": flow_id, "input": text, "session_id": f"{run_name(run_id)}-task"}
        shown = client.call("POST", f"{TASKS}/runs", asked, expect=(202,))
        until = time.monotonic() + deadline
        while shown.get("state") in ("queued", "waiting", "running") and time.monotonic() < until:
            shown = client.call("GET", f"{TASKS}/runs/{shown['id']}?wait=10")
        if shown.get("state") != "succeeded":
            raise ApiError("flow", f"the task is {shown.get('state')} after {deadline:g} s: {shown.get('error') or ''}")
        result = client.call("GET", f"{TASKS}/runs/{shown['id']}/result")
        if expected_output(text) not in _texts(result.get("result")):
            raise ApiError("flow", "the result of the task is not the computed one")
        detail.append("output as computed")


def spread(client: LangflowClient, report: Report, count: int, sleep: Callable[[float], None] = time.sleep) -> None:
    """Requests enough for every node to get some; each on a connection of its own, at a pace no limit minds."""
    with report.step("spread requests") as detail:
        for _number in range(count):
            start = time.monotonic()
            client.health()
            sleep(max(0.0, SPREAD_INTERVAL - (time.monotonic() - start)))
        detail.append(f"{count} requests")


# ---------------------------------------------------------------------- on the nodes


def start_build(client: LangflowClient, report: Report, run_id: str, flow_id: str) -> str:
    """Start a build here; its job."""
    with report.step("build started"):
        text = words(run_id, f"build-{report.node}")
        return client.start_build(flow_id, text, f"{run_name(run_id)}-build-{report.node}")


def follow_build(client: LangflowClient, report: Report, run_id: str, job_id: str, origin: str) -> None:
    """Follow a build that was started on another node, to the right output."""
    with report.step("build followed") as detail:
        if not job_id:
            raise ApiError("flow", f"no build was started on {origin}")
        events = list(client.build_events(job_id))
        _finished(events, f"the build started on {origin}")
        text = words(run_id, f"build-{origin}")
        messages = [event.data.get("text") for event in events if event.name == "add_message" and event.data]
        if expected_output(text) not in messages:
            raise ApiError("flow", f"the build started on {origin} ended without the expected output")
        detail.append(f"started on {origin}, {len(events)} events")


def put_file(client: LangflowClient, report: Report, run_id: str) -> str:
    """Upload a file here; its identifier."""
    with report.step("file uploaded") as detail:
        name = f"{run_name(run_id)}-{report.node}.bin"
        stored = client.upload_file(name, file_content(run_id, report.node))
        if stored.get("size") != FILE_SIZE:
            raise ApiError("flow", f"{FILE_SIZE} bytes were sent, {stored.get('size')} stored")
        detail.append(f"{FILE_SIZE // 1024} KiB")
    return str(stored["id"])


def get_file(client: LangflowClient, report: Report, run_id: str, file_id: str, origin: str) -> None:
    """Read the file that another node took."""
    with report.step("file read") as detail:
        if not file_id:
            raise ApiError("flow", f"no file was uploaded through {origin}")
        content = client.download_file(file_id)
        if content != file_content(run_id, origin):
            raise ApiError("flow", f"{len(content)} bytes came back, and not those uploaded through {origin}")
        detail.append(f"uploaded through {origin}, same bytes")


def drop_file(client: LangflowClient, report: Report, file_id: str) -> None:
    """Delete a file where it was uploaded: if the nodes share no storage, no other node can."""
    with report.step("file deleted"):
        client.delete_file(file_id)


# ---------------------------------------------------------------------- on the load balancers


@dataclass(frozen=True)
class Node:
    """A node as an access log names it: by address and port."""

    name: str
    address: str
    port: int

    def upstreams(self) -> set[str]:
        """Every way the log may write it."""
        try:
            found = {str(item[4][0]) for item in socket.getaddrinfo(self.address, self.port, type=socket.SOCK_STREAM)}
        except OSError:
            found = set()
        return {
            f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
            for address in (*found, self.address)
        }


def _log_lines(path: str) -> Iterator[bytes]:
    """The end of a log and of its predecessor, should it have been rotated meanwhile."""
    if path == JOURNAL:
        command = ["journalctl", "--identifier=nginx_access", "--output=cat", "--since=-1h", "--quiet"]
        yield from subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()
        return
    for name in (f"{path}.1.gz", f"{path}.1", path):
        try:
            with open(name, "rb") as handle:
                handle.seek(max(0, os.fstat(handle.fileno()).st_size - LOG_TAIL))
                source = gzip.GzipFile(fileobj=handle) if name.endswith(".gz") else io.BufferedReader(handle)
                yield from source
        except (FileNotFoundError, gzip.BadGzipFile, EOFError):
            continue


def _served_by(line: bytes, agent: str) -> str | None:
    """The upstream that answered one request of this run."""
    if agent.encode() not in line:
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or agent not in entry.values():
        return None
    address = next((entry[key] for key in ("upstream_addr", "upstream", "upstream_address") if entry.get(key)), "")
    # A request that was passed on to a second node names both; the last one answered.
    return re.split(r"[,\s:]\s+", str(address).strip())[-1]


def count_served(path: str, agent: str, nodes: Iterable[Node]) -> dict[str, int]:
    """How many requests of this run each node answered, by an access log of one JSON object a line."""
    upstreams = {upstream: node.name for node in nodes for upstream in node.upstreams()}
    counts: dict[str, int] = {}
    for line in _log_lines(path):
        address = _served_by(line, agent)
        if address:
            name = upstreams.get(address, address)
            counts[name] = counts.get(name, 0) + 1
    return counts


def wait_served(
    path: str, agent: str, nodes: list[Node], least: int, wait: float, sleep: Callable[[float], None] = time.sleep
) -> dict[str, int]:
    """The same as soon as there are enough; a load balancer may hold back what it logs for a moment."""
    end = time.monotonic() + wait
    while True:
        if path != JOURNAL and not os.path.exists(path):
            raise ApiError("protocol", f"there is no access log {path}")
        counts = count_served(path, agent, nodes)
        if sum(counts.values()) >= least or time.monotonic() >= end:
            return counts
        sleep(0.5)


def judge_served(report: Report, counts: Iterable[Mapping[str, int]], nodes: Iterable[Node]) -> None:
    """Every node must have answered at least once."""
    total: dict[str, int] = {}
    for part in counts:
        for name, number in part.items():
            total[name] = total.get(name, 0) + int(number)
    idle = []
    for node in nodes:
        one = Report(node.name)
        try:
            with one.step("has served") as detail:
                if not total.get(node.name):
                    raise ApiError("flow", f"no request of this run reached it; the others: {total or 'none'}")
                detail.append(f"{total[node.name]} requests of this run")
        except StepFailed:
            idle.append(node.name)
        report.rows += one.rows
    if idle:
        raise StepFailed(f"has served ({', '.join(idle)}): no request of this run reached it")


def all_targets_up(report: Report, url: str, username: str, password: str, ca_path: str | None) -> None:
    """Everything that Prometheus measures has to answer; one that has just been restarted is given a moment."""
    access = Access(ca_path, timeout=10, token=basic_login(username, password))
    with report.step("all targets up") as detail:
        end = time.monotonic() + TARGETS_PATIENCE
        while True:
            try:
                answer = access.call("GET", f"{url.rstrip('/')}/api/v1/query?query=up")
                rows = answer.json()["data"]["result"] if answer.good else None
            except (RestError, KeyError, TypeError) as error:
                raise ApiError("protocol", f"Prometheus gives no usable answer: {error}") from error
            if rows is None:
                raise ApiError("status", f"Prometheus answers with status {answer.status}", answer.status)
            down = sorted(
                f"{row['metric'].get('job')}/{row['metric'].get('instance')}" for row in rows if row["value"][1] != "1"
            )
            if rows and not down:
                break
            if time.monotonic() >= end:
                raise ApiError("flow", f"down: {', '.join(down)}" if down else "Prometheus measures nothing")
            time.sleep(2)
        detail.append(f"{len(rows)} targets")


# ---------------------------------------------------------------------- afterwards


def clean_up(
    client: LangflowClient, report: Report, run_id: str | None, username: str, password: str, now: float | None = None
) -> None:
    """Remove what this run made, and what runs that were killed left behind."""
    now = time.time() if now is None else now
    with report.step("clean up") as detail:
        if client.api_key:
            try:
                client.whoami()
            except ApiError as error:
                if error.status not in (401, 403):
                    raise
                client.api_key = None
        if not client.api_key:
            client.login(username, password, patience=LOGIN_PATIENCE)
        files = [item for item in client.files() if is_ours(str(item.get("name")), run_id, now)]
        for item in files:
            client.delete_file(str(item["id"]))
        flows = [item for item in client.flows() if is_ours(str(item.get("name")), run_id, now)]
        for item in flows:
            client.delete_flow(str(item["id"]))
        keys = [item for item in client.api_keys() if is_ours(str(item.get("name")), run_id, now)]
        # The key in use goes last.
        keys.sort(key=lambda item: run_id is not None and item["name"] == run_name(run_id))
        for item in keys:
            client.delete_api_key(str(item["id"]))
        detail.append(f"{len(flows)} flow, {len(files)} files, {len(keys)} API key removed")


# ---------------------------------------------------------------------- the table

COLUMNS = ("step", "node", "ms", "verdict", "detail")


def table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The rows in aligned columns, one line each."""
    cells = [[str(name).upper() for name in COLUMNS]]
    cells += [[" ".join(str(row.get(name, "")).split()) for name in COLUMNS] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS) - 1)]
    result = []
    for line in cells:
        padded = [
            cell.rjust(width) if name == "ms" else cell.ljust(width)
            for cell, width, name in zip(line, widths, COLUMNS, strict=False)
        ]
        result.append("  ".join([*padded, line[-1]]).rstrip())
    return result


def planned(node: str, names: Iterable[str]) -> list[dict[str, Any]]:
    """Rows for a run that only says what it would do."""
    return [{"step": name, "node": node, "ms": 0, "verdict": "planned", "detail": ""} for name in names]
