# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The row of the smoke test about monitoring: what it takes for an answer, and what it calls a failure."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_smoke as smoke
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Answer, RestError


def rows(*values: str) -> str:
    items = [
        f'{{"metric": {{"job": "node", "instance": "h{n}"}}, "value": [1, "{value}"]}}'
        for n, value in enumerate(values)
    ]
    return '{"status": "success", "data": {"result": [' + ", ".join(items) + "]}}"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Prometheus says, one after the other; the last one again and again."""
    queue: list[Any] = []

    def call(_self: Any, _method: str, _url: str) -> Answer:
        item = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(item, Exception):
            raise item
        return Answer(*item)

    monkeypatch.setattr(smoke.Access, "call", call)
    monkeypatch.setattr(smoke.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(smoke, "TARGETS_PATIENCE", 0.05)
    return queue


def ask() -> list[dict[str, Any]]:
    report = smoke.Report("mon1")
    smoke.all_targets_up(report, "https://mon1:9090/", "monitoring", "password-for-tests", None)
    return report.rows


def test_all_up(answers: list[Any]) -> None:
    answers.append((200, rows("1", "1")))
    (row,) = ask()
    assert (row["verdict"], row["detail"]) == ("ok", "2 targets")


def test_one_that_comes_back_is_waited_for(answers: list[Any]) -> None:
    answers += [(200, rows("1", "0")), (200, rows("1", "1"))]
    assert ask()[0]["verdict"] == "ok"


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ((200, rows("1", "0")), "node/h1"),
        ((200, rows()), "measures nothing"),
        ((401, "Unauthorized"), "401"),
        ((200, "no JSON"), "no usable answer"),
        (RestError("mon1:9090: connection refused"), "connection refused"),
    ],
)
def test_failures_say_what_is_wrong(answers: list[Any], answer: Any, word: str) -> None:
    answers.append(answer)
    with pytest.raises(smoke.StepFailed, match=word):
        ask()
