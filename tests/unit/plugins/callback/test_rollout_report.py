# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people see of a roll, while it runs and afterwards."""

from __future__ import annotations

import html.parser
import json
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import rollout_story as story
from ansible_collections.flowfleet.langflow.plugins.plugin_utils import _rollout_report as rr
from ansible_collections.flowfleet.langflow.plugins.plugin_utils._rollout_page import Axis, page

ROOT = pathlib.Path(__file__).resolve().parents[4]
PLAN = {
    "batches": [{"number": 1, "hosts": ["a<b"], "serving_before": 3, "serving_during": 2}],
    "order": ["a<b"],
    "skipped": ["done"],
    "interrupted": {"a<b": "gate"},
    "resumed": True,
    "estimated_seconds": 75.0,
    "estimated_batches": [75.0],
    "estimated_phases": {"drain": 8.0, "gate": 50.0, "total": 60.0},
}
ROLL: list[tuple[float, dict[str, Any], dict[str, Any]]] = [
    (100, {"state": "plan", "operation": "upgrade", "digest": "r1", "who": "me"}, {"plan": PLAN, "run_id": "run"}),
    (101, {"state": "begin_batch", "hosts": ["a<b"]}, {"serving_during": 2, "status": "running"}),
    (102, {"state": "record", "host": "a<b", "phase": "drain"}, {}),
    (110, {"state": "record", "host": "a<b", "phase": "gate"}, {}),
    (165, {"state": "record", "host": "a<b", "phase": "enabled"}, {"phases": {"a<b": "enabled"}}),
]
TALES = [story.good_roll, story.failed_canary, story.resumed_roll, story.unreachable]


