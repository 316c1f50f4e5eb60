# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hashes of tables, their comparison, and whether a key opens what is stored."""

from __future__ import annotations

import base64
import os
import time
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.filter.fingerprint_compare import fingerprint_compare
from ansible_collections.flowfleet.langflow.plugins.filter.langflow_key_opens import langflow_key_opens
from ansible_collections.flowfleet.langflow.plugins.filter.text_table import text_table
from ansible_collections.flowfleet.langflow.plugins.module_utils import _fernet, _fingerprint
from cryptography.fernet import Fernet


def table(rows: int, digest: str | None = "1", **more: Any) -> dict[str, Any]:
    return {"rows": rows, "hash": digest, **more}


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (table(3, steady=True), table(3), "equal"),
        (table(3, steady=True), table(2), "differs"),
        (table(3, steady=True), table(3, "2"), "differs"),
        (table(3, None, steady=True), table(3, "2"), "equal"),
        (table(3, None, steady=True), table(4, None), "differs"),
        (table(3, steady=False), table(2, "2"), "busy"),
        (table(3, steady=False), None, "busy"),
        (table(3, steady=True), None, "missing"),
        (None, table(3), "extra"),
    ],
)
def test_a_table_is_judged(ours: Any, theirs: Any, verdict: str) -> None:
    rows = fingerprint_compare({"db": {"t": ours} if ours else {}}, {"db": {"t": theirs} if theirs else {}})
    assert [row["verdict"] for row in rows] == [verdict]
    assert rows[0]["table"] == "db.t"


def test_a_database_that_is_missing_is_seen() -> None:
    rows = fingerprint_compare({"a": {"t": table(1, steady=True)}, "b": {}}, {"b": {}})
    assert [(row["table"], row["verdict"]) for row in rows] == [("a.t", "missing")]


def test_only_what_stood_still_is_steady() -> None:
    before = {"db": {"same": table(1), "more": table(1), "gone": table(1)}}
    after = {"db": {"same": table(1), "more": table(2), "new": table(1)}}
    found = _fingerprint.steady(before, after)["db"]
    assert {name: entry["steady"] for name, entry in found.items()} == {
        "same": True, "more": False, "gone": False, "new": False,
    }  # fmt: skip


def test_names_cannot_leave_their_place_in_a_statement() -> None:
    statement = _fingerprint.table_statement('a"; DROP TABLE x; --', "o'clock", 1, 10)
    assert '"a""; DROP TABLE x; --"."o\'clock"' in statement
    assert "'o''clock'" in statement


def test_a_table_beyond_the_limit_is_only_counted() -> None:
    assert "md5" in _fingerprint.table_statement("public", "t", 10, 10)
    assert "md5" not in _fingerprint.table_statement("public", "t", 11, 10)


def key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def test_a_key_opens_its_own_tokens_only() -> None:
    ours, other = key(), key()
    tokens = [Fernet(ours).encrypt(b"sk-1").decode(), Fernet(other).encrypt(b"sk-2").decode()]
    assert langflow_key_opens(tokens, ours) == 1
    assert langflow_key_opens(tokens, other) == 1
    assert langflow_key_opens(tokens, key()) == 0
    assert langflow_key_opens(tokens, ours.rstrip("=")) == 1


def test_a_short_key_is_hashed_as_langflow_does() -> None:
    import hashlib

    derived = base64.urlsafe_b64encode(hashlib.sha256(b"short").digest())
    assert langflow_key_opens([Fernet(derived).encrypt(b"x").decode()], "short") == 1


def test_every_flipped_byte_of_a_token_is_found() -> None:
    secret = key()
    raw = base64.urlsafe_b64decode(Fernet(secret).encrypt_at_time(b"sk-live", int(time.time())))
    assert _fernet.opens(secret, base64.urlsafe_b64encode(raw).decode())
    for place in range(len(raw)):
        damaged = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        assert not _fernet.opens(secret, base64.urlsafe_b64encode(damaged).decode()), place


@pytest.mark.parametrize("token", ["", "x", "gAAAAA", "plain text", "gAAAAABn" + "A" * 40])
def test_what_is_no_token_is_not_opened(token: str) -> None:
    assert not _fernet.opens(key(), token)


@pytest.mark.parametrize("secret", ["A" * 50, "!" * 40])
def test_a_key_of_the_wrong_length_is_an_error(secret: str) -> None:
    with pytest.raises(AnsibleFilterError):
        langflow_key_opens(["x"], secret)


def test_a_table_has_equal_columns_and_sizes_for_people() -> None:
    rows = [{"name": "a", "stored_bytes": 400, "ok": True}, {"name": "long", "stored_bytes": 3752096, "ok": False}]
    assert text_table(rows, ["name", "stored_bytes", "ok"]) == [
        "NAME  STORED   OK",
        "a       400 B  yes",
        "long  3.6 MiB  no",
    ]
    assert text_table([], ["name"]) == ["NAME"]
    with pytest.raises(AnsibleFilterError):
        text_table("x", ["name"])
