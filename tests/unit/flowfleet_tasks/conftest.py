# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Redis and a front door for the tests of the tasks package: both are servers that answer over the network."""

from __future__ import annotations

import base64
import collections
import contextlib
import dataclasses
import http.server
import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[3] / "roles" / "celery" / "files" / "flowfleet_tasks" / "src"
NEEDED = (
    *("celery", "redis", "fastapi", "uvicorn", "cryptography", "cronsim", "prometheus_client", "fakeredis", "lupa"),
    "opentelemetry.sdk",
    "opentelemetry.exporter.otlp.proto.http",
)


def there(name: str) -> bool:
    """Whether a package is installed."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


MISSING = [name for name in NEEDED if not there(name)]
sys.path.insert(0, str(SOURCE))

# Without its dependencies there is nothing of the package to test.
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header() -> str:
    """Say so."""
    return f"flowfleet_tasks: not tested, missing {', '.join(MISSING)}" if MISSING else "flowfleet_tasks: tested"


def wait_for(what: Callable[[], Any], seconds: float = 20.0, pause: float = 0.05) -> Any:
    """Return the first result of I(what) that is true."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(pause)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- Langflow and its front door --------------------------------------------------------------------------------------

USERS = {
    "sk-alice-0123456789": {"id": "11111111-1111-4111-8111-111111111111", "username": "alice", "is_active": True},
    "sk-bob-0123456789": {"id": "22222222-2222-4222-8222-222222222222", "username": "bob", "is_active": True},
    "sk-root-0123456789": {
        "id": "33333333-3333-4333-8333-333333333333",
        "username": "root",
        "is_active": True,
        "is_superuser": True,
    },
    "sk-gone-0123456789": {"id": "44444444-4444-4444-8444-444444444444", "username": "gone", "is_active": False},
}
FLOW = "a450334b-6dd1-4983-878a-ff8d542f5e04"
ALICE, BOB = "sk-alice-0123456789", "sk-bob-0123456789"


@dataclasses.dataclass
class Job:
    """A job as Langflow keeps it."""

    id: str
    key: str
    dedupe: str
    text: str
    ends: float
    status: str = "in_progress"


