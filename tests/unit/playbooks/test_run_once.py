# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a task with run_once fails and is rescued, Ansible drops every other host of the play without a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted([*(ROOT / "playbooks").glob("*.yml"), *(ROOT / "playbooks/tasks").glob("*.yml")])
FILES += sorted((ROOT / "roles").glob("*/tasks/*.yml"))
TASK_FILES = ("ansible.builtin.import_tasks", "ansible.builtin.include_tasks")


def tasks_of(
    entry: dict[str, Any], beside: Path, rescued: bool, seen: frozenset[Path] = frozenset()
) -> Iterator[tuple[str, bool]]:
    """Every task with run_once below an entry, and whether a rescue would catch its failure."""
    caught = rescued or "rescue" in entry
    if entry.get("run_once"):
        yield str(entry.get("name")), caught
    for part, inside in (("block", caught), ("rescue", rescued), ("always", rescued)):
        for child in entry.get(part) or []:
            yield from tasks_of(child, beside, inside, seen)
    for kind in TASK_FILES:
        named = entry.get(kind)
        file = beside / (named["file"] if isinstance(named, dict) else str(named)) if named else None
        if file and caught and "{{" not in str(named) and file not in seen and file.is_file():
            for child in yaml.safe_load(file.read_text(encoding="utf-8")) or []:
                yield from tasks_of(child, file.parent, True, seen | {file})


def caught(content: list[dict[str, Any]], beside: Path) -> list[str]:
    """Names of the tasks with run_once that a rescue would catch."""
    found = []
    for entry in content:
        lists = [entry] if "hosts" not in entry else [*(entry.get("pre_tasks") or []), *(entry.get("tasks") or [])]
        found += [name for task in lists for name, inside in tasks_of(task, beside, False) if inside]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_rescue_catches_what_is_done_once(file: Path) -> None:
    assert caught(yaml.safe_load(file.read_text(encoding="utf-8")) or [], file.parent) == []


def test_the_check_sees_it() -> None:
    once = {"name": "once", "run_once": True}
    assert caught([{"block": [once], "rescue": []}], ROOT) == ["once"]
    assert caught([{"hosts": "all", "tasks": [{"run_once": True, "name": "b", "block": [], "rescue": []}]}], ROOT) == [
        "b"
    ]
    assert caught(
        [{"block": [{"ansible.builtin.import_tasks": "roll_health.yml"}], "rescue": []}], ROOT / "playbooks/tasks"
    )
    assert caught([once, {"block": [once]}], ROOT) == []
