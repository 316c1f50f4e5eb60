# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Celery application. A message holds one identifier; everything else is in the record that it names."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import socket
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.exceptions import Reject

from . import config
from .front import FrontDoor
from .runner import TROUBLE, Worker
from .seal import Seal
from .spans import Spans
from .store import Store
from .submit import unfold

# Lists that Redis is asked for in this order: what has begun goes first.
FIRST, LAST = 0, 5
STEPS = [FIRST, LAST]
RUN, SCHEDULED, BATCH = "flowfleet_tasks.run_flow", "flowfleet_tasks.run_scheduled", "flowfleet_tasks.run_batch"
INSTANCE_VARIABLE = "FLOWFLEET_TASKS_INSTANCE"


def queue_name(name: str) -> str:
    """Return what a queue of the configuration is called in the broker."""
    return f"queue.{name}"


def celery_settings(settings: config.Config) -> dict[str, Any]:
    """Return what Celery is told."""
    redis = settings.redis
    options: dict[str, Any] = {
        "visibility_timeout": settings.times.visibility_timeout,
        "global_keyprefix": redis.prefix,
        "priority_steps": STEPS,
        "queue_order_strategy": "priority",
        "socket_keepalive": True,
        # A lost connection of the control channel is noticed by this only: the worker stands still for so long.
        "socket_timeout": 5.0,
        "socket_connect_timeout": redis.timeout,
        "health_check_interval": 15,
        "retry_on_timeout": True,
        "fanout_prefix": True,
        "fanout_patterns": True,
    }
    told: dict[str, Any] = {
        "broker_transport_options": options,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_ignore_result": True,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_queues": {
            queue_name(name): {
                "exchange": queue_name(name),
                "exchange_type": "direct",
                "routing_key": queue_name(name),
            }
            for name in settings.queues
        },
        "task_default_queue": queue_name(settings.default_queue),
        "task_create_missing_queues": False,
        "task_acks_late": settings.recovery.acks_late,
        "task_reject_on_worker_lost": settings.recovery.acks_late,
        "worker_prefetch_multiplier": 1,
        "task_soft_time_limit": settings.times.soft_limit,
        "task_time_limit": settings.times.hard_limit,
        "task_publish_retry_policy": {"max_retries": 8, "interval_start": 0.2, "interval_step": 0.5, "interval_max": 3},
        "worker_max_tasks_per_child": 1000,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
        "timezone": "UTC",
    }
    if redis.tls:
        told["broker_use_ssl"] = {
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_ca_certs": redis.ca_file,
            "ssl_check_hostname": True,
        }
    return told


class Application:
    """The application and its tools, made when they are first needed (so also in each forked process)."""

    def __init__(self) -> None:
        """Make an application that knows its tasks and nothing else yet."""
        # What this process is in spans, if it is not a worker, which has a name of its own.
        self.part = ""
        self.celery = Celery("flowfleet_tasks")
        self.celery.flowfleet = self
        for name, function in ((RUN, self.deliver), (SCHEDULED, self.deliver), (BATCH, self.unfold)):
            self.celery.task(name=name)(function)

    @functools.cached_property
    def settings(self) -> config.Config:
        """Return the configuration."""
        return config.load()

    @functools.cached_property
    def seal(self) -> Seal:
        """Return what opens the records."""
        return Seal(config.secret("seal_key"))

    @functools.cached_property
    def store(self) -> Store:
        """Return the records, with the patience of a process that no caller waits for."""
        return Store(self.settings, retries=25)

    @functools.cached_property
    def front(self) -> FrontDoor:
        """Return the way to Langflow."""
        return FrontDoor(self.settings.langflow)

    @functools.cached_property
    def spans(self) -> Spans:
        """Return what makes spans."""
        return Spans(self.settings.traces, self.part or self.instance)

    def configure(self) -> Celery:
        """Tell Celery what the configuration says."""
        self.celery.conf.update(celery_settings(self.settings))
        self.celery.conf.broker_url = broker_url(self.settings.redis)
        return self.celery

    def check_secrets(self) -> None:
        """Fail now, with a clear error, rather than at the first run."""
        self.seal.close(None)

    # --- messages ---------------------------------------------------------------------------------------------------

    def publish(self, record: Mapping[str, str], *, begun: bool = False) -> None:
        """Send a message for a run; what has begun is served before what has not."""
        name = SCHEDULED if record.get("schedule") else RUN
        self._send(name, record["id"], record["queue"], begun=begun)
        self.store.published(record["id"])

    def publish_batch(self, batch_id: str, queue: str) -> None:
        """Send the message that makes a batch's runs."""
        self._send(BATCH, batch_id, queue, begun=True)

    def _send(self, name: str, what: str, queue: str, *, begun: bool) -> None:
        self.celery.send_task(
            name,
            args=[what],
            queue=queue_name(queue),
            priority=FIRST if begun else LAST,
            headers={"flowfleet_sent": f"{time.time():.3f}"},
            ignore_result=True,
        )

    # --- tasks ------------------------------------------------------------------------------------------------------

    @property
    def instance(self) -> str:
        """Return which of the host's workers this process belongs to."""
        return os.environ.get(INSTANCE_VARIABLE, "")

    def draining(self) -> bool:
        """Whether this worker has to go."""
        return drain_file(self.settings, self.instance).exists()

    def handed_back(self, run_id: str) -> None:
        """Note for the one who drains that this run goes on elsewhere."""
        place = drain_file(self.settings, self.instance)
        if place.exists():
            with contextlib.suppress(OSError), place.open("a", encoding="utf-8") as file:
                file.write(f"{run_id}\n")

    def worker(self) -> Worker:
        """Return what handles one message."""
        return Worker(
            self.settings,
            self.store,
            self.seal,
            self.front,
            self.spans,
            owner=f"{self.instance}@{socket.gethostname()}/{os.getpid()}",
            publish=functools.partial(self.publish, begun=True),
            draining=self.draining,
            handed_back=self.handed_back,
        )

    def deliver(self, run_id: str) -> str:
        """Handle the message of one run; if Redis is away, the message goes back."""
        try:
            return self.worker().deliver(run_id)
        except TROUBLE as error:
            raise Reject(str(error), requeue=True) from error

    def unfold(self, batch_id: str) -> int:
        """Make the runs of a batch; doing it twice makes them once."""
        return unfold(self.store, self.seal, batch_id, self.publish)


def broker_url(settings: config.Redis) -> str:
    """Return the broker's address with its password; it is given to Celery and never printed."""
    quoted = functools.partial(urllib.parse.quote, safe="")
    login = f"{quoted(settings.username)}:{quoted(config.secret('redis_password'))}@"
    scheme = "rediss" if settings.tls else "redis"
    return f"{scheme}://{login}{settings.host}:{settings.port}/{settings.db}"


def drain_file(settings: config.Config, instance: str) -> pathlib.Path:
    """Return the file whose presence tells an instance's processes to hand back what they can."""
    return pathlib.Path(settings.state_dir) / f"{instance}.drain"
