# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTPS API: paths, limits of a request, and errors that always look the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import prometheus_client
import redis
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kombu.exceptions import OperationalError
from starlette.exceptions import HTTPException

from . import __version__, config, metrics, notify
from .app import Application
from .errors import RequestError
from .front import User
from .names import FINAL
from .seal import redact_logs
from .service import Service
from .store import Store

log = logging.getLogger(__name__)

LONGEST_WAIT = 30.0
WORDS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 422: "invalid_request"}


def refusal(status: int, code: str, message: str, **details: Any) -> JSONResponse:
    """Return an error in the one shape that all errors have."""
    error: dict[str, Any] = {"code": code, "message": message}
    if details:
        error["details"] = details
    headers = {"Retry-After": "5"} if status in {429, 503} else None
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def _on_refusal(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, RequestError):
        return refusal(error.status, error.code, error.message, **error.details)
    if isinstance(error, HTTPException):
        return refusal(error.status_code, WORDS.get(error.status_code, "error"), str(error.detail))
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first.get("loc", ()))
        return refusal(422, "invalid_request", f"{where}: {first.get('msg', '')}")
    if isinstance(error, redis.RedisError | OperationalError):
        log.error("Redis does not answer: %s", error)
        return refusal(503, "queue_unreachable", "The queue does not answer; nothing was queued.")
    log.exception("internal error", exc_info=error)
    return refusal(500, "internal_error", "An error in the API; its log has the details.")


async def _body(request: Request, most: int) -> Any:
    """Read a JSON body that is not larger than allowed, whatever its header says."""
    too_large = RequestError(413, "too_large", f"The body is larger than {most} bytes.")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise too_large
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > most:
            raise too_large
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError):
        raise RequestError(400, "bad_request", "The body is not JSON.") from None


def _limit(value: int, most: int = 500) -> int:
    return max(1, min(value, most))


def routes(service: Service) -> APIRouter:
    """Return the paths."""
    router = APIRouter()
    most = service.settings.limits.body_bytes

    async def caller(request: Request) -> tuple[str, User]:
        key = request.headers.get("x-api-key", "")
        looks = request.method in {"GET", "HEAD"}
        return key, await run_in_threadpool(partial(service.gate.user, key, reading=looks))

    async def act(function: Callable[..., Any], *arguments: Any) -> Any:
        return await run_in_threadpool(function, *arguments)

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @router.get("/ready")
    async def ready() -> JSONResponse:
        good = await act(service.ready)
        return JSONResponse({"status": "ok"}) if good else refusal(503, "queue_unreachable", "Redis does not answer.")

    @router.post("/runs", status_code=202)
    async def submit(request: Request) -> Any:
        key, user = await caller(request)
        return await act(service.submit, key, user, await _body(request, most), request.headers)

    @router.get("/runs")
    async def runs(
        request: Request,
        state: str = "",
        queue: str = "",
        flow: str = "",
        schedule: str = "",
        batch: str = "",
        limit: int = 50,
        before: float | None = None,
    ) -> Any:
        _key, user = await caller(request)
        asked = {"state": state, "queue": queue, "flow": flow, "schedule": schedule, "batch": batch}
        wanted = {name: value for name, value in asked.items() if value}
        found = await act(service.runs, user, wanted, _limit(limit), before)
        return {"runs": found, "before": found[-1]["created"] if len(found) == _limit(limit) else None}

    @router.get("/runs/{run_id}")
    async def run(request: Request, run_id: str, wait: float = 0.0) -> Any:
        _key, user = await caller(request)
        until = time.monotonic() + min(wait, LONGEST_WAIT)
        while True:
            shown = await act(service.run, user, run_id)
            if shown["state"] in FINAL or time.monotonic() >= until:
                return shown
            await asyncio.sleep(0.5)

    @router.get("/runs/{run_id}/result")
    async def result(request: Request, run_id: str) -> Any:
        _key, user = await caller(request)
        ended, shown = await act(service.result, user, run_id)
        return JSONResponse(shown, status_code=200 if ended else 202)

    @router.delete("/runs/{run_id}")
    async def cancel(request: Request, run_id: str) -> Any:
        _key, user = await caller(request)
        shown = await act(service.cancel, user, run_id)
        return JSONResponse(shown, status_code=200 if shown["state"] in FINAL else 202)

    @router.post("/runs/{run_id}/replay", status_code=202)
    async def replay(request: Request, run_id: str) -> Any:
        key, user = await caller(request)
        return await act(service.replay, user, key, run_id)

    @router.post("/batches", status_code=202)
    async def submit_batch(request: Request) -> Any:
        key, user = await caller(request)
        return await act(service.submit_batch, key, user, await _body(request, most), request.headers)

    @router.get("/batches/{batch_id}")
    async def batch(request: Request, batch_id: str) -> Any:
        _key, user = await caller(request)
        return await act(service.batch, user, batch_id)

    @router.get("/batches/{batch_id}/runs")
    async def batch_runs(request: Request, batch_id: str, start: int = 0, limit: int = 100) -> Any:
        _key, user = await caller(request)
        return {"runs": await act(service.batch_runs, user, batch_id, max(0, start), _limit(limit))}

    @router.delete("/batches/{batch_id}")
    async def cancel_batch(request: Request, batch_id: str) -> Any:
        _key, user = await caller(request)
        return JSONResponse(await act(service.cancel_batch, user, batch_id), status_code=202)

    @router.get("/queues")
    async def queues(request: Request) -> Any:
        await caller(request)
        return {"queues": await act(service.queues)}

    @router.get("/schedules")
    async def schedules(request: Request) -> Any:
        await caller(request)
        return {"schedules": await act(service.schedules)}

    return router


