"""What the drills compute, and what they put into releases, without any lab."""

from __future__ import annotations

import hashlib
import http.client
import importlib
import io
import json
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[3]
# `tools` is a folder here, too; Python takes both for one package.
sys.path.append(str(ROOT))
cli, core, faults, front, load, rolling = (
    importlib.import_module(f"tools.drills.{name}") for name in ("cli", "core", "faults", "front", "load", "rolling")
)

# --- verdicts --------------------------------------------------------------------------------------------------------


def test_a_drill_without_verdicts_has_not_passed() -> None:
    drill = core.Drill("x", "nothing")
    assert not drill.passed
    drill.check("one", True, 1, "1")
    assert drill.passed
    drill.check("two", False, 2, "3")
    assert not drill.passed


def test_result_holds_verdicts_versions_and_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "RESULTS", tmp_path)
    drill = core.Drill("rolling-9", "a title")
    drill.check("failed requests", True, core.count_text(0, 3000), "0")
    drill.note("requests", {"n": 3000})
    found = json.loads(drill.write({"langflow": "1.13.0"}).read_text())
    assert found["passed"] is True
    assert found["versions"] == {"langflow": "1.13.0"}
    assert found["requests"] == {"n": 3000}
    assert found["verdicts"] == [
        {"what": "failed requests", "passed": True, "measured": "0 of 3000 (below 0.100%)", "wanted": "0"}
    ]


@pytest.mark.parametrize(
    ("failed", "n", "wanted"),
    [(0, 300, "0 of 300 (below 1.000%)"), (1, 300, "1 of 300"), (0, 0, "0 of 0")],
)
def test_count_text_has_the_bound_only_where_nothing_failed(failed: int, n: int, wanted: str) -> None:
    assert core.count_text(failed, n) == wanted


def test_table_aligns_all_but_the_last_column() -> None:
    assert core.table([("a", "bb", "c"), ("aaa", "b", "cccc")]) == ["a    bb  c", "aaa  b   cccc"]
    assert core.table([]) == []


# --- what Ansible prints ---------------------------------------------------------------------------------------------


def test_answer_of_a_module_is_found_behind_warnings() -> None:
    assert core.parse_answer('[WARNING]: x\nlb1 | SUCCESS => {\n  "a": {"b": 1}\n}\nrest') == {"a": {"b": 1}}
    with pytest.raises(core.DrillError):
        core.parse_answer("no host")


OUTPUT = """
TASK [Guard | See who is in service] *******
ok: [app1]

TASK [flowfleet.langflow.langflow : Restart | Bring the service up to date] ***
fatal: [app2]: FAILED! => {"msg": "no"}

TASK [Drain | Take it out] ****
failed: [app2 -> lb1(10.0.0.1)] (item=lb1) => {}
fatal: [app3]: UNREACHABLE! => {}
"""


def test_tasks_of_a_play_are_read_from_its_log(tmp_path: Path) -> None:
    log = tmp_path / "play.log"
    log.write_text(OUTPUT)
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        play = core.Play(process, log)
        assert play.wait(30) == 0
    assert play.tasks() == [
        "Guard | See who is in service",
        "Restart | Bring the service up to date",
        "Drain | Take it out",
    ]
    assert play.failed_tasks() == [
        "Restart | Bring the service up to date",
        "Drain | Take it out",
        "Drain | Take it out",
    ]


def test_a_play_is_killed_with_its_children(tmp_path: Path) -> None:
    log = tmp_path / "play.log"
    script = "import subprocess,sys; c=subprocess.Popen(['sleep','60']); print(c.pid, flush=True); c.wait()"
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=stream, start_new_session=True)
    play = core.Play(process, log)
    assert play.wait_for(lambda now: now.output.strip() != "", 30)
    child = int(play.output)
    play.kill()
    assert play.status == -9
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("a child of the play outlived it")


def test_waiting_for_a_play_tells_an_early_end_from_too_long_a_wait(tmp_path: Path) -> None:
    log = tmp_path / "play.log"
    log.touch()
    play = core.Play(subprocess.Popen([sys.executable, "-c", "pass"]), log)
    assert not play.wait_for(lambda _play: False, 30)
    slow = core.Play(subprocess.Popen(["sleep", "60"], start_new_session=True), log)
    with core.ended(slow), pytest.raises(core.DrillError, match="did not happen within"):
        slow.wait_for(lambda _play: False, 0.2, every=0.05)
    assert slow.process.poll() is not None


