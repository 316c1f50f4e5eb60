# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a worker of this host out of work and back, with an answer for machines."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import time
from typing import Any

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from .app import Application, drain_file

TROUBLE = (OperationalError, RedisError, OSError)
DRAINED, DEADLINE, ABSENT, UNREACHABLE, CONSUMING = "drained", "deadline", "absent", "unreachable", "consuming"
EXIT = {DRAINED: 0, CONSUMING: 0, ABSENT: 0, DEADLINE: 3, UNREACHABLE: 4}


def state_file(directory: str, instance: str) -> pathlib.Path:
    """Return where a worker tells about itself."""
    return pathlib.Path(directory) / f"{instance}.json"


def alive(pid: int) -> None:
    """Raise C(ProcessLookupError) if there is no such process."""
    with contextlib.suppress(PermissionError):
        os.kill(pid, 0)


class Control:
    """One worker of this host, through the broker."""

    def __init__(self, application: Application, instance: str) -> None:
        """Name the worker."""
        self.application = application
        self.instance = instance
        self.name = f"{instance}@{socket.gethostname()}"
        self.settings = application.settings
        self.file = drain_file(self.settings, instance)

    def told(self) -> dict[str, Any]:
        """Return what the running worker wrote down, or nothing if it does not run."""
        try:
            told = json.loads(state_file(self.settings.state_dir, self.instance).read_text(encoding="utf-8"))
            alive(int(told["pid"]))
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return told if isinstance(told, dict) else {}

    def _inspect(self, timeout: float = 2.0) -> Any:
        return self.application.celery.control.inspect(destination=[self.name], timeout=timeout)

    def _runs(self, kind: str) -> list[str] | None:
        """Return the runs that the worker has in hand, or nothing if it does not answer."""
        answer = getattr(self._inspect(), kind)()
        if not answer or self.name not in answer:
            return None
        return [str((task.get("args") or ["?"])[0]) for task in answer[self.name]]

    def ping(self, timeout: float = 10.0) -> bool:
        """Whether the worker answers through the broker."""
        end = time.monotonic() + timeout
        while True:
            try:
                if self._inspect(timeout=2.0).ping():
                    return True
            except TROUBLE:
                pass
            if time.monotonic() > end:
                return False
            time.sleep(0.5)

    def _cancel_consumers(self, queues: list[str]) -> list[str]:
        cancelled = []
        for queue in queues:
            reply = self.application.celery.control.cancel_consumer(
                f"queue.{queue}", destination=[self.name], reply=True, timeout=5
            )
            if reply:
                cancelled.append(queue)
        return cancelled

    def _handed_back(self) -> set[str]:
        try:
            return set(self.file.read_text(encoding="utf-8").split())
        except OSError:
            return set()

    def _announce(self) -> None:
        """Write the file that the worker's processes look for; they may append to it, whoever drains."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.touch()
        owner = self.file.parent.stat()
        if os.geteuid() == 0:
            os.chown(self.file, owner.st_uid, owner.st_gid)

    def drain(self, timeout: float) -> dict[str, Any]:
        """Stop taking tasks, hand back what can be, wait for the rest."""
        begun = time.monotonic()
        answer: dict[str, Any] = {"worker": self.name, "consumers_cancelled": [], "active": 0, "reserved": 0}
        answer.update(handed_back=0, finished=0, seconds=0.0, runs=[])
        told = self.told()
        if not told:
            return {**answer, "state": ABSENT}
        self._announce()
        seen: set[str] = set()
        left: list[str] | None = None
        reserved: list[str] | None = None
        while True:
            try:
                missing = [queue for queue in told["queues"] if queue not in answer["consumers_cancelled"]]
                answer["consumers_cancelled"] += self._cancel_consumers(missing)
                left, reserved = self._runs("active"), self._runs("reserved")
            except TROUBLE:
                left = reserved = None
            seen |= set(left or [])
            complete = len(answer["consumers_cancelled"]) == len(told["queues"])
            over = time.monotonic() - begun > timeout
            if (complete and left == [] and reserved == []) or over or not self.told():
                break
            time.sleep(0.5)
        if not self.told():
            state = ABSENT
        elif left is None or reserved is None:
            state = UNREACHABLE
        else:
            state = DRAINED if not left and not reserved and complete else DEADLINE
        back = self._handed_back()
        answer.update(active=len(left or []), reserved=len(reserved or []), handed_back=len(back), runs=left or [])
        answer.update(finished=len(seen - back - set(left or [])), seconds=round(time.monotonic() - begun, 2))
        return {**answer, "state": state}

    def undrain(self, timeout: float = 30.0) -> dict[str, Any]:
        """Let the worker take tasks again, and wait until it says that it does."""
        self.file.unlink(missing_ok=True)
        told, end = self.told(), time.monotonic() + timeout
        consuming: list[str] | None = None
        while told:
            with contextlib.suppress(*TROUBLE):
                self._add_consumers([queue for queue in told["queues"] if queue not in (consuming or [])])
                consuming = self._queues()
            good = consuming is not None and set(told["queues"]) <= set(consuming)
            if good or time.monotonic() > end:
                return {"worker": self.name, "state": CONSUMING if good else UNREACHABLE, "queues": consuming or []}
            time.sleep(0.5)
            told = self.told()
        return {"worker": self.name, "state": ABSENT}

    def _add_consumers(self, queues: list[str]) -> None:
        for queue in queues:
            self.application.celery.control.add_consumer(
                f"queue.{queue}", destination=[self.name], reply=True, timeout=5
            )

    def _queues(self) -> list[str] | None:
        answer = self._inspect().active_queues()
        if not answer or self.name not in answer:
            return None
        return sorted(str(queue["name"]).removeprefix("queue.") for queue in answer[self.name])

    def status(self, timeout: float = 10.0) -> dict[str, Any]:
        """Return what the worker does now; one that is busy is asked again."""
        shown: dict[str, Any] = {"worker": self.name, "queues": [], "active": 0, "reserved": 0, "processes": 0}
        end = time.monotonic() + timeout
        while self.told():
            queues = active = reserved = None
            stats: dict[str, Any] = {}
            with contextlib.suppress(*TROUBLE):
                queues, active, reserved = self._queues(), self._runs("active"), self._runs("reserved")
                stats = (self._inspect().stats() or {}).get(self.name, {})
            if queues is not None and active is not None and reserved is not None:
                processes = len(stats.get("pool", {}).get("processes", []))
                shown.update(queues=queues, active=len(active), reserved=len(reserved), processes=processes)
                return {**shown, "state": "draining" if self.file.exists() or not queues else CONSUMING}
            if time.monotonic() > end:
                return {**shown, "state": UNREACHABLE}
            time.sleep(0.5)
        return {**shown, "state": ABSENT}


def instances(application: Application) -> list[str]:
    """Return the workers of this host that have told about themselves."""
    return sorted(path.stem for path in pathlib.Path(application.settings.state_dir).glob("*.json"))
