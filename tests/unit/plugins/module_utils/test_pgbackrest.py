# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What pgBackRest says about a repository, and what is asked of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _pgbackrest
from ansible_collections.flowfleet.langflow.plugins.module_utils._command import Done

FULL: dict[str, Any] = {
    "label": "20261122-034120F",
    "type": "full",
    "timestamp": {"start": 1795318880, "stop": 1795318881},
    "info": {"size": 31296429, "delta": 31296429, "repository": {"delta": 3752096, "size": 3752096}},
    "archive": {"start": "000000010000000000000005", "stop": "000000010000000000000005"},
    "lsn": {"start": "0/5000028", "stop": "0/5000158"},
    "error": False,
    "prior": None,
}
VALID = """\
stanza: langflow
status: ok
  archiveId: 17-1, total WAL checked: 9, total valid WAL: 9
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
  backup: 20261122-034120F, status: valid, total files checked: 1261, total valid files: 1261
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
"""


def answer(code: int = 0, name: str = "langflow", **more: Any) -> str:
    entry = {
        "name": name,
        "status": {"code": code, "message": "ok" if not code else "other", "lock": {"backup": {"held": False}}},
        "cipher": "aes-256-cbc",
        "archive": [{"min": "000000010000000000000001", "max": "000000010000000000000009"}],
        "backup": [FULL],
        **more,
    }
    return json.dumps([entry])


def test_a_repository_is_described_in_full() -> None:
    result = _pgbackrest.parse(answer(), "langflow").result()
    assert result["exists"]
    assert result["encrypted"]
    assert not result["locked"]
    assert (result["wal_min"], result["wal_max"]) == ("000000010000000000000001", "000000010000000000000009")
    newest = result["newest"]
    assert newest["label"] == "20261122-034120F"
    assert (newest["seconds"], newest["database_bytes"], newest["stored_bytes"]) == (1, 31296429, 3752096)
    assert newest["stopped"] == "2026-11-22T03:41:21Z"
    assert newest["prior"] == ""


@pytest.mark.parametrize(
    ("text", "exists", "backups"),
    [
        ("[]", False, 0),
        (answer(name="another"), False, 0),
        (answer(1, backup=[]), False, 0),
        (answer(3, backup=[]), False, 0),
        (answer(2, backup=[]), True, 0),
        (answer(), True, 1),
    ],
)
def test_a_stanza_may_be_missing_or_empty(text: str, exists: bool, backups: int) -> None:
    found = _pgbackrest.parse(text, "langflow")
    assert (found.exists, len(found.backups)) == (exists, backups)


def test_words_of_a_file_read_with_a_wrong_key_are_cleaned() -> None:
    garbage = "[FormatError] unable to load info file '/x'\nkey outside \x01\x02\ufffd of section"
    found = _pgbackrest.parse(answer(99, backup=[], repo=[{"status": {"code": 99, "message": garbage}}]), "langflow")
    assert found.message == "[FormatError] unable to load info file '/x' (is the passphrase right?)"


@pytest.mark.parametrize("text", ["", "ERROR: [055]", "{}", "3"])
def test_no_json_is_an_error(text: str) -> None:
    with pytest.raises(_pgbackrest.BackupError):
        _pgbackrest.parse(text, "langflow")


def test_a_whole_repository_passes_and_is_counted() -> None:
    assert _pgbackrest.judge_verify(Done(0, VALID, "")) == ("", "9 WAL segments and 1261 files are whole")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "status: valid, total files checked: 1261, total valid files: 1261",
            "status: invalid, total files",
            "invalid",
        ),
        ("missing: 0, checksum invalid: 0", "missing: 0, checksum invalid: 1", "checksum invalid: 1"),
        ("total valid WAL: 9", "total valid WAL: 8", "valid WAL: 8"),
        ("archiveId: 17-1, total WAL checked: 9, total valid WAL: 9", "No usable archive.info file", "No usable"),
    ],
)
def test_damage_is_found_although_the_exit_code_is_good(old: str, new: str, told: str) -> None:
    wrong, summary = _pgbackrest.judge_verify(
        Done(0, VALID.replace("status: ok", "status: error").replace(old, new), "")
    )
    assert told in wrong
    assert not summary


@pytest.mark.parametrize("out", ["", "stanza: langflow\n", "status: error\n"])
def test_an_answer_without_a_verdict_is_no_success(out: str) -> None:
    assert _pgbackrest.judge_verify(Done(0, out, ""))[0]


def test_a_failed_verify_is_no_success_whatever_it_printed() -> None:
    assert "ERROR" in _pgbackrest.judge_verify(Done(55, VALID, "P00  ERROR: [055]: no access"))[0]


