# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decisions about one unit: what is done, when, and what proves that it is well."""

from __future__ import annotations

import os
import pathlib
import time
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _probe, _rolling_restart, _systemd

UnitKeeper = _rolling_restart.UnitKeeper
UnitError = _rolling_restart.UnitError


@pytest.fixture
def conf(tmp_path: pathlib.Path) -> pathlib.Path:
    """A watched file that is an hour old."""
    path = tmp_path / "x.conf"
    path.touch()
    moment = time.time() - 3600
    os.utime(path, (moment, moment))
    return path


def tcp(port: int, **options: Any) -> _probe.Gate:
    return _probe.Gate(type="tcp", port=port, **{"interval": 0.01, "timeout": 2.0, "request_timeout": 0.2, **options})


def keep(conf: pathlib.Path | None = None, **options: Any) -> UnitKeeper:
    return UnitKeeper("x.service", watch=[str(conf)] if conf else [], **options)


# The state at the beginning, the wishes, and what has to come of it: changed, action, stale, calls.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[bool, str, bool, list[str]]]] = {
    "runs and is fresh": ({"age": 60}, {}, (False, "none", False, [])),
    "runs and is fresh, reload": ({"age": 60}, {"apply": "reload"}, (False, "none", False, [])),
    "stale": ({"age": 7200}, {}, (True, "restarted", True, ["restart"])),
    "stale, reload": ({"age": 7200}, {"apply": "reload"}, (True, "reloaded", True, ["reload"])),
    "stale, start only": ({"age": 7200}, {"mode": "start"}, (False, "none", True, [])),
    "stopped": ({}, {}, (True, "started", False, ["start"])),
    "stopped, start only": ({}, {"mode": "start"}, (True, "started", False, ["start"])),
    "stopped, reload": ({}, {"apply": "reload"}, (True, "started", False, ["start"])),
    "failed": ({"state": ("failed", "failed")}, {}, (True, "started", False, ["reset-failed", "start"])),
    "crash loop": (
        {"state": ("activating", "auto-restart")},
        {},
        (True, "started", False, ["reset-failed", "restart"]),
    ),
    "crash loop, queued": (
        {"state": ("activating", "auto-restart-queued")},
        {"mode": "start"},
        (True, "started", False, ["reset-failed", "restart"]),
    ),
    "stopping": ({"state": ("deactivating", "stop-sigterm")}, {}, (True, "started", False, ["start"])),
    "unit file changed": (
        {"age": 60, "NeedDaemonReload": "yes"},
        {},
        (True, "none", False, ["daemon-reload"]),
    ),
    "unit file changed and stale": (
        {"age": 7200, "NeedDaemonReload": "yes"},
        {},
        (True, "restarted", True, ["daemon-reload", "restart"]),
    ),
    "to be enabled": ({"age": 60, "UnitFileState": "disabled"}, {"enabled": True}, (True, "none", False, ["enable"])),
    "to be disabled": ({"age": 60}, {"enabled": False}, (True, "none", False, ["disable"])),
    "enabled already": ({"age": 60}, {"enabled": True}, (False, "none", False, [])),
    "static": ({"age": 60, "UnitFileState": "static"}, {"enabled": True}, (False, "none", False, [])),
    "enabling is nobody's wish": ({"age": 60, "UnitFileState": "disabled"}, {}, (False, "none", False, [])),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("check", [False, True])
def test_decisions(systemd: Any, conf: pathlib.Path, case: str, check: bool) -> None:
    begin, wishes, (changed, action, stale, calls) = CASES[case]
    if "age" in begin:
        systemd.run(time.time() - begin["age"])
    if "state" in begin:
        systemd.set_state(*begin["state"])
    systemd.properties.update({key: value for key, value in begin.items() if key[0].isupper()})
    report = keep(conf, check_mode=check, **wishes).run()
    assert (report.changed, report.action, report.stale) == (changed, action, stale)
    assert systemd.calls == ([] if check else calls)
    assert bool(report.before or report.after) == changed
    assert report.reason
    if not check:
        again = keep(conf, **wishes).run()
        assert (again.changed, again.action) == (False, "none"), "a second run has nothing to do"


def test_a_reload_is_not_repeated_but_a_new_change_is(systemd: Any, conf: pathlib.Path) -> None:
    systemd.run(time.time() - 7200)
    actions = []
    for touch in (False, False, True, False):
        if touch:
            conf.touch()
        actions.append(keep(conf, apply="reload").run().action)
    assert actions == ["reloaded", "none", "reloaded", "none"]


