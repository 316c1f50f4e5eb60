# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(endpoints)."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.filter.endpoints import FilterModule

endpoints = FilterModule().filters()["endpoints"]

HOSTVARS: dict[str, dict[str, Any]] = {
    "plain": {},
    "reached": {"ansible_host": "192.0.2.1"},
    "own": {"ansible_host": "192.0.2.1", "langflow_fleet_address": "198.51.100.7"},
    "empty": {"langflow_fleet_address": "", "ansible_host": " 192.0.2.3 "},
    "null": {"langflow_fleet_address": None},
    "number": {"langflow_fleet_address": 42},
}


@pytest.mark.parametrize(
    ("names", "addresses"),
    [
        ([], []),
        (["plain"], ["plain"]),
        (["reached"], ["192.0.2.1"]),
        (["own", "reached"], ["198.51.100.7", "192.0.2.1"]),
        (["reached", "own"], ["192.0.2.1", "198.51.100.7"]),
        (["empty"], ["192.0.2.3"]),
        (["null"], ["null"]),
    ],
)
def test_addresses(names: list[str], addresses: list[str]) -> None:
    expected = [{"name": name, "address": address} for name, address in zip(names, addresses, strict=True)]
    assert endpoints(names, HOSTVARS) == expected


@pytest.mark.parametrize(
    ("names", "hostvars", "message"),
    [
        ("plain", HOSTVARS, "expected a list"),
        (None, HOSTVARS, "expected a list"),
        (["gone"], HOSTVARS, "gone is not in the inventory"),
        (["plain"], "hostvars", "the variable hostvars itself"),
        (["number"], HOSTVARS, "langflow_fleet_address of host number"),
    ],
)
def test_bad_input_is_named(names: Any, hostvars: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        endpoints(names, hostvars)


def test_real_hostvars_are_templated(play: Any, tmp_path: pathlib.Path) -> None:
    variables = {"langflow_fleet_address": "{{ network }}.9", "network": "192.0.2"}
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
    run = play(
        [{"ansible.builtin.assert": {"that": "(groups['all'] | flowfleet.langflow.endpoints(hostvars)) == wanted"}}],
        wanted=[{"name": "localhost", "address": "192.0.2.9"}],
    )
    assert run.returncode == 0, run.stdout
