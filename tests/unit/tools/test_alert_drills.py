# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The drills of alerts without a lab: the registry, what notifications say, series for simulated alerts, the sink."""

from __future__ import annotations

import http.client
import importlib
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3]))
core, alerts, rules, blocks, faults, stage, sink = (
    importlib.import_module(f"tools.drills.{name}")
    for name in ("core", "alerts", "alert_rules", "alert_blocks", "alert_faults", "alert_stage", "sink")
)


def alert(name: str = "NodeDown", tier: str = "seconds", lasts: float = 5.0, drill: str = "host_killed") -> Any:
    return rules.Alert(name, tier, "page", "infrastructure", lasts, drill)


def row(received: float, name: str = "NodeDown", status: str = "firing", **more: Any) -> dict[str, Any]:
    """What the sink tells of one alert in a notification."""
    labels = {"alertname": name, "tier": "seconds", "severity": "page", "layer": "infrastructure"}
    about = {"path": "/page", "from": "10.0.0.1", "groupKey": name, "fingerprint": name, **more}
    return {"received": received, "status": status, **about, "labels": {**labels, **more.get("labels", {})}}


# --- the registry ----------------------------------------------------------------------------------------------------


def test_every_alert_has_a_case_and_every_case_an_alert() -> None:
    named = {alert.drill for alert in rules.read_alerts()} - {rules.SIMULATED}
    assert named == set(alerts.CASES)


def test_all_drills_are_run_and_budgets_are_used_up_last() -> None:
    assert sorted(alerts.EVERYTHING) == sorted([*alerts.DRILLS, "6"])
    assert alerts.EVERYTHING.index("3") < alerts.EVERYTHING.index("2")


def test_every_simulated_alert_has_a_story_that_can_be_told() -> None:
    found = blocks.read_stories()
    for entry in rules.read_alerts():
        story = found[entry.name]
        assert all(blocks.expand(text) for text in story.series.values()), entry.name
        # Without its labels it would not be recognised.
        expected = [{name: wanted[name] for name in ("tier", "severity", "layer")} for wanted in story.fires]
        assert {**entry.labels, **expected[0]} == entry.labels, entry.name


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), (0, 0), ("10s", 10), ("5m", 300), ("1h30m", 5400), ("500ms", 0.5), ("2d", 172800)]
)
def test_durations(text: Any, seconds: float) -> None:
    assert rules.duration(text) == seconds


