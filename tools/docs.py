#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write the variable tables of the role READMEs and the pages in docs/roles/ from the argument specs.

``tools/docs.py`` writes; ``tools/docs.py --check`` writes nothing and exits 1 when a file is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- BEGIN ARGSPEC -->", "<!-- END ARGSPEC -->"


def text(value: Any) -> str:
    """Join a description (string or list), turn Ansible's markup into Markdown and keep the table row whole."""
    joined = " ".join(str(part) for part in (value if isinstance(value, list) else [value or ""]))
    joined = re.sub(r"\b[OVCE]\(([^()]*)\)", r"`\1`", joined)
    joined = re.sub(r"\b[BI]\(([^()]*)\)", r"**\1**", joined)
    joined = re.sub(r"\bM\(([^()]*)\)", r"`\1`", joined)
    return re.sub(r"\s+", " ", joined).replace("|", "\\|").replace("<", "&lt;").strip()


def default(option: dict[str, Any]) -> str:
    """Show an option's static default as it would be written in YAML."""
    if "default" not in option:
        return "**required**" if option.get("required") else "see text"
    value = option["default"]
    shown = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
    return f"`{shown}`".replace("|", "\\|") if shown != "''" else '`""`'


def kind(option: dict[str, Any]) -> str:
    """Show type, element type and choices."""
    shown = str(option.get("type", "str"))
    if option.get("elements"):
        shown += f" of {option['elements']}"
    if option.get("choices"):
        shown += ": " + ", ".join(f"`{choice}`" for choice in option["choices"])
    return shown


def rows(options: dict[str, Any], prefix: str = "") -> list[str]:
    """Give one table row per option; suboptions follow their parent."""
    result = []
    for name, option in options.items():
        result.append(f"| `{prefix}{name}` | {kind(option)} | {default(option)} | {text(option.get('description'))} |")
        if "options" in option:
            joint = "[]." if option.get("type") == "list" else "."
            result += rows(option["options"], f"{prefix}{name}{joint}")
    return result


def table(spec: dict[str, Any]) -> str:
    """Render all entry points of one role."""
    parts = []
    for entry, body in spec["argument_specs"].items():
        options = body.get("options") or {}
        title = "Variables" if entry == "main" else f"Entry point `{entry}`"
        parts.append(f"## {title}\n\n{text(body.get('description') or body.get('short_description'))}\n")
        if options:
            parts.append(
                "\n".join(["| variable | type | default | meaning |", "|---|---|---|---|", *rows(options)]) + "\n"
            )
    return "\n".join(parts)


def render() -> dict[Path, str]:
    """Compute the wanted content of every generated file."""
    wanted: dict[Path, str] = {}
    index = ["# Roles", "", "Generated from each role's argument specification by `make docs`.", ""]
    for role in sorted(path for path in (ROOT / "roles").iterdir() if (path / "meta/argument_specs.yml").is_file()):
        spec = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
        body = table(spec)
        readme = role / "README.md"
        content = readme.read_text(encoding="utf-8")
        if BEGIN not in content or END not in content:
            raise SystemExit(f"{readme.relative_to(ROOT)}: the markers {BEGIN} and {END} are missing")
        head, rest = content.split(BEGIN, 1)
        tail = rest.split(END, 1)[1]
        wanted[readme] = f"{head}{BEGIN}\n\n{body}\n{END}{tail}"
        wanted[ROOT / "docs/roles" / f"{role.name}.md"] = (
            wanted[readme].replace(f"{BEGIN}\n\n", "").replace(f"\n{END}", "")
        )
        index.append(f"- [{role.name}]({role.name}.md): {text(spec['argument_specs']['main']['short_description'])}")
    wanted[ROOT / "docs/roles/index.md"] = "\n".join(index) + "\n"
    return wanted


def main() -> int:
    """Write or compare; the exit code says whether anything was stale."""
    check = "--check" in sys.argv[1:]
    stale = []
    for path, content in render().items():
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            stale.append(path.relative_to(ROOT))
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")
    for path in stale:
        print(f"{'stale' if check else 'written'}: {path}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