# --- the state of a roll ---------------------------------------------------------------------------------------------


def test_batches_are_read_and_timed() -> None:
    content = {"run": {"batches": [["app1"], ["app2", "app3"]]}}
    timings = {
        "app1": {"drain": 10.0, "start": 20.0, "gate": 5.0, "total": 36.0},
        "app2": {"drain": 2.0, "start": 20.0, "gate": 5.0, "total": 30.0},
        "app3": {"drain": 4.0, "start": 15.0, "gate": 5.0, "total": 28.0},
    }
    rows = core.batch_figures(core.read_batches(content), timings)
    assert [row["ratio"] for row in rows] == [round(36 / 25, 2), round(30 / 45, 2)]
    assert rows[1]["drain"] == 4.0
    assert core.read_batches({}) == []
    assert core.batch_figures([["gone"]], {})[0]["ratio"] is None


# --- load ------------------------------------------------------------------------------------------------------------


def entry(kind: str, outcome: str, window: str, latency: float = 0.1) -> dict[str, Any]:
    return {"load": kind, "class": outcome, "window": window, "latency": latency, "service": latency, "due": 1.0}


def test_outcome_counts_by_kind_and_window() -> None:
    rows = [entry("get", "ok", "before", 0.1)] * 100 + [entry("get", "ok", "during", 0.3)] * 99
    rows += [entry("get", "http_500", "during"), entry("get", "unfinished", "during"), entry("stream", "ok", "during")]
    reports = [{"failed": 1, "n": 200, "doubts": [], "executions": {"double": 2, "lost": 1}, "generator": {}}]
    outcome = load.Outcome(reports, rows)
    assert outcome.of("get", "during")["n"] == 100
    assert outcome.of("get", "during")["failed"] == 1
    assert outcome.of("get", "during")["bound"] is None
    assert outcome.of("get", "before")["bound"] == 3 / 100
    assert outcome.p99_ratio("get") == 3.0
    assert (outcome.failed, outcome.n, outcome.doubles, outcome.lost) == (1, 200, 2, 1)
    assert rolling.seen_by(outcome) == (1, 101)
    assert rolling.seen_by(outcome, 0.2) == (99, 99)
    json.dumps(outcome.facts())


def test_quantile_is_a_figure_that_was_measured() -> None:
    assert load.quantile([], 0.5) is None
    assert load.quantile([3, 1, 2], 0.5) == 2
    assert load.quantile(list(range(1, 101)), 0.99) == 99


def test_rates_are_shared_by_the_probes() -> None:
    rows = load.loads("flow", {"get": 4.0, "run": 0.0, "stream": 1.0}, 2, "/x")
    assert [(row["kind"], row["rate"]) for row in rows] == [("get", 2.0), ("stream", 0.5)]
    assert rows[0]["path"] == "/x"


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Any]:
    found = load.ExecutionCounter("127.0.0.1", tmp_path / "executions.log")
    yield found
    found.close()


def test_counter_tells_how_often_it_has_seen_a_token(counter: Any) -> None:
    for wanted in (1, 2):
        where = urlsplit(counter.url)
        connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=10)
        connection.request("POST", f"{where.path}/ffp-a-0000001")
        assert int(connection.getresponse().read()) == wanted
        connection.close()
    assert [line.split()[2] for line in counter.path.read_text().splitlines()] == ["ffp-a-0000001"] * 2


def test_the_longest_pause_is_between_good_answers() -> None:
    rows = [{**entry("get", outcome, "during"), "due": due} for due, outcome in ((1, "ok"), (2, "http_503"), (9, "ok"))]
    assert rolling.longest_pause(load.Outcome([], rows)) == 8.0


# --- the drills' flow ------------------------------------------------------------------------------------------------


def test_places_in_a_plan_are_filled_wherever_they_are() -> None:
    assert front.fill({"a": ["{x}-{y}", 1], "b": {"c": "{x}"}}, {"x": "1"}) == {"a": ["1-{y}", 1], "b": {"c": "1"}}


