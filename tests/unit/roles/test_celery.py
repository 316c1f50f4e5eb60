# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role celery: what it writes is what the program takes, and secrets stay with root."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

import pytest
import yaml
from ansible_collections.flowfleet.langflow.plugins.module_utils import _celery_plan
from rendering import ROLES, Role

FACTS = {"systemd": {"version": 257}, "python": {"version": {"major": 3, "minor": 13}}}
GIVEN: dict[str, Any] = {
    "celery_redis_host": "192.0.2.31",
    "celery_redis_password": "pass" * 12,
    "celery_seal_key": "A" * 43 + "=",
    "celery_schedule_keys": {"default": "sk-1"},
    "celery_tls_dir": "/etc/flowfleet/tls",
    "langflow_fleet_front_address": "192.0.2.10",
}
SCHEDULE = {"name": "nightly", "flow": "report", "cron": "0 3 * * *", "timezone": "Europe/Berlin", "queue": "bulk"}


def role(systemd: int = 257, **changes: Any) -> Role:
    return Role("celery", {**FACTS, "systemd": {"version": systemd}}, **{**GIVEN, **changes})


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package's own judge of its configuration."""
    monkeypatch.syspath_prepend(str(ROLES / "celery/files/flowfleet_tasks/src"))
    # It stays loaded: a second copy would bring error types of its own, which the first copy does not catch.
    return importlib.import_module("flowfleet_tasks.config")


# --- what the program reads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"langflow_fleet_request_timeout": 60},
        {"langflow_fleet_request_timeout": 3600},
        {"celery_queues": {"default": {}, "bulk": {"rate": "30/m", "run_timeout": 7200, "superuser_only": True}}},
        {"celery_settings": {"limits": {"batch_size": 10}, "times": {"slice": 20}}},
    ],
)
def test_the_program_takes_the_configuration(package: Any, changes: dict[str, Any]) -> None:
    made = role(**changes)
    text = made.file("config.json.j2")
    settings = package.parse(json.loads(text))
    assert settings.redis.port == 6380
    assert settings.langflow.connect == "192.0.2.10"
    assert settings.api.path == "/tasks/v1"
    limit = changes.get("langflow_fleet_request_timeout", 300)
    assert settings.times.soft_limit < settings.times.hard_limit < limit <= settings.langflow.gateway_timeout
    assert settings.times.visibility_timeout >= settings.times.hard_limit + 30
    if "celery_settings" in changes:
        assert (settings.limits.batch_size, settings.times.slice) == (10, 20)
    assert GIVEN["celery_redis_password"] not in text
    assert GIVEN["celery_seal_key"] not in text


AGENT = {"langflow_fleet_trace_endpoint": "http://127.0.0.1:4328", "inventory_hostname": "task1"}


def test_spans_go_to_the_agent_of_the_host(package: Any) -> None:
    settings = package.parse(json.loads(role(**AGENT).file("config.json.j2"))).traces
    assert (settings.endpoint, settings.host) == ("http://127.0.0.1:4328/v1/traces", "task1")
    assert settings.ca_file == "", "the agent is on this host"
    assert settings.timeout <= 5
    assert settings.queue_size <= 8192


@pytest.mark.parametrize("given", [{}, {"langflow_fleet_trace_endpoint": ""}])
def test_without_an_agent_nothing_is_said_about_spans(package: Any, given: dict[str, Any]) -> None:
    made = json.loads(role(**given).file("config.json.j2"))
    assert made["traces"] == {}
    assert package.parse(made).traces.endpoint == ""


def test_a_receiver_elsewhere_is_verified(package: Any) -> None:
    made = role(celery_otlp_traces_endpoint="https://traces.example.com/v1/traces", inventory_hostname="task1")
    assert package.parse(json.loads(made.file("config.json.j2"))).traces.ca_file == "/etc/flowfleet/tls/ca.crt"
    made = role(celery_otlp_traces_endpoint="https://a/v1/traces", celery_otlp_ca_file="/x.pem", inventory_hostname="a")
    for unit in made.value("{{ __celery_units }}"):
        assert "/x.pem" in unit["watch"], "a new authority is read by a restart only"


@pytest.mark.parametrize("address", ["127.0.0.1:4328", "http://127.0.0.1:4328", "https://user:word@mon1/v1/traces"])
def test_an_address_for_spans_that_cannot_work_is_refused(address: str) -> None:
    def refused(**given: Any) -> list[str]:
        values = role(**given).value("{{ __celery_given }}")
        return [problem.line() for problem in _celery_plan.problems(values)]

    assert refused() == refused(**AGENT) == []
    (refusal,) = refused(celery_otlp_traces_endpoint=address)
    assert refusal.startswith("celery_otlp_traces_endpoint: an address with its path")
    assert "__celery_given | flowfleet.langflow.celery_problems" in (ROLES / "celery/tasks/preflight.yml").read_text(
        encoding="utf-8"
    )


