#!/usr/bin/env python3
# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show which database schema published Langflow releases work with, and what lies between them.

    tools/schema_heads.py 1.12.7 1.12.8 1.13.0      these releases, from pip's package index
    tools/schema_heads.py --check                   all that tools/schema_heads.yml lists; 1 if it is wrong
    tools/schema_heads.py --wheels DIR 1.13.0       packages that are there already

A release with the head of the one before needs no migration. Migrations that commit by themselves are named: when a
later one fails, what they and the ones before them did stays.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
KNOWN = ROOT / "tools" / "schema_heads.yml"
SCRIPTS = "langflow/alembic/versions/"
# What ends the one transaction in which all migrations run.
COMMITS = {"autocommit_block", "commit"}


@dataclass(frozen=True)
class Script:
    """One migration."""

    parents: tuple[str, ...]
    commits: bool


@dataclass(frozen=True)
class Schema:
    """All migrations that a release carries."""

    version: str
    scripts: dict[str, Script]

    @property
    def head(self) -> str:
        """The revision that no other one follows."""
        parents = {parent for script in self.scripts.values() for parent in script.parents}
        return ",".join(sorted(set(self.scripts) - parents))

    def order(self) -> list[str]:
        """Revisions, each behind all of its parents."""
        done: dict[str, None] = {}
        while len(done) < len(self.scripts):
            ready = [
                name
                for name, script in sorted(self.scripts.items())
                if name not in done and all(parent in done or parent not in self.scripts for parent in script.parents)
            ]
            if not ready:
                raise ValueError(f"the migrations of {self.version} run in a circle")
            done.update(dict.fromkeys(ready))
        return list(done)


def load_release() -> ModuleType:
    """The collection's own reader of migrations, which needs nothing of Ansible."""
    path = ROOT / "plugins" / "module_utils" / "_release.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def commits(source: str) -> bool:
    """Whether the way up ends the transaction that it is called in."""
    upgrade = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "upgrade")
    called = (node.func for function in upgrade for node in ast.walk(function) if isinstance(node, ast.Call))
    return any(isinstance(item, ast.Attribute) and item.attr in COMMITS for item in called)


def read(version: str, wheel: Path) -> Schema:
    """Read the migrations of a package."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(SCRIPTS) and name.endswith(".py")]
        sources = [archive.read(name).decode() for name in names]
    parse = load_release().parse_revision
    found = {}
    for source in sources:
        revision, parents = parse(source)
        if revision:
            found[revision] = Script(parents, commits(source))
    if not found:
        raise SystemExit(f"{wheel.name} holds no migration")
    return Schema(version, found)


def find(version: str, folder: Path, fetch: bool) -> Path:
    """The package of a release; fetched when it is not there."""
    pattern = f"langflow_base-{version}-*.whl"
    if fetch and not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--dest", str(folder), f"langflow-base=={version}"], check=True)
    wheels = list(folder.glob(pattern))
    if not wheels:
        raise SystemExit(f"{folder} holds no {pattern}")
    return wheels[0]


def listed(text: str) -> dict[str, str]:
    """Releases and heads that are known; read line by line, so that this program needs no package."""
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "---"))]
    return {version.strip(): head.strip() for version, _separator, head in (line.partition(":") for line in lines)}


def rows(schemas: Sequence[Schema]) -> list[str]:
    """One line for each release, with what lies between it and the one before."""
    lines = ["release  head          migrations  from the release before"]
    for number, schema in enumerate(schemas):
        step = ""
        if number:
            before = schemas[number - 1]
            new = [name for name in schema.order() if name not in before.scripts]
            gone = len(set(before.scripts) - set(schema.scripts))
            step = "same schema" if before.head == schema.head else f"{len(new)} new migrations, {gone} gone"
            alone = [
                f"{name} ({len(new) - new.index(name) - 1} follow)" for name in new if schema.scripts[name].commits
            ]
            step += f"; commit by themselves: {', '.join(alone)}" if alone else ""
        lines.append(f"{schema.version:<8} {schema.head:<13} {len(schema.scripts):>10}  {step}".rstrip())
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("versions", nargs="*", metavar="VERSION")
    parser.add_argument("--check", action="store_true", help=f"compare with {KNOWN.relative_to(ROOT)}")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="where the packages are; nothing is fetched")
    options = parser.parse_args(arguments)
    known = listed(KNOWN.read_text(encoding="utf-8"))
    versions = options.versions or (list(known) if options.check else [])
    if not versions:
        parser.error("name a release, or use --check")
    with tempfile.TemporaryDirectory() as folder:
        schemas = []
        for version in versions:
            schemas.append(read(version, find(version, options.wheels or Path(folder), not options.wheels)))
    print("\n".join(rows(schemas)))
    wrong = [schema for schema in schemas if options.check and known.get(schema.version) != schema.head]
    for schema in wrong:
        said = known.get(schema.version, "nothing")
        print(f"{KNOWN.name} says {said} for {schema.version}, the package {schema.head}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
