# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with the variables of role celery is found before a host is touched."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.filter.celery_problems import FilterModule, celery_problems
from ansible_collections.flowfleet.langflow.plugins.module_utils._celery_plan import (
    SCHEDULE_KEYS,
    cron_fault,
    problems,
)

GOOD: dict[str, Any] = {
    "celery_workers": [{"name": "main", "queues": ["default", "bulk"], "concurrency": 2, "memory_mb": 512}],
    "celery_queues": {"default": {}, "bulk": {"rate": "30/m", "run_timeout": 60, "superuser_only": True}},
    "celery_default_queue": "default",
    "celery_schedules": [
        {"name": "nightly", "flow": "report", "cron": "0 3 * * mon-fri", "timezone": "Europe/Berlin", "queue": "bulk"},
        {
            "name": "often",
            "flow": "ping",
            "every": 30,
            "input": "hello",
            "tweaks": {},
            "guarantee": "at_least_once",
            "mode": "held",
        },
    ],
    "celery_schedules_timezone": "UTC",
    "celery_schedule_keys": {"default": "sk-1"},
    "celery_request_timeout": 300,
    "celery_gateway_timeout": 310,
    "celery_soft_time_limit": 270,
    "celery_hard_time_limit": 285,
    "celery_visibility_timeout": 330,
    "celery_drain_timeout": 120,
    "celery_settings": {},
    "celery_seal_key": "A" * 43 + "=",
    "celery_seal_keys_old": [],
    "celery_redis_prefix": "flowfleet:tasks:",
    "celery_install_source": "index",
}


def schedule(**changed: Any) -> dict[str, Any]:
    entry = {"name": "nightly", "flow": "report", "cron": "0 3 * * *", **changed}
    return {"celery_schedules": [{key: value for key, value in entry.items() if value is not None}]}


def test_what_is_right_passes() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("changed", "variable", "message"),
    [
        # queues and workers
        ({"celery_queues": {}}, "celery_queues", "names no queue"),
        ({"celery_queues": {"default": {}, "bulk": {}, "Big Queue": {}}}, "celery_queues.Big Queue", "no name"),
        ({"celery_queues": {"default": {}, "bulk": {"rate": "fast"}}}, "celery_queues.bulk.rate", "'fast' is no rate"),
        ({"celery_queues": {"default": {}, "bulk": {"rat": "1/s"}}}, "celery_queues.bulk", "unknown keys (rat)"),
        ({"celery_queues": {"default": {}, "bulk": {"run_timeout": 0}}}, "celery_queues.bulk.run_timeout", "above 0"),
        ({"celery_queues": {"default": {}, "bulk": 3}}, "celery_queues.bulk", "not a dictionary"),
        ({"celery_default_queue": "main"}, "celery_default_queue", "'main' is none of celery_queues"),
        ({"celery_workers": [{"name": "a", "queues": ["slow"]}]}, "celery_workers[a]", "serves slow"),
        ({"celery_workers": [{"name": "a", "concurrency": 0}]}, "celery_workers[a]", "no process"),
        ({"celery_workers": [{"name": "a"}, {"name": "a"}]}, "celery_workers", "two workers are named 'a'"),
        ({"celery_workers": [{"name": "../a"}]}, "celery_workers[../a]", "no usable name"),
        ({"celery_workers": [{"name": "a", "queue": "x"}]}, "celery_workers[a]", "unknown keys (queue)"),
        # schedules
        (schedule(cron="0 25 * * *"), "celery_schedules[nightly].cron", "'25' in '0 25 * * *' is no hour"),
        (schedule(cron="* * *"), "celery_schedules[nightly].cron", "3 fields"),
        (schedule(cron=5), "celery_schedules[nightly].cron", "is not text"),
        (schedule(timezone="Europe/Nowhere"), "celery_schedules[nightly].timezone", "no time zone"),
        ({"celery_schedules_timezone": "Mars"}, "celery_schedules_timezone", "'Mars' is no time zone"),
        (schedule(queue="slow"), "celery_schedules[nightly].queue", "'slow' is none of celery_queues"),
        (schedule(key="other"), "celery_schedules[nightly].key", "'other' is none of celery_schedule_keys"),
        (schedule(every=60), "celery_schedules[nightly]", "either cron or every"),
        (schedule(cron=None), "celery_schedules[nightly]", "either cron or every"),
        (schedule(cron=None, every=0), "celery_schedules[nightly].every", "no interval"),
        (schedule(flow=None), "celery_schedules[nightly]", "names no flow"),
        (schedule(timeout=-1), "celery_schedules[nightly].timeout", "not above 0"),
        (schedule(mode="fast"), "celery_schedules[nightly].mode", "'fast' is unknown"),
        (schedule(guarantee="twice"), "celery_schedules[nightly].guarantee", "'twice' is unknown"),
        (schedule(corn="x"), "celery_schedules[nightly]", "unknown keys (corn)"),
        (schedule(name="Not a name"), "celery_schedules[Not a name]", "no usable name"),
        ({"celery_schedules": GOOD["celery_schedules"][:1] * 2}, "celery_schedules", "two schedules are named"),
        # times
        ({"celery_soft_time_limit": 290}, "celery_soft_time_limit", "at least 1 s below celery_hard_time_limit"),
        ({"celery_hard_time_limit": 300}, "celery_hard_time_limit", "at least 1 s below celery_request_timeout"),
        ({"celery_visibility_timeout": 300}, "celery_hard_time_limit", "at least 30 s below celery_visibility_timeout"),
        ({"celery_gateway_timeout": 200}, "celery_request_timeout", "not above celery_gateway_timeout"),
        ({"celery_soft_time_limit": "soon"}, "celery_soft_time_limit", "'soon' is not above 0"),
        # the rest
        ({"celery_seal_key": "secret"}, "celery_seal_key", "no Fernet key"),
        ({"celery_seal_keys_old": ["x"]}, "celery_seal_key", "no Fernet key"),
        ({"celery_redis_prefix": "tasks"}, "celery_redis_prefix", "colon"),
        ({"celery_settings": []}, "celery_settings", "not a dictionary"),
        ({"celery_install_source": "wheelhouse"}, "celery_wheelhouse", "is empty"),
        (
            {"celery_install_source": "wheelhouse", "celery_wheelhouse": "https://files.example.com/w.tar"},
            "celery_wheelhouse_sha256",
            "no checksum",
        ),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, Any], variable: str, message: str) -> None:
    found = problems({**GOOD, **changed})
    assert [item.variable for item in found if message in item.message] == [variable], found
    assert all(item.fix for item in found)


