# Copyright (c) The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Versioned, immutable releases of Python programs: build, activate, prune, report. Standard library only."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

MARKER = "RELEASE.json"
ID_PATTERN = re.compile(r"^[0-9][0-9A-Za-z.+_]*-[0-9a-f]{8}-py[0-9]{2,4}$")
# The options with which modules are told which release is meant; documented in the fragment of the same name.
OPTIONS: dict[str, dict[str, Any]] = {
    "root": {"type": "path", "default": "/opt/langflow"},
    "id": {"type": "str"},
    "version": {"type": "str"},
    "requirements": {"type": "path"},
    "requirements_sha256": {"type": "str"},
    "sources": {"type": "path"},
    "sources_sha256": {"type": "str"},
    "python_version": {"type": "str"},
    "snapshot": {"type": "path"},
}
_ARTIFACT_SUFFIXES = (".whl", ".tar.gz", ".zip")
_BYPRODUCTS = {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
_WRITE_MODES = {"mode": 0o644, "dirs": 0o755}


class ReleaseError(Exception):
    """A release could not be built, activated or removed."""


@dataclass(frozen=True)
class Layout:
    """Where everything of one installation lives."""

    root: Path

    @property
    def releases(self) -> Path:
        """Directory that holds one directory per release."""
        return self.root / "releases"

    @property
    def tools(self) -> Path:
        """Directory of the build tools."""
        return self.root / "tools"

    @property
    def current(self) -> Path:
        """Symbolic link to the active release."""
        return self.root / "current"

    def release(self, release_id: str) -> Path:
        """Directory of one release."""
        return self.releases / release_id


@dataclass(frozen=True)
class BuildPlan:
    """Everything that decides what a release contains and where it is fetched from."""

    version: str
    lock_sha256: str
    requirements: Path
    uv_requirements: Path
    python: str
    python_version: str
    package: str = "langflow-base"
    schema: bool = True
    sources: Path | None = None
    sources_sha256: str | None = None
    index: str = ""
    ca_file: str = ""
    cache_dir: str = ""
    wheelhouse: Path | None = None
    min_free_mb: int = 0
    timeout: int = 1800


def release_id(version: str, lock_sha256: str, python_version: str, sources_sha256: str | None = None) -> str:
    """Name of a release: version, start of a checksum of what is in it (the lock, and sources of its own), Python."""
    major, minor = python_version.split(".")[:2]
    content = lock_sha256
    if sources_sha256:
        content = hashlib.sha256(f"{lock_sha256} {sources_sha256}".encode()).hexdigest()
    name = f"{version}-{content[:8]}-py{major}{minor}"
    if not ID_PATTERN.match(name):
        raise ReleaseError(f"cannot name a release from version {version!r} and Python {python_version!r}")
    return name


def named(params: Mapping[str, Any]) -> str | None:
    """The id of the release that these options mean, if they mean one."""
    name: str | None = params["id"]
    if not name and params["version"]:
        if not (params["python_version"] and params["requirements_sha256"]):
            raise ReleaseError("version needs requirements and python_version to name a release")
        name = release_id(
            params["version"], params["requirements_sha256"], params["python_version"], params["sources_sha256"]
        )
    if name and not ID_PATTERN.match(name):
        raise ReleaseError(f"{name!r} is not the id of a release")
    return name or None


def pinned_version(requirements: str, name: str) -> str | None:
    """The version of package C(name) that a lock pins."""
    match = re.search(rf"^{re.escape(name)}(?:\[[^\]]*\])?==([^\s;\\]+)", requirements, re.MULTILINE)
    return match.group(1) if match else None


def parse_revision(source: str) -> tuple[str | None, tuple[str, ...]]:
    """C(revision) and C(down_revision) of one Alembic script, without executing it."""
    found: dict[str, Any] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        if node.value is None:
            continue
        for name in {"revision", "down_revision"}.intersection(names):
            with contextlib.suppress(ValueError):
                found[name] = ast.literal_eval(node.value)
    down = found.get("down_revision")
    parents = (down,) if isinstance(down, str) else tuple(down or ())
    return found.get("revision"), parents


def schema_graph(directory: Path) -> tuple[list[str], list[str]]:
    """All revisions and the heads of the Alembic scripts in C(directory)."""
    revisions: set[str] = set()
    parents: set[str] = set()
    for script in sorted(directory.glob("*.py")):
        revision, down = parse_revision(script.read_text(encoding="utf-8"))
        if revision:
            revisions.add(revision)
            parents.update(down)
    return sorted(revisions), sorted(revisions - parents)


def read_marker(path: Path) -> dict[str, Any] | None:
    """The description that a completely built release carries, or None."""
    try:
        data = json.loads((path / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and data.get("id") == path.name else None


def installed(layout: Layout) -> list[dict[str, Any]]:
    """Every complete release, newest first."""
    try:
        candidates = [path for path in layout.releases.iterdir() if path.is_dir() and not path.is_symlink()]
    except FileNotFoundError:
        return []
    markers = [marker for marker in map(read_marker, candidates) if marker]
    return sorted(markers, key=lambda marker: (marker.get("built_at", 0), marker["id"]), reverse=True)


def active_id(layout: Layout) -> str | None:
    """The release that the C(current) link names."""
    try:
        return Path(os.readlink(layout.current)).name
    except OSError:
        return None


def describe(layout: Layout, name: str) -> dict[str, Any]:
    """The public description of one release."""
    marker = read_marker(layout.release(name))
    described: dict[str, Any] = {
        "id": name,
        "path": str(layout.release(name)),
        "installed": marker is not None,
        "active": active_id(layout) == name,
    }
    for key in ("version", "schema_head", "build_seconds", "python", "lock_sha256", "sources_sha256"):
        if marker and key in marker:
            described[key] = marker[key]
    return described


def report(layout: Layout, name: str | None) -> dict[str, Any]:
    """What is installed, and the release in question."""
    active = active_id(layout)
    found: dict[str, Any] = {
        "active": active,
        "current": describe(layout, active) if active else {},
        "releases": [marker["id"] for marker in installed(layout)],
    }
    if name:
        found["release"] = describe(layout, name)
    return found


def in_use(layout: Layout, proc: Path = Path("/proc")) -> set[str]:
    """Releases that a running process was started from or has mapped."""
    prefix = os.fsencode(f"{layout.releases}/")
    found: set[str] = set()
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        for source in ("cmdline", "maps"):
            try:
                content = (process / source).read_bytes()
            except OSError:
                continue
            for part in content.split(prefix)[1:]:
                found.add(os.fsdecode(re.split(rb"[/\0\s]", part, maxsplit=1)[0]))
    return found


@contextlib.contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Only one build, switch or removal at a time."""
    layout.root.mkdir(mode=_WRITE_MODES["dirs"], parents=True, exist_ok=True)
    with open(layout.root / ".lock", "a", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def activate(layout: Layout, name: str) -> None:
    """Let C(current) name this release, in one atomic step."""
    if not read_marker(layout.release(name)):
        raise ReleaseError(f"release {name} is not completely installed under {layout.releases}")
    staged = layout.root / f".current.{os.getpid()}"
    staged.unlink(missing_ok=True)
    os.symlink(f"releases/{name}", staged)
    os.replace(staged, layout.current)


def prunable(layout: Layout, keep: int, protect: set[str]) -> list[str]:
    """Complete releases beyond the C(keep) newest ones, and leftovers of interrupted builds; never a protected one."""
    if not layout.releases.is_dir():
        return []
    ordered = [marker["id"] for marker in installed(layout)]
    active = active_id(layout)
    if active in ordered:
        ordered.insert(0, ordered.pop(ordered.index(active)))
    leftovers = {path.name for path in layout.releases.iterdir() if path.is_dir()} - set(ordered)
    return sorted((set(ordered[max(keep, 1) :]) | leftovers) - protect - {active})


def remove(layout: Layout, name: str) -> None:
    """Remove one release; its marker goes first, so that an interrupted removal never looks complete."""
    path = layout.release(name)
    (path / MARKER).unlink(missing_ok=True)
    shutil.rmtree(path)


def redact(text: str, url: str) -> str:
    """Take the credentials of the package index out of a tool's output."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return text
    shown = urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))
    secret = parts.netloc.rpartition("@")[0]
    return text.replace(url, shown).replace(secret, "***")


def unpack_wheelhouse(archive: Path, target: Path) -> int:
    """Copy every package file of a tar or zip archive flat into C(target); paths in the archive are ignored."""

    def keep(name: str, stream: IO[bytes] | None) -> int:
        base = os.path.basename(name)
        if stream is None or not base.endswith(_ARTIFACT_SUFFIXES):
            return 0
        with stream, open(target / base, "wb") as handle:
            shutil.copyfileobj(stream, handle, 1024 * 1024)
        return 1

    # First tar: a tar archive that ends with a wheel looks like a zip archive, because a wheel is one.
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as packed:
            return sum(keep(item.name, packed.extractfile(item)) for item in packed if item.isfile())
    if not zipfile.is_zipfile(archive):
        raise ReleaseError(f"{archive} is neither a tar nor a zip archive")
    with zipfile.ZipFile(archive) as opened:
        return sum(keep(item.filename, opened.open(item)) for item in opened.infolist() if not item.is_dir())


def pack_sources(directory: Path, archive: Path) -> str:
    """Pack the files of C(directory), without caches; the checksum depends on their names and contents only."""
    found = {path.relative_to(directory): path for path in directory.rglob("*") if path.is_file()}
    files = {name.as_posix(): path for name, path in found.items() if not _BYPRODUCTS.intersection(name.parts)}
    if not files:
        raise ReleaseError(f"{directory} holds no file")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name)  # with a fixed date
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            packed.writestr(entry, files[name].read_bytes())
    return file_sha256(archive)


