"""Choose drills, run them one after the other, print the verdicts, end with a status that says how they went."""

from __future__ import annotations

import argparse
import importlib
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ansible.plugins.loader import init_plugin_loader

from tools.drills import data, logs, rolling, tasks
from tools.drills.core import COLLECTIONS, ROOT, Drill, DrillError, Lab, say


@dataclass(frozen=True)
class Step:
    """One drill, and what its lab has to be like; None: it sees to that itself."""

    run: Callable[[Lab], Drill]
    prepare: Callable[[Lab], None] | None


@dataclass(frozen=True)
class Tier:
    """The drills of one part of the cluster."""

    scenario: str
    steps: Mapping[str, Step]
    # What a number means when it is given alone, and the order of all.
    numbers: Mapping[str, Sequence[str]]
    everything: Sequence[str]


def on(version: str | None) -> Callable[[Lab], None]:
    """A healthy lab of the tier `rolling` on a version of Langflow; None: the one that is there."""
    return lambda lab: rolling.prepare(lab, version or rolling.present(lab))


def from_module(module: str, name: str) -> Callable[[Lab], Drill]:
    """A drill that is imported when it runs."""

    def run(lab: Lab) -> Drill:
        found: Drill = getattr(importlib.import_module(f"tools.drills.{module}"), name)(lab)
        return found

    return run


DATA = {
    "0": Step(data.drill_0, None),
    "1": Step(data.drill_1, data.prepare),
    "2": Step(data.drill_2, data.prepare),
    "3": Step(data.drill_3, data.prepare),
    "4": Step(from_module("data_jobs", "drill_4"), data.prepare),
    "5": Step(from_module("data_jobs", "drill_5"), data.prepare),
    "6": Step(from_module("pitr", "drill_6"), data.prepare),
    "7": Step(data.drill_7, data.prepare),
}
TIERS = {
    "rolling": Tier(
        rolling.SCENARIO,
        {
            "1": Step(rolling.drill_1, on(None)),
            "2": Step(rolling.drill_2, on(None)),
            "3": Step(rolling.drill_3, on(rolling.OLD)),
            "4": Step(rolling.drill_4, on(None)),
            "5a": Step(rolling.drill_5a, on(rolling.OLDEST)),
            "5b": Step(rolling.drill_5b, on(rolling.OLD)),
        },
        {"1": ["1"], "2": ["2"], "3": ["3"], "4": ["4"], "5": ["5a", "5b"], "5a": ["5a"], "5b": ["5b"]},
        # One lab climbs from the oldest version to the newest.
        ["5a", "3", "5b", "1", "2", "4"],
    ),
    "data": Tier(data.SCENARIO, DATA, {name: [name] for name in DATA}, list(DATA)),
    "celery": Tier(
        tasks.SCENARIO,
        {name: Step(tasks.drill_of(name), tasks.prepare) for name in tasks.NAMES},
        {name: [name] for name in tasks.NAMES},
        list(tasks.NAMES),
    ),
    "logs": Tier(
        logs.SCENARIO,
        {name: Step(run, logs.prepare) for name, run in logs.DRILLS.items()},
        {name: [name] for name in logs.NAMES},
        list(logs.NAMES),
    ),
}


def chosen(tier: Tier, words: Sequence[str]) -> list[str]:
    """The steps that numbers stand for; all of them without any."""
    if not words:
        return list(tier.everything)
    unknown = [word for word in words if word not in tier.numbers]
    if unknown:
        raise DrillError(f"there is no drill {', '.join(unknown)}; there are {', '.join(tier.numbers)}")
    return [step for word in words for step in tier.numbers[word]]


def run(tier: Tier, steps: Sequence[str], keep: bool, repeat: int = 0) -> list[Drill]:
    """Run steps on the tier's lab; one that breaks is a failed drill, and the next one begins with a healthy lab."""
    lab = Lab(tier.scenario, repeat)
    done = []
    for name in steps:
        step = tier.steps[name]
        say(f"=== {tier.scenario} {name}")
        drill = Drill(f"{tier.scenario}-{name}", "did not come to its end")
        try:
            if step.prepare and not keep:
                step.prepare(lab)
            drill = step.run(lab)
        except Exception as error:  # the result of the others is worth keeping
            drill.check("the drill came to its end", False, f"{type(error).__name__}: {error}", "yes")
            if not isinstance(error, DrillError):
                traceback.print_exc()
        path = drill.write(lab.versions())
        say(f"result: {os.path.relpath(path, ROOT)}")
        done.append(drill)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools.drills", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tier", choices=sorted(TIERS))
    parser.add_argument("drills", nargs="*", metavar="DRILL", help="numbers or names of drills; all if none is given")
    parser.add_argument("--keep", action="store_true", help="take the lab as it is")
    parser.add_argument("--repeat", type=int, default=0, metavar="N", help="how often; 0: as the drill thinks right")
    given = parser.parse_args()
    # Drills speak to Langflow with the collection's own client, and read raw results with its own reader.
    init_plugin_loader([str(COLLECTIONS)])
    tier = TIERS[given.tier]
    try:
        drills = run(tier, chosen(tier, given.drills), given.keep, given.repeat)
    except DrillError as error:
        say(str(error))
        return 2
    print("\n" + "\n\n".join("\n".join(drill.lines()) for drill in drills))
    return 0 if drills and all(drill.passed for drill in drills) else 1
