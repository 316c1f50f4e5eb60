# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The load tool counts right, keeps its pace and stops."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "load.py"


def load(*options: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, str(TOOL), *options], capture_output=True, text=True, check=False, timeout=30, env={}
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        (lambda b: b.answer(200, b"{}"), "ok"),
        (lambda b: b.answer(503, b"{}"), "http-503"),
        (lambda b: b.answer(200, b"{", announced=50), "cut"),
        (lambda b: b.reset(), "cut"),
        (lambda b: b.garbage(), "protocol"),
        (lambda b: b.silence(), "timeout"),
        (lambda b: b.drip(), "timeout"),
    ],
)
def test_every_request_is_counted_by_what_became_of_it(
    serve: Any, behaviours: Any, behaviour: Any, outcome: str
) -> None:
    server = serve(behaviour(behaviours))
    code, report, _errors = load(
        "--url", server.url(""), "--gets-per-second", "20", "--seconds", "0.5", "--timeout", "0.5"
    )
    assert report["kinds"]["get"]["outcomes"] == {outcome: 10}
    assert (report["sent"], report["failed"], code) == ((10, 0, 0) if outcome == "ok" else (10, 10, 1))
    assert server.connections == 10


def test_a_closed_port_is_refused(free_port: int) -> None:
    code, report, _errors = load(
        "--url", f"http://127.0.0.1:{free_port}", "--gets-per-second", "10", "--seconds", "0.5"
    )
    assert (code, report["kinds"]["get"]["outcomes"]) == (1, {"refused": 5})


def test_a_stalled_server_does_not_slow_the_load_down(serve: Any, behaviours: Any) -> None:
    server = serve(behaviours.silence(30))
    start = time.monotonic()
    _code, report, _errors = load(
        "--url", server.url(""), "--gets-per-second", "20", "--seconds", "1", "--timeout", "1"
    )
    assert report["sent"] == 20
    assert report["latest_start"] < 0.5
    assert time.monotonic() - start < 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gets-per-second", "1000", "--seconds", "60"], "60000 requests planned"),
        (["--seconds", "5"], "0 requests planned"),
        (["--runs-per-second", "1", "--seconds", "5"], "needs --flow"),
    ],
)
def test_a_load_without_bounds_is_refused(options: list[str], words: str) -> None:
    code, _report, errors = load("--url", "http://127.0.0.1:1", *options)
    assert code == 2
    assert words in errors


def test_an_event_divides_the_failures() -> None:
    spec = importlib.util.spec_from_file_location("load_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["load_tool"] = module
    spec.loader.exec_module(module)
    samples = [
        module.Sample("get", start, seconds, outcome)
        for start, seconds, outcome in [(0, 1, "cut"), (4, 2, "cut"), (5, 1, "ok"), (5.1, 1, "ok"), (6, 1, "refused")]
    ]
    assert module.around(samples, 5.0) == {
        "at": 5.0,
        "in_flight": 2,
        "failed": {"before": 1, "in_flight": 1, "after": 1},
    }