def options(**given: Any) -> list[str]:
    return _pgbackrest.restore_options(**{"stanza": "langflow", "path": "/data", "kind": "latest", **given})


def test_a_copy_neither_archives_nor_touches_tablespaces() -> None:
    assert {"--archive-mode=off", "--tablespace-map-all=/data.tablespaces"} <= set(options())
    assert not {"--archive-mode=off", "--tablespace-map-all=/data.tablespaces"} & set(options(scratch=False))


@pytest.mark.parametrize(
    ("target", "given"),
    [
        ("2026-11-22 14:05:00+00", "2026-11-22 14:05:00+00"),
        ("2026-11-22T14:05:00.123456Z", "2026-11-22 14:05:00.123456+00"),
        ("2026-11-22 14:05:00-03:30", "2026-11-22 14:05:00-03:30"),
    ],
)
def test_a_time_has_a_zone(target: str, given: str) -> None:
    made = options(kind="time", target=target)
    assert "--type=time" in made
    assert f"--target={given}" in made


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "time"},
        {"kind": "time", "target": "2026-11-22 14:05:00"},
        {"kind": "time", "target": "yesterday"},
        {"kind": "name"},
        {"kind": "latest", "target": "x"},
        {"kind": "immediate", "target": "x"},
        {"kind": "xid", "target": "1"},
    ],
)
def test_a_target_that_means_nothing_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(_pgbackrest.BackupError):
        options(**given)


@pytest.mark.parametrize("timeline", ["3", "current", "latest"])
def test_a_timeline_of_the_past_can_be_followed(timeline: str) -> None:
    options = _pgbackrest.restore_options(stanza="s", path="/d", kind="latest", target_timeline=timeline)
    assert f"--target-timeline={timeline}" in options
    with pytest.raises(_pgbackrest.BackupError, match="is no timeline"):
        _pgbackrest.restore_options(stanza="s", path="/d", kind="latest", target_timeline=f"0{timeline}")


def test_a_complaint_is_what_went_wrong_and_not_all_options() -> None:
    done = Done(1, "P00 INFO: backup command begin 2.55.1: --repo1-path=/x\nP00  ERROR: [050]: unable to lock\n", "")
    assert _pgbackrest.complaint(done) == "P00  ERROR: [050]: unable to lock"
    assert _pgbackrest.complaint(Done(9, "", "")) == "exit code 9"


SECOND: dict[str, Any] = {**FULL, "label": "20261122-050000F", "timestamp": {"start": 1795323600, "stop": 1795323660}}
TWO = _pgbackrest.parse(answer(backup=[FULL, SECOND]), "langflow")
LATER = 1795330000.0


@pytest.mark.parametrize(
    ("kind", "target", "backup_set", "label"),
    [
        ("latest", "", "", SECOND["label"]),
        ("name", "before_import", FULL["label"], FULL["label"]),
        # Between the two, and after both. The end of a backup is the first moment that it does not lead to.
        ("time", "2026-11-22 04:00:00+00", "", FULL["label"]),
        ("time", "2026-11-22T06:00:00.5+01:00", "", FULL["label"]),
        ("time", "2026-11-22 05:01:00Z", "", FULL["label"]),
        ("time", "2026-11-22 05:01:01Z", "", SECOND["label"]),
        ("time", "2026-11-22 06:01:01Z", FULL["label"], FULL["label"]),
    ],
)
def test_a_restore_begins_with_the_newest_backup_that_leads_there(
    kind: str, target: str, backup_set: str, label: str
) -> None:
    assert TWO.begin(kind, target, backup_set, now=LATER).label == label


@pytest.mark.parametrize(
    ("kind", "target", "backup_set", "told"),
    [
        ("time", "2026-11-22 03:41:00+00", "", "oldest backup 20261122-034120F (2026-11-22T03:41:21Z)"),
        ("time", "2026-11-22 04:00:00+00", SECOND["label"], "backup 20261122-050000F (2026-11-22T05:01:00Z)"),
        ("time", "2026-11-23 04:00:00+00", "", "has not come yet"),
        ("time", "2026-11-22 25:00:00+00", "", "is not a time"),
        ("time", "2026-11-22 04:00:00", "", "with a zone"),
        ("latest", "", "20200101-000000F", "only 20261122-034120F, 20261122-050000F"),
    ],
)
def test_a_target_that_no_backup_leads_to_is_refused(kind: str, target: str, backup_set: str, told: str) -> None:
    with pytest.raises(_pgbackrest.BackupError) as refused:
        TWO.begin(kind, target, backup_set, now=LATER)
    assert told in str(refused.value)


def test_an_empty_repository_leads_nowhere() -> None:
    with pytest.raises(_pgbackrest.BackupError, match="has no backup"):
        _pgbackrest.parse(answer(code=2, backup=[]), "langflow").begin("latest")
