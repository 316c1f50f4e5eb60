# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keystore of Logstash, made with a program that asks as the real one does and ends with 0 when it has failed."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils._logstash_keystore import Memory
from ansible_collections.flowfleet.langflow.plugins.modules import logstash_keystore

OPENS = "keystore-password-1"
SECRETS = {"ELASTICSEARCH_PASSWORD": "first=secret/1", "OWN": "second secret"}
PROGRAM = """#!/usr/bin/env python3
import json, os, pathlib, sys
arguments = sys.argv[1:]
assert arguments.pop(0) == "--path.settings"
folder = pathlib.Path(arguments.pop(0))
here = pathlib.Path(__file__).parent
with (here / "runs").open("a") as log:
    log.write(json.dumps(sys.argv) + chr(10))
assert (folder / "logstash.yml").exists()
store = folder / "logstash.keystore"
word = os.environ["LOGSTASH_KEYSTORE_PASS"]
command = arguments.pop(0)
print()
if command == "create":
    store.write_text(json.dumps({"password": word, "entries": {}}))
    print("Created Logstash keystore at", store)
data = json.loads(store.read_text())
assert data["password"] == word
if command == "add":
    for name in arguments:
        if (here / "refuses").exists():
            print("ERROR: Value must contain only ASCII characters")
            continue
        print(f"Enter value for {name}: ", end="")
        data["entries"][name.lower()] = sys.stdin.readline().rstrip(chr(10))
        print(f"Added '{name.lower()}' to the Logstash keystore.")
    store.write_text(json.dumps(data))
if command == "list":
    print(chr(10).join(sorted(data["entries"])))
if (here / "dies").exists():
    sys.exit(1)
"""
Keep = Callable[..., dict[str, Any]]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program" / "logstash-keystore"
    path.parent.mkdir()
    path.write_text(PROGRAM, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "settings"
    path.mkdir()
    return path


@pytest.fixture
def keep(run_module: Callable[..., dict[str, Any]], program: Path, settings: Path) -> Keep:
    def run(check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {
            "settings_dir": str(settings),
            "program": str(program),
            "secrets": SECRETS,
            "password": OPENS,
            "mode": "0640",
        }
        return run_module(logstash_keystore, {**arguments, **options}, check=check, diff=True)

    return run


def runs(program: Path) -> int:
    log = program.with_name("runs")
    return len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0


def entries(settings: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((settings / "logstash.keystore").read_text(encoding="utf-8"))["entries"]
    return found


def test_it_is_made_once(keep: Keep, program: Path, settings: Path) -> None:
    first = keep()
    assert first["changed"]
    assert first["names"] == ["ELASTICSEARCH_PASSWORD", "OWN"]
    assert entries(settings) == {"elasticsearch_password": "first=secret/1", "own": "second secret"}
    assert stat.S_IMODE((settings / "logstash.keystore").stat().st_mode) == 0o640
    assert stat.S_IMODE((settings / ".keystore.json").stat().st_mode) == 0o600
    before = runs(program)
    again = keep()
    assert not again["changed"]
    assert again["names"] == []
    # The program takes many seconds; a run that changes nothing does not start it.
    assert runs(program) == before


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"secrets": {**SECRETS, "OWN": "other"}}, ["OWN"]),
        ({"secrets": {**SECRETS, "MORE": "third"}}, ["MORE"]),
        ({"secrets": {"OWN": "second secret"}}, ["ELASTICSEARCH_PASSWORD"]),
        ({"password": "another-password-2"}, []),
    ],
)
def test_each_difference_is_seen(keep: Keep, settings: Path, changes: dict[str, Any], names: list[str]) -> None:
    keep()
    assert keep(check=True, **changes)["changed"]
    found = keep(**changes)
    assert found["changed"]
    assert found["names"] == names
    wanted = changes.get("secrets", SECRETS)
    assert entries(settings) == {name.lower(): value for name, value in wanted.items()}
    assert not keep(**changes)["changed"]


def test_a_keystore_that_somebody_changed_is_put_back(keep: Keep, settings: Path) -> None:
    keep()
    store = settings / "logstash.keystore"
    store.write_text(json.dumps({"password": OPENS, "entries": {}}), encoding="utf-8")
    assert keep()["changed"]
    assert entries(settings)["own"] == "second secret"
    store.unlink()
    assert keep()["changed"]
    (settings / ".keystore.json").write_text("{}", encoding="utf-8")
    assert keep()["changed"]
    assert not keep()["changed"]


def test_check_mode_touches_nothing(keep: Keep, program: Path, settings: Path) -> None:
    assert keep(check=True)["changed"]
    assert list(settings.iterdir()) == []
    assert runs(program) == 0


def test_no_secret_is_seen_anywhere(keep: Keep, program: Path, settings: Path) -> None:
    result = keep()
    told = program.with_name("runs").read_text(encoding="utf-8")
    notes = (settings / ".keystore.json").read_text(encoding="utf-8")
    for word in (*SECRETS.values(), OPENS):
        assert word not in told
        assert word not in notes
        assert word not in json.dumps({key: value for key, value in result.items() if key != "invocation"})


def test_the_same_secret_looks_different_in_two_notes() -> None:
    first, second = (Memory.of(b"x", SECRETS, OPENS) for _ in range(2))
    assert first.entries != second.entries
    assert not first.differences(b"x", SECRETS, OPENS)
    assert first.differences(b"y", SECRETS, OPENS) == [""]


@pytest.mark.parametrize("fault", ["refuses", "dies"])
def test_a_program_that_fails_leaves_what_was_there(keep: Keep, program: Path, settings: Path, fault: str) -> None:
    keep()
    before = (settings / "logstash.keystore").read_bytes()
    program.with_name(fault).touch()
    result = keep(secrets={**SECRETS, "MORE": "third"})
    assert result["failed"]
    assert "third" not in result["msg"]
    assert (settings / "logstash.keystore").read_bytes() == before
    program.with_name(fault).unlink()
    assert not keep()["changed"]


@pytest.mark.parametrize(
    ("secrets", "named"),
    [
        ({"A B": "x"}, "letters"),
        ({"A": "two\nlines"}, "one line"),
        ({"A": "s\u00fcss"}, "ASCII"),
        ({"A": ""}, "not empty"),
        ({"A": "x", "a": "y"}, "capitals"),
    ],
)
def test_what_the_program_would_not_take_is_refused(keep: Keep, program: Path, secrets: Any, named: str) -> None:
    result = keep(secrets=secrets)
    assert result["failed"]
    assert named in result["msg"]
    assert runs(program) == 0
