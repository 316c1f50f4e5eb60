# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read from systemd, and when a process is stale."""

from __future__ import annotations

import os
import pathlib
import time
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _command, _systemd

START = 1_700_000_000.25
STAMP = "Tue 2023-11-14 22:13:20.250000 UTC"


def unit(**properties: str) -> _systemd.Unit:
    base = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "MainPID": "1"}
    return _systemd.Unit("x.service", {**base, "ExecMainStartTimestamp": STAMP, **properties})


def touch(path: pathlib.Path, moment: float) -> str:
    path.touch()
    os.utime(path, (moment, moment), follow_symlinks=False)
    return str(path)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (STAMP, START),
        ("Tue 2023-11-14 22:13:20 UTC", 1_700_000_000.0),
        ("", None),
        ("n/a", None),
        ("Tue 2023-11-14 22:13:20.250000 CET", None),
        ("Tue 2023-13-14 22:13:20.250000 UTC", None),
    ],
)
def test_timestamps(text: str, moment: float | None) -> None:
    assert _systemd.parse_timestamp(text) == moment


def test_properties_may_contain_anything() -> None:
    text = "Id=a.service\nEmpty=\nExecStart={ path=/bin/x ; argv[]=/bin/x a=b }\n\nodd line\n"
    assert _systemd.parse_properties(text) == {
        "Id": "a.service",
        "Empty": "",
        "ExecStart": "{ path=/bin/x ; argv[]=/bin/x a=b }",
    }


@pytest.mark.parametrize(
    ("active", "sub", "running", "starting", "waiting", "failed"),
    [
        ("active", "running", True, False, False, False),
        ("active", "exited", True, False, False, False),
        ("reloading", "reload", True, False, False, False),
        ("refreshing", "refresh", True, False, False, False),
        ("activating", "start", True, True, False, False),
        ("activating", "start-pre", True, True, False, False),
        ("activating", "auto-restart", False, False, True, False),
        ("activating", "auto-restart-queued", False, False, True, False),
        ("deactivating", "stop-sigterm", False, False, False, False),
        ("inactive", "dead", False, False, False, False),
        ("failed", "failed", False, False, False, True),
    ],
)
def test_states(active: str, sub: str, running: bool, starting: bool, waiting: bool, failed: bool) -> None:
    seen = unit(ActiveState=active, SubState=sub)
    assert (seen.running, seen.starting, seen.waiting_for_restart, seen.failed) == (running, starting, waiting, failed)


@pytest.mark.parametrize(
    ("properties", "moment"),
    [
        ({}, START),
        ({"MainPID": "0", "InactiveExitTimestamp": "Tue 2023-11-14 22:13:00 UTC"}, START - 20.25),
        ({"MainPID": "0", "ActiveEnterTimestamp": "Tue 2023-11-14 22:13:21 UTC"}, START + 0.75),
        ({"MainPID": "0"}, None),
        ({"MainPID": "", "ExecMainStartTimestamp": "", "ActiveEnterTimestamp": STAMP}, START),
    ],
)
def test_when_it_was_started(properties: dict[str, str], moment: float | None) -> None:
    assert unit(**properties).started == moment


@pytest.mark.parametrize(("offset", "stale"), [(-100, False), (-0.01, False), (0, False), (0.01, True), (100, True)])
def test_a_process_older_than_a_file_is_stale(tmp_path: pathlib.Path, offset: float, stale: bool) -> None:
    watched = touch(tmp_path / "conf", START + offset)
    reason = _systemd.stale_because(unit(), [str(tmp_path / "missing"), watched], reloads_count=False)
    assert reason == (f"{watched} is newer than the running process" if stale else None)


@pytest.mark.parametrize(
    ("link", "target", "stale"), [(-5.0, -5.0, False), (5.0, -5.0, True), (-5.0, 5.0, True), (5.0, 5.0, True)]
)
def test_a_link_counts_with_its_target(tmp_path: pathlib.Path, link: float, target: float, stale: bool) -> None:
    (tmp_path / "link").symlink_to("target")
    touch(tmp_path / "target", START + target)
    os.utime(tmp_path / "link", (START + link, START + link), follow_symlinks=False)
    assert (_systemd.stale_because(unit(), [str(tmp_path / "link")], reloads_count=False) is not None) == stale


def test_a_dangling_link_counts_by_itself(tmp_path: pathlib.Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert _systemd.stale_because(unit(), [str(tmp_path / "link")], reloads_count=False) is not None


def test_a_time_in_the_future_does_not_restart_for_ever(tmp_path: pathlib.Path) -> None:
    watched = touch(tmp_path / "conf", time.time() + 86400)
    time.sleep(0.05)
    later = _systemd.Unit("x.service", {**unit().properties, "ExecMainStartTimestamp": ""})
    stamp = time.strftime("%a %Y-%m-%d %H:%M:%S", time.gmtime(time.time() + 1)) + " UTC"
    later = _systemd.Unit("x.service", {**later.properties, "ExecMainStartTimestamp": stamp})
    assert _systemd.stale_because(later, [watched], reloads_count=False) is None


def test_nothing_to_watch_is_never_stale() -> None:
    assert _systemd.stale_because(unit(MainPID="0"), [], reloads_count=True) is None


def test_an_unknown_start_is_stale(tmp_path: pathlib.Path) -> None:
    watched = touch(tmp_path / "conf", START)
    reason = _systemd.stale_because(unit(MainPID="0"), [watched], reloads_count=False)
    assert reason == "x.service does not say when it was started"


def test_a_reload_makes_fresh_only_what_is_reloaded(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_systemd, "STAMPS", str(tmp_path / "run"))
    watched = touch(tmp_path / "conf", START + 10)
    assert _systemd.stale_because(unit(), [watched], reloads_count=True) is not None
    _systemd.record_reload("x.service", int((START + 11) * 1e9))
    assert _systemd.stale_because(unit(), [watched], reloads_count=True) is None
    assert _systemd.stale_because(unit(), [watched], reloads_count=False) is not None
    touch(tmp_path / "conf", START + 12)
    assert _systemd.stale_because(unit(), [watched], reloads_count=True) is not None


def test_an_old_reload_does_not_make_a_new_process_older(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_systemd, "STAMPS", str(tmp_path))
    _systemd.record_reload("x.service", int((START - 100) * 1e9))
    watched = touch(tmp_path / "conf", START - 1)
    assert _systemd.stale_because(unit(), [watched], reloads_count=True) is None


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (_command.Done(5, "", "Unit x.service not found."), "start x.service ended with 5: Unit x.service not found."),
        (_command.CommandTimeout(), "systemctl start x.service did not end within 7 s"),
        (_command.CommandMissing(), "does not run systemd"),
    ],
)
def test_systemctl_says_what_failed(monkeypatch: pytest.MonkeyPatch, outcome: Any, message: str) -> None:
    def run(argv: list[str], *, timeout: float, environment: dict[str, str]) -> Any:
        assert (argv[0], argv[-2:], timeout, environment) == ("systemctl", ["start", "x.service"], 7, {"TZ": "UTC"})
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(_command, "run", run)
    with pytest.raises(_systemd.SystemdError, match=message):
        _systemd.systemctl("start", "x.service", timeout=7)


def test_the_sentence_tells_where_to_look() -> None:
    text = unit(ActiveState="failed", SubState="failed", Result="exit-code", ExecMainStatus="1").sentence()
    assert text.startswith("x.service: LoadState=loaded, ActiveState=failed, SubState=failed, Result=exit-code")
    assert "`journalctl -u x.service -n 50`" in text
