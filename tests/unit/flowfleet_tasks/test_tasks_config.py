# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuration, secrets, schedules: what cannot work is refused with a sentence."""

from __future__ import annotations

import datetime
import json
import logging
import pathlib
import zoneinfo
from typing import Any

import pytest
from flowfleet_tasks import cli, config, schedules, seal, trace
from flowfleet_tasks.app import celery_settings
from flowfleet_tasks.errors import ConfigError

FLOW = "a450334b-6dd1-4983-878a-ff8d542f5e04"
UTC = datetime.UTC


def parsed(**sections: Any) -> config.Config:
    """Return a configuration with these sections."""
    return config.parse({"langflow": {"url": "https://langflow.example.com"}, **sections})


def test_the_defaults_work() -> None:
    assert config.check(parsed()) == []


BAD = [
    ({"times": {"soft_limit": 290}}, "times.soft_limit (290 s) has to be below times.hard_limit (285 s)"),
    ({"times": {"hard_limit": 300}}, "times.hard_limit (300 s) has to be below langflow.request_timeout (300 s)"),
    ({"times": {"slice": 280}}, "times.slice (280 s) has to be below times.soft_limit (270 s)"),
    ({"times": {"visibility_timeout": 300}}, "or Redis hands out a task that is still running"),
    ({"times": {"lease": 1}}, "times.lease has to be at least 3 s"),
    ({"queues": {"Bad Name": {}}, "default_queue": "Bad Name"}, "queue 'Bad Name' has to match"),
    ({"queues": {"a": {"rate": "often"}}, "default_queue": "a"}, "queues.a.rate 'often' has to look like 5/s"),
    ({"queues": {"a": {}}}, "default_queue 'default' is none of the queues"),
    ({"queues": {}}, "queues has to name at least one queue"),
    ({"times": {"sofft_limit": 1}}, "times.sofft_limit is unknown"),
    ({"api": {"port": "8443"}}, "api.port has to be of type int, not str"),
    ({"redis": {"tls": 1}}, "redis.tls has to be of type bool, not int"),
    ({"beat": {"tick": 5}}, "beat.lock has to be at least three times beat.tick"),
    ({"redis": {"prefix": "tasks"}}, "redis.prefix has to end with a colon"),
    ({"limits": {"body_bytes": 0}}, "limits.body_bytes has to be above 0"),
]


