"""What the playbooks say about the cluster right after it was converged. Runs before the tests that break things."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conftest import Cluster, Play


def test_check_mode_finds_nothing_to_change_and_shows_no_secret(
    playbook: Callable[..., Play], cluster: Cluster
) -> None:
    play = playbook("site", "--check", "--diff", "-vvv")
    assert play.status == 0, play.output[-3000:]
    assert play.recap
    assert play.tasks_with("changed") == []
    assert {host: row["changed"] for host, row in play.recap.items() if row["changed"]} == {}
    store = Path(str(cluster.variable("langflow_fleet_secrets_dir")))
    secrets = {path.name: path.read_text().strip() for path in store.iterdir() if not path.name.startswith(".")}
    assert len(secrets) >= 8
    assert [name for name, value in secrets.items() if value in play.output] == []
    # The hosts' own logs hold what modules were called with.
    for name, host in cluster.hosts.items():
        journal = host.check_output("journalctl --no-pager --output=cat")
        assert [secret for secret, value in secrets.items() if value in journal] == [], name


def test_smoke(playbook: Callable[..., Play], capsys: object) -> None:
    play = playbook("smoke")
    print(play.output)
    assert play.status == 0, play.output[-3000:]
    assert {host: row["changed"] for host, row in play.recap.items() if row["changed"]} == {}
