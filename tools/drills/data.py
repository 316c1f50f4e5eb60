"""The drills of the data tier (scenario `data`): three servers with PostgreSQL, etcd and Redis, one host that writes.

0   a fresh lab: check mode before the first run, converge, a second run, smoke
1   kill -9 of the primary's postmaster, again and again
2   the primary's whole host killed; the primary cut off from etcd and from its peers
3   control: with `bounded` a cut must cost acknowledged writes, and the ledger must see it
7   the whole tier stopped and started in random orders

A ledger on the application host writes through the service proxy as Langflow does. Every server is asked ten times a
second, from itself, whether it takes writes.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tools.drills.core import Drill, DrillError, Lab, Play, say
from tools.drills.data_tier import (
    WHOLE,
    WHOLE_BOUNDED,
    Ledger,
    Samplers,
    Tier,
    check_ledger,
    check_samples,
    outage,
    sampling,
    show,
    spread,
    spread_text,
    writing,
)

SCENARIO = "data"
CHANCE = random.SystemRandom()
CRASH_GOAL, LOSS_GOAL = 15.0, 30.0
# What a run of site does to the database tier, and nothing else of it.
DATABASE = ("--limit", "postgresql:etcd:localhost")


# --- the lab in the state that a drill begins with -------------------------------------------------------------------


def converged(lab: Lab) -> bool:
    """Whether site has come to its end here before."""
    try:
        return all(lab.healthy(node) for node in lab.nodes) and bool(Tier(lab).members())
    except DrillError:
        return False


def prepare(lab: Lab) -> None:
    """A whole tier under a Langflow that is well; what a broken drill has left is put right."""
    lab.up()
    tier = Tier(lab)
    tier.repair()
    if not converged(lab):
        lab.must("site", "-e", "rollout_reset=true")
    Samplers(tier).stop()
    tier.settled(600)
    lab.wait_healthy()


def anew(lab: Lab) -> None:
    """Hosts that have nothing yet but the stand-in for S3."""
    lab.down()
    lab.up()


@contextmanager
def watched(tier: Tier) -> Iterator[tuple[Ledger, Samplers]]:
    """Ledger and samplers together."""
    with sampling(tier) as samplers, writing(tier) as ledger:
        yield ledger, samplers


def restarted(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Nodes whose process is not the one it was."""
    return [name for name, start in before.items() if after.get(name) != start]


def check_langflow(drill: Drill, lab: Lab, before: dict[str, str]) -> None:
    """Langflow came through, and by itself."""
    seconds = lab.wait_healthy()
    again = restarted(before, lab.starts())
    drill.check("Langflow is well", True, f"after {seconds:.0f} s", "yes")
    drill.check("Langflow was not restarted", not again, ", ".join(again) or "none", "none")


# --- rounds: take something away, see writes stop and go on, give it back -------------------------------------------


def one_round(
    tier: Tier, ledger: Ledger, break_it: Callable[[str], float], mend: Callable[[str], None]
) -> dict[str, Any]:
    """One fault of the server that leads: how long no write was good, who led before and after."""
    leader, etcd_leader = tier.leader(), tier.etcd_leader()
    moment = break_it(leader)
    tier.other_leads(leader)
    ledger.wait_good()
    found = outage(ledger.entries(3000), moment - 0.5, time.time())
    if found is None:
        raise DrillError("the ledger has no write after the fault")
    mend(leader)
    again = tier.settled(300)
    row = {
        "leader": leader,
        "etcd_leader_too": leader == etcd_leader,
        "next": tier.leader(),
        "without_writes": found["seconds"],
        "whole_after": round(again, 1),
    }
    say(f"  {leader} -> {row['next']}: {found['seconds']:.2f} s without a good write, whole after {again:.0f} s more")
    return row


