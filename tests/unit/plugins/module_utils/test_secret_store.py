# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making, judging and keeping secrets."""

from __future__ import annotations

import base64
import errno
import multiprocessing
import os
import pathlib
import re
import stat
import uuid
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _lock
from ansible_collections.flowfleet.langflow.plugins.module_utils._secrets import (
    SecretError,
    Store,
    check_name,
    generate,
    problem,
)

FERNET = base64.urlsafe_b64encode(b"k" * 32).decode()


# --- making and judging -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [8, 20, 33, 64])
@pytest.mark.parametrize("kind", ["password", "hex", "fernet", "uuid"])
def test_what_is_made_is_good_and_new(kind: str, length: int) -> None:
    values = {generate(kind, length) for _number in range(50)}
    assert len(values) == 50
    for value in values:
        assert problem(kind, value) is None
        assert re.fullmatch(r"[A-Za-z0-9_=-]+", value), "needs no quoting anywhere"
        if kind in ("password", "hex"):
            assert len(value) == length


def test_a_password_has_something_of_everything() -> None:
    for _number in range(50):
        value = generate("password", 8)
        assert re.search("[a-z]", value)
        assert re.search("[A-Z]", value)
        assert re.search("[0-9]", value)


def test_a_uuid_is_random() -> None:
    assert uuid.UUID(generate("uuid", 0)).version == 4


@pytest.mark.parametrize(("kind", "length"), [("password", 7), ("hex", 0), ("rot13", 32)])
def test_what_cannot_be_made(kind: str, length: int) -> None:
    with pytest.raises(SecretError, match="too short|type must be one of"):
        generate(kind, length)


@pytest.mark.parametrize(
    ("kind", "value", "fault"),
    [
        ("password", "anything goes: Ü'\"", None),
        ("password", "", "is empty"),
        ("password", "two\nlines", "more than one line"),
        ("fernet", FERNET, None),
        ("fernet", FERNET.rstrip("="), None),
        ("fernet", FERNET[:-5], "not a Fernet key"),
        ("fernet", FERNET.replace("a", "!"), "not a Fernet key"),
        ("fernet", "short", "not a Fernet key"),
        ("hex", "00ffAA", None),
        ("hex", "xyz", "hexadecimal"),
        ("uuid", "0c1b6c1e-3c66-4d0e-9b1a-8f0f6f0b6f11", None),
        ("uuid", "0c1b", "not a UUID"),
    ],
)
def test_given_values_are_judged_without_showing_them(kind: str, value: str, fault: str | None) -> None:
    found = problem(kind, value)
    assert (found is None) == (fault is None)
    if found is not None and fault is not None:
        assert fault in found
        assert not value or value not in found


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a b", "a.b", None, 3, "-x"])
def test_names_that_are_no_names(name: Any) -> None:
    with pytest.raises(SecretError, match="cannot be the name of a secret"):
        check_name(name)


# --- keeping ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "inventory" / "secrets"


def refuse() -> str:
    raise AssertionError("nothing had to be made")


def test_made_once_and_kept(place: pathlib.Path) -> None:
    store = Store(str(place))
    assert store.read("a") is None
    assert not place.exists(), "reading makes nothing"
    assert store.read_or_create("a", lambda: "value-1") == "value-1"
    assert store.read_or_create("a", refuse) == "value-1"
    assert Store(str(place)).read("a") == "value-1"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "a").stat().st_mode) == 0o600
    assert sorted(path.name for path in place.iterdir()) == [".lock", "a"]


def test_the_mask_of_the_process_does_not_matter(place: pathlib.Path) -> None:
    before = os.umask(0)
    try:
        Store(str(place)).read_or_create("a", lambda: "value")
    finally:
        os.umask(before)
    assert stat.S_IMODE((place / "a").stat().st_mode) == 0o600


def ask(directory: str, name: str, start: Any, answers: Any) -> None:
    start.wait()
    answers.put(Store(directory).read_or_create(name, lambda: generate("password", 32)))


