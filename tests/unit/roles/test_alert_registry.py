# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Alerts of role prometheus: each has its page, its tests and its drill, and none of them can be silent unnoticed."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "rules"))

render = importlib.import_module("render")

DATA = render.variables()
ALERTS: dict[str, dict[str, Any]] = {alert["name"]: alert for alert in DATA["__prometheus_alerts"]}
RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = sorted(RUNBOOKS.glob("*.md"))
CASES = {file.name: yaml.safe_load(file.read_text(encoding="utf-8")) for file in render.HERE.glob("*.test.yml")}
TESTS = [test for case in CASES.values() for test in case["tests"]]
# Where the program is not installed, only the text is judged; the role has it check the rules on every monitoring host.
PROGRAM = shutil.which("promtool")
# Series that Prometheus makes itself for each target.
OWN = {"up", "scrape_duration_seconds"}
# Jobs that nobody asks: their series are pushed, and LangflowMetricsAbsent tells when they stay away.
PUSHED = {"langflow"}


@pytest.fixture(scope="module", name="rules")
def rendered() -> dict[str, Any]:
    """Both files as they are written for a fleet that has everything."""
    return {name: yaml.safe_load(text) for name, text in render.rules().items()}


def listed(rules: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """All rules of a file."""
    return [rule for group in rules[name]["groups"] for rule in group["rules"]]


def firing(test: dict[str, Any]) -> bool:
    return any(row["exp_alerts"] for row in test["alert_rule_test"])


# --- sets that have to be equal ---------------------------------------------------------------------------------------


def test_no_name_is_used_twice() -> None:
    assert len(ALERTS) == len(DATA["__prometheus_alerts"])


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert {page.stem for page in PAGES} - {"index"} == set(ALERTS)


def test_every_alert_has_a_case_that_fires_and_one_that_stays_silent() -> None:
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    for test in TESTS:
        for row in test["alert_rule_test"]:
            seen[bool(row["exp_alerts"])].add(row["alertname"])
    assert seen[True] == set(ALERTS)
    # The dead man's switch is there to fire always.
    assert seen[False] == set(ALERTS) - {"Watchdog"}


def test_the_list_of_runbooks_is_complete() -> None:
    text = (RUNBOOKS / "index.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[(\w+)\]\(\w+\.md\) \| (.*) \|$", text, re.M))
    assert set(rows) == set(ALERTS)
    for name, row in rows.items():
        alert = ALERTS[name]
        assert row.startswith(f"{alert['severity']} | {alert['layer']} | "), name
        assert alert["drill"] in row, name


