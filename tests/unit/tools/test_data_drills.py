# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the drills of the data tier make of journals and samples, without any lab."""

from __future__ import annotations

import importlib
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT))
cli, core, data, data_tier, ledger, sampler = (
    importlib.import_module(f"tools.drills.{name}")
    for name in ("cli", "core", "data", "data_tier", "ledger", "sampler")
)


def answers(state: str, began: float, count: int) -> list[Any]:
    """One every tenth of a second, each taking 5 ms."""
    return [
        data_tier.Sample(round(began + number / 10, 3), round(began + number / 10 + 0.005, 3), state)
        for number in range(count)
    ]


def entries(*spans: tuple[str, float, float]) -> list[Any]:
    """Attempts every tenth of a second, each ending after 10 ms."""
    found: list[Any] = []
    for outcome, since, until in spans:
        moment = since
        while moment < until - 1e-9:
            found.append(ledger.Entry(len(found) + 1, outcome, moment, round(moment + 0.01, 3)))
            moment = round(moment + 0.1, 3)
    return found


# --- who takes writes ------------------------------------------------------------------------------------------------


def test_samples_are_read_but_for_a_line_that_was_cut_off() -> None:
    text = "10.000 10.002 primary\n10.100 10.103 standby\n10.200 10.201 down\n10.300 10.3"
    assert data_tier.read_samples(text) == [
        data_tier.Sample(10.0, 10.002, "primary"),
        data_tier.Sample(10.1, 10.103, "standby"),
        data_tier.Sample(10.2, 10.201, "down"),
    ]


def test_a_clean_change_has_no_tenth_with_two() -> None:
    samples = {
        "db1": answers("primary", 100.0, 20) + answers("down", 102.0, 30),
        "db2": answers("standby", 100.0, 25) + answers("primary", 102.5, 25),
        "db3": answers("standby", 100.0, 50),
    }
    assert data_tier.writable_twice(samples) == {}


def test_control_a_single_tenth_with_two_is_seen() -> None:
    samples = {
        "db1": answers("primary", 100.0, 21) + answers("down", 102.1, 30),
        "db2": answers("standby", 100.0, 20) + answers("primary", 102.0, 25),
    }
    assert data_tier.writable_twice(samples) == {1020: ["db1", "db2"]}


def test_a_server_that_did_not_answer_for_a_moment_is_not_taken_for_gone() -> None:
    """Between two answers that it takes writes it took them, unless they are far apart."""
    two = [data_tier.Sample(100.0, 100.01, "primary"), data_tier.Sample(100.5, 100.51, "primary")]
    assert data_tier.writable_ticks(two) == set(range(1000, 1006))
    far = [data_tier.Sample(100.0, 100.01, "primary"), data_tier.Sample(105.0, 105.01, "primary")]
    assert data_tier.writable_ticks(far) == {1000, 1050}


def test_no_samples_are_no_proof(tmp_path: Path) -> None:
    drill = core.Drill("x", "y")
    data_tier.check_samples(drill, {"db1": [], "db2": answers("standby", 1.0, 5)})
    assert not drill.passed


class Connection:
    """As much of a connection as the sampler uses."""

    closed = False

    def __init__(self, script: list[Any]) -> None:
        self.script = script

    def execute(self, _question: str) -> Connection:
        return self

    def fetchone(self) -> tuple[bool]:
        found = self.script.pop(0)
        if isinstance(found, Exception):
            raise found
        return (found,)

    def close(self) -> None:
        self.closed = True


class Driver:
    """A server that answers as it is told to."""

    class Error(Exception):
        pass

    def __init__(self, *script: Any) -> None:
        self.script, self.connected = list(script), 0

    def connect(self, _dsn: str, **_options: Any) -> Connection:
        self.connected += 1
        if self.script[0] == "refused":
            self.script.pop(0)
            raise self.Error
        return Connection(self.script)


def test_sampler_keeps_its_connection_and_replaces_a_broken_one() -> None:
    driver = Driver(True, True, Driver.Error(), "refused", False)
    server = sampler.Server(driver)
    assert [server.state() for _number in range(5)] == ["primary", "primary", "down", "down", "standby"]
    assert driver.connected == 3


# --- how long nothing was written ------------------------------------------------------------------------------------


def test_outage_is_the_longest_pause_around_the_fault() -> None:
    rows = entries(("acknowledged", 0, 10), ("rejected", 10, 17), ("acknowledged", 17, 30))
    found = data_tier.outage(rows, 10.0, 30.0)
    assert found
    assert found["seconds"] == pytest.approx(17.01 - 9.91)


