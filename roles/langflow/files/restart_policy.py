# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart delays of a systemd unit: the part that systemd does not do itself.

    restart_policy.py delay UNIT --first 1 --steps 6 --longest 60    before a start: wait as long as RestartSteps= would
    restart_policy.py settle UNIT --healthy-after 300                after a stop: forget earlier failures of a good run

systemd counts the automatic restarts of a unit. From release 254 on it can stretch the delay by that count
(RestartSteps=); before, `delay` sleeps the same time in front of the start. No release forgets the count after a long
good run, so that one crash a month would end at the longest delay: `settle` resets it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence


def delay_before(restarts: int, first: float, steps: int, longest: float) -> float:
    """Delay in front of the restart number C(restarts), growing geometrically from first to longest in C(steps)."""
    if restarts <= 0:
        return 0.0
    if steps <= 0 or longest <= first or first <= 0:
        return first
    return min(longest, first * (longest / first) ** (min(restarts - 1, steps) / steps))


def show(unit: str, name: str) -> int:
    """A numeric property of a unit."""
    command = ["systemctl", "show", "--property", name, "--value", unit]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return int(text) if text.isdigit() else 0


def forget(unit: str) -> None:
    """Reset the counters of a unit."""
    subprocess.run(["systemctl", "reset-failed", unit], check=True)


def main(
    argv: Sequence[str],
    read: Callable[[str, str], int] = show,
    sleep: Callable[[float], None] = time.sleep,
    reset: Callable[[str], None] = forget,
    now: Callable[[], float] = time.monotonic,
) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Restart delays of a systemd unit.")
    parser.add_argument("action", choices=["delay", "settle"])
    parser.add_argument("unit")
    parser.add_argument("--first", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--longest", type=float, default=60.0)
    parser.add_argument("--healthy-after", type=float, default=300.0)
    options = parser.parse_args(argv)
    if options.action == "delay":
        # The unit's own RestartSec= has already waited `first` seconds.
        restarts = read(options.unit, "NRestarts")
        rest = delay_before(restarts, options.first, options.steps, options.longest) - options.first
        if rest > 0:
            print(f"restart delayed by {rest:.1f} s more after repeated failures", flush=True)
            sleep(rest)
        return 0
    started = read(options.unit, "ExecMainStartTimestampMonotonic") / 1e6
    ready = read(options.unit, "ActiveEnterTimestampMonotonic") / 1e6
    # A run that never became ready leaves the time of an earlier one behind.
    good = ready >= started > 0 and now() - ready >= options.healthy_after
    if good and read(options.unit, "NRestarts"):
        reset(options.unit)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
