# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules C(nginx_backend) and C(nginx_backend_info), against processes and connections that are real.

The Nginx here is a stand-in of a few lines. It has a master and a worker with Nginx's titles, reloads on SIGHUP by
starting a new worker and sending the old one away, keeps an idle connection to each enabled backend and, when asked,
one that is in use. Like the real one, a worker that leaves closes the idle ones and ends with the last used one.
"""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _nginx_switch, _nginx_workers
from ansible_collections.flowfleet.langflow.plugins.modules import nginx_backend, nginx_backend_info

PROGRAM = r"""
import glob, os, re, select, signal, socket, sys, time

directory, role = sys.argv[1], sys.argv[2]
path = lambda name: os.path.join(directory, name)

def start(title, *arguments):
    pid = os.fork()
    if pid == 0:
        os.execv(os.environ["FAKE_PYTHON"], [title, "-S", path("nginx.py"), directory, *arguments])
    return pid

def open_to(address, port):
    connection = socket.create_connection((address, int(port)))
    os.set_inheritable(connection.fileno(), True)
    return connection

if role == "master":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGTERM})
    worker = start("nginx: worker process", "worker")
    open(path("nginx.pid"), "w").write(f"{os.getpid()}\n")
    while signal.sigwait({signal.SIGHUP, signal.SIGTERM}) == signal.SIGHUP:
        open(path("reloads"), "a").write("x")
        if not os.path.exists(path("deaf")):
            before, worker = worker, start("nginx: worker process", "worker")
            time.sleep(0.05)
            os.kill(before, signal.SIGQUIT)
elif role == "worker":
    idle, used = [], []
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGQUIT, signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM})
    backends = []
    for name in sorted(glob.glob(path("backends.d/*.conf"))):
        found = re.search(r"^server ([\d.]+):(\d+)([^;]*);", open(name).read(), re.M)
        if "down" not in found[3]:
            backends.append(found.groups()[:2])
            idle.append(open_to(*backends[-1]))
    open(path("workers"), "a").write(f"{os.getpid()}\n")
    while (number := signal.sigwait({signal.SIGQUIT, signal.SIGUSR1, signal.SIGTERM})) == signal.SIGUSR1:
        used.append(open_to(*backends[0]))
        open(path("used"), "a").write("x")
    for connection in idle:
        connection.close()
    if used and number == signal.SIGQUIT:
        numbers = [str(connection.fileno()) for connection in used]
        title = "nginx: worker process is shutting down"
        os.execv(os.environ["FAKE_PYTHON"], [title, "-S", path("nginx.py"), directory, "leaving", *numbers])
else:
    left = [socket.socket(fileno=int(number)) for number in sys.argv[3:]]
    while left:
        for connection in select.select(left, [], [], 10)[0]:
            if not connection.recv(100):
                left.remove(connection)
