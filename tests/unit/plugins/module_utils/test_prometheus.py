# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one client for Prometheus. What its three users make of it is tested with them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _baseline, _canary_sources, _prometheus

EMPTY = json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}}).encode()
LOGIN = "Basic eDp5"


def test_a_question_goes_in_the_address(serve: Any, behaviours: Any, requests_seen: list[bytes]) -> None:
    client = _prometheus.Client(serve(behaviours.answer(body=EMPTY)).url("/prom/"), login=LOGIN)
    assert client.instant("up", 12.5) == {"resultType": "vector", "result": []}
    head = requests_seen[0].decode()
    assert head.startswith("GET /prom/api/v1/query?query=up&time=12.5 HTTP/1.1\r\n")
    assert f"Authorization: {LOGIN}\r\n" in head


def test_a_long_question_goes_in_the_body(serve: Any, behaviours: Any, requests_seen: list[bytes]) -> None:
    client = _prometheus.Client(serve(behaviours.answer(body=EMPTY)).url(""), post=True)
    client.over("up", 1, 2, 15)
    head = requests_seen[0].decode()
    assert head.startswith("POST /api/v1/query_range HTTP/1.1\r\n")
    assert "Authorization" not in head
    assert "query=up" not in head.split("\r\n", 1)[0]


@pytest.mark.parametrize("post", [False, True])
@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (lambda b: b.answer(503, b"starting"), "answered 503 to 'up'.*starting"),
        (lambda b: b.answer(302), "answered 302"),
        (lambda b: b.answer(body=b"<html>"), "no vector"),
        (lambda b: b.answer(body=b'{"data": {}}'), "no vector"),
        (lambda b: b.answer(body=b'{"data": {"result": {}}}'), "no vector"),
        (lambda b: b.answer(body=b"x", announced=99), "cut off"),
        (lambda b: b.garbage(), "not valid HTTP"),
        (lambda b: b.silence(), "within 0.3 s|in time"),
        (lambda b: b.drip(), "no complete answer within 0.3 s"),
    ],
)
def test_trouble_has_one_name(serve: Any, behaviours: Any, behaviour: Any, message: str, post: bool) -> None:
    client = _prometheus.Client(serve(behaviour(behaviours)).url(""), timeout=0.3, post=post)
    began = time.monotonic()
    with pytest.raises(_prometheus.PrometheusError, match=message) as caught:
        client.instant("up")
    assert "Prometheus at http://" in str(caught.value)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("url", ["ftp://x", "x", "https://", "https://user:word@x"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(_prometheus.PrometheusError, match="must be http"):
        _prometheus.Client(url)


def test_users_of_it_have_its_time_limit_and_their_own_errors(serve: Any, behaviours: Any) -> None:
    plain = _canary_sources.Queries("requests", "errors")
    with pytest.raises(_canary_sources.SourceError, match=r"within 0.3 s"):
        _canary_sources.Prometheus(serve(behaviours.drip()).url(""), plain, None, timeout=0.3).observe(0, 60)
    # What a baseline is asked with is a login, which goes over TLS only.
    with pytest.raises(_baseline.BaselineError, match="https://"):
        _baseline.Prometheus("http://127.0.0.1:9090")
