"""The drills of rolling changes: three application nodes behind two load balancers (scenario `rolling`).

1   rolling restart under load: nothing fails, nothing is cut, nothing is executed twice
2   controls: without drain, without waiting for jobs, without retry the same figures must not be good
3   bad releases: each caught at the canary, rolled back, nobody else touched; good ones pass
4   disturbances: a node lost, a load balancer that refuses, no database, a controller killed
5   upgrades between published versions with data, and a downgrade that is refused
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.drills import faults
from tools.drills.core import ROOT, Drill, DrillError, Lab, Play, batch_figures, count_text, ended, say
from tools.drills.front import Front
from tools.drills.load import (
    AFTER,
    BEFORE,
    DURING,
    RATES,
    UNCOUNTED,
    BackgroundJobs,
    Load,
    Outcome,
    counting,
    loaded,
)

SCENARIO = "rolling"
# An edge that rolls and one that needs a planned stop: roles/langflow/vars/version_edges.yml.
OLDEST, OLD, NEW = "1.12.7", "1.12.8", "1.13.0"
# Controls and disturbances need no long runs: what they show is in the short ones.
SHORT = {"get": 5.0, "run": 0.6, "stream": 0.2}
# The canary judges by requests that are no health checks, and wants some.
BUSY = {"get": 12.0, "run": 0.6, "stream": 0.2}
CANARY = {
    "langflow_canary_window": 24,
    "langflow_canary_warmup": 5,
    "langflow_canary_timeout": 180,
    "langflow_rollout_observe": 5,
}
GOOD_RELEASES = 5
# Seconds that a node which will never be well is given.
FAULTY_START = 120


# --- the lab in the state that a drill begins with -------------------------------------------------------------------


def running_versions(lab: Lab) -> set[str]:
    """The versions of Langflow that the nodes' `current` names; empty on a lab that is not there."""
    try:
        return {name.split("-", 1)[0] for name in lab.releases().values()}
    except DrillError:
        return set()


def present(lab: Lab) -> str:
    """The version that the lab is on, or the newest one for a new lab."""
    found = running_versions(lab) - {"none"}
    return found.pop() if len(found) == 1 else NEW


def prepare(lab: Lab, version: str) -> None:
    """A healthy lab on a version of Langflow, re-created when it stands on another one."""
    lab.up()
    found = running_versions(lab) - {"none"}
    if found and found != {version}:
        say(f"the lab runs {', '.join(sorted(found))}, this drill begins with {version}: starting over")
        lab.down()
        lab.up()
    for name in lab.balancers:
        lab.inside(name, "rm", "-f", "/etc/nginx/langflow/maintenance")
    lab.must("site", "-e", f"langflow_version={version}", "-e", "rollout_reset=true")
    lab.wait_healthy()


def untouched(before: dict[str, str], after: dict[str, str], nodes: Sequence[str]) -> list[str]:
    """Those of some nodes whose process was not restarted."""
    return [name for name in nodes if before[name] == after[name]]


def check_clean(drill: Drill, lab: Lab, label: str = "") -> None:
    """Every node well, nobody out, no maintenance page."""
    out = {name: nodes for name, nodes in lab.left_out().items() if nodes}
    drill.check(f"{label}nobody is left drained", not out, out or "nobody", "nobody on any load balancer")
    sick = [name for name in lab.nodes if not lab.healthy(name)]
    drill.check(f"{label}every node is well", not sick, ", ".join(sick) or "all", "all")
    shown = lab.in_maintenance()
    drill.check(f"{label}no maintenance page", not shown, ", ".join(shown) or "none", "none")


def check_trusted(drill: Drill, outcome: Outcome, label: str = "") -> None:
    drill.check(f"{label}the generator kept its pace", not outcome.doubts, outcome.doubts or "yes", "yes")


def explain(outcome: Outcome, count: int = 5) -> None:
    for entry in outcome.failures(count):
        say(
            f"  {entry['load']} via {entry['door']} at {entry['due']:.1f} s: {entry['class']} {entry.get('detail', '')}"
        )


@contextmanager
def under_load(
    lab: Lab, drill: Drill, front: Front, label: str, **options: Any
) -> Iterator[tuple[Load, list[Outcome]]]:
    """Load with a counter; its outcome is in the list when the block has ended well."""
    found: list[Outcome] = []
    with counting(lab, drill, label) as counter, loaded(lab, front, counter, drill, label=label, **options) as load:
        yield load, found
        found.append(load.stop())


# --- 1 ---------------------------------------------------------------------------------------------------------------