def test_what_a_schedule_may_say_is_what_the_program_takes(package: Any) -> None:
    del package
    source = (ROLES / "celery/files/flowfleet_tasks/src/flowfleet_tasks/schedules.py").read_text(encoding="utf-8")
    own = set(re.findall(r'"(\w+)"', re.search(r"^OWN = \{(.*?)\}", source, re.M | re.S)[1]))
    submit = (ROLES / "celery/files/flowfleet_tasks/src/flowfleet_tasks/submit.py").read_text(encoding="utf-8")
    request = set(re.findall(r'^    "(\w+)":', re.search(r"^KNOWN.*?^\}", submit, re.M | re.S)[0], re.M))
    assert own | request == _celery_plan.SCHEDULE_KEYS
    documented = yaml.safe_load((ROLES / "celery/meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = documented["argument_specs"]["main"]["options"]["celery_schedules"]["options"]
    assert set(options) == _celery_plan.SCHEDULE_KEYS


def test_the_plan_judges_times_as_the_program_does(package: Any) -> None:
    """Whatever the program refuses about the order of times, the plan has refused before."""
    for soft, hard, visibility in [(270, 285, 330), (285, 285, 330), (270, 300, 400), (270, 285, 310), (200, 250, 280)]:
        made = role(celery_soft_time_limit=soft, celery_hard_time_limit=hard, celery_visibility_timeout=visibility)
        names = [name for row in _celery_plan.TIMES for name in row[:2]]
        values = {name: made.value("{{ " + name + " }}") for name in names}
        ours = list(_celery_plan._times(values))
        try:
            package.parse(json.loads(made.file("config.json.j2")))
            theirs = []
        except Exception as error:
            theirs = [str(error)]
        assert bool(ours) == bool(theirs), (soft, hard, visibility, ours, theirs)


def test_schedules_are_written_as_they_are() -> None:
    text = role(celery_schedules=[SCHEDULE]).file("schedules.json.j2")
    assert json.loads(text) == {"timezone": "UTC", "schedules": [SCHEDULE]}


# --- files ------------------------------------------------------------------------------------------------------------


def files(**changes: Any) -> dict[str, dict[str, Any]]:
    return {item["path"]: item for item in role(**changes).value("{{ __celery_files }}")}


def test_secrets_are_for_root_alone() -> None:
    found = files()
    secret = {path: item for path, item in found.items() if "/credentials/" in path}
    assert {path.rsplit("/", 1)[1] for path in secret} == {"redis_password", "seal_key", "schedule_keys"}
    for item in secret.values():
        assert (item["owner"], item["group"], item["mode"], item["secret"]) == ("root", "root", "0600", True)
    assert found["/etc/flowfleet/celery/credentials"]["mode"] == "0700"
    assert found["/etc/flowfleet/celery/config.json"]["group"] == "celery"
    assert "check-config --file %s" in found["/etc/flowfleet/celery/config.json"]["validate"]


def test_the_first_key_seals() -> None:
    text = role(celery_seal_keys_old=["B" * 43 + "="]).file("seal_key.j2")
    assert text.split() == ["A" * 43 + "=", "B" * 43 + "="]


def test_what_is_off_is_taken_away() -> None:
    found = files(celery_beat_enabled=False, celery_api_enabled=False)
    for part in ("beat", "api"):
        assert found[f"/etc/systemd/system/celery-{part}.service"] == {
            "path": f"/etc/systemd/system/celery-{part}.service",
            "state": "absent",
        }


# --- units ------------------------------------------------------------------------------------------------------------


def unit(part: str, **changes: Any) -> str:
    return role(**changes).file("celery.service.j2", __celery_part=part)


@pytest.mark.parametrize("part", ["worker", "beat", "api"])
def test_units_are_isolated_and_come_back(part: str) -> None:
    text = unit(part)
    for line in (
        "User=celery",
        "NoNewPrivileges=true",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "Restart=always",
    ):
        assert f"\n{line}\n" in text
    assert "/opt/celery/current/bin/python -I -m flowfleet_tasks " + part in text
    assert "RestartSteps=6" in text
    assert "RestartSteps" not in unit(part, systemd=252)
    assert "EnvironmentFile" not in text
    assert GIVEN["celery_redis_password"] not in text


def test_each_part_gets_its_own_secrets() -> None:
    given = {part: set(re.findall(r"LoadCredential=(\w+):", unit(part))) for part in ("worker", "beat", "api")}
    both = {"redis_password", "seal_key"}
    assert given == {"worker": both, "beat": both | {"schedule_keys"}, "api": both | {"tls_key"}}


def test_a_stop_of_a_worker_lets_requests_end() -> None:
    assert "TimeoutStopSec=300" in unit("worker")
    assert "TimeoutStopSec=615" in unit("worker", celery_hard_time_limit=600)


def test_a_worker_is_data() -> None:
    worker = {"name": "bulk", "queues": ["bulk", "slow"], "concurrency": 3}
    text = role().file("instance.conf.j2", __celery_worker=worker)
    assert "Environment=CELERY_QUEUES=bulk,slow\n" in text
    assert "Environment=CELERY_CONCURRENCY=3\n" in text
    assert "MemoryHigh=768M\n" in text
    assert "MemoryMax=960M\n" in text
    assert "MemoryHigh=100M\n" in role().file("instance.conf.j2", __celery_worker={**worker, "memory_mb": 100})


def test_every_unit_restarts_for_what_it_reads_and_nothing_else() -> None:
    workers = [{"name": "main", "queues": ["default"]}, {"name": "bulk", "queues": ["default"]}]
    found = {item["unit"]: item for item in role(celery_workers=workers).value("{{ __celery_units }}")}
    assert list(found) == [
        *["celery-beat.service", "celery-worker@main.service", "celery-worker@bulk.service", "celery-api.service"]
    ]
    for name, item in found.items():
        assert "/opt/celery/current" in item["watch"]
        assert "/etc/flowfleet/celery/config.json" in item["watch"]
        # The beat reads schedules again by itself.
        assert "/etc/flowfleet/celery/schedules.json" not in item["watch"]
        assert item["gate"]["timeout"] == 90, name
    assert (
        "/etc/systemd/system/celery-worker@bulk.service.d/50-instance.conf"
        not in found["celery-worker@main.service"]["watch"]
    )
    assert found["celery-worker@main.service"]["gate"]["argv"][1:] == ["ping", "--name", "main"]
    assert "/etc/flowfleet/tls/celery.key" in found["celery-api.service"]["watch"]


@pytest.mark.parametrize(("mode", "due"), [("any", ["b"]), ("always", ["a", "b"]), ("start", [])])
def test_only_workers_that_restart_are_drained(mode: str, due: list[str]) -> None:
    results = [
        {"action": "none", "stale": False, "__celery_unit": {"worker": "a"}},
        {"action": "restarted", "stale": True, "__celery_unit": {"worker": "b"}},
        {"action": "restarted", "stale": True, "__celery_unit": {"worker": ""}},
        {"action": "started", "stale": False, "__celery_unit": {"worker": "c"}},
    ]
    made = role(celery_restart_mode=mode, __celery_seen={"results": results})
    assert made.value("{{ __celery_due }}") == due


def test_workers_that_are_gone_from_the_inventory_are_found() -> None:
    paths = [f"/etc/systemd/system/celery-worker@{name}.service.d" for name in ("main", "old", "a-b")]
    made = role(__celery_found={"files": [{"path": path} for path in paths]})
    assert made.value("{{ __celery_surplus }}") == ["main", "a-b", "old"][1:]


def test_the_version_is_the_one_of_the_lock() -> None:
    lock = (ROLES / "celery/files/flowfleet_tasks/requirements.txt").read_text(encoding="utf-8")
    pinned = re.search(r"^celery==(\S+)", lock, re.M)[1]
    defaults = yaml.safe_load((ROLES / "celery/defaults/main.yml").read_text(encoding="utf-8"))
    assert defaults["celery_version"] == pinned
    # Imported by kombu's Redis transport, which does not say so: without it no worker starts.
    assert re.search(r"^packaging==", lock, re.M)


# --- beside the role --------------------------------------------------------------------------------------------------


def test_the_firewall_knows_the_tier() -> None:
    balancers, tasks = [{"name": "lb1", "address": "192.0.2.1"}], [{"name": "task1", "address": "192.0.2.7"}]
    data = [{"name": "data1", "address": "192.0.2.31"}]
    common = Role(
        "common",
        {},
        langflow_fleet_lb_hosts=balancers,
        langflow_fleet_celery_hosts=tasks,
        langflow_fleet_redis_hosts=data,
        langflow_fleet_database_hosts=data,
        common_firewall_clients=["203.0.113.0/24"],
    )
    rows = {row["name"]: row for row in common.value("{{ common_firewall_topology }}")}
    assert (rows["tasks"]["from"], rows["tasks"]["to"]) == (balancers, tasks)
    assert str(rows["tasks"]["port"]) == "7870"
    assert tasks[0] in rows["front door"]["from"]
    assert tasks[0] in rows["redis"]["from"]
    # Workers have no business with the database or with Langflow itself.
    assert tasks[0] not in rows["postgresql"]["from"] + rows["langflow"]["from"]
