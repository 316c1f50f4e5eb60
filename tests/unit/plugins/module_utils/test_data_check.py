# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL, Redis and an object store as a client meets them, over real TLS; some servers misbehave on purpose."""

from __future__ import annotations

import contextlib
import datetime
import pathlib
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _data_check, _s3
from ansible_collections.flowfleet.langflow.plugins.module_utils._postgres_wire import (
    Connection,
    PostgresError,
    context_for,
)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from https_fake import HttpsFake, QuietHandler
from postgres_fake import FakePostgres, Rows

PASSWORD = "-".join(("a", "right", "password"))
ROW = ["170002", "200", "3", "2", "7", "-1", "60", "f", "t", "f"]


@pytest.fixture
def server(authority: Any) -> Iterator[FakePostgres]:
    fake = FakePostgres(authority.server_context("127.0.0.1", "localhost"), PASSWORD)
    yield fake
    fake.close()


def wanted(authority: Any, port: int, **changes: Any) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": port,
        "name": "flows",
        "user": "langflow",
        "password": PASSWORD,
        "sslmode": "verify-full",
        "ca_file": str(authority.path),
        **changes,
    }


def connect(authority: Any, server: FakePostgres, **changes: Any) -> Connection:
    return _data_check.connect(wanted(authority, server.port, **changes), 2.0)


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def test_a_login_with_scram_and_a_query(authority: Any, server: FakePostgres) -> None:
    server.answers = lambda _statement: [["one", None, ""], ["zwei €", "2", "x" * 70000]]
    with connect(authority, server) as connection:
        assert connection.query("SELECT something") == [["one", None, ""], ["zwei €", "2", "x" * 70000]]
        assert (connection.tls, connection.login) == ("TLSv1.3", "scram-sha-256")
    assert (server.startup["user"], server.startup["database"]) == ("langflow", "flows")


def test_a_wrong_password_is_refused_by_a_real_proof(authority: Any, server: FakePostgres) -> None:
    with pytest.raises(PostgresError, match="password authentication failed") as caught:
        connect(authority, server, password=PASSWORD + "x")
    assert caught.value.code == "28P01"
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("login", ["wrong proof", "no proof of its own", "same nonce", "few rounds"])
def test_a_server_that_does_not_know_the_password_is_refused(authority: Any, server: FakePostgres, login: str) -> None:
    server.login = login
    with pytest.raises(PostgresError, match="could not prove|challenge is not one"):
        connect(authority, server)


def test_a_password_in_the_clear_goes_to_a_verified_server_only(authority: Any, server: FakePostgres) -> None:
    for login, sent in (("password", PASSWORD.encode()), ("md5", None)):
        server.login = login
        with connect(authority, server) as connection:
            assert connection.login == login
        assert server.passwords[-1] == sent or (sent is None and server.passwords[-1].startswith(b"md5"))
        server.passwords.clear()
        with pytest.raises(PostgresError, match="not safe without verified TLS"):
            connect(authority, server, sslmode="require")
        time.sleep(0.1)
        assert not any(server.passwords)


def test_who_signed_and_for_which_name_is_verified(
    authority: Any, server: FakePostgres, tmp_path: pathlib.Path
) -> None:
    others = type(authority)(tmp_path)
    with pytest.raises(PostgresError, match="certificate not accepted") as caught:
        connect(authority, server, ca_file=str(others.path))
    assert caught.value.code == "tls"
    # 127.0.0.2 is this machine too, and not in the certificate.
    elsewhere = FakePostgres(authority.server_context("other.example.com"), PASSWORD)
    with pytest.raises(PostgresError, match="certificate not accepted"):
        connect(authority, elsewhere)
    connect(authority, elsewhere, sslmode="verify-ca").close()
    elsewhere.close()


