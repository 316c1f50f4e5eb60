"""What a roll says to Alertmanager, and that it says nothing where nobody monitors."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TASKS = str(Path(__file__).resolve().parents[3] / "playbooks/tasks/roll_silence.yml")
GIVEN: dict[str, Any] = {
    "__roll_silent": True,
    "__roll_alertmanagers": ["https://127.0.0.1:1"],
    "__roll_verb": "restart",
    "__roll_who": "somebody",
    "__roll_silence_matchers": [{"name": "layer", "value": "service"}],
    "__roll_silence_minutes": 5,
    "__roll_alertmanager_user": "monitoring",
    "__roll_alertmanager_password": "no secret",
    "__roll_ca_path": "/nonexistent",
}


@pytest.mark.parametrize(
    ("monitoring", "told"),
    [
        ({}, False),
        ({"langflow_fleet_monitored": False, "langflow_fleet_monitoring_hosts": []}, False),
        # The control: with monitoring somebody is asked, and that nobody answers ends no roll.
        ({"langflow_fleet_monitored": True, "langflow_fleet_monitoring_hosts": [{"name": "localhost"}]}, True),
    ],
)
def test_only_a_fleet_with_monitoring_is_told(
    play: Callable[..., subprocess.CompletedProcess[str]], monitoring: dict[str, Any], told: bool
) -> None:
    done = play([{"ansible.builtin.import_tasks": TASKS}], **GIVEN, **monitoring)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert ("rescued=1" in done.stdout) is told, output
    assert ("Alertmanager could not be told" in done.stdout) is told, output
