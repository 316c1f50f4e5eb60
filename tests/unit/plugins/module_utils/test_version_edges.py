# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps between releases: what is listed, what is not, and that a wrong list permits nothing."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.filter.version_edge import FilterModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _version_edges

ROOT = Path(__file__).resolve().parents[4]
DATA: dict[str, Any] = yaml.safe_load((ROOT / "roles/langflow/vars/version_edges.yml").read_text(encoding="utf-8"))
EDGES: list[dict[str, str]] = DATA["__langflow_version_edges"]
HEADS: dict[str, str] = yaml.safe_load((ROOT / "tools/schema_heads.yml").read_text(encoding="utf-8"))
LOCKED = sorted(
    path.name.removeprefix("requirements-").removesuffix(".txt")
    for path in (ROOT / "roles/langflow/files").glob("requirements-[0-9]*.txt")
)
version_edge = FilterModule().filters()["version_edge"]


def edge(old: str, new: str, action: str = "rolling", reason: str = "tested") -> dict[str, str]:
    return {"from": old, "to": new, "action": action, "reason": reason}


@pytest.mark.parametrize(
    ("old", "new", "action", "known"),
    [
        ("1.12.7", "1.12.8", "rolling", True),
        ("1.12.8", "1.12.7", "rolling", True),
        ("1.12.6", "1.12.8", "rolling", True),
        ("1.12.7", "1.12.7", "rolling", True),
        ("1.12.7", "1.13.0", "stop", True),
        ("1.12.8", "1.13.0", "stop", True),
        ("1.13.0", "1.12.8", "refuse", True),
        ("1.13.0", "1.9.4", "refuse", True),
        ("1.13.0", "1.13.0", "rolling", True),
        ("1.14.2", "1.14.2", "rolling", True),
        ("1.12.5", "1.12.8", "refuse", False),
        ("1.12.8", "1.12.9", "refuse", False),
        ("1.12.8", "1.12.80", "refuse", False),
        ("1.12.8", "1.13.1", "refuse", False),
        ("1.13.0", "1.13.1", "refuse", False),
        ("1.13.1", "1.13.0", "refuse", False),
        ("1.11.0", "1.13.0", "refuse", False),
        ("1.13.0", "1.13.0.dev3", "refuse", False),
    ],
)
def test_what_the_role_knows(old: str, new: str, action: str, known: bool) -> None:
    step = version_edge(EDGES, old, new)
    assert (step["from"], step["to"], step["action"], step["known"]) == (old, new, action, known)
    assert step["reason"].endswith(".")
    assert ("is unknown" in step["reason"]) is not known


def test_an_unknown_step_back_says_what_it_would_do() -> None:
    assert "replays every migration" in version_edge(EDGES, "1.14.0", "1.13.0")["reason"]
    assert "replays every migration" not in version_edge(EDGES, "1.13.0", "1.14.0")["reason"]


@pytest.mark.parametrize("version", ["", "unreadable", "*", "1.12.[678]", "1.13", "latest", "1.12.8; x"])
def test_what_is_no_version_leads_nowhere(version: str) -> None:
    for old, new in ((version, "1.13.0"), ("1.13.0", version), (version, version)):
        step = version_edge([edge("*", "*")], old, new)
        known = version == "1.13"
        assert (step["action"], step["known"]) == (("rolling", True) if known else ("refuse", False))


def test_the_first_edge_that_fits_counts() -> None:
    edges = [edge("1.1.*", "1.2.0", "stop", "first"), edge("1.*", "1.2.0", "refuse", "second")]
    assert version_edge(edges, "1.1.9", "1.2.0")["reason"] == "first"
    assert version_edge(edges, "1.0.9", "1.2.0")["reason"] == "second"
    assert version_edge(edges[::-1], "1.1.9", "1.2.0")["action"] == "refuse"


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([{**edge("*", "*"), "action": "roll"}], "not 'roll'"),
        ([{"from": "1.*", "to": "1.*", "reason": "x"}], "nothing else"),
        ([{**edge("*", "*"), "when": "always"}], "nothing else"),
        ([{**edge("*", "*"), "from": 1.12}], "nothing else"),
        (["1.12.7"], "nothing else"),
        ({"from": "*"}, "expected a list"),
        ("rolling", "expected a list"),
        (None, "expected a list"),
    ],
)
def test_a_wrong_list_is_an_error(edges: Any, words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        version_edge(edges, "1.12.7", "1.12.7")


@pytest.mark.parametrize("version", [1.13, None, 2])
def test_a_version_that_is_a_number_is_an_error(version: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="quotes"):
        version_edge(EDGES, "1.12.7", version)


def test_edges_follow_from_the_schemas() -> None:
    """One schema can be rolled both ways, another one needs a stop, and nothing leads back."""
    for old, new in permutations(HEADS, 2):
        step = _version_edges.judge(EDGES, old, new)
        back = _version_edges.goes_back(old, new)
        wanted = "rolling" if HEADS[old] == HEADS[new] else "refuse" if back else "stop"
        assert (step.action, step.known) == (wanted, True), (old, new)


def test_the_schema_of_every_shipped_release_is_known() -> None:
    assert len(LOCKED) >= 3
    assert set(LOCKED) <= set(HEADS)


def test_no_edge_stands_in_the_shadow_of_another() -> None:
    versions = [*HEADS, "1.9.4", "1.11.0", "1.13.5"]
    used = {
        next(
            (number for number, item in enumerate(EDGES) if _version_edges.judge([item], old, new).known),
            None,
        )
        for old, new in permutations(versions, 2)
    }
    assert used - {None} == set(range(len(EDGES)))