def rounds(
    drill: Drill,
    tier: Tier,
    count: int,
    break_it: Callable[[str], float],
    mend: Callable[[str], None],
    label: str = "",
) -> list[float]:
    """Several of them under one ledger; the seconds of each."""
    with watched(tier) as (ledger, samplers):
        rows = []
        for number in range(count):
            say(f"{label}{number + 1} of {count}")
            rows.append(one_round(tier, ledger, break_it, mend))
            time.sleep(CHANCE.uniform(1, 4))
            ledger.wait_good()
        ledger.stop()
        samples = samplers.read()
        result = ledger.verify()
    show(result)
    drill.note(f"{label}rounds".replace(" ", "_").replace(":", ""), rows)
    check_ledger(drill, result, label)
    check_samples(drill, samples, label)
    moved = sum(row["leader"] != row["next"] for row in rows)
    drill.check(f"{label}another server leads", moved == count, f"{moved} of {count}", f"{count} of {count}")
    return [row["without_writes"] for row in rows]


# --- 0 ---------------------------------------------------------------------------------------------------------------


def changes(play: Play) -> dict[str, int]:
    """For each host that was changed, how often."""
    rows = re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", play.output, re.M)
    return {host: int(count) for host, count in rows if int(count)}


def drill_0(lab: Lab) -> Drill:
    drill = Drill("data-0", "a fresh lab")
    anew(lab)
    play = lab.playbook("site", "--check", "--diff", folder=drill.folder)
    drill.check("check mode before the first run", play.status == 0, f"status {play.status}", "0")
    play = lab.playbook("site", folder=drill.folder)
    drill.check("site", play.status == 0, f"status {play.status} after {play.seconds:g} s", "0")
    for name, options in (("a second run", ()), ("check mode afterwards", ("--check", "--diff"))):
        play = lab.playbook("site", *options, folder=drill.folder)
        drill.check(f"{name} ends well", play.status == 0, f"status {play.status} after {play.seconds:g} s", "0")
        found = changes(play)
        drill.check(f"{name} changes nothing", not found, found or "0", "0")
    play = lab.playbook("smoke", folder=drill.folder)
    drill.check("smoke", play.status == 0, f"status {play.status}", "0")
    return drill


# --- 1 ---------------------------------------------------------------------------------------------------------------


def drill_1(lab: Lab) -> Drill:
    drill, tier = Drill("data-1", "kill -9 of the primary's postmaster"), Tier(lab)
    count, before = lab.repeat or 10, lab.starts()
    seconds = rounds(drill, tier, count, tier.kill_postmaster, lambda _host: None)
    drill.note("seconds_without_writes", {**spread(seconds), "all": seconds})
    drill.check(
        "from the last good write to the next, p95", spread(seconds)["p95"] < CRASH_GOAL,
        spread_text(seconds), f"below {CRASH_GOAL:g} s",
    )  # fmt: skip
    check_langflow(drill, lab, before)
    return drill


# --- 2 ---------------------------------------------------------------------------------------------------------------


def drill_2(lab: Lab) -> Drill:
    drill, tier = Drill("data-2", "the primary's host killed; the primary cut off"), Tier(lab)
    count, before = lab.repeat or 3, lab.starts()

    def revive(host: str) -> None:
        # Some have to be missing for longer than others.
        time.sleep(CHANCE.uniform(0, 10))
        tier.start_host(host)

    killed = rounds(drill, tier, count, tier.kill_host, revive, "host killed: ")
    cut = rounds(drill, tier, count, tier.cut_off, tier.join_again, "cut off: ")
    for label, seconds in (("host killed", killed), ("cut off", cut)):
        drill.note(f"{label.replace(' ', '_')}_seconds_without_writes", {**spread(seconds), "all": seconds})
        drill.check(
            f"{label}: from the last good write to the next, longest", max(seconds) < LOSS_GOAL,
            spread_text(seconds), f"below {LOSS_GOAL:g} s",
        )  # fmt: skip
    check_langflow(drill, lab, before)
    return drill


# --- 3 ---------------------------------------------------------------------------------------------------------------