"""

TEST = """#!/bin/sh
[ "$*" = "-t -q" ] || exit 9
[ ! -e {}/broken ] || {{ echo "unknown directive" >&2; exit 1; }}
"""


class FakeNginx:
    """The stand-in, its files and the backends behind it."""

    def __init__(self, directory: pathlib.Path, ports: dict[str, int]) -> None:
        self.directory = directory
        self.backends = directory / "backends.d"
        self.backends.mkdir()
        self.ports = ports
        for name, port in ports.items():
            self.write(name, f"server 127.0.0.1:{port} max_fails=3;")
        (directory / "nginx.py").write_text(PROGRAM)
        (directory / "nginx").write_text(TEST.format(directory))
        (directory / "nginx").chmod(0o755)
        self.master: subprocess.Popen[bytes] | None = None

    def write(self, name: str, line: str) -> None:
        # At once, as the module itself does: a reader must never see half a file.
        draft = self.backends / f".{name}.draft"
        draft.write_text(f"#\n# Ansible managed\n#\n{line}\n")
        draft.rename(self.backends / f"{name}.conf")

    def text(self, name: str) -> str:
        return (self.backends / f"{name}.conf").read_text()

    def start(self) -> None:
        python = os.path.realpath(sys.executable)
        self.master = subprocess.Popen(
            ["nginx: master process", "-S", str(self.directory / "nginx.py"), str(self.directory), "master"],
            executable=python,
            env={"FAKE_PYTHON": python, "PYTHONHOME": sys.base_prefix, "PATH": os.defpath},
        )
        self.until(self.workers)
        # The clock of the kernel ticks in hundredths: files of this test have to be older than the worker.
        moment = time.time() - 1
        for path in (*self.backends.iterdir(), self.backends):
            os.utime(path, (moment, moment))

    def stop(self) -> None:
        if self.master is not None:
            for pid in [*self.workers(), self.master.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.master.wait()

    @staticmethod
    def until(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def workers(self) -> list[int]:
        path = self.directory / "workers"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def request(self) -> None:
        """Let the present worker use a connection to the first enabled backend."""
        path = self.directory / "used"
        before = len(path.read_text()) if path.exists() else 0
        os.kill(self.workers()[-1], signal.SIGUSR1)
        self.until(lambda: path.exists() and len(path.read_text()) > before)

    @property
    def reloads(self) -> int:
        path = self.directory / "reloads"
        return len(path.read_text()) if path.exists() else 0

    def arguments(self, **more: Any) -> dict[str, Any]:
        return {
            "directory": str(self.backends),
            "pid_file": str(self.directory / "nginx.pid"),
            "nginx": str(self.directory / "nginx"),
            "reload_command": ["sh", "-c", f"kill -HUP $(cat {self.directory}/nginx.pid)"],
            "reload_timeout": 10,
            "drain_timeout": 10,
            **more,
        }


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch, systemd: Any) -> None:
    monkeypatch.setattr(_nginx_switch, "POLL", 0.02)
    monkeypatch.setattr(_nginx_switch, "SETTLE", 0.1)


@pytest.fixture
def finish() -> threading.Event:
    """Set, it lets the backends close all connections."""
    return threading.Event()


@pytest.fixture
def stopped(tmp_path: pathlib.Path, serve: Any, finish: threading.Event) -> Iterator[FakeNginx]:
    """Two backends, and an Nginx that does not run yet."""
    (tmp_path / "nginx").mkdir()
    ports = {name: serve(lambda connection: finish.wait(20)).port for name in ("app1", "app2")}
    fake = FakeNginx(tmp_path / "nginx", ports)
    yield fake
    finish.set()
    fake.stop()


@pytest.fixture
def nginx(stopped: FakeNginx) -> FakeNginx:
    """The same, running."""
    stopped.start()
    return stopped


# --- what happens to requests -----------------------------------------------------------------------------------------


def test_idle_connections_are_not_work(run_module: Any, nginx: FakeNginx) -> None:
    before = nginx.text("app1")
    result = run_module(nginx_backend, nginx.arguments(name="app1", state="drained"), diff=True)
    assert (result["changed"], result["left"], result["reloaded"]) == (True, 0, True)
    assert (result["previous_state"], result["enabled"]) == ("enabled", ["app2"])
    assert nginx.text("app1") == before.replace("max_fails=3;", "max_fails=3 down;")
    assert result["diff"][0]["before"] == before
    assert result["diff"][0]["after"] == nginx.text("app1")
    assert nginx.reloads == 1
    again = run_module(nginx_backend, nginx.arguments(name="app1", state="drained"))
    assert (again["changed"], again["left"], again["reloaded"], nginx.reloads) == (False, 0, False, 1)
    back = run_module(nginx_backend, nginx.arguments(name="app1", state="enabled"))
    assert (back["changed"], nginx.text("app1"), back["enabled"]) == (True, before, ["app1", "app2"])


@pytest.mark.parametrize("state", ["drained", "absent"])
def test_open_requests_are_waited_for(run_module: Any, nginx: FakeNginx, finish: threading.Event, state: str) -> None:
    nginx.request()
    threading.Timer(0.6, finish.set).start()
    result = run_module(nginx_backend, nginx.arguments(name="app1", state=state))
    assert (result["changed"], result["left"]) == (True, 0)
    assert result["waited"] > 0.2
    assert (nginx.backends / "app1.conf").exists() == (state == "drained")


def test_deadline(run_module: Any, nginx: FakeNginx, finish: threading.Event) -> None:
    nginx.request()
    arguments = nginx.arguments(name="app1", state="drained", drain_timeout=0.3)
    result = run_module(nginx_backend, arguments)
    assert (result["changed"], result["left"], result["old_workers"]) == (True, 1, 1)
    assert 0.3 <= result["waited"] < 2
    info = run_module(nginx_backend_info, {key: arguments[key] for key in ("directory", "pid_file")})
    assert (info["running"], info["workers"], info["old_workers"]) == (True, 1, 1)
    assert [(one["state"], one["connections"], one["old_connections"]) for one in info["backends"]] == [
        ("drained", 1, 1),
        ("enabled", 1, 0),
    ]
    threading.Timer(0.3, finish.set).start()
    again = run_module(nginx_backend, nginx.arguments(name="app1", state="drained"))
    assert (again["changed"], again["left"], nginx.reloads) == (False, 0, 1)
    assert again["waited"] > 0.1


def test_a_stream_to_another_backend_does_not_hold_up(run_module: Any, nginx: FakeNginx) -> None:
    nginx.request()
    result = run_module(nginx_backend, nginx.arguments(name="app2", state="drained"))
    assert (result["left"], result["old_workers"]) == (0, 1)
    assert 0.1 <= result["waited"] < 5


def test_put_back_to_work_by_somebody_else(run_module: Any, nginx: FakeNginx) -> None:
    nginx.request()

    def interfere() -> None:
        FakeNginx.until(lambda: nginx.reloads == 1)
        time.sleep(0.5)
        nginx.write("app1", f"server 127.0.0.1:{nginx.ports['app1']};")

    somebody = threading.Thread(target=interfere)
    somebody.start()
    result = run_module(nginx_backend, nginx.arguments(name="app1", state="drained"))
    somebody.join()
    assert "put back to work by somebody else" in result["msg"]
    assert result["left"] == 1


# --- what can go wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["drained", "absent"])
@pytest.mark.parametrize(
    ("break_it", "message", "reloads"),
    [
        (lambda fake: (fake.directory / "broken").touch(), "unknown directive", 0),
        (lambda fake: (fake.directory / "nginx").unlink(), "is not installed", 0),
        # The reload is repeated, in case the first one was merely late.
        (lambda fake: (fake.directory / "deaf").touch(), "did not take the new configuration within 0.5 s", 2),
        (lambda fake: (fake.directory / "nginx.pid").write_text("x"), None, 0),
    ],
)
def test_everything_is_put_back(
    run_module: Any, nginx: FakeNginx, state: str, break_it: Any, message: str | None, reloads: int
) -> None:
    break_it(nginx)
    text, times = nginx.text("app1"), os.stat(nginx.backends).st_mtime_ns
    arguments = nginx.arguments(name="app1", state=state, reload_timeout=0.5)
    if message is None:
        arguments["reload_command"] = None
        nginx_unit_runs(arguments)
        message = "does not name its process"
    result = run_module(nginx_backend, arguments)
    assert result["failed"]
    assert message in result["msg"]
    assert nginx.text("app1") == text
    assert os.stat(nginx.backends).st_mtime_ns == times
    assert sorted(path.name for path in nginx.backends.iterdir()) == ["app1.conf", "app2.conf"]
    assert (result["changed"], result["backend"]["state"], result["enabled"]) == (False, "enabled", ["app1", "app2"])
    FakeNginx.until(lambda: nginx.reloads == reloads)


def nginx_unit_runs(arguments: dict[str, Any]) -> None:
    """Let the fake systemd say so."""
    from ansible_collections.flowfleet.langflow.plugins.module_utils import _systemd

    _systemd.systemctl.run()  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", [1, 127])
def test_reload_command_fails(run_module: Any, nginx: FakeNginx, code: int) -> None:
    text = nginx.text("app1")
    command = ["sh", "-c", "echo why >&2; exit 1"] if code == 1 else ["no-such-program"]
    result = run_module(nginx_backend, nginx.arguments(name="app1", state="drained", reload_command=command))
    assert "the reload failed" in result["msg"]
    assert "the previous file is back" in result["msg"]
    assert nginx.text("app1") == text


def test_reload_by_systemd_is_remembered(run_module: Any, nginx: FakeNginx, systemd: Any) -> None:
    from ansible_collections.flowfleet.langflow.plugins.module_utils import _systemd

    assert nginx.master is not None
    pid = nginx.master.pid
    systemd.run()
    systemd.script["reload"] = lambda: os.kill(pid, signal.SIGHUP)
    result = run_module(nginx_backend, nginx.arguments(name="app1", state="drained", reload_command=None))
    assert (result["changed"], systemd.calls) == (True, ["reload"])
    paths = [str(nginx.backends), str(nginx.backends / "app1.conf")]
    assert _systemd.stale_because(_systemd.show("nginx.service"), paths, reloads_count=True) is None


def test_a_run_that_died_before_its_reload_is_made_up_for(run_module: Any, nginx: FakeNginx) -> None:
    # The kernel tells the start of a process in hundredths of a second.
    time.sleep(0.05)
    nginx.write("app1", f"server 127.0.0.1:{nginx.ports['app1']} max_fails=3 down;")
    arguments = nginx.arguments(name="app1", state="drained")
    assert run_module(nginx_backend, arguments, check=True)["changed"] is True
    result = run_module(nginx_backend, arguments)
    assert (result["changed"], result["reloaded"], result["left"]) == (True, True, 0)
    assert run_module(nginx_backend, arguments)["changed"] is False


# --- decisions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["drained", "absent"])
@pytest.mark.parametrize("check", [True, False])
def test_the_last_one_stays(run_module: Any, nginx: FakeNginx, state: str, check: bool) -> None:
    nginx.write("app2", f"server 127.0.0.1:{nginx.ports['app2']} down;")
    result = run_module(nginx_backend, nginx.arguments(name="app1", state=state), check=check)
    assert "app1 is the last enabled backend" in result["msg"]
    assert "down" not in nginx.text("app1")
    result = run_module(nginx_backend, nginx.arguments(name="app1", state=state, allow_last=True), check=check)
    assert (result["changed"], result["enabled"]) == (True, [])


def test_two_at_the_same_time(nginx: FakeNginx) -> None:
    outcomes: dict[str, str] = {}

    def drain(name: str) -> None:
        arguments = nginx.arguments(name=name, state="drained")
        try:
            _nginx_switch.Switch(**arguments).run()
            outcomes[name] = "drained"
        except _nginx_switch.SwitchError as error:
            outcomes[name] = str(error)

    threads = [threading.Thread(target=drain, args=(name,)) for name in nginx.ports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes.values())[1] == "drained"
    assert "is the last enabled backend" in sorted(outcomes.values())[0]
    assert sum("down" in nginx.text(name) for name in nginx.ports) == 1
    assert nginx.reloads == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "app3", "state": "drained"}, r"app3 is not a backend of this load balancer \(it has: app1, app2\)"),
        ({"name": "app3", "state": "enabled", "address": "127.0.0.1"}, "is not a backend"),
        ({"name": "../app1", "state": "drained"}, "cannot be the name"),
        ({"name": "app1", "state": "enabled", "address": "192.0.2.9"}, "has the address 127.0.0.1, not 192.0.2.9"),
        ({"name": "app1", "state": "drained", "port": 1}, r"has the port \d+, not 1"),
        ({"name": "app1", "state": "enabled", "weight": 0}, "weight has to be from 1"),
        ({"name": "app3", "state": "enabled", "address": "127.0.0.1", "port": 70000}, "port has to be from 1"),
        ({"name": "app1", "state": "drained", "directory": "/nonexistent"}, "is not a backend"),
        ({"name": "app1", "state": "absent", "directory": "/nonexistent"}, "run the role nginx on this host first"),
    ],
)
def test_refused(run_module: Any, nginx: FakeNginx, arguments: dict[str, Any], message: str) -> None:
    result = run_module(nginx_backend, nginx.arguments(**arguments))
    assert re.search(message, result["msg"])
    assert nginx.reloads == 0


def test_add_and_remove(run_module: Any, nginx: FakeNginx, serve: Any, finish: threading.Event) -> None:
    port = serve(lambda connection: finish.wait(20)).port
    arguments = nginx.arguments(name="app3", state="drained", address="127.0.0.1", port=port)
    result = run_module(nginx_backend, arguments, diff=True)
    assert (result["changed"], result["previous_state"], result["enabled"]) == (True, "absent", ["app1", "app2"])
    # Like its neighbours, so that the role finds nothing to change.
    expected = nginx.text("app1").replace(str(nginx.ports["app1"]), str(port)).replace(";", " down;")
    assert nginx.text("app3") == expected
    assert (nginx.backends / "app3.conf").stat().st_mode & 0o777 == 0o644
    for weight, line in ((3, "max_fails=3 weight=3;"), (None, "max_fails=3 weight=3;"), (1, "max_fails=3;")):
        run_module(nginx_backend, {**arguments, "state": "enabled", "weight": weight})
        assert nginx.text("app3").endswith(f"server 127.0.0.1:{port} {line}\n")
    removal = nginx.arguments(name="app3", state="absent")
    assert run_module(nginx_backend, removal)["changed"] is True
    again = run_module(nginx_backend, removal)
    assert (again["changed"], again["backend"]) == (False, None)


def test_check_mode_changes_nothing(run_module: Any, nginx: FakeNginx) -> None:
    nginx.request()
    text = nginx.text("app1")
    result = run_module(nginx_backend, nginx.arguments(name="app1", state="drained"), check=True, diff=True)
    assert (result["changed"], result["backend"]["state"], result["reloaded"]) == (True, "drained", False)
    assert result["left"] == 2
    assert " down;" in result["diff"][0]["after"]
    assert (nginx.text("app1"), nginx.reloads) == (text, 0)


def test_nginx_does_not_run(run_module: Any, stopped: FakeNginx) -> None:
    result = run_module(nginx_backend, stopped.arguments(name="app1", state="drained"))
    assert (result["changed"], result["running"], result["reloaded"], result["left"]) == (True, False, False, 0)
    assert " down;" in stopped.text("app1")
    info = run_module(nginx_backend_info, {"directory": str(stopped.backends), "pid_file": "/nonexistent"})
    assert (info["running"], info["workers"], info["backends"][0]["connections"]) == (False, 0, 0)


def test_info_without_anything(run_module: Any) -> None:
    result = run_module(nginx_backend_info, {"directory": "/nonexistent", "pid_file": "/nonexistent"})
    assert (result["backends"], result["running"]) == ([], False)


# --- the kernel's notation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("127.0.0.1", 7860, "0100007F:1EB4"),
        ("192.0.2.11", 80, "0B0200C0:0050"),
        ("::1", 7860, "00000000000000000000000001000000:1EB4"),
        ("2001:db8::1", 443, "B80D0120000000000000000001000000:01BB"),
    ],
)
@pytest.mark.skipif(sys.byteorder != "little", reason="the examples are little-endian")
def test_notation(address: str, port: int, expected: str) -> None:
    ends = _nginx_workers.endpoints(address, port)
    assert expected in ends
    assert len(ends) == (1 if ":" in address else 2)


def test_a_name_that_nobody_knows(run_module: Any, nginx: FakeNginx) -> None:
    assert _nginx_workers.endpoints("no-such-host.invalid", 1) == frozenset()
    nginx.write("app3", "server no-such-host.invalid:7860;")
    result = run_module(nginx_backend, nginx.arguments(name="app3", state="drained"))
    assert "cannot be counted (nothing was changed)" in result["msg"]
    assert " down" not in nginx.text("app3")
