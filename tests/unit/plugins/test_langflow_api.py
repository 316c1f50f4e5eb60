# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client against servers that answer well, badly, slowly, or not to the end."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import (
    MAX_BODY,
    ApiError,
    Endpoint,
    LangflowClient,
    multipart,
    output_text,
    parse_event,
)

GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'{"event":"add_message","data":{"text":"x"}}\n\n'
END = b'{"event":"end","data":{}}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def raw(*pieces: bytes | float) -> Callable[[socket.socket], None]:
    """Read the request, then send pieces and sleep in between; reset at the end if the last piece is negative."""

    def behave(connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        for piece in pieces:
            if isinstance(piece, bytes):
                connection.sendall(piece)
            else:
                time.sleep(piece)

    return behave


def client(server: Any, timeout: float = 5.0, **options: Any) -> LangflowClient:
    url = server.url("")
    return LangflowClient(Endpoint(url, timeout=timeout, **options))


# --- endpoints --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "name", "wanted"),
    [
        ("https://10.0.0.1", None, ("10.0.0.1", 443, "10.0.0.1")),
        ("https://10.0.0.1:7860", "langflow.internal", ("10.0.0.1", 7860, "langflow.internal:7860")),
        ("http://node/", None, ("node", 80, "node")),
        ("https://[2001:db8::1]:8443/prefix", None, ("2001:db8::1", 8443, "[2001:db8::1]:8443")),
        ("https://10.0.0.1", "langflow.example.com", ("10.0.0.1", 443, "langflow.example.com")),
    ],
)
def test_endpoint_knows_where_and_whom_to_ask(url: str, name: str | None, wanted: tuple[str, int, str]) -> None:
    endpoint = Endpoint(url, server_name=name)
    assert (endpoint.host, endpoint.port, endpoint.host_header) == wanted


@pytest.mark.parametrize(
    "url", ["", "node:7860", "ftp://node", "https://", "https://u:p@node", "https://node?x=1", "https://node:99999"]
)
def test_endpoint_refuses_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|Port"):
        Endpoint(url)


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        (lambda b: b.answer(401, b'{"detail":"no"}'), "status", "HTTP 401 no"),
        (lambda b: b.answer(429, b'{"detail":"slow down"}'), "status", "HTTP 429 slow down"),
        (lambda b: b.answer(500, b"<html>broken</html>"), "status", "HTTP 500 <html>broken</html>"),
        (lambda b: b.answer(308, b""), "status", "redirected to nowhere"),
        (lambda b: b.answer(200, b"<html>"), "json", "not JSON"),
        (lambda b: b.answer(200, b'{"version":"1', announced=100), "cut", "cut before the answer was complete"),
        (lambda b: b.answer(200, b'{"other":1}'), "protocol", "no 'version'"),
        (lambda b: b.reset(), "cut", "cut"),
        (lambda b: b.half_close(), "cut", "cut"),
        (lambda b: b.garbage(), "protocol", "not valid HTTP"),
        (lambda b: b.silence(), "timeout", "within 0.4 s"),
        (lambda b: b.drip(), "timeout", "within 0.4 s"),
        (lambda b: raw(GZIP, b'{"version":"1.12.7"}'), "protocol", "not valid gzip"),
        (
            lambda b: raw(GZIP, gzip.compress(b'{"version":"1.12.7"}')[:-9]),
            "protocol",
            "not valid gzip: it ends too early",
        ),
        (lambda b: raw(GZIP, gzip.compress(bytes(MAX_BODY + 1))), "protocol", "larger than"),
        (lambda b: raw(CHUNKED, b"5\r\nab"), "cut", "cut"),
        (lambda b: raw(CHUNKED, b"zz\r\n"), "cut", "cut"),
    ],
)
def test_every_fault_has_a_kind(serve: Any, behaviours: Any, behaviour: Any, kind: str, words: str) -> None:
    server = serve(behaviour(behaviours))
    start = time.monotonic()
    with pytest.raises(ApiError, match=r"GET /api/v1/version: ") as caught:
        client(server, timeout=0.4).version()
    assert (caught.value.kind, caught.value.not_connected) == (kind, False)
    assert words in str(caught.value)
    assert time.monotonic() - start < 3