@pytest.mark.parametrize("text", ["5", "m", "5 m", "{{ x }}m", "-5s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(core.DrillError):
        rules.duration(text)


def test_defaults_of_the_role_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(
        "__prometheus_alerts:\n"
        "- {name: A, tier: minutes, severity: page, layer: service, for: '{{ minutes }}m', drill: simulated}\n"
    )
    (tmp_path / "main.yml").write_text("minutes: 7\n")
    (found,) = rules.read_alerts(tmp_path / "alerts.yml", tmp_path / "main.yml")
    assert (found.lasts, found.drill) == (420.0, "simulated")


def test_limits() -> None:
    """In the tier of seconds nothing adds to the limit, not even what the rule waits for."""
    assert alert(lasts=10).limit(60) == 30
    assert alert(tier="minutes", lasts=300).limit() == 360
    assert alert(tier="minutes", lasts=60).limit(90) == 210


# --- what has arrived ------------------------------------------------------------------------------------------------


def test_the_first_notification_after_the_fault_counts() -> None:
    rows = [row(99.0), row(130.0), row(112.0), row(105.0, "Other"), row(101.0, status="resolved")]
    assert rules.first_firing(rows, alert(), {}, 100.0)["received"] == 112.0
    assert rules.first_firing(rows, alert("Missing"), {}, 100.0) is None


def test_an_alert_about_another_host_is_not_the_one() -> None:
    rows = [row(110.0, labels={"instance": "app1"}), row(120.0, labels={"instance": "app2"})]
    assert rules.first_firing(rows, alert(), {"instance": {"app2"}}, 100.0)["received"] == 120.0
    # One about the whole cluster names no host.
    assert rules.first_firing([row(110.0)], alert(), {"instance": {"app2"}}, 100.0)["received"] == 110.0


def test_wrong_labels_are_named() -> None:
    good = row(1.0, labels={"instance": "app2"})
    assert rules.wrong_labels(good, alert(), {"instance": {"app2"}}) == {}
    bad = row(1.0, labels={"severity": "ticket", "instance": "app1"})
    assert rules.wrong_labels(bad, alert(), {"instance": {"app2"}}) == {"severity": "ticket", "instance": "app1"}
    bare = {**good, "labels": None}
    assert rules.wrong_labels(bare, alert(), {})["tier"] == "None"


def test_over_is_what_is_told_after_the_repair() -> None:
    rows = [row(1.0), row(5.0, status="resolved"), row(9.0, status="resolved"), row(8.0, "X", "resolved")]
    assert rules.first_resolved(rows, "NodeDown", 6.0)["received"] == 9.0
    assert rules.first_resolved(rows, "NodeDown", 10.0) is None


def test_what_is_still_open() -> None:
    rows = [row(3.0, "A"), row(1.0, "B"), row(2.0, "B", "resolved"), row(4.0, rules.DEAD_MAN)]
    assert rules.still_open(rows) == {"A": "A"}
    # Fired again after it was over.
    assert rules.still_open([*rows, row(5.0, "B")]) == {"A": "A", "B": "B"}


def test_budgets_that_were_used_up_before_are_known_and_nobody_waits_for_them() -> None:
    hours = {"labels": {"tier": "hours"}}
    rows = [
        row(1.0, "Budget", fingerprint="b", **hours),
        row(2.0, "Over", fingerprint="o", **hours),
        row(3.0, "Over", "resolved", fingerprint="o", **hours),
        row(4.0, "Down", fingerprint="d"),
        row(9.0, "Later", fingerprint="l", **hours),
    ]
    assert rules.budgets_before(rows, 5.0) == {"b": "Budget"}
    assert rules.still_open(rows, besides="hours") == {"d": "Down"}
    assert rules.still_open(rows) == {"b": "Budget", "d": "Down", "l": "Later"}


def test_a_group_with_two_alerts_is_one_notification() -> None:
    both = [row(1.0, fingerprint="a", groupKey="g"), row(1.0, fingerprint="b", groupKey="g")]
    assert [len(told) for told in rules.notifications([row(2.0), *both])] == [2, 1]
    assert rules.heard([*both, row(2.0)]) == {"NodeDown": 2}


def test_once_is_once() -> None:
    """A further alert in the group, the end of it and a new beginning are news."""
    first, second = row(1.0, fingerprint="a"), row(31.0, fingerprint="a")
    joined = row(31.0, fingerprint="b")
    ended = [row(61.0, fingerprint="a", status="resolved"), row(61.0, fingerprint="b", status="resolved")]
    assert rules.repeated([first, second, joined, *ended, row(99.0, fingerprint="a")], 1800) == []


def test_control_the_same_from_two_is_seen() -> None:
    twice = rules.repeated([row(1.0), row(1.2, **{"from": "10.0.0.2"})], 1800)
    assert twice == [{"alerts": ["NodeDown"], "apart": 0.2, "from": ["10.0.0.1", "10.0.0.2"]}]


def test_a_reminder_and_the_dead_man_may_say_the_same_again() -> None:
    assert rules.repeated([row(1.0), row(3700.0)], 1800) == []
    assert rules.repeated([row(1.0, rules.DEAD_MAN), row(61.0, rules.DEAD_MAN)], 1800) == []
    # Two receivers of the same alert are no repetition.
    assert rules.repeated([row(1.0), row(1.0, path="/ticket")], 1800) == []


def test_silence() -> None:
    rows = [row(100.0 + 60 * number, rules.DEAD_MAN) for number in range(5)] + [row(150.0)]
    assert rules.longest_silence(rows, 90.0, 400.0) == 60.0
    assert rules.longest_silence(rows, 90.0, 500.0) == 160.0
    assert rules.longest_silence([], 0.0, 1200.0) == 1200.0


# --- verdicts --------------------------------------------------------------------------------------------------------


def trial(**more: Any) -> Any:
    case = faults.Case("x", lambda _stage: None, lambda _stage: None, **more)
    return alerts.Trial("host_killed", case, [alert()], stage.Struck(100.0, {"instance": {"app2"}}))


def told(received: float, status: str = "firing", **more: Any) -> dict[str, Any]:
    links = {"runbook_url": "https://example.com/NodeDown.md"}
    return row(received, status=status, labels={"instance": "app2", **more}, annotations=links)


def judged(*rows: dict[str, Any]) -> tuple[bool, str]:
    drill, one = core.Drill("x", "y"), trial()
    one.look([told_row for told_row in rows if told_row["status"] == "firing"])
    one.repaired = 150.0
    one.look(rows)
    alerts.judge(drill, one)
    return drill.passed, drill.verdicts[0].measured


def test_told_in_time_and_over() -> None:
    assert judged(told(121.5), told(190.0, "resolved")) == (True, "21.5 s, cleared after 40 s")


def test_what_is_over_while_the_repair_goes_on_is_over() -> None:
    drill, one = core.Drill("x", "y"), trial()
    one.look([told(120.0)])
    one.mending, one.repaired = 150.0, 180.0
    one.look([told(120.0), told(160.0, "resolved")])
    alerts.judge(drill, one)
    assert (drill.passed, drill.verdicts[0].measured) == (True, "20 s, cleared after 0 s")
    # Control: what was over before anybody has mended it went by itself.
    other = trial()
    other.look([told(120.0)])
    other.mending, other.repaired = 150.0, 180.0
    other.look([told(120.0), told(140.0, "resolved")])
    assert not other.all_over


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "nothing arrived"),
        ([told(131.0), told(190.0, "resolved")], "31 s, cleared after 40 s"),
        ([told(120.0)], "20 s, not cleared"),
        ([told(120.0), told(140.0, "resolved")], "20 s, not cleared"),
        ([told(120.0, tier="minutes"), told(190.0, "resolved")], "20 s, wrong labels {'tier': 'minutes'}"),
        ([told(120.0, instance="app1"), told(190.0, "resolved")], "nothing arrived"),
        ([{**told(120.0), "annotations": {}}, told(190.0, "resolved")], "20 s, no runbook"),
    ],
)
def test_control_each_fault_of_a_notification_is_a_failed_verdict(rows: list[Any], text: str) -> None:
    passed, measured = judged(*rows)
    assert not passed
    assert measured.startswith(text)


