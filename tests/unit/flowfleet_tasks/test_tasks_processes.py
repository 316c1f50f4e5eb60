# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real processes together: API, worker and beat, started as the units start them."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from conftest import ALICE, FLOW, Langflow, wait_for
from flowfleet_tasks.client import Client
from flowfleet_tasks.drain import Control
from flowfleet_tasks.wire import Door


def test_the_whole_tier(
    application: Any,
    settings: Callable[..., Any],
    langflow: Langflow,
    processes: Callable[..., subprocess.Popen[bytes]],
    tmp_path: pathlib.Path,
) -> None:
    """Submit, retry, schedule, cancel, a killed worker, a drained one: each run ends once, and runs once."""
    plan = {"schedules": [{"name": "often", "flow": FLOW, "every": 2, "input": "tick"}]}
    (tmp_path / "schedules.json").write_text(json.dumps(plan), encoding="utf-8")
    client = Client(Door(f"http://127.0.0.1:{application.settings.api.port}"), ALICE)
    first = processes("worker", "--name", "one", "--concurrency", "2")
    processes("beat")
    processes("api")
    wait_for(lambda: Control(application, "one").ping(1.0), seconds=40)
    deadline = time.monotonic() + 90

    # a retry: the front door refuses the first start
    langflow.trouble_of["retried"] = 503
    run = client.finish(client.submit({"flow": "testflow", "input": "retried"})["id"], deadline)
    assert (run["state"], run["attempt"]) == ("succeeded", 1)

    # a cancelled run
    run = client.submit({"flow": FLOW, "input": "cancelled sleep=60"})
    wait_for(lambda: client.run(run["id"]).get("job"))
    client.cancel(run["id"])
    assert client.finish(run["id"], deadline)["state"] == "cancelled"

    # a batch, while its worker is killed and another one starts
    batch = client.submit_batch({"flow": FLOW, "items": [f"b{number} sleep=1" for number in range(8)]})
    wait_for(lambda: langflow.executions["b1"])
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(timeout=10)
    second = processes("worker", "--name", "two", "--concurrency", "2")
    batch = client.follow_batch(batch["id"], deadline, lambda _batch: None)
    assert (batch["state"], batch["counts"]["succeeded"]) == ("ended", 8)
    assert [langflow.executions[f"b{number}"] for number in range(8)] == [1] * 8

    # a drained worker: it hands its run back and stops; the next one finds the job again
    run = client.submit({"flow": FLOW, "input": "drained sleep=6"})
    wait_for(lambda: client.run(run["id"]).get("job"))
    answer = Control(application, "two").drain(30)
    # (a run of the schedule may be on its way as well)
    assert (answer["state"], answer["active"], answer["handed_back"] >= 1) == ("drained", 0, True), answer
    second.send_signal(signal.SIGTERM)
    second.wait(timeout=20)
    assert Control(application, "two").drain(5)["state"] == "absent"
    processes("worker", "--name", "three", "--concurrency", "2")
    assert client.finish(run["id"], deadline)["state"] == "succeeded"
    assert langflow.executions["drained"] == 1

    # the schedule fired all the time, once for each due time
    runs = list(client.runs(200, schedule="often"))
    dues = [one["due"] for one in runs]
    assert len(dues) >= 5
    assert len(set(dues)) == len(dues)

    # no key in any log
    for log in tmp_path.glob("*.log"):
        assert ALICE not in log.read_text(encoding="utf-8", errors="replace"), log


def test_a_busy_worker_is_asked_again(application: Any, processes: Callable[..., subprocess.Popen[bytes]]) -> None:
    """A worker that is silent for longer than one question lasts is not given up; with no time left it is."""
    worker = processes("worker", "--name", "busy", "--concurrency", "1")
    control = Control(application, "busy")
    wait_for(lambda: control.ping(1.0), seconds=40)
    assert control.drain(20)["state"] == "drained"
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        assert control.status(0)["state"] == "unreachable"
        assert control.undrain(0)["state"] == "unreachable"
        threading.Timer(6, os.kill, (worker.pid, signal.SIGCONT)).start()
        assert control.undrain(30)["state"] == "consuming"
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    assert control.status()["state"] == "consuming"
