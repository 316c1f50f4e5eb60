"""The drills of alerts (scenario `alerts`): from a fault to the notification that tells of it, and that it is over.

1   the tier of seconds: each fault by itself, told within 30 s
2   the tier of minutes: faults that do not disturb each other at the same time, told within the rule's `for` and 60 s
3   what no fault in a lab can cause, the tier of hours with it: blocks made of the alert's own rule test (simulated)
4   control: each exporter stopped, and the way in to all of them; no rule stays silent because it sees nothing
5   one Prometheus and one Alertmanager of the pair killed: alerts still arrive, once; control: without a word between
    the two Alertmanagers they arrive twice, and that is seen
6   quiet: under light load nothing arrives but the dead-man's switch

Times go from the fault to the arrival at a sink behind Alertmanager. CASES has one entry for each word that the field
`drill` of an alert in roles/prometheus/vars/alerts.yml may have, but for `simulated`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tools.drills import alert_faults, alert_rules
from tools.drills.alert_faults import ALERTMANAGER, PROMETHEUS, Case
from tools.drills.alert_rules import MINUTES, SECONDS, SIMULATED, Alert, Row
from tools.drills.alert_stage import Stage, Struck
from tools.drills.core import COLLECTIONS, Drill, DrillError, Lab, say
from tools.drills.sink import SinkError

SCENARIO = "alerts"
CASES: Mapping[str, Case] = alert_faults.CASES
# How much longer than allowed a notification is waited for, so that a late one has a figure.
PATIENCE = 60.0
# From the repair to the word that it is over: the longest window of a rule, 15 minutes, and Alertmanager's next turn.
CLEARED = 1080.0
# Sooner than this nobody needs to be told the same again.
REMINDER = 1800.0
SOAK = 20.0
LIGHT = {"get": 1.0, "run": 0.1, "stream": 0.05}


# --- the lab in the state that a drill begins with -------------------------------------------------------------------


def converged(stage: Stage) -> bool:
    """Whether site has come to its end here before."""
    try:
        return all(stage.lab.healthy(node) for node in stage.lab.nodes) and bool(stage.query("vector(1)"))
    except (DrillError, ValueError):
        return False


def prepare(lab: Lab) -> None:
    """A healthy lab in which every target is up and no alert is open; what a broken drill has left is put right."""
    lab.up()
    stage = Stage(lab)
    stage.repair()
    for case in CASES.values():
        # On hosts that have nothing yet there is nothing to repair with.
        with suppress(DrillError, SinkError):
            case.repair(stage)
    if not converged(stage):
        lab.must("site", "-e", "rollout_reset=true")
    lab.wait_healthy()
    if found := stage.whole() + stage.quiet():
        say(f"this lab begins with: {', '.join(found)}")


def settle(drill: Drill, stage: Stage, label: str) -> None:
    """Everything is as before: nodes well, targets up, no alert open. What is not weighs on what comes next."""
    stage.lab.wait_healthy()
    down = stage.whole()
    drill.check(f"{label}: every target is up again", not down, ", ".join(down) or "yes", "yes")
    left = stage.quiet()
    drill.check(f"{label}: no alert is open", not left, ", ".join(left) or "none", "none")
    time.sleep(alert_rules.APART)


# --- one fault, and what is told about it ----------------------------------------------------------------------------


@dataclass
class Told:
    """One alert of a trial, and when it was told of."""

    alert: Alert
    limit: float
    row: Row | None = None
    over: Row | None = None


@dataclass
class Trial:
    """One fault under way."""

    name: str
    case: Case
    alerts: Sequence[Alert]
    struck: Struck
    # Until the fault is what the rules are about.
    ripens: float = 0.0
    told: list[Told] = field(default_factory=list)
    # When the repair began, which may take a while, and when it was done.
    mending: float = 0.0
    repaired: float = 0.0

    def __post_init__(self) -> None:
        self.told = [Told(alert, alert.limit(self.ripens)) for alert in self.alerts]

    def look(self, rows: Sequence[Row]) -> None:
        """Find what has been told since the fault."""
        for told in self.told:
            if told.row is None:
                told.row = alert_rules.first_firing(rows, told.alert, self.struck.blamed, self.struck.moment)
                if told.row:
                    say(f"  {told.alert.name} told after {told.row['received'] - self.struck.moment:.1f} s")
            elif self.repaired and told.over is None:
                since = self.mending or self.repaired
                told.over = alert_rules.first_resolved(rows, told.row["fingerprint"], since)
                if told.over:
                    say(f"  {told.alert.name} over")

    @property
    def deadline(self) -> float:
        return self.struck.moment + max((told.limit for told in self.told), default=0.0) + PATIENCE

    @property
    def all_told(self) -> bool:
        return all(told.row for told in self.told)

    @property
    def all_over(self) -> bool:
        return all(told.over for told in self.told if told.row)


def await_told(stage: Stage, trials: Sequence[Trial]) -> None:
    """Wait until every alert of some trials has been told, or has had more than its time."""
    since = min((trial.struck.moment for trial in trials), default=0.0)
    while True:
        rows = stage.sink.rows(since)
        for trial in trials:
            trial.look(rows)
        if all(trial.all_told or time.time() > trial.deadline for trial in trials):
            return
        time.sleep(1)


def await_over(stage: Stage, trials: Sequence[Trial], timeout: float = CLEARED) -> None:
    """Wait until every alert that was told is told to be over."""
    since = min((trial.struck.moment for trial in trials), default=0.0)
    deadline = time.monotonic() + timeout
    while not all(trial.all_over for trial in trials) and time.monotonic() < deadline:
        time.sleep(2)
        rows = stage.sink.rows(since)
        for trial in trials:
            trial.look(rows)


def strike(stage: Stage, name: str, alerts: Sequence[Alert]) -> Trial:
    case = CASES[name]
    own = alert_rules.for_case(alerts, name)
    say(f"--- {name}: {case.what} -> {', '.join(alert.name for alert in own) or 'nobody'}")
    ripens = case.ripens + (stage.threshold(case.threshold) if case.threshold else 0.0)
    return Trial(name, case, own, case.strike(stage), ripens)


def mend(stage: Stage, trial: Trial) -> None:
    trial.mending = time.time()
    trial.case.repair(stage)
    trial.repaired = time.time()


def mend_all(drill: Drill, stage: Stage, trials: Sequence[Trial], names: Sequence[str], label: str = "") -> None:
    """Put all of it right, also what was only begun; one repair that fails keeps no other from being made."""
    made = {trial.name: trial for trial in trials}
    for name in names:
        try:
            if name in made:
                mend(stage, made[name])
            else:
                CASES[name].repair(stage)
        except Exception as error:  # whatever it is, the other faults have to end
            drill.check(f"{label}{name} is put right", False, f"{type(error).__name__}: {error}", "yes")


def judge(drill: Drill, trial: Trial, label: str = "") -> list[dict[str, Any]]:
    """The verdicts of one trial, and its figures."""
    found = []
    for told in trial.told:
        alert, row = told.alert, told.row
        seconds = round(row["received"] - trial.struck.moment, 1) if row else None
        # What is over before the last step of a repair has taken no time.
        over = max(0.0, round(told.over["received"] - trial.repaired, 1)) if told.over else None
        wrong = alert_rules.wrong_labels(row, alert, trial.struck.blamed) if row else {}
        runbook = bool(row and (row["annotations"] or {}).get("runbook_url", "").endswith(f"{alert.name}.md"))
        found.append(
            {
                "alert": alert.name,
                "case": trial.name,
                "tier": alert.tier,
                "for": alert.lasts,
                "ripens": trial.ripens,
                "limit": told.limit,
                "seconds": seconds,
                "cleared_after": over,
                "labels": dict(row["labels"]) if row else {},
                "wrong_labels": wrong,
                "runbook": runbook,
            }
        )
        parts = [
            "nothing arrived" if seconds is None else f"{seconds:g} s",
            *([f"wrong labels {wrong}"] if wrong else []),
            *(["no runbook"] if row and not runbook else []),
            *([] if row is None else ["not cleared" if over is None else f"cleared after {over:g} s"]),
        ]
        good = seconds is not None and seconds <= told.limit and not wrong and runbook and over is not None
        drill.check(f"{label}{alert.name} ({trial.name})", good, ", ".join(parts), f"within {told.limit:g} s")
    return found


def others(rows: Sequence[Row], trials: Sequence[Trial]) -> dict[str, int]:
    """Alerts that were told although no trial is about them: what else a fault brings with it."""
    meant = {alert.name for trial in trials for alert in trial.alerts}
    return {name: count for name, count in alert_rules.heard(rows).items() if name not in meant}


def check_once(drill: Drill, rows: Sequence[Row], label: str = "") -> None:
    twice = alert_rules.repeated(rows, REMINDER)
    told = alert_rules.notifications(rows)
    text = f"{len(twice)} of {len(told)} {twice or ''}".strip()
    drill.check(f"{label}notifications that say the same again", not twice, text, "0")


def run_trials(
    drill: Drill, stage: Stage, alerts: Sequence[Alert], names: Sequence[str], label: str = ""
) -> Sequence[Row]:
    """Several faults at the same time: all are made, all are told, all are mended. What has arrived meanwhile."""
    trials: list[Trial] = []
    began = time.time()
    try:
        for name in names:
            try:
                trials.append(strike(stage, name, alerts))
            except Exception as error:  # the others are worth their time
                drill.check(f"{label}{name} is made", False, f"{type(error).__name__}: {error}", "yes")
        await_told(stage, trials)
    finally:
        mend_all(drill, stage, trials, names, label)
    await_over(stage, trials)
    rows = stage.sink.rows(began)
    for trial in trials:
        drill.facts.setdefault("alerts", []).extend(judge(drill, trial, label))
    if beside := others(rows, trials):
        drill.facts.setdefault("also_told", {})[", ".join(names)] = beside
        say(f"  told besides: {beside}")
    settle(drill, stage, f"{label}after {', '.join(names)}")
    return rows


def missing(stage: Stage, case: Case) -> list[str]:
    """Groups that a case needs and that have no host."""
    return [group for group in case.groups if not stage.hosts(group)]


def wanted_cases(stage: Stage, alerts: Sequence[Alert], tier: str, only: Sequence[str] = ()) -> list[str]:
    """The cases of a tier: it is that of their first alert. Those that the lab has nobody for are left out."""
    found = []
    for name, case in CASES.items():
        own = alert_rules.for_case(alerts, name)
        if not own or own[0].tier != tier or (only and name not in only) or case.special:
            continue
        if nobody := missing(stage, case):
            say(f"{name}: not here, the lab has nobody in {', '.join(nobody)}; drill 3 simulates it")
            continue
        found.append(name)
    return found


# --- 1, 2 ------------------------------------------------------------------------------------------------------------


def drill_1(lab: Lab, only: Sequence[str] = ()) -> Drill:
    drill, stage, alerts = Drill("alerts-1", "the tier of seconds"), Stage(lab), alert_rules.read_alerts()
    began = time.time()
    names = wanted_cases(stage, alerts, SECONDS, only)
    drill.check("faults", bool(names), len(names), "more than 0")
    for name in names:
        run_trials(drill, stage, alerts, [name])
    check_once(drill, stage.sink.rows(began))
    return drill


def drill_2(lab: Lab, only: Sequence[str] = ()) -> Drill:
    drill, stage, alerts = Drill("alerts-2", "the tier of minutes"), Stage(lab), alert_rules.read_alerts()
    began = time.time()
    names = wanted_cases(stage, alerts, MINUTES, only)
    drill.check("faults", bool(names), len(names), "more than 0")
    together = [name for name in names if not CASES[name].alone]
    if together:
        run_trials(drill, stage, alerts, together)
    for name in names:
        if CASES[name].alone:
            run_trials(drill, stage, alerts, [name])
    check_once(drill, stage.sink.rows(began))
    return drill


# --- 3 ---------------------------------------------------------------------------------------------------------------


def drill_3(lab: Lab, only: Sequence[str] = ()) -> Drill:
    from tools.drills import alert_simulation

    drill, stage = Drill("alerts-3", "simulated: blocks made of rule tests"), Stage(lab)
    left = [name for name, case in CASES.items() if missing(stage, case)]
    chosen = [alert for alert in alert_rules.read_alerts() if alert.drill in (SIMULATED, *left)]
    drill.note("instead_of_a_fault", sorted(alert.name for alert in chosen if alert.drill in left))
    chosen = [alert for alert in chosen if not only or alert.name in only]
    drill.check("alerts to simulate", bool(chosen), len(chosen), "more than 0")
    alert_simulation.run(drill, stage, chosen)
    return drill


# --- 4 ---------------------------------------------------------------------------------------------------------------


def drill_4(lab: Lab, only: Sequence[str] = ()) -> Drill:
    from tools.drills import alert_controls

    drill, stage = Drill("alerts-4", "control: exporters stopped"), Stage(lab)
    alert_controls.exporters(drill, stage, alert_rules.read_alerts())
    return drill


# --- 5 ---------------------------------------------------------------------------------------------------------------


def one_trial(drill: Drill, stage: Stage, alerts: Sequence[Alert], name: str, label: str) -> Sequence[Row]:
    """A fault while the pair itself is not whole; what has arrived meanwhile."""
    say(f"--- {label}{name}")
    # Long enough for the rest to notice what is gone.
    time.sleep(20)
    trial = strike(stage, name, alerts)
    try:
        await_told(stage, [trial])
    finally:
        mend(stage, trial)
    await_over(stage, [trial])
    drill.facts.setdefault("alerts", []).extend(judge(drill, trial, label))
    return stage.sink.rows(trial.struck.moment)


CUT = (
    "table inet drill {"
    " chain in { type filter hook input priority -300; meta l4proto { tcp, udp } th dport 9094 drop;"
    " meta l4proto { tcp, udp } th sport 9094 drop; };"
    " chain out { type filter hook output priority -300; meta l4proto { tcp, udp } th dport 9094 drop;"
    " meta l4proto { tcp, udp } th sport 9094 drop; }; }"
)


@contextmanager
def strangers(stage: Stage) -> Iterator[None]:
    """Two Alertmanagers that do not hear of each other."""
    host = stage.monitors[-1]
    stage.lab.inside(host, "nft", CUT)
    try:
        yield
    finally:
        stage.shell(host, "nft delete table inet drill")


@contextmanager
def half_dead(stage: Stage) -> Iterator[None]:
    """One Prometheus and the Alertmanager of the other host killed: what is left has to find each other."""
    first, second = stage.monitors[:2]
    stage.stop([first], PROMETHEUS)
    stage.stop([second], ALERTMANAGER)
    try:
        yield
    finally:
        stage.start([first], PROMETHEUS)
        stage.start([second], ALERTMANAGER)


def drill_5(lab: Lab, only: Sequence[str] = ()) -> Drill:
    drill, stage, alerts = Drill("alerts-5", "half of the pair killed"), Stage(lab), alert_rules.read_alerts()
    if len(stage.monitors) < 2:
        raise DrillError("group monitoring has one host: there is no pair")
    name = "node_stopped"
    check_once(drill, run_trials(drill, stage, alerts, [name], "whole pair: "), "whole pair: ")
    label = "half of the pair: "
    with half_dead(stage):
        check_once(drill, one_trial(drill, stage, alerts, name, label), label)
    settle(drill, stage, f"{label}after it")
    label = "control, no word between them: "
    with strangers(stage):
        twice = alert_rules.repeated(one_trial(drill, stage, alerts, name, label), REMINDER)
    drill.check(f"{label}the same told twice is seen", bool(twice), f"{len(twice)} times", "at least once")
    settle(drill, stage, f"{label}after it")
    return drill


# --- 6 ---------------------------------------------------------------------------------------------------------------


def soak(lab: Lab, minutes: float = SOAK) -> Drill:
    from tools.drills.front import Front
    from tools.drills.rolling import check_trusted, under_load

    drill, stage = Drill("alerts-6", f"{minutes:g} minutes of light load"), Stage(lab)
    drill.note("load_per_second", dict(LIGHT))
    began = time.time()
    # Budgets that an earlier drill has used up stay so for hours, and one of them may end meanwhile.
    before = alert_rules.budgets_before(stage.sink.rows(), began)
    drill.note("budgets_used_up_before", sorted(before.values()))
    options = {"rates": LIGHT, "warm": 5, "max_duration": minutes * 60 + 600}
    with under_load(lab, drill, Front.of(lab), "soak", **options) as (_load, found):
        while (left := began + minutes * 60 - time.time()) > 0:
            time.sleep(min(30, left))
    ended = time.time()
    rows = stage.sink.rows(began)
    heard = alert_rules.heard(row for row in rows if row["fingerprint"] not in before)
    drill.note("requests", found[0].facts())
    drill.note("minutes", round((ended - began) / 60, 1))
    drill.check("notifications", not heard, heard or f"0 in {(ended - began) / 60:.1f} min", "0")
    silence = alert_rules.longest_silence(rows, began, ended)
    words = sum(1 for row in rows if alert_rules.named(row) == alert_rules.DEAD_MAN)
    drill.note("dead_man", {"notifications": words, "longest_silence": round(silence, 1)})
    drill.check(
        "control: the dead-man's switch was heard", words > 0, f"{words} times, longest silence {silence:.0f} s",
        "more than 0 times",
    )  # fmt: skip
    drill.check("failed requests", found[0].failed == 0, f"{found[0].failed} of {found[0].n}", "0")
    check_trusted(drill, found[0])
    return drill


# --- choosing --------------------------------------------------------------------------------------------------------

DRILLS: Mapping[str, Callable[[Lab, Sequence[str]], Drill]] = {
    "1": drill_1, "2": drill_2, "3": drill_3, "4": drill_4, "5": drill_5,
}  # fmt: skip
# Budgets that drill 2 has used up are open for hours, and a simulated alert of that name would wait in their group.
EVERYTHING = ("1", "3", "2", "4", "5", "6")


def main() -> int:
    from ansible.plugins.loader import init_plugin_loader

    from tools.drills import cli

    parser = argparse.ArgumentParser(prog="tools.drills.alerts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("drills", nargs="*", metavar="DRILL", help="numbers of drills; all if none is given")
    parser.add_argument("--keep", action="store_true", help="take the lab as it is")
    parser.add_argument("--case", action="append", default=[], help="only this case (drills 1, 2) or alert (3)")
    parser.add_argument("--soak", type=float, default=SOAK, metavar="MINUTES", help=f"of drill 6; default {SOAK:g}")
    given = parser.parse_args()
    init_plugin_loader([str(COLLECTIONS)])

    def step(function: Callable[[Lab, Sequence[str]], Drill]) -> cli.Step:
        def run(lab: Lab) -> Drill:
            drill = function(lab, given.case)
            drill.note("monitoring_versions", Stage(lab).versions())
            return drill

        return cli.Step(run, prepare)

    steps = {name: step(function) for name, function in DRILLS.items()}
    steps["6"] = step(lambda lab, _only: soak(lab, given.soak))
    tier = cli.Tier(SCENARIO, steps, {name: [name] for name in steps}, EVERYTHING)
    try:
        done = cli.run(tier, cli.chosen(tier, given.drills), given.keep)
    except DrillError as error:
        say(str(error))
        return 2
    print("\n" + "\n\n".join("\n".join(drill.lines()) for drill in done))
    return 0 if done and all(drill.passed for drill in done) else 1


if __name__ == "__main__":
    sys.exit(main())
