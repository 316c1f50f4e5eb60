# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Probes and gates, against real sockets that misbehave."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _probe

FAST: dict[str, Any] = {"interval": 0.01, "timeout": 5.0, "request_timeout": 0.3}


def gate(**options: Any) -> _probe.Gate:
    return _probe.Gate(**{**FAST, **options})


# --- single answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "arguments", "reason"),
    [
        ("answer", {"status": 503}, "status 503, expected 200"),
        ("answer", {"status": 302}, "status 302, expected 200"),
        ("answer", {"body": b"part", "announced": 100}, "answer was cut off"),
        ("silence", {}, "no complete answer within 0.3 s|no answer in time"),
        ("drip", {}, "no complete answer within 0.3 s"),
        ("reset", {}, "connection reset"),
        ("half_close", {}, "connection closed without an answer|connection reset"),
        ("garbage", {}, "answer is not valid HTTP"),
    ],
)
def test_http_answers_that_are_not_good(
    serve: Any, behaviours: Any, behaviour: str, arguments: dict[str, Any], reason: str
) -> None:
    server = serve(getattr(behaviours, behaviour)(**arguments))
    began = time.monotonic()
    with pytest.raises(_probe.ProbeError, match=reason):
        _probe.prepare(gate(url=server.url()))()
    assert time.monotonic() - began < 3.0, "a request never takes much longer than its timeout"


@pytest.mark.parametrize("status", [200, 204, 401])
def test_http_statuses_are_a_choice(serve: Any, behaviours: Any, status: int) -> None:
    server = serve(behaviours.answer(status, b"" if status == 204 else b"ok"))
    _probe.prepare(gate(url=server.url(), status=[200, 204, 401]))()


def test_http_request(serve: Any, requests_seen: list[bytes]) -> None:
    server = serve()
    _probe.prepare(gate(url=server.url("/health_check?full=1")))()
    lines = requests_seen[0].decode().split("\r\n")
    assert lines[0] == "GET /health_check?full=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines
    assert "Connection: close" in lines


@pytest.mark.parametrize(("kind", "text"), [("http", "connection refused"), ("tcp", "connection refused")])
def test_nobody_listens(free_port: int, kind: str, text: str) -> None:
    with pytest.raises(_probe.ProbeError, match=text):
        _probe.prepare(gate(type=kind, url=f"http://127.0.0.1:{free_port}/", port=free_port))()


def test_tcp(serve: Any) -> None:
    _probe.prepare(gate(type="tcp", port=serve().port))()


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "server_name", "reason"),
    [
        (["127.0.0.1"], None, None),
        (["langflow.internal"], "langflow.internal", None),
        (["langflow.internal", "127.0.0.1"], None, None),
        (["langflow.internal"], None, "certificate not accepted"),
        (["other.internal"], "langflow.internal", "certificate not accepted: Hostname mismatch"),
        (["192.0.2.1"], None, "certificate not accepted: IP address mismatch"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_the_name_in_the_certificate_decides(
    serve: Any, authority: Any, kind: str, names: list[str], server_name: str | None, reason: str | None
) -> None:
    server = serve(tls=authority.server_context(*names))
    options = {"url": server.url()} if kind == "http" else {"port": server.port, "tls": True}
    probe = _probe.prepare(gate(type=kind, ca_path=str(authority.path), server_name=server_name, **options))
    if reason is None:
        probe()
    else:
        with pytest.raises(_probe.ProbeError, match=reason):
            probe()


def test_server_name_is_what_is_asked_for(serve: Any, authority: Any, requests_seen: list[bytes]) -> None:
    server = serve(tls=authority.server_context("langflow.internal"))
    _probe.prepare(gate(url=server.url(), ca_path=str(authority.path), server_name="langflow.internal"))()
    assert server.names == ["langflow.internal"]
    assert f"Host: langflow.internal:{server.port}\r\n".encode() in requests_seen[0]


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_an_unknown_authority_is_refused(serve: Any, authority: Any, kind: str) -> None:
    server = serve(tls=authority.server_context("127.0.0.1"))
    with pytest.raises(_probe.ProbeError, match="certificate not accepted"):
        _probe.prepare(gate(type=kind, url=server.url(), port=server.port, tls=True))()


def test_plain_text_where_tls_is_wanted(serve: Any, behaviours: Any, authority: Any) -> None:
    server = serve(behaviours.garbage())
    with pytest.raises(_probe.ProbeError):
        _probe.prepare(gate(type="tcp", port=server.port, tls=True, ca_path=str(authority.path)))()


def test_a_handshake_that_never_ends(serve: Any, behaviours: Any, authority: Any) -> None:
    server = serve(behaviours.silence())
    began = time.monotonic()
    with pytest.raises(_probe.ProbeError, match="no complete answer|no answer in time"):
        _probe.prepare(gate(type="tcp", port=server.port, tls=True, ca_path=str(authority.path)))()
    assert time.monotonic() - began < 3.0


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_unusable_authorities_end_the_wait_at_once(tmp_path: Any, content: str | None) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(_probe.ConfigurationError, match=f"cannot read certificates from {path}"):
        _probe.watch(gate(url="https://127.0.0.1/", ca_path=str(path)))


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["true"], None),
        (["sh", "-c", 'test "$PASSWORD" = hunter2-hunter2'], None),
        (["sh", "-c", "echo broken >&2; exit 3"], "sh ended with 3: broken"),
        (["sh", "-c", "echo bad $PASSWORD; exit 1"], r"sh ended with 1: bad \*{8}$"),
        (["sleep", "5"], "sleep did not end within 0.3 s"),
        (["no-such-program"], "no-such-program is not installed"),
    ],
)
def test_commands(argv: list[str], reason: str | None) -> None:
    probe = _probe.prepare(gate(type="command", argv=argv, environment={"PASSWORD": "hunter2-hunter2", "N": 1}))
    if reason is None:
        probe()
        return
    with pytest.raises(_probe.ProbeError, match=reason) as caught:
        probe()
    assert "hunter2" not in str(caught.value)