def policy(lab: Lab, drill: Drill, name: str, shape: Sequence[str]) -> None:
    """Let the servers have another policy, as an operator does."""
    play = lab.must("site", *DATABASE, "-e", f"postgresql_rpo={name}", folder=drill.folder)
    drill.note(f"to_{name}_seconds", play.seconds)
    Tier(lab).settled(shape=shape)


def drill_3(lab: Lab) -> Drill:
    drill, tier = Drill("data-3", "control: `bounded` loses what a cut-off primary acknowledged"), Tier(lab)
    count = lab.repeat or 3
    lost = tries = 0
    policy(lab, drill, "bounded", WHOLE_BOUNDED)
    try:
        # As soon as the ledger has seen a loss the control has done what it is for.
        while tries < count and not lost:
            tries += 1
            with watched(tier) as (ledger, samplers):
                leader = tier.leader()
                moment = tier.cut_off(leader)
                tier.other_leads(leader)
                ledger.wait_good()
                ledger.stop()
                found = outage(ledger.entries(3000), moment - 0.5, time.time())
                samples = samplers.read()
                tier.join_again(leader)
                tier.settled(300, WHOLE_BOUNDED)
                result = ledger.verify()
            lost = len(result["lost"])
            show(result)
            drill.note(f"try_{tries}", {"ledger": result, "outage": found})
            say(f"  try {tries}: {lost} acknowledged writes are lost")
            check_samples(drill, samples, f"try {tries}: ")
    finally:
        tier.repair()
        policy(lab, drill, "zero", WHOLE)
    drill.check(
        "acknowledged writes lost, seen by the ledger", lost > 0, f"{lost} of {result['acknowledged']} in try {tries}",
        "at least 1",
    )  # fmt: skip
    return drill


# --- 7 ---------------------------------------------------------------------------------------------------------------


def drill_7(lab: Lab) -> Drill:
    drill, tier = Drill("data-7", "the whole tier stopped and started in random orders"), Tier(lab)
    count, before = lab.repeat or 4, lab.starts()
    rows: list[dict[str, Any]] = []
    lost = acknowledged = 0
    for number in range(count):
        # In turn: an orderly halt of one after the other, and SIGKILL for all.
        orderly = number % 2 == 0
        down, up = (CHANCE.sample(tier.servers, len(tier.servers)) for _side in range(2))
        say(f"{number + 1} of {count}: {'stop' if orderly else 'kill'} {', '.join(down)}; start {', '.join(up)}")
        with writing(tier) as ledger:
            for host in down:
                (tier.stop_host if orderly else tier.kill_host)(host)
                time.sleep(CHANCE.uniform(0, 3))
            time.sleep(2)
            for host in up:
                tier.start_host(host)
                time.sleep(CHANCE.uniform(0, 8))
            began = time.monotonic()
            whole = tier.settled(300)
            ledger.wait_good()
            writes = time.monotonic() - began
            ledger.stop()
            result = ledger.verify()
        healthy = lab.wait_healthy()
        show(result)
        lost, acknowledged = lost + len(result["lost"]), acknowledged + result["acknowledged"]
        rows.append(
            {
                "orderly": orderly,
                "down": down,
                "up": up,
                "whole_after": round(whole, 1),
                "writes_after": round(writes, 1),
                "langflow_after": round(healthy, 1),
                "ledger": result,
            }
        )
        say(f"  whole {whole:.0f} s after the last start, Langflow {healthy:.0f} s later")
    drill.note("rounds", rows)
    bad = [row for row in rows if row["ledger"]["verdict"] != "pass"]
    drill.check("acknowledged writes lost", lost == 0 and acknowledged > 0, f"{lost} of {acknowledged}", "0")
    drill.check("ledgers that agree with the table", not bad, f"{count - len(bad)} of {count}", f"{count} of {count}")
    drill.check(
        "whole again after the last start, longest", True, spread_text([float(row["whole_after"]) for row in rows]),
        "by itself within 300 s",
    )  # fmt: skip
    check_langflow(drill, lab, before)
    return drill