def test_an_answer_that_is_compressed_unasked_is_read(serve: Any) -> None:
    server = serve(raw(GZIP, gzip.compress(b'{"version":"1.12.7"}')))
    assert client(server).version() == "1.12.7"


def test_a_closed_port_is_told_apart(free_port: int) -> None:
    with pytest.raises(ApiError) as caught:
        LangflowClient(Endpoint(f"http://127.0.0.1:{free_port}")).version()
    assert (caught.value.kind, caught.value.not_connected) == ("refused", True)


def test_a_name_that_does_not_exist_is_told_apart() -> None:
    with pytest.raises(ApiError) as caught:
        LangflowClient(Endpoint("http://no-such-host.invalid", timeout=5)).version()
    assert caught.value.kind == "name"


def test_a_secret_in_an_answer_is_not_repeated(serve: Any, behaviours: Any) -> None:
    server = serve(behaviours.answer(400, b'{"detail":"bad key sk-secret and password pw-secret"}'))
    endpoint = Endpoint(server.url(""))
    with pytest.raises(ApiError) as caught:
        LangflowClient(endpoint, "sk-secret", ("pw-secret",)).version()
    assert "secret" not in str(caught.value)


def test_the_key_goes_out_with_the_name(serve: Any, behaviours: Any, requests_seen: list[bytes]) -> None:
    server = serve(behaviours.answer(200, b'{"version":"1.13.0"}'))
    endpoint = Endpoint(server.url(""), server_name="langflow.internal", user_agent="me/1")
    assert LangflowClient(endpoint, "sk-1").version() == "1.13.0"
    head = requests_seen[0].decode()
    assert f"Host: langflow.internal:{server.port}" in head
    assert "User-Agent: me/1" in head
    assert "x-api-key: sk-1" in head


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_the_peer_is_checked_against_the_given_name(serve: Any, behaviours: Any, authority: Any) -> None:
    answer = behaviours.answer(200, b'{"version":"1.13.0"}')
    server = serve(answer, tls=authority.server_context("langflow.internal"))
    good = client(server, ca_path=str(authority.path), server_name="langflow.internal")
    assert good.version() == "1.13.0"
    assert server.names == ["langflow.internal"]


@pytest.mark.parametrize("name", [None, "langflow.example.com"])
def test_a_wrong_name_is_refused(serve: Any, behaviours: Any, authority: Any, name: str | None) -> None:
    server = serve(behaviours.answer(), tls=authority.server_context("langflow.internal"))
    with pytest.raises(ApiError, match="did not prove to be") as caught:
        client(server, ca_path=str(authority.path), server_name=name).version()
    assert caught.value.kind == "tls"


def test_an_unknown_authority_is_refused(serve: Any, behaviours: Any, authority: Any) -> None:
    server = serve(behaviours.answer(), tls=authority.server_context("127.0.0.1"))
    with pytest.raises(ApiError, match="did not prove to be"):
        client(server).version()


def test_a_missing_authority_never_connects(serve: Any, authority: Any, tmp_path: Any) -> None:
    server = serve(tls=authority.server_context("127.0.0.1"))
    with pytest.raises(ApiError) as caught:
        client(server, ca_path=str(tmp_path / "none")).version()
    assert (caught.value.kind, server.connections) == ("ca", 0)


def test_plain_http_on_a_tls_port_is_a_fault_of_tls(serve: Any, behaviours: Any, authority: Any) -> None:
    server = serve(behaviours.garbage())
    endpoint = Endpoint(f"https://127.0.0.1:{server.port}", ca_path=str(authority.path), timeout=2)
    with pytest.raises(ApiError) as caught:
        LangflowClient(endpoint).version()
    assert caught.value.kind == "tls"


# --- streams ----------------------------------------------------------------------------------------------------------