def test_outage_of_an_earlier_fault_is_not_taken_for_this_one() -> None:
    rows = entries(
        ("acknowledged", 0, 5),
        ("unknown", 5, 20),
        ("acknowledged", 20, 40),
        ("rejected", 40, 44),
        ("acknowledged", 44, 50),
    )
    found = data_tier.outage(rows, 39.9, 50.0)
    assert found
    assert found["seconds"] == pytest.approx(4.1)


@pytest.mark.parametrize("rows", [[], entries(("acknowledged", 0, 10), ("rejected", 10, 30))])
def test_outage_that_is_not_over_has_no_length(rows: list[Any]) -> None:
    assert data_tier.outage(rows, 11.0, 30.0) is None


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        ([4.0], {"p50": 4.0, "p95": 4.0, "max": 4.0}),
        ([float(number) for number in range(1, 31)], {"p50": 15.0, "p95": 29.0, "max": 30.0}),
        ([], {}),
    ],
)
def test_spread(seconds: Sequence[float], wanted: dict[str, float]) -> None:
    assert data_tier.spread(seconds) == wanted


# --- verdicts --------------------------------------------------------------------------------------------------------

GOOD = {
    "acknowledged": 3000, "lost": [], "twice": [], "rejected": 12, "unknown": 1, "rejected_but_present": [],
    "verdict": "pass",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({}, True),
        ({"lost": [7]}, False),
        ({"twice": [7]}, False),
        ({"rejected_but_present": [7]}, False),
        # Nothing written is nothing shown.
        ({"acknowledged": 0}, False),
    ],
)
def test_a_ledger_passes_only_if_it_wrote_and_lost_nothing(change: dict[str, Any], passed: bool) -> None:
    drill = core.Drill("x", "y")
    data_tier.check_ledger(drill, {**GOOD, **change}, "cut off: ")
    assert drill.passed is passed
    assert drill.facts["cut_off_ledger"]["verdict"] == "pass"


def test_a_nodes_new_process_is_seen() -> None:
    assert data.restarted({"app1": "5", "app2": "6"}, {"app1": "5", "app2": "7"}) == ["app2"]


def test_changes_are_read_from_the_recap() -> None:
    class Ended:
        output = "data-db1 : ok=3    changed=0    unreachable=0\ndata-db2 : ok=3    changed=2    unreachable=0\n"

    assert data.changes(Ended()) == {"data-db2": 2}


# --- the tier --------------------------------------------------------------------------------------------------------


class FakeLab(core.Lab):  # type: ignore[misc]
    """Hosts that answer from a table; what was done to them is kept."""

    def __init__(self, said: dict[str, str]) -> None:
        self.said, self.done = said, []
        self.groups = {"postgresql": ["db1", "db2", "db3"], "etcd": ["db1", "db2", "db3"], "langflow": ["app1"]}
        self.addresses = {"db1": "192.0.2.1", "db2": "192.0.2.2", "db3": "192.0.2.3", "app1": "192.0.2.9"}

    def inside(self, host: str, *argv: str, check: bool = True) -> str:
        self.done.append(f"{host}: {argv[-1]}")
        return next((text for key, text in self.said.items() if key in f"{host}: {argv[-1]}"), "")


def test_cut_off_keeps_clients_and_drops_every_other_server_both_ways() -> None:
    lab = FakeLab({})
    began = time.time()
    assert data_tier.Tier(lab).cut_off("db2") >= began
    rules = lab.done[0]
    assert rules.startswith("db2: nft ")
    for side in ("saddr", "daddr"):
        found = re.search(rf"ip {side} {{ ([^}}]*) }} drop", rules)
        assert found
        assert sorted(found[1].split(", ")) == ["192.0.2.1", "192.0.2.3"]
    assert "192.0.2.9" not in rules


def test_leader_is_asked_from_each_server_and_has_to_be_one() -> None:
    assert data_tier.Tier(FakeLab({"db3: curl": "200", "db": "503"})).leader() == "db3"
    with pytest.raises(core.DrillError, match="these do: none"):
        data_tier.Tier(FakeLab({"db": "503"})).leader()
    with pytest.raises(core.DrillError, match="db1, db2"):
        data_tier.Tier(FakeLab({"db1: curl": "200", "db2: curl": "200"})).leader()


@pytest.mark.parametrize("name", sorted(cli.DATA))
def test_every_drill_of_the_tier_is_there(name: str) -> None:
    """Those of other modules are imported when they run: a name that is wrong must not wait for that."""
    assert callable(cli.TIERS["data"].steps[name].run)
    module, drill = {"4": ("data_jobs", "drill_4"), "5": ("data_jobs", "drill_5"), "6": ("pitr", "drill_6")}.get(
        name, ("data", f"drill_{name}")
    )
    assert callable(getattr(importlib.import_module(f"tools.drills.{module}"), drill))
