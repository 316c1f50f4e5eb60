# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Which builds and background jobs this node works on, and waiting for their end.

Langflow writes each run into the table C(job). While it works on one, it writes its own process number and the time
into the metadata every 15 seconds. So a job belongs to this node if its owner is a process of the service here.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pwd
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible_collections.flowfleet.langflow.plugins.module_utils import (
    _langflow_jobs_query,
    _processes,
    _systemd,
)

URL = "LANGFLOW_DATABASE_URL"
OWNER = re.compile(r"^(?P<kind>[a-z]+):(?P<pid>\d+):")
# Between the clock of the kernel and the one of a process that has just written its first sign of life.
CLOCK_ACCURACY = 1.0


class JobsError(Exception):
    """The jobs cannot be read."""


# --- the database -----------------------------------------------------------------------------------------------------


def environment_value(text: str, name: str) -> str | None:
    """The value of a variable in a file as systemd reads it; the last one counts."""
    found = re.findall(rf'^{name}=(?:"((?:[^"\\]|\\.)*)"|([^"\s].*))[ \t]*$', text, re.M)
    if not found:
        return None
    quoted, plain = found[-1]
    return re.sub(r"\\(.)", r"\1", quoted) if quoted else plain.strip()


def database_url(files: Iterable[str]) -> str:
    """Where the service finds its database."""
    url = None
    for path in files:
        try:
            with open(path, encoding="utf-8") as stream:
                url = environment_value(stream.read(), URL) or url
        except OSError as error:
            raise JobsError(f"{path}: {error.strerror}") from error
    if not url:
        raise JobsError(f"{URL} stands in none of {', '.join(files)}")
    return url


def secrets_of(url: str) -> set[str]:
    """What must not be seen of an address."""
    try:
        password = urlsplit(url).password
    except ValueError:
        password = None
    return {url, *({password, unquote(password)} if password else set())}


def program() -> str:
    """The text of the program that asks the database."""
    loader = _langflow_jobs_query.__loader__
    text = loader.get_source(_langflow_jobs_query.__name__) if loader is not None else None
    if not text:
        raise JobsError("the query program is not part of this module")
    return str(text)