def drill_1(lab: Lab) -> Drill:
    drill = Drill("rolling-1", "rolling restart under load")
    front = Front.of(lab)
    before = lab.starts()
    drill.note("load_per_second", dict(RATES))
    with under_load(lab, drill, front, "load", warm=60) as (load, found):
        jobs = BackgroundJobs(front, load.flow, every=15, seconds=25)
        jobs.start()
        load.mark(DURING)
        play = lab.playbook("rolling_restart", "-e", "rollout_reset=true", folder=drill.folder)
        load.mark(AFTER)
        jobs.stop()
        # One long run must be able to end in the window `after` as well.
        time.sleep(20)
        ends = jobs.outcome()
    outcome = found[0]
    if play.status:
        say(play.tail())
    drill.note("requests", outcome.facts())
    drill.note("background_jobs", {"sent": len(jobs.jobs), "ended": ends, "refused": jobs.refused})
    drill.note("roll_seconds", play.seconds)
    explain(outcome)

    drill.check("the roll succeeded", play.status == 0, f"status {play.status}, {play.seconds:g} s", "status 0")
    same = untouched(before, lab.starts(), lab.nodes)
    drill.check("every node was restarted", not same, f"{len(lab.nodes) - len(same)} of {len(lab.nodes)}", "all")
    every = outcome.of()
    drill.check("failed requests", every["failed"] == 0, count_text(every["failed"], every["n"]), "0")
    during = outcome.of(window=DURING)
    drill.check("failed requests during the roll", not during["failed"], count_text(during["failed"], during["n"]), "0")
    for kind, what in (("stream", "cut streams"), ("long_run", "failed runs of 30-60 s"), ("run", "failed short runs")):
        row = outcome.of(kind)
        drill.check(what, row["failed"] == 0 and row["n"] > 0, count_text(row["failed"], row["n"]), "0")
    runs = sum(outcome.of(kind)["n"] for kind in ("run", "long_run", "stream"))
    drill.check("executed twice", outcome.doubles == 0, count_text(outcome.doubles, runs), "0, by the counter")
    drill.check("answered without being executed", outcome.lost == 0, outcome.lost, "0, by the counter")
    completed = ends.get("completed", 0)
    drill.check(
        "background jobs that completed",
        completed == len(jobs.jobs) > 0 and not jobs.refused,
        f"{completed} of {len(jobs.jobs)} {ends}, {len(jobs.refused)} not taken",
        "all",
    )
    check_trusted(drill, outcome)

    state = lab.rollout()
    drill.check("the state file says finished", state["status"] == "finished", state["status"], "finished")
    figures = batch_figures(lab.batches(), state["timings"])
    drill.note("batches", figures)
    for number, row in enumerate(figures, 1):
        say(
            f"  batch {number} ({', '.join(row['hosts'])}): {row['wall']:g} s, of which {row['drain']:g} s drain; "
            f"start to healthy {row['start_to_healthy']:g} s; ratio {row['ratio']}"
        )
    drill.check("each batch was timed", len(figures) > 0 and all(row["ratio"] for row in figures),
                ", ".join(f"{row['wall']:g} s / {row['start_to_healthy']:g} s = {row['ratio']}" for row in figures),
                "wall time / start to healthy")  # fmt: skip
    ratio = outcome.p99_ratio()
    say(f"  p99 of health checks during / before: {ratio}; of runs: {outcome.p99_ratio('run')}")
    check_clean(drill, lab)
    return drill


# --- 2 ---------------------------------------------------------------------------------------------------------------


def back_in_service(lab: Lab, node: str) -> None:
    """Out of every load balancer, started, healthy, in again: what a control has broken must not weigh on the next."""
    for name in lab.balancers:
        lab.do(name, "nginx_backend", {"name": node, "state": "drained", "drain_timeout": 0})
    lab.do(node, "ansible.builtin.systemd_service", {"name": "langflow.service", "state": "started"})
    lab.wait_healthy(node)
    for name in lab.balancers:
        lab.do(name, "nginx_backend", {"name": node, "state": "enabled"})


def control_no_drain(drill: Drill, lab: Lab, front: Front) -> None:
    """Nodes one after the other, as a rolling restart, but each is killed where it stands."""
    with under_load(lab, drill, front, "no-drain", warm=20) as (load, found):
        load.mark(DURING)
        for node in lab.nodes[:2]:
            lab.inside(node, "systemctl", "kill", "--signal=SIGKILL", "langflow.service")
            # systemd starts it again; it takes requests before it can answer them.
            time.sleep(3)
            lab.wait_healthy(node)
        load.mark(AFTER)
    outcome = found[0]
    drill.note("no_drain", outcome.facts())
    row = outcome.of(window=DURING)
    drill.check(
        "no drain: failures are seen", outcome.failed > 0, f"{outcome.failed} of {outcome.n} {row['classes']}", "> 0"
    )
    cut = sum(outcome.of(kind)["failed"] for kind in ("stream", "long_run"))
    drill.check("no drain: cut streams or long runs are seen", cut > 0, cut, "> 0")


