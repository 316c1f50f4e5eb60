# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module C(langflow_workers_info), with real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.modules import langflow_workers_info

Run = Callable[..., dict[str, Any]]
# A main process with one child that works and one that sleeps; it prints both numbers.
SERVICE = """
import subprocess, sys, time
busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
idle = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(busy.pid, idle.pid, flush=True)
try:
    sys.stdin.read()
finally:
    busy.kill(); idle.kill()
"""


@pytest.fixture
def service() -> Iterator[tuple[int, int, int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    busy, idle = (int(word) for word in process.stdout.readline().split())
    yield process.pid, busy, idle
    process.stdin.close()
    process.wait()


def test_the_busiest_comes_first(run_module: Run, systemd: Any, service: tuple[int, int, int]) -> None:
    main, busy, idle = service
    systemd.run()
    systemd.properties["MainPID"] = str(main)
    result = run_module(langflow_workers_info, {"seconds": 0.5})
    assert [worker["pid"] for worker in result["workers"]] == [busy, idle]
    assert result["workers"][0]["cpu"] > result["workers"][1]["cpu"] >= 0
    assert not result["changed"]


def test_a_service_that_does_not_run_has_none(run_module: Run, systemd: Any) -> None:
    systemd.properties["MainPID"] = "0"
    assert run_module(langflow_workers_info, {"seconds": 30})["workers"] == []


def test_no_time_is_no_measurement(run_module: Run, systemd: Any) -> None:
    assert "seconds" in run_module(langflow_workers_info, {"seconds": 0})["msg"]
