# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The comparison of the client's count with the metric notices one line that is missing."""

from __future__ import annotations

import collections
import http.server
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def load() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "tools/gateway_truth.py"
    spec = importlib.util.spec_from_file_location("gateway_truth", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["gateway_truth"] = module
    spec.loader.exec_module(module)
    return module


TOOL = load()


class FakeDoor:
    """A front door that answers, and counts what it answered as a load balancer's exporter does."""

    def __init__(self) -> None:
        self.counted: collections.Counter[tuple[str, str, str]] = collections.Counter()
        self.drop = 0
        lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status = 404 if "no-such" in self.path else 422 if body == "{" else 200
                kind = "background" if "mode" in body else "stream" if "stream=true" in self.path else "run"
                flow = "" if status == 404 else "bot"
                with lock:
                    if outer.drop and kind == "stream":
                        outer.drop -= 1
                    else:
                        outer.counted[flow, kind, f"{status // 100}xx"] += 1
                self.answer(status, "{}")

            def do_GET(self) -> None:
                lines = [
                    f'langflow_gateway_requests_total{{code_class="{code}",flow="{flow}",kind="{kind}"}} {count}'
                    for (flow, kind, code), count in outer.counted.items()
                ]
                self.answer(200, "\n".join(["# TYPE langflow_gateway_requests_total counter", *lines, "other 1", ""]))

            def answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def door() -> Iterator[FakeDoor]:
    fake = FakeDoor()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


@pytest.fixture
def compare(door: FakeDoor) -> Callable[..., int]:
    def run(*more: str) -> int:
        common = ["--url", door.url, "--flow", "bot", "--metrics", f"{door.url}/metrics", "--settle", "0"]
        return int(TOOL.main([*common, "--requests", "100", *more]))

    return run


def test_equal_counts_agree(compare: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare() == 0
    shown = capsys.readouterr().out
    assert "DIFFERS" not in shown
    assert len(shown.splitlines()) == 5, "good ones, streams, background runs, and two kinds of errors"


def test_one_line_that_is_missing_is_noticed(
    compare: Callable[..., int], door: FakeDoor, capsys: pytest.CaptureFixture[str]
) -> None:
    door.drop = 1
    assert compare() == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if "DIFFERS" in line] == ["stream"]


def test_the_control_of_the_tool_itself(compare: Callable[..., int]) -> None:
    assert compare("--forget", "50") == 1


def test_a_flow_that_does_not_answer_proves_nothing(door: FakeDoor) -> None:
    assert TOOL.main(["--url", door.url, "--flow", "no-such", "--metrics", f"{door.url}/metrics"]) == 2


@pytest.mark.parametrize(("metric", "agree"), [(1000, True), (996, True), (1004, True), (995, False), (1005, False)])
def test_half_a_percent_is_too_much(metric: int, agree: bool) -> None:
    cell = ("bot", "run", "2xx")
    assert [row[3] for row in TOOL.judge({cell: 1000}, {cell: metric})] == [agree]
