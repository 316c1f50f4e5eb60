# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The logic behind C(managed_files), on real files."""

from __future__ import annotations

import dataclasses
import errno
import os
import pathlib
import stat
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _managed_files as mf

SECRET = b"password=correct-horse-battery\n"


def mode_of(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def snapshot(root: pathlib.Path) -> dict[str, Any]:
    """Everything about a tree that a failed call has to leave as it was."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        mtime = None if path.is_dir() and not path.is_symlink() else status.st_mtime_ns
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_gid, mtime, content)
    return found


def apply(items: list[mf.Item], *validate: str, check: bool = False) -> list[mf.Outcome]:
    return mf.Transaction(check_mode=check).run(items, validate)


@pytest.fixture
def old(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file that has been there for long."""
    path = tmp_path / "old.conf"
    path.write_text("old\n", encoding="utf-8")
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18))
    return path


# --- what the user wrote ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("text", r"files\[0\]: expected a dictionary, got str"),
        ({}, r"files\[0\]: path is missing"),
        ({"path": "relative", "content": ""}, "path must be absolute"),
        ({"path": "/", "state": "absent", "recursive": True}, "path must not be /"),
        ({"path": "/etc/..", "state": "absent", "recursive": True}, "path must not be /"),
        ({"path": "/a/../../b", "content": ""}, r"contain \.\."),
        ({"path": "/a", "contents": "x"}, r"files\[0\] \(/a\): unknown key contents"),
        ({"path": "/a", "state": "touch"}, "state must be one of file, directory, link, absent"),
        ({"path": "/a"}, "needs exactly one of template, content, src, got none"),
        ({"path": "/a", "content": "x", "src": "y"}, "got content and src"),
        ({"path": "/a", "content": None}, r"files\[0\] \(/a\): content is null"),
        ({"path": "/a", "content": {"b": 1}}, "content must be text, got dict"),
        ({"path": "/a", "content": True}, "content must be text, got bool"),
        ({"path": "/a", "template": 3}, "template must be the name of a file"),
        ({"path": "/a", "content": "", "mode": 420}, "mode must be a quoted octal number"),
        ({"path": "/a", "content": "", "mode": "u=rw"}, "mode must be a quoted octal number"),
        ({"path": "/a", "content": "", "mode": "0999"}, "mode must be a quoted octal number"),
        ({"path": "/a", "content": "", "owner": True}, "owner must be a name or a number"),
        ({"path": "/a", "content": "", "group": ""}, "group must be a name or a number"),
        ({"path": "/a", "content": "", "secret": "yes"}, "secret must be true or false"),
        ({"path": "/a", "content": "", "vars": []}, "vars must be a dictionary"),
        ({"path": "/a", "content": "", "validate": "nginx -t"}, "validate must be a command with %s"),
        ({"path": "/a", "state": "link"}, "a link needs a target"),
        ({"path": "/a", "state": "link", "target": "b", "mode": "0644"}, "mode means nothing for state link"),
        ({"path": "/a", "state": "directory", "recursive": True}, "recursive means nothing for state directory"),
    ],
)
def test_bad_items_are_named(item: Any, message: str) -> None:
    with pytest.raises(mf.ItemError, match=message):
        mf.check_items([item])


@pytest.mark.parametrize("files", [None, "text", {"path": "/a"}, 3])
def test_files_must_be_a_list(files: Any) -> None:
    with pytest.raises(mf.ItemError, match="files must be a list"):
        mf.check_items(files)


def test_same_path_twice() -> None:
    directory = {"path": "/a", "state": "directory", "mode": "0750"}
    assert len(mf.check_items([directory, dict(directory)])) == 1
    with pytest.raises(mf.ItemError, match=r"files\[1\] \(/a/\): the same path stands earlier"):
        mf.check_items([directory, {**directory, "path": "/a/", "mode": "0700"}])


def test_an_absent_item_may_keep_its_other_keys() -> None:
    item = {"path": "/a", "state": "absent", "template": "a.j2", "owner": "root", "mode": "0644", "validate": "x %s"}
    assert mf.check_items([item])[0]["state"] == "absent"


def test_null_for_an_optional_key_is_as_if_it_were_not_there() -> None:
    item = {"path": "/a", "content": "", "owner": None, "mode": None, "validate": None, "template": None, "vars": None}
    assert mf.check_items([item])[0]["owner"] is None


