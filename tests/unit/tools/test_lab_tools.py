"""The programs behind `make up`, `make test` and `make bench-converge`."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
# As for a program that is started: it finds its neighbours.
sys.path.insert(0, str(ROOT / "tools"))


def load(path: str) -> ModuleType:
    """Import a program, with or without a suffix."""
    name = f"tool_{Path(path).stem}"
    loader = importlib.machinery.SourceFileLoader(name, str(ROOT / path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = kept
    return module


@pytest.fixture(scope="module")
def lab() -> ModuleType:
    return load("tools/lab")


@pytest.fixture(scope="module")
def phases() -> ModuleType:
    return load("tools/phases")


# --- the machine's apt sources, for another release ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "sources.list.d/debian.sources",
            "# a mirror\nTypes: deb deb-src\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n"
            "Components: main contrib\nSigned-By: /usr/share/keyrings/k.gpg\n\n"
            "Types: deb\nURIs: http://mirror.test/security\nSuites: bookworm-security\nComponents: main\n",
            "deb http://mirror.test/debian trixie main\ndeb http://mirror.test/debian trixie-updates main\n"
            "deb http://mirror.test/security trixie-security main\n",
        ),
        (
            "sources.list",
            "# deb http://off.test/debian bookworm main\n"
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main non-free # ours\n"
            "deb-src http://mirror.test/debian bookworm main\n",
            "deb http://mirror.test/debian trixie main\n",
        ),
        ("sources.list.d/other.list", "deb http://vendor.test/apt stable-vendor main\n", ""),
        ("sources.list.d/contrib.list", "deb http://mirror.test/debian bookworm contrib\n", ""),
        (
            "sources.list.d/off.sources",
            "Enabled: no\nTypes: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\nComponents: main\n",
            "",
        ),
        (
            "sources.list.d/folded.sources",
            "Types: deb\nURIs:\n http://one.test/debian\n http://two.test/debian\nSuites: trixie\nComponents: main\n",
            "deb http://one.test/debian trixie main\ndeb http://two.test/debian trixie main\n",
        ),
        ("sources.list.d/debian.sources.bak", "deb http://mirror.test/debian bookworm main\n", ""),
    ],
)
def test_apt_sources(lab: ModuleType, tmp_path: Path, name: str, text: str, expected: str) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)
    assert lab.apt_sources("trixie", tmp_path) == expected


def test_a_machine_without_engine_is_told_so_in_one_sentence(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(lab, "may_install", lambda: False)
    with pytest.raises(lab.LabError, match=r"^no container engine: install Docker .*\.$"):
        lab.engine()


# --- one definition of the lab ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "inventory"),
    [
        ("default", "inventories/lab"),
        ("single", "inventories/single"),
        ("edge", "molecule/edge/inventory"),
        ("rolling", "molecule/rolling/inventory"),
    ],
)
def test_scenario_has_the_hosts_of_its_inventory(lab: ModuleType, scenario: str, inventory: str) -> None:
    platforms = yaml.safe_load((ROOT / f"molecule/{scenario}/molecule.yml").read_text())["platforms"]
    assert lab.inventory_of(scenario) == ROOT / inventory
    hosts = yaml.safe_load((ROOT / inventory / "hosts.yml").read_text())["all"]["hosts"]
    assert {platform["name"] for platform in platforms} == set(hosts)
    assert {platform["image"] for platform in platforms} <= {f"{lab.IMAGE}:{name}" for name in lab.RELEASES}


def test_scenarios_share_no_host_and_no_address() -> None:
    """They use one network, and may be up at the same time."""
    files = [*(ROOT / "inventories").glob("*/hosts.yml"), *(ROOT / "molecule").glob("*/inventory/hosts.yml")]
    labs = [path for path in files if (path.parent / "group_vars/all/connection.yml").exists()]
    assert {path.parent.name for path in labs} == {"lab", "single", "inventory"}
    hosts = [row for path in labs for row in yaml.safe_load(path.read_text())["all"]["hosts"].items()]
    assert len({name for name, _row in hosts}) == len({row["ansible_host"] for _name, row in hosts}) == len(hosts)


# --- the last line of `make test` ------------------------------------------------------------------------------------


def test_reports_are_added_up(phases: ModuleType, tmp_path: Path) -> None:
    report = tmp_path / "unit.xml"
    report.write_text(
        '<?xml version="1.0"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="2" '
        'skipped="3" tests="10" time="0.1"><testcase classname="a" name="b"/></testsuite></testsuites>'
    )
    total = phases.counts(report)
    assert phases.tally(total) == "2 failed, 4 passed, 3 skipped, 1 error"


# --- what a run costs ------------------------------------------------------------------------------------------------


def test_events_are_counted_by_host_and_play() -> None:
    bench = load("tools/bench_converge.py")
    task = '"id": "t1", "path": "/c/roles/nginx/tasks/main.yml:3", "duration": {"start": "%s", "end": "%s"}'
    start, first, last = "2026-01-01T00:00:00", "2026-01-01T00:00:02", "2026-01-01T00:00:03"
    lines = [
        "not an event",
        '{"_event": "v2_playbook_on_play_start", "play": {"name": "Bring up the load balancers"}}',
        '{"_event": "v2_runner_on_ok", "task": {%s}, "hosts": {"a": {"changed": true}}}' % (task % (start, first)),
        '{"_event": "v2_runner_on_ok", "task": {%s}, "hosts": {"b": {"changed": false}}}' % (task % (start, last)),
        '{"_event": "v2_playbook_on_stats", "stats": {"a": {"ok": 1, "skipped": 2, "failures": 0, "changed": 1}}}',
    ]
    found = bench.read_events(lines)
    assert found["hosts"] == {"a": {"tasks": 3, "run": 1, "changed": 1}}
    assert found["plays"] == {
        "Bring up the load balancers": {"seconds": 3.0, "hosts": 2, "tasks_per_host": 1.0, "seconds_per_host": 1.5},
    }


@pytest.mark.parametrize(("seconds", "verdict"), [(89.9, "met"), (90.0, "missed")])
def test_the_table_names_the_goal_and_the_longest_play_first(seconds: float, verdict: str) -> None:
    bench = load("tools/bench_converge.py")
    row = {"hosts": 2, "tasks_per_host": 4.0, "seconds_per_host": 1.0}
    run = {
        "seconds": seconds,
        "hosts": {"a": {"tasks": 3, "changed": 0}, "localhost": {"tasks": 3, "changed": 0}},
        "plays": {"Short": {**row, "seconds": 2.0}, "Long": {**row, "seconds": 9.0}},
    }
    lines = bench.table({"first": run, "again": run, "create_seconds": 1.0, "nodes": {}})
    assert f"no-op run: {seconds} s for 1 hosts (goal: less than 90 s, {verdict})" in lines
    assert [line.split()[0] for line in lines if line.startswith(("Short", "Long"))] == ["Long", "Short"]


# --- the environment of this checkout --------------------------------------------------------------------------------


def test_an_activated_environment_is_not_made_of_itself() -> None:
    """A changed lock removes .venv first: its own interpreter is gone then."""
    text = (ROOT / "tools/bootstrap").read_text(encoding="utf-8")
    functions = text[text.index("usable() {") : text.index("on_debian()")]
    environment = {"PATH": f"{Path(sys.prefix) / 'bin'}:/usr/bin:/bin", "PYTHON": ""}
    done = subprocess.run(
        ["bash", "-c", f"{functions}\nfind_python"], env=environment, capture_output=True, text=True, check=True
    )
    assert sys.prefix != sys.base_prefix, "the tests run in .venv"
    assert not done.stdout.startswith(sys.prefix)
    assert Path(done.stdout.strip()).exists()