def make(application: Application, on_start: Callable[[], None] = lambda: None) -> FastAPI:
    """Return the ASGI application."""

    @contextlib.asynccontextmanager
    async def lifespan(_api: FastAPI) -> AsyncIterator[None]:
        on_start()
        yield
        notify.stopping()
        await run_in_threadpool(application.spans.close)

    settings = application.settings
    api = FastAPI(
        title="flowfleet tasks",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{settings.api.path}/openapi.json",
    )
    for kind in (RequestError, HTTPException, RequestValidationError, redis.RedisError, OperationalError, Exception):
        api.add_exception_handler(kind, _on_refusal)
    api.include_router(routes(Service(application)), prefix=settings.api.path)
    return api


def _metrics(settings: config.Config, store: Store) -> None:
    if not settings.metrics.port:
        return
    options: dict[str, Any] = {}
    if settings.metrics.tls:
        options = {"certfile": settings.api.tls_cert, "keyfile": tls_key(settings)}
    prometheus_client.start_http_server(
        settings.metrics.port, addr=settings.metrics.host, registry=metrics.registry(store), **options
    )


def tls_key(settings: config.Config) -> str:
    """Return the file with the API's TLS key."""
    return settings.api.tls_key or str(config.credentials_directory() / "tls_key")


def serve(application: Application) -> None:
    """Serve until the process is told to stop."""
    settings = application.settings
    application.part = "api"
    application.spans.preload()
    # A caller waits: fail soon, the beat makes good what was written already.
    application.store = Store(settings, retries=2)
    application.celery.conf.task_publish_retry_policy = {"max_retries": 1, "interval_start": 0.2, "interval_max": 0.5}
    _metrics(settings, application.store)
    tls: dict[str, Any] = {}
    if settings.api.tls_cert:
        tls = {"ssl_certfile": settings.api.tls_cert, "ssl_keyfile": tls_key(settings)}
    server = uvicorn.Server(
        uvicorn.Config(
            make(application, _alive),
            host=settings.api.host,
            port=settings.api.port,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=20,
            timeout_keep_alive=75,
            **tls,
        )
    )
    redact_logs()
    server.run()


def _alive() -> None:
    """Tell systemd that requests are served, and go on telling it."""
    notify.ready()

    async def feed() -> None:
        while True:
            notify.alive()
            await asyncio.sleep(10)

    _tasks.add(asyncio.get_running_loop().create_task(feed()))


_tasks: set[asyncio.Task[None]] = set()