def test_pack_and_unpack_keep_every_byte() -> None:
    items = [
        mf.Item("/a", content=bytes(range(256)), owner="root", mode=0o640, secret=True, validate="x %s"),
        mf.Item("/b", state="link", target="a"),
        mf.Item("/c", state="absent", recursive=True),
    ]
    payload = mf.pack(items, ["nginx -t"])
    assert mf.unpack(payload) == (items, ["nginx -t"])


# --- files ------------------------------------------------------------------------------------------------------------


def test_create_a_whole_tree_then_nothing_more_to_do(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "etc"
    items = [
        mf.Item(str(root), "directory", mode=0o750),
        mf.Item(str(root / "a"), content=b"a\n", mode=0o600),
        mf.Item(str(root / "b"), content=b""),
        mf.Item(str(root / "current"), "link", target="a"),
        mf.Item(str(root / "gone"), "absent"),
    ]
    outcomes = apply(items)
    assert [outcome.changed for outcome in outcomes] == [True, True, True, True, False]
    assert (root / "a").read_bytes() == b"a\n"
    assert [mode_of(root), mode_of(root / "a"), mode_of(root / "b")] == [0o750, 0o600, 0o644]
    assert os.readlink(root / "current") == "a"
    before = snapshot(tmp_path)
    assert not any(outcome.changed for outcome in apply(items))
    assert not any(outcome.changed for outcome in apply(items, check=True))
    assert snapshot(tmp_path) == before
    assert sorted(path.name for path in root.iterdir()) == ["a", "b", "current"]


@pytest.mark.parametrize(
    ("item", "changes"),
    [
        ({"content": b"new\n"}, ["content"]),
        ({"content": b"old\n", "mode": 0o600}, ["mode"]),
        ({"content": b"new\n", "mode": 0o600}, ["content", "mode"]),
        ({"content": b"old\n", "secret": True}, ["mode"]),
        ({"content": b"old\n"}, []),
        ({"content": b"old\n", "mode": 0o640}, []),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_what_differs_is_told_and_the_rest_is_kept(
    old: pathlib.Path, item: dict[str, Any], changes: list[str], check: bool
) -> None:
    before = snapshot(old.parent)
    outcome = apply([mf.Item(str(old), **item)], check=check)[0]
    assert outcome.changes == changes
    assert bool(outcome.diff) == bool(changes)
    if check or not changes:
        assert snapshot(old.parent) == before
    else:
        assert old.read_bytes() == item["content"]
        assert mode_of(old) == item.get("mode", 0o600 if item.get("secret") else 0o640)
    if "content" not in changes:
        assert old.stat().st_mtime_ns == 10**18


def test_owner_and_group(old: pathlib.Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    outcome = apply([mf.Item(str(old), content=b"old\n", owner=1, group="daemon")])[0]
    assert outcome.changes == ["owner", "group"]
    assert (old.stat().st_uid, old.stat().st_gid) == (1, 1)
    assert outcome.diff[0]["before"] == "owner: root\ngroup: root\n"
    assert not apply([mf.Item(str(old), content=b"old\n", owner="daemon", group="1")])[0].changed
    apply([mf.Item(str(old), content=b"new\n")])
    assert (old.stat().st_uid, old.stat().st_gid) == (1, 1), "what is not asked for stays"


def test_a_file_is_never_seen_half_written_or_too_open(old: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bytes, int]] = []
    rename = os.rename

    def spy(source: str, target: str) -> None:
        seen.append((pathlib.Path(source).read_bytes(), stat.S_IMODE(os.stat(source).st_mode)))
        assert os.path.dirname(source) == os.path.dirname(target)
        assert pathlib.Path(target).read_bytes() == b"old\n"
        rename(source, target)

    monkeypatch.setattr(os, "rename", spy)
    apply([mf.Item(str(old), content=SECRET, mode=0o400)])
    assert seen == [(SECRET, 0o400)]


def test_a_mount_point_is_written_in_place(old: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_source: str, _target: str) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "rename", busy)
    inode = old.stat().st_ino
    apply([mf.Item(str(old), content=b"n", mode=0o644)])
    assert (old.read_bytes(), old.stat().st_ino, mode_of(old)) == (b"n", inode, 0o644)
    assert [path.name for path in old.parent.iterdir()] == ["old.conf"]


def test_a_link_is_replaced_by_a_file(tmp_path: pathlib.Path, old: pathlib.Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(old)
    outcome = apply([mf.Item(str(link), content=b"own\n")])[0]
    assert outcome.changed
    assert not link.is_symlink()
    assert old.read_bytes() == b"old\n"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"path": "missing/file", "content": b""}, "its directory .*/missing does not exist"),
        ({"path": "missing/dir", "state": "directory"}, "its directory .*/missing does not exist"),
        ({"path": "missing/link", "state": "link", "target": "x"}, "its directory .*/missing does not exist"),
        ({"path": "dir", "content": b""}, "is a directory, a file is wanted"),
        ({"path": "dir", "state": "link", "target": "x"}, "is a directory, a link is wanted"),
        ({"path": "dir", "state": "absent"}, "only with recursive: true"),
        ({"path": "old.conf", "state": "directory"}, "is a file, a directory is wanted"),
        ({"path": "dangling", "state": "directory"}, "is a link that leads to no directory"),
        ({"path": "pipe", "content": b""}, "is a special file, a file is wanted"),
        ({"path": "new", "content": b"", "owner": "no-such-user"}, "there is no user no-such-user"),
        ({"path": "new", "content": b"", "group": "no-such-group"}, "there is no group no-such-group"),
        ({"path": "old.conf/new", "content": b""}, "does not exist"),
    ],
)
def test_what_cannot_be_done_is_named_and_undone(
    tmp_path: pathlib.Path, old: pathlib.Path, item: dict[str, Any], message: str
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    before = snapshot(tmp_path)
    wanted = mf.Item(**{**item, "path": str(tmp_path / item["path"])})
    first = mf.Item(str(tmp_path / "first"), content=b"1")
    with pytest.raises(mf.ApplyError, match=message) as caught:
        apply([first, mf.Item(str(old) + ".2", content=b"2"), wanted])
    assert str(wanted.path) in str(caught.value)
    assert caught.value.details["restored"] == sorted([first.path, str(old) + ".2"])
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "item",
    [
        {"path": "missing/file", "content": b"", "mode": 0o600},
        {"path": "missing/dir", "state": "directory"},
        {"path": "missing/link", "state": "link", "target": "x"},
        {"path": "new", "content": b"", "owner": "no-such-user", "group": "no-such-group"},
        {"path": "old.conf", "content": b"old\n", "owner": "no-such-user"},
        {"path": "dir", "state": "directory", "group": "no-such-group"},
        {"path": "new", "content": b"x", "validate": "no-such-validator %s"},
        {"path": "old.conf", "content": b"x", "validate": "no-such-validator %s"},
    ],
)
def test_check_mode_on_a_bare_host_predicts_a_change(
    tmp_path: pathlib.Path, old: pathlib.Path, item: dict[str, Any]
) -> None:
    (tmp_path / "dir").mkdir()
    before = snapshot(tmp_path)
    outcome = apply([mf.Item(**{**item, "path": str(tmp_path / item["path"])})], check=True)[0]
    assert outcome.changed
    assert snapshot(tmp_path) == before