def ask(python: str, url: str, user: str | None, timeout: float) -> dict[str, Any]:
    """Run the query program with the Python of a release, as the user of the service."""
    identity: dict[str, Any] = {}
    if user and os.geteuid() == 0:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise JobsError(f"there is no user {user} on this host") from None
        identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    try:
        done = subprocess.run(
            [python, "-I", "-"],
            input=program(),
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", URL: url},
            timeout=timeout,
            check=False,
            **identity,
        )
    except subprocess.TimeoutExpired:
        raise JobsError(f"the database did not answer within {timeout:g} s") from None
    except OSError as error:
        raise JobsError(f"{python}: {error.strerror}") from error
    if done.returncode != 0:
        raise JobsError(f"the jobs could not be read: {done.stderr.strip() or f'ended with {done.returncode}'}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# --- whose job --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Job:
    """One unfinished job."""

    id: str
    flow_id: str
    type: str
    status: str
    created: float | None
    owner: str | None
    heartbeat: float | None

    @property
    def owner_kind(self) -> str:
        """Which part of Langflow works on it."""
        found = OWNER.match(self.owner or "")
        return found["kind"] if found else ""

    @property
    def owner_pid(self) -> int | None:
        """Which process works on it."""
        found = OWNER.match(self.owner or "")
        return int(found["pid"]) if found else None

    @property
    def kind(self) -> str:
        """A word for people."""
        if self.type != "workflow":
            return self.type
        return {"api": "background", "jobs": "run"}.get(self.owner_kind, "unknown")

    def result(self, now: float) -> dict[str, Any]:
        """What the module returns."""
        return {
            "id": self.id,
            "kind": self.kind,
            "status": self.status,
            # Jobs without a flow carry their own number instead.
            "flow_id": None if self.flow_id == self.id else self.flow_id,
            "started": None
            if self.created is None
            else datetime.datetime.fromtimestamp(self.created, datetime.UTC).isoformat(timespec="seconds"),
            "age": None if self.created is None else max(0, round(now - self.created)),
            "process": self.owner_pid,
            "last_sign": None if self.heartbeat is None else max(0, round(now - self.heartbeat)),
        }


@dataclasses.dataclass
class Picture:
    """The unfinished jobs, seen from this node."""

    known: bool = True
    running: list[Job] = dataclasses.field(default_factory=list)
    silent: list[Job] = dataclasses.field(default_factory=list)
    unattributed: list[Job] = dataclasses.field(default_factory=list)
    ambiguous: bool = False
    dispatcher: bool = False


def _here(pid: int | None, sign: float | None, processes: Mapping[int, _processes.Process]) -> bool:
    """Whether a process of this node has given that sign of life."""
    process = processes.get(pid) if pid is not None else None
    return process is not None and sign is not None and sign >= process.started - CLOCK_ACCURACY


def sort_out(
    answer: Mapping[str, Any], processes: Mapping[int, _processes.Process], now: float, stale_after: float
) -> Picture:
    """Divide the jobs of the cluster by what is known about their owner."""
    picture = Picture(known=bool(answer["known"]))
    owners: dict[tuple[str, int | None], set[str | None]] = {}
    for job in (Job(**entry) for entry in answer["jobs"]):
        if job.owner_pid is None:
            picture.unattributed.append(job)
        elif _here(job.owner_pid, job.heartbeat, processes):
            fresh = job.heartbeat is not None and now - job.heartbeat <= stale_after
            (picture.running if fresh else picture.silent).append(job)
            if fresh:
                owners.setdefault((job.owner_kind, job.owner_pid), set()).add(job.owner)
    # One process has one mark of each kind. Two marks mean that another node has a process of the same number.
    picture.ambiguous = any(len(marks) > 1 for marks in owners.values())
    lease = answer.get("dispatcher")
    if lease and (lease["expires"] or 0) > now:
        found = OWNER.match(lease["owner"] or "")
        picture.dispatcher = found is not None and int(found["pid"]) in processes
    return picture


# --- waiting ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Watch:
    """The wishes, and what was seen."""

    unit: str = "langflow.service"
    python: str = "/opt/langflow/current/bin/python"
    environment_files: Sequence[str] = ("/etc/langflow/secrets.env",)
    database_url: str | None = None
    user: str | None = "langflow"
    wait: bool = False
    timeout: float = 300.0
    interval: float = 2.0
    settle: float = 2.0
    request_timeout: float = 20.0
    stale_after: float = 90.0
    unattributed: str = "wait"
    abandoned_after: float = 900.0
    hide: Callable[[Iterable[str]], None] = lambda secrets: None
    picture: Picture = dataclasses.field(default_factory=Picture)
    service: bool = False
    waited: float = 0.0
    pending: list[Job] = dataclasses.field(default_factory=list)

    def run(self) -> Watch:
        """Look once, or until nothing is left or the time is over."""
        begin = time.monotonic()
        horizon: float | None = None
        quiet_since: float | None = None
        while True:
            problem = None
            try:
                self._look()
            except JobsError as error:
                if not self.wait:
                    raise
                # The database may be moving to another host right now.
                problem = error
            moment = time.monotonic()
            self.waited = moment - begin
            if problem is None:
                horizon = time.time() if horizon is None else horizon
                self.pending = self._pending(horizon)
                quiet_since = None if self.left else (moment if quiet_since is None else quiet_since)
                if not self.wait or not self.service:
                    break
                if quiet_since is not None and moment - quiet_since >= self.settle:
                    break
            else:
                quiet_since = None
            if moment - begin >= self.timeout:
                if problem is not None:
                    raise JobsError(f"after {self.timeout:g} s: {problem}") from problem
                break
            pause = self.interval if quiet_since is None else min(self.interval, self.settle)
            time.sleep(max(0.0, min(pause, self.timeout - (moment - begin))))
        return self

    @property
    def left(self) -> int:
        """How many jobs there are to wait for."""
        return len(self.picture.running) + len(self.pending)

    def _look(self) -> None:
        group = self._control_group()
        self.service = bool(group)
        if not group:
            self.picture = Picture()
            return
        url = self.database_url or database_url(self.environment_files)
        self.hide(secrets_of(url))
        answer = ask(self.python, url, self.user, self.request_timeout)
        # After the query: a process that has just taken a job is seen, whenever it was started.
        processes = _processes.of_control_group(group)
        self.picture = sort_out(answer, processes, time.time(), self.stale_after)

    def _control_group(self) -> str | None:
        """The control group of the unit while it runs; it also runs while it stops."""
        text = _systemd.systemctl("show", self.unit, "--property=ActiveState,ControlGroup")
        properties = _systemd.parse_properties(text)
        if properties.get("ActiveState") in (None, "inactive", "failed"):
            return None
        return properties.get("ControlGroup") or None

    def _pending(self, horizon: float) -> list[Job]:
        """Jobs that may be this node's, were there at the first look and are not given up."""
        if self.unattributed != "wait":
            return []
        oldest = time.time() - self.abandoned_after
        return [job for job in self.picture.unattributed if oldest <= (job.created or 0) <= horizon]

    def result(self) -> dict[str, Any]:
        """The result of the module."""
        now = time.time()
        lists = {
            key: [job.result(now) for job in getattr(self.picture, key)]
            for key in ("running", "silent", "unattributed")
        }
        return {
            "changed": False,
            **lists,
            "count": len(self.picture.running),
            "left": self.left,
            "waited": round(self.waited, 3),
            "service_running": self.service,
            "known": self.picture.known,
            "ambiguous": self.picture.ambiguous,
            "dispatches_triggers": self.picture.dispatcher,
        }