def control_lost_job(drill: Drill, lab: Lab, front: Front) -> None:
    """A node leaves the load balancers and is restarted at once, while it works on a background job."""
    node = lab.nodes[0]
    flow = front.import_flow("")
    try:
        kept = front.start_job(flow, "job-kept sleep=20", lab.nodes[1])
        job = front.start_job(flow, "job-lost sleep=60", node)
        time.sleep(5)
        for name in lab.balancers:
            found = lab.do(name, "nginx_backend", {"name": node, "state": "drained", "drain_timeout": 30})
            say(f"  {name}: {found.get('left', 0)} connections left")
        seen = lab.do(node, "langflow_jobs_info")
        drill.check("ignored jobs: the module would have seen it", seen["left"] > 0, f"{seen['left']} left", "> 0")
        lab.do(node, "ansible.builtin.systemd_service", {"name": "langflow.service", "state": "restarted"})
        lab.wait_healthy(node)
        deadline, state = time.monotonic() + 120, ""
        while time.monotonic() < deadline and state not in {"completed", "failed", "cancelled", "timed_out", "error"}:
            state = front.job_status(job)
            time.sleep(2)
        drill.check("ignored jobs: the job of the drained node is lost", state != "completed", state, "not completed")
        state = front.job_status(kept)
        drill.check("ignored jobs: one on another node is not", state == "completed", state, "completed")
    finally:
        back_in_service(lab, node)
        front.delete_flow(flow)


def control_no_retry(drill: Drill, lab: Lab, front: Front) -> None:
    """The same stop of a node twice: Nginx asks another one, or it does not."""
    node = lab.nodes[-1]
    config = "/etc/nginx/langflow/proxy.conf"
    seen: dict[bool, Outcome] = {}
    for retry in (True, False):
        label = "retry" if retry else "no-retry"
        try:
            if not retry:
                for name in lab.balancers:
                    lab.inside(
                        name, "sed", "-i.drill", "s/^proxy_next_upstream error.*/proxy_next_upstream off;/", config
                    )
                    lab.inside(name, "nginx", "-t", "-q")
                    lab.inside(name, "systemctl", "reload", "nginx.service")
            with under_load(lab, drill, front, label, rates={"get": 12.0, "run": 0.6}, warm=10) as (load, found):
                load.mark(DURING)
                lab.do(node, "ansible.builtin.systemd_service", {"name": "langflow.service", "state": "stopped"})
                time.sleep(15)
                load.mark(AFTER)
            seen[retry] = found[0]
        finally:
            if not retry:
                for name in lab.balancers:
                    lab.inside(name, "sh", "-c", f"test ! -e {config}.drill || mv {config}.drill {config}")
                    lab.inside(name, "systemctl", "reload", "nginx.service")
            back_in_service(lab, node)
        drill.note(label.replace("-", "_"), seen[retry].facts())
    for retry, wanted in ((True, "0"), (False, "> 0")):
        outcome = seen[retry]
        drill.check(
            f"a stopped node {'with' if retry else 'without'} retry",
            (outcome.failed == 0) == retry,
            f"{count_text(outcome.failed, outcome.n)} {outcome.of()['classes']}",
            wanted,
        )


def drill_2(lab: Lab) -> Drill:
    drill = Drill("rolling-2", "controls that must fail")
    front = Front.of(lab)
    drill.note("load_per_second", dict(RATES))
    control_lost_job(drill, lab, front)
    control_no_retry(drill, lab, front)
    control_no_drain(drill, lab, front)
    check_clean(drill, lab)
    return drill


# --- 3 ---------------------------------------------------------------------------------------------------------------


def extra(**values: Any) -> tuple[str, str]:
    """Extra variables that keep their types."""
    return "-e", json.dumps(values)


def free_space(lab: Lab) -> None:
    """Remove all releases but the active one: each takes two gigabytes."""
    for node in lab.nodes:
        lab.do(node, "langflow_release", {"state": "pruned", "keep": 1})


def seen_by(outcome: Outcome, slow: float = 0.0) -> tuple[int, int]:
    """How many requests during a change met the fault, of how many: the failed ones, or those that took long."""
    own = [entry for entry in outcome.requests if entry["window"] == DURING and entry["class"] not in UNCOUNTED]
    if slow:
        gets = [entry for entry in own if entry["load"] == "get" and entry["class"] == "ok"]
        return sum(1 for entry in gets if entry["service"] >= slow), len(gets)
    return sum(1 for entry in own if entry["class"] != "ok"), len(own)


def share_fact(part: int, whole: int) -> dict[str, Any]:
    return {"requests": part, "of": whole, "share": part / whole if whole else None}


def share_text(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / max(whole, 1):.2%})"