class Tags(html.parser.HTMLParser):
    """Each element is closed where it has to be, and each name is given once."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.ids += [value for name, value in attrs if name == "id"]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def report() -> rr.Report:
    return rr.Report()


def feed(report: rr.Report, *more: tuple[float, dict[str, Any], dict[str, Any]]) -> list[str | None]:
    return [report.state(*step) for step in (*ROLL, *more)]


def told(tale: Callable[[story.Story], None], skew: float = 0.0) -> story.Story:
    found = story.Story(skew)
    tale(found)
    return found


# --- lines ------------------------------------------------------------------------------------------------------------


def test_lines(report: rr.Report) -> None:
    lines = feed(report, (170, {"state": "finish"}, {"status": "finished"}))
    assert lines == [
        "ROLL   0:00  left   1:15  plan         upgrade to r1: 1 hosts in 1 batches, about 1:15\n"
        "ROLL   0:00  left   1:15  batch 1/1    a<b; 2 of 3 serve meanwhile\n"
        "ROLL   0:00  left   1:15  done before  done",
        "ROLL   0:01  left   1:15  batch 1/1    a<b; 2 others serve",
        "ROLL   0:02  left   1:14  a<b          drain        about 0:08",
        "ROLL   0:10  left   1:06  a<b          gate         drain took 0:08; about 0:50",
        "ROLL   1:05  left   0:11  a<b          enabled      gate took 0:55; 1:03 in all, earlier ones 1:00",
        "ROLL   1:10  left   0:00  finished     took 1:10, estimated 1:15 (7 % less)",
    ]


@pytest.mark.parametrize("tale", TALES, ids=lambda tale: tale.__name__)
def test_lines_are_aligned_and_short(tale: Callable[[story.Story], None]) -> None:
    lines = told(tale).lines
    assert all(re.match(r"ROLL +\d+:\d\d  (left +(\d+:\d\d|\?)|           )  \S", line) for line in lines), lines
    assert all(len(line) < 180 and line.isprintable() for line in lines)
    # one line for each phase of each host
    phases = [tuple(line.split()[4:6]) for line in lines if re.search(r"  app\d +(drain|start|gate|enabled)\b", line)]
    assert len(phases) >= 3


def test_what_is_left_goes_by_earlier_rolls_and_shrinks() -> None:
    found = told(story.good_roll)
    left = [
        60 * int(match[1]) + int(match[2]) for line in found.lines if (match := re.search(r"left +(\d+):(\d\d)", line))
    ]
    assert left[0] == round(found.report.estimated or 0)
    assert left[-1] == 0
    # What was said to be left is about what it took from there on.
    took = round(found.report.data()["seconds"])
    for line, guess in zip(found.lines, left, strict=False):
        minutes, seconds = line.split()[1].split(":")
        assert abs(took - 60 * int(minutes) - int(seconds) - guess) <= 12, line


def test_without_an_earlier_roll_the_first_batch_tells() -> None:
    lines = told(story.unreachable).lines
    assert "left      ?" in lines[0]
    assert "no earlier roll to go by" in lines[0]
    assert "left   1:10" in next(line for line in lines if "batch 2/3    app2, app3; 3 others" in line)


def test_clock() -> None:
    texts = [rr.clock_text(value) for value in (None, 0, 59.6, 61, 3599, 3600, 86461, -75.2, -0.1)]
    assert texts == ["?", "0:00", "1:00", "1:01", "59:59", "1:00:00", "24:01:01", "-1:15", "0:00"]


# --- stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (({"state": "begin_batch"}, {"failed": True, "msg": "too few hosts"}), "STOP         refused: too few hosts"),
        (
            ({"state": "record", "host": "a<b", "phase": "failed", "reason": "timed out"}, {}),
            "STOP         a<b failed: timed out",
        ),
        (({"state": "open", "reason": "an alert"}, {}), "STOP         breaker opened: an alert"),
    ],
)
def test_each_stop_has_its_reason(report: rr.Report, step: tuple[Any, Any], line: str) -> None:
    lines = feed(report, (180, *step))
    assert str(lines[-1]).endswith(line)
    assert [stop.at for stop in report.stops] == [80]
    assert report.stops[0].reason in page(report.data())
    assert report.verdict == "stopped"


def test_one_cause_is_told_once() -> None:
    """A task fails, the rescue records it, the play ends with it, and the next batch is refused because of it."""
    found = story.Story()
    found.plan()
    found.batch("app1")
    found.work("app1", upto="start")
    why = "Node | Restart it: the unit has failed"
    found.report.stop(found.now, "task failed", "app1", why)
    found.record("app1", "failed", why)
    assert found.report.stop(found.now, "task failed", "app1", f"Stop | End it: app1: {why}. Repair it.") is None
    refused = f"the circuit breaker is open since x: app1 failed: {why}. Find the cause"
    found.tell({"state": "begin_batch", "hosts": ["app2"]}, failed=True, msg=refused)
    assert [(stop.kind, stop.host) for stop in found.report.stops] == [("failed", "app1")]
    # The same words about another host are another stop.
    assert found.report.stop(found.now, "task failed", "app2", why)


def test_canary_stops_with_its_numbers() -> None:
    found = told(story.failed_canary)
    data = found.report.data()
    # The rescue and the end of the play say it again.
    assert [(stop["kind"], stop["at"]) for stop in data["stops"]] == [("canary", data["canaries"][0]["at"])]
    assert "errors 19.52 % against 0.00 %" in data["stops"][0]["reason"]
    assert (data["verdict"], data["hosts"]["app2"]["phase"]) == ("rolled back", "pending")
    assert [canary["verdict"] for canary in data["canaries"]] == ["fail"]


def test_looks_at_one_batch_are_one_canary(report: rr.Report) -> None:
    feed(report)
    for end, verdict in ((171, "insufficient"), (181, "pass")):
        assert report.canary(end, {"verdict": verdict, "reason": "x", "start": 161.5, "end": end})
    assert [(one["verdict"], one["begin"], one["end"]) for one in report.canaries] == [("pass", 61.5, 81)]
    report.state(190, {"state": "begin_batch", "hosts": ["c"]}, {})
    report.canary(200, {"verdict": "pass", "reason": "x", "start": 191, "end": 200})
    assert len(report.canaries) == 2
    assert not report.stops


def test_collecting_is_no_verdict(report: rr.Report) -> None:
    feed(report)
    assert report.canary(171, {"verdict": "", "reason": "only collected", "start": 120, "end": 170}) is None
    assert report.canary(172, {"verdict": "pass", "reason": "x", "start": 122, "end": 172})
    assert [(one["begin"], one["end"]) for one in report.canaries] == [(20, 70)]
    assert report.canary(171, {"verdict": "insufficient", "failed": True, "msg": "not enough: 3 of 50"})
    assert [stop.reason for stop in report.stops] == ["not enough: 3 of 50"]


def test_killed_controller_is_told_by_the_next_run() -> None:
    found = told(story.resumed_roll, skew=100.0)
    line = next(line for line in found.lines if "taken up" in line)
    assert "after 12:34 without a step: the controller of alice ended without a word; app2 was in start" in line
    data = found.report.data()
    assert (data["verdict"], data["taken_up"]["who"], data["stops"]) == ("finished", "alice", [])
    # The clock of the host that keeps the state is 100 s ahead; the picture goes by one clock.
    attempt = data["attempts"][0]
    assert attempt["end"] == pytest.approx(-754, abs=1)
    assert attempt["begin"] < attempt["spans"]["app1"][0]["begin"] < attempt["spans"]["app1"][-1]["begin"] < -754
    assert all(span["end"] is not None for spans in attempt["spans"].values() for span in spans)
    assert data["hosts"]["app1"]["done_before"]
    assert "the controller of alice ended without a word" in page(data)


def test_taken_up_after_a_stop_tells_why() -> None:
    found = story.Story()
    found.plan()
    found.batch("app1")
    found.work("app1", upto="start")
    found.record("app1", "failed", "no answer")
    found.reset()
    found.now += 60
    found.plan()
    assert any("app1 failed: no answer" in line for line in found.lines if "taken up" in line)


def test_lost_host() -> None:
    found = told(story.unreachable)
    data = found.report.data()
    assert [stop["kind"] for stop in data["stops"]] == ["unreachable", "refused"]
    assert [span["phase"] for span in data["hosts"]["app3"]["spans"]][-2:] == ["start", "lost"]
    assert (data["verdict"], found.lines[-1].split()[2]) == ("stopped", "stopped")


def test_playbook_that_ends_in_the_middle_is_interrupted() -> None:
    found = story.Story()
    found.plan()
    found.batch("app1")
    assert found.report.verdict == "running"
    assert "interrupted" in str(found.report.end(found.now))
    assert found.report.data()["verdict"] == "interrupted"


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach postgresql://langflow:S3cr3t@db1:5432/langflow",
        "login failed: password=S3cr3t, user=x",
        'sent {"api_key": "S3cr3t", "a": 1}',
        "header x-api-key: S3cr3t",
        "Authorization: Bearer S3cr3t",
        "LANGFLOW_SECRET_KEY='S3cr3t'",
        "REDISCLI_AUTH_TOKEN = S3cr3t",
    ],
)
def test_reasons_show_no_secret(report: rr.Report, text: str) -> None:
    lines = feed(report, (180, {"state": "record", "host": "a<b", "phase": "failed", "reason": text}, {}))
    report.event(180, 181, text)
    report.breaker = {"open": True, "reason": text}
    report.canary(182, {"verdict": "fail", "reason": text, "msg": text})
    everything = "\n".join([str(lines), report.to_json(), page(report.data())])
    assert "S3cr3t" not in everything
    assert "***" in everything


@pytest.mark.parametrize("text", ["not worse beyond chance", "502 from https://app1:7860/health_check", "left: 3"])
def test_plain_words_stay(text: str) -> None:
    assert rr.redact(text) == text


# --- page and data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tale", TALES, ids=lambda tale: tale.__name__)
def test_page_is_whole_and_needs_nothing_else(tale: Callable[[story.Story], None]) -> None:
    text = page(told(tale).report.data())
    for word in ("<script", "http:", "https:", "href", "src=", "@import", "nan", "None"):
        assert word not in text
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert len(tags.ids) == len(set(tags.ids))
    assert len(text) < 100_000
    # Everything lies within the picture, from left to right.
    picture = text[text.index("<svg") : text.index("</svg>")]
    for x, width in re.findall(r'<rect x="(-?[0-9.]+)" [^>]*?width="(-?[0-9.]+)"', picture):
        assert 0 <= float(x) <= float(x) + float(width) <= 1001
    assert '<title id="tl-title">' in picture
    assert "app4:" in picture[picture.index("<desc") : picture.index("</desc>")]


def test_page_shows_what_a_host_is_called_as_text(report: rr.Report) -> None:
    feed(report, (170, {"state": "finish"}, {"status": "finished"}))
    arm = {"requests": 9, "errors": 1, "latency_ms": {"p50": 1, "p95": 2, "p99": 3}}
    report.canary(171, {"verdict": "pass", "reason": "<u>", "new": arm, "old": arm, "observation": {"big": 1}})
    report.probe(172, {"pid": 1})
    windows = {"before": {"n": 7}}
    report.probe(173, {"report": {"n": 77, "failed": 0, "windows": windows, "lines": ["<script>"], "doubts": ["<i>"]}})
    text = page(report.data())
    for word in ("<script", "<u>", "<i>", "a<b"):
        assert word not in text
    assert len(report.probes) == 1
    data = json.loads(report.to_json())
    assert data["hosts"]["a<b"]["spans"][1] == {"phase": "drain", "begin": 2, "end": 10}
    assert "observation" not in data["canaries"][0]


def test_figures_of_several_load_balancers_are_one() -> None:
    found = told(story.good_roll)
    data = found.report.data()
    assert data["traffic"]["load_balancers"] == ["lb1", "lb2"]
    spans = {span["name"]: span for span in data["traffic"]["spans"]}
    assert list(spans) == ["before", "during", "batch 1", "batch 2", "batch 3", "after"]
    assert (spans["during"]["failed"], spans["during"]["recovered"]) == (0, 6)
    assert spans["during"]["begin"] == pytest.approx(0, abs=0.01)
    assert spans["before"]["begin"] == pytest.approx(-300, abs=0.01)
    assert all("times_ms" not in span for span in spans.values())
    # Asked again, a load balancer does not count twice.
    found.traffic()
    assert found.report.traffic_spans()[0]["requests"] == spans["before"]["requests"]
    text = page(data)
    assert "From the access logs of lb1, lb2" in text
    assert len(found.report.to_json()) < 60_000


def test_data_holds_what_the_documentation_says() -> None:
    """Each name of the file is in the table of its page, and the other way round."""
    described = (ROOT / "docs/operations/rollout-report.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \|", described.partition("## The JSON file")[2].partition("\n## ")[0], re.M)
    assert rows == list(told(story.good_roll).report.data())


def test_axis_gives_each_gap_the_same_room() -> None:
    axis = Axis([(-5000.0, -4900.0), (0.0, 100.0)], 100.0)
    places = [axis.x(moment) for moment in (-6000, -5000, -4900, -2500, 0, 50, 100, 200)]
    assert places == sorted(places)
    assert places[2] == places[3] == places[4] - 96
    assert axis.gaps()[0][2] == 4900
    assert axis.ticks()[:2] == [-5000.0, 0]


def test_nothing_to_tell(report: rr.Report) -> None:
    assert not report.worth_keeping
    report.state(1, {"state": "plan"}, {"failed": True, "msg": "open", "run_id": "old"})
    assert not report.worth_keeping
    assert report.event(1, 2, "x") is None
    report.traffic(1, "lb1", {"spans": [{"name": "x"}]})
    report.canary(1, {"verdict": "pass"})
    assert report.end(3) is None
    page(report.data())


# --- as a callback ----------------------------------------------------------------------------------------------------

Play = Callable[..., Any]
STATE = "flowfleet.langflow.rollout_state"


@pytest.fixture
def config(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\ncallbacks_enabled = flowfleet.langflow.rollout_report\n"
        "[callback_rollout_report]\ndirectory = reports\n",
        encoding="utf-8",
    )
    return tmp_path


def steps(path: pathlib.Path, *middle: dict[str, Any], finish: bool = True) -> list[dict[str, Any]]:
    common = {"path": str(path / "rollout.json"), "run_id": "{{ plan.run_id | default('') }}", "hosts": ["a"]}
    states: list[dict[str, Any]] = [
        {"state": "plan", "digest": "r1"},
        {"state": "begin_batch", "healthy": ["a"]},
        {"state": "record", "host": "a", "phase": "drain"},
    ]
    ends: list[dict[str, Any]] = [{"state": "record", "host": "a", "phase": "enabled"}, {"state": "finish"}]
    tasks: list[dict[str, Any]] = [{STATE: {**common, **step}} for step in states]
    tasks[0]["register"] = "plan"
    return [*tasks, *middle, *({STATE: {**common, **step}} for step in ends if finish)]


def reports(path: pathlib.Path) -> dict[str, str]:
    return {found.suffix: found.read_text(encoding="utf-8") for found in (path / "reports").glob("rollout-*")}


@pytest.mark.parametrize("check", [True, False])
def test_callback(play: Play, config: pathlib.Path, check: bool) -> None:
    run = play(steps(config), *(["--check"] if check else []))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "restart to r1: 1 hosts in 1 batches" in run.stdout
    assert sorted(reports(config)) == ([] if check else [".html", ".json"]), run.stdout + run.stderr


def test_callback_merges_a_loop_over_load_balancers(play: Play, config: pathlib.Path) -> None:
    (config / "hosts").write_text(
        f"[all:vars]\nansible_connection=local\nansible_python_interpreter={sys.executable}\n[all]\nlocalhost\nlb1\nlb2\n",
        encoding="utf-8",
    )
    for name, count in (("lb1", 3), ("lb2", 4)):
        line = {"msec": 0, "status": 200, "request_time": 0.1, "upstream_addr": "192.0.2.1:1", "upstream_status": "200"}
        (config / f"{name}.json").write_text(
            "".join(json.dumps({**line, "msec": 1000 + number}) + "\n" for number in range(count)), encoding="utf-8"
        )
    ask = {
        "flowfleet.langflow.nginx_traffic_info": {
            "path": f"{config}/{{{{ item }}}}.json",
            "spans": [{"name": "during", "since": 1000, "until": 2000}],
            "required": False,
        },
        "loop": ["lb1", "lb2", "lb3"],
        "delegate_to": "{{ item if item != 'lb3' else 'lb1' }}",
        "run_once": True,
    }
    note = {"ansible.builtin.debug": {"msg": "x"}, "vars": {"rollout_event": "Maintenance page on"}}
    named = {"name": "{{ 'Page' }} off", "ansible.builtin.debug": {"msg": "x"}, "vars": {"rollout_event": True}}
    skipped = {**note, "when": False}
    run = play(steps(config, note, skipped, named, ask))
    assert run.returncode == 0, run.stdout + run.stderr
    data = json.loads(reports(config)[".json"])
    assert data["traffic"]["load_balancers"] == ["lb1", "lb2"]
    assert [span["requests"] for span in data["traffic"]["spans"]] == [7]
    assert [event["what"] for event in data["events"]] == ["Maintenance page on", "Page off"]
    assert re.search(r"ROLL .* all +Maintenance page on", run.stdout)


def test_callback_tells_why_a_play_failed_and_keeps_secrets(play: Play, config: pathlib.Path) -> None:
    hidden = "S3cr3t-of-the-task"
    fail = {
        "name": "Restart it",
        "ansible.builtin.fail": {"msg": f"the unit has failed with {hidden}"},
        "no_log": True,
    }
    shown = {"name": "Look at it", "ansible.builtin.command": "false", "ignore_errors": True, "changed_when": False}
    run = play(steps(config, shown, fail, finish=False))
    assert run.returncode != 0
    found = reports(config)
    data = json.loads(found[".json"])
    assert data["verdict"] == "stopped"
    assert [(stop["kind"], stop["host"]) for stop in data["stops"]] == [("task failed", "localhost")]
    assert data["stops"][0]["reason"].startswith("Restart it: ")
    assert "no_log" in data["stops"][0]["reason"]
    # What ansible-core itself prints of such a failure is not ours.
    lines = "\n".join(line for line in run.stdout.splitlines() if line.startswith("ROLL"))
    assert "STOP" in lines
    for text in (lines, *found.values()):
        assert hidden not in text


def test_callback_tells_which_step_was_refused(play: Play, config: pathlib.Path) -> None:
    common = {"path": str(config / "rollout.json"), "run_id": "{{ plan.run_id }}"}
    again = {STATE: {**common, "state": "finish"}, "loop": [1]}
    run = play(steps(config, again, finish=False))
    assert run.returncode != 0
    data = json.loads(reports(config)[".json"])
    assert [(stop["kind"], stop["reason"]) for stop in data["stops"]] == [
        ("refused", "the roll is not done: a (drain). Run it again and it resumes")
    ]
    assert data["verdict"] == "stopped"


def test_callback_tells_of_a_lost_host(play: Play, config: pathlib.Path) -> None:
    lost = {
        "name": "Restart it",
        "ansible.builtin.ping": {},
        "delegate_to": "a",
        "vars": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_retries": 0},
    }
    run = play(steps(config, lost, finish=False))
    assert run.returncode != 0
    data = json.loads(reports(config)[".json"])
    assert [stop["kind"] for stop in data["stops"]] == ["unreachable"], run.stdout + run.stderr
    assert [span["phase"] for span in data["hosts"]["a"]["spans"]][-1] == "lost"


def test_callback_leaves_a_report_of_a_killed_run(play: Play, config: pathlib.Path) -> None:
    """It is written with each step, so what a later crash of the controller leaves is there already."""
    look = {
        "ansible.builtin.assert": {"that": ["found | length == 2", "'drain' in text"]},
        "vars": {
            "found": f"{{{{ lookup('ansible.builtin.fileglob', '{config}/reports/*', wantlist=True) }}}}",
            "text": "{{ lookup('ansible.builtin.file', (found | select('search', 'json$') | first)) }}",
        },
    }
    run = play(steps(config, look))
    assert run.returncode == 0, run.stdout + run.stderr


def test_callback_survives_a_place_it_cannot_write_to(play: Play, config: pathlib.Path) -> None:
    (config / "reports").write_text("a file", encoding="utf-8")
    run = play(steps(config))
    assert run.returncode == 0
    assert (run.stdout + run.stderr).count("cannot be written") == 1


def test_description_is_valid() -> None:
    source = (ROOT / "plugins/callback/rollout_report.py").read_text(encoding="utf-8")
    text = source.split('DOCUMENTATION = r"""')[1].split('"""')[0]
    assert yaml.safe_load(text)["name"] == "rollout_report"