# --- several faults --------------------------------------------------------------------------------------------------


class Silent:
    """A sink that has heard nothing."""

    def rows(self, _since: float = 0.0) -> list[Any]:
        return []


class Empty:
    """A lab without anything, where all is well."""

    def __init__(self) -> None:
        self.sink = Silent()
        self.lab = self

    def wait_healthy(self) -> None:
        pass

    def whole(self) -> list[str]:
        return []

    def quiet(self) -> list[str]:
        return []


def test_a_fault_that_cannot_be_made_or_mended_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def broken(_stage: Any) -> Any:
        raise core.DrillError("no such host")

    def case(name: str, **more: Any) -> Any:
        steps = {
            "strike": lambda _stage: stage.Struck(time.time()),
            "repair": lambda _stage: done.append(name),
            **more,
        }
        return faults.Case(name, **steps)

    cases = {"first": case("first", strike=broken), "second": case("second", repair=broken), "third": case("third")}
    monkeypatch.setattr(alerts, "CASES", cases)
    monkeypatch.setattr(rules, "APART", 0.0)
    drill = core.Drill("x", "y")
    alerts.run_trials(drill, Empty(), [], list(cases))
    # What could not be made is put right all the same: some of it may be there.
    assert done == ["first", "third"]
    failed = [verdict.what for verdict in drill.verdicts if not verdict.passed]
    assert failed == ["first is made", "second is put right"]


# --- a lab ------------------------------------------------------------------------------------------------------------


class Shown:
    """A lab with one monitoring host that has some alerts open."""

    def __init__(self, *names: str) -> None:
        self.asked: list[str] = []
        self.names = names
        self.groups = {"monitoring": ["mon1"]}

    def inside(self, _host: str, *argv: str, check: bool = True) -> str:
        self.asked.append(argv[-1])
        return json.dumps([{"metric": {"alertname": name}, "value": [1.0, "1"]} for name in self.names])