def bad_release(
    drill: Drill,
    lab: Lab,
    front: Front,
    name: str,
    options: Sequence[str],
    *,
    harmless: bool = True,
    slow: float = 0.0,
    together: int = 1,
) -> None:
    """An upgrade that must end at its first batch, of one node or of some together, and leave everything as it was."""
    starts, releases = lab.starts(), lab.releases()
    batches = [together, "100%"]
    with under_load(lab, drill, front, name, rates=BUSY, warm=15, path="/api/v1/version") as (load, found):
        load.mark(DURING)
        variables = extra(rollout_reset=True, langflow_rollout_batches=batches, **CANARY)
        play = lab.playbook("upgrade", *options, *variables, folder=drill.folder)
        load.mark(AFTER)
    outcome = found[0]
    state = lab.rollout()
    canaries, *later = lab.batches()
    others = [host for batch in later for host in batch]
    after = lab.starts()
    part, whole = seen_by(outcome, slow)
    drill.note(name, {"requests": outcome.facts(), "seconds": play.seconds, "phases": state.get("phases"),
                      "reason": state.get("breaker", {}).get("reason"), "failed_tasks": play.failed_tasks(),
                      "share_that_saw_it": share_fact(part, whole)})  # fmt: skip
    explain(outcome, 3)
    drill.check(f"{name}: the upgrade stops", play.status != 0, f"status {play.status}, {play.seconds:g} s", "not 0")
    reason = str(state.get("breaker", {}).get("reason"))
    drill.check(f"{name}: caught at the canary",
                not untouched(starts, after, canaries) and state["breaker"]["open"] and len(canaries) == together,
                f"{', '.join(canaries)}: {reason[:160]}", f"the first {together} changed, breaker open")  # fmt: skip
    back = {host: state["phases"][host] for host in canaries}
    drill.check(f"{name}: rolled back", lab.releases() == releases and set(back.values()) == {"rolled_back"},
                f"{back}, {releases[canaries[0]]}", "rolled_back, old release")  # fmt: skip
    same = untouched(starts, after, others)
    drill.check(f"{name}: later batches untouched", same == others, ", ".join(same), ", ".join(others))
    drill.check(f"{name}: share of requests that saw it", part == 0 if harmless else 0 < part < whole / 2,
                share_text(part, whole), "0" if harmless else "some, of those that the canary got")  # fmt: skip
    check_trusted(drill, outcome, f"{name}: ")
    check_clean(drill, lab, f"{name}: ")


def good_releases(drill: Drill, lab: Lab, front: Front, releases: Sequence[faults.Release], count: int) -> None:
    """Releases that differ in name only, in turn: none of them may be rolled back."""
    rolled_back, failed, n, seconds = 0, 0, 0, []
    for number in range(1, count + 1):
        release = releases[number % len(releases)]
        before = lab.releases()
        with under_load(lab, drill, front, f"good-{number}", rates=BUSY, warm=15, path="/api/v1/version") as (
            load,
            found,
        ):
            load.mark(DURING)
            variables = extra(rollout_reset=True, langflow_rollout_batches=[1, "100%"], **CANARY)
            play = lab.playbook("upgrade", *release.options, *variables, folder=drill.folder)
            load.mark(AFTER)
        after = lab.releases()
        passed = play.status == 0 and all(after[name] != before[name] for name in lab.nodes)
        rolled_back += 0 if passed else 1
        failed, n = failed + found[0].failed, n + found[0].n
        seconds.append(play.seconds)
        say(f"  good release {number}: {'passed' if passed else 'REFUSED'}, failed {found[0].failed} of {found[0].n}")
        explain(found[0], 3)
        check_trusted(drill, found[0], f"good release {number}: ")
        if not passed:
            say(play.tail())
    drill.note(
        "good_releases", {"count": count, "rolled_back": rolled_back, "failed": failed, "n": n, "seconds": seconds}
    )
    drill.check("good releases: false rollbacks", rolled_back == 0, f"{rolled_back} of {count}", f"0 of {count}")
    drill.check("good releases: failed requests", failed == 0, count_text(failed, n), "0")
    check_clean(drill, lab, "good releases: ")


def killed_at_its_end(drill: Drill, lab: Lab, release: faults.Release, name: str) -> None:
    """A run that is killed when every node is done: the next one clears up, and a later change goes back to this."""

    def snapshots() -> set[str]:
        asked = {"snapshot": "/var/lib/flowfleet/langflow/snapshot"}
        return {lab.do(node, "langflow_release_info", asked)["snapshot"]["status"] for node in lab.nodes}

    options = [*release.options, *extra(rollout_reset=True, langflow_rollout_canary="never")]
    with ended(lab.start("upgrade", *options, folder=drill.folder)) as play:
        if not play.wait_for(lambda now: "Report | Let some requests come after the roll" in now.tasks(), 900):
            raise DrillError(f"{name}: the upgrade did not come to its end:\n{play.tail()}")
        play.kill()
    found, starts = f"{lab.rollout()['status']}, {', '.join(sorted(snapshots()))}", lab.starts()
    drill.check(f"{name}: something is left to do", found == "finished, open", found, "roll finished, snapshots open")
    again = lab.playbook("upgrade", *release.options, folder=drill.folder)
    drill.check(f"{name}: the next run succeeds", again.status == 0, f"status {again.status}", "0")
    same = untouched(starts, lab.starts(), lab.nodes)
    drill.check(f"{name}: it restarts nobody", same == lab.nodes, ", ".join(same), ", ".join(lab.nodes))
    now = snapshots()
    drill.check(f"{name}: it settles", now == {"settled"}, ", ".join(sorted(now)), "snapshots settled")