def test_authorities_that_the_host_will_have_count_already(authority: Any, server: FakePostgres) -> None:
    missing = str(authority.path) + ".missing"
    with pytest.raises(PostgresError, match="does not exist on this host") as caught:
        connect(authority, server, ca_file=missing)
    assert caught.value.code == "ca_file"
    connect(authority, server, ca_file=missing, ca_text=authority.path.read_text(encoding="utf-8")).close()


def test_a_server_without_tls_is_told_nothing(authority: Any) -> None:
    plain = FakePostgres(None, PASSWORD)
    found = _data_check.reach_database(wanted(authority, plain.port), 2.0)
    assert found == {"error": "the server does not offer TLS", "kind": "tls"}
    assert plain.startup == {}
    plain.close()


@pytest.mark.parametrize("behaviour", ["garbage", "silence", "reset", "half_close"])
def test_what_is_no_postgresql_ends_in_time(
    authority: Any, behaviours: Any, serve: Callable[..., Any], behaviour: str
) -> None:
    other = serve(getattr(behaviours, behaviour)())
    begun = time.monotonic()
    found = _data_check.reach_database(wanted(authority, other.port), 0.5)
    assert found["error"]
    assert found["kind"] == "network"
    assert time.monotonic() - begun < 3


def test_an_error_of_a_query_leaves_the_connection_usable(authority: Any, server: FakePostgres) -> None:
    server.answers = lambda statement: ("42501", "not for you") if "secret" in statement else [["1"]]
    with connect(authority, server) as connection:
        with pytest.raises(PostgresError, match="not for you"):
            connection.query("SELECT secret")
        assert connection.query("SELECT 1") == [["1"]]


def test_a_server_is_measured_and_nothing_is_written(authority: Any, server: FakePostgres) -> None:
    def answers(statement: str) -> Rows:
        return [list(ROW)] if "server_version_num" in statement else [["0.8.0", "0.8.1"]]

    server.answers = answers
    found = _data_check.measure_database(wanted(authority, server.port), 5, 2.0)
    latency = found.pop("latency_ms")
    assert 0 < latency < 2000
    assert found == {
        "error": None,
        "kind": "",
        "tls": "TLSv1.3",
        "login": "scram-sha-256",
        "version": 17,
        "max_connections": 200,
        "reserved": 5,
        "others": 7,
        "own_limit": 60,
        "read_only": False,
        "can_create": True,
        "superuser": False,
        "vector": "0.8.0",
        "vector_available": "0.8.1",
    }
    assert all(statement.startswith("SELECT") for statement in server.statements)
    assert len(server.statements) == 7


@pytest.mark.parametrize(
    ("code", "kind"),
    [("28P01", "login"), ("28000", "access"), ("3D000", "database"), ("53300", "connections"), ("57P03", "network")],
)
def test_what_an_error_has_to_do_with(code: str, kind: str) -> None:
    assert _data_check.refused(PostgresError("text", code)) == {"error": "text", "kind": kind}


def test_modes_of_verification() -> None:
    assert context_for("require", None).verify_mode == ssl.CERT_NONE
    with pytest.raises(PostgresError, match="cannot be read"):
        context_for("verify-full", None, "no certificate")


# --- Redis ------------------------------------------------------------------------------------------------------------