def test_quiet_waits_for_nobody_who_is_busy_with_other_things() -> None:
    lab = Shown("HostCpuBusy", "DiskFillsUp")
    assert stage.Stage(lab, _sink=Silent()).quiet(timeout=0) == []
    assert 'tier!="hours"' in lab.asked[0]
    # Control: anything else counts.
    assert stage.Stage(Shown("HostCpuBusy", "NodeDown"), _sink=Silent()).quiet(timeout=0) == ["NodeDown"]


def test_an_end_that_was_never_told_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sink:
        def rows(self) -> list[Any]:
            return [row(1.0, "NodeDown", fingerprint="a")]

    monkeypatch.setattr(stage, "FORGOTTEN", 0.0)
    monkeypatch.setattr(stage, "LOST", set())
    monkeypatch.setattr(stage.time, "sleep", lambda _seconds: None)
    seen = stage.Stage(Shown(), _sink=Sink())
    assert seen.quiet(timeout=60) == ["NodeDown"]
    assert seen.quiet(timeout=60) == []
    # Control: while Prometheus knows it, it goes on.
    assert stage.Stage(Shown("NodeDown"), _sink=Sink()).quiet(timeout=0) == ["NodeDown"]


def test_a_prometheus_that_does_not_answer_is_not_quiet() -> None:
    lab = Shown()
    lab.inside = lambda *_argv, **_more: "no JSON"  # type: ignore[method-assign]
    assert stage.Stage(lab, _sink=Silent()).quiet(timeout=0) == ["no answer from Prometheus or the sink"]


def test_what_goes_on_aside_belongs_to_its_unit() -> None:
    """A stop of the unit has to end it: `su` and the like would move it to a session of its own."""
    said: list[tuple[str, ...]] = []
    lab = Shown()
    lab.data = "data1"  # type: ignore[attr-defined]

    def inside(_host: str, *argv: str, check: bool = True) -> str:
        said.append(argv)
        return "64" if "SHOW" in argv[-1] else "20"

    lab.inside = inside  # type: ignore[method-assign]
    for case in ("connections_used", "transaction_open"):
        faults.CASES[case].strike(stage.Stage(lab))
    started = [argv for argv in said if argv[0] == "systemd-run"]
    assert len(started) == 2
    assert all("--uid=postgres" in argv and "su -" not in argv[-1] for argv in started)


def test_a_file_is_written_by_a_process_on_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`docker cp` would put it below a file system that is mounted there; control: its failure is told."""
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\necho "$@" > "$0.argv"\ncat > "$0.text"\n[ "$4" != gone ]\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    stage.Stage(Shown()).put("data1", "secret\n", "/run/drill file", mode="0600")
    assert (tmp_path / "docker.text").read_text() == "secret\n"
    said = (tmp_path / "docker.argv").read_text()
    assert said.startswith("exec -i data1 sh -c umask 077; cat > '/run/drill file' && chown root:root ")
    assert "secret" not in said


# --- series for what cannot be provoked ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1 2.5 -3", [1.0, 2.5, -3.0]),
        ("0+10x3", [0.0, 10.0, 20.0, 30.0]),
        ("10-2x2", [10.0, 8.0, 6.0]),
        ("5x2", [5.0, 5.0, 5.0]),
        ("-2+4x1 1e3", [-2.0, 2.0, 1000.0]),
        ("_ 1 _x2", [None, 1.0, None, None]),
    ],
)
def test_samples_of_a_rule_test(text: str, wanted: list[Any]) -> None:
    assert blocks.expand(text) == wanted


def test_a_series_that_has_ended_stays_ended() -> None:
    assert blocks.expand("1 stale")[-1] is blocks.Stale
    assert blocks.prolonged(blocks.expand("1 stale"), 9) == blocks.expand("1 stale")
    assert blocks.prolonged([1.0, None], 9) == [1.0, None]


def test_a_series_goes_on_as_it_went_at_last() -> None:
    assert blocks.prolonged([0.0, 3.0], 4) == [0.0, 3.0, 6.0, 9.0]
    assert blocks.prolonged([7.0], 3) == [7.0, 7.0, 7.0]
    assert blocks.prolonged([], 3) == []


def test_what_is_no_sample() -> None:
    with pytest.raises(core.DrillError, match="'x5' is no sample"):
        blocks.expand("1 x5")


STORY = """
rule_files: [alerts.yml]
evaluation_interval: 15s
tests:
  - interval: 1m
    input_series:
      - {series: 'up{job="node"}', values: '1x3 0x9'}
    alert_rule_test:
      - {eval_time: 2m, alertname: Down, exp_alerts: []}
      - {eval_time: 5m, alertname: Down, exp_alerts: [{exp_labels: {job: node, severity: page}}]}
      - {eval_time: 9m, alertname: Down, exp_alerts: [{exp_labels: {job: other}}]}