def schema(lab: Lab) -> str:
    """The revision of the database's schema."""
    return psql(lab, "select version_num from alembic_version")


def psql(lab: Lab, query: str) -> str:
    """What the database itself says."""
    return lab.inside(lab.data, "runuser", "-u", "postgres", "--", "psql", "-qtAX", "-d", "langflow", "-c", query)


def bad_migration(drill: Drill, lab: Lab, front: Front, name: str, said: str) -> None:
    """A planned stop whose migration does not do its work: the old release must be back, with the old data."""
    if present(lab) == NEW:
        raise DrillError(f"{name}: nothing is migrated from {NEW} on, begin with {OLD}")
    releases, before = lab.releases(), schema(lab)
    data = Data.make(lab, front)
    release = faults.publish(lab, NEW, drill.folder)
    with under_load(lab, drill, front, name, rates=SHORT, warm=15, path="/api/v1/version") as (load, found):
        load.mark(DURING)
        play = lab.playbook("upgrade", *release.options, *extra(rollout_reset=True), folder=drill.folder)
        load.mark(AFTER)
    outcome = found[0]
    part, whole = seen_by(outcome)
    drill.note(name, {"requests": outcome.facts(), "seconds": play.seconds, "failed_tasks": play.failed_tasks(),
                      "share_that_saw_it": share_fact(part, whole)})  # fmt: skip
    drill.check(f"{name}: the upgrade stops", play.status != 0, f"status {play.status}, {play.seconds:g} s", "not 0")
    reason = str(lab.rollout()["breaker"].get("reason"))
    drill.check(f"{name}: for the right reason", said in reason, reason[:160], f"... {said} ...")
    lab.wait_healthy()
    drill.check(
        f"{name}: the old release is back", lab.releases() == releases, lab.releases(), "the releases from before"
    )
    drill.check(f"{name}: the old schema is there", schema(lab) == before, schema(lab), before)
    data.check(drill, f"{name}: ")
    data.remove()
    pause = f"{share_text(part, whole)}, answers {outcome.of(window=DURING)['classes']}"
    only = set(outcome.of(window=DURING)["classes"]) <= {"ok", "http_503", "unfinished"}
    drill.check(
        f"{name}: share of requests that met the planned pause",
        only,
        pause,
        "503 of the maintenance page and nothing else",
    )
    check_clean(drill, lab, f"{name}: ")


def drill_3(lab: Lab, good: int = GOOD_RELEASES, only: Sequence[str] = ()) -> Drill:
    drill = Drill("rolling-3", "bad releases are caught, good ones pass")
    drill.note("load_per_second", dict(BUSY))
    front = Front.of(lab)
    version = present(lab)
    shipped, release = faults.shipped(version), faults.publish(lab, version, drill.folder)
    patience = extra(langflow_start_timeout=FAULTY_START)
    # Nothing but a try can tell that it is wrong.
    wrong = extra(langflow_version=version, langflow_redis_cache_password=secrets.token_hex(16))

    def bad(name: str, options: Sequence[str], **special: Any) -> None:
        bad_release(drill, lab, front, name, [*options, *patience], **special)

    cases: dict[str, tuple[str, Callable[[str], None]]] = {
        "does-not-boot": ("boot", lambda name: bad(name, release.options)),
        "20-percent-errors": ("errors", lambda name: bad(name, release.options, harmless=False)),
        # Both of the first batch go back.
        "300-ms-slower": ("slow", lambda name: bad(name, release.options, harmless=False, slow=0.3, together=2)),
        "wrong-configuration": (faults.NONE, lambda name: bad(name, wrong)),
        "good": (faults.NONE, lambda _name: good_releases(drill, lab, front, (shipped, release), good)),
        "killed-at-its-end": (
            faults.NONE, lambda name: killed_at_its_end(drill, lab, shipped if good % 2 else release, name)),
        "migration-fails": ("migration", lambda name: bad_migration(drill, lab, front, name, "failed")),
        # It ends well, and the schema is not the release's.
        "migration-does-nothing": (
            "idle-migration", lambda name: bad_migration(drill, lab, front, name, "ended well, and yet")),
    }  # fmt: skip
    for name, (fault, case) in cases.items():
        if only and name not in only:
            continue
        if name == "migration-fails":
            free_space(lab)
        faults.choose(lab, fault)
        case(name)
    faults.choose(lab, faults.NONE)
    free_space(lab)
    return drill


# --- 4 ---------------------------------------------------------------------------------------------------------------


def phases(lab: Lab) -> dict[str, str]:
    """The phase of each node, read past Ansible; empty while there is no roll."""
    text = lab.inside(lab.balancers[0], "cat", "/var/lib/flowfleet/rollout.json", check=False)
    try:
        run = json.loads(text)["run"] or {}
    except (ValueError, KeyError):
        return {}
    return (
        {name: host["phase"] for name, host in run.get("hosts", {}).items()} if run.get("status") == "running" else {}
    )


