# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When servers archive, and what the playbooks of the data tier do where there is no server of this inventory."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"
COMMAND = "pgbackrest --stanza=langflow archive-push %p"
BUCKET = {"backup_repository_type": "s3", "backup_s3_endpoint": "s3.example.com", "backup_s3_bucket": "backups"}

Playbook = Callable[..., "subprocess.CompletedProcess[str]"]


def fleet(folder: Path, servers: dict[str, Any] | None, backup: dict[str, Any] | None = None, **variables: Any) -> Path:
    """Write an inventory; no servers at all leaves the group out."""
    names = {"lb1", "app1", *(servers or {}), *(backup or {})}
    children: dict[str, Any] = {"loadbalancers": {"hosts": {"lb1": {}}}, "langflow": {"hosts": {"app1": {}}}}
    children |= {} if servers is None else {"postgresql": {"hosts": servers}}
    children |= {} if backup is None else {"backup": {"hosts": backup}}
    hosts = {name: {"ansible_host": f"192.0.2.{number}"} for number, name in enumerate(sorted(names), 1)}
    path = folder / "hosts.yml"
    path.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": variables, "children": children}}), "utf-8")
    return path


@pytest.mark.parametrize(
    ("servers", "backup", "variables", "archiving", "certified"),
    [
        ({"db1": {}}, None, {}, [], []),
        ({"db1": {}}, {}, {}, [], []),
        ({"db1": {}}, {"keep1": {}}, {}, ["db1", "keep1"], ["db1", "keep1"]),
        ({"db1": {}, "db2": {}}, None, BUCKET, ["db1", "db2"], ["db1", "db2"]),
        ({"db1": {}}, {"keep1": {}}, BUCKET, ["db1", "keep1"], ["db1", "keep1"]),
        (None, None, BUCKET, [], []),
        ({}, {"keep1": {}}, {}, [], []),
    ],
    ids=["nothing", "empty group", "host", "bucket", "bucket behind a host", "own server", "host without server"],
)
def test_a_repository_host_or_a_bucket_makes_servers_archive(
    servers: dict[str, Any] | None,
    backup: dict[str, Any] | None,
    variables: dict[str, Any],
    archiving: list[str],
    certified: list[str],
    ansible_playbook: Playbook,
    tmp_path: Path,
) -> None:
    inventory = fleet(tmp_path, servers, backup, **variables)
    (tmp_path / "group_vars").symlink_to(PLAYBOOKS / "group_vars")
    site = {play["name"]: play for play in yaml.safe_load((PLAYBOOKS / "site.yml").read_text(encoding="utf-8"))}
    play = site["Bring up backups"]
    conditions = [task["when"] for task in play["tasks"]]
    assert len(conditions) == 2
    shown = (
        "{{ {'host': inventory_hostname, 'command': langflow_fleet_archive_command,"
        " 'certificates': certificates_list | map(attribute='name') | list} | to_json }}"
    )
    task = {"ansible.builtin.debug": {"msg": shown}, "when": conditions}
    book = [{"hosts": play["hosts"], "gather_facts": False, "connection": "local", "tasks": [task]}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(book), encoding="utf-8")
    run = ansible_playbook(tmp_path, "-i", str(inventory), str(tmp_path / "play.yml"))
    assert run.returncode == 0, run.stdout + run.stderr
    texts = [line.partition('"msg": ')[2].rstrip(",") for line in run.stdout.splitlines() if '"msg": ' in line]
    found = [value if isinstance(value := json.loads(text), dict) else json.loads(value) for text in texts]
    assert sorted(row["host"] for row in found) == archiving
    assert {row["command"] for row in found} <= {COMMAND}
    assert sorted(row["host"] for row in found if "backup" in row["certificates"]) == certified


@pytest.mark.parametrize("servers", [None, {}], ids=["no group", "an empty group"])
def test_restarting_the_databases_of_others_does_nothing(
    servers: dict[str, Any] | None, ansible_playbook: Playbook, tmp_path: Path
) -> None:
    inventory = fleet(tmp_path, servers, langflow_database_host="db.example.com")
    run = ansible_playbook(tmp_path, "-i", str(inventory), "flowfleet.langflow.postgresql_restart")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "TASK" not in run.stdout
    assert "[WARNING]" not in run.stderr


@pytest.mark.parametrize("verb", ["backup", "restore", "verify_backup"])
@pytest.mark.parametrize("servers", [None, {}], ids=["no group", "an empty group"])
def test_to_back_up_nothing_is_no_success(
    servers: dict[str, Any] | None, verb: str, ansible_playbook: Playbook, tmp_path: Path
) -> None:
    inventory = fleet(tmp_path, servers, langflow_database_host="db.example.com")
    run = ansible_playbook(tmp_path, "-i", str(inventory), f"flowfleet.langflow.{verb}")
    assert run.returncode != 0
    assert "Groups postgresql and backup have no host" in run.stdout, run.stdout + run.stderr
    assert "Gathering Facts" not in run.stdout
    assert run.stdout.count("TASK") == 1
