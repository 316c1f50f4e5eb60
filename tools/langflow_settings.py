#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List every ``LANGFLOW_*`` name that an installed Langflow reads, as data for role ``langflow``.

Run it with the Python of the environment that holds the release:

    /opt/langflow/current/bin/python tools/langflow_settings.py roles/langflow/vars/settings.yml

Two sources make the list: the fields of the program's own settings classes, and the literal names that its source hands
to ``os.environ`` and friends. Only the entry of the installed version is replaced; the other versions stay as they are.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PREFIX = "LANGFLOW_"
READERS = {"get", "getenv", "pop", "setdefault", "env_flag", "get_env"}
HEADER = """---
# Names (without LANGFLOW_) that each Langflow release reads; tools/langflow_settings.py takes them from the program.
"""


def declared_names() -> set[str]:
    """Fields of the settings classes; the program reads each one as ``LANGFLOW_<FIELD>``."""
    from lfx.services.settings.auth import AuthSettings
    from lfx.services.settings.base import Settings
    from lfx.services.settings.feature_flags import FeatureFlags

    names = {name.upper() for model in (Settings, AuthSettings) for name in model.model_fields}
    names |= {f"FEATURE_{name.upper()}" for name in FeatureFlags.model_fields}
    return names - {"PWD_CONTEXT"}


def _environment_names(tree: ast.AST) -> Iterator[str]:
    """Literal names that are read from the environment, also through a module constant (``X = "LANGFLOW_X"``)."""
    for node in ast.walk(tree):
        candidates: list[ast.expr] = []
        if isinstance(node, ast.Call):
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if called in READERS or "env" in called.lower():
                candidates = list(node.args)
        elif isinstance(node, ast.Subscript):
            candidates = [node.slice]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if node.value is not None and all(isinstance(item, ast.Name) for item in targets):
                candidates = [node.value]
        elif isinstance(node, ast.Compare):
            candidates = [node.left]
        for item in candidates:
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                yield item.value


def environment_names() -> set[str]:
    """Names that the packages read from the environment without a settings field."""
    shape = re.compile(rf"{PREFIX}[A-Z][A-Z0-9_]*[A-Z0-9]")
    names: set[str] = set()
    for package in ("langflow", "lfx"):
        spec = importlib.util.find_spec(package)
        for root in spec.submodule_search_locations or [] if spec else []:
            for path in sorted(Path(root).rglob("*.py")):
                text = path.read_text(encoding="utf-8")
                if PREFIX in text:
                    names |= {name for name in _environment_names(ast.parse(text)) if shape.fullmatch(name)}
    return {name.removeprefix(PREFIX) for name in names}


def render(known: dict[str, list[str]]) -> str:
    """The data file; written by hand because it must not depend on the YAML style of one environment."""
    lines = ["__langflow_known_settings:"]
    for version in sorted(known, key=lambda item: tuple(map(int, item.split(".")))):
        lines.append(f'  "{version}":')
        lines.extend(f"    - {name}" for name in sorted(known[version]))
    return HEADER + "\n".join(lines) + "\n"


def read(path: Path) -> dict[str, list[str]]:
    """What an earlier run wrote."""
    known: dict[str, list[str]] = {}
    version = ""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        if match := re.fullmatch(r'  "([0-9.]+)":', line):
            version = match[1]
            known[version] = []
        elif match := re.fullmatch(r"    - ([A-Z0-9_]+)", line):
            known[version].append(match[1])
    return known


def main(arguments: list[str]) -> int:
    """Update the file named on the command line, or print the list."""
    try:
        version = importlib.metadata.version("langflow-base")
    except importlib.metadata.PackageNotFoundError:
        print("Langflow is not installed in this Python: run the script with the Python of a release.", file=sys.stderr)
        return 2
    target = Path(arguments[0]) if arguments else None
    known = read(target) if target else {}
    known[".".join(version.split(".")[:2])] = sorted(declared_names() | environment_names())
    if target is None:
        print(render(known), end="")
    else:
        target.write_text(render(known), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
