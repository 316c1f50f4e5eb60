# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Change the state of one backend of the load balancer, and wait until its work is done."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import time
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import (
    _command,
    _lock,
    _nginx_backend,
    _nginx_workers,
    _systemd,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._managed_files import (
    ApplyError,
    Item,
    Labels,
    Outcome,
    Transaction,
)

LOCK = "nginx-backends.lock"
POLL = 0.25
# No connection for this long, while old workers are still there, counts as done.
SETTLE = 1.0
# The kernel tells the start of a process in hundredths of a second.
START_ACCURACY = 0.02


class SwitchError(Exception):
    """The backend is not in the wanted state."""


class _Edit(Transaction):
    """A change of files that is complete only when Nginx has tested it and runs it."""

    def __init__(self, labels: Labels | None, check_mode: bool, apply: Callable[[], None]) -> None:
        super().__init__(labels, check_mode=check_mode)
        self._apply = apply

    def _validate(self, command: str, argv: Sequence[str]) -> None:
        super()._validate(command, argv)
        self._apply()


@dataclasses.dataclass
class Report:
    """What was done, or would be."""

    changed: bool = False
    previous: str = "absent"
    reloaded: bool = False
    running: bool = False
    left: int = 0
    waited: float = 0.0
    leaving: int = 0
    backend: _nginx_backend.Backend | None = None
    enabled: list[str] = dataclasses.field(default_factory=list)
    diff: list[dict[str, str]] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def result(self) -> dict[str, Any]:
        """The result of the module."""
        return {
            "changed": self.changed,
            "backend": None if self.backend is None else self.backend.result(),
            "previous_state": self.previous,
            "enabled": self.enabled,
            "running": self.running,
            "reloaded": self.reloaded,
            "left": self.left,
            "waited": round(self.waited, 3),
            "old_workers": self.leaving,
        }


@dataclasses.dataclass
class Switch:
    """The wishes for one backend and the steps to fulfil them."""

    name: str
    state: str
    weight: int | None = None
    address: str | None = None
    port: int | None = None
    allow_last: bool = False
    directory: str = "/etc/nginx/langflow/backends.d"
    pid_file: str = "/run/nginx/nginx.pid"
    nginx: str = "nginx"
    unit: str = "nginx.service"
    reload_command: Sequence[str] | None = None
    reload_timeout: float = 30.0
    drain_timeout: float = 300.0
    lock_timeout: float = 120.0
    check_mode: bool = False
    labels: Labels | None = None
    report: Report = dataclasses.field(default_factory=Report)
    _moment: int = 0

    @property
    def path(self) -> str:
        """The membership file."""
        return os.path.join(self.directory, self.name + _nginx_backend.SUFFIX)

    def run(self) -> Report:
        """All steps in order; an exception leaves what was done so far in C(report)."""
        _nginx_backend.check_name(self.name)
        with self._locked():
            ends = self._change()
        # Without the lock from here on: others may change other backends while this one finishes its work.
        if self.state != "enabled":
            self._wait(ends)
        return self.report

    @contextlib.contextmanager
    def _locked(self) -> Any:
        if self.check_mode:
            yield
            return
        os.makedirs(_systemd.STAMPS, mode=0o755, exist_ok=True)
        with _lock.exclusive(os.path.join(_systemd.STAMPS, LOCK), self.lock_timeout):
            yield

    # Decide

    def _change(self) -> frozenset[str]:
        """Bring file and running configuration to the wanted state; give the addresses to wait for."""
        backends = {one.name: one for one in _nginx_backend.read_backends(self.directory)}
        existing = backends.get(self.name)
        others = sorted(name for name, one in backends.items() if name != self.name and not one.down)
        self._note(existing, others)
        self.report.previous = existing.state if existing else "absent"
        self.report.running = self._is_running()
        wanted = self._wanted(existing, backends)
        if existing and not existing.down and not others and self.state != "enabled" and not self.allow_last:
            raise SwitchError(
                f"{self.name} is the last enabled backend of this load balancer: without it every request would fail. "
                "Enable another one first, or set allow_last: true for a planned stop"
            )
        ends = self._ends(wanted or existing)
        self._write(self._text(wanted, existing, backends))
        self._note(wanted, others)
        return ends

    def _note(self, backend: _nginx_backend.Backend | None, others: list[str]) -> None:
        """Put into the report what is there now."""
        self.report.backend = backend
        self.report.enabled = sorted([*others, backend.name]) if backend and not backend.down else others

    def _ends(self, backend: _nginx_backend.Backend | None) -> frozenset[str]:
        """Where the connections to wait for lead to."""
        if backend is None or self.state == "enabled":
            return frozenset()
        ends = _nginx_workers.endpoints(backend.address, backend.port)
        if not ends:
            problem = f"the name {backend.address} is unknown on this host, so the connections to it cannot be counted"
            if self.state == "drained" and self.report.running:
                raise SwitchError(f"{problem} (nothing was changed)")
            self.report.warnings.append(f"{self.name}: {problem}.")
        return ends

    def _wanted(
        self, existing: _nginx_backend.Backend | None, known: dict[str, _nginx_backend.Backend]
    ) -> _nginx_backend.Backend | None:
        if self.state == "absent":
            return None
        for key, given in (("address", self.address), ("port", self.port)):
            if existing and given is not None and getattr(existing, key) != given:
                raise SwitchError(
                    f"{self.name} has the {key} {getattr(existing, key)}, not {given}; the variables of the role nginx "
                    "say who a backend is, this module only changes its state"
                )
        if existing is None:
            if self.address is None or self.port is None:
                names = ", ".join(known) or "none"
                raise SwitchError(
                    f"{self.name} is not a backend of this load balancer (it has: {names}). "
                    "Correct the name, or give address and port to add it"
                )
            sibling = next(iter(known.values()), None)
            existing = _nginx_backend.Backend(
                self.name, self.address, self.port, parameters=sibling.parameters if sibling else ()
            )
        return dataclasses.replace(
            existing,
            down=self.state == "drained",
            weight=existing.weight if self.weight is None else self.weight,
        )

    def _text(
        self,
        wanted: _nginx_backend.Backend | None,
        existing: _nginx_backend.Backend | None,
        known: dict[str, _nginx_backend.Backend],
    ) -> str | None:
        """The new content of the file; a new file looks like the others, so that the role finds nothing to change."""
        if wanted is None:
            return None
        model = existing or next(iter(known.values()), None)
        if model is None:
            return _nginx_backend.server_line(wanted) + "\n"
        with open(os.path.join(self.directory, model.name + _nginx_backend.SUFFIX), encoding="utf-8") as stream:
            text = stream.read()
        if existing == wanted:
            return text
        return _nginx_backend.with_server_line(text, wanted)

    # Change

    def _write(self, text: str | None) -> None:
        mode = None if os.path.exists(self.path) else 0o644
        item = Item(self.path, state="absent") if text is None else Item(self.path, content=text.encode(), mode=mode)
        try:
            times = os.stat(self.directory)
        except FileNotFoundError:
            raise SwitchError(f"{self.directory} does not exist: run the role nginx on this host first") from None
        test = f"{shlex.quote(self.nginx)} -t -q"
        edit = _Edit(self.labels, self.check_mode, self._reload)
        try:
            outcomes: list[Outcome] = edit.run([item], [test])
        except BaseException as error:
            # An old date again, or the next run of the role would see a change where there is none.
            os.utime(self.directory, ns=(times.st_atime_ns, times.st_mtime_ns))
            if self.report.reloaded:
                # A reload that is merely late must not bring the change after all.
                with contextlib.suppress(ApplyError):
                    self._signal()
            self.report.reloaded = False
            if not isinstance(error, ApplyError):
                raise
            details = error.details
            fate = "the previous file is back" if details.get("restored") else "nothing was changed"
            if details.get("not_restored"):
                fate = f"NOT put back: {'; '.join(details['not_restored'])}"
            raise SwitchError(f"{error} ({fate})") from error
        if self.report.reloaded:
            # What was removed along the way belongs to the state that Nginx has read.
            os.utime(self.directory, ns=(self._moment, self._moment))
        self.report.changed = any(outcome.changed for outcome in outcomes)
        self.report.diff = [entry for outcome in outcomes for entry in outcome.diff]
        if not self.report.changed and self._unread():
            self.report.changed = True
            if not self.check_mode:
                self._test_and_reload(test)

    def _test_and_reload(self, test: str) -> None:
        """Make up for a reload that an earlier run did not get to."""
        try:
            _Edit(self.labels, False, self._reload)._validate(test, shlex.split(test))
        except ApplyError as error:
            raise SwitchError(f"{error} (nothing was changed)") from error

    def _is_running(self) -> bool:
        if _nginx_workers.processes(self.pid_file).master is not None:
            return True
        if self.reload_command is None and _systemd.show(self.unit).running:
            raise SwitchError(f"{self.unit} runs, but {self.pid_file} does not name its process: correct pid_file")
        self.report.warnings.append("Nginx does not run here; it will find the new state when it starts.")
        return False

    def _unread(self) -> bool:
        """Whether the file is newer than the configuration that runs."""
        workers = _nginx_workers.processes(self.pid_file).current
        try:
            changed = os.stat(self.path).st_mtime
        except FileNotFoundError:
            changed = os.stat(self.directory).st_mtime if self.state == "absent" else 0.0
        return bool(workers) and min(worker.started for worker in workers) + START_ACCURACY < changed

    def _signal(self) -> None:
        self.report.reloaded = True
        if self.reload_command is None:
            try:
                _systemd.systemctl("reload", self.unit, timeout=self.reload_timeout)
            except _systemd.SystemdError as error:
                raise ApplyError(f"the reload failed: {error}") from error
            return
        try:
            done = _command.run(self.reload_command, timeout=self.reload_timeout)
        except (_command.CommandMissing, _command.CommandTimeout) as error:
            raise ApplyError(f"the reload failed: {error}") from error
        if done.code != 0:
            raise ApplyError(
                f"the reload failed: {self.reload_command[0]} ended with {done.code}: {done.err or done.out}"
            )

    def _reload(self) -> None:
        """Reload, and wait until all workers that take requests have the new configuration."""
        if not self.report.running:
            return
        before = {worker.pid for worker in _nginx_workers.processes(self.pid_file).current}
        self._moment = time.time_ns()
        self._signal()
        deadline = time.monotonic() + self.reload_timeout
        while True:
            current = {worker.pid for worker in _nginx_workers.processes(self.pid_file).current}
            if current and not current & before:
                break
            if time.monotonic() >= deadline:
                raise ApplyError(
                    f"Nginx did not take the new configuration within {self.reload_timeout:g} s; "
                    f"see `journalctl -u {self.unit} -n 50` on the host"
                )
            time.sleep(0.05)
        if self.reload_command is None:
            _systemd.record_reload(self.unit, self._moment)

    # Wait

    def _wait(self, ends: frozenset[str]) -> None:
        """Wait until no worker works for the backend, or the time is over."""
        begin = time.monotonic()
        quiet_since: float | None = None
        while True:
            now = _nginx_workers.processes(self.pid_file)
            moment = time.monotonic()
            self.report.left = _nginx_workers.count(now.workers, ends)
            self.report.leaving = len(now.leaving)
            self.report.waited = moment - begin
            if self.check_mode or (not self.report.left and not now.leaving):
                return
            quiet_since = None if self.report.left else (moment if quiet_since is None else quiet_since)
            if quiet_since is not None and moment - quiet_since >= SETTLE:
                return
            if moment - begin >= self.drain_timeout:
                return
            self._still_wanted()
            time.sleep(POLL)

    def _still_wanted(self) -> None:
        present = {one.name: one.state for one in _nginx_backend.read_backends(self.directory)}
        if present.get(self.name) == "enabled":
            raise SwitchError(f"{self.name} was put back to work by somebody else while its requests ended")