def node_in(lab: Lab, number: int, phase: str) -> Callable[[Play], bool]:
    """The moment in which all nodes before one are done and this one is in a phase."""

    def reached(_play: Play) -> bool:
        found = list(phases(lab).values())
        return found.count("enabled") == number - 1 and phase in found

    return reached


def disturbed(
    drill: Drill,
    lab: Lab,
    front: Front,
    name: str,
    phase: str,
    disturb: Callable[[Play], None],
    repair: Callable[[], None],
    *,
    reset: bool,
    options: Sequence[str] = (),
    harmless: bool = True,
    number: int = 2,
) -> None:
    """A restart that something happens to at one of its nodes; then the repair and the same restart again."""
    starts = lab.starts()
    with under_load(lab, drill, front, name, rates=SHORT, warm=15) as (load, found):
        load.mark(DURING)
        with ended(lab.start("rolling_restart", *extra(rollout_reset=True), *options, folder=drill.folder)) as play:
            if not play.wait_for(node_in(lab, number, phase), 900):
                raise DrillError(f"{name}: the roll ended before node {number} was in phase {phase}:\n{play.tail()}")
            first_phases = phases(lab)
            say(f"  {name} now: {first_phases}")
            try:
                disturb(play)
                status = play.wait(1200)
                stopped = lab.starts()
                state = lab.rollout()
            finally:
                repair()
        say(f"  the roll ended with {status}: {', '.join(play.failed_tasks()) or 'killed'}")
        done = [node for node, found_phase in first_phases.items() if found_phase == "enabled"]
        later = [node for node, found_phase in first_phases.items() if found_phase == "pending"]
        load.mark("repaired")
        rerun = lab.playbook("rolling_restart", *(extra(rollout_reset=True) if reset else ()), folder=drill.folder)
        load.mark(AFTER)
        time.sleep(3)
    outcome = found[0]
    final, after = lab.rollout(), lab.starts()
    drill.note(
        name,
        {
            "requests": outcome.facts(),
            "phases_when_it_happened": first_phases,
            "phases_when_it_stopped": state.get("phases"),
            "reason": state.get("breaker", {}).get("reason"),
            "seconds": [play.seconds, rerun.seconds],
            "failed_tasks": play.failed_tasks(),
        },
    )
    explain(outcome)
    drill.check(f"{name}: the roll stops", status != 0, f"status {status}", "not 0")
    same = untouched(starts, stopped, later)
    if number < len(lab.nodes):
        drill.check(f"{name}: no later batch touched", same == later != [], ", ".join(same) or "none", ", ".join(later))
    kept = {node: state["phases"][node] for node in (*done, *later)}
    wanted = {**dict.fromkeys(done, "enabled"), **dict.fromkeys(later, "pending")}
    drill.check(f"{name}: the state file is right", kept == wanted and state["status"] in ("running", "stopped"),
                f"{state['status']} {state['phases']}", f"not finished, {wanted}")  # fmt: skip
    drill.check(f"{name}: the re-run succeeds", rerun.status == 0, f"status {rerun.status}", "0")
    drill.check(
        f"{name}: it leaves alone who was done",
        untouched(stopped, after, done) == done,
        ", ".join(done),
        "not restarted again",
    )
    drill.check(f"{name}: it ends", final["status"] == "finished", final["status"], "finished")
    every = outcome.of()
    if harmless:
        drill.check(f"{name}: failed requests", every["failed"] == 0, count_text(every["failed"], every["n"]), "0")
    else:
        late = outcome.of(window=AFTER)["failed"] + outcome.of(window=BEFORE)["failed"]
        classes = {key: count for key, count in every["classes"].items() if key != "ok"}
        drill.check(
            f"{name}: failed requests only while it lasts",
            late == 0,
            f"{every['failed']} of {every['n']}: {classes}",
            "none before it and after the repair",
        )
    check_trusted(drill, outcome, f"{name}: ")
    check_clean(drill, lab, f"{name}: ")