class Langflow(http.server.ThreadingHTTPServer):
    """What the package needs of Langflow 1.13, with its rule about idempotency keys and its error shapes.

    The input of a flow tells what it does: `sleep=S`, `fail`, `lose` (its node dies). I(trouble) holds answers that the
    front door gives instead, first come first served: a status, `close` (no answer, nothing begun), `cut` (begun, but
    the answer gets lost) or a status with `Retry-After`. I(trouble_of) holds one for an input, whoever comes before it.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.jobs: dict[str, Job] = {}
        self.executions: collections.Counter[str] = collections.Counter()
        self.trouble: collections.deque[Any] = collections.deque()
        self.trouble_of: dict[str, Any] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.stopped: list[str] = []
        self.whoami = 0

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def began(self, key: str, dedupe: str, text: str) -> Job:
        """Begin a job, or find the one that this key of this user has already."""
        with self.lock:
            for job in self.jobs.values():
                if dedupe and (job.key, job.dedupe) == (key, dedupe) and self.state(job) not in {"failed", "cancelled"}:
                    return job
            order = dict(word.split("=", 1) for word in text.split() if "=" in word)
            job = Job(str(uuid.uuid4()), key, dedupe, text, time.monotonic() + float(order.get("sleep", 0)))
            self.jobs[job.id] = job
            self.executions[text.split()[0] if text else ""] += 1
            return job

    @staticmethod
    def state(job: Job) -> str:
        """Return how the job is doing now."""
        if job.status == "in_progress" and time.monotonic() >= job.ends:
            job.status = "failed" if {"fail", "lose"} & set(job.text.split()) else "completed"
        return job.status


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Langflow
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: Any) -> None:
        """Keep quiet."""

    def answer(self, status: int, body: Any, **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _read(self) -> Any:
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length)) if length else None

    def _begin(self) -> tuple[str, Any]:
        body = self._read()
        seen = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.command, self.path, seen))
        return str(self.headers.get("x-api-key", "")), body

    def do_GET(self) -> None:
        """Answer who, which flow, and how a job is doing."""
        key, _body = self._begin()
        user = USERS.get(key)
        if self.path == "/api/v1/users/whoami":
            self.server.whoami += 1
            return self.answer(200, user) if user else self.answer(403, {"detail": "Invalid or missing API key"})
        if not user:
            return self.answer(403, {"detail": "Invalid or missing API key"})
        if self.path.startswith("/api/v1/flows/?"):
            return self.answer(200, [{"id": FLOW, "name": "Test flow", "endpoint_name": "testflow"}])
        if self.path.startswith("/api/v1/flows/"):
            known = self.path.rsplit("/", 1)[1] == FLOW
            return self.answer(200, {"id": FLOW, "name": "Test flow"}) if known else self.answer(404, {"detail": "no"})
        job = self.server.jobs.get(self.path.rpartition("=")[2])
        if job is None or job.key != key:
            return self.answer(404, {"detail": {"code": "JOB_NOT_FOUND", "message": "no such job"}})
        return self._job(job)

    def _job(self, job: Job) -> None:
        state = self.server.state(job)
        if state == "failed":
            kind = (
                {"type": "worker_lost"}
                if "lose" in job.text.split()
                else {"type": "ValueError", "message": "asked for"}
            )
            detail = {"code": "JOB_FAILED", "message": "failed", "error_detail": kind}
            return self.answer(500, {"detail": detail})
        if state == "completed":
            return self.answer(200, self._result(job))
        return self.answer(200, {"object": "job", "job_id": job.id, "status": state})

    @staticmethod
    def _result(job: Job) -> dict[str, Any]:
        return {"object": "response", "status": "completed", "output": {"text": job.text}, "job_id": job.id}

    def do_POST(self) -> None:
        """Start and stop jobs."""
        key, body = self._begin()
        if key not in USERS:
            return self.answer(403, {"detail": "Invalid or missing API key"})
        if self.path.endswith("/stop"):
            self.server.stopped.append(body["job_id"])
            job = self.server.jobs[body["job_id"]]
            if self.server.state(job) == "in_progress":
                job.status = "cancelled"
            return self.answer(200, {"job_id": job.id})
        trouble = self.server.trouble_of.pop(body["input_value"], None)
        if trouble is None and self.server.trouble:
            trouble = self.server.trouble.popleft()
        if trouble == "close":
            return self._hang_up()
        if isinstance(trouble, tuple):
            return self.answer(trouble[0], {"detail": "slow down"}, Retry_After=trouble[1])
        if isinstance(trouble, int):
            return self.answer(trouble, {"detail": "The service cannot be reached at the moment."})
        held = body["mode"] == "sync"
        job = self.server.began(key, "" if held else body.get("idempotency_key", ""), body["input_value"])
        if trouble == "cut":
            return self._hang_up()
        if not held:
            return self.answer(200, {"object": "job", "job_id": job.id, "status": "queued"})
        time.sleep(max(0.0, job.ends - time.monotonic()))
        if self.server.state(job) == "failed":
            return self.answer(500, {"detail": {"code": "INTERNAL_SERVER_ERROR", "message": "asked for"}})
        return self.answer(200, self._result(job))

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def langflow() -> Iterator[Langflow]:
    """Return a front door that behaves as the test says."""
    server = Langflow()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


# --- Redis ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def redis_port() -> Iterator[int]:
    """Return the port of an empty Redis."""
    import fakeredis

    server = fakeredis.TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()


# --- the package ------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(
    langflow: Langflow, redis_port: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Write a configuration with its secrets; return what reads it, with changes if wanted."""
    secrets = tmp_path / "credentials"
    secrets.mkdir()
    (secrets / "redis_password").write_text("", encoding="utf-8")
    (secrets / "seal_key").write_text(base64.urlsafe_b64encode(os.urandom(32)).decode(), encoding="utf-8")
    (secrets / "schedule_keys").write_text(json.dumps({"default": ALICE}), encoding="utf-8")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("FLOWFLEET_TASKS_CREDENTIALS", str(secrets))
    monkeypatch.setenv("FLOWFLEET_TASKS_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("FLOWFLEET_TASKS_INSTANCE", "test")
    data: dict[str, Any] = {
        "langflow": {"url": langflow.url},
        "redis": {"port": redis_port, "tls": False, "username": ""},
        "queues": {"default": {}, "slow": {"rate": "2/s"}, "admin": {"superuser_only": True, "run_timeout": 60}},
        "times": {"lease": 3},
        "retry": {"backoff": 0.2, "backoff_max": 0.5, "max": 3},
        "beat": {"tick": 0.2, "lock": 1.5},
        "recovery": {"sweep": 0.5, "queued_check": 3},
        "metrics": {"port": 0},
        "api": {"port": free_port()},
        "schedules_file": str(tmp_path / "schedules.json"),
        "state_dir": str(tmp_path / "state"),
    }
    (tmp_path / "state").mkdir()

    def make(**changes: dict[str, Any]) -> Any:
        from flowfleet_tasks import config

        for section, values in changes.items():
            data.setdefault(section, {}).update(values)
        (tmp_path / "config.json").write_text(json.dumps(data), encoding="utf-8")
        return config.load()

    make()
    return make


@pytest.fixture
def application(settings: Callable[..., Any]) -> Any:
    """Return the application as a worker process has it."""
    from flowfleet_tasks.app import Application

    made = Application()
    made.configure()
    # The Redis for tests closes the connection when a script is unknown; loaded before, no test waits for another one.
    for script in made.store._scripts.values():
        made.store.client.script_load(script.script)
    return made


@pytest.fixture
def service(application: Any) -> Any:
    """Return the verbs of the API."""
    from flowfleet_tasks.service import Service

    return Service(application)


@pytest.fixture
def worker(application: Any) -> Any:
    """Return what handles one message, as the worker processes do."""
    return application.worker()


@pytest.fixture
def processes(tmp_path: pathlib.Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start processes of the package as units do, and end them after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{arguments[0]}-{len(started)}.log").open("wb")
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        command = [sys.executable, "-m", "flowfleet_tasks", *arguments]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait(timeout=10)
