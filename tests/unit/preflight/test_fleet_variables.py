# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables are computed without making a secret, without facts, and without showing a secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flowfleet.langflow.plugins.module_utils._preflight import (
    REFUSED_SETTINGS,
    ROLE_DATA,
    is_fernet_key,
    megabytes,
    misspelled,
    stand_in,
    table,
)
from ansible_collections.flowfleet.langflow.plugins.plugin_utils._fleet_variables import (
    HostVariables,
    RoleContract,
    mask_secret_lookups,
    rests_on,
    validate,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{{ lookup('flowfleet.langflow.secret', 'one', type='fernet') }}", {"one"}),
        (
            "{{ lookup(\"flowfleet.langflow.secret\", \"one\") ~ query('flowfleet.langflow.secret', 'two') }}",
            {"one", "two"},
        ),
        ("{{ lookup('flowfleet.langflow.secret', 'one', length=(size | default(3))) | trim }}", {"one"}),
        ("{{ lookup('flowfleet.langflow.secret', name ~ '_password') }}", set()),
        ("{{ lookup('ansible.builtin.env', 'HOME') }}", set()),
    ],
)
def test_secret_lookups_are_replaced(text: str, names: set[str]) -> None:
    masked, found = mask_secret_lookups(text)
    assert found == names
    assert "flowfleet.langflow.secret" not in masked
    assert masked.endswith("}}")
    assert ("| trim" in masked) is ("| trim" in text)


def test_the_stand_in_has_the_shape_of_every_kind_of_secret() -> None:
    assert is_fernet_key(stand_in("langflow_secret_key"))
    assert stand_in("a") != stand_in("b")


def test_facts_are_seen_through_other_variables() -> None:
    variables: dict[str, Any] = {
        "a": "{{ b + 1 }}",
        "b": {"deep": ["{{ ansible_facts['memtotal_mb'] }}"]},
        "c": "{{ d }}",
        "d": "{{ c }}",
        "e": "a word about ansible_facts",
    }
    assert [name for name in variables if rests_on(name, re.compile("ansible_facts"), variables)] == ["a", "b"]


def test_a_refused_secret_is_not_shown() -> None:
    option = {"type": "str", "choices": ["x"], "no_log": True}
    role = RoleContract("demo", {}, {"demo_password": option})
    host = HostVariables("h1", ("demo",), {"demo_password": "hunter2-hunter2"})
    lines = [problem.line() for problem in validate(role, host)]
    assert len(lines) == 1
    assert lines[0].startswith("demo_password [h1]: ")
    assert "hunter2" not in lines[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("langflow_wrokers", "langflow_workers"),
        ("langflow_worker", "langflow_workers"),
        ("redisinstances", "redis_instances"),
        ("langflow_team_contact", ""),
        ("nginx_note", ""),
    ],
)
def test_misspelled(name: str, expected: str) -> None:
    assert misspelled(name, ["langflow_workers", "redis_instances", "nginx_http_port"]) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("1024m", 1024), ("1g", 1024), ("1048576", 1), ("512K", 0.5), ("much", None)]
)
def test_megabytes(text: str, expected: float | None) -> None:
    assert megabytes(text) == expected


def test_table() -> None:
    assert table([("a", "bb"), ("ccc", "d")]) == ["a    bb", "---  --", "ccc  d"]


def role_data(file: str, variable: str) -> Any:
    """Give data of role langflow that the checks rest on."""
    return yaml.safe_load((ROOT / "roles/langflow/vars" / file).read_text(encoding="utf-8"))[variable]


def test_the_lists_of_settings_agree() -> None:
    for release, names in role_data(*ROLE_DATA["known_settings"]).items():
        assert names == sorted(set(names)), release
        assert len(names) > 250, release
        unknown = {*role_data(*ROLE_DATA["managed_settings"]), *REFUSED_SETTINGS} - set(names)
        assert not unknown, f"{release}: {unknown}"