def drill_4(lab: Lab, only: Sequence[str] = ()) -> Drill:
    drill = Drill("rolling-4", "disturbances stop the roll, the repaired re-run finishes it")
    front = Front.of(lab)
    drill.note("load_per_second", dict(SHORT))

    def in_work() -> str:
        return next(node for node, phase in phases(lab).items() if phase not in ("enabled", "pending"))

    cut: list[str] = []

    def cut_off(_play: Play) -> None:
        cut[:] = [in_work()]
        lab.inside(cut[0], "nft", "add", "table", "inet", "drill")
        # Both ways: what the node still had to say must not arrive either.
        for hook, port in (("input", "dport"), ("output", "sport")):
            lab.inside(
                cut[0], "nft", "add", "chain", "inet", "drill", hook, f"{{ type filter hook {hook} priority 0 ; }}"
            )
            lab.inside(cut[0], "nft", "add", "rule", "inet", "drill", hook, "tcp", port, "22", "drop")

    def reconnect() -> None:
        while cut:
            node = cut.pop()
            lab.inside(node, "nft", "delete", "table", "inet", "drill")
            lab.wait_healthy(node)

    broken = "/etc/nginx/modules-enabled/00-drill.conf"

    def break_config(_play: Play) -> None:
        lab.inside(lab.balancers[-1], "sh", "-c", f"echo 'this is no directive;' > {broken}")

    def mend_config() -> None:
        lab.inside(lab.balancers[-1], "rm", "-f", broken)

    def stop_database(_play: Play) -> None:
        lab.inside(lab.data, "systemctl", "stop", "postgresql.service")

    def start_database() -> None:
        lab.inside(lab.data, "systemctl", "start", "postgresql.service")
        lab.wait_healthy()

    def kill(play: Play) -> None:
        play.kill()

    def wait_for_node() -> None:
        # What was begun on the node goes on without its controller.
        lab.wait_healthy()

    cases: dict[str, Any] = {
        "node-unreachable": lambda name: disturbed(
            drill, lab, front, name, "start", cut_off, reconnect, reset=False),
        # Nobody comes after it who could notice.
        "last-node-unreachable": lambda name: disturbed(
            drill, lab, front, name, "start", cut_off, reconnect, reset=False, number=len(lab.nodes)),
        "load-balancer-refuses": lambda name: disturbed(
            drill, lab, front, name, "start", break_config, mend_config, reset=True),
        "controller-killed": lambda name: disturbed(
            drill, lab, front, name, "start", kill, wait_for_node, reset=False),
        "no-database": lambda name: disturbed(
            drill, lab, front, name, "start", stop_database, start_database, reset=True, harmless=False,
            options=extra(langflow_start_timeout=90)),
    }  # fmt: skip
    for name, case in cases.items():
        if not only or name in only:
            case(name)
    return drill


# --- 5 ---------------------------------------------------------------------------------------------------------------


class Data:
    """What users have in a cluster, made before a change and looked for after it."""

    def __init__(self, lab: Lab, front: Front, flow: str, file: str, content: bytes) -> None:
        self.lab, self.front, self.flow, self.file, self.content = lab, front, flow, file, content
        self.golden = self.answers()
        self.rows = self.count()

    @classmethod
    def make(cls, lab: Lab, front: Front) -> Data:
        """A flow of the server's own components, a file, and what running it leaves behind."""
        from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_flow

        client = front.any_node()
        plan = json.loads(plan_file(present(lab)).read_text(encoding="utf-8"))
        flow = client.create_flow(
            _langflow_flow.make_flow(client.call("GET", "/api/v1/all"), plan, f"golden-{time.time_ns():x}")
        )
        content = hashlib.shake_256(str(flow).encode()).digest(256 * 1024)
        file = str(client.upload_file(f"golden-{flow}.bin", content)["id"])
        return cls(lab, front, str(flow), file, content)

    def answers(self) -> dict[str, str]:
        """What the flow answers to a fixed set of inputs."""
        texts = ["one", "one two three", "the same word the same word", " ".join(f"word{n % 7}" for n in range(60))]
        client = self.front.door(timeout=120)
        return {text: client.run(self.flow, text, f"golden-{self.flow}") for text in texts}

    def count(self) -> dict[str, int]:
        """Rows that must not become fewer."""
        query = """
            select 'flow', count(*) from flow union all select 'message', count(*) from message
            union all select 'user', count(*) from "user" union all select 'file', count(*) from file
            union all select 'apikey', count(*) from apikey
        """
        return {name: int(number) for name, number in (row.split("|") for row in psql(self.lab, query).splitlines())}

    def check(self, drill: Drill, label: str = "") -> None:
        """Everything is there and answers as before."""
        now, same = self.answers(), 0
        same = sum(1 for text, answer in self.golden.items() if now.get(text) == answer)
        drill.check(
            f"{label}golden output is the same", same == len(self.golden), f"{same} of {len(self.golden)}", "all"
        )
        found = self.front.any_node().download_file(self.file)
        drill.check(
            f"{label}an uploaded file is the same",
            found == self.content,
            f"{len(found)} bytes",
            f"{len(self.content)} bytes",
        )
        rows = self.count()
        fewer = {name: (self.rows[name], rows[name]) for name in rows if rows[name] < self.rows[name]}
        drill.check(f"{label}no rows were lost", not fewer, fewer or rows, f"at least {self.rows}")

    def remove(self) -> None:
        client = self.front.any_node()
        client.delete_file(self.file)
        client.delete_flow(self.flow)


def plan_file(version: str) -> Path:
    """The plan of the smoke test's flow for a version."""
    folder = ROOT / "playbooks/files/flows"
    series = ".".join(version.split(".")[:2])
    own = sorted(folder.glob(f"smoke*{series}*.json"))
    return own[0] if own else folder / "smoke.json"