# --- gates ------------------------------------------------------------------------------------------------------------


def test_one_bad_answer_starts_the_count_anew(serve: Any, behaviours: Any) -> None:
    good, bad = behaviours.answer(), behaviours.answer(503)
    server = serve(bad, bad, good, good, bad, good, good, good)
    verdict = _probe.watch(gate(url=server.url(), successes=3))
    assert (verdict.healthy, verdict.probes, verdict.consecutive) == (True, 8, 3)
    assert verdict.last_failure == "status 503, expected 200"
    latency = verdict.latency()
    assert latency is not None
    assert 0 < latency["min"] <= latency["median"] <= latency["max"]
    assert len(verdict.latencies) == 5


def test_a_server_that_flaps_never_passes(serve: Any, behaviours: Any) -> None:
    server = serve(*[behaviours.answer(), behaviours.answer(500)] * 200)
    verdict = _probe.watch(gate(url=server.url(), successes=2, timeout=0.5))
    assert not verdict.healthy
    assert verdict.probes > 4
    assert "of 2 good answers in a row" in _probe.explain(gate(url=server.url(), successes=2), verdict)


def test_the_deadline_holds(free_port: int) -> None:
    wanted = gate(type="tcp", port=free_port, timeout=0.3, interval=0.05)
    verdict = _probe.watch(wanted)
    assert not verdict.healthy
    assert 0.2 <= verdict.duration < 2.0
    text = _probe.explain(wanted, verdict)
    assert f"127.0.0.1:{free_port}: 0 of 3 good answers" in text
    assert text.endswith("last failure: connection refused")
    assert verdict.latency() is None


def test_a_server_that_comes_up_late(serve: Any, behaviours: Any) -> None:
    server = serve(behaviours.reset(), behaviours.half_close(), behaviours.silence(0.5), behaviours.answer())
    assert _probe.watch(gate(url=server.url(), successes=3)).probes == 6


def test_a_process_that_is_not_the_same_ends_the_watch(serve: Any) -> None:
    said = iter([None, "systemd restarted it"])
    verdict = _probe.watch(gate(url=serve().url(), successes=5), still_same=lambda: next(said))
    assert (verdict.healthy, verdict.probes, verdict.last_failure) == (False, 2, "systemd restarted it")


def test_the_last_good_answer_does_not_count_if_the_process_died(serve: Any) -> None:
    verdict = _probe.watch(gate(url=serve().url(), successes=1), still_same=lambda: "gone")
    assert not verdict.healthy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "udp"}, "type must be one of"),
        ({}, "needs url"),
        ({"type": "tcp"}, "needs port"),
        ({"type": "command"}, "needs argv"),
        ({"type": "command", "argv": []}, "needs argv"),
        ({"url": "ftp://a/"}, "url must start with"),
        ({"url": "https:///path"}, "url must start with"),
        ({"url": "http://user:word@a/"}, "must not contain a user"),
        ({"type": "tcp", "port": 70000}, "port must be between"),
        ({"url": "http://a/", "successes": 0}, "successes must be"),
        ({"url": "http://a/", "timeout": 0}, "timeout must be more"),
        ({"url": "http://a/", "request_timeout": -1}, "request_timeout must be more"),
        ({"url": "http://a/", "interval": -1}, "interval must not be"),
    ],
)
def test_senseless_gates_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(_probe.ConfigurationError, match=message):
        gate(**options)
