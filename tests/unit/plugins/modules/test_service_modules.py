# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules C(managed_files), C(rolling_restart) and C(health_gate) as a play sees them."""

from __future__ import annotations

import json
import pathlib
import re
import syslog
import time
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible_collections.flowfleet.langflow.plugins.doc_fragments import gate as gate_fragment
from ansible_collections.flowfleet.langflow.plugins.module_utils import _managed_files as mf
from ansible_collections.flowfleet.langflow.plugins.module_utils import _systemd
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


# --- rolling_restart with several units -------------------------------------------------------------------------------

CANARY = "hunter2 'quoted\" \\ and more"


@pytest.fixture
def fleet(systemd: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Three units of one systemd, and under C(calls) what it was told to do in which order."""
    names = ("x.service", "y.service", "z.service")
    units: dict[str, Any] = {name: type(systemd)() for name in names}
    calls: list[str] = []

    def systemctl(*arguments: str, timeout: float = 60.0) -> str:
        if arguments[0] != "show":
            calls.append(" ".join(argument.removesuffix(".service") for argument in arguments))
        of = [argument for argument in arguments if argument in names] or names
        return "".join(units[name](*arguments) for name in of)

    monkeypatch.setattr(_systemd, "systemctl", systemctl)
    return {**units, "calls": calls}


def test_units_are_done_in_their_order(run_module: Any, fleet: Any, serve: Any, tmp_path: pathlib.Path) -> None:
    program, settings = (tmp_path / name for name in ("program", "settings"))
    for path in (program, settings):
        path.touch()
    gate = {"type": "tcp", "port": serve().port, **FAST}
    units = [
        {"unit": "y.service", "gate": gate, "enabled": True},
        {"unit": "x.service", "watch": [str(program)], "gate": gate},
        {"unit": "x.service", "watch": [str(settings)], "apply": "reload", "gate": gate},
    ]
    fleet["y.service"].properties["UnitFileState"] = "disabled"
    hour_ago = time.time() - 3600
    fleet["x.service"].run(hour_ago)
    result = run_module(rolling_restart, {"units": units}, check=True, diff=True)
    assert [unit["action"] for unit in result["units"]] == ["started", "restarted", "reloaded"]
    assert fleet["calls"] == []

    result = run_module(rolling_restart, {"units": units}, diff=True)
    assert fleet["calls"] == ["enable y", "start y", "restart x"], "a restart reads what a reload would read"
    assert [(unit["unit"], unit["action"], unit["changed"], unit["probes"]) for unit in result["units"]] == [
        ("y.service", "started", True, 3),
        ("x.service", "restarted", True, 3),
        ("x.service", "none", False, 1),
    ]
    assert result["changed"] is True
    assert [diff["before_header"] for diff in result["diff"]] == ["y.service", "x.service"]

    time.sleep(0.01)
    settings.write_text("changed", encoding="utf-8")
    result = run_module(rolling_restart, {"units": units})
    assert [unit["action"] for unit in result["units"]] == ["none", "none", "reloaded"]
    assert fleet["calls"][3:] == ["reload x"]
    assert "diff" not in result

    result = run_module(rolling_restart, {"units": units}, diff=True)
    assert (result["changed"], len(result["units"]), "diff" in result) == (False, 3, False)
    assert fleet["calls"][4:] == []


def test_one_of_several_units_returns_what_a_single_one_does(run_module: Any, fleet: Any) -> None:
    single = run_module(rolling_restart, {"unit": "x.service"})
    (one,) = run_module(rolling_restart, {"units": [{"unit": "x.service"}]})["units"]
    assert set(one) - {"unit"} == set(single) - {"invocation"}
    assert (one["unit"], one["action"]) == ("x.service", "none")
    assert run_module(rolling_restart, {"units": []})["units"] == []


def test_the_first_unit_that_fails_stops_the_rest(run_module: Any, fleet: Any, free_port: int) -> None:
    shut = {"type": "tcp", "port": free_port, **FAST, "timeout": 0.1}
    units = [{"unit": "x.service"}, {"unit": "y.service", "gate": shut}, {"unit": "z.service"}]
    result = run_module(rolling_restart, {"units": units}, diff=True)
    assert (result["failed"], result["changed"]) == (True, True)
    assert "y.service" in result["msg"]
    assert [(unit["unit"], unit["action"]) for unit in result["units"]] == [
        ("x.service", "started"),
        ("y.service", "started"),
    ]
    assert result["units"][1]["last_failure"] == "connection refused"
    assert [diff["before_header"] for diff in result["diff"]] == ["x.service"]
    assert fleet["calls"] == ["start x", "start y"]


def test_the_gates_of_all_units_are_judged_before_one_is_touched(run_module: Any, fleet: Any) -> None:
    units = [{"unit": "x.service"}, {"unit": "y.service", "gate": {"type": "http"}}]
    result = run_module(rolling_restart, {"units": units})
    assert result["msg"] == "y.service: gate: a gate of type http needs url"
    assert fleet["calls"] == []


def test_systemd_reads_its_files_once_for_all_units(run_module: Any, fleet: Any) -> None:
    for name in ("x.service", "y.service"):
        fleet[name].run()
        fleet[name].properties["NeedDaemonReload"] = "yes"
    units = [{"unit": "x.service"}, {"unit": "y.service"}]
    assert [unit["daemon_reloaded"] for unit in run_module(rolling_restart, {"units": units}, check=True)["units"]] == [
        True,
        True,
    ]
    result = run_module(rolling_restart, {"units": units})
    assert [unit["daemon_reloaded"] for unit in result["units"]] == [True, False]
    assert fleet["calls"] == ["daemon-reload"]


def test_units_on_a_bare_host_in_check_mode(run_module: Any, fleet: Any, free_port: int) -> None:
    fleet["x.service"].properties = {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"}
    fleet["y.service"].run()
    gate = {"type": "tcp", "port": free_port, **FAST}
    result = run_module(
        rolling_restart, {"units": [{"unit": name, "gate": gate} for name in ("x.service", "y.service")]}, check=True
    )
    assert [(unit["action"], unit["probes"]) for unit in result["units"]] == [("started", 0), ("none", 0)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of the following is required: unit, units"),
        ({"unit": "x.service", "units": []}, "mutually exclusive: units|unit"),
        ({"units": [], "apply": "reload"}, "mutually exclusive: units|apply"),
        ({"units": [{"watch": ["/etc/x"]}]}, "missing required arguments: unit found in units"),
        ({"units": [{"unit": "x.service", "aply": "reload"}]}, "units.aply"),
    ],
)
def test_units_that_are_not_understood(run_module: Any, fleet: Any, arguments: Any, message: str) -> None:
    result = run_module(rolling_restart, arguments)
    assert result["failed"]
    assert message in result["msg"]


def test_the_documentation_of_a_unit_is_that_of_the_module() -> None:
    options = yaml.safe_load(rolling_restart.DOCUMENTATION)["options"]
    (suboptions,) = [
        option["suboptions"] for option in yaml.safe_load(gate_fragment.ModuleDocFragment.UNITS)["options"].values()
    ]
    nested = yaml.safe_load(gate_fragment.ModuleDocFragment.NESTED)["options"]["gate"]["suboptions"]
    assert set(suboptions) == {*options, "gate"} == set(rolling_restart.UNIT_OPTIONS)
    assert suboptions["gate"]["suboptions"] == nested
    for name, option in options.items():
        assert {key: value for key, value in option.items() if key != "description"} == {
            key: value for key, value in suboptions[name].items() if key not in ("description", "required")
        }


@pytest.mark.parametrize("ends", ["well", "badly", "wrong"])
@pytest.mark.parametrize("check", [False, True])
def test_no_environment_of_any_unit_is_ever_shown(
    run_module: Any, fleet: Any, monkeypatch: pytest.MonkeyPatch, ends: str, check: bool
) -> None:
    """In no result, difference, message, invocation or log, whichever unit fails."""
    logged: list[str] = []
    monkeypatch.setattr(syslog, "syslog", lambda _priority, text: logged.append(text))
    monkeypatch.setattr(basic, "has_journal", False)
    environment = {"PASSWORD": CANARY, "RETRIES": 1, "TLS": "on"}
    units = []
    for name, code in (("x.service", 0), ("y.service", 1 if ends == "badly" else 0), ("z.service", 0)):
        argv = ["sh", "-c", f'printf "rejected %s" "$PASSWORD"; exit {code}']
        # What passes has the time of a busy machine; what fails uses all of it.
        limit = 0.5 if code else 10
        gate = {"type": "command", "argv": argv, "environment": environment, "interval": 0.01, "timeout": limit}
        units.append({"unit": name, "gate": gate, "enabled": False})
    if ends == "wrong":
        units[1]["gate"].update(type="http", url="http://127.0.0.1:1/", interval=-1)
    result = run_module(rolling_restart, {"units": units}, check=check, diff=True)
    text = json.dumps(result)
    assert bool(result.get("failed")) == (ends == "wrong" or (ends == "badly" and not check))
    assert "hunter2" not in text
    assert "unit': 'z.service'" in logged[0]
    assert "hunter2" not in "".join(logged)
    shown = [unit["gate"]["environment"] for unit in result["invocation"]["module_args"]["units"]]
    assert len(shown) == len(units)
    assert all(set(one.values()) == {"********"} for one in shown)
    if ends == "wrong":
        assert result["msg"] == "y.service: gate: interval must not be negative"
    else:
        assert [diff["before_header"] for diff in result["diff"]] == [
            unit["unit"] for unit in result["units"] if ends == "well" or check or unit["unit"] == "x.service"
        ]
        # Short values of the environment must not garble the result.
        assert all(isinstance(unit["probes"], int) for unit in result["units"])
    if ends == "badly" and not check:
        assert "rejected ********" in result["msg"]


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
