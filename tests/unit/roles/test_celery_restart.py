# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restart of workers that fails half-way: what was drained and still runs takes tasks again.

The real role with the real modules on this machine; only C(systemctl) and the workers' program are stand-ins. Both keep
one journal, so the order of their calls is known.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

Program = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[3]
WORKERS = ("main", "bulk")
UNITS = {name: f"celery-worker@{name}.service" for name in WORKERS}

# Units run since an hour ago or since their restart; one that is broken does not start again.
SYSTEMCTL = """#!{python}
import pathlib, sys, time
folder = pathlib.Path({folder!r})
words = [word for word in sys.argv[1:] if not word.startswith("--")]
verb, unit = words[0], words[-1]
mark = folder / unit
if verb == "show":
    since = mark.stat().st_mtime if mark.exists() else time.time() - 3600
    print("LoadState=loaded\\nActiveState=active\\nSubState=running\\nUnitFileState=enabled\\nNRestarts=0\\nMainPID=7")
    print(time.strftime("ExecMainStartTimestamp=Sun %Y-%m-%d %H:%M:%S UTC", time.gmtime(since)))
    print(f"Id={{unit}}\\nInvocationID={{since}}")
elif verb in ("restart", "start"):
    with (folder / "journal").open("a") as journal:
        journal.write(f"{{verb}} {{unit}}\\n")
    if unit in {broken!r}:
        sys.exit("it does not start with this setting")
    mark.touch()
"""
TOOL = """#!{python}
import json, pathlib, sys
folder, verb = pathlib.Path({folder!r}), sys.argv[1]
name = sys.argv[sys.argv.index("--name") + 1]
late = verb == "drain" and name in {late!r}
if verb in ("drain", "undrain"):
    with (folder / "journal").open("a") as journal:
        journal.write(f"{{verb}} {{name}}\\n")
    (folder / f"{{name}}.state").write_text("consuming" if verb == "undrain" else "draining")
state = {{"drain": "deadline" if late else "drained", "undrain": "consuming"}}.get(verb)
if verb == "worker-status":
    print(json.dumps([{{"worker": name, "state": (folder / f"{{name}}.state").read_text(), "active": 0}}]))
else:
    print(json.dumps({{"worker": name, "state": state, "consumers_cancelled": ["default"], "active": int(late)}}))
sys.exit(3 if late else 0)
"""


def restart(folder: Path, program: Program, *, broken: tuple[str, ...] = (), late: tuple[str, ...] = (),
            rescue: bool = True) -> tuple[int, list[str], str]:  # fmt: skip
    """Status, what was called in order, and the output of tasks_from restart.yml; without its rescue if wanted."""
    state, programs = folder / "state", folder / "bin"
    for path in (state, programs, folder / "config" / "credentials"):
        path.mkdir(parents=True)
    (state / "journal").touch()
    stand_ins = {"systemctl": SYSTEMCTL, "tool": TOOL}
    for name, text in stand_ins.items():
        units = tuple(UNITS[worker] for worker in broken)
        (programs / name).write_text(text.format(python=sys.executable, folder=str(state), broken=units, late=late))
        (programs / name).chmod(0o755)
    (folder / "config/config.json").write_text("{}")
    shutil.copytree(ROOT / "roles/celery", folder / "roles/celery", ignore=shutil.ignore_patterns("files"))
    if not rescue:
        path = folder / "roles/celery/tasks/restart.yml"
        tasks = yaml.safe_load(path.read_text())
        del next(task for task in tasks if "rescue" in task)["rescue"]
        path.write_text(yaml.safe_dump(tasks, sort_keys=False))
    play = {
        "name": "Restart",
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "environment": {"PATH": f"{programs}:{os.environ['PATH']}"},
        "tasks": [{"name": "Role", "ansible.builtin.import_role": {"name": "celery", "tasks_from": "restart.yml"}}],
    }
    (folder / "restart.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    given: dict[str, Any] = {
        "ansible_python_interpreter": sys.executable,
        "ansible_facts": {"systemd": {"version": 257}, "python": {"version": {"major": 3, "minor": 13}}},
        "celery_workers": [{"name": name} for name in WORKERS],
        "celery_beat_enabled": False,
        "celery_api_enabled": False,
        "celery_root": str(folder / "root"),
        "celery_config_dir": str(folder / "config"),
        "celery_tls_dir": str(folder / "tls"),
        "celery_drain_timeout": 5,
        "celery_start_timeout": 5,
        "__celery_tool": str(programs / "tool"),
        "__celery_surplus": [],
    }
    done = program(folder, "-i", "localhost,", "restart.yml", "-e", json.dumps(given))
    return done.returncode, (state / "journal").read_text().splitlines(), done.stdout + done.stderr


def states(folder: Path) -> dict[str, str]:
    return {name: (folder / "state" / f"{name}.state").read_text() for name in WORKERS}


def test_workers_are_drained_and_restarted(tmp_path: Path, ansible_playbook: Program) -> None:
    status, calls, output = restart(tmp_path, ansible_playbook)
    assert status == 0, output
    assert sorted(calls[:2]) == ["drain bulk", "drain main"]
    # A worker that is started takes tasks by itself.
    assert calls[2:] == [f"restart {UNITS[name]}" for name in WORKERS]


def test_a_worker_that_does_not_start_leaves_none_drained(tmp_path: Path, ansible_playbook: Program) -> None:
    status, calls, output = restart(tmp_path, ansible_playbook, broken=("main",))
    assert status != 0
    assert sorted(calls[:2]) == ["drain bulk", "drain main"]
    # The second one is not even tried, and both take tasks again: the first one's unit may still have its old process.
    assert calls[2] == f"restart {UNITS['main']}"
    assert sorted(calls[3:]) == ["undrain bulk", "undrain main"]
    assert set(states(tmp_path).values()) == {"consuming"}
    reason = output.split("Say what went wrong", 1)[1]
    assert "Bring every unit up to date: systemctl restart" in reason
    assert "it does not start with this setting" in reason


def test_a_worker_that_is_not_done_in_time_is_not_restarted(tmp_path: Path, ansible_playbook: Program) -> None:
    status, calls, output = restart(tmp_path, ansible_playbook, late=("bulk",))
    assert status != 0
    assert not [call for call in calls if call.startswith("restart")]
    assert set(states(tmp_path).values()) == {"consuming"}
    assert "still has tasks after 5 s: bulk" in output


def test_without_the_rescue_they_would_stay_drained(tmp_path: Path, ansible_playbook: Program) -> None:
    status, _calls, output = restart(tmp_path, ansible_playbook, broken=("main",), rescue=False)
    assert status != 0, output
    assert set(states(tmp_path).values()) == {"draining"}
