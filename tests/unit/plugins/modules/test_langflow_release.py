# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module langflow_release: build, activate, prune, remove and report releases."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _release
from ansible_collections.flowfleet.langflow.plugins.modules import langflow_release, langflow_release_info

Run = Callable[..., dict[str, Any]]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LOCK = "langflow-base==1.13.0 \\\n    --hash=sha256:00\nsetuptools==83.0.0 \\\n    --hash=sha256:11\n"

# Stands in for the interpreter and for uv: it notes what it was asked and makes what they would make.
TOOL = """#!{python}
import json, os, pathlib, shutil, sys
arguments, log = sys.argv[1:], pathlib.Path({log!r})
keep = {{name: os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL", "PYTHONPATH")}}
with log.open("a") as handle:
    handle.write(json.dumps([pathlib.Path(sys.argv[0]).name, arguments, keep]) + "\\n")
if arguments[:2] == ["-I", "-c"]:
    print({version!r})
elif arguments[:2] == ["-m", "venv"]:
    folder = pathlib.Path(arguments[2], "bin")
    folder.mkdir(parents=True)
    for name in ("python", "uv"):
        shutil.copy(sys.argv[0], folder / name)
elif arguments[0] == "venv":
    scripts = pathlib.Path(arguments[-1], "lib", "python3", "site-packages", "langflow", "alembic", "versions")
    scripts.mkdir(parents=True)
    folder = pathlib.Path(arguments[-1], "bin")
    folder.mkdir()
    shutil.copy(sys.argv[0], folder / "python")
    (scripts / "a.py").write_text('revision: str = "a1"\\ndown_revision: str | None = None\\n')
    (scripts / "b.py").write_text('revision = "b2"\\ndown_revision = ("a1",)\\n')
elif arguments[0] == "pip" and os.path.exists({fail!r}):
    print("could not reach https://user:token@index.example.com/simple", file=sys.stderr)
    sys.exit(2)
"""


@pytest.fixture
def host(tmp_path: Path) -> dict[str, Any]:
    """A host with a fake interpreter; gives the arguments of a build."""
    tool, log, fail = tmp_path / "python3", tmp_path / "log", tmp_path / "fail"
    tool.write_text(
        TOOL.format(python=sys.executable, log=str(log), version=f"{PYTHON}.1", fail=str(fail)), encoding="utf-8"
    )
    tool.chmod(0o755)
    lock, uv_lock = tmp_path / "lock.txt", tmp_path / "uv.txt"
    lock.write_text(LOCK, encoding="utf-8")
    uv_lock.write_text("uv==0.1 --hash=sha256:22\n", encoding="utf-8")
    return {
        "root": str(tmp_path / "langflow"),
        "version": "1.13.0",
        "requirements": str(lock),
        "requirements_sha256": hashlib.sha256(LOCK.encode()).hexdigest(),
        "uv_requirements": str(uv_lock),
        "python": str(tool),
        "python_version": PYTHON,
        "index": "https://user:token@index.example.com/simple",
        "cache_dir": str(tmp_path / "cache"),
        "min_free_mb": 0,
    }


def calls(host: dict[str, Any]) -> list[Any]:
    log = Path(host["python"]).with_name("log")
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def fake(root: str, name: str, built_at: int) -> Path:
    path = Path(root, "releases", name)
    path.mkdir(parents=True)
    marker = {"id": name, "built_at": built_at, "version": name.split("-")[0]}
    (path / _release.MARKER).write_text(json.dumps(marker), encoding="utf-8")
    return path


NAMES = [f"1.{minor}.0-{minor:08d}-py313" for minor in (10, 11, 12, 13)]


# --- building ---------------------------------------------------------------------------------------------------------


def test_a_release_is_built_once(run_module: Run, host: dict[str, Any]) -> None:
    first = run_module(langflow_release, host)
    assert first["changed"]
    release = first["release"]
    assert release["id"] == f"1.13.0-{host['requirements_sha256'][:8]}-py{PYTHON.replace('.', '')}"
    assert (release["installed"], release["active"], release["schema_head"]) == (True, False, "b2")
    marker = json.loads(Path(release["path"], "RELEASE.json").read_text(encoding="utf-8"))
    assert marker["schema_revisions"] == ["a1", "b2"]
    before = len(calls(host))
    again = run_module(langflow_release, host)
    assert not again["changed"]
    assert len(calls(host)) == before


def test_check_mode_builds_nothing(run_module: Run, host: dict[str, Any]) -> None:
    result = run_module(langflow_release, host, check=True, diff=True)
    assert result["changed"]
    assert result["diff"]["after"].strip() == result["release"]["id"]
    assert not Path(host["root"]).exists()
    assert calls(host) == []


