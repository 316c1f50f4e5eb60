# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules C(managed_files), C(rolling_restart) and C(health_gate) as a play sees them."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _managed_files as mf
from ansible_collections.flowfleet.langflow.plugins.modules import health_gate, managed_files, rolling_restart

FAST = {"interval": 0.01, "timeout": 1, "request_timeout": 0.3}


# --- managed_files ----------------------------------------------------------------------------------------------------


def payload(*items: mf.Item, validate: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"files": [{"path": item.path} for item in items], "_payload": mf.pack(items, validate)}


def test_managed_files_result(run_module: Any, tmp_path: pathlib.Path) -> None:
    one, two = (mf.Item(str(tmp_path / name), content=b"x") for name in ("one", "two"))
    pathlib.Path(two.path).write_bytes(b"x")
    result = run_module(managed_files, payload(one, two), diff=True)
    assert result["changed"] is True
    assert result["changed_paths"] == [one.path]
    assert result["files"] == [
        {"path": one.path, "changed": True, "changes": ["state"]},
        {"path": two.path, "changed": False, "changes": []},
    ]
    assert {entry["before_header"] for entry in result["diff"]} == {one.path, f"{one.path} (attributes)"}
    assert run_module(managed_files, payload(one, two), diff=True)["diff"] == []
    assert "diff" not in run_module(managed_files, payload(one, two))


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("validate", [(), ("sh -c 'cat /proc/self/cwd/secret* 2>&1; cat {path} >&2; exit 1'",)])
def test_managed_files_shows_no_secret(
    run_module: Any, tmp_path: pathlib.Path, check: bool, validate: tuple[str, ...]
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"key=hunter2-before\n")
    item = mf.Item(str(path), content=b"key=hunter2-after\n", secret=True)
    commands = tuple(command.format(path=path) for command in validate)
    result = run_module(managed_files, payload(item, validate=commands), check=check, diff=True)
    text = json.dumps(result)
    assert "hunter2" not in text
    assert mf.pack([item], commands) not in text
    assert bool(result.get("failed")) == bool(validate and not check)
    if result.get("failed"):
        assert result["restored"] == [str(path)]
        assert f"(put back: {path})" in result["msg"]
        assert path.read_bytes() == b"key=hunter2-before\n"


def test_managed_files_messages(run_module: Any, tmp_path: pathlib.Path) -> None:
    result = run_module(managed_files, {"files": []})
    assert "only through its action plugin" in result["msg"]
    result = run_module(managed_files, payload(mf.Item(str(tmp_path / "no" / "file"), content=b"")))
    assert result["msg"].endswith("list it before the file (nothing was changed)")


def test_managed_files_tells_what_check_mode_skipped(run_module: Any, tmp_path: pathlib.Path) -> None:
    item = mf.Item(str(tmp_path / "a"), content=b"", validate="no-such-validator %s")
    result = run_module(managed_files, payload(item), check=True)
    assert (result["changed"], result["skipped_validation"]) == (True, ["no-such-validator %s"])


# --- rolling_restart --------------------------------------------------------------------------------------------------


def test_rolling_restart_result(run_module: Any, systemd: Any, serve: Any) -> None:
    arguments = {"unit": "x.service", "gate": {"type": "tcp", "port": serve().port, **FAST}}
    result = run_module(rolling_restart, arguments, diff=True)
    assert (result["changed"], result["action"], result["stale"], result["probes"]) == (True, "started", False, 3)
    assert set(result["timings"]) == {"apply", "gate"}
    assert result["unit_state"]["ActiveState"] == "active"
    assert result["diff"]["before"] == "state: inactive\n"
    result = run_module(rolling_restart, arguments, diff=True)
    assert (result["changed"], result["action"], result["probes"]) == (False, "none", 1)
    assert "diff" not in result


def test_rolling_restart_failure(run_module: Any, systemd: Any, free_port: int) -> None:
    gate = {"type": "tcp", "port": free_port, **FAST, "timeout": 0.1}
    result = run_module(rolling_restart, {"unit": "x.service", "gate": gate})
    assert (result["failed"], result["changed"], result["action"]) == (True, True, "started")
    assert "connection refused" in result["msg"]
    assert "journalctl -u x.service" in result["msg"]


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"type": "http"}, "gate: a gate of type http needs url"),
        ({"url": "https://127.0.0.1/", "ca_path": "/nonexistent/ca"}, "cannot read certificates from /nonexistent/ca"),
        ({"type": "tcp", "prot": 1}, "Unsupported parameters.*prot"),
    ],
)
def test_rolling_restart_bad_gate(run_module: Any, systemd: Any, gate: dict[str, Any], message: str) -> None:
    result = run_module(rolling_restart, {"unit": "x.service", "gate": gate})
    assert result["failed"]
    assert re.search(message, result["msg"])


@pytest.mark.parametrize("module", [rolling_restart, health_gate])
def test_the_environment_of_a_command_is_never_shown(run_module: Any, systemd: Any, module: Any) -> None:
    command = "echo rejected $PASSWORD; exit 1"
    environment = {"PASSWORD": "hunter2-hunter2", "RETRIES": 1, "TLS": "on"}
    gate = {
        "type": "command",
        "argv": ["sh", "-c", command],
        "environment": environment,
        "interval": 0.01,
        "timeout": 0.1,
    }
    result = run_module(module, {"unit": "x.service", "gate": gate} if module is rolling_restart else gate)
    assert "rejected ********" in result["msg"]
    assert "hunter2" not in json.dumps(result)
    shown = result["invocation"]["module_args"]
    shown = shown["gate"] if module is rolling_restart else shown
    assert shown["environment"] == dict.fromkeys(environment, "********")
    assert isinstance(result["probes"], int), "short values of the environment must not garble the result"


# --- health_gate ------------------------------------------------------------------------------------------------------


def test_health_gate_passes(run_module: Any, serve: Any, behaviours: Any) -> None:
    server = serve(behaviours.answer(503), behaviours.answer())
    result = run_module(health_gate, {"url": server.url(), **FAST})
    assert (result["changed"], result["probes"], result["last_failure"]) == (False, 4, "status 503, expected 200")


def test_health_gate_fails(run_module: Any, free_port: int) -> None:
    result = run_module(health_gate, {"type": "tcp", "port": free_port, **FAST, "timeout": 0.05})
    assert "0 of 3 good answers" in result["msg"]
    assert result["last_failure"] == "connection refused"


def test_health_gate_in_check_mode_asks_nothing(run_module: Any, serve: Any) -> None:
    server = serve()
    result = run_module(health_gate, {"url": server.url(), "unit": "x.service", **FAST}, check=True)
    assert (result["changed"], result["probes"], server.connections) == (False, 0, 0)


def test_health_gate_watches_the_unit(run_module: Any, systemd: Any, serve: Any) -> None:
    arguments = {"url": serve().url(), "unit": "x.service", **FAST}
    assert "not running" in run_module(health_gate, arguments)["msg"]
    systemd.run()
    assert run_module(health_gate, arguments)["probes"] == 3
    shows = iter(range(100))
    systemd.on_show = lambda: systemd.properties.update(NRestarts=str(next(shows) // 2))
    assert "systemd restarted x.service 1 time(s)" in run_module(health_gate, arguments)["msg"]
