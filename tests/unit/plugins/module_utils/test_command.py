# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running programs."""

from __future__ import annotations

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _command


def test_output_and_code() -> None:
    done = _command.run(["sh", "-c", "echo out; echo err $X $LC_ALL >&2; exit 4"], timeout=5, environment={"X": "1"})
    assert done == _command.Done(4, "out", "err 1 C.UTF-8")


def test_nothing_is_left_to_a_shell() -> None:
    assert _command.run(["echo", "$HOME; exit 1"], timeout=5).out == "$HOME; exit 1"


def test_input_is_empty() -> None:
    assert _command.run(["cat"], timeout=5) == _command.Done(0, "", "")


def test_deadline() -> None:
    with pytest.raises(_command.CommandTimeout, match="sleep did not end within 0.05 s"):
        _command.run(["sleep", "5"], timeout=0.05)


def test_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(_command.CommandMissing, match="no-such-program"):
        _command.run(["no-such-program"], timeout=5)
    monkeypatch.setattr(_command, "SYSTEM_PATH", "/usr/bin:/bin")
    assert _command.run(["true"], timeout=5).code == 0