def test_what_changes_during_a_reload_is_reloaded_again(systemd: Any, conf: pathlib.Path) -> None:
    systemd.run(time.time() - 7200)

    def reload_and_change() -> None:
        time.sleep(0.02)
        conf.touch()

    systemd.script["reload"] = reload_and_change
    assert keep(conf, apply="reload").run().action == "reloaded"
    assert keep(conf, apply="reload").run().action == "reloaded"


def test_a_failed_reload_is_not_remembered(systemd: Any, conf: pathlib.Path) -> None:
    def fail() -> None:
        raise _systemd.SystemdError("systemctl reload x.service ended with 1: no")

    systemd.run(time.time() - 7200)
    systemd.script["reload"] = fail
    with pytest.raises(UnitError, match="ended with 1: no. x.service: LoadState=loaded"):
        keep(conf, apply="reload").run()
    del systemd.script["reload"]
    assert keep(conf, apply="reload").run().action == "reloaded"


@pytest.mark.parametrize(
    ("properties", "options", "message"),
    [
        ({"LoadState": "masked"}, {}, "x.service is masked; run systemctl unmask"),
        ({"LoadState": "not-found"}, {}, "systemd knows no unit x.service"),
        ({"LoadState": "bad-setting"}, {}, r"cannot load x.service \(bad-setting\); run systemd-analyze verify"),
        ({"CanReload": "no"}, {"apply": "reload"}, "cannot be reloaded, its unit has no ExecReload"),
    ],
)
def test_units_that_cannot_be_handled(
    systemd: Any, conf: pathlib.Path, properties: dict[str, str], options: dict[str, Any], message: str
) -> None:
    systemd.run(time.time() - 7200)
    systemd.properties.update(properties)
    with pytest.raises(UnitError, match=message):
        keep(conf, **options).run()


def test_an_unknown_unit_is_read_first(systemd: Any) -> None:
    systemd.properties["LoadState"] = "not-found"
    systemd.script["daemon-reload"] = lambda: systemd.properties.update(LoadState="loaded")
    assert keep(None).run().action == "started"
    assert systemd.calls == ["daemon-reload", "start"]


