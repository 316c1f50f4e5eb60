"""The tasks tier: runs by API and command line, retry, schedule, cancel, a roll of the workers, and bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Cluster, Play, ask

API = "/tasks/v1"
FINAL = ("succeeded", "failed", "cancelled", "unknown")
PACKAGE = ROOT / "roles/celery/files/flowfleet_tasks/src"
SCHEDULES = "/etc/flowfleet/celery/schedules.json"


class Tasks:
    """The API as a user of the front door sees it."""

    def __init__(self, front: Callable[..., Any], flow: tuple[str, str, Callable[[str], str]], ca: Path) -> None:
        self.front, self.ca = front, ca
        self.key, self.flow, self.expected = flow

    def call(
        self, method: str, path: str, data: Any = None, *, key: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of any answer."""
        client = self.front()
        client.api_key = self.key if key is None else key
        body = data if isinstance(data, bytes) or data is None else json.dumps(data).encode()
        headers = {**(headers or {}), **({} if body is None else {"Content-Type": "application/json"})}
        anything = tuple(range(200, 600))
        answer = client.request(method, API + path, body=body, headers=headers, expect=anything)
        return answer.status, answer.json()

    def submit(self, text: str, **more: Any) -> str:
        """Submit a run as a careful client does: an answer that got lost is asked for again with the same key."""
        token, body = str(uuid.uuid4()), {"flow": self.flow, "input": text, **more}
        for _attempt in range(20):
            status, shown = self.call("POST", "/runs", body, headers={"Idempotency-Key": token})
            if status not in (502, 503, 504):
                break
            time.sleep(1)
        assert status in (200, 202), shown
        return str(shown["id"])

    def beside(self, address: str, run_id: str) -> str:
        """The state of a run by one host of the API, past the front door; empty when it does not know the key."""
        from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import Endpoint, LangflowClient

        endpoint = Endpoint(f"https://{address}:7870", str(self.ca), "tasks.internal", 10, "tests")
        answer = LangflowClient(endpoint, self.key).request("GET", f"{API}/runs/{run_id}", expect=(200, 503)).json()
        return str(answer.get("state", ""))

    def wait(self, run_id: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until a run is in one of some states (default: it has ended)."""
        until = time.monotonic() + seconds
        while True:
            status, shown = self.call("GET", f"/runs/{run_id}" + ("" if states else "?wait=5"))
            assert status == 200, shown
            if shown["state"] in (states or FINAL):
                return dict(shown)
            assert time.monotonic() < until, shown
            time.sleep(0.3)

    def text(self, run_id: str) -> str:
        """What the flow answered."""
        shown = self.wait(run_id)
        assert shown["state"] == "succeeded", shown
        return str(self.call("GET", f"/runs/{run_id}/result")[1]["result"]["output"]["text"])


@pytest.fixture
def tasks(cluster: Cluster, front: Callable[..., Any], flow: tuple[str, str, Callable[[str], str]], ca: Path) -> Tasks:
    if not cluster.groups.get("celery"):
        pytest.skip("this inventory has no tasks tier")
    return Tasks(front, flow, ca)


def workers(cluster: Cluster) -> list[tuple[str, list[str]]]:
    return [
        (host, [item["name"] for item in cluster.variable("celery_workers", host)]) for host in cluster.groups["celery"]
    ]


def drain(cluster: Cluster, state: str) -> list[dict[str, Any]]:
    """Take all workers out of their queues, or let them go on; all hosts at the same time."""
    with ThreadPoolExecutor() as pool:
        found = list(
            pool.map(lambda item: ask(item[0], "celery_drain", {"workers": item[1], "state": state}), workers(cluster))
        )
    assert not [answer for answer in found if answer.get("failed")], found
    return found


@pytest.fixture
def drained(cluster: Cluster, tasks: Tasks) -> Iterator[Callable[[], None]]:
    """No worker takes anything until the function is called."""
    drain(cluster, "drained")
    going = []

    def go_on() -> None:
        going.append(drain(cluster, "consuming"))

    yield go_on
    if not going:
        go_on()


def test_a_run_by_the_api(tasks: Tasks) -> None:
    assert tasks.text(tasks.submit("by the api")) == tasks.expected("by the api")


def test_one_trace_from_the_submission_to_langflow(tasks: Tasks, cluster: Cluster) -> None:
    """The gateway begins it, the task keeps it, and the worker's requests to Langflow go on with it."""
    outside = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{outside}-b7ad6b7169203331-01"}
    status, shown = tasks.call("POST", "/runs", {"flow": tasks.flow, "input": "traced"}, headers=headers)
    assert status == 202, shown
    found = tasks.wait(shown["id"])
    trace = found["trace_id"]
    assert (found["state"], len(trace)) == ("succeeded", 32), found
    # Nobody outside chooses what a trace is called.
    assert trace != outside
    workers_at = {cluster.address(name) for name in cluster.groups["celery"]}
    rows = []
    for host in cluster.all("loadbalancers"):
        lines = host.run("grep --no-filename --fixed-strings %s /var/log/nginx/access.json", trace).stdout
        rows += [json.loads(line) for line in lines.splitlines()]
    taken = [row for row in rows if (row["method"], row["path"]) == ("POST", f"{API}/runs")]
    done = [row for row in rows if row["path"].startswith("/api/") and row["remote_addr"] in workers_at]
    assert [row["status"] for row in taken] == [202], rows
    assert [row for row in done if row["flow"] and row["upstream_status"] == "200"], rows


def test_a_run_by_the_command_line(tasks: Tasks, cluster: Cluster, ca: Path, domain: str, tmp_path: Path) -> None:
    """From the controller, with nothing installed there."""
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(tasks.key)
    argv = [
        sys.executable,
        "-m",
        "flowfleet_tasks",
        "submit",
        "--flow",
        tasks.flow,
        "--input",
        "by hand",
        "--wait",
        "60",
    ]
    argv += ["--url", f"https://{domain}", "--connect", cluster.address(cluster.groups["loadbalancers"][0])]
    argv += ["--ca-file", str(ca), "--key-file", str(key), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["state"] == "succeeded"
    assert shown["result"]["output"]["text"] == tasks.expected("by hand")
    assert tasks.key not in done.stdout + done.stderr


def test_cancel_and_retry(tasks: Tasks, cluster: Cluster, drained: Callable[[], None]) -> None:
    """What waits can be cancelled, once; what meets a closed front door is tried again until it is open."""
    cancelled, kept = tasks.submit("cancel me"), tasks.submit("try again")
    time.sleep(1)
    assert tasks.call("GET", f"/runs/{kept}")[1]["state"] == "queued", "a worker that was drained took a task"
    status, shown = tasks.call("DELETE", f"/runs/{cancelled}")
    assert (status, shown["state"]) == (200, "cancelled")
    assert tasks.call("DELETE", f"/runs/{cancelled}")[0] == 409
    balancer, host = cluster.one("loadbalancers"), cluster.groups["celery"][0]
    page = str(cluster.variable("nginx_maintenance_file | default('/etc/nginx/langflow/maintenance')"))
    # The API is behind that door too. Asked on its host, it knows the key for half a minute.
    assert tasks.beside(cluster.address(host), kept) == "queued"
    balancer.check_output(f"touch {page}")
    try:
        drained()
        until = time.monotonic() + 15
        while tasks.beside(cluster.address(host), kept) != "waiting" and time.monotonic() < until:
            time.sleep(0.5)
    finally:
        balancer.check_output(f"rm {page}")
    assert tasks.text(kept) == tasks.expected("try again")
    assert tasks.wait(kept)["attempt"] >= 1, "nobody has refused it, so the test proves nothing"
    assert tasks.wait(cancelled)["state"] == "cancelled"


def test_a_schedule(tasks: Tasks, cluster: Cluster) -> None:
    """The hosts of the beat read new schedules by themselves, and one of them acts."""
    hosts = cluster.all("celery")
    before = {host: host.check_output(f"cat {SCHEDULES}") for host in hosts}
    name = f"test-{uuid.uuid4().hex[:8]}"
    entry = {"name": name, "flow": tasks.flow, "every": 3, "input": "by itself"}
    try:
        for host in hosts:
            host.run_test(f"echo '{json.dumps({'timezone': 'UTC', 'schedules': [entry]})}' > {SCHEDULES}")
        until = time.monotonic() + 30
        runs: list[dict[str, Any]] = []
        while len(runs) < 3:
            assert time.monotonic() < until, runs
            time.sleep(1)
            runs = tasks.call("GET", f"/runs?schedule={name}")[1]["runs"]
    finally:
        for host in hosts:
            host.run_test(f"cat > {SCHEDULES} <<'END'\n{before[host]}\nEND")
    times = sorted(run["created"] for run in runs)
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert min(gaps) > 1.5, f"fired more than once at a time: {gaps}"
    assert tasks.text(runs[0]["id"]) == tasks.expected("by itself")


def test_a_roll_of_the_workers_loses_nothing(tasks: Tasks, cluster: Cluster, playbook: Callable[..., Play]) -> None:
    def processes() -> dict[str, str]:
        command = "systemctl show 'celery-worker@*' --property=MainPID --value"
        return {name: cluster.hosts[name].check_output(command) for name in cluster.groups["celery"]}

    before = processes()
    with ThreadPoolExecutor(max_workers=1) as pool:
        roll = pool.submit(playbook, "celery_restart", "-e", "celery_restart_mode=always")
        runs = []
        while not roll.done():
            runs.append((text := f"roll {len(runs)}", tasks.submit(text)))
            time.sleep(0.8)
        play = roll.result()
    assert play.status == 0, play.output[-3000:]
    after = processes()
    assert all(after[name] != before[name] for name in before), "a worker was not restarted"
    found = [(text, tasks.text(run_id)) for text, run_id in runs]
    print(f"{len(found)} runs during the roll")
    assert len(found) >= 5
    assert all(answer == tasks.expected(text) for text, answer in found)


def test_bad_input_is_refused_and_nothing_enqueued(tasks: Tasks) -> None:
    good = {"flow": tasks.flow, "input": "x"}

    def known() -> set[str]:
        return {run["id"] for run in tasks.call("GET", "/runs?limit=500")[1]["runs"]}

    before, found = known(), {}
    table: dict[str, tuple[int, Any, str | None]] = {
        "unknown flow": (404, {**good, "flow": "00000000-0000-4000-8000-000000000000"}, None),
        "no flow": (422, {"input": "x"}, None),
        "unknown field": (422, {**good, "inptu": "x"}, None),
        "unknown queue": (422, {**good, "queue": "nowhere"}, None),
        "wrong guarantee": (422, {**good, "guarantee": "twice"}, None),
        "no json": (400, b"{", None),
        "oversized": (413, {**good, "input": "x" * 1_200_000}, None),
        "wrong key": (401, good, "sk-not-a-key"),
        "no key": (401, good, ""),
    }
    for name, (_status, body, key) in table.items():
        status, answer = tasks.call("POST", "/runs", body, key=key)
        found[name] = status
        assert answer["error"]["message"], name
    assert found == {name: row[0] for name, row in table.items()}
    assert tasks.call("GET", "/runs/00000000-0000-4000-8000-000000000000")[0] == 404
    assert known() == before


def test_the_units_are_hardened(tasks: Tasks, cluster: Cluster) -> None:
    for host in cluster.all("celery"):
        for unit in ("celery-api", "celery-beat", "celery-worker@main"):
            exposure = host.check_output(f"systemd-analyze security --no-pager {unit}.service").splitlines()[-1]
            assert float(exposure.split(":")[1].split()[0]) <= 2.0, exposure
