# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The processes of this host: a worker and the beat."""

from __future__ import annotations

import datetime
import json
import logging
import os
import socket
import sys
import threading
import time
from typing import Any

from celery import signals
from celery.apps.beat import Beat
from redis.exceptions import RedisError

from . import config, notify, trace
from .app import INSTANCE_VARIABLE, Application, drain_file
from .drain import state_file
from .errors import ConfigError
from .seal import redact_logs
from .store import Store

log = logging.getLogger(__name__)

FEED_EVERY = 10.0
# Without a sign of life of the consumer for so long, although Redis answers, the worker is stuck.
STUCK_AFTER = 60.0


class JsonFormatter(logging.Formatter):
    """One object for each event, also for one with a traceback, with the run and the trace that it belongs to."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {
            "timestamp": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(
                timespec="microseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.processName,
            "pid": record.process,
            **trace.at_work(),
        }
        if record.exc_info or record.exc_text:
            fields["exception"] = record.exc_text or self.formatException(record.exc_info or (None, None, None))
        return json.dumps(fields, ensure_ascii=False, default=str)


def set_up_logs(level: int = logging.INFO) -> None:
    """Log to standard error, without secrets."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    redact_logs()


class WorkerProcess:
    """One worker instance of this host."""

    def __init__(self, application: Application, instance: str, queues: list[str], concurrency: int) -> None:
        """Check what was asked for."""
        unknown = sorted(set(queues) - set(application.settings.queues))
        if unknown:
            raise ConfigError([f"there is no queue {name!r}" for name in unknown])
        if not config.NAME.match(instance):
            raise ConfigError([f"the worker's name has to match {config.NAME.pattern}"])
        if concurrency < 1:
            raise ConfigError(["concurrency has to be at least 1"])
        self.application = application
        self.instance = instance
        self.queues = queues
        self.concurrency = concurrency
        self.drain = drain_file(application.settings, instance)
        self._life = time.monotonic()

    def _tell(self) -> None:
        place = state_file(self.application.settings.state_dir, self.instance)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_suffix(".new")
        told = {"pid": os.getpid(), "queues": self.queues, "concurrency": self.concurrency, "since": time.time()}
        draft.write_text(json.dumps(told), encoding="utf-8")
        draft.replace(place)

    def on_ready(self, **_kwargs: Any) -> None:
        """Say that the worker takes tasks."""
        self._life = time.monotonic()
        threading.Thread(target=self._feed, name="watchdog", daemon=True).start()
        notify.ready()

    def on_heartbeat(self, **_kwargs: Any) -> None:
        """Note that the consumer's loop turns."""
        self._life = time.monotonic()

    def on_process_end(self, **_kwargs: Any) -> None:
        """Send the last spans of a child process, which ends without any other notice."""
        self.application.spans.close()

    def on_stop(self, **_kwargs: Any) -> None:
        """Tell the child processes that they have to go."""
        notify.stopping()
        if not self.drain.exists():
            self.drain.touch()

    def _feed(self) -> None:
        """Feed the watchdog, unless the loop stands still although Redis answers."""
        store = self.application.store
        while True:
            stuck = time.monotonic() - self._life > STUCK_AFTER
            try:
                if stuck:
                    store.client.ping()
                    log.error("the worker does not take tasks although Redis answers")
                store.client.zadd(store.key("workers"), {f"{self.instance}@{socket.gethostname()}": time.time()})
            except RedisError:
                stuck = False
            if not stuck:
                notify.alive()
            time.sleep(FEED_EVERY)

    def run(self, more: list[str]) -> None:
        """Work until told to stop."""
        os.environ[INSTANCE_VARIABLE] = self.instance
        self._tell()
        self.drain.unlink(missing_ok=True)
        self.application.spans.preload()
        signals.worker_ready.connect(self.on_ready, weak=False)
        signals.heartbeat_sent.connect(self.on_heartbeat, weak=False)
        signals.worker_shutting_down.connect(self.on_stop, weak=False)
        signals.worker_process_shutdown.connect(self.on_process_end, weak=False)
        signals.setup_logging.connect(lambda **_kwargs: set_up_logs(), weak=False)
        arguments = [
            "worker",
            f"--hostname={self.instance}@{socket.gethostname()}",
            f"--queues={','.join(f'queue.{queue}' for queue in self.queues)}",
            f"--concurrency={self.concurrency}",
            "--pool=prefork",
            "--optimization=fair",
            "--without-gossip",
            "--without-mingle",
            *more,
        ]
        try:
            self.application.configure().worker_main(arguments)
        finally:
            state_file(self.application.settings.state_dir, self.instance).unlink(missing_ok=True)


def run_beat(application: Application) -> None:
    """Run Celery's beat with the scheduler that leads or stands by."""
    from .beat import LeaderScheduler

    signals.setup_logging.connect(lambda **_kwargs: set_up_logs(), weak=False)
    application.part = "beat"
    celery = application.configure()
    # It looks again with its next tick anyway.
    application.store = Store(application.settings, retries=2)
    # Its file of last runs is not used: the records are in Redis.
    try:
        Beat(app=celery, scheduler=LeaderScheduler, quiet=True, schedule=os.devnull, pidfile=None).run()
    finally:
        application.spans.close()
