# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules around pgBackRest, with a program of that name that does what the test says."""

from __future__ import annotations

import json
import os
import pathlib
import sys
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _pgbackrest
from ansible_collections.flowfleet.langflow.plugins.modules import (
    pgbackrest_backup,
    pgbackrest_info,
    pgbackrest_restore,
    pgbackrest_stanza,
    pgbackrest_verify,
)

WORD = "-".join(("not", "in", "any", "argument"))
PROGRAM = """#!{python}
import json, os, pathlib, sys
home = pathlib.Path({home!r})
command = sys.argv[-1]
with (home / "calls").open("a") as stream:
    stream.write(json.dumps([sys.argv[1:], os.environ.get("PGBACKREST_REPO1_CIPHER_PASS", "")]) + "\\n")
script = json.loads((home / "script").read_text())
step = script.get(command, {{}})
for path in step.get("writes", []):
    pathlib.Path(path).write_text("x")
if "then" in step:
    (home / "script").write_text(json.dumps({{**script, **step["then"]}}))
print(step.get("out", ""))
print(step.get("err", ""), file=sys.stderr)
sys.exit(step.get("code", 0))
"""


def entry(*labels: str, code: int = 0) -> dict[str, Any]:
    backups = [
        {"label": label, "type": "full" if label.endswith("F") else "incr", "timestamp": {"start": 10, "stop": 12}}
        for label in labels
    ]
    return {
        "out": json.dumps([{"name": "langflow", "status": {"code": code}, "cipher": "aes-256-cbc", "backup": backups}])
    }


