# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The beat: one leader, each due time once, and nothing that got lost stays lost."""

from __future__ import annotations

import datetime
import json
import pathlib
import time
from typing import Any

import pytest
from conftest import ALICE, FLOW, Langflow, wait_for
from flowfleet_tasks import metrics
from flowfleet_tasks.beat import Leader, scheduled_run
from flowfleet_tasks.front import User

UTC = datetime.UTC
USER = User("11111111-1111-4111-8111-111111111111", "alice", False)


@pytest.fixture
def leader(application: Any) -> Leader:
    """Return a beat."""
    return Leader(application)


def plan(tmp_path: pathlib.Path, *entries: dict[str, Any]) -> None:
    """Write the schedules."""
    (tmp_path / "schedules.json").write_text(json.dumps({"schedules": list(entries)}), encoding="utf-8")


def scheduled(application: Any) -> list[dict[str, str]]:
    """Return the runs that schedules made, the oldest first."""
    found = application.store.listing(USER.id, wanted={}, limit=100)
    return [record for record in reversed(found) if record.get("schedule")]


def test_only_one_leads_and_another_takes_over(application: Any, leader: Leader) -> None:
    other = Leader(application)
    assert (leader.lead(), other.lead()) == (True, False)
    assert (leader.lead(), other.lead()) == (True, False)
    begun = time.monotonic()
    wait_for(other.lead, seconds=5)
    assert time.monotonic() - begun <= application.settings.beat.lock + 0.5
    assert leader.lead() is False


def test_a_leader_that_stops_lets_go_at_once(application: Any, leader: Leader) -> None:
    assert leader.lead()
    leader.resign()
    assert Leader(application).lead()


def test_each_due_time_fires_once_even_with_two_leaders(
    application: Any, leader: Leader, tmp_path: pathlib.Path
) -> None:
    plan(tmp_path, {"name": "often", "flow": FLOW, "every": 1, "input": "tick"})
    other = Leader(application)
    end = time.monotonic() + 4.2
    while time.monotonic() < end:
        for beat in (leader, other):
            # A lock that does not work: both believe that they lead.
            beat.leading = True
            beat.lead = lambda: True  # type: ignore[method-assign]
            beat.tick()
        time.sleep(0.1)
    dues = [record["due"] for record in scheduled(application)]
    assert len(dues) >= 3
    assert len(set(dues)) == len(dues)
    late = float(application.store.client.hget(application.store.key("schedule", "often"), "late"))
    assert late < 1.0


def test_the_next_look_is_no_later_than_the_next_due_time(
    application: Any, leader: Leader, tmp_path: pathlib.Path
) -> None:
    plan(
        tmp_path,
        {"name": "often", "flow": FLOW, "every": 10},
        {"name": "off", "flow": FLOW, "every": 1, "enabled": False},
    )
    standby = Leader(application)
    leader.tick()
    tick = application.settings.beat.tick
    moment = datetime.datetime(2026, 11, 22, 10, 0, 9, 900_000, tzinfo=UTC)
    assert standby.pause(moment) == tick
    assert leader.pause(moment) == pytest.approx(0.12)
    assert leader.pause(moment - datetime.timedelta(seconds=5)) == tick
    # Never so short that it would spin.
    assert leader.pause(moment + datetime.timedelta(seconds=0.1)) == tick
    assert leader.pause(moment + datetime.timedelta(seconds=0.099999)) == pytest.approx(0.02, abs=0.001)


def test_the_past_of_a_new_schedule_is_not_made_up_for(
    application: Any, leader: Leader, tmp_path: pathlib.Path
) -> None:
    plan(tmp_path, {"name": "hourly", "flow": FLOW, "cron": "0 * * * *"})
    leader.tick()
    leader.tick()
    assert scheduled(application) == []


def seen(application: Any, name: str, ago: float) -> None:
    """Pretend that a schedule was looked at some time ago."""
    application.store.client.hset(application.store.key("schedule", name), "last", f"{time.time() - ago:.0f}")


def test_missed_times_within_the_grace_fire_late_once_each(
    application: Any, leader: Leader, tmp_path: pathlib.Path
) -> None:
    plan(tmp_path, {"name": "often", "flow": FLOW, "every": 10, "misfire_grace": 35})
    seen(application, "often", 65)
    leader.tick()
    leader.tick()
    fired = len(scheduled(application))
    missed = int(application.store.client.hget(application.store.key("schedule", "often"), "missed"))
    assert fired in {3, 4}
    assert fired + missed in {6, 7}


