# Copyright (c) The flowfleet.langflow contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""A small client for the REST API of Langflow, on the standard library alone.

It is made for tests and for configuration, not for throughput: one connection per request, every request bounded by
one deadline from the first packet to the last byte, every fault one :class:`ApiError` that says what kind it was.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

USER_AGENT = "flowfleet-langflow"
MAX_BODY = 32 * 1024 * 1024
_READ_SIZE = 65536
_DETAIL_LENGTH = 300

# Kinds of ApiError: the request never arrived, or arrived and was answered badly.
NOT_CONNECTED = ("refused", "name", "connect-timeout", "ca")
KINDS = (*NOT_CONNECTED, "tls", "timeout", "cut", "protocol", "json", "status", "flow")


class ApiError(Exception):
    """A request that failed; ``kind`` is one of :data:`KINDS`, ``status`` the HTTP status when there was one."""

    def __init__(self, kind: str, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after = retry_after

    @property
    def not_connected(self) -> bool:
        """Whether the server has certainly not seen the request."""
        return self.kind in NOT_CONNECTED


@dataclass(frozen=True)
class Response:
    """An answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        """The body as JSON, or an :class:`ApiError` of kind ``json``."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ApiError("json", f"the answer is not JSON: {_shorten(self.body)!r}", self.status) from error


@dataclass(frozen=True)
class Event:
    """One event of a stream, and when it came (seconds since the request was started)."""

    name: str
    data: Any
    seconds: float


@dataclass(frozen=True)
class Endpoint:
    """Where a server is and how it proves who it is."""

    url: str
    ca_path: str | None = None
    server_name: str | None = None
    timeout: float = 30.0
    user_agent: str = USER_AGENT
    host: str = field(init=False, default="")
    port: int = field(init=False, default=0)
    tls: bool = field(init=False, default=False)
    prefix: str = field(init=False, default="")

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{self.url!r} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{self.url!r} is not a URL of the form https://host[:port][/prefix]")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("a URL of Langflow holds no credentials, query or fragment")
        tls = parts.scheme == "https"
        object.__setattr__(self, "host", parts.hostname)
        object.__setattr__(self, "port", port or (443 if tls else 80))
        object.__setattr__(self, "tls", tls)
        object.__setattr__(self, "prefix", parts.path.rstrip("/"))

    @property
    def host_header(self) -> str:
        """The name to ask for: the server name where one is given, with the port where it is not the usual one."""
        name = self.server_name or self.host
        if ":" in name:
            name = f"[{name}]"
        return name if self.port == (443 if self.tls else 80) else f"{name}:{self.port}"


SERVER_OPTIONS: dict[str, Any] = {
    "server_name": {"type": "str"},
    "ca_path": {"type": "path"},
    "timeout": {"type": "float", "default": 60.0},
}


def endpoint_from(params: Mapping[str, Any], user_agent: str = USER_AGENT) -> Endpoint:
    """The endpoint that the options of a module name."""
    return Endpoint(
        params["url"],
        ca_path=params["ca_path"] or None,
        server_name=params["server_name"] or None,
        timeout=params["timeout"],
        user_agent=user_agent,
    )


class _DeadlineReader(io.RawIOBase):
    """The receiving half of a socket that stops at one deadline, however slowly bytes drip in."""

    def __init__(self, raw: socket.SocketIO, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_remaining(self._deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _DeadlineSocket:
    """As much of a socket as http.client uses."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(_remaining(self._deadline))
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        raw = self._sock.makefile("rb", buffering=0)
        return io.BufferedReader(_DeadlineReader(raw, self._sock, self._deadline), _READ_SIZE)

    def close(self) -> None:
        self._sock.close()


class _Connection(http.client.HTTPConnection):
    """A connection whose peer is checked against a name of its own, not the address it was reached at."""

    def __init__(self, endpoint: Endpoint, deadline: float, context: ssl.SSLContext | None) -> None:
        super().__init__(endpoint.host, endpoint.port)
        self._endpoint = endpoint
        self._deadline = deadline
        self._context = context

    def connect(self) -> None:
        endpoint = self._endpoint
        try:
            sock = socket.create_connection((endpoint.host, endpoint.port), timeout=_remaining(self._deadline))
        except socket.gaierror as error:
            raise ApiError("name", f"cannot resolve {endpoint.host!r}: {error.strerror}") from error
        except TimeoutError as error:
            raise ApiError("connect-timeout", f"no connection to {endpoint.url} in time") from error
        except OSError as error:
            raise ApiError("refused", f"cannot connect to {endpoint.url}: {error.strerror or error}") from error
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock.settimeout(_remaining(self._deadline))
                sock = self._context.wrap_socket(sock, server_hostname=endpoint.server_name or endpoint.host)
        except ssl.SSLCertVerificationError as error:
            sock.close()
            name = endpoint.server_name or endpoint.host
            reason = error.verify_message
            raise ApiError("tls", f"{endpoint.url} did not prove to be {name!r}: {reason}") from error
        except BaseException:
            sock.close()
            raise
        self.sock = _DeadlineSocket(sock, self._deadline)


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


def _shorten(text: bytes | str, length: int = _DETAIL_LENGTH) -> str:
    if isinstance(text, bytes):
        text = text[: length * 4].decode("utf-8", "replace")
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _detail(body: bytes) -> str:
    """What the server says about a failure, in one line."""
    try:
        data = json.loads(body)
    except ValueError:
        return _shorten(body)
    detail = data.get("detail", data.get("message", data)) if isinstance(data, dict) else data
    return _shorten(detail if isinstance(detail, str) else json.dumps(detail))


def _retry_after(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None


def multipart(name: str, filename: str, content: bytes) -> tuple[bytes, str]:
    """One file as a form: body and content type."""
    boundary = f"flowfleet-{os.urandom(16).hex()}"
    safe = filename.replace("\\", "_").replace('"', "_").replace("\r", "_").replace("\n", "_")
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{name}"; filename="{safe}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return b"".join((head.encode(), content, f"\r\n--{boundary}--\r\n".encode())), (
        f"multipart/form-data; boundary={boundary}"
    )


def parse_event(line: bytes, seconds: float) -> Event | None:
    """One line of an event stream: JSON lines and server-sent events alike; None for a line without an event."""
    text = line.strip()
    if text.startswith(b"data:"):
        text = text[5:].strip()
    elif not text or text.startswith((b":", b"event:", b"id:", b"retry:")):
        return None
    if not text:
        return None
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ApiError("json", f"the stream holds a line that is not JSON: {_shorten(text)!r}") from error
    if not isinstance(data, dict) or not isinstance(data.get("event"), str):
        raise ApiError("protocol", f"the stream holds something that is not an event: {_shorten(text)!r}")
    return Event(data["event"], data.get("data"), seconds)


class LangflowClient:
    """Langflow through one endpoint.

    :param endpoint: where the server is.
    :param api_key: sent as ``x-api-key`` with every request.
    :param secrets: strings that are cut out of every message.
    """

    def __init__(self, endpoint: Endpoint, api_key: str | None = None, secrets: tuple[str, ...] = ()) -> None:
        self.endpoint = endpoint
        self.api_key = api_key
        self.token: str | None = None
        self._secrets = list(secrets)
        self._context: ssl.SSLContext | None = None

    # ------------------------------------------------------------------ transport

    def _tls_context(self) -> ssl.SSLContext | None:
        if not self.endpoint.tls:
            return None
        if self._context is None:
            try:
                context = ssl.create_default_context(cafile=self.endpoint.ca_path)
            except (OSError, ssl.SSLError) as error:
                raise ApiError("ca", f"cannot use the CA file {self.endpoint.ca_path}: {error}") from error
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._context = context
        return self._context

    def _redact(self, text: str) -> str:
        for secret in (*self._secrets, self.api_key, self.token):
            if secret:
                text = text.replace(secret, "********")
        return text

    def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        result = {
            "Host": self.endpoint.host_header,
            "User-Agent": self.endpoint.user_agent,
            "Accept": "application/json",
            "Connection": "close",
        }
        if self.api_key:
            result["x-api-key"] = self.api_key
        elif self.token:
            result["Authorization"] = f"Bearer {self.token}"
        result.update(headers or {})
        return result

    def _guard(self, error: Exception, what: str) -> ApiError:
        """Any fault of the transport as one ApiError, without secrets."""
        if isinstance(error, ApiError):
            return ApiError(error.kind, self._redact(f"{what}: {error}"), error.status, error.retry_after)
        if isinstance(error, TimeoutError):
            return ApiError("timeout", f"{what}: no complete answer within {self.endpoint.timeout:g} s")
        if isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead | ConnectionError):
            return ApiError("cut", f"{what}: the connection was cut before the answer was complete")
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return ApiError("cut", f"{what}: the TLS connection was cut")
        if isinstance(error, ssl.SSLError):
            return ApiError("tls", f"{what}: {error.reason or error}")
        if isinstance(error, http.client.HTTPException):
            return ApiError("protocol", f"{what}: the answer is not valid HTTP ({type(error).__name__})")
        return ApiError("cut", self._redact(f"{what}: {error}"))

    def _open(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None, deadline: float
    ) -> tuple[_Connection, http.client.HTTPResponse]:
        connection = _Connection(self.endpoint, deadline, self._tls_context())
        try:
            connection.request(method, self.endpoint.prefix + path, body=body, headers=self._headers(headers))
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    @staticmethod
    def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
        """The body as it comes; an end before the announced length is an error."""
        while True:
            piece = response.read1(_READ_SIZE)
            if not piece:
                if response.length:
                    raise http.client.IncompleteRead(b"", response.length)
                return
            yield piece

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        # Langflow 1.12 compresses some answers whatever the request accepts.
        unpack = zlib.decompressobj(wbits=31) if response.headers.get("Content-Encoding") == "gzip" else None
        result = bytearray()
        for piece in self._pieces(response):
            try:
                result += unpack.decompress(piece, MAX_BODY + 1) if unpack else piece
            except zlib.error as error:
                raise ApiError("protocol", f"the answer is not valid gzip: {error}", response.status) from error
            if len(result) > MAX_BODY:
                raise ApiError("protocol", f"the answer is larger than {MAX_BODY} bytes", response.status)
        if unpack and not unpack.eof:
            raise ApiError("protocol", "the answer is not valid gzip: it ends too early", response.status)
        return bytes(result)

    def _refuse(self, what: str, response: http.client.HTTPResponse, body: bytes) -> ApiError:
        message = f"{what}: HTTP {response.status} {_detail(body)}"
        if 300 <= response.status < 400:
            message = f"{what}: HTTP {response.status}, redirected to {response.headers.get('Location', 'nowhere')}"
        return ApiError(
            "status", self._redact(message), response.status, _retry_after(response.headers.get("Retry-After"))
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        expect: tuple[int, ...] = (200,),
    ) -> Response:
        """One request and its whole answer; any status but the expected ones is an ApiError."""
        what = f"{method} {path.partition('?')[0]}"
        start = time.monotonic()
        try:
            connection, response = self._open(method, path, body, headers, start + self.endpoint.timeout)
            try:
                content = self._read(response)
            finally:
                response.close()
                connection.close()
        except (OSError, http.client.HTTPException, ApiError) as error:
            raise self._guard(error, what) from error
        if response.status not in expect:
            raise self._refuse(what, response, content)
        return Response(response.status, dict(response.headers.items()), content, time.monotonic() - start)

    def call(self, method: str, path: str, data: Any = None, *, expect: tuple[int, ...] = (200,)) -> Any:
        """One request with a JSON body (or none) that is answered with JSON."""
        body = None if data is None else json.dumps(data).encode()
        headers = None if data is None else {"Content-Type": "application/json"}
        response = self.request(method, path, body=body, headers=headers, expect=expect)
        try:
            return response.json()
        except ApiError as error:
            raise self._guard(error, f"{method} {path.partition('?')[0]}") from error

    def stream(self, method: str, path: str, data: Any = None, *, expect: tuple[int, ...] = (200,)) -> Iterator[Event]:
        """The events of an answer, each as soon as its line is complete."""
        what = f"{method} {path.partition('?')[0]}"
        start = time.monotonic()
        body = None if data is None else json.dumps(data).encode()
        headers = {"Accept": "text/event-stream, application/x-ndjson"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection, response = self._open(method, path, body, headers, start + self.endpoint.timeout)
            try:
                if response.status not in expect:
                    raise self._refuse(what, response, self._read(response))
                yield from self._events(response, start)
            finally:
                response.close()
                connection.close()
        except (OSError, http.client.HTTPException, ApiError) as error:
            if isinstance(error, ApiError) and error.kind == "status":
                raise
            raise self._guard(error, what) from error

    def _events(self, response: http.client.HTTPResponse, start: float) -> Iterator[Event]:
        rest = b""
        for piece in self._pieces(response):
            seconds = time.monotonic() - start
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > MAX_BODY:
                raise ApiError("protocol", f"the stream holds a line longer than {MAX_BODY} bytes")
            for line in lines:
                event = parse_event(line, seconds)
                if event is not None:
                    yield event
        if rest.strip():
            event = parse_event(rest, time.monotonic() - start)
            if event is not None:
                yield event

    # ------------------------------------------------------------------ who

    def version(self) -> str:
        """The version the server reports."""
        return str(_member(self.call("GET", "/api/v1/version"), "version", "GET /api/v1/version"))

    def health(self) -> dict[str, Any]:
        """Database and cache as the server sees them; anything but healthy is an ApiError."""
        return dict(self.call("GET", "/health_check"))

    def login(
        self, username: str, password: str, patience: float = 0.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Log in and keep the token; while the server says it is being asked too often, wait up to ``patience`` s."""
        self._secrets.append(password)
        body = urlencode({"username": username, "password": password}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        end = time.monotonic() + patience
        while True:
            try:
                response = self.request("POST", "/api/v1/login", body=body, headers=headers)
                break
            except ApiError as error:
                if error.status == 401:
                    raise ApiError("status", f"the server refused the password of user {username!r}", 401) from error
                wait = min(error.retry_after or 5.0, 65.0)
                if error.status != 429 or time.monotonic() + wait > end:
                    raise
                sleep(wait)
        self.token = str(_member(response.json(), "access_token", "POST /api/v1/login"))

    def whoami(self) -> dict[str, Any]:
        """The user that the token or API key belongs to."""
        return dict(self.call("GET", "/api/v1/users/whoami"))

    # ------------------------------------------------------------------ API keys

    def api_keys(self) -> list[dict[str, Any]]:
        """The user's API keys; their values are masked by the server."""
        return list(_member(self.call("GET", "/api/v1/api_key/"), "api_keys", "GET /api/v1/api_key/"))

    def create_api_key(self, name: str, expires_at: str | None = None) -> dict[str, Any]:
        """A new API key: ``id`` and ``api_key``, the latter shown this one time."""
        data = {"name": name, "expires_at": expires_at}
        result = self.call("POST", "/api/v1/api_key/", data, expect=(200, 201))
        self._secrets.append(str(_member(result, "api_key", "POST /api/v1/api_key/")))
        return dict(result)

    def delete_api_key(self, key_id: str) -> None:
        self.request("DELETE", f"/api/v1/api_key/{quote(key_id, safe='')}", expect=(200, 204))

    # ------------------------------------------------------------------ flows

    def flows(self) -> list[dict[str, Any]]:
        """Identifier and name of each of the user's flows."""
        query = urlencode({"get_all": "true", "header_flows": "true", "remove_example_flows": "true"})
        return list(self.call("GET", f"/api/v1/flows/?{query}"))

    def create_flow(self, flow: Mapping[str, Any]) -> str:
        """Import a flow; its identifier."""
        result = self.call("POST", "/api/v1/flows/", dict(flow), expect=(200, 201))
        return str(_member(result, "id", "POST /api/v1/flows/"))

    def delete_flow(self, flow_id: str) -> None:
        """Delete a flow and all that hangs on it; one that is gone already is no error."""
        self.request("DELETE", f"/api/v1/flows/{quote(flow_id, safe='')}", expect=(200, 204, 404))

    def run(self, flow_id: str, text: str, session: str) -> str:
        """Run a flow to its end; the text of its chat output."""
        result = self.call("POST", f"/api/v1/run/{quote(flow_id, safe='')}?stream=false", _run_request(text, session))
        return output_text(result)

    def run_stream(self, flow_id: str, text: str, session: str) -> Iterator[Event]:
        """Run a flow and follow its events."""
        return self.stream("POST", f"/api/v1/run/{quote(flow_id, safe='')}?stream=true", _run_request(text, session))

    def start_build(self, flow_id: str, text: str, session: str) -> str:
        """Start a build in the background; the identifier of its job."""
        result = self.call(
            "POST",
            f"/api/v1/build/{quote(flow_id, safe='')}/flow?event_delivery=streaming",
            {"inputs": {"input_value": text, "type": "chat", "session": session}},
        )
        return str(_member(result, "job_id", "POST /api/v1/build/.../flow"))

    def build_events(self, job_id: str) -> Iterator[Event]:
        """Follow a build that was started here or on another node."""
        return self.stream("GET", f"/api/v1/build/{quote(job_id, safe='')}/events?event_delivery=streaming")

    # ------------------------------------------------------------------ files

    def upload_file(self, filename: str, content: bytes) -> dict[str, Any]:
        """Upload a file; its ``id``, ``name`` and ``size``."""
        body, content_type = multipart("file", filename, content)
        headers = {"Content-Type": content_type}
        result = self.request("POST", "/api/v2/files", body=body, headers=headers, expect=(200, 201)).json()
        _member(result, "id", "POST /api/v2/files")
        return dict(result)

    def download_file(self, file_id: str) -> bytes:
        return self.request("GET", f"/api/v2/files/{quote(file_id, safe='')}").body

    def files(self) -> list[dict[str, Any]]:
        return list(self.call("GET", "/api/v2/files"))

    def delete_file(self, file_id: str) -> None:
        """Delete a file; one that is gone already is no error."""
        self.request("DELETE", f"/api/v2/files/{quote(file_id, safe='')}", expect=(200, 204, 404))


def _run_request(text: str, session: str) -> dict[str, Any]:
    return {"input_value": text, "input_type": "chat", "output_type": "chat", "session_id": session}


def _member(data: Any, name: str, what: str) -> Any:
    if not isinstance(data, dict) or name not in data:
        raise ApiError("protocol", f"{what}: the answer has no {name!r}")
    return data[name]


def output_text(result: Any) -> str:
    """The text of the chat output in the result of a run."""
    try:
        return str(result["outputs"][0]["outputs"][0]["results"]["message"]["text"])
    except (KeyError, IndexError, TypeError) as error:
        raise ApiError("protocol", f"the result of the run holds no chat output: {_shorten(json.dumps(result))}") from (
            error
        )