"""


def test_the_story_of_an_alert_ends_now(tmp_path: Path) -> None:
    (tmp_path / "x.test.yml").write_text(STORY)
    story = blocks.read_stories(tmp_path)["Down"]
    assert (story.at, story.interval, story.pace) == (300.0, 60.0, 15.0)
    assert story.fires == ({"job": "node", "severity": "page"},)
    text = "\n".join(blocks.open_metrics(story.samples(1000.0)))
    assert text.splitlines()[0] == 'up{job="node"} 1.0 700.000'
    assert text.splitlines()[-2:] == ['up{job="node"} 0.0 1000.000', "# EOF"]
    assert [moment for _name, _value, moment in story.samples(1000.0, 70.0)][-1] == 1060.0


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("up", "up"),
        ('up{job="a", instance = "b c"}', 'up{job="a",instance="b c"}'),
        ("up{job='a\"b'}", 'up{job="a\\"b"}'),
        (r'x{path="C:\\",y="\"q\", z"}', r'x{path="C:\\",y="\"q\", z"}'),
    ],
)
def test_a_series_is_written_as_open_metrics_wants_it(given: str, written: str) -> None:
    assert blocks.series_text(given) == written


def rule(record: str, expr: str) -> dict[str, str]:
    return {"record": record, "expr": expr}


RULES = {
    "groups": [
        {"name": "r", "rules": [rule("a:b:c", "rate(raw[1m])"), rule("d:e:f", "a:b:c / 2"), rule("not:read", "x")]},
        {"name": "x", "rules": [{"alert": "Y", "expr": "d:e:f > 1", "for": "5m"}, {"alert": "Z", "expr": "x > 1"}]},
    ]
}


def test_the_second_prometheus_has_one_alert_and_what_it_reads() -> None:
    found = blocks.groups_for([RULES], "Y", [])
    assert [[rule.get("record") or rule["alert"] for rule in group["rules"]] for group in found] == [
        ["a:b:c", "d:e:f"],
        ["Y"],
    ]
    assert "for" not in found[1]["rules"][0]
    # What the story brings along is not computed beside it.
    assert [group["name"] for group in blocks.groups_for([RULES], "Y", ["d:e:f"])] == ["x"]


def test_recorded_series_are_made_in_their_order() -> None:
    groups = blocks.groups_for([RULES], "Y", [])[:1]
    order = [[rule["record"] for group in blocks.layer(groups, depth) for rule in group["rules"]] for depth in range(3)]
    assert order == [["a:b:c"], ["d:e:f"], []]


def test_the_second_prometheus_tells_the_real_alertmanagers() -> None:
    real = {"global": {"external_labels": {"fleet": "x"}}, "alerting": {"alertmanagers": [1]}, "scrape_configs": [2]}
    found = blocks.configuration(real, "/rules.yml")
    assert found["alerting"] == real["alerting"]
    assert found["scrape_configs"] == []
    assert found["global"]["external_labels"] == {"fleet": "x", "simulated": "true"}
    with pytest.raises(core.DrillError):
        blocks.configuration({}, "/rules.yml")


# --- the sink --------------------------------------------------------------------------------------------------------


ACCEPTED, REFUSED = "secret", "other"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    argv += ["-subj", "/CN=sink", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv += ["-keyout", str(folder / "key"), "-out", str(folder / "crt")]
    subprocess.run(argv, check=True, capture_output=True)
    return folder


@pytest.fixture
def server(certificate: Path, tmp_path: Path) -> Iterator[Any]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "crt", certificate / "key")
    found = sink.Sink(("127.0.0.1", 0), context, "secret", sink.Journal(tmp_path / "journal"))
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def client(server: Any, certificate: Path) -> Any:
    return sink.Client(f"https://127.0.0.1:{server.server_address[1]}", str(certificate / "crt"), ACCEPTED)


def post(client: Any, certificate: Path, body: Any, path: str = "/page", token: str = ACCEPTED) -> int:
    context = ssl.create_default_context(cafile=str(certificate / "crt"))
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}"}
    connection = http.client.HTTPSConnection(client.url.removeprefix("https://"), timeout=10, context=context)
    try:
        connection.request("POST", path, content, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def notification(*names: str, status: str = "firing") -> dict[str, Any]:
    listed = [{"status": status, "labels": {"alertname": name}, "fingerprint": name} for name in names]
    return {"receiver": "page", "groupKey": "g", "alerts": listed}


def test_what_is_told_is_kept_with_its_time(client: Any, certificate: Path, server: Any, tmp_path: Path) -> None:
    before = time.time()
    assert post(client, certificate, notification("A", "B")) == 200
    found = client.rows(before)
    assert [(entry["labels"]["alertname"], entry["path"], entry["from"]) for entry in found] == [
        ("A", "/page", "127.0.0.1"),
        ("B", "/page", "127.0.0.1"),
    ]
    assert before <= found[0]["received"] == found[1]["received"] <= time.time()
    assert client.rows(time.time()) == []
    assert [entry["fingerprint"] for entry in client.rows(alertname="B", status="firing", path="/page")] == ["B"]
    # A sink that is started again knows what was told before, but for a line that was cut off.
    with (tmp_path / "journal").open("a") as stream:
        stream.write('{"received": 1')
    assert len(sink.Journal(tmp_path / "journal").rows) == 2


def test_without_the_token_nothing_is_taken_or_told(client: Any, certificate: Path, server: Any) -> None:
    assert post(client, certificate, notification("A"), token=REFUSED) == 401
    with pytest.raises(sink.SinkError, match="401"):
        sink.Client(client.url, str(certificate / "crt"), REFUSED).rows()
    assert server.journal.rows == []


def test_what_is_no_notification_is_refused(client: Any, certificate: Path, server: Any) -> None:
    assert [post(client, certificate, body) for body in (b"{", [], b"7")] == [400, 400, 400]
    assert server.journal.rows == []


def test_it_refuses_when_it_is_told_to(client: Any, certificate: Path) -> None:
    client.fail(30, status=503, path="/ticket")
    assert post(client, certificate, notification("A"), "/ticket") == 503
    assert post(client, certificate, notification("A"), "/page") == 200
    client.fail(0)
    assert post(client, certificate, notification("A"), "/ticket") == 200


def test_waiting_ends_with_the_first_row(client: Any, certificate: Path) -> None:
    began = time.monotonic()
    assert client.rows(wait=0.2) == []
    timer = threading.Timer(0.3, post, (client, certificate, notification("A")))
    timer.start()
    assert len(client.rows(wait=20)) == 1
    timer.join()
    assert time.monotonic() - began < 10
    assert client.wait_for(lambda entry: entry["status"] == "firing", 0, 5)["fingerprint"] == "A"
    assert client.wait_for(lambda entry: entry["status"] == "resolved", 0, 0.1) is None


def test_a_client_that_says_nothing_keeps_nobody_waiting(client: Any, certificate: Path, server: Any) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", server.server_address[1])):
        assert post(client, certificate, notification("A")) == 200


def test_a_case_that_there_is_not_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "Stage", lambda _lab: stage.Stage(Hosts(), Told()))
    assert not alerts.drill_1(None, ["nothing-of-this-name"]).passed
    assert not alerts.drill_2(None, ["node_stopped"]).passed


# --- faults ----------------------------------------------------------------------------------------------------------


class Hosts:
    """As much of a lab as faults use: it keeps what it is told to do."""

    nodes, balancers, data = ["app1", "app2"], ["lb1"], "data1"
    groups = {
        "monitoring": ["mon1", "mon2"], "celery": ["app1", "app2"], "redis": ["data1"], "backup": ["mon2"],
        "lab_sink": ["data1"], "langflow": nodes, "loadbalancers": balancers, "postgresql": [data], "logging": ["mon2"],
    }  # fmt: skip
    addresses = dict.fromkeys(["app1", "app2", "lb1", "data1", "mon1", "mon2"], "10.0.0.1")

    def __init__(self) -> None:
        self.done: list[list[str]] = []
        self.mounted = "tmpfs"

    def run(self, argv: list[str], check: bool = True) -> Any:
        self.done.append(list(argv))
        return subprocess.CompletedProcess(argv, 0, "false" if "inspect" in argv else "", "")

    def inside(self, host: str, *argv: str, check: bool = True) -> str:
        self.done.append([host, *argv])
        if "list-units" in argv:
            return f"{argv[-1].replace('*', 'x')} loaded active running Something\ngone.service not-found inactive dead"
        if "findmnt" in argv[-1]:
            return self.mounted
        return "100" if "max_connections" in argv[-1] else "5" if "pg_stat_activity" in argv[-1] else ""

    def template(self, text: str, host: str = "") -> str:
        return text


class Door:
    """A front door that takes everything."""

    def __init__(self) -> None:
        self.flows: list[str] = []

    def import_flow(self, _counter: str) -> str:
        self.flows.append(f"flow{len(self.flows)}")
        return self.flows[-1]

    def delete_flow(self, flow: str) -> None:
        self.flows.remove(flow)

    def door(self, timeout: float = 60) -> Any:
        return self

    def call(self, *_argv: Any, **_options: Any) -> dict[str, str]:
        return {}

    def run(self, *_argv: Any) -> str:
        time.sleep(0.01)
        return ""

    def start_job(self, _flow: str, _text: str) -> str:
        return "job1"

    def job_status(self, _job: str) -> str:
        return "completed"


class Told:
    """A sink to which nothing is told."""

    def __init__(self) -> None:
        self.refusals: list[float] = []

    def fail(self, seconds: float, **_more: Any) -> None:
        self.refusals.append(seconds)

    def rows(self, *_words: Any) -> list[Any]:
        return []


@pytest.mark.parametrize("name", sorted(faults.CASES))
def test_every_fault_is_made_and_undone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    door, hosts = Door(), Hosts()
    front = importlib.import_module("tools.drills.front")
    monkeypatch.setattr(front.Front, "of", classmethod(lambda _cls, _lab: door))
    monkeypatch.setattr(faults.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(faults.subprocess, "run", lambda argv, **_more: subprocess.CompletedProcess(argv, 0, "PEM", ""))
    place, case = stage.Stage(hosts, Told()), faults.CASES[name]
    # Nothing is broken yet: what is undone must be harmless.
    case.repair(place)
    assert not any(word in text for argv in hosts.done for text in argv for word in ("SIGKILL", "SIGSTOP"))
    before = time.time()
    struck = case.strike(place)
    assert before <= struck.moment <= time.time()
    assert set(struck.blamed.get("instance", ())) <= set(hosts.addresses)
    assert case.special or hosts.done or door.flows or place.sink.refusals
    case.repair(place)
    assert door.flows == []
    assert not [thread for source in (faults.FAILING, faults.SLOW, faults.HANGING) for thread in source.threads]


def test_a_disk_that_is_the_machines_is_not_filled() -> None:
    hosts = Hosts()
    hosts.mounted = ""
    with pytest.raises(core.DrillError, match="no file system of the lab's own"):
        faults.CASES["log_disk_filled"].strike(stage.Stage(hosts, Told()))
    assert not any("fallocate" in text for argv in hosts.done for text in argv)


def test_a_fault_of_a_service_that_is_not_there_is_no_fault() -> None:
    place = stage.Stage(Hosts())
    with pytest.raises(core.DrillError, match="no such service"):
        place.stop(["app1"])
    place.start(["app1"])
    # One that systemd has forgotten since it was stopped is still known.
    assert place.known_units("app1", "a*.service") == ["ax.service"]
    place.lab.inside = lambda *_argv, **_more: ""
    assert place.known_units("app1", "a*.service") == ["ax.service"]
    assert place.units("app1", "a*.service") == []