def test_missed_times_beyond_the_grace_are_counted_only(
    application: Any, leader: Leader, tmp_path: pathlib.Path
) -> None:
    plan(tmp_path, {"name": "hourly", "flow": FLOW, "every": 3600, "misfire_grace": 0})
    seen(application, "hourly", 7200)
    leader.tick()
    assert scheduled(application) == []


def test_a_schedule_that_cannot_fire_now_fires_within_its_grace(
    application: Any, leader: Leader, tmp_path: pathlib.Path, langflow: Langflow
) -> None:
    plan(tmp_path, {"name": "often", "flow": "testflow", "every": 30})
    seen(application, "often", 31)
    real = application.front.door
    object.__setattr__(application.front.door, "url", "http://127.0.0.1:9")
    leader.tick()
    assert scheduled(application) == []
    key = application.store.key("schedule", "often")
    assert "does not answer" in application.store.client.hget(key, "error")
    object.__setattr__(real, "url", langflow.url)
    leader.tick()
    # Two, if one came due just now.
    record, *_later = scheduled(application)
    assert record["id"] == scheduled_run("often", datetime.datetime.fromisoformat(record["due"]))
    assert record["flow"] == FLOW


def test_a_bad_file_leaves_the_schedules_as_they_were(application: Any, leader: Leader, tmp_path: pathlib.Path) -> None:
    plan(tmp_path, {"name": "often", "flow": FLOW, "every": 10})
    leader.tick()
    (tmp_path / "schedules.json").write_text("{", encoding="utf-8")
    leader.tick()
    assert [entry["name"] for entry in metrics.listed_schedules(application.store)] == ["often"]
    plan(tmp_path, {"name": "rare", "flow": FLOW, "every": 100})
    leader.tick()
    assert [entry["name"] for entry in metrics.listed_schedules(application.store)] == ["rare"]


# --- nets -------------------------------------------------------------------------------------------------------------


def made(service: Any) -> str:
    """Make a run; return its identifier."""
    return str(service.submit(ALICE, USER, {"flow": FLOW, "input": "net"}, {})["id"])


def overdue(application: Any, run_id: str) -> None:
    """Let the time come at which somebody has to look."""
    application.store.client.zadd(application.store.key("due"), {run_id: 1})


def messages(application: Any) -> int:
    """Return how many messages wait."""
    return metrics.depth(application.store, "default")


def empty(application: Any) -> None:
    """Lose all messages, as a failover of Redis may."""
    application.store.client.delete(*metrics.broker_lists(application.store, "default"))


def test_a_lost_message_is_sent_again(application: Any, service: Any, leader: Leader) -> None:
    run_id = made(service)
    overdue(application, run_id)
    assert leader.sweep() == 0, "its message is there"
    empty(application)
    overdue(application, run_id)
    assert (leader.sweep(), messages(application)) == (1, 1)


def test_a_message_that_was_never_sent_is_sent(application: Any, service: Any, leader: Leader) -> None:

    def broken(*_arguments: Any, **_options: Any) -> None:
        raise OSError("no broker")

    service.application.publish = broken
    run_id = made(service)
    del service.application.publish
    assert messages(application) == 0
    overdue(application, run_id)
    assert (leader.sweep(), messages(application)) == (1, 1)


@pytest.mark.parametrize("net", [True, False])
def test_a_run_without_its_worker_is_revived_unless_the_net_is_gone(
    application: Any, service: Any, leader: Leader, net: bool
) -> None:
    run_id = made(service)
    empty(application)
    assert application.store.claim(run_id, "dead").verdict == "run"
    application.store.client.hset(application.store.key("run", run_id), "lease", "1")
    overdue(application, run_id)
    if not net:
        application.settings.recovery.__dict__["sweep"] = 0.0
    assert leader.sweep() == int(net)
    assert messages(application) == int(net)


def test_a_batch_whose_message_is_lost_is_unfolded(application: Any, service: Any, leader: Leader) -> None:
    batch = service.submit_batch(ALICE, USER, {"flow": FLOW, "items": ["a", "b"]}, {})
    empty(application)
    application.store.client.zadd(application.store.key("unfolded"), {batch["id"]: 1})
    leader.unfold()
    assert messages(application) == 1
    assert application.unfold(batch["id"]) == 2
    assert application.unfold(batch["id"]) == 0