def test_plan_of_the_flow_joins_what_it_has() -> None:
    plan = json.loads((front.FLOWS / "drill.json").read_text())
    names = set(plan["nodes"])
    assert {end for edge in plan["edges"] for end in (edge[0], edge[2])} == names
    assert "{counter}" in json.dumps(plan)
    source = (front.FLOWS / "component.py").read_text()
    compile(source, "component.py", "exec")
    assert re.search(r'name = "DrillWork"', source)


# --- faults ----------------------------------------------------------------------------------------------------------


def test_the_wheel_is_the_same_each_time() -> None:
    name, content = faults.make_wheel()
    assert faults.make_wheel() == (name, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        record = archive.read(next(item for item in archive.namelist() if item.endswith("/RECORD"))).decode()
        for item in archive.namelist():
            assert f"{item}," in record
        assert archive.read(f"{faults.MODULE}.pth").decode() == f"import {faults.MODULE}\n"
        source = archive.read(f"{faults.MODULE}.py").decode()
        compile(source, f"{faults.MODULE}.py", "exec")
        assert f'CHOICE = "{faults.ON_HOST}/fault"' in source
        assert all(f'    "{fault}": (' in source for fault in faults.FAULTS if fault != faults.NONE)


def test_the_lock_gets_one_package_more() -> None:
    name, content = faults.make_wheel()
    lock = faults.make_lock("langflow-base==1.0 \\\n    --hash=sha256:aa\n", name, content)
    assert lock.startswith("langflow-base==1.0 \\\n")
    assert f"flowfleet-drill @ file://{faults.ON_HOST}/{name} \\\n" in lock
    assert f"--hash=sha256:{hashlib.sha256(content).hexdigest()}" in lock


def run_fault(tmp_path: Path, fault: str, name: str) -> subprocess.CompletedProcess[str]:
    """Start a program of some name with the wheel's module in place."""
    with zipfile.ZipFile(io.BytesIO(faults.make_wheel()[1])) as archive:
        archive.extractall(tmp_path)
    choice = tmp_path / "fault"
    if fault:
        choice.write_text(f"{fault}\n")
    module = tmp_path / f"{faults.MODULE}.py"
    module.write_text(module.read_text().replace(f"{faults.ON_HOST}/fault", str(choice)))
    program = tmp_path / name
    program.write_text(f"import {faults.MODULE}\nprint('runs')\n")
    return subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "status", "printed"), [("gunicorn", 3, ""), ("langflow", 0, "runs\n"), ("uv", 0, "runs\n")]
)
def test_a_release_that_does_not_boot_can_be_built(tmp_path: Path, name: str, status: int, printed: str) -> None:
    done = run_fault(tmp_path, "boot", name)
    assert (done.returncode, done.stdout) == (status, printed)


@pytest.mark.parametrize("fault", ["", faults.NONE, "errors", "slow", "migration", "idle-migration"])
def test_a_fault_leaves_other_programs_alone(tmp_path: Path, fault: str) -> None:
    name = "gunicorn" if fault in ("", faults.NONE) else "langflow"
    assert run_fault(tmp_path, fault, name).stdout == "runs\n"


def test_a_migration_that_does_nothing_ends_well(tmp_path: Path) -> None:
    done = run_fault(tmp_path, "idle-migration", "migration")
    assert (done.returncode, done.stdout) == (0, "")


def test_only_a_fault_that_is_there_can_be_chosen() -> None:
    with pytest.raises(core.DrillError, match="no fault fire"):
        faults.choose(None, "fire")


# --- choosing --------------------------------------------------------------------------------------------------------


def test_numbers_choose_steps() -> None:
    tier = cli.TIERS["rolling"]
    assert cli.chosen(tier, []) == list(tier.everything)
    assert cli.chosen(tier, ["5"]) == ["5a", "5b"]
    assert set(tier.everything) == set(tier.steps)
    with pytest.raises(core.DrillError, match="no drill 9"):
        cli.chosen(tier, ["9"])


def test_every_version_has_a_lock() -> None:
    for version in (rolling.OLDEST, rolling.OLD, rolling.NEW):
        assert (faults.LOCKS / f"requirements-{version}.txt").is_file()