@pytest.mark.parametrize(("sections", "message"), BAD)
def test_a_configuration_that_cannot_work(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(**sections)
    assert message in str(caught.value)


def test_the_gateway_has_to_wait_longer_than_langflow() -> None:
    with pytest.raises(ConfigError, match=r"must not exceed langflow\.gateway_timeout"):
        config.parse({"langflow": {"url": "https://a", "request_timeout": 400}})


def test_celery_is_told_what_the_promises_need() -> None:
    told = celery_settings(parsed())
    assert (told["task_acks_late"], told["task_reject_on_worker_lost"], told["worker_prefetch_multiplier"]) == (
        True,
        True,
        1,
    )
    assert told["task_soft_time_limit"] < told["task_time_limit"]
    assert told["task_time_limit"] < told["broker_transport_options"]["visibility_timeout"]
    assert told["accept_content"] == ["json"]
    assert told["broker_use_ssl"]["ssl_check_hostname"] is True
    assert celery_settings(parsed(recovery={"acks_late": False}))["task_acks_late"] is False


def test_check_config_names_every_fault(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, plan = tmp_path / "config.json", tmp_path / "schedules.json"
    file.write_text(json.dumps({"langflow": {"url": "https://a"}}), encoding="utf-8")
    plan.write_text(json.dumps({"schedules": []}), encoding="utf-8")
    assert cli.main(["check-config", "--file", str(file), "--schedules", str(plan)]) == 0
    bad = [
        {"name": "a", "flow": FLOW, "cron": "61 * * * *"},
        {"name": "b", "flow": FLOW, "cron": "0 0 30 2 *"},
        {"name": "c", "flow": FLOW},
        {"name": "d", "flow": FLOW, "every": 30, "queue": "nowhere"},
        {"name": "e", "flow": FLOW, "every": 30, "timezone": "Mars/Olympus"},
        {"name": "f", "flow": FLOW, "every": 0.5},
        {"name": "g", "flow": FLOW, "every": 5, "colour": "red"},
        {"name": "g", "flow": FLOW, "every": 5},
        {"name": "g", "flow": FLOW, "every": 5},
        {"name": "No Name", "flow": FLOW, "every": 5},
    ]
    plan.write_text(json.dumps({"schedules": bad}), encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["check-config", "--file", str(file), "--schedules", str(plan)]) == 2
    faults = capsys.readouterr().err.splitlines()
    for part in (
        "schedule a: '61 * * * *' is no cron line",
        "schedule b: '0 0 30 2 *'",
        "schedule c: has to have either cron or every",
        "schedule d: There is no queue 'nowhere'",
        "schedule e: there is no time zone 'Mars/Olympus'",
        "schedule f: every has to be a number of seconds",
        "schedule g: There is no field 'colour'",
        "schedule g: the name is used twice",
        "a schedule has to have a name",
    ):
        assert any(part in fault for fault in faults), (part, faults)
    file.write_text("{", encoding="utf-8")
    assert cli.main(["check-config", "--file", str(file)]) == 2


def one(**fields: Any) -> schedules.Schedule:
    """Return one schedule."""
    return schedules.parse({"schedules": [{"name": "s", "flow": FLOW, **fields}]}, parsed())[0]


def test_cron_follows_its_time_zone_over_a_change_of_clocks() -> None:
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    daily = one(cron="30 2 * * *", timezone="Europe/Berlin")
    start = datetime.datetime(2026, 3, 27, 12, tzinfo=UTC)
    found = daily.due(start, start + datetime.timedelta(days=4))
    local = [moment.astimezone(berlin).strftime("%d %H:%M") for moment in found]
    # 02:30 does not exist on the 29th: it fires when the gap is over, and once.
    assert local == ["28 02:30", "29 03:00", "30 02:30", "31 02:30"]
    start = datetime.datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert len(daily.due(start, start + datetime.timedelta(days=1))) == 1


def test_due_times_of_an_interval_are_the_same_for_everybody() -> None:
    often = one(every=30)
    now = datetime.datetime(2026, 1, 1, 0, 0, 59, tzinfo=UTC)
    for seconds in (0, 7, 29):
        due = often.due(now - datetime.timedelta(seconds=seconds + 1), now)
        assert [moment.second for moment in due] == ([30] if seconds == 29 else [])


def test_a_seal_opens_with_old_keys_and_seals_with_the_first() -> None:
    from cryptography.fernet import Fernet

    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    sealed = seal.Seal(old).close({"key": "sk-secret"})
    assert "sk-secret" not in sealed
    both = seal.Seal(f"{new}\n{old}\n")
    assert both.open(sealed) == {"key": "sk-secret"}
    assert seal.Seal(new).open(both.close(1)) == 1
    with pytest.raises(seal.SealBroken):
        seal.Seal(new).open(sealed)
    for bad in ("", "no key"):
        with pytest.raises(ConfigError):
            seal.Seal(bad)


@pytest.mark.parametrize(
    "text",
    ["key sk-abcdefgh12345678 used", "{'x-api-key': 'whatever-it-is'}", 'header "X-API-Key: whatever-it-is" seen'],
)
def test_no_key_reaches_a_log(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler()
    handler.addFilter(seal.Redactor())
    logger = logging.Logger("redacted")
    logger.addHandler(handler)
    logger.error("%s", text)
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("it failed")
    written = capsys.readouterr().err
    assert "ValueError" in written
    assert "abcdefgh" not in written
    assert "whatever" not in written


def test_trace_context() -> None:
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert trace.accept(given) == given
    for bad in (None, "", "00-0-0-0", given.upper(), "00-" + "0" * 32 + "-b7ad6b7169203331-01", given + "-x"):
        assert trace.accept(bad) != bad
        assert trace.TRACEPARENT.match(trace.accept(bad))
    assert trace.trace_id(trace.child(given)) == "0af7651916cd43dd8448eb211c80319c"
    assert trace.child(given) != given
    assert trace.accept_state("a=1\r\nx: y") == ""