class Fake:
    """The program, what it shall do, and what it was called with."""

    def __init__(self, home: pathlib.Path, folder: pathlib.Path) -> None:
        self.home = home
        self.program(folder / "pgbackrest", PROGRAM.format(python=sys.executable, home=str(home)))
        # The change of the account needs root and an account: only what comes after it is run.
        self.program(folder / "setpriv", '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
        self.program(folder / "systemctl", f'#!/bin/sh\necho "$@" >> {home}/systemctl\nexec pgbackrest unit\n')
        self.does()

    @staticmethod
    def program(path: pathlib.Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def does(self, **script: Any) -> None:
        (self.home / "script").write_text(json.dumps(script), encoding="utf-8")

    @property
    def calls(self) -> list[Any]:
        path = self.home / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def commands(self) -> list[str]:
        return [arguments[-1] for arguments, _secret in self.calls]


@pytest.fixture
def fake(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    # Directories are given to an account that is there.
    import pwd

    monkeypatch.setattr(_pgbackrest, "ACCOUNT", pwd.getpwuid(os.geteuid()).pw_name)
    return Fake(tmp_path, folder)


def test_the_passphrase_is_in_the_environment_and_never_an_argument(fake: Fake, run_module: Any) -> None:
    fake.does(info=entry("20261122-034120F"))
    result = run_module(pgbackrest_info, {"stanza": "langflow", "cipher_passphrase": WORD})
    ((arguments, secret),) = fake.calls
    assert secret == WORD
    assert WORD not in " ".join(arguments)
    assert WORD not in json.dumps({key: value for key, value in result.items() if key != "invocation"})
    assert result["newest"]["label"] == "20261122-034120F"
    assert not result["changed"]


def test_a_repository_that_cannot_be_read_is_a_failure(fake: Fake, run_module: Any) -> None:
    fake.does(info=entry(code=99))
    result = run_module(pgbackrest_info, {"stanza": "langflow"})
    assert result["failed"]
    assert "passphrase" in result["msg"]


def test_a_time_before_the_oldest_backup_is_refused_before_anything_is_done(fake: Fake, run_module: Any) -> None:
    fake.does(info=entry("20261122-034120F"))
    given = {"stanza": "langflow", "type": "time", "target": "1970-01-01 00:00:05+00"}
    result = run_module(pgbackrest_info, given)
    assert result["failed"]
    assert "before the end of the oldest backup 20261122-034120F" in result["msg"]
    result = run_module(pgbackrest_info, {**given, "target": "1970-01-01 00:00:13+00"})
    assert result["begin"]["label"] == "20261122-034120F"
    # Without a wish, an empty repository is an answer and no failure.
    fake.does(info=entry(code=2))
    assert run_module(pgbackrest_info, {"stanza": "langflow"})["begin"] == {}


def test_check_mode_on_a_bare_host_finds_nothing(run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not run_module(pgbackrest_info, {"stanza": "x"}, check=True)["exists"]
    assert run_module(pgbackrest_stanza, {"stanza": "x"}, check=True)["created"]
    assert run_module(pgbackrest_backup, {"stanza": "x"}, check=True)["changed"]


def test_a_stanza_is_created_once_and_then_proven(fake: Fake, run_module: Any) -> None:
    fake.does(info=entry(code=1))
    result = run_module(pgbackrest_stanza, {"stanza": "langflow"})
    assert (result["changed"], result["created"], result["proven"]) == (True, True, True)
    assert fake.commands == ["info", "stanza-create", "check"]
    fake.does(info=entry(code=2))
    assert not run_module(pgbackrest_stanza, {"stanza": "langflow"})["changed"]
    assert fake.commands[3:] == ["info"]


def test_a_server_that_archives_in_vain_does_not_keep_the_stanza_from_being_created(
    fake: Fake, run_module: Any
) -> None:
    locked = {"code": 50, "out": "P00  ERROR: [050]: unable to acquire lock on file"}
    fake.does(**{"info": entry(code=1), "stanza-create": {**locked, "then": {"stanza-create": {}}}})
    assert run_module(pgbackrest_stanza, {"stanza": "langflow"})["created"]
    assert fake.commands == ["info", "stanza-create", "stanza-create", "check"]
    # It does not wait for ever.
    fake.does(**{"info": entry(code=1), "stanza-create": locked})
    assert "unable to acquire lock" in run_module(pgbackrest_stanza, {"stanza": "langflow", "timeout": 0.6})["msg"]


def test_a_stanza_is_not_created_in_check_mode(fake: Fake, run_module: Any) -> None:
    fake.does(info=entry(code=1))
    assert run_module(pgbackrest_stanza, {"stanza": "langflow"}, check=True)["created"]
    assert fake.commands == ["info"]


def test_an_archive_that_does_not_arrive_is_a_failure(fake: Fake, run_module: Any) -> None:
    fake.does(info=entry(code=1), check={"code": 82, "out": "P00  ERROR: [082]: WAL segment was not archived"})
    result = run_module(pgbackrest_stanza, {"stanza": "langflow"})
    assert result["failed"]
    assert "was not archived" in result["msg"]


def test_a_backup_is_taken_by_the_unit_and_found_afterwards(fake: Fake, run_module: Any) -> None:
    fake.does(
        info=entry("20261121-000000F", "20261122-000000F"),
        unit={"then": {"info": entry("20261122-000000F", "20261123-000000F")}},
    )
    result = run_module(pgbackrest_backup, {"stanza": "langflow", "type": "full"})
    assert result["backup"]["label"] == "20261123-000000F"
    assert result["expired"] == ["20261121-000000F"]
    assert "start pgbackrest-backup@full.service" in (fake.home / "systemctl").read_text()


def test_a_unit_that_ends_well_without_a_new_backup_is_a_failure(fake: Fake, run_module: Any) -> None:
    fake.does(info=entry("20261122-000000F"))
    result = run_module(pgbackrest_backup, {"stanza": "langflow"})
    assert result["failed"]
    assert "no new backup" in result["msg"]


@pytest.mark.parametrize(
    ("labels", "said"), [((), "no full one yet"), (("20261122-000000F",), "on top of 20261122-000000F")]
)
def test_check_mode_says_what_would_be_taken(fake: Fake, run_module: Any, labels: Any, said: str) -> None:
    fake.does(info=entry(*labels))
    result = run_module(pgbackrest_backup, {"stanza": "langflow"}, check=True)
    assert said in result["planned"]
    assert fake.commands == ["info"]


def restore(path: pathlib.Path, **more: Any) -> dict[str, Any]:
    return {"stanza": "langflow", "path": str(path), **more}


def test_a_restore_fills_an_empty_directory(fake: Fake, run_module: Any, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "a/b/data"
    out = "P00 INFO: repo1: restore backup set 20261122-034120F, recovery will start\nP00 INFO: restore size = 29.8MB,"
    fake.does(restore={"writes": [f"{target}/PG_VERSION"], "out": out})
    result = run_module(pgbackrest_restore, restore(target))
    assert (result["label"], result["bytes"]) == ("20261122-034120F", int(29.8 * 1024**2))
    assert target.stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "a/b/data.tablespaces").exists()


def test_a_directory_with_something_in_it_is_never_touched(fake: Fake, run_module: Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/PG_VERSION").write_text("17")
    for check in (False, True):
        result = run_module(pgbackrest_restore, restore(tmp_path / "data"), check=check)
        assert result["failed"]
        assert "nothing was restored" in result["msg"]
    assert fake.calls == []
    assert (tmp_path / "data/PG_VERSION").read_text() == "17"


def test_a_restore_that_fails_leaves_nothing_half_done(fake: Fake, run_module: Any, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "data"
    fake.does(restore={"writes": [f"{target}/half"], "code": 75, "out": "P01  ERROR: [029]: checksum mismatch"})
    result = run_module(pgbackrest_restore, restore(target))
    assert result["failed"]
    assert "checksum mismatch" in result["msg"]
    assert not target.exists()


def test_check_mode_shows_the_command_only(fake: Fake, run_module: Any, tmp_path: pathlib.Path) -> None:
    result = run_module(pgbackrest_restore, restore(tmp_path / "data", type="name", target="before"), check=True)
    assert "--target=before" in result["command"]
    assert fake.calls == []
    assert not (tmp_path / "data").exists()


def test_a_damaged_repository_is_a_failure_although_the_program_ends_well(fake: Fake, run_module: Any) -> None:
    fake.does(verify={"out": "stanza: langflow\nstatus: error\n  backup: 1F, status: invalid, total files checked: 2"})
    result = run_module(pgbackrest_verify, {"stanza": "langflow"})
    assert result["failed"]
    assert "backup: 1F, status: invalid" in result["msg"]
    fake.does(verify={"out": "stanza: langflow\nstatus: ok\n"})
    assert not run_module(pgbackrest_verify, {"stanza": "langflow"})["changed"]