def test_check_mode_on_a_bare_host(systemd: Any, free_port: int) -> None:
    systemd.properties = {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"}
    report = keep(None, check_mode=True, enabled=True, gate=tcp(free_port)).run()
    assert (report.changed, report.action, report.verdict) == (True, "started", None)
    assert systemd.calls == []


def test_a_start_that_is_under_way_is_joined(systemd: Any, conf: pathlib.Path) -> None:
    systemd.run()
    systemd.set_state("activating", "start")
    report = keep(conf).run()
    assert (report.changed, report.action, systemd.calls) == (False, "none", ["start"])


def test_without_a_gate_a_process_that_dies_at_once_is_noticed(systemd: Any) -> None:
    systemd.script["start"] = lambda: (systemd.run(), setattr(systemd, "on_show", crash_after(systemd, 1)))
    with pytest.raises(UnitError, match="systemd restarted x.service 1 time"):
        keep(None).run()


def test_without_a_gate_a_start_that_leaves_nothing_running_is_noticed(systemd: Any) -> None:
    systemd.script["start"] = lambda: systemd.set_state("failed", "failed")
    with pytest.raises(UnitError, match="not running. x.service: LoadState=loaded, ActiveState=failed"):
        keep(None).run()


# --- with a gate ------------------------------------------------------------------------------------------------------


def crash_after(systemd: Any, shows: int) -> Any:
    """A process that systemd has to restart after it was looked at a few times."""
    left = [shows]

    def look() -> None:
        left[0] -= 1
        if left[0] < 0:
            systemd.run()
            systemd.properties["NRestarts"] = "1"

    return look


def test_after_an_action_all_answers_are_needed_and_otherwise_one(systemd: Any, serve: Any) -> None:
    gate = tcp(serve().port, successes=4)
    first = keep(None, gate=gate).run()
    second = keep(None, gate=gate).run()
    assert (first.action, first.result()["probes"]) == ("started", 4)
    assert (second.action, second.result()["probes"]) == ("none", 1)
    assert set(first.result()["latency_ms"]) == {"min", "median", "max"}
    assert first.result()["timings"]["gate"] > 0


def test_a_gate_that_stays_shut_tells_why(systemd: Any, free_port: int) -> None:
    keeper = keep(None, gate=tcp(free_port, timeout=0.1))
    with pytest.raises(UnitError, match=r"(?s)0 of 3 good answers.*connection refused.*ActiveState=active.*journalctl"):
        keeper.run()
    result = keeper.report.result()
    assert (result["changed"], result["action"], result["last_failure"]) == (True, "started", "connection refused")


def test_a_sick_unit_fails_even_if_nothing_was_done(systemd: Any, free_port: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(_rolling_restart, "SHORT_TIMEOUT", 0.1)
    systemd.run()
    began = time.monotonic()
    with pytest.raises(UnitError, match="0 of 1 good answers"):
        keep(None, gate=tcp(free_port, timeout=60, request_timeout=0.05)).run()
    assert time.monotonic() - began < 10


def test_the_restart_counter_must_not_move(systemd: Any, serve: Any) -> None:
    systemd.script["start"] = lambda: (systemd.run(), setattr(systemd, "on_show", crash_after(systemd, 2)))
    with pytest.raises(UnitError, match=r"systemd restarted x.service 1 time\(s\) while it was watched"):
        keep(None, gate=tcp(serve().port, successes=5)).run()


@pytest.mark.parametrize(("age", "restarts", "probes"), [(3600, 7, 1), (5, 0, 1), (5, 7, 3)])
def test_what_a_crash_has_left_is_looked_at_closely(
    systemd: Any, serve: Any, age: float, restarts: int, probes: int
) -> None:
    systemd.run(time.time() - age)
    systemd.properties["NRestarts"] = str(restarts)
    report = keep(None, gate=tcp(serve().port)).run()
    assert (report.action, report.result()["probes"]) == ("none", probes)


def test_somebody_else_restarting_it_is_noticed(systemd: Any, serve: Any) -> None:
    systemd.run()
    shows = iter(range(100))

    def look() -> None:
        if next(shows) == 2:
            systemd.properties["InvocationID"] = "other"

    systemd.on_show = look
    with pytest.raises(UnitError, match="started anew by somebody else"):
        keep(None, gate=tcp(serve().port)).run()


def test_systemd_has_as_long_as_the_gate(systemd: Any, serve: Any, monkeypatch: Any) -> None:
    seen = []

    def spy(*arguments: str, timeout: float = 60.0) -> str:
        seen.append((arguments[0], timeout))
        return str(systemd(*arguments))

    monkeypatch.setattr(_systemd, "systemctl", spy)
    keep(None, gate=tcp(serve().port, timeout=17.0)).run()
    assert ("start", 17.0) in seen


def test_guard(systemd: Any) -> None:
    with pytest.raises(UnitError, match="not running"):
        _rolling_restart.guard("x.service")
    systemd.run()
    still_same = _rolling_restart.guard("x.service")
    assert still_same() is None
    systemd.set_state("failed", "failed")
    assert still_same() == "x.service did not keep running"


@pytest.mark.parametrize("folder", ["x@.service.d", "x@main.service.d"])
def test_a_drop_in_that_systemd_has_not_read_is_read(systemd: Any, tmp_path: pathlib.Path, folder: str) -> None:
    """systemd 252 answers NeedDaemonReload=no for a drop-in in a new directory."""
    drop_in = tmp_path / folder / "50-mine.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\n")
    systemd.run()
    systemd.script["daemon-reload"] = lambda: systemd.properties.update(DropInPaths=str(drop_in))
    UnitKeeper("x@main.service", watch=[str(drop_in)], mode="start").run()
    assert systemd.calls == ["daemon-reload"]
    UnitKeeper("x@main.service", watch=[str(drop_in)], mode="start").run()
    assert systemd.calls == ["daemon-reload"]


@pytest.mark.parametrize(("apply", "action"), [("restart", "restarted"), ("reload", "reloaded")])
@pytest.mark.parametrize("check", [False, True])
def test_mode_always_refreshes_a_fresh_unit(
    systemd: Any, conf: pathlib.Path, apply: str, action: str, check: bool
) -> None:
    systemd.run(time.time() - 60)
    report = keep(conf, mode="always", apply=apply, check_mode=check).run()
    assert (report.changed, report.action, report.stale) == (True, action, False)
    assert systemd.calls == ([] if check else [apply])