def test_drills_are_those_of_the_drill_program() -> None:
    path = ROOT / "tools" / "drills" / "alerts.py"
    assert path.is_file(), "tools/drills/alerts.py has the faults that provoke alerts"
    sys.path.insert(0, str(ROOT))
    spec = importlib.util.spec_from_file_location("tools.drills.alerts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Before it runs: dataclasses look themselves up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    assert set(module.CASES) == {alert["drill"] for alert in ALERTS.values()} - {"simulated"}


# --- what each of them says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALERTS)
def test_fields_are_complete(name: str) -> None:
    alert = ALERTS[name]
    needed = {"name", "tier", "severity", "layer", "needs", "drill", "expr", "summary", "description"}
    assert needed <= set(alert) <= needed | {"for", "labels"}
    assert alert["tier"] in DATA["__prometheus_tiers"]
    assert alert["severity"] in {"page", "ticket", "info"} or name == "Watchdog"
    assert alert["layer"] in {"infrastructure", "service", "business"}
    assert alert["needs"]
    assert re.fullmatch(r"[a-z0-9_]+", alert["drill"])
    assert re.fullmatch(r"[A-Z][A-Za-z]+", name)


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_says_what_how_and_when_it_is_over(name: str) -> None:
    alert, text = ALERTS[name], (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(
        f"# {name}\n\nTier `{alert['tier']}`, severity `{alert['severity']}`, layer `{alert['layer']}`"
    )
    parts = re.split(r"^## (.+)\n", text, flags=re.M)
    assert parts[1::2] == ["What it means", "How to look", "What to do", "How it clears"]
    assert all(len(part.split()) > 3 for part in parts[2::2])
    assert "promtool query instant" in parts[4]


def test_a_page_names_only_what_is_there(rules: dict[str, Any]) -> None:
    playbooks = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
    client = (ROOT / "roles/celery/files/flowfleet_tasks/src/flowfleet_tasks/cli.py").read_text(encoding="utf-8")
    # Beside variables of roles: names of drills and jobs, and variables of the playbooks.
    variables = {alert["drill"] for alert in ALERTS.values()} | {
        job for alert in ALERTS.values() for job in alert["needs"]
    }
    variables |= {"langflow_fleet_pgbouncer"}
    for role in (ROOT / "roles").iterdir():
        variables |= set(yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8")) or {})
    known = {rule["record"] for rule in listed(rules, "recording")} | {
        row["series"] for row in DATA["__prometheus_series"]
    }
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"
        for path in re.findall(r"\bdocs/[\w/.-]+\.md", text):
            assert (ROOT / path).is_file(), f"{page.name}: {path}"
        for playbook in re.findall(r"ansible-playbook -i inventory flowfleet\.langflow\.(\w+)", text):
            assert playbook in playbooks, f"{page.name}: playbook {playbook}"
        for verb in re.findall(r"^flowfleet-tasks ([a-z-]+)|`flowfleet-tasks ([a-z-]+)", text, re.M):
            assert f'"{"".join(verb)}"' in client, f"{page.name}: flowfleet-tasks {verb}"
        for variable in re.findall(r"`((?:prometheus|celery|redis|pgbouncer|alertmanager|langflow)_[a-z_]+)`", text):
            assert variable in variables, f"{page.name}: variable {variable}"
        for query in re.findall(r"https://127\.0\.0\.1:9090 '(.+)'", text):
            assert render.series(query) <= known | OWN, f"{page.name}: {query}"


# --- nothing passes silently ------------------------------------------------------------------------------------------


def test_every_job_is_counted_against_the_inventory(rules: dict[str, Any]) -> None:
    counted = {
        rule["labels"]["job"]: rule["expr"]
        for rule in listed(rules, "recording")
        if rule["record"] == "job:up_expected:count"
    }
    needed = {job for alert in ALERTS.values() for job in alert["needs"]} | {
        row["job"] for row in DATA["__prometheus_series"]
    }
    assert needed - PUSHED <= set(counted)
    assert counted["node"] == "vector(2)"
    assert "job:up_expected:count" in ALERTS["TargetsMissing"]["expr"]


def test_a_job_of_ones_own_is_counted_too() -> None:
    text = render.rules(prometheus_scrape_configs=[{"job_name": "mine", "static_configs": []}])["recording"]
    assert 'labels: {job: "mine"}' in text


def test_every_recorded_series_that_is_read_is_recorded(rules: dict[str, Any]) -> None:
    recorded = {rule["record"] for rule in listed(rules, "recording")}
    for rule in listed(rules, "recording") + listed(rules, "alerts"):
        used = {name for name in render.series(rule["expr"]) if ":" in name}
        assert used <= recorded, f"{rule.get('alert', rule.get('record'))}: {used - recorded}"


def test_groups_read_only_what_is_recorded_before_them(rules: dict[str, Any]) -> None:
    groups = [group for name in ("recording", "alerts") for group in rules[name]["groups"]]
    seen: set[str] = set()
    for group in groups:
        for rule in group["rules"]:
            used = {name for name in render.series(rule["expr"]) if ":" in name}
            assert used <= seen, f"{group['name']}: {used - seen} is recorded later"
            seen |= {rule["record"]} if "record" in rule else set()
    for case in CASES.values():
        assert case["group_eval_order"] == [group["name"] for group in groups]


def test_every_raw_series_that_is_read_is_watched(rules: dict[str, Any]) -> None:
    watched = {row["series"] for row in DATA["__prometheus_series"]}
    used = {
        name
        for file in rules
        for rule in listed(rules, file)
        for name in render.series(rule["expr"])
        if ":" not in name
    }
    assert used - OWN == watched


def test_a_series_that_may_be_absent_says_why() -> None:
    for row in DATA["__prometheus_series"]:
        assert set(row) <= {"job", "series", "where", "optional"}
        assert len(row.get("optional", "a reason")) > 5


def test_recorded_names_follow_the_convention(rules: dict[str, Any]) -> None:
    for rule in listed(rules, "recording"):
        assert re.fullmatch(r"[a-z_]+:[a-z0-9_]+:[a-z0-9_]+", rule["record"]), rule["record"]


# --- the text that is written -----------------------------------------------------------------------------------------


def test_every_alert_is_written_with_its_labels_and_links(rules: dict[str, Any]) -> None:
    found = {rule["alert"]: rule for rule in listed(rules, "alerts")}
    assert set(found) == set(ALERTS)
    for name, rule in found.items():
        alert = ALERTS[name]
        assert {key: rule["labels"][key] for key in ("tier", "severity", "layer")} == {
            key: alert[key] for key in ("tier", "severity", "layer")
        }
        assert rule["annotations"]["runbook_url"] == f"{render.RUNBOOKS}/{name}.md"
        for text in (rule["annotations"]["summary"], rule["annotations"]["description"]):
            assert "<" not in text
            assert "prometheus_" not in text
    assert found["NodeDown"]["annotations"]["summary"] == "Host {{ $labels.instance }} does not answer"
    assert found["HostCpuBusy"]["annotations"]["summary"].endswith("({{ $value | humanizePercentage }})")


def test_tiers_are_looked_at_in_their_pace(rules: dict[str, Any]) -> None:
    pace = {group["name"]: group["interval"] for group in rules["alerts"]["groups"]}
    assert pace == {"alerts_seconds": "5s", "alerts_minutes": "15s", "alerts_hours": "60s"}


def test_alerts_of_seconds_wait_for_ten_seconds_at_most() -> None:
    waits = {alert.get("for", "0s") for alert in ALERTS.values() if alert["tier"] == "seconds"}
    assert waits <= {"0s", "5s", "10s", "15s"}
    assert [name for name, alert in ALERTS.items() if alert["tier"] == "seconds" and alert.get("for") == "15s"] == [
        "RedisTwoMasters"
    ]


def test_thresholds_come_from_variables() -> None:
    found = yaml.safe_load(
        render.rules(
            prometheus_threshold_cpu=0.55, prometheus_slo_availability=0.999, prometheus_slo_latency_seconds=2.5
        )["alerts"]
    )
    rules = {rule["alert"]: rule for group in found["groups"] for rule in group["rules"]}
    assert rules["HostCpuBusy"]["expr"].endswith("> 0.55")
    assert "55 %" in rules["HostCpuBusy"]["annotations"]["description"]
    assert "ratio_rate1h > 0.0144" in rules["AvailabilityBudgetFast"]["expr"]
    assert "99.9 %" in rules["AvailabilityBudgetFast"]["annotations"]["description"]


def test_the_objective_of_latency_reads_its_edge_however_it_is_written() -> None:
    assert 'le=~\\"10([.]0)?\\"' in render.rules()["recording"]
    assert 'le=~\\"2.5([.]0)?\\"' in render.rules(prometheus_slo_latency_seconds=2.5)["recording"]


def test_single_alerts_can_be_changed_or_left_out() -> None:
    text = render.rules(
        prometheus_alert_overrides={"HostCpuBusy": {"for": "1m", "severity": "page"}, "GpuHot": {"enabled": False}}
    )["alerts"]
    rules = {rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}
    assert (rules["HostCpuBusy"]["for"], rules["HostCpuBusy"]["labels"]["severity"]) == ("1m", "page")
    assert set(ALERTS) - set(rules) == {"GpuHot"}


# --- the real program -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CASES))
def test_rules_do_what_their_tests_say(name: str, tmp_path: Path) -> None:
    render.main(tmp_path)
    assert CASES[name]["rule_files"] == [name.replace(".test.", ".rules.")]
    if PROGRAM:
        for command in (["check", "rules", "recording.yml", "alerts.yml"], ["test", "rules", name]):
            done = subprocess.run([PROGRAM, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_cannot_fire_is_found(tmp_path: Path) -> None:
    """The control: with thresholds that nothing reaches, the tests fail."""
    render.main(tmp_path)
    text = render.rules(prometheus_threshold_cpu=2, prometheus_threshold_memory=2)["alerts"]
    rules = {"recording": (tmp_path / "recording.yml").read_text(encoding="utf-8"), "alerts": text}
    blunt = render.part(rules, {"HostCpuBusy", "HostMemoryHigh"})
    (tmp_path / "minutes.rules.yml").write_text(yaml.safe_dump(blunt), encoding="utf-8")
    wanted = {
        test["name"] for test in TESTS if test["alert_rule_test"][0]["alertname"] in {"HostCpuBusy", "HostMemoryHigh"}
    }
    part = {**CASES["minutes.test.yml"], "tests": [test for test in TESTS if test["name"] in wanted]}
    (tmp_path / "part.test.yml").write_text(yaml.safe_dump(part), encoding="utf-8")
    assert len(part["tests"]) == 4
    if PROGRAM:
        done = subprocess.run(
            [PROGRAM, "test", "rules", "part.test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stdout.count("got:[]") + done.stderr.count("got:[]") == 2, done.stdout + done.stderr