def drill_5a(lab: Lab) -> Drill:
    drill = Drill("rolling-5a", f"upgrade {OLDEST} -> {OLD} on a rolling edge, with data")
    front = Front.of(lab)
    drill.note("load_per_second", dict(BUSY))
    data, starts, before = Data.make(lab, front), lab.starts(), schema(lab)
    with under_load(lab, drill, front, "load", rates=BUSY, warm=30, path="/api/v1/version") as (load, found):
        load.mark(DURING)
        play = lab.playbook("upgrade", *extra(langflow_version=OLD, rollout_reset=True, **CANARY), folder=drill.folder)
        load.mark(AFTER)
        time.sleep(5)
    outcome = found[0]
    if play.status:
        say(play.tail())
    drill.note("requests", outcome.facts())
    drill.note("seconds", play.seconds)
    explain(outcome)
    drill.check("the upgrade succeeds", play.status == 0, f"status {play.status}, {play.seconds:g} s", "status 0")
    drill.check("every node runs the new version", running_versions(lab) == {OLD}, lab.releases(), OLD)
    drill.check("every node was restarted", not untouched(starts, lab.starts(), lab.nodes), "yes", "yes")
    drill.check("failed requests", outcome.failed == 0, count_text(outcome.failed, outcome.n), "0")
    cut = outcome.of("stream")
    drill.check("cut streams", cut["failed"] == 0, count_text(cut["failed"], cut["n"]), "0")
    drill.check("executed twice", outcome.doubles == 0, outcome.doubles, "0, by the counter")
    drill.check("the schema is the same", schema(lab) == before, schema(lab), before)
    check_trusted(drill, outcome)
    drill.note("batches", batch_figures(lab.batches(), lab.rollout()["timings"]))
    data.check(drill)
    data.remove()
    check_clean(drill, lab)
    return drill


def longest_pause(outcome: Outcome) -> float:
    """The longest time without a good answer, in seconds."""
    due = sorted(entry["due"] for entry in outcome.requests if entry["class"] == "ok" and entry["load"] == "get")
    return round(max((later - sooner for sooner, later in zip(due, due[1:], strict=False)), default=0.0), 1)


def drill_5b(lab: Lab) -> Drill:
    drill = Drill("rolling-5b", f"upgrade {OLD} -> {NEW} with a planned pause, with data; a refused downgrade")
    front = Front.of(lab)
    drill.note("load_per_second", dict(SHORT))
    data, before = Data.make(lab, front), schema(lab)
    with under_load(lab, drill, front, "load", rates=SHORT, warm=20, path="/api/v1/version") as (load, found):
        load.mark(DURING)
        play = lab.playbook("upgrade", *extra(langflow_version=NEW, rollout_reset=True), folder=drill.folder)
        load.mark(AFTER)
        time.sleep(5)
    outcome = found[0]
    if play.status:
        say(play.tail())
    part, whole = seen_by(outcome)
    pause = longest_pause(outcome)
    drill.note("requests", outcome.facts())
    drill.note("seconds", play.seconds)
    drill.note("pause_seconds", pause)
    drill.check("the upgrade succeeds", play.status == 0, f"status {play.status}, {play.seconds:g} s", "status 0")
    drill.check("every node runs the new version", running_versions(lab) == {NEW}, lab.releases(), NEW)
    head = schema(lab)
    drill.check("the schema is the new one", head != before, f"{before} -> {head}", "another one")
    classes = outcome.of(window=DURING)["classes"]
    drill.check("what clients saw of the planned pause", set(classes) <= {"ok", "http_503", "unfinished"},
                f"{part} of {whole}, {pause:g} s: {classes}", "503 of the page, nothing else")  # fmt: skip
    drill.check("executed twice", outcome.doubles == 0, outcome.doubles, "0, by the counter")
    drill.check("no failure after it", outcome.of(window=AFTER)["failed"] == 0, outcome.of(window=AFTER)["failed"], "0")
    check_trusted(drill, outcome)
    data.check(drill)
    check_clean(drill, lab)

    starts, releases = lab.starts(), lab.releases()
    quiet = "nothing restarted, same releases, same schema"
    for verb, options in (
        ("upgrade", extra(langflow_version=OLD)),
        ("site", extra(langflow_version=OLD)),
        ("rollback", ()),
    ):
        refused = lab.playbook(verb, *options, folder=drill.folder)
        text = [line.strip() for line in refused.output.splitlines() if '"msg"' in line or "fatal" in line]
        last = (text or ["no message"])[-1][:200]
        drill.check(f"downgrade by {verb} is refused", refused.status != 0, last, "refused")
        still = lab.starts() == starts and lab.releases() == releases and schema(lab) == head
        drill.check(f"downgrade by {verb} touches nothing", still, quiet if still else "something was touched", quiet)
    data.check(drill, "after the refusals: ")
    data.remove()
    check_clean(drill, lab)
    return drill
