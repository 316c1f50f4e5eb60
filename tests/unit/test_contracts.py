# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Contracts between the parts of the collection that no single linter sees."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
PROJECT_FILES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    if (ROOT / name).is_file()
]
# Only a literal counts as static: a quoted text without a quote in it, a number or a truth value.
FLEET_DEFAULT = re.compile(
    r"^\{\{ langflow_fleet_\w+ \| default\((?P<literal>'[^']*'|\"[^\"]*\"|[0-9.]+|true|false)\) \}\}$"
)
NO_STATIC_DEFAULT = object()


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def static(value: Any) -> Any:
    """The literal behind a default: itself, or the fallback of a fleet-wide variable."""
    if isinstance(value, str):
        fleet = FLEET_DEFAULT.match(value.strip())
        if fleet:
            return yaml.safe_load(fleet["literal"])
        if "{{" in value:
            return NO_STATIC_DEFAULT
    if isinstance(value, (list, dict)) and "{{" in str(value):
        return NO_STATIC_DEFAULT
    return value


def text_of(role: Path, *folders: str) -> str:
    """All text of the given folders of a role."""
    files = [file for folder in folders for file in sorted((role / folder).rglob("*")) if file.is_file()]
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def ids(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("role", ROLES, ids=ids)
def test_role_has_every_part(role: Path) -> None:
    for part in ("README.md", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml", "defaults/main.yml"):
        assert (role / part).is_file(), f"{role.name}/{part} is missing"


@pytest.mark.parametrize("role", ROLES, ids=ids)
def test_defaults_equal_argument_specs(role: Path) -> None:
    defaults = load(role / "defaults/main.yml") or {}
    options: dict[str, Any] = {}
    for entry in load(role / "meta/argument_specs.yml")["argument_specs"].values():
        options.update(entry.get("options") or {})
    required = {name for name, option in options.items() if option.get("required")}
    assert set(defaults) == set(options) - required
    for name, value in defaults.items():
        literal = static(value)
        if literal is NO_STATIC_DEFAULT:
            assert "default" not in options[name], f"{name} is computed, its specification must not promise a default"
        else:
            assert "default" in options[name], f"{name}: the specification lacks default {literal!r}"
            assert options[name]["default"] == literal, name
        assert options[name].get("description"), f"{name} has no description"


@pytest.mark.parametrize("role", ROLES, ids=ids)
def test_names_carry_the_role_prefix(role: Path) -> None:
    for name in load(role / "defaults/main.yml") or {}:
        assert name.startswith(f"{role.name}_"), f"{name}: a public variable starts with {role.name}_"
    for file in (role / "vars").rglob("*.yml"):
        for name in load(file) or {}:
            assert name.startswith(f"__{role.name}_"), (
                f"{file.relative_to(ROOT)}: {name} must start with __{role.name}_"
            )


@pytest.mark.parametrize("role", ROLES, ids=ids)
def test_no_unused_variable(role: Path) -> None:
    everything = text_of(role, "tasks", "templates", "vars", "handlers", "files", "defaults")
    # The preflight plugin reads public variables by name; that counts as a use.
    preflight = (ROOT / "plugins/module_utils/_preflight.py").read_text(encoding="utf-8")
    names = list(load(role / "defaults/main.yml") or {})
    names += [name for file in (role / "vars").rglob("*.yml") for name in (load(file) or {})]
    for name in names:
        uses = len(re.findall(rf"\b{name}\b", everything)) - len(re.findall(rf"^{name}:", everything, re.M))
        assert uses > 0 or name in preflight, f"{name} is defined but never used"


@pytest.mark.parametrize("role", ROLES, ids=ids)
def test_no_undefined_variable(role: Path) -> None:
    defined = set(load(role / "defaults/main.yml") or {})
    for option_set in load(role / "meta/argument_specs.yml")["argument_specs"].values():
        defined |= set(option_set.get("options") or {})
    for file in (role / "vars").rglob("*.yml"):
        defined |= set(load(file) or {})
    code = text_of(role, "tasks", "templates", "handlers", "vars", "defaults")
    defined |= set(re.findall(r"(?:register|loop_var|index_var): *(\w+)", code))
    # set_fact keys, task-level vars and Jinja's own assignments
    defined |= set(re.findall(rf"^ +(_*{role.name}_\w+):", code, re.M))
    defined |= set(re.findall(r"(?:set|for) +(\w+)", code))
    code = re.sub(r"^\s*#.*$|\{#.*?#\}", "", code, flags=re.M | re.S)
    expressions = " ".join(re.findall(r"\{\{.*?\}\}|\{%.*?%\}", code, re.S))
    expressions += " ".join(
        re.findall(r"^\s*(?:when|that|until|changed_when|failed_when|loop):.*$|^\s+- [\w(].*$", code, re.M)
    )
    expressions = re.sub(r"'[^'\n]*'|\"[^\"\n]*\"", "", expressions)
    used = set(re.findall(rf"(?<![\w.])(_*{role.name}_\w+)\b", expressions))
    unknown = {name for name in used - defined if not name.startswith("langflow_fleet_")}
    assert not unknown, f"used but defined nowhere: {sorted(unknown)}"


@pytest.mark.parametrize(
    "template", [path for path in PROJECT_FILES if path.suffix == ".j2"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_template_carries_the_managed_header(template: Path) -> None:
    if ".json" in template.suffixes:
        return  # JSON has no comments
    head = template.read_text(encoding="utf-8")[:400]
    assert "ansible_managed" in head, "the managed header is missing"


@pytest.mark.parametrize("role", ROLES, ids=ids)
def test_role_knows_no_group(role: Path) -> None:
    code = text_of(role, "tasks", "templates", "handlers", "vars", "defaults")
    assert not re.findall(r"\bgroups\s*[\[.|]|\bgroup_names\b", code)


@pytest.mark.parametrize("role", ROLES, ids=ids)
def test_role_uses_no_private_variable_of_another(role: Path) -> None:
    code = text_of(role, "tasks", "templates", "handlers", "vars", "defaults")
    for other in ROLES:
        if other != role:
            foreign = set(re.findall(rf"\b__{other.name}_\w+", code)) - {
                "__common_service_files",
                "__common_service_units",
            }
            foreign = {name for name in foreign if not name.startswith(f"__{role.name}_")}
            assert not foreign, f"{role.name} reads {sorted(foreign)}"


def test_no_forbidden_escape() -> None:
    forbidden = re.compile(
        r"ignore_errors:\s*(true|yes)|failed_when:\s*false|#\s*noqa\b|ansible\.builtin\.shell|pytest\.mark\.(skip|xfail)\b"
    )
    here = Path(__file__).resolve()
    found = [
        f"{path.relative_to(ROOT)}: {match.group(0).strip()}"
        for path in PROJECT_FILES
        if path.suffix in {".yml", ".yaml", ".py", ".j2", ".cfg", ".toml", ".sh"} and path != here
        for match in forbidden.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found, found
    assert not list(ROOT.glob("tests/sanity/ignore*")), "no sanity ignore file"
    lint = load(ROOT / ".ansible-lint")
    assert lint["profile"] == "production"
    assert lint["skip_list"] == []
    assert lint["warn_list"] == []


def test_no_fixed_download_source() -> None:
    """Every place that something is fetched from is a variable: roles name no other host."""
    allowed = re.compile(
        r"https?://(127\.0\.0\.1|localhost|\[::1\]|\{\{|\$|%|[^/\s'\"]*example\.(com|org)|www\.gnu\.org)"
    )
    for role in ROLES:
        for folder in ("defaults", "vars", "tasks", "templates", "handlers"):
            for file in (role / folder).rglob("*"):
                if not file.is_file():
                    continue
                for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                    if line.lstrip().startswith(("#", "Documentation=")):
                        continue  # read by people, fetched by nobody
                    for match in re.finditer(r"https?://[^\s'\"]*", line):
                        # Jinja pieces like https://{{ host }} are computed from variables
                        if len(match.group(0)) > len("https://") and not allowed.match(match.group(0)):
                            pytest.fail(f"{file.relative_to(ROOT)}:{number}: {match.group(0)}")


def test_facts_are_read_from_ansible_facts() -> None:
    injected = re.compile(
        r"(?<![\w.'\"])ansible_(os_family|distribution\w*|memtotal_mb|memory_mb|default_ipv4|hostname|fqdn|nodename|processor\w*|"
        r"python_version|service_mgr|architecture|kernel|date_time|all_ipv4_addresses|interfaces|env|virtualization_\w+)\b"
    )
    for path in PROJECT_FILES:
        if path.suffix in {".yml", ".j2"} and path.parts[len(ROOT.parts)] in {
            "roles",
            "playbooks",
            "inventories",
            "molecule",
        }:
            assert not injected.findall(path.read_text(encoding="utf-8")), path.relative_to(ROOT)


def test_no_handler_restarts_a_live_tier() -> None:
    for role in ROLES:
        code = text_of(role, "handlers")
        assert "state: restarted" not in code, f"{role.name}: restarts are gated tasks"


def test_generated_docs_are_current() -> None:
    run = subprocess.run(
        [sys.executable, ROOT / "tools/docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr + "run `make docs`"


def test_action_plugins_and_modules_pair_up() -> None:
    for action in (ROOT / "plugins/action").glob("*.py"):
        assert (ROOT / "plugins/modules" / action.name).exists(), f"{action.name} has no documented module"


def test_galaxy_dependencies_equal_requirements() -> None:
    galaxy = load(ROOT / "galaxy.yml")["dependencies"]
    wanted = {item["name"]: item["version"] for item in load(ROOT / "requirements.yml")["collections"]}
    assert galaxy == wanted
