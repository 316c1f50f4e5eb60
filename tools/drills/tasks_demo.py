"""What the tasks tier does for its users, on the lab that `make up` has made: every command is shown and run.

A run by the API and one by the command line, a batch with its progress, a schedule from the inventory, a cancelled run,
a failed one with its dead letter and replay. Ends with 0 only if all of it was so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.plugins.loader import init_plugin_loader

from tools.drills.core import COLLECTIONS, ROOT, Drill, DrillError, Lab, environment, say
from tools.drills.front import Front

PACKAGE = ROOT / "roles/celery/files/flowfleet_tasks/src"
BATCH = 20


def title(text: str) -> None:
    print(f"\n--- {text}", flush=True)


def show(words: Sequence[str]) -> None:
    print(f"$ {shlex.join(words)}", flush=True)


@dataclass
class Stage:
    """The lab, and the two ways in."""

    drill: Drill
    lab: Lab
    front: Front
    flow: str
    folder: Path

    @property
    def _door(self) -> str:
        return self.lab.addresses[self.lab.balancers[0]]

    def tasks(self, *words: str, show_output: bool = True, shown: bool = True) -> subprocess.CompletedProcess[str]:
        """The command line tool, from the checkout: it needs nothing but Python. Its progress goes to the terminal."""
        if shown:
            show(["flowfleet-tasks", *words])
        given = {
            **os.environ,
            "PYTHONPATH": str(PACKAGE),
            "FLOWFLEET_TASKS_URL": f"https://{self.front.domain}",
            "FLOWFLEET_TASKS_CA": str(self.front.ca),
            "LANGFLOW_API_KEY_FILE": str(self.front.key_path),
        }
        verb, *more = words
        argv = [sys.executable, "-m", "flowfleet_tasks", verb, "--connect", self._door, *more]
        done = subprocess.run(argv, env=given, stdout=subprocess.PIPE, text=True, check=False)
        if show_output and done.stdout:
            print(done.stdout.rstrip(), flush=True)
        return done

    def read(self, *words: str) -> Any:
        """The same for a program, without a word."""
        done = self.tasks(*words, "--json", show_output=False, shown=False)
        return json.loads(done.stdout) if done.stdout else {}

    def curl(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """The API with curl. The key is in a file that only its owner can read."""
        url = f"https://{self.front.domain}/tasks/v1{path}"
        argv = ["curl", "-sS", "-X", method, "-H", "@key.header", url]
        for name, value in headers.items():
            argv += ["-H", f"{name.replace('_', '-')}: {value}"]
        if body is not None:
            argv += ["--json", json.dumps(body)]
        show(argv)
        hidden = ["--cacert", str(self.front.ca), "--resolve", f"{self.front.domain}:443:{self._door}"]
        hidden += ["--write-out", "\n%{http_code}"]
        done = subprocess.run([*argv, *hidden], cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DrillError(f"curl: {done.stderr.strip()}")
        text, _line, status = done.stdout.rpartition("\n")
        print(f"{status} {text}", flush=True)
        return int(status), json.loads(text)

    def wait(self, run_id: str, reached: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
        """Ask for a run until it is as wanted."""
        deadline = time.monotonic() + seconds
        while not reached(found := self.read("status", run_id)):
            if time.monotonic() > deadline:
                raise DrillError(f"{run_id} is {found.get('state')} after {seconds:g} s")
            time.sleep(0.5)
        return dict(found)


def by_the_api(stage: Stage) -> None:
    title("a run by the API: 202 and an identifier, then its end, then its result")
    body = {"flow": stage.flow, "input": "demo-api sleep=2"}
    status, run = stage.curl("POST", "/runs", body, Idempotency_Key=str(uuid.uuid4()))
    _status, run = stage.curl("GET", f"/runs/{run['id']}?wait=30")
    _status, found = stage.curl("GET", f"/runs/{run['id']}/result")
    text = ((found.get("result") or {}).get("output") or {}).get("text")
    stage.drill.check("a run by the API", status == 202 and bool(text), f"{status}, then {run['state']}: {text}", "202")


def by_hand(stage: Stage) -> None:
    title("the same by the command line")
    done = stage.tasks("submit", "--flow", stage.flow, "--input", "demo-hand", "--wait", "60")
    stage.drill.check("a run by the command line", done.returncode == 0, f"exit status {done.returncode}", "0")


def batch(stage: Stage) -> None:
    title(f"a batch of {BATCH}, with its progress")
    path = stage.folder / "inputs.txt"
    path.write_text("".join(f"demo-batch-{number} sleep={number % 4}\n" for number in range(BATCH)))
    done = stage.tasks("batch", "--flow", stage.flow, str(path), "--wait", "300")
    stage.drill.check("a batch", done.returncode == 0, f"exit status {done.returncode}", "0")


def schedule(stage: Stage) -> None:
    title("a schedule from the inventory: every 5 s, for a moment")
    name = f"demo-{int(time.time()):x}"
    entry = {"name": name, "flow": stage.flow, "every": 5, "input": "demo-schedule"}
    given = json.dumps({"celery_schedules": [entry]})
    show(
        ["ansible-playbook", "-i", str(stage.lab.inventory.relative_to(ROOT)), "flowfleet.langflow.celery", "-e", given]
    )
    try:
        stage.lab.must("celery", "-e", given, folder=stage.drill.folder)
        deadline = time.monotonic() + 45
        while len(runs := stage.read("list", "--schedule", name)) < 3 and time.monotonic() < deadline:
            time.sleep(1)
        stage.tasks("schedules")
        stage.tasks("list", "--schedule", name)
    finally:
        stage.lab.must("celery", folder=stage.drill.folder)
    times = [run["due"] for run in runs]
    good = len(times) >= 3 and len(set(times)) == len(times)
    stage.drill.check(
        "a schedule", good, f"{len(times)} runs, {len(set(times))} due times", "3 runs, each due time once"
    )


def cancel(stage: Stage) -> None:
    title("a run of two minutes that somebody cancels")
    done = stage.tasks("submit", "--flow", stage.flow, "--input", "demo-cancel sleep=120")
    run_id = done.stdout.strip()
    stage.wait(run_id, lambda run: bool(run.get("job")))
    stage.tasks("cancel", run_id)
    run = stage.wait(run_id, lambda run: run["state"] not in ("queued", "waiting", "running"))
    stage.tasks("status", run_id)
    stage.drill.check("a cancelled run", run["state"] == "cancelled", run["state"], "cancelled")


def dead_letter(stage: Stage) -> None:
    title("a run whose flow fails: a dead letter, and its replay")
    failed = stage.tasks("submit", "--flow", stage.flow, "--input", "demo-dead error=1", "--wait", "60", "--json",
                         show_output=False)  # fmt: skip
    run_id = json.loads(failed.stdout)["id"]
    stage.tasks("status", run_id)
    stage.tasks("list", "--state", "dead", "--limit", "5")
    again = stage.tasks("replay", run_id)
    found = stage.read("status", run_id)
    good = failed.returncode == 1 and found["state"] == "failed" and bool(found.get("replayed"))
    measured = f"exit status {failed.returncode}, {found['state']}, replay: exit status {again.returncode}"
    stage.drill.check("a dead letter", good, measured, "1, failed, replayed")


@contextlib.contextmanager
def staged(drill: Drill, lab: Lab) -> Iterator[Stage]:
    """A flow to play with, and a folder that goes away."""
    front = Front.of(lab)
    flow = front.import_flow("")
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            header = folder / "key.header"
            header.touch(mode=0o600)
            header.write_text(f"x-api-key: {front.key_path.read_text(encoding='utf-8').strip()}\n")
            yield Stage(drill, lab, front, flow, folder)
    finally:
        front.delete_flow(flow)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools.drills.tasks_demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenario", nargs="?", default="default", help="whose lab (default: that of `make up`)")
    init_plugin_loader([str(COLLECTIONS)])
    os.environ.update(environment())
    drill = Drill("demo-celery", "tasks, as their users see them")
    lab = Lab(parser.parse_args().scenario)
    try:
        if not lab.groups.get("celery"):
            raise DrillError("this inventory has no group celery")
        with staged(drill, lab) as stage:
            for part in (by_the_api, by_hand, batch, schedule, cancel, dead_letter):
                part(stage)
    except DrillError as error:
        say(f"{error}")
        drill.check("the demo came to its end", False, error, "yes")
    print("\n" + "\n".join(drill.lines()))
    return 0 if drill.passed else 1


if __name__ == "__main__":
    sys.exit(main())
