# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module config_snapshot: what it keeps, what it puts back, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _config_snapshot, _lock, _release
from ansible_collections.flowfleet.langflow.plugins.modules import (
    config_snapshot,
    langflow_release,
    langflow_release_info,
)

OLD, NEW = "1.12.0-00000012-py313", "1.13.0-00000013-py313"
HIDDEN = "PASSWORD=the-old-secret\n"
State = dict[str, tuple[Any, ...]]


class Host:
    """A host with two releases, the older one active, and the files of a service."""

    def __init__(self, path: Path, run_module: Callable[..., dict[str, Any]]) -> None:
        self.run_module = run_module
        self.root, self.etc, self.store = path / "langflow", path / "etc", path / "lib/snapshot"
        for age, (name, head, known) in enumerate(((OLD, "a", ["a"]), (NEW, "b", ["a", "b"]))):
            release = self.root / "releases" / name
            release.mkdir(parents=True)
            marker = {"id": name, "built_at": age, "version": name[:6], "schema_head": head, "schema_revisions": known}
            (release / _release.MARKER).write_text(json.dumps(marker), encoding="utf-8")
        self.activate(OLD)
        self.etc.mkdir()
        self.plain, self.secret, self.late = (str(self.etc / name) for name in ("plain", "secret", "late"))
        self.write(self.plain, "old\n", 0o644)
        self.write(self.secret, HIDDEN, 0o600)
        self.files = [str(self.etc), self.plain, self.secret, self.late]

    @staticmethod
    def write(path: str, text: str, mode: int) -> None:
        Path(path).write_text(text, encoding="utf-8")
        os.chmod(path, mode)

    def activate(self, name: str) -> None:
        (self.root / "current").unlink(missing_ok=True)
        os.symlink(f"releases/{name}", self.root / "current")

    def change(self) -> None:
        """What a change does to the host."""
        self.write(self.plain, "new\n", 0o640)
        self.write(self.secret, "PASSWORD=the-new-secret\n", 0o644)
        self.write(self.late, "new too\n", 0o644)
        self.activate(NEW)

    def state(self) -> State:
        """Everything that counts, byte for byte."""
        found: State = {"current": (os.readlink(self.root / "current"),)}
        for path in self.files:
            if os.path.exists(path):
                status = os.stat(path)
                content = b"" if os.path.isdir(path) else Path(path).read_bytes()
                found[path] = (content, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        return found

    def call(self, state: str, **options: Any) -> dict[str, Any]:
        keywords = {key: options.pop(key) for key in ("check", "diff") if key in options}
        arguments = {"state": state, "directory": str(self.store), "root": str(self.root), **options}
        return self.run_module(config_snapshot, arguments, **keywords)

    def save(self, **options: Any) -> dict[str, Any]:
        return self.call("saved", files=self.files, label=NEW, **options)

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.store / "manifest.json").read_text(encoding="utf-8"))
        return found

    def copies(self) -> dict[str, Path]:
        snapshot = _config_snapshot.Store(self.store).read()
        assert snapshot is not None
        return {path: Path(copy) for path, copy in _config_snapshot.Store(self.store).copies(snapshot).items()}


@pytest.fixture
def host(tmp_path: Path, run_module: Callable[..., dict[str, Any]]) -> Host:
    return Host(tmp_path, run_module)