@pytest.mark.parametrize("attempt", range(3))
def test_eight_processes_at_once_get_the_same(place: pathlib.Path, attempt: int) -> None:
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(8), context.Queue()
    workers = [context.Process(target=ask, args=(str(place), "shared", start, answers)) for _number in range(8)]
    for worker in workers:
        worker.start()
    values = {answers.get(timeout=20) for _worker in workers}
    for worker in workers:
        worker.join(timeout=20)
    assert values == {Store(str(place)).read("shared")}
    assert len(values) == 1


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o660])
def test_a_file_that_others_can_read_is_refused(place: pathlib.Path, mode: int) -> None:
    store = Store(str(place))
    store.read_or_create("a", lambda: "hunter2-hunter2")
    (place / "a").chmod(mode)
    with pytest.raises(SecretError, match=f"secret a: .* run chmod 0600 {place}/a") as caught:
        store.read("a")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"\n", "is empty"), (b"\xff\xfe", "is not text")])
def test_a_file_that_holds_no_secret(place: pathlib.Path, content: bytes, message: str) -> None:
    place.mkdir(parents=True)
    (place / "a").touch(mode=0o600)
    (place / "a").write_bytes(content)
    with pytest.raises(SecretError, match=f"secret a: {place}/a {message}; remove the file"):
        Store(str(place)).read_or_create("a", refuse)


def test_a_file_written_by_a_person(place: pathlib.Path) -> None:
    place.mkdir(parents=True)
    (place / "a").touch(mode=0o600)
    (place / "a").write_bytes(b"  with spaces \r\n")
    assert Store(str(place)).read("a") == "  with spaces "


def test_a_directory_that_cannot_be_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SecretError, match="secret a: cannot .*Not a directory"):
        Store(str(tmp_path / "file" / "secrets")).read_or_create("a", lambda: "value")


def test_without_hard_links(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_arguments: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    assert Store(str(place)).read_or_create("a", lambda: "value") == "value"
    assert sorted(path.name for path in place.iterdir()) == [".lock", "a"]


def test_a_crash_while_making_leaves_nothing(place: pathlib.Path) -> None:
    store = Store(str(place))
    with pytest.raises(ZeroDivisionError):
        store.read_or_create("a", lambda: str(1 // 0))
    assert store.read_or_create("a", lambda: "value") == "value"


# --- encryption -------------------------------------------------------------------------------------------------------


def encrypted(place: pathlib.Path, **options: Any) -> Store:
    scheme: dict[str, Any] = {
        "encrypt": lambda data: b"ENC" + data[::-1],
        "decrypt": lambda data: data[3:][::-1],
        "is_encrypted": lambda data: data.startswith(b"ENC"),
    }
    return Store(str(place), **{**scheme, **options})


def test_encrypted_when_it_can_be(place: pathlib.Path) -> None:
    assert encrypted(place).read_or_create("a", lambda: "hunter2") == "hunter2"
    assert b"hunter2" not in (place / "a").read_bytes()
    assert encrypted(place).read("a") == "hunter2"
    (place / "a").chmod(0o644)
    assert encrypted(place).read("a") == "hunter2", "an encrypted file may come out of version control"


def test_a_plain_file_stays_readable_once_there_is_a_password(place: pathlib.Path) -> None:
    Store(str(place)).read_or_create("a", lambda: "plain")
    assert encrypted(place).read("a") == "plain"


def test_encrypted_without_or_with_the_wrong_password(place: pathlib.Path) -> None:
    def wrong(data: bytes) -> bytes:
        raise ValueError(f"cannot decrypt {data!r}")

    encrypted(place).read_or_create("a", lambda: "hunter2")
    with pytest.raises(SecretError, match="secret a: .* is encrypted; give the vault password"):
        encrypted(place, decrypt=None).read("a")
    with pytest.raises(SecretError, match="secret a: cannot decrypt .*check this run's vault password") as caught:
        encrypted(place, decrypt=wrong).read("a")
    assert "2retnuh" not in str(caught.value)


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_a_lock_is_exclusive_and_freed(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "lock")
    with (
        _lock.exclusive(path),
        pytest.raises(_lock.LockTimeout, match="has been locked by another process for 0.1 s"),
        _lock.exclusive(path, timeout=0.1, poll=0.01),
    ):
        raise AssertionError("two at once")
    with _lock.exclusive(path, timeout=0.1):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
