# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets that stand deeper in a module's arguments: the host's log must not have them."""

from __future__ import annotations

import importlib
import syslog
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible_collections.flowfleet.langflow.plugins.module_utils._quiet_module import QuietModule

MODULES = Path(__file__).resolve().parents[4] / "plugins/modules"
CANARY = "with 'quote\" and \\ slash"


class Made(Exception):
    """A module has said what it takes."""


def nested(spec: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Names of secret options below other options."""
    for name, option in spec.items():
        if option.get("no_log") and depth:
            yield name
        yield from nested(option.get("options", {}), depth + 1)


def made(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[type, Mapping[str, Any]] | None:
    """The class that a module makes, and its options; nothing for one that is an action of the controller."""
    module = importlib.import_module(f"ansible_collections.flowfleet.langflow.plugins.modules.{name}")
    if not hasattr(module, "main"):
        return None
    seen: list[tuple[type, Mapping[str, Any]]] = []

    def begin(self: Any, argument_spec: Mapping[str, Any], **_more: Any) -> None:
        seen.append((type(self), argument_spec))
        raise Made

    monkeypatch.setattr(basic.AnsibleModule, "__init__", begin)
    with pytest.raises(Made):
        module.main()
    return seen[0]


def test_modules_with_nested_secrets_are_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for path in sorted(MODULES.glob("[a-z]*.py")):
        kind = made(path.stem, monkeypatch)
        if kind and list(nested(kind[1])):
            found[path.stem] = issubclass(kind[0], QuietModule)
    assert {"canary_gate", "data_check", "etcd_auth", "rolling_restart"} <= set(found)
    assert all(found.values()), found


@pytest.mark.parametrize(("quiet", "shown"), [(basic.AnsibleModule, True), (QuietModule, False)])
def test_a_secret_is_told_by_no_character(
    quiet: type[basic.AnsibleModule], shown: bool, run_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(syslog, "syslog", lambda _priority, text: logged.append(text))
    monkeypatch.setattr(basic, "has_journal", False)
    spec = {"database": {"type": "dict", "options": {"password": {"type": "str", "no_log": True}}}}
    module = types.SimpleNamespace(main=lambda: quiet(argument_spec=spec).exit_json())
    run_module(module, {"database": {"password": CANARY}})
    # The control: Ansible's own class knows the secret only as it was given.
    assert ("slash" in "".join(logged)) is shown
