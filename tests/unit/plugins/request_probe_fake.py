# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server for a load generator: keeps connections, streams, counts executions, and misbehaves where it is told to."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Reply = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Request:
    """One request as it came, and when."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    turn: int
    port: int

    @property
    def text(self) -> str:
        return str(json.loads(self.body)["input_value"])


def answer(body: bytes = b"{}", status: int = 200, *more: str, announced: int | None = None) -> bytes:
    """An answer in one piece."""
    length = len(body) if announced is None else announced
    return "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {length}", *more, "", ""]).encode() + body


def result(text: str) -> dict[str, Any]:
    """The result of a run, as Langflow shapes it."""
    return {"outputs": [{"outputs": [{"results": {"message": {"text": text}}}]}]}


def event(name: str, data: Any, sse: bool = False) -> bytes:
    """One event as a line."""
    line = json.dumps({"event": name, "data": data}).encode()
    return b"data: " + line + b"\n\n" if sse else line + b"\n\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def usual(request: Request, writer: asyncio.StreamWriter) -> None:
    """Health, runs that give back their input, and streams that count."""
    if request.method == "GET":
        writer.write(answer(b'{"status":"ok"}', 200, "X-Node: fake"))
    elif request.path.endswith("stream=true"):
        count = int((request.text.split() + ["0"])[1])
        await stream(range(1, count + 1))(request, writer)
    else:
        words = request.text.split()
        if len(words) > 1 and re.fullmatch(r"[0-9.]+", words[1]):
            await asyncio.sleep(float(words[1]))
        writer.write(answer(json.dumps(result(request.text)).encode()))


def stream(numbers: Any, *, end: int = 1, last: bool = True, sse: bool = True, split: bool = False) -> Reply:
    """A stream with these numbers, that many ends, and perhaps the last chunk of the protocol."""

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        writer.write(chunk(event("add_message", {"text": "seq=1 seq=2"}, sse)))
        for number in numbers:
            pieces = [f"seq={str(number)[0]}", f"{str(number)[1:]} "] if split else [f"seq={number} "]
            for piece in pieces:
                data = event("token", {"chunk": piece}, sse)
                writer.write(chunk(data[:7]) + chunk(data[7:]))
                await asyncio.sleep(0)
        for _number in range(end):
            writer.write(chunk(event("end", {"result": result(request.text)}, sse)))
        if last:
            writer.write(b"0\r\n\r\n")
        else:
            writer.close()

    return reply


def fixed(data: bytes, *, close: bool = False, pause: float = 0.0) -> Reply:
    """Always the same bytes, and perhaps nothing more for a while."""

    async def reply(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await asyncio.sleep(pause)
        if close:
            writer.close()

    return reply


async def reset(_request: Request, writer: asyncio.StreamWriter) -> None:
    """Break the connection."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def half_close(_request: Request, writer: asyncio.StreamWriter) -> None:
    """Close the sending side and keep the other."""
    writer.write_eof()


async def silence(_request: Request, _writer: asyncio.StreamWriter) -> None:
    """Say nothing."""
    await asyncio.sleep(30)


@dataclass
class Server:
    """Serves in a thread of its own; `reply` may be changed at any time."""

    reply: Reply = usual
    tls: ssl.SSLContext | None = None
    idle: float = 0.0  # seconds after which a kept connection is closed without a word
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    stalled_until: float = 0.0

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def executed(self) -> list[str]:
        """The input of every run, as a log would hold it."""
        return [request.text for request in self.requests if request.method == "POST"]

    def arrivals(self, begin: float) -> collections.Counter[int]:
        """Number of requests in each second."""
        return collections.Counter(int(request.at - begin) for request in self.requests)

    def stall(self, seconds: float) -> None:
        """Take requests and answer none of them for so long."""
        self.stalled_until = time.monotonic() + seconds

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls, backlog=1000)
        listener = self._loop.run_until_complete(starting)
        self.port = listener.sockets[0].getsockname()[1]
        self._loop.set_exception_handler(lambda _loop, _context: None)
        ready.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        turn = 0
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            while not writer.is_closing():
                wait = self.idle if self.idle and turn else None
                head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), wait)).decode()
                turn += 1
                first, *lines = head.rstrip().split("\r\n")
                method, path, _version = first.split()
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                port = writer.get_extra_info("peername")[1]
                request = Request(method, path, headers, body, time.monotonic(), turn, port)
                self.requests.append(request)
                if self.stalled_until:
                    await asyncio.sleep(max(0.0, self.stalled_until - time.monotonic()))
                await self.reply(request, writer)
                await writer.drain()
                if headers.get("connection") == "close":
                    break
        writer.close()

    def close(self) -> None:
        """Let go of everything."""

        async def end() -> None:
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
