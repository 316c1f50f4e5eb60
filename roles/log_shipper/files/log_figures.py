# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write how the log shipper is for Prometheus, each time rsyslog reports its queue. Standard library only."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PREFIX = "flowfleet_log_shipper_"


def read(path: Path) -> dict[str, Any]:
    """Return the figures of another program; none before it has written any."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def masked(directory: Path) -> dict[str, Any]:
    """Return the figures of all maskers that run, one for each thread that reads; files of others are removed."""
    lines, unmaskable, found = 0, 0, Counter[str]()
    for path in sorted(directory.glob("mask-*.json")):
        if not Path("/proc", path.stem.removeprefix("mask-")).exists():
            path.unlink()
            continue
        figures = read(path)
        lines += int(figures.get("lines", 0))
        unmaskable += int(figures.get("unmaskable", 0))
        found.update(figures.get("masked") or {})
    return {"lines": lines, "unmaskable": unmaskable, "masked": dict(found)}


def used(directory: Path) -> int:
    """Return the bytes of all files of a directory."""
    total = 0
    for path in directory.iterdir() if directory.is_dir() else ():
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def metrics(
    queue: Mapping[str, Any], sender: Mapping[str, Any], masker: Mapping[str, Any], directory: Path, most: int
) -> Iterator[str]:
    """Yield the figures."""
    rows: tuple[tuple[str, str, str, float], ...] = (
        ("queue_lines", "gauge", "Lines that wait on disk.", queue.get("size", 0)),
        ("queue_bytes", "gauge", "Bytes of the queue on disk.", used(directory)),
        ("queue_bytes_max", "gauge", "Bytes that the queue may have; then reading stops.", most),
        ("queue_full_total", "counter", "Times that a line found the queue full and waited.", queue.get("full", 0)),
        (
            "queue_dropped_total",
            "counter",
            "Lines that rsyslog dropped.",
            queue.get("discarded.full", 0) + queue.get("discarded.nf", 0),
        ),
        ("lines_total", "counter", "Lines that were read.", masker.get("lines", 0)),
        (
            "unmaskable_total",
            "counter",
            "Lines that could not be masked and were not sent.",
            masker.get("unmaskable", 0),
        ),
        ("sent_total", "counter", "Lines that the log tier has confirmed.", sender.get("sent", 0)),
        ("failed_total", "counter", "Batches that the log tier did not take.", sender.get("failed", 0)),
        (
            "held",
            "gauge",
            "Whether lines wait because the log tier does not take them.",
            int(bool(sender.get("held_since"))),
        ),
        ("dead_letters", "gauge", "Documents in the file of dead letters.", sender.get("dead_letters", 0)),
        ("dead_letters_bytes", "gauge", "Size of the file of dead letters.", sender.get("dead_letters_bytes", 0)),
        (
            "last_sent_timestamp_seconds",
            "gauge",
            "When the log tier last took lines; before the first, when the shipper began.",
            sender.get("last_sent", 0),
        ),
        ("last_run_timestamp_seconds", "gauge", "When these figures were written.", time.time()),
    )
    for name, kind, text, value in rows:
        yield f"# HELP {PREFIX}{name} {text}"
        yield f"# TYPE {PREFIX}{name} {kind}"
        yield f"{PREFIX}{name} {value:.0f}"
    yield f"# HELP {PREFIX}masked_total Secrets that were masked."
    yield f"# TYPE {PREFIX}masked_total counter"
    for pattern, count in sorted((masker.get("masked") or {}).items()):
        yield f'{PREFIX}masked_total{{pattern="{pattern}"}} {count}'


def write(lines: Iterable[str], target: Path) -> None:
    """Replace the file at once, so that nobody reads half of it."""
    fresh = target.with_name(target.name + ".new")
    fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(target)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the figures for each report about the queue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--action", required=True, help="name of the action whose queue it is")
    parser.add_argument("--queue", type=Path, required=True, help="directory of the queue")
    parser.add_argument("--queue-max", type=int, required=True)
    parser.add_argument("--sender", type=Path, required=True)
    parser.add_argument("--maskers", type=Path, required=True, help="directory of their files")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    for line in sys.stdin:
        try:
            report = json.loads(line)
        except ValueError:
            continue
        if isinstance(report, dict) and report.get("name") == f"{given.action} queue":
            write(
                metrics(report, read(given.sender), masked(given.maskers), given.queue, given.queue_max), given.output
            )


if __name__ == "__main__":
    main()