class FakeRedis:
    """One user, and the sections of INFO as given; commands that are denied answer NOPERM."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.info = {
            "server": "redis_version:7.0.15\r\nrun_id:abcd\r\n",
            "memory": "maxmemory:1000\r\nmaxmemory_policy:noeviction\r\n",
            "persistence": "aof_enabled:1\r\n",
            "replication": "role:master\r\n",
        }
        self.denied: set[str] = {"CONFIG"}
        self.calls: list[list[str]] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _peer = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(plain,), daemon=True).start()

    def _talk(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), self._context.wrap_socket(plain, server_side=True) as connection:
            stream = connection.makefile("rb")
            while line := stream.readline():
                words = []
                for _index in range(int(line[1:])):
                    size = int(stream.readline()[1:])
                    words.append(stream.read(size + 2)[:-2].decode())
                connection.sendall(self._answer(words))

    def _answer(self, words: list[str]) -> bytes:
        self.calls.append(words)
        if words[0] == "AUTH":
            return b"+OK\r\n" if words[1:] == ["langflow", PASSWORD] else b"-WRONGPASS invalid\r\n"
        if words[0] in self.denied:
            return b"-NOPERM no permissions to run the command\r\n"
        if words[0] == "INFO":
            data = self.info[words[1]].encode()
            return b"$%d\r\n%s\r\n" % (len(data), data)
        return b"+OK\r\n"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def redis(authority: Any) -> Iterator[FakeRedis]:
    fake = FakeRedis(authority.server_context("127.0.0.1"))
    yield fake
    fake.close()


def test_redis_is_measured_and_the_key_is_removed(authority: Any, redis: FakeRedis) -> None:
    found = _data_check.measure_redis(wanted(authority, redis.port), 3, 2.0, True)
    assert (found["version"], found["run_id"], found["role"]) == ("7.0.15", "abcd", "master")
    assert (found["maxmemory"], found["maxmemory_policy"], found["append_only"]) == (1000, "noeviction", True)
    assert (found["save"], found["write_error"], found["error"]) == (None, "", None)
    written = [words for words in redis.calls if words[0] in ("SET", "DEL")]
    assert [words[0] for words in written] == ["SET", "DEL"]
    assert written[0][1] == written[1][1]
    assert written[0][1].startswith("langflow:preflight:")
    assert written[0][3:] == ["EX", "30"]


def test_redis_is_not_written_to_in_check_mode(authority: Any, redis: FakeRedis) -> None:
    found = _data_check.measure_redis(wanted(authority, redis.port), 1, 2.0, False)
    assert found["write_error"] is None
    assert not [words for words in redis.calls if words[0] in ("SET", "DEL")]


def test_what_redis_does_not_tell_is_not_known(authority: Any, redis: FakeRedis) -> None:
    redis.denied = {"CONFIG", "INFO", "SET"}
    found = _data_check.measure_redis(wanted(authority, redis.port), 1, 2.0, True)
    assert [found[name] for name in ("version", "role", "maxmemory_policy", "append_only")] == [None] * 4
    assert found["write_error"].startswith("NOPERM")


def test_redis_refuses_and_says_why(authority: Any, redis: FakeRedis, free_port: int, tmp_path: pathlib.Path) -> None:
    def kind(**changes: Any) -> str:
        return str(_data_check.measure_redis({**wanted(authority, redis.port), **changes}, 1, 2.0, True)["kind"])

    assert kind(password="x" * 9) == "login"
    assert kind(ca_file=str(type(authority)(tmp_path).path)) == "tls"
    assert kind(ca_file="/nowhere/ca.crt") == "ca_file"
    assert kind(port=free_port) == "network"


# --- the object store -------------------------------------------------------------------------------------------------


def test_requests_are_signed_as_the_reference_client_does() -> None:
    """The signatures come from botocore, for the same keys, time and content."""
    bucket = _s3.Bucket("https://s3.example.com", "bucket", "eu-west-1", "AKIAEXAMPLE", "sekrit/KEY")
    now = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    for method, host, target, body, signature in (
        ("PUT", "s3.example.com:9000", "/bucket/files/a-b_c~d%20e", b"content", "872151e7ef682df29a158acfc36b9157"),
        ("HEAD", "s3.example.com", "/bucket", b"", "0127895f83f6dbedb5fd88ec49accdd7"),
    ):
        shown = bucket.signed(method, host, target, body, now)["Authorization"]
        assert "Credential=AKIAEXAMPLE/20260102/eu-west-1/s3/aws4_request, " in shown
        assert shown.partition("Signature=")[2].startswith(signature)


class Store(QuietHandler):
    """Keeps objects in memory; `broken` says which method does what with which answer."""

    objects: dict[str, bytes] = {}
    broken: dict[str, tuple[int, bytes]] = {}
    seen: list[str] = []

    def _do(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        self.seen.append(f"{self.command} {self.path}")
        status, answer = self.broken.get(self.command, (200, b""))
        if status == 200:
            if self.command == "PUT":
                self.objects[self.path] = body
            elif self.command == "GET":
                answer = answer or self.objects.get(self.path, b"")
            elif self.command == "DELETE":
                self.objects.pop(self.path, None)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_HEAD = do_PUT = do_GET = do_DELETE = _do


@pytest.fixture
def store(authority: Any) -> Iterator[str]:
    Store.objects, Store.broken, Store.seen = {}, {}, []
    with HttpsFake(authority, Store) as fake:
        yield fake.url


def bucket(authority: Any, endpoint: str, **changes: Any) -> dict[str, Any]:
    keys = {"access_key": "AKIAEXAMPLE", "secret_key": "-".join(("not", "real"))}
    place = {"bucket": "flows", "endpoint": endpoint, "region": "us-east-1", "prefix": "files/"}
    return {**place, **keys, "ca_file": str(authority.path), **changes}


def test_an_object_is_written_read_and_removed(authority: Any, store: str) -> None:
    found = _data_check.measure_store(bucket(authority, store), 2.0, True)
    assert found == {"error": None, "kind": "", "tls": True, "written": True}
    assert [line.split()[0] for line in Store.seen] == ["HEAD", "PUT", "GET", "DELETE"]
    assert Store.seen[1].split()[1].startswith("/flows/files/flowfleet-preflight-")
    assert Store.objects == {}


def test_nothing_is_written_in_check_mode(authority: Any, store: str) -> None:
    assert _data_check.measure_store(bucket(authority, store), 2.0, False)["written"] is None
    assert Store.seen == ["HEAD /flows"]


@pytest.mark.parametrize(
    ("method", "status", "body", "kind", "text"),
    [
        ("HEAD", 404, b"", "bucket", "does not exist"),
        ("HEAD", 301, b"", "endpoint", "status 301"),
        ("PUT", 403, b"<Error><Code>InvalidAccessKeyId</Code></Error>", "login", "written (InvalidAccessKeyId)"),
        ("PUT", 404, b"<Error><Code>NoSuchBucket</Code></Error>", "bucket", "NoSuchBucket"),
        ("GET", 200, b"of somebody else", "login", "read (other content)"),
        ("GET", 403, b"<Error><Code>AccessDenied</Code></Error>", "login", "read (AccessDenied)"),
        ("DELETE", 403, b"", "login", "deleted (status 403)"),
    ],
)
def test_a_store_that_refuses(
    authority: Any, store: str, method: str, status: int, body: bytes, kind: str, text: str
) -> None:
    Store.broken = {method: (status, body)}
    found = _data_check.measure_store(bucket(authority, store), 2.0, True)
    assert found["kind"] == kind
    assert text in found["error"]


def test_keys_that_do_not_open_it_are_seen_in_check_mode_too(authority: Any, store: str) -> None:
    Store.broken = {"HEAD": (403, b"")}
    assert _data_check.measure_store(bucket(authority, store), 2.0, False)["kind"] == "login"


def test_a_store_that_cannot_be_reached(authority: Any, store: str, free_port: int, tmp_path: pathlib.Path) -> None:
    def kind(**changes: Any) -> str:
        return str(_data_check.measure_store(bucket(authority, **{"endpoint": store, **changes}), 2.0, True)["kind"])

    assert kind(ca_file=str(type(authority)(tmp_path).path)) == "tls"
    assert kind(ca_file="/nowhere/ca.crt") == "ca_file"
    assert kind(endpoint=f"https://127.0.0.1:{free_port}") == "network"
    assert kind(endpoint="s3.example.com") == "endpoint"
    assert Store.seen == []
