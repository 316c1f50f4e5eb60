# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Bring one unit to "runs with its present configuration and is well", with as little disturbance as possible."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _probe, _systemd

DEFAULT_TIMEOUT = 300.0
# Without a gate there is only systemd to ask: a process that dies at once is noticed after this time.
SETTLE = 1.0
SHORT_TIMEOUT = 10.0
# A process that systemd had to restart, this many seconds ago at most, may well be about to die again.
SUSPECT_AGE = 60.0


class UnitError(Exception):
    """The unit is not in the wanted state."""


def changed_since(baseline: _systemd.Unit) -> str | None:
    """Why the process that is there now is not the one that was there at I(baseline)."""
    now = _systemd.show(baseline.name)
    if now.restarts != baseline.restarts:
        return f"systemd restarted {now.name} {now.restarts - baseline.restarts} time(s) while it was watched"
    if not now.running:
        return f"{now.name} did not keep running"
    if now.get("InvocationID") != baseline.get("InvocationID"):
        return f"{now.name} was started anew by somebody else while it was watched"
    return None


def guard(name: str) -> Callable[[], str | None]:
    """A function that tells whether a running unit is no longer what it is now."""
    baseline = _systemd.show(name)
    if not baseline.running:
        raise UnitError(f"not running. {baseline.sentence()}")
    return lambda: changed_since(baseline)


def _suspect(unit: _systemd.Unit) -> bool:
    """Whether this may be a short moment of life in a loop of crashes."""
    return unit.restarts > 0 and unit.started is not None and time.time() - unit.started < SUSPECT_AGE


@dataclasses.dataclass
class Report:
    """What was done, or would be."""

    changed: bool = False
    action: str = "none"
    stale: bool = False
    reason: str = ""
    daemon_reloaded: bool = False
    apply_seconds: float = 0.0
    verdict: _probe.Verdict | None = None
    unit: _systemd.Unit | None = None
    before: dict[str, str] = dataclasses.field(default_factory=dict)
    after: dict[str, str] = dataclasses.field(default_factory=dict)

    def result(self) -> dict[str, Any]:
        """The result of the module."""
        verdict = self.verdict or _probe.Verdict()
        return {
            "changed": self.changed,
            "action": self.action,
            "stale": self.stale,
            "reason": self.reason,
            "daemon_reloaded": self.daemon_reloaded,
            "timings": {"apply": round(self.apply_seconds, 3), "gate": round(verdict.duration, 3)},
            "unit_state": self.unit.state() if self.unit else {},
            **verdict.result(),
        }

    def diff(self, name: str) -> dict[str, str]:
        """Before and after, for people."""
        sides = {
            side: "".join(f"{key}: {value}\n" for key, value in facts.items())
            for side, facts in (("before", self.before), ("after", self.after))
        }
        return {"before_header": name, "after_header": name, **sides}