def test_events_come_as_they_are_sent(serve: Any) -> None:
    server = serve(raw(CHUNKED, chunk(EVENT), 0.3, chunk(END[:7]), 0.1, chunk(END[7:]), chunk(b"")))
    events = list(client(server).build_events("job"))
    assert [event.name for event in events] == ["add_message", "end"]
    assert events[1].seconds - events[0].seconds > 0.25


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ((CHUNKED, chunk(EVENT)), "cut"),
        ((CHUNKED, chunk(EVENT), b"20\r\n" + END[:5]), "cut"),
        ((CHUNKED, chunk(EVENT), chunk(b"no json\n")), "json"),
        ((CHUNKED, chunk(EVENT), chunk(b"[1]\n")), "protocol"),
        ((CHUNKED, chunk(EVENT), 2.0), "timeout"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", EVENT), "cut"),
        ((b"HTTP/1.1 401 X\r\nContent-Length: 15\r\n\r\n", b'{"detail":"no"}'), "status"),
    ],
)
def test_a_broken_stream_gives_what_came_and_then_an_error(serve: Any, pieces: Any, kind: str) -> None:
    server = serve(raw(*pieces))
    seen = []
    with pytest.raises(ApiError) as caught:
        seen.extend(event.name for event in client(server, timeout=0.6).build_events("job"))
    assert caught.value.kind == kind
    assert str(caught.value).startswith("GET /api/v1/build/job/events: ")
    assert seen in ([], ["add_message"])


@pytest.mark.parametrize("line", [b"", b"\r\n", b": ping", b"event: add_message", b"id: 3", b"retry: 5", b"data:"])
def test_lines_between_events_are_skipped(line: bytes) -> None:
    assert parse_event(line, 0.0) is None


def test_server_sent_events_are_read_too() -> None:
    event = parse_event(b'data: {"event":"end","data":1}\r', 1.5)
    assert event is not None
    assert (event.name, event.data, event.seconds) == ("end", 1, 1.5)


# --- forms and results ------------------------------------------------------------------------------------------------


def test_a_file_name_cannot_break_out_of_its_form() -> None:
    body, kind = multipart("file", 'a"\r\nX: y.bin', b"\x00\r\n--")
    head = body.split(b"\r\n\r\n")[0]
    assert b'filename="a___X: y.bin"' in head
    assert body.endswith(f"--{kind.partition('boundary=')[2]}--\r\n".encode())


@pytest.mark.parametrize("result", [None, {}, {"outputs": []}, {"outputs": [{"outputs": [{"results": {}}]}]}])
def test_a_result_without_output_is_a_fault(result: Any) -> None:
    with pytest.raises(ApiError, match="no chat output"):
        output_text(result)


# --- login ------------------------------------------------------------------------------------------------------------


def test_login_waits_for_its_turn(serve: Any, behaviours: Any) -> None:
    head = b"HTTP/1.1 429 X\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}"
    server = serve(raw(head), raw(head), behaviours.answer(200, b'{"access_token":"t"}'))
    waits: list[float] = []
    one = client(server)
    one.login("admin", "pw", patience=60, sleep=waits.append)
    assert (waits, one.token) == ([7.0, 7.0], "t")


def test_login_does_not_wait_for_ever(serve: Any, behaviours: Any) -> None:
    server = serve(behaviours.answer(429, b"{}"))
    with pytest.raises(ApiError) as caught:
        client(server).login("admin", "pw", patience=1, sleep=lambda _seconds: pytest.fail("it waited"))
    assert caught.value.status == 429


def test_a_wrong_password_is_said_once_and_without_it(serve: Any, behaviours: Any) -> None:
    server = serve(behaviours.answer(401, b'{"detail":"pw-secret is wrong"}'))
    with pytest.raises(ApiError, match="refused the password of user 'admin'") as caught:
        client(server).login("admin", "pw-secret", patience=60)
    assert "pw-secret" not in str(caught.value)
    assert server.connections == 1