# --- directories, links, absence --------------------------------------------------------------------------------------


def test_a_link_to_a_directory_counts_as_directory(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    outcome = apply([mf.Item(str(tmp_path / "link"), "directory", mode=0o750)])[0]
    assert outcome.changes == ["mode"]
    assert (tmp_path / "link").is_symlink()
    assert mode_of(tmp_path / "real") == 0o750


@pytest.mark.parametrize("kind", ["absent", "link", "file"])
def test_a_link_is_switched_in_one_step(tmp_path: pathlib.Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "current"
    if kind == "link":
        link.symlink_to("releases/1")
    elif kind == "file":
        link.write_bytes(b"x")
    real_unlink = os.unlink

    def no_gap(path: str, **_options: Any) -> None:
        assert str(path) != str(link), "the link must never be missing"
        real_unlink(path)

    monkeypatch.setattr(os, "unlink", no_gap)
    outcome = apply([mf.Item(str(link), "link", target="releases/2")])[0]
    assert outcome.changed
    assert os.readlink(link) == "releases/2"
    stamp = link.lstat().st_mtime_ns
    assert not apply([mf.Item(str(link), "link", target="releases/2")])[0].changed
    assert link.lstat().st_mtime_ns == stamp


def test_absent(tmp_path: pathlib.Path, old: pathlib.Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tree)
    items = [
        mf.Item(str(tmp_path / "link"), "absent", recursive=True),
        mf.Item(str(old), "absent"),
        mf.Item(str(tmp_path / "never"), "absent"),
        mf.Item(str(tree), "absent", recursive=True),
    ]
    assert [outcome.changed for outcome in apply(items, check=True)] == [True, True, False, True]
    assert old.exists()
    assert [outcome.changed for outcome in apply(items)] == [True, True, False, True]
    assert list(tmp_path.iterdir()) == []


# --- validation and putting back --------------------------------------------------------------------------------------


def messy(root: pathlib.Path, old: pathlib.Path) -> list[mf.Item]:
    """One item for each kind of change."""
    (root / "link").symlink_to("old.conf")
    (root / "tree").mkdir()
    (root / "tree" / "file").write_bytes(b"x")
    (root / "attributes").write_bytes(b"same")
    (root / "dir").mkdir(mode=0o700)
    (root / "becomes-link").write_bytes(b"was a file")
    return [
        mf.Item(str(old), content=b"new\n", mode=0o600),
        mf.Item(str(root / "created"), content=SECRET, secret=True),
        mf.Item(str(root / "made"), "directory"),
        mf.Item(str(root / "made" / "inside"), content=b"y"),
        mf.Item(str(root / "link"), "link", target="elsewhere"),
        mf.Item(str(root / "becomes-link"), "link", target="elsewhere"),
        mf.Item(str(root / "tree"), "absent", recursive=True),
        mf.Item(str(root / "attributes"), content=b"same", mode=0o600),
        mf.Item(str(root / "dir"), "directory", mode=0o755),
    ]


def test_a_failed_list_validation_puts_everything_back(tmp_path: pathlib.Path, old: pathlib.Path) -> None:
    items = messy(tmp_path, old)
    before = snapshot(tmp_path)
    script = f"test -e {tmp_path}/made/inside && ! test -e {tmp_path}/tree && echo wrong directive >&2 && exit 3"
    with pytest.raises(mf.ApplyError, match="(?s)validation failed: .* ended with 3: wrong directive") as caught:
        apply(items, "true", f"sh -c '{script}'", "touch /never/reached")
    assert snapshot(tmp_path) == before
    assert caught.value.details["rc"] == 3
    assert caught.value.details["not_restored"] == []
    assert set(caught.value.details["restored"]) == {item.path for item in items}


def test_a_crash_in_the_middle_puts_everything_back(
    tmp_path: pathlib.Path, old: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = messy(tmp_path, old)
    before = snapshot(tmp_path)
    monkeypatch.setattr(mf.Transaction, "_validate", lambda *_arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        apply(items, "true")
    assert snapshot(tmp_path) == before


def test_what_cannot_be_put_back_is_told(
    tmp_path: pathlib.Path, old: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = mf.Transaction()

    def fail(*_arguments: Any) -> None:
        monkeypatch.setattr(transaction, "_write", lambda *_a, **_k: (_ for _ in ()).throw(OSError(28, "disk full")))
        raise mf.ApplyError("no")

    monkeypatch.setattr(transaction, "_validate", fail)
    with pytest.raises(mf.ApplyError) as caught:
        transaction.run([mf.Item(str(old), content=b"new\n")], ["true"])
    assert caught.value.details["not_restored"] == [f"{old}: disk full"]


def test_list_validation_runs_only_after_a_change(tmp_path: pathlib.Path, old: pathlib.Path) -> None:
    marker = tmp_path / "ran"
    apply([mf.Item(str(old), content=b"old\n")], f"touch {marker}")
    assert not marker.exists()
    apply([mf.Item(str(old), content=b"new\n")], f"touch {marker}", check=True)
    assert not marker.exists()
    apply([mf.Item(str(old), content=b"new\n")], f"touch {marker}")
    assert marker.exists()


def test_a_missing_validator(old: pathlib.Path) -> None:
    with pytest.raises(mf.ApplyError, match="no-such-validator is not installed"):
        apply([mf.Item(str(old), content=b"new\n")], "no-such-validator -t")
    assert old.read_bytes() == b"old\n"


def test_a_file_is_validated_before_it_is_touched(old: pathlib.Path) -> None:
    inode = old.stat().st_ino
    command = f'sh -c \'test "$(basename $0)" = old.conf && grep -q old {old} && grep -q new "$0" && exit 7\' %s'
    with pytest.raises(mf.ApplyError, match="ended with 7: no output"):
        apply([mf.Item(str(old), content=b"new\n", validate=command)])
    assert old.stat().st_ino == inode
    assert apply([mf.Item(str(old), content=b"new\n", validate="grep new %s")])[0].changed


def test_check_mode_validates_an_existing_file_when_it_can(old: pathlib.Path) -> None:
    bad = mf.Item(str(old), content=b"new\n", validate="grep impossible %s")
    with pytest.raises(mf.ApplyError, match="validation failed"):
        apply([bad], check=True)
    transaction = mf.Transaction(check_mode=True)
    transaction.run([mf.Item(str(old) + ".first", content=b""), bad])
    assert transaction.skipped == ["grep impossible %s"], "what it needs may be missing until the first item is there"


# --- what may be shown ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("existing", [None, b"password=the-previous-one\n"])
def test_a_secret_is_in_no_diff(tmp_path: pathlib.Path, existing: bytes | None) -> None:
    path = tmp_path / "secret"
    if existing is not None:
        path.write_bytes(existing)
    outcome = apply([mf.Item(str(path), content=SECRET, secret=True)])[0]
    assert outcome.diff[0]["after"] == f"content of a secret file {'created' if existing is None else 'changed'}\n"
    assert "correct" not in repr(outcome)
    assert "previous" not in repr(outcome)
    assert mode_of(path) == 0o600


@pytest.mark.parametrize("where", ["list", "item"])
@pytest.mark.parametrize(
    "content",
    [
        SECRET,
        b'{"key": "correct-horse-battery"}',
        b"requirepass correct-horse-battery",
        b"url=x://u:correct-horse-battery@h/",
    ],
)
def test_a_secret_is_in_no_message_of_a_validator(tmp_path: pathlib.Path, where: str, content: bytes) -> None:
    path = tmp_path / "secret"
    item = mf.Item(str(path), content=content, secret=True)
    commands: list[str] = []
    if where == "item":
        item = dataclasses.replace(item, validate="sh -c 'echo line 1: bad; cat \"$0\"; exit 1' %s")
    else:
        commands = [f"sh -c 'echo line 1: bad; cat {path} >&2; exit 1'"]
    with pytest.raises(mf.ApplyError, match="line 1: bad") as caught:
        apply([item], *commands)
    assert "correct-horse" not in str(caught.value) + repr(caught.value.details)
    assert "battery" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"\0\1", "2 bytes that are not text\n"),
        (b"\xff\xfe", "2 bytes that are not text\n"),
        (b"x" * 200_000, "200000 bytes, too many to show\n"),
    ],
)
def test_a_diff_shows_no_large_or_binary_file(old: pathlib.Path, content: bytes, shown: str) -> None:
    outcome = apply([mf.Item(str(old), content=content)], check=True)[0]
    assert outcome.diff == [{"before_header": str(old), "after_header": str(old), "before": "old\n", "after": shown}]


def test_new_paths_get_their_label(tmp_path: pathlib.Path) -> None:
    class Labels:
        seen: list[str] = []

        def set_default_selinux_context(self, path: str, changed: bool) -> bool:
            self.seen.append(path)
            return changed

    mf.Transaction(Labels()).run(
        [mf.Item(str(tmp_path / "d"), "directory"), mf.Item(str(tmp_path / "d/f"), content=b"")]
    )
    assert Labels.seen == [str(tmp_path / "d"), str(tmp_path / "d/f")]


def test_extended_attributes_survive_a_new_content(old: pathlib.Path) -> None:
    try:
        os.setxattr(old, "user.note", b"kept")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    apply([mf.Item(str(old), content=b"new\n")])
    assert os.getxattr(old, "user.note") == b"kept"


def test_a_validator_that_hangs(old: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mf, "COMMAND_TIMEOUT", 0.05)
    with pytest.raises(mf.ApplyError, match="validation failed: sleep did not end within 0.05 s"):
        apply([mf.Item(str(old), content=b"new\n")], "sleep 5")
    assert old.read_bytes() == b"old\n"


def test_items_are_applied_in_the_order_given(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    original: Callable[..., mf.Outcome] = mf.Transaction._one

    def spy(self: mf.Transaction, item: mf.Item) -> mf.Outcome:
        order.append(item.path)
        return original(self, item)

    monkeypatch.setattr(mf.Transaction, "_one", spy)
    paths = [str(tmp_path / name) for name in ("b", "a", "c")]
    apply([mf.Item(path, content=b"") for path in paths])
    assert order == paths