@dataclasses.dataclass
class UnitKeeper:
    """The wishes for one unit and the steps to fulfil them."""

    unit: str
    watch: Sequence[str] = ()
    apply: str = "restart"
    mode: str = "any"
    enabled: bool | None = None
    gate: _probe.Gate | None = None
    check_mode: bool = False
    report: Report = dataclasses.field(default_factory=Report)

    @property
    def timeout(self) -> float:
        """How long systemd may take for one job."""
        return self.gate.timeout if self.gate is not None else DEFAULT_TIMEOUT

    def run(self) -> Report:
        """All steps in order; an exception leaves what was done so far in C(report)."""
        unit = self._loaded()
        if unit is None:
            self._note("started", f"{self.unit} does not exist yet")
            return self.report
        self._enable(unit)
        if self._decide(unit) and not self.check_mode:
            self._act()
        if not self.check_mode:
            self._prove()
        return self.report

    # Steps

    def _show(self) -> _systemd.Unit:
        self.report.unit = _systemd.show(self.unit)
        return self.report.unit

    def _loaded(self) -> _systemd.Unit | None:
        """The unit as it is on disk, or nothing if check mode cannot know it."""
        unit = self._show()
        if not unit.known or unit.needs_daemon_reload or self._unread_drop_in(unit):
            if unit.known:
                self.report.changed = True
                self.report.daemon_reloaded = True
                self.report.before["unit files"], self.report.after["unit files"] = "changed on disk", "read by systemd"
            if not self.check_mode:
                _systemd.systemctl("daemon-reload", timeout=self.timeout)
                self.report.daemon_reloaded = True
                unit = self._show()
        if not unit.known:
            if self.check_mode:
                return None
            raise UnitError(f"systemd knows no unit {self.unit} on this host")
        state = unit.get("LoadState")
        if state == "masked":
            raise UnitError(f"{self.unit} is masked; run systemctl unmask {self.unit}")
        if state != "loaded" and not self.check_mode:
            raise UnitError(f"systemd cannot load {self.unit} ({state}); run systemd-analyze verify {self.unit}")
        return unit

    def _unread_drop_in(self, unit: _systemd.Unit) -> bool:
        """Whether a watched drop-in is on disk that systemd has not read: version 252 does not see a new directory."""
        read = unit.get("DropInPaths").split()
        # A drop-in of a template, such as postgresql@.service.d, counts for each of its instances.
        folders = {f"{self.unit}.d", f"{re.sub('@[^.]*', '@', self.unit)}.d"}
        mine = (
            path for path in self.watch if path.endswith(".conf") and os.path.basename(os.path.dirname(path)) in folders
        )
        return any(os.path.isfile(path) and path not in read for path in mine)

    def _enable(self, unit: _systemd.Unit) -> None:
        state = unit.get("UnitFileState")
        if self.enabled is None or state in _systemd.FIXED_FILE_STATES:
            return
        if (state == "enabled") == self.enabled:
            return
        self.report.before["enabled"] = str(not self.enabled).lower()
        self.report.after["enabled"] = str(self.enabled).lower()
        self.report.changed = True
        if not self.check_mode:
            _systemd.systemctl("enable" if self.enabled else "disable", self.unit, timeout=self.timeout)

    def _decide(self, unit: _systemd.Unit) -> bool:
        """Whether something has to be done to the process; what and why is in the report."""
        if not unit.running:
            why = "waiting to be restarted after a crash" if unit.waiting_for_restart else unit.get("ActiveState")
            self._note("started", f"{self.unit} was {why}")
            return True
        reason = _systemd.stale_because(unit, self.watch, reloads_count=self.apply == "reload")
        self.report.stale = reason is not None
        self.report.reason = reason or "runs with its present configuration"
        if self.mode == "always":
            reason = reason or "a restart was asked for"
        if reason is None or self.mode == "start":
            if unit.starting and not self.check_mode:
                # Joins the start that is under way.
                self._timed("start")
            return False
        if self.apply == "reload" and unit.get("CanReload") != "yes":
            raise UnitError(f"{self.unit} cannot be reloaded, its unit has no ExecReload; use apply: restart")
        self._note("reloaded" if self.apply == "reload" else "restarted", reason)
        return True

    def _note(self, action: str, reason: str) -> None:
        self.report.changed = True
        self.report.action = action
        self.report.reason = reason
        unit = self.report.unit
        self.report.before["state"] = (unit.get("ActiveState") if unit is not None and unit.known else "") or "absent"
        self.report.after["state"] = f"active ({action}: {reason})"

    def _act(self) -> None:
        action = self.report.action
        if action == "reloaded":
            now = time.time_ns()
            self._timed("reload")
            _systemd.record_reload(self.unit, now)
        elif action == "restarted":
            self._timed("restart")
        else:
            unit = self.report.unit
            if unit is not None and (unit.failed or unit.waiting_for_restart):
                _systemd.systemctl("reset-failed", self.unit)
            # To start a unit that waits for its next try would only wait with it.
            self._timed("restart" if unit is not None and unit.waiting_for_restart else "start")

    def _timed(self, verb: str) -> None:
        began = time.monotonic()
        try:
            _systemd.systemctl(verb, self.unit, timeout=self.timeout)
        except _systemd.SystemdError as exc:
            raise UnitError(f"{exc}. {self._show().sentence()}") from exc
        finally:
            self.report.apply_seconds += time.monotonic() - began

    def _prove(self) -> None:
        """Let the unit show that it is well: thoroughly after a change, with one good answer otherwise."""
        unit = self._show()
        doubtful = self.report.action != "none" or _suspect(unit)
        if not unit.running:
            raise UnitError(f"not running. {unit.sentence()}")
        if self.gate is None:
            if doubtful:
                time.sleep(SETTLE)
                broken = changed_since(unit)
                if broken is not None:
                    raise UnitError(f"{broken}. {self._show().sentence()}")
            return
        gate = self.gate
        if not doubtful:
            shorter = min(gate.timeout, max(SHORT_TIMEOUT, 3 * gate.request_timeout))
            gate = dataclasses.replace(gate, successes=1, timeout=shorter)
        verdict = _probe.watch(gate, still_same=lambda: changed_since(unit))
        self.report.verdict = verdict
        if not verdict.healthy:
            raise UnitError(f"not healthy. {_probe.explain(gate, verdict)}. {self._show().sentence()}")