def test_a_key_without_a_value_was_left_out() -> None:
    """A validation by the argument specification fills in what nobody said."""
    schedules = [{**dict.fromkeys(SCHEDULE_KEYS), **entry} for entry in GOOD["celery_schedules"]]
    workers = [{**entry, "memory_mb": None, "queues": None} for entry in GOOD["celery_workers"]]
    queues = {"default": {"rate": None, "run_timeout": None}, "bulk": None}
    assert problems({**GOOD, "celery_schedules": schedules, "celery_workers": workers, "celery_queues": queues}) == []


def test_a_schedule_that_is_off_needs_no_key() -> None:
    assert problems({**GOOD, **schedule(enabled=False), "celery_schedule_keys": {}}) == []


@pytest.mark.parametrize(
    "line",
    ["* * * * *", "*/5 0-6,22 1,15 jan-mar sun", "0 3 L * *", "59 23 31 12 7", "0 0 29 feb *", "5-10/2 * * * 1-5"],
)
def test_cron_lines_that_are_right(line: str) -> None:
    assert cron_fault(line) == ""


@pytest.mark.parametrize(
    "line",
    ["60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *"]
    + [
        "a * * * *",
        "* * * foo *",
        "",
        "@daily",
        "* * * * * *",
        ",* * * * *",
        "0 0 30 feb *",
        "0 0 31 4 *",
        "1- * * * *",
    ],
)
def test_cron_lines_that_are_wrong(line: str) -> None:
    assert cron_fault(line)


def test_the_filter_gives_lines() -> None:
    assert FilterModule().filters() == {"celery_problems": celery_problems}
    (line,) = celery_problems({**GOOD, "celery_default_queue": "x"})
    assert line == "celery_default_queue: 'x' is none of celery_queues. Fix: use one of default, bulk"
    with pytest.raises(AnsibleFilterError, match="expected a dictionary"):
        celery_problems([])  # type: ignore[arg-type]
