"""What the playbooks say about the cluster right after it was converged. Runs before the tests that break things."""

from __future__ import annotations

from collections.abc import Callable

from conftest import Play


def test_check_mode_finds_nothing_to_change(playbook: Callable[..., Play]) -> None:
    play = playbook("site", "--check", "--diff")
    assert play.status == 0, play.output[-3000:]
    assert play.recap
    assert play.tasks_with("changed") == []
    assert {host: row["changed"] for host, row in play.recap.items() if row["changed"]} == {}


def test_smoke(playbook: Callable[..., Play], capsys: object) -> None:
    play = playbook("smoke")
    print(play.output)
    assert play.status == 0, play.output[-3000:]
    assert {host: row["changed"] for host, row in play.recap.items() if row["changed"]} == {}
