"""Requests followed through traces and logs (scenario `logs`), and what is lost when the log tier is taken away.

runs      5,000 hot, 200 critical and 100 failing runs of a client that knows its traces: which are kept, are their
          lines found by trace id, do span metrics count right. Control: classes that do not exclude each other
tasks     runs as tasks: submission, worker and Langflow in one trace, and the worker's lines under its id
outage    the log store stopped for 5 minutes while every host says numbered lines: nothing is lost, who is back when.
          Control: the queue of one host thrown away
disk      the disk of the log store full: shippers hold, the alert is told, users notice nothing
masking   values that must be found nowhere, through body, URL, header, exception and nested JSON. Control: masking off
agent     the agents of all nodes stopped, then hanging, under load, and a node stopped meanwhile: users notice nothing

Traces that were kept are those that the gateways have sent to a stand-in for a backend; lines are looked for in the log
store as its reader. Parts that this machine could not make are left out, and drills that need them say so and fail.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any
from urllib.parse import quote

import yaml

from tools.drills import alert_faults, alert_rules
from tools.drills.core import ROOT, Drill, DrillError, Lab, count_text, say
from tools.drills.logs_ledger import (
    COUNTS,
    CRITICAL,
    FAILING,
    HOT,
    JOIN_RATE,
    KINDS,
    SPAN_METRICS_ERROR,
    Run,
    canaries,
    connected,
    deviation,
    drawn,
    emptied,
    judge_lines,
    kept,
    mixed,
    seen,
    unjoined,
)
from tools.drills.logs_tier import (
    SHIPPER,
    SHIPPER_DIR,
    Flows,
    Tier,
    Watch,
    Writer,
    flows_for,
    left_out,
    need,
    run_all,
    send,
    submit,
    writing,
)
from tools.drills.traces import HOT_SHARE, binomial_interval

SCENARIO = "logs"
STORE, COLLECTOR = "the log store", "the collector"
# Seconds that the log store is away, and of lines before and after that.
OUTAGE, AROUND = 300.0, 30.0
LIGHT = {"get": 1.0, "run": 0.2}
# Of the agents of traces: how long they are away each time, with how many requests a second, and what may come of it.
AGENT, AGENT_PORT, NODE_PORT = "otelcol-agent.service", 4328, 7860
AGENT_AWAY, AGENT_LOAD = 90.0, {"get": 2.0, "run": 1.0}
SLOWER, STOP_LONGER = 1.5, 10.0
# Of the control of sampling: enough for a share of 1 % and one of 11 % to be told apart for sure.
CONTROL_HOT = 1000
# Runs of the critical flow as tasks.
TASKS = 20
MASKING = ROOT / "roles/common/files/masking.yml"


# --- the lab in the state that a drill begins with -------------------------------------------------------------------


def prepare(lab: Lab) -> None:
    """A healthy lab in which every line is delivered; what a broken drill has left is put right."""
    lab.up()
    tier = Tier.of(lab) if converged(lab) else None
    if tier is None:
        lab.must("site", "-e", "rollout_reset=true")
        tier = Tier.of(lab)
    tier.stage.repair()
    if lab.groups.get("logging"):
        for name in ("log_disk_filled", "log_store_stopped", "log_shipper_stopped"):
            alert_faults.CASES[name].repair(tier.stage)
    lab.wait_healthy()
    for what, name in left_out().items():
        say(f"left out: {what} ({name}); make lab-artifacts makes it")
    if found := tier.stage.whole() + tier.stage.quiet():
        say(f"this lab begins with: {', '.join(found)}")


def converged(lab: Lab) -> bool:
    """Whether site has come to its end here before, with the parts that are there now."""
    try:
        if not all(lab.healthy(node) for node in lab.nodes):
            return False
        shippers = [lab.inside(host, "systemctl", "is-active", SHIPPER, check=False) for host in lab.nodes]
        return not lab.groups.get("logging") or all(state == "active" for state in shippers)
    except DrillError:
        return False


# --- runs ------------------------------------------------------------------------------------------------------------


def counts(lab: Lab) -> dict[str, int]:
    """How many runs of each kind; with --repeat so many hot ones, and the others in proportion."""
    if not lab.repeat:
        return dict(COUNTS)
    return {kind: max(5, round(count * lab.repeat / COUNTS[HOT])) for kind, count in COUNTS.items()}


def check_kept(drill: Drill, runs: list[Run], traces: set[str]) -> None:
    """Every trace of the classes that matter, and of the hot ones as many as chance allows."""
    found = kept(runs, traces)
    for kind in (CRITICAL, FAILING):
        some, n = found[kind]
        drill.check(f"{kind}: traces kept", some == n > 0, f"{some} of {n}", "all")
    some, n = found[HOT]
    low, high = binomial_interval(n, HOT_SHARE)
    drill.check("hot: traces kept", low <= some <= high, f"{some} of {n} ({some / n:.2%})", f"{low} to {high}")


def check_joined(drill: Drill, tier: Tier, traces: list[str]) -> None:
    lines = tier.datasets_of(traces)
    missing = unjoined(traces, lines)
    share = 1 - len(missing) / len(traces) if traces else 0.0
    drill.note(
        "lines", {"traces": len(traces), "missing": missing[:20], "datasets": sorted(set().union(*lines.values()))}
    )
    drill.check(
        "kept traces whose lines are found by id", share >= JOIN_RATE, f"{len(traces) - len(missing)} of {len(traces)}",
        f"{JOIN_RATE:.0%} or more",
    )  # fmt: skip


def check_counted(drill: Drill, tier: Tier, flows: Flows, runs: list[Run]) -> None:
    """Figures made of all spans, whatever is dropped later."""
    for kind in KINDS:
        truth = sum(run.kind == kind for run in runs)
        measured, deadline = tier.calls(flows.ids[kind]), time.monotonic() + 120
        while deviation(measured, truth) > SPAN_METRICS_ERROR and time.monotonic() < deadline:
            time.sleep(5)
            measured = tier.calls(flows.ids[kind])
        off = deviation(measured, truth)
        drill.check(
            f"{kind}: span metrics", off <= SPAN_METRICS_ERROR, f"{measured:g} of {truth} ({off:.2%} off)",
            f"within {SPAN_METRICS_ERROR:.1%}",
        )  # fmt: skip


def drill_runs(lab: Lab) -> Drill:
    need(STORE, COLLECTOR)
    drill, tier = Drill("logs-runs", "which traces are kept, and are their lines found"), Tier.of(lab)
    with flows_for(tier, drill) as flows:
        lab.must("logging", *flows.options(), folder=drill.folder)
        runs, expected = drawn(counts(lab))
        drill.note("hot_picked_by_their_ids", expected)
        say(f"  {len(runs)} runs")
        run_all(tier, flows, runs, drill.folder / "runs.jsonl")
        wrong = [run for run in runs if not run.right]
        drill.check("runs answered as asked", not wrong, f"{len(runs) - len(wrong)} of {len(runs)}", "all")
        drill.note("settled", round(tier.settled(), 1))
        traces = tier.kept_traces()
        check_kept(drill, runs, traces)
        drill.note("delivered", round(tier.delivered(), 1))
        check_joined(drill, tier, sorted({run.trace for run in runs} & traces))
        check_counted(drill, tier, flows, runs)
        health = [span["name"] for span in tier.spans() if "health" in str(span["name"])]
        drill.check("spans of health checks", not health, len(health), "0")
        control_sampling(drill, tier, flows)
    return drill


def control_sampling(drill: Drill, tier: Tier, flows: Flows) -> None:
    """Policies that each keep what they like let hot flows through at the rate of all others: that is seen."""
    tier.lab.must("logging", *flows.options(otel_collector_sampling_match="any"), folder=drill.folder)
    runs = mixed({HOT: CONTROL_HOT, CRITICAL: 0, FAILING: 0})
    run_all(tier, flows, runs, drill.folder / "runs-control.jsonl")
    tier.settled()
    some, n = kept(runs, tier.kept_traces())[HOT]
    _low, high = binomial_interval(n, HOT_SHARE)
    drill.check(
        "control, classes that do not exclude each other: too many hot traces are seen", some > high,
        f"{some} of {n}", f"more than {high}",
    )  # fmt: skip


def drill_tasks(lab: Lab) -> Drill:
    """A task is one trace: its client, its submission, the worker that runs it, and its requests to Langflow."""
    need(STORE, COLLECTOR)
    drill, tier = Drill("logs-tasks", "tasks followed through traces and logs"), Tier.of(lab)
    with flows_for(tier, drill) as flows:
        lab.must("logging", *flows.options(), folder=drill.folder)
        runs = [Run(CRITICAL) for _number in range(TASKS)]
        for run in runs:
            submit(tier, flows.ids[CRITICAL], run)
        taken = [run for run in runs if run.status in (200, 201, 202)]
        drill.check("tasks taken", len(taken) == TASKS, f"{len(taken)} of {TASKS}", "all")
        drill.note("settled", round(tier.settled(), 1))
        spans = tier.spans()
        whole = [run for run in runs if connected([one for one in spans if one["trace_id"] == run.trace], run.span)]
        drill.check("tasks whose spans hang together", len(whole) == TASKS, f"{len(whole)} of {TASKS}", "all")
        tier.delivered()
        lines = tier.datasets_of([run.trace for run in runs])
        logged = [run for run in runs if "celery.app" in lines.get(run.trace, set())]
        drill.check("tasks whose lines are found by the id", len(logged) == TASKS, f"{len(logged)} of {TASKS}", "all")
    return drill


# --- the log store away ----------------------------------------------------------------------------------------------


def check_lines(drill: Drill, tier: Tier, writer: Writer, label: str = "") -> dict[str, Any]:
    """Every line of every host is there."""
    found: dict[str, Any] = {}
    for host in tier.hosts:
        lines = judge_lines(writer.written(host), tier.numbered(writer.mark, host))
        found[host] = {"written": lines.written, "lost": len(lines.lost), "twice": len(lines.twice)}
        drill.check(
            f"{label}{host}: lines lost",
            lines.whole,
            f"{len(lines.lost)} of {lines.written}, {len(lines.twice)} twice",
            "0",
        )
    return found


def await_alerts(drill: Drill, tier: Tier, names: tuple[str, ...], since: float, limit: float) -> None:
    """Wait until alerts have been told by name."""
    deadline = since + limit
    told: Mapping[str, int] = {}
    while time.time() < deadline and not set(names) <= set(told):
        time.sleep(2)
        told = alert_rules.heard(tier.stage.sink.rows(since))
    for name in names:
        drill.check(f"alert {name}", name in told, "told" if name in told else "not told", f"told within {limit:g} s")


def drill_outage(lab: Lab) -> Drill:
    from tools.drills.rolling import under_load

    need(STORE)
    drill, tier = Drill("logs-outage", "the log store away for 5 minutes"), Tier.of(lab)
    case = alert_faults.CASES["log_store_stopped"]
    tier.delivered()
    mark = f"drill{secrets.token_hex(4)}"
    options = {"rates": LIGHT, "warm": 5, "max_duration": OUTAGE + 900}
    with Watch(tier) as watch, under_load(lab, drill, tier.front, "outage", **options) as (_load, load):
        with writing(tier, mark) as writer:
            time.sleep(AROUND)
            struck = case.strike(tier.stage)
            try:
                await_alerts(drill, tier, ("LogStoreDown", "LogsWait"), struck.moment, OUTAGE - 10)
                time.sleep(max(0.0, struck.moment + OUTAGE - time.time()))
            finally:
                case.repair(tier.stage)
            back = time.time()
            time.sleep(AROUND)
        drill.note("delivered", round(tier.delivered(), 1))
    drill.note("away", round(back - struck.moment, 1))
    drill.note("most_waiting", watch.most())
    order = emptied(watch.samples, back)
    drill.note("recovery", order)
    say(f"  empty again after: {', '.join(f'{host} {seconds:g} s' for host, seconds in order.items())}")
    waited = [host for host, count in watch.most().items() if count > 0]
    drill.check(
        "hosts on which lines have waited", set(waited) >= set(tier.hosts), len(waited), f"all {len(tier.hosts)}"
    )
    drill.note("lines", check_lines(drill, tier, writer))
    drill.check("failed requests meanwhile", load[0].failed == 0, count_text(load[0].failed, load[0].n), "0")
    writer.clean()
    control_queue(drill, tier)
    return drill


def control_queue(drill: Drill, tier: Tier) -> None:
    """What waits on one host is thrown away: that is seen."""
    case, host = alert_faults.CASES["log_store_stopped"], tier.lab.nodes[0]
    mark = f"drill{secrets.token_hex(4)}"
    with writing(tier, mark) as writer:
        time.sleep(10)
        case.strike(tier.stage)
        try:
            time.sleep(60)
            tier.stage.shell(host, f"systemctl stop {SHIPPER}; rm -rf {SHIPPER_DIR}/queue/*; systemctl start {SHIPPER}")
        finally:
            case.repair(tier.stage)
        time.sleep(10)
    tier.delivered()
    lines = judge_lines(writer.written(host), tier.numbered(mark, host))
    drill.check(
        "control, queue thrown away: lost lines are seen",
        len(lines.lost) > 0,
        f"{len(lines.lost)} of {lines.written}",
        "> 0",
    )
    writer.clean()


# --- its disk full ---------------------------------------------------------------------------------------------------


def drill_disk(lab: Lab) -> Drill:
    from tools.drills.rolling import under_load

    need(STORE)
    drill, tier = Drill("logs-disk", "the disk of the log store full"), Tier.of(lab)
    case = alert_faults.CASES["log_disk_filled"]
    tier.delivered()
    mark = f"drill{secrets.token_hex(4)}"
    starts = lab.starts()
    options = {"rates": LIGHT, "warm": 5, "max_duration": 1800}
    with Watch(tier) as watch, under_load(lab, drill, tier.front, "disk", **options) as (_load, load):
        with writing(tier, mark) as writer:
            time.sleep(AROUND)
            struck = case.strike(tier.stage)
            try:
                await_alerts(drill, tier, ("LogStoreDiskHigh", "LogsWait"), struck.moment, 300)
                held = {host: count for host, count in tier.queues().items() if count > 0}
                time.sleep(60)
            finally:
                case.repair(tier.stage)
            back = time.time()
        drill.note("delivered", round(tier.delivered(), 1))
    drill.note("full_for", round(back - struck.moment, 1))
    drill.note("most_waiting", watch.most())
    drill.note("recovery", emptied(watch.samples, back))
    drill.check("hosts that hold their lines", set(held) >= set(tier.hosts), len(held), f"all {len(tier.hosts)}")
    drill.note("lines", check_lines(drill, tier, writer))
    drill.check("failed requests meanwhile", load[0].failed == 0, count_text(load[0].failed, load[0].n), "0")
    drill.check(
        "nodes that were restarted", lab.starts() == starts, "none" if lab.starts() == starts else "some", "none"
    )
    others = {
        name for name in alert_rules.heard(tier.stage.sink.rows(struck.moment)) if not name.startswith(("Log", "Trace"))
    }
    drill.check("alerts about anything else", not others, ", ".join(sorted(others)) or "none", "none")
    writer.clean()
    return drill


# --- masking ---------------------------------------------------------------------------------------------------------


def say_canaries(tier: Tier, flows: Flows, values: Mapping[str, str], mark: str) -> None:
    """Every value by every way that a line or a span may be made of."""
    from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_api

    door = tier.front.door(timeout=60)
    anything = tuple(range(200, 600))
    for name, value in values.items():
        # Body and exception: the flow fails with what it was given, and the log has the reason.
        send(tier, flows.ids[FAILING], Run(FAILING), f"{mark} {name}={value}")
        # URL and headers, in the trace of a request of its own.
        run = Run(HOT)
        headers = {
            "traceparent": run.traceparent,
            "User-Agent": f"{mark} {value}",
            "Referer": f"https://x.example/?q={quote(value)}",
        }
        for path in (f"/api/v1/flows/?search={mark}&{name}={quote(value)}", f"/{mark}/{quote(value)}"):
            try:
                door.request("GET", path, headers=headers, expect=anything)
            except _langflow_api.ApiError as error:
                say(f"  {name}: {error}")
        # Nested JSON, plain text and an escaped text, as a service of any host may say them.
        nested = json.dumps({"drill": mark, "outer": {"inner": [{"password": value, "note": f"it was {value}"}]}})
        escaped = json.dumps({"drill": mark, "text": nested})
        for line in (nested, escaped, f"{mark} plain {value} end"):
            tier.lab.inside(tier.lab.data, "logger", "-t", "drill", "--", line)


def places(tier: Tier, since: float) -> dict[str, str]:
    """Everything in which a value might be found: lines, kept spans, series, and what shippers have on their disks."""
    after = {"range": {"@timestamp": {"gte": int(since * 1000), "format": "epoch_millis"}}}
    found = {
        "log store": "\n".join(json.dumps(hit["_source"], ensure_ascii=False) for hit in tier.documents(after)),
        "kept traces": "\n".join(json.dumps(span, ensure_ascii=False) for span in tier.spans() if span["end"] >= since),
    }
    rows = tier.stage.query('{job=~"span_metrics|otel_.+"}') if "lab_collector" in tier.lab.groups else []
    found["span metrics"] = json.dumps([row["labels"] for row in rows])
    for host in tier.hosts:
        found[f"shipper of {host}"] = tier.stage.shell(
            host, f"find {SHIPPER_DIR} -type f -exec cat {{}} + | tr -d '\\000'"
        )
    return found


def check_masked(drill: Drill, tier: Tier, values: Mapping[str, str], mark: str, since: float) -> None:
    tier.delivered()
    if "lab_collector" in tier.lab.groups:
        tier.settled()
    texts = places(tier, since)
    arrived = texts["log store"].count(mark)
    drill.check(
        "lines that bore a value have arrived", arrived >= 5 * len(values), arrived, f"{5 * len(values)} or more"
    )
    for place, text in texts.items():
        hits = seen(text, values)
        drill.check(f"values found: {place}", not hits, hits or f"0 in {len(text)} characters", "0")


def drill_masking(lab: Lab) -> Drill:
    need(STORE)
    drill, tier = Drill("logs-masking", "values that must be found nowhere"), Tier.of(lab)
    with flows_for(tier, drill) as flows:
        values, mark, since = canaries(), f"drill{secrets.token_hex(4)}", time.time() - 1
        drill.note("canaries", sorted(values))
        say_canaries(tier, flows, values, mark)
        time.sleep(10)
        check_masked(drill, tier, values, mark, since)
        control_masking(drill, tier, flows)
    return drill


def control_masking(drill: Drill, tier: Tier, flows: Flows) -> None:
    """With every pattern off, at the shippers and in the log store, values are found: the search can find."""
    masking = yaml.safe_load(MASKING.read_text(encoding="utf-8"))
    names = [pattern["name"] for pattern in masking["patterns"]]
    tier.lab.must("logging", "-e", json.dumps({"langflow_fleet_masking_off": names}), folder=drill.folder)
    values, mark, since = canaries(), f"drill{secrets.token_hex(4)}", time.time() - 1
    say_canaries(tier, flows, values, mark)
    time.sleep(10)
    tier.delivered()
    hits = seen(places(tier, since)["log store"], values)
    drill.check("control, masking off: values are found", set(hits) == set(values), hits, f"all {len(values)}")


# --- agents away -----------------------------------------------------------------------------------------------------


def takes_spans(tier: Tier, node: str) -> str:
    """What the agent of a node says to an empty batch: a status, or what kept it from saying anything."""
    url = f"http://127.0.0.1:{AGENT_PORT}/v1/traces"
    options = (
        "--silent --output /dev/null --max-time 3 --write-out '%{http_code}' --header 'Content-Type: application/json'"
    )
    return tier.stage.shell(node, f"curl {options} --data '{{}}' {url} || echo \" curl $?\"").strip()


def stop_seconds(tier: Tier, node: str, times: int = 3) -> list[float]:
    """How long systemd needs to stop Langflow on a node when spans wait to be sent."""
    took = []
    for _again in range(times):
        tier.lab.wait_healthy(node)
        url = f"https://127.0.0.1:{NODE_PORT}/api/v1/version"
        tier.stage.shell(node, f"for _ in $(seq 20); do curl --silent --insecure --output /dev/null {url}; done")
        begun = time.monotonic()
        tier.stage.shell(node, "systemctl stop langflow.service")
        took.append(round(time.monotonic() - begun, 1))
        tier.stage.shell(node, "systemctl start langflow.service")
    tier.lab.wait_healthy(node)
    return took


def drill_agent(lab: Lab) -> Drill:
    from tools.drills.rolling import under_load

    need(COLLECTOR)
    drill, tier = Drill("logs-agent", "the agents of all nodes away, then hanging"), Tier.of(lab)
    stage, node = tier.stage, lab.nodes[0]
    faults: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "stopped": (lambda: stage.stop(lab.nodes, AGENT), lambda: stage.start(lab.nodes, AGENT)),
        "hanging": (
            lambda: stage.signal(lab.nodes, "SIGSTOP", AGENT),
            lambda: stage.signal(lab.nodes, "SIGCONT", AGENT),
        ),
    }
    answers, stops = {"well": takes_spans(tier, node)}, {}
    options = {"rates": AGENT_LOAD, "warm": AGENT_AWAY, "max_duration": 1800}
    with under_load(lab, drill, tier.front, "agent", **options) as (load, found):
        for window, (strike, repair) in faults.items():
            load.mark(window)
            strike()
            try:
                time.sleep(AGENT_AWAY)
                answers[window] = takes_spans(tier, node)
            finally:
                repair()
            load.mark(f"after_{window}")
            time.sleep(30)
    stops["well"] = stop_seconds(tier, node)
    for window, (strike, repair) in faults.items():
        strike()
        try:
            stops[window] = stop_seconds(tier, node)
        finally:
            repair()
    drill.note("requests", found[0].facts())
    drill.note("stop_seconds", stops)
    # The control: somebody took spans, then nobody did, then one who says nothing.
    wanted = {"well": "200", "stopped": "000 curl 7", "hanging": "000 curl 28"}
    drill.check("control, what an agent answers", answers == wanted, answers, "taken, refused, nothing")
    before = found[0].of("run", "before")
    for window in faults:
        every, runs = found[0].of(window=window), found[0].of("run", window)
        drill.check(f"{window}: failed requests", not every["failed"], count_text(every["failed"], every["n"]), "0")
        ratio = runs["p50_ms"] / before["p50_ms"]
        shown = f"{ratio:.2f} (n = {before['n']}, {runs['n']}; p99 {runs['p99_ms'] / before['p99_ms']:.2f})"
        drill.check(f"{window}: median of runs, then ÷ before", ratio <= SLOWER, shown, f"{SLOWER:g} or less")
        longer = median(stops[window]) - median(stops["well"])
        shown = f"{longer:+.1f} s ({stops[window]} and {stops['well']})"
        drill.check(
            f"{window}: time to stop Langflow, median", longer <= STOP_LONGER, shown, f"+{STOP_LONGER:g} s or less"
        )
    return drill


# --- choosing --------------------------------------------------------------------------------------------------------

DRILLS: Mapping[str, Callable[[Lab], Drill]] = {
    "runs": drill_runs, "outage": drill_outage, "disk": drill_disk, "masking": drill_masking,
    "tasks": drill_tasks, "agent": drill_agent,
}  # fmt: skip
NAMES = tuple(DRILLS)
