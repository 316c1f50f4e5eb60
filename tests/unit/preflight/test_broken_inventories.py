# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every broken inventory is refused with exactly one problem that names the fault; every good one is accepted."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CASES: list[dict[str, Any]] = yaml.safe_load((HERE / "broken_inventories.yml").read_text(encoding="utf-8"))
ACCEPTED: list[dict[str, Any]] = yaml.safe_load((HERE / "accepted_inventories.yml").read_text(encoding="utf-8"))
VALID: dict[str, Any] = yaml.safe_load((HERE / "valid_inventory.yml").read_text(encoding="utf-8"))
STATE: dict[str, Any] = yaml.safe_load((HERE / "valid_states.yml").read_text(encoding="utf-8"))
DATA: dict[str, Any] = yaml.safe_load((HERE / "valid_data.yml").read_text(encoding="utf-8"))
SHIPPED = sorted(path.name for path in (ROOT / "inventories").iterdir() if path.is_dir())
GOOD = "the valid inventory"

Verdict = list[dict[str, str]]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def overlay(base: Any, change: Any) -> Any:
    """Lay `change` over `base`; a null removes."""
    if not isinstance(base, Mapping) or not isinstance(change, Mapping):
        return change
    result = dict(base)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = overlay(result[key], value) if key in result else value
    return result


def states(case: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the measured state of every host, changed where the case says so; app1 has met servers of one's own."""
    if not {"host", "measured"} & set(case):
        return None
    changes = case.get("host", {})
    found = {name: overlay(STATE, changes.get(name, {})) for name in {**VALID["all"]["hosts"], **changes}}
    if "measured" in case:
        found["app1"] = {**found["app1"], "data": overlay(DATA, case["measured"])}
    return found


@pytest.fixture(scope="session")
def environment(collections_path: Path) -> dict[str, str]:
    """Give the environment of an operator, with this checkout as the installed collection."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    return {**kept, "ANSIBLE_COLLECTIONS_PATH": str(collections_path), "ANSIBLE_NOCOLOR": "true", "LC_ALL": "C.UTF-8"}


@pytest.fixture(scope="session")
def verdicts(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """Judge all inventories at once."""
    jobs: dict[str, dict[str, Any]] = {name: {"inventory": str(ROOT / "inventories" / name)} for name in SHIPPED}
    for number, case in enumerate([{"id": GOOD, "host": {}}, *ACCEPTED, *CASES]):
        path = tmp_path_factory.mktemp("inventory") / f"{number}.yml"
        path.write_text(yaml.safe_dump(overlay(VALID, case.get("change", {}))), encoding="utf-8")
        jobs[case["id"]] = {
            "inventory": str(path),
            "ansible_version": case.get("ansible_version"),
            "operation": case.get("operation"),
            "states": states(case),
        }
    run = subprocess.run(
        [sys.executable, str(HERE / "judge.py")],
        input=json.dumps(jobs),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    result: dict[str, Verdict] = json.loads(run.stdout)
    return result


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_a_broken_inventory_is_refused(case: dict[str, Any], verdicts: dict[str, Verdict]) -> None:
    found = verdicts[case["id"]]
    lines = [problem["line"] for problem in found]
    assert [problem["subject"] for problem in found] == [case["subject"]], lines
    assert case["phrase"] in found[0]["message"], lines
    assert case.get("fix", "") in found[0]["fix"] != "", lines


def test_the_cases_differ() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES) >= 25
    assert len({case["id"] for case in [*CASES, *ACCEPTED]}) == len(CASES) + len(ACCEPTED)
    assert len({(case["subject"], case["phrase"]) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("name", [GOOD, *(case["id"] for case in ACCEPTED), *SHIPPED])
def test_a_good_inventory_is_accepted(name: str, verdicts: dict[str, Verdict]) -> None:
    assert [problem["line"] for problem in verdicts[name]] == []


@pytest.fixture
def preflight(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run the playbook as an operator does."""

    def run(inventory: Path, *options: str) -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        command = [program, "--inventory", str(inventory), "flowfleet.langflow.preflight", *options]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


def test_the_playbook_accepts_a_shipped_inventory_and_makes_nothing(preflight: Run, tmp_path: Path) -> None:
    inventory = tmp_path / "production"
    shutil.copytree(ROOT / "inventories" / "production", inventory, ignore=shutil.ignore_patterns("*secrets", "*pki"))
    before = sorted(inventory.rglob("*"))
    run = preflight(inventory, "--tags", "preflight_inventory")
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"localhost +: ok=1 +changed=0 ", run.stdout)
    assert sorted(inventory.rglob("*")) == before, "no secret is generated"


def test_the_playbook_refuses_before_a_host_is_contacted(preflight: Run, tmp_path: Path) -> None:
    change = {
        "all": {
            "vars": {
                "ansible_ssh_executable": str(tmp_path / "ssh"),
                "langflow_fleet_secrets": {"database_password": "x7KqPz"},
            },
            "children": {"langflow": {"vars": {"langflow_settings": {"LOG_LEVLE": "debug"}}}, "redis": None},
        }
    }
    (tmp_path / "ssh").write_text(f"#!/bin/sh\ntouch {tmp_path}/contacted\nexit 1\n", encoding="utf-8")
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(overlay(VALID, change)), encoding="utf-8")
    started = time.monotonic()
    run = preflight(tmp_path / "hosts.yml")
    assert time.monotonic() - started < 10
    assert run.returncode != 0
    for line in (
        "redis: group redis has no host. Fix: ",
        "langflow_settings.LOG_LEVLE [app1, app2]: Langflow 1.13 has no setting LANGFLOW_LOG_LEVLE. Fix: write LOG_",
        "langflow_fleet_secrets.database_password [lb1, lb2, app1, app2, data1]: is too short",
    ):
        assert line in run.stdout, run.stdout
    assert "x7KqPz" not in run.stdout + run.stderr, "a secret is not shown"
    assert "Measure every host" not in run.stdout
    assert not (tmp_path / "contacted").exists()