@contextlib.contextmanager
def small_files_only(size: int) -> Iterator[None]:
    """The kernel refuses to write more than this into one file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- there and back ---------------------------------------------------------------------------------------------------


def test_everything_comes_back_as_it_was(host: Host) -> None:
    before = host.state()
    saved = host.save()
    assert saved["changed"]
    assert (saved["snapshot"]["release"], saved["snapshot"]["label"], saved["snapshot"]["status"]) == (OLD, NEW, "open")
    host.change()
    result = host.call("restored")
    assert host.state() == before
    assert result["changed_paths"] == [host.plain, host.secret, host.late, str(host.root / "current")]
    assert not os.path.exists(host.late)
    again = host.call("restored")
    assert (again["changed"], again["changed_paths"], again["snapshot"]["status"]) == (False, [], "restored")


def test_modes_alone_come_back(host: Host) -> None:
    before = host.state()
    host.save()
    os.chmod(host.secret, 0o644)
    os.chmod(host.etc, 0o700)
    host.call("restored")
    assert host.state() == before


def test_what_comes_back_is_newer_than_the_process_that_has_to_restart(host: Host) -> None:
    old = 1_000_000_000
    os.utime(host.plain, (old, old))
    host.save()
    host.change()
    host.call("restored")
    assert os.stat(host.plain).st_mtime > old + 1000


def test_only_root_can_read_it_and_nothing_shows_it(host: Host) -> None:
    saved = host.save(diff=True)
    assert stat.S_IMODE(host.store.stat().st_mode) == 0o700
    for path in host.store.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    host.change()
    restored = host.call("restored", diff=True)
    settled = host.call("settled", diff=True)
    for result in (saved, restored, settled):
        assert "the-old" not in json.dumps(result)
        assert "the-new" not in json.dumps(result)
    assert restored["diff"]


# --- runs that were killed --------------------------------------------------------------------------------------------


def test_an_open_snapshot_is_never_replaced(host: Host) -> None:
    before = host.state()
    first = host.save()
    host.change()
    again = host.save()
    assert (again["changed"], again["kept"]) == (False, True)
    assert again["snapshot"] == first["snapshot"]
    # Nor by a change to something else: what is in place now may be half of each.
    other = host.call("saved", files=[host.plain], label="another")
    assert other["snapshot"] == first["snapshot"]
    host.call("restored")
    assert host.state() == before


def test_a_settled_one_can_be_put_back_until_the_next_change(host: Host) -> None:
    host.save()
    host.change()
    assert host.call("settled")["snapshot"]["status"] == "settled"
    assert host.call("settled")["changed"] is False
    changed = host.state()
    second = host.save()
    assert (second["kept"], second["snapshot"]["release"]) == (False, NEW)
    host.write(host.plain, "newer\n", 0o644)
    host.call("restored")
    assert host.state() == changed
    assert len([path for path in host.store.iterdir() if path.is_dir()]) == 1


def test_what_a_killed_run_has_left_does_not_matter(host: Host) -> None:
    host.store.mkdir(parents=True)
    (host.store / "20200101T000000Z-abcdef").mkdir()
    (host.store / ".manifest.json.1234").write_text("{", encoding="utf-8")
    host.save()
    assert len(list(host.store.iterdir())) == 3  # lock, manifest, copies


def test_a_restore_that_was_killed_leaves_the_snapshot_open(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.save()
    host.change()
    host.call("settled")

    class Killed(BaseException):
        pass

    def kill(*_arguments: Any) -> None:
        raise Killed

    store, layout = _config_snapshot.Store(host.store), _release.Layout(host.root)
    snapshot = store.read()
    assert snapshot is not None
    with monkeypatch.context() as patch:
        patch.setattr(_config_snapshot.Transaction, "run", kill)
        with pytest.raises(Killed):
            _config_snapshot.restore(store, snapshot, layout, None, check_mode=False)
    assert host.save()["kept"]


def test_only_the_snapshot_that_is_meant_is_put_back(host: Host) -> None:
    host.save()
    host.change()
    changed = host.state()
    assert "somebody else" in host.call("restored", id="20200101T000000Z-abcdef")["msg"]
    assert host.state() == changed


# --- refusals: nothing is touched -------------------------------------------------------------------------------------


def tamper_copy(host: Host) -> None:
    copy = host.copies()[host.secret]
    copy.write_bytes(copy.read_bytes() + b"X")


def lose_copy(host: Host) -> None:
    host.copies()[host.plain].unlink()


def tamper_manifest(host: Host) -> None:
    manifest = host.store / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(OLD, NEW), encoding="utf-8")


def cut_manifest(host: Host) -> None:
    manifest = host.store / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:200])


def open_to_others(host: Host) -> None:
    host.store.chmod(0o755)


def lose_release(host: Host) -> None:
    (host.root / "releases" / OLD / _release.MARKER).unlink()


def lose_everything(host: Host) -> None:
    host.call("absent")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (tamper_copy, "is not what was kept"),
        (lose_copy, "cannot be read"),
        (tamper_manifest, "changed by hand"),
        (cut_manifest, "changed by hand"),
        (open_to_others, "not for root only"),
        (lose_release, "not installed any more"),
        (lose_everything, "there is no snapshot"),
    ],
)
def test_what_cannot_be_trusted_is_not_put_back(host: Host, harm: Callable[[Host], None], message: str) -> None:
    host.save()
    host.change()
    changed = host.state()
    harm(host)
    result = host.call("restored")
    assert result["failed"]
    assert message in result["msg"]
    assert "the-old" not in json.dumps(result)
    assert host.state() == changed


def test_a_damaged_one_is_not_replaced_but_can_be_removed(host: Host) -> None:
    host.save()
    tamper_manifest(host)
    assert "changed by hand" in host.save()["msg"]
    assert host.call("absent")["changed"]
    assert host.call("absent")["changed"] is False
    assert host.save()["kept"] is False


def test_a_host_without_a_release_has_nothing_to_go_back_to(host: Host) -> None:
    (host.root / "current").unlink()
    assert host.save()["snapshot"]["release"] == ""
    host.activate(NEW)
    assert "nothing to go back to" in host.call("restored")["msg"]


def test_a_full_disk_while_saving_loses_nothing(host: Host) -> None:
    host.save()
    host.call("settled")
    before, manifest = host.state(), host.manifest()
    host.write(host.plain, "x" * 100_000, 0o644)
    with small_files_only(50_000):
        failed = host.save()
    assert failed["failed"]
    assert "no file of the service was changed" in failed["msg"]
    assert host.manifest() == manifest
    host.call("restored")
    assert host.state() == before
    assert len([path for path in host.store.iterdir() if path.is_dir()]) == 1


def test_a_full_disk_while_restoring_puts_the_change_back(host: Host) -> None:
    host.write(host.secret, "x" * 100_000, 0o600)
    before = host.state()
    host.save()
    host.change()
    changed = host.state()
    with small_files_only(50_000):
        failed = host.call("restored")
    assert "as it was before this attempt" in failed["msg"]
    assert host.plain in failed["restored"]
    assert host.state() == changed
    host.call("restored")
    assert host.state() == before


def test_something_else_than_a_file_is_not_kept(host: Host) -> None:
    os.mkfifo(host.late)
    assert "neither a file" in host.save()["msg"]
    assert not (host.store / "manifest.json").exists()


def test_one_at_a_time(host: Host) -> None:
    host.save()
    release = threading.Event()
    held = threading.Event()

    def hold() -> None:
        with _lock.exclusive(str(host.store / ".lock")):
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    try:
        assert "locked by another process" in host.call("restored", lock_timeout=0.1)["msg"]
    finally:
        release.set()
        thread.join()


# --- check mode -------------------------------------------------------------------------------------------------------


def test_check_mode_touches_nothing(host: Host) -> None:
    predicted = host.save(check=True, diff=True)
    assert (predicted["changed"], predicted["snapshot"]["release"], predicted["snapshot"]["id"]) == (True, OLD, "")
    assert not host.store.exists()
    host.save()
    host.change()
    changed, manifest = host.state(), host.manifest()
    predicted = host.call("restored", check=True, diff=True)
    assert predicted["changed_paths"] == [host.plain, host.secret, host.late, str(host.root / "current")]
    assert host.call("settled", check=True)["changed"]
    assert host.call("absent", check=True)["changed"]
    assert (host.state(), host.manifest()) == (changed, manifest)


def test_check_mode_on_a_bare_host(host: Host, tmp_path: Path) -> None:
    nowhere = {"root": str(tmp_path / "none"), "check": True}
    assert host.call("saved", files=["/nowhere/at/all"], **nowhere)["changed"]
    assert host.call("settled", **nowhere)["changed"] is False
    assert host.call("settled", root=str(tmp_path / "none"))["changed"] is False
    assert not host.store.exists()


# --- together with releases -------------------------------------------------------------------------------------------


def test_the_release_to_go_back_to_is_not_removed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_release, "in_use", lambda layout: set())
    host.save()
    host.change()
    arguments = {"root": str(host.root), "keep": 1, "snapshot": str(host.store)}
    assert host.run_module(langflow_release, {**arguments, "state": "pruned"})["pruned"] == []
    refused = host.run_module(langflow_release, {**arguments, "state": "absent", "id": OLD})
    assert "snapshot" in refused["msg"]
    without = {key: value for key, value in arguments.items() if key != "snapshot"}
    assert host.run_module(langflow_release, {**without, "state": "pruned"}, check=True)["pruned"] == [OLD]
    host.call("absent")
    result = host.run_module(langflow_release, {**arguments, "state": "pruned"}, diff=True)
    assert (result["pruned"], result["releases"], result["active"]) == ([OLD], [NEW], NEW)
    assert host.run_module(langflow_release, {**arguments, "state": "pruned"})["changed"] is False


def test_nothing_is_removed_when_the_snapshot_cannot_be_read(host: Host) -> None:
    host.save()
    host.change()
    tamper_manifest(host)
    arguments = {"root": str(host.root), "keep": 1, "snapshot": str(host.store), "state": "pruned"}
    assert host.run_module(langflow_release, arguments)["failed"]
    assert (host.root / "releases" / OLD).is_dir()


def test_the_report_says_whether_the_database_must_be_asked(host: Host) -> None:
    arguments = {"root": str(host.root), "snapshot": str(host.store)}
    assert host.run_module(langflow_release_info, arguments)["snapshot"] == {}
    host.save()
    host.change()
    found = host.run_module(langflow_release_info, arguments)
    assert found["current"]["id"] == NEW
    # The older release does not know the schema of the newer one; the other way round it does.
    assert (found["snapshot"]["same_schema"], found["snapshot"]["installed"]) == (False, True)
    assert Path(found["snapshot"]["copies"][host.secret]).read_text(encoding="utf-8") == HIDDEN
    host.call("absent")
    host.call("saved", files=host.files, label=OLD)
    host.activate(OLD)
    assert host.run_module(langflow_release_info, arguments)["snapshot"]["same_schema"] is True
    tamper_manifest(host)
    assert host.run_module(langflow_release_info, arguments)["snapshot"]["status"] == "damaged"
