# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of role prometheus as files, with the thresholds of its defaults and a target of every job.

`python tests/rules/render.py DIRECTORY` writes them and the tests beside them; there, `promtool test rules *.test.yml`
runs these.
"""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "unit" / "roles"))

rendering = importlib.import_module("rendering")

RUNBOOKS = "https://runbooks.example.com"
PROBES = ("probe_flow", "probe_front", "probe_tls")


def variables() -> dict[str, Any]:
    """Return what the role reads beside its defaults: alerts and recorded series."""
    found: dict[str, Any] = {}
    for name in ("recording", "alerts"):
        text = (rendering.ROLES / "prometheus" / "vars" / f"{name}.yml").read_text(encoding="utf-8")
        found.update(yaml.safe_load(text))
    return found


def role(**given: Any) -> Any:
    """Return the role on a monitoring host of a fleet that has every job, two targets each."""
    data = variables()
    scraped = sorted(
        {row["job"] for row in data["__prometheus_series"]} - {"prometheus", "alertmanager", "langflow", *PROBES}
    )
    peers = [{"name": f"mon{number}", "address": f"192.0.2.{number}"} for number in (1, 2)]
    settings: dict[str, Any] = {
        **rendering.trusted(data),
        "inventory_hostname": "mon1",
        "prometheus_address": "192.0.2.1",
        "prometheus_peers": peers,
        "prometheus_runbook_base_url": RUNBOOKS,
        "prometheus_targets": [{"job": job, "targets": [{}, {}]} for job in scraped],
        "prometheus_probes": [{"job": job} for job in PROBES for _number in (1, 2)],
        "prometheus_password": "x" * 12,
        "prometheus_alertmanager_password": "x" * 12,
    }
    return rendering.Role("prometheus", {}, **{**settings, **given})


def rules(**given: Any) -> dict[str, str]:
    """Return the text of both files with rules by name."""
    made = role(**given)
    return {name: made.file(f"rules-{name}.yml.j2") for name in ("recording", "alerts")}


def series(expression: str) -> set[str]:
    """Return the names of series in an expression, nothing of what stands in quotes, braces, brackets and lists."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    words = re.findall(r"(?<![\w:.])([A-Za-z_:][\w:]*)(?!\s*\()(?![\w:])", bare)
    return set(words) - {"and", "or", "unless", "bool"}


def part(files: dict[str, str], alerts: set[str]) -> dict[str, Any]:
    """Return the groups with some alerts and what these read: tests that compute all rules take minutes."""
    groups = [group for text in files.values() for group in yaml.safe_load(text)["groups"]]
    rows = [rule for group in groups for rule in group["rules"]]
    found = [rule for rule in rows if rule.get("alert") in alerts]
    read: set[str] = set()
    while wanted := {name for rule in found for name in series(rule["expr"])} - read:
        read |= wanted
        found += [rule for rule in rows if rule.get("record") in wanted]
    kept = [{**group, "rules": [rule for rule in group["rules"] if rule in found]} for group in groups]
    return {"groups": [group for group in kept if group["rules"]]}


def main(folder: Path) -> None:
    """Write all rules, the tests, and beside each test the rules that it needs."""
    folder.mkdir(parents=True, exist_ok=True)
    files = rules()
    for name, text in files.items():
        (folder / f"{name}.yml").write_text(text, encoding="utf-8")
    for file in HERE.glob("*.test.yml"):
        shutil.copy(file, folder / file.name)
        test = yaml.safe_load(file.read_text(encoding="utf-8"))
        names = {row["alertname"] for case in test["tests"] for row in case["alert_rule_test"]}
        text = yaml.safe_dump(part(files, names), sort_keys=False, width=1000)
        (folder / test["rule_files"][0]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