def unpack_sources(archive: Path, target: Path) -> list[str]:
    """Put packed sources below C(target), where nothing of them may lie yet; return the names of the packages."""
    with zipfile.ZipFile(archive) as packed:
        names = [Path(item).parts for item in packed.namelist()]
        if any(len(parts) < 2 or ".." in parts or parts[0].startswith(("/", ".")) for parts in names):
            raise ReleaseError("the sources must be packages, each in a directory of its own")
        packages = sorted({parts[0] for parts in names})
        if taken := [name for name in packages if (target / name).exists()]:
            raise ReleaseError(f"a package of the lock is named {', '.join(taken)}, like one of the sources")
        packed.extractall(target)
    for name in packages:
        for path in (target / name, *(target / name).rglob("*")):
            path.chmod(_WRITE_MODES["dirs"] if path.is_dir() else _WRITE_MODES["mode"])
    return packages


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1024 * 1024):
            digest.update(block)
    return digest.hexdigest()


class Builder:
    """Build one release at its final path; the marker is written last."""

    def __init__(self, layout: Layout, plan: BuildPlan, environ: Mapping[str, str]) -> None:
        self.layout = layout
        self.plan = plan
        self.timings: dict[str, float] = {}
        self._environ = self._environment(environ)
        self._log: list[str] = []

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        dropped = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PIP_FIND_LINKS", "UV_FIND_LINKS"}
        result = {key: value for key, value in environ.items() if key not in dropped}
        result.update(
            LC_ALL="C.UTF-8",
            PIP_DISABLE_PIP_VERSION_CHECK="1",
            PIP_NO_INPUT="1",
            UV_NO_PROGRESS="1",
            UV_PYTHON_DOWNLOADS="never",
        )
        if self.plan.ca_file:
            result.update(SSL_CERT_FILE=self.plan.ca_file, PIP_CERT=self.plan.ca_file)
        if self.plan.cache_dir:
            result.update(UV_CACHE_DIR=self.plan.cache_dir, PIP_CACHE_DIR=f"{self.plan.cache_dir}/pip")
        if self.plan.index:
            # In the environment, not in argv: an index address may carry credentials.
            result.update(UV_DEFAULT_INDEX=self.plan.index, PIP_INDEX_URL=self.plan.index)
        return result

    def _run(self, step: str, argv: list[str]) -> str:
        started = time.monotonic()
        try:
            done = subprocess.run(
                argv,
                env=self._environ,
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=self.plan.timeout,
                umask=0o022,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ReleaseError(f"{step}: no end after {self.plan.timeout} s: {' '.join(argv)}") from None
        except OSError as error:
            raise ReleaseError(f"{step}: cannot start {argv[0]}: {error}") from error
        self.timings[step] = round(time.monotonic() - started, 2)
        if done.returncode:
            output = redact((done.stderr.strip() or done.stdout.strip())[-3000:], self.plan.index)
            raise ReleaseError(f"{step} failed with status {done.returncode}: {' '.join(argv)}\n{output}")
        return done.stdout

    def _source(self) -> list[str]:
        if self.plan.wheelhouse is None:
            return []
        return ["--no-index", "--find-links", str(self.plan.wheelhouse)]

    def _uv(self) -> str:
        """The build tool in its own environment; a new lock gives a new directory."""
        home = self.layout.tools / f"uv-{file_sha256(self.plan.uv_requirements)[:8]}"
        binary = home / "bin" / "uv"
        done = home / ".complete"
        if not done.exists():
            shutil.rmtree(home, ignore_errors=True)
            home.parent.mkdir(mode=_WRITE_MODES["dirs"], parents=True, exist_ok=True)
            self._run("uv_environment", [self.plan.python, "-m", "venv", str(home)])
            self._run(
                "uv_install",
                [f"{home}/bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
                + ["--only-binary", ":all:", *self._source(), "-r", str(self.plan.uv_requirements)],
            )
            done.touch()
        return str(binary)

    def _check(self, path: Path) -> None:
        script = "import platform; print(platform.python_version())"
        found = self._run("python", [self.plan.python, "-I", "-c", script]).strip()
        if not f"{found}.".startswith(f"{self.plan.python_version}."):
            raise ReleaseError(f"{self.plan.python} is Python {found}, the release is for {self.plan.python_version}")
        package = self.plan.package
        if pinned := pinned_version(self.plan.requirements.read_text(encoding="utf-8"), package):
            if pinned != self.plan.version:
                raise ReleaseError(f"the lock pins {package} {pinned}, the wanted version is {self.plan.version}")
        else:
            raise ReleaseError(f"the lock does not pin {package}")
        free = shutil.disk_usage(path).free // (1024 * 1024)
        if free < self.plan.min_free_mb:
            raise ReleaseError(f"{path} has {free} MiB free, a release needs {self.plan.min_free_mb} MiB")

    def _build_tools(self, folder: Path) -> Path | None:
        """The locked lines of the packages that other packages are built with."""
        blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", self.plan.requirements.read_text(encoding="utf-8"))
        wanted = [block for block in blocks if re.match(r"(packaging|setuptools|wheel)==", block)]
        if not wanted:
            return None
        target = folder / "build-tools.txt"
        target.write_text("".join(wanted), encoding="utf-8")
        return target

    def _add_sources(self, path: Path, packages: Path) -> None:
        """Add the packages that come as files, and prove that they find all they import."""
        if self.plan.sources is None:
            return
        names = unpack_sources(self.plan.sources, packages)
        python = f"{path}/bin/python"
        self._run("compile", [python, "-m", "compileall", "-q", *(str(packages / name) for name in names)])
        self._run("import", [python, "-I", "-c", "; ".join(f"import {name}" for name in names)])

    def _schema(self, packages: Path) -> dict[str, Any]:
        """What the marker says about the database schema."""
        if not self.plan.schema:
            return {}
        revisions, heads = schema_graph(packages / "langflow" / "alembic" / "versions")
        if len(heads) != 1:
            raise ReleaseError(f"the release has {len(heads)} schema heads ({', '.join(heads)}), expected one")
        return {"schema_head": heads[0], "schema_revisions": revisions}

    def build(self) -> dict[str, Any]:
        """Build the release and return its marker."""
        plan = self.plan
        name = release_id(plan.version, plan.lock_sha256, plan.python_version, plan.sources_sha256)
        path = self.layout.release(name)
        self.layout.releases.mkdir(mode=_WRITE_MODES["dirs"], parents=True, exist_ok=True)
        if file_sha256(self.plan.requirements) != self.plan.lock_sha256:
            raise ReleaseError("the requirements file changed while it was sent to the host")
        if plan.sources_sha256 and (plan.sources is None or file_sha256(plan.sources) != plan.sources_sha256):
            raise ReleaseError("the sources changed while they were sent to the host")
        self._check(self.layout.releases)
        if self.plan.cache_dir:
            Path(self.plan.cache_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            shutil.rmtree(path)
        started = time.monotonic()
        uv = self._uv()
        install = [uv, "pip", "install", "--quiet", "--python", f"{path}/bin/python", "--require-hashes"]
        install += [*self._source(), "--no-build-isolation"]
        self._run("environment", [uv, "venv", "--quiet", "--python", self.plan.python, str(path)])
        with tempfile.TemporaryDirectory(prefix="langflow-release-") as folder:
            if tools := self._build_tools(Path(folder)):
                self._run("build_tools", [*install, "--no-build", "--no-deps", "-r", str(tools)])
        self._run("install", [*install, "--compile-bytecode", "-r", str(self.plan.requirements)])
        packages = next(path.glob("lib/python*/site-packages"))
        self._add_sources(path, packages)
        schema = self._schema(packages)
        shutil.copyfile(self.plan.requirements, path / "requirements.txt")
        marker = {
            "id": name,
            "version": self.plan.version,
            "lock_sha256": self.plan.lock_sha256,
            "python": self.plan.python_version,
            **({"sources_sha256": plan.sources_sha256} if plan.sources_sha256 else {}),
            **schema,
            "built_at": int(time.time()),
            "build_seconds": round(time.monotonic() - started, 1),
        }
        staged = path / f".{MARKER}"
        with open(staged, "w", encoding="utf-8") as handle:
            json.dump(marker, handle, indent=1)
            handle.write("\n")
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(staged, _WRITE_MODES["mode"])
        os.replace(staged, path / MARKER)
        return marker