def test_files_are_asked_for_only_when_they_are_needed(run_module: Run, host: dict[str, Any]) -> None:
    without = {key: value for key, value in host.items() if key not in ("requirements", "uv_requirements")}
    assert run_module(langflow_release, without)["files_needed"]
    run_module(langflow_release, host)
    assert "files_needed" not in run_module(langflow_release, without)


def test_an_interrupted_build_is_started_again(run_module: Run, host: dict[str, Any]) -> None:
    fail = Path(host["python"]).with_name("fail")
    fail.touch()
    failed = run_module(langflow_release, host)
    assert failed["failed"]
    assert "status 2" in failed["msg"]
    assert run_module(langflow_release_info, {"root": host["root"]})["releases"] == []
    fail.unlink()
    assert run_module(langflow_release, host)["release"]["installed"]


def test_credentials_of_the_index_are_nowhere(run_module: Run, host: dict[str, Any]) -> None:
    Path(host["python"]).with_name("fail").touch()
    failed = run_module(langflow_release, host)
    assert "token" not in failed["msg"]
    assert "***@index.example.com" in failed["msg"]
    assert not [arguments for _name, arguments, _environment in calls(host) if "token" in json.dumps(arguments)]


def test_everything_installed_is_checked_against_the_lock(
    run_module: Run, host: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    run_module(langflow_release, host)
    installs = [(arguments, environment) for name, arguments, environment in calls(host) if "install" in arguments]
    assert len(installs) == 3  # uv itself, the build tools, everything
    for arguments, environment in installs:
        assert "--require-hashes" in arguments
        assert environment["UV_DEFAULT_INDEX"] == environment["PIP_INDEX_URL"] == host["index"]
        assert environment["PYTHONPATH"] is None
    assert "--no-build-isolation" in installs[-1][0]


def test_a_wheelhouse_shuts_the_index_out(run_module: Run, host: dict[str, Any], tmp_path: Path) -> None:
    archive = tmp_path / "wheels.tar"
    with tarfile.open(archive, "w") as packed:
        info = tarfile.TarInfo("../../etc/evil-1.0-py3-none-any.whl")
        info.size = 3
        packed.addfile(info, io.BytesIO(b"abc"))
    run_module(langflow_release, {**host, "wheelhouse": str(archive)})
    for _name, arguments, _environment in calls(host):
        if "install" in arguments:
            assert "--no-index" in arguments


def test_a_wheelhouse_with_another_checksum_is_refused(run_module: Run, host: dict[str, Any], tmp_path: Path) -> None:
    archive = tmp_path / "wheels.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("x-1.0-py3-none-any.whl", b"abc")
    failed = run_module(langflow_release, {**host, "wheelhouse": str(archive), "wheelhouse_sha256": "0" * 64})
    assert "checksum" in failed["msg"]
    assert calls(host) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"python_version": "3.99"}, "is Python"),
        ({"version": "1.14.0"}, "the lock pins langflow-base 1.13.0"),
        ({"min_free_mb": 10**9}, "MiB free"),
        ({"requirements_sha256": "0" * 64}, "changed while"),
        ({"version": "../x"}, "cannot name a release"),
        ({"id": "../../etc"}, "is not the id of a release"),
    ],
)
def test_a_build_that_cannot_be_right_is_refused(
    run_module: Run, host: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    assert message in run_module(langflow_release, {**host, **change})["msg"]


def test_an_archive_cannot_write_outside_its_directory(tmp_path: Path) -> None:
    archive, target = tmp_path / "a.tar", tmp_path / "in"
    target.mkdir()
    with tarfile.open(archive, "w") as packed:
        for name in ("../out.whl", "/abs.whl", "sub/in.whl", "script.sh"):
            packed.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
        link = tarfile.TarInfo("link.whl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(link)
    assert _release.unpack_wheelhouse(archive, target) == 3
    assert sorted(path.name for path in target.iterdir()) == ["abs.whl", "in.whl", "out.whl"]
    assert not (tmp_path / "out.whl").exists()


def test_a_tar_that_ends_with_a_wheel_is_still_a_tar(tmp_path: Path) -> None:
    wheel, target = io.BytesIO(), tmp_path / "in"
    target.mkdir()
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("inner.py", b"x")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("x-1.0-py3-none-any.whl")
        info.size = len(wheel.getvalue())
        archive.addfile(info, io.BytesIO(wheel.getvalue()))
    assert zipfile.is_zipfile(tmp_path / "a.tar")
    assert _release.unpack_wheelhouse(tmp_path / "a.tar", target) == 1


def test_anything_else_is_not_a_wheelhouse(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("hello", encoding="utf-8")
    with pytest.raises(_release.ReleaseError, match="neither a tar nor a zip"):
        _release.unpack_wheelhouse(tmp_path / "a", tmp_path)


# --- packages that come as files --------------------------------------------------------------------------------------


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A directory with one package."""
    package = tmp_path / "sources" / "fleet_tool"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("import json\n", encoding="utf-8")
    (package / "data" / "x.json").write_text("{}", encoding="utf-8")
    return package.parent


def packed(sources: Path, name: str = "sources.zip") -> dict[str, str]:
    archive = sources.parent / name
    return {"sources_sha256": _release.pack_sources(sources, archive), "sources": str(archive)}


def test_the_checksum_of_sources_is_that_of_names_and_contents(sources: Path) -> None:
    first = packed(sources)["sources_sha256"]
    (sources / "fleet_tool" / "__pycache__").mkdir()
    (sources / "fleet_tool" / "__pycache__" / "a.pyc").write_bytes(b"x")
    os.utime(sources / "fleet_tool" / "__init__.py", (1, 1))
    (sources / "fleet_tool" / "__init__.py").chmod(0o755)
    assert packed(sources, "again.zip")["sources_sha256"] == first
    (sources / "fleet_tool" / "data" / "x.json").rename(sources / "fleet_tool" / "data" / "y.json")
    assert packed(sources, "renamed.zip")["sources_sha256"] != first


def test_sources_are_part_of_the_release_and_of_its_id(run_module: Run, host: dict[str, Any], sources: Path) -> None:
    plain = run_module(langflow_release, host)["release"]["id"]
    result = run_module(langflow_release, {**host, **packed(sources)})
    assert result["changed"]
    assert result["release"]["id"] != plain
    path = Path(result["release"]["path"])
    assert (path / "lib/python3/site-packages/fleet_tool/data/x.json").read_text(encoding="utf-8") == "{}"
    # What is there is proven to compile and to find its imports.
    assert [arguments for _name, arguments, _environment in calls(host) if "import fleet_tool" in arguments]
    (sources / "fleet_tool" / "__init__.py").write_text("import re\n", encoding="utf-8")
    assert run_module(langflow_release, {**host, **packed(sources)})["release"]["id"] != result["release"]["id"]


def test_sources_are_asked_for_only_when_they_are_needed(run_module: Run, host: dict[str, Any], sources: Path) -> None:
    arguments = {**host, **packed(sources)}
    without = {key: value for key, value in arguments.items() if key != "sources"}
    assert run_module(langflow_release, without)["files_needed"]
    run_module(langflow_release, arguments)
    assert "files_needed" not in run_module(langflow_release, without)


def test_sources_that_are_not_what_was_announced_are_refused(
    run_module: Run, host: dict[str, Any], sources: Path
) -> None:
    arguments = {**host, **packed(sources)}
    assert "changed while" in run_module(langflow_release, {**arguments, "sources_sha256": "0" * 64})["msg"]
    assert calls(host) == []


@pytest.mark.parametrize("name", ["loose.py", ".hidden/x.py"])
def test_only_packages_are_sources(sources: Path, tmp_path: Path, name: str) -> None:
    (sources / name).parent.mkdir(exist_ok=True)
    (sources / name).write_text("", encoding="utf-8")
    with pytest.raises(_release.ReleaseError, match="must be packages"):
        _release.unpack_sources(Path(packed(sources)["sources"]), tmp_path / "target")


def test_sources_do_not_replace_a_package_of_the_lock(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "target" / "fleet_tool").mkdir(parents=True)
    with pytest.raises(_release.ReleaseError, match="named fleet_tool"):
        _release.unpack_sources(Path(packed(sources)["sources"]), tmp_path / "target")


def test_an_empty_directory_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(_release.ReleaseError, match="holds no file"):
        _release.pack_sources(tmp_path, tmp_path / "x.zip")


def test_another_program_has_no_schema(run_module: Run, host: dict[str, Any]) -> None:
    refused = run_module(langflow_release, {**host, "package": "celery", "version": "1.13.0"})
    assert "the lock does not pin celery" in refused["msg"]
    release = run_module(langflow_release, {**host, "package": "setuptools", "version": "83.0.0", "schema": False})
    assert release["release"]["installed"]
    assert "schema_head" not in release["release"]


# --- activating, pruning, removing ------------------------------------------------------------------------------------


def test_the_link_is_flipped_and_old_releases_go(
    run_module: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(tmp_path)
    for age, name in enumerate(NAMES):
        fake(root, name, age)
    (tmp_path / "releases" / "leftover").mkdir()
    monkeypatch.setattr(_release, "in_use", lambda layout: {NAMES[0]})
    arguments = {"root": root, "state": "active", "id": NAMES[2], "keep": 2}
    predicted = run_module(langflow_release, arguments, check=True)
    assert predicted["changed"]
    assert not (tmp_path / "current").exists()
    result = run_module(langflow_release, arguments, diff=True)
    assert os.readlink(tmp_path / "current") == f"releases/{NAMES[2]}"
    # Two are kept: the active one and the newest other; one is in use.
    assert result["pruned"] == [NAMES[1], "leftover"]
    assert sorted(result["releases"]) == sorted([NAMES[0], NAMES[2], NAMES[3]])
    assert run_module(langflow_release, {"root": root, "state": "active", "id": NAMES[2]})["changed"] is False


def test_an_incomplete_release_is_never_activated(run_module: Run, tmp_path: Path) -> None:
    (tmp_path / "releases" / NAMES[0]).mkdir(parents=True)
    failed = run_module(langflow_release, {"root": str(tmp_path), "state": "active", "id": NAMES[0]})
    assert "not completely installed" in failed["msg"]
    assert not (tmp_path / "current").is_symlink()


def test_what_is_needed_is_not_removed(run_module: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(tmp_path)
    for age, name in enumerate(NAMES):
        fake(root, name, age)
    run_module(langflow_release, {"root": root, "state": "active", "id": NAMES[0]})
    monkeypatch.setattr(_release, "in_use", lambda layout: {NAMES[1]})
    assert "active" in run_module(langflow_release, {"root": root, "state": "absent", "id": NAMES[0]})["msg"]
    assert "in use" in run_module(langflow_release, {"root": root, "state": "absent", "id": NAMES[1]})["msg"]
    assert run_module(langflow_release, {"root": root, "state": "absent", "id": NAMES[2]}, check=True)["changed"]
    assert run_module(langflow_release, {"root": root, "state": "absent", "id": NAMES[2]})["changed"]
    assert not run_module(langflow_release, {"root": root, "state": "absent", "id": NAMES[2]})["changed"]


def test_processes_tell_which_release_they_use(tmp_path: Path) -> None:
    layout = _release.Layout(tmp_path / "langflow")
    proc = tmp_path / "proc"
    for pid, (source, content) in {
        "1": ("cmdline", f"{layout.releases}/{NAMES[0]}/bin/python\0-x\0"),
        "2": ("maps", f"7f00-7f01 r-xp 0 00:00 1 {layout.releases}/{NAMES[1]}/lib/x.so\n"),
        "self": ("cmdline", f"{layout.releases}/{NAMES[2]}/bin/python\0"),
    }.items():
        (proc / pid).mkdir(parents=True)
        (proc / pid / source).write_text(content, encoding="utf-8")
    assert _release.in_use(layout, proc) == {NAMES[0], NAMES[1]}


def test_a_report_changes_nothing(run_module: Run, tmp_path: Path) -> None:
    report = run_module(langflow_release_info, {"root": str(tmp_path / "none"), "processes": True})
    assert (report["changed"], report["releases"], report["active"], report["in_use"]) == (False, [], None, [])
    assert not (tmp_path / "none").exists()


def test_a_report_tells_about_one_release(run_module: Run, tmp_path: Path) -> None:
    fake(str(tmp_path), f"1.13.0-{'0' * 8}-py313", 1)
    arguments = {"root": str(tmp_path), "version": "1.13.0", "python_version": "3.13"}
    assert run_module(langflow_release_info, {**arguments, "requirements_sha256": "0" * 64})["release"]["installed"]
    assert not run_module(langflow_release_info, {**arguments, "requirements_sha256": "1" * 64})["release"]["installed"]
    assert run_module(langflow_release_info, arguments)["failed"]


# --- reading Alembic scripts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('revision = "b"\ndown_revision = "a"\n', ("b", ("a",))),
        ('revision: str = "b"\ndown_revision: str | None = None\n', ("b", ())),
        ('revision = "c"\ndown_revision: tuple = ("a", "b")\n', ("c", ("a", "b"))),
        ("import os\n", (None, ())),
        ('revision = os.environ["X"]\n', (None, ())),
    ],
)
def test_a_script_is_read_without_running_it(source: str, expected: Any) -> None:
    assert _release.parse_revision(source) == expected


def test_only_the_owner_writes_the_marker(run_module: Run, host: dict[str, Any]) -> None:
    path = Path(run_module(langflow_release, host)["release"]["path"])
    assert stat.S_IMODE((path / "RELEASE.json").stat().st_mode) == 0o644
    assert stat.S_IMODE(Path(host["cache_dir"]).stat().st_mode) == 0o700
