# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line: verbs for people (over HTTPS, standard library only) and the processes of a worker host."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from . import __version__, config
from .client import DEFAULT_PATH, Client, api_key, load_json
from .errors import ConfigError, NoAnswer, NotSent, RequestError, TasksError
from .names import FINAL, GUARANTEES, MODES
from .wire import Door

GOOD, BAD_RUN, BAD_INPUT, REFUSED, UNREACHABLE, NOT_YET = 0, 1, 2, 3, 4, 5
URL_VARIABLE, CA_VARIABLE, KEY_FILE_VARIABLE = "FLOWFLEET_TASKS_URL", "FLOWFLEET_TASKS_CA", "LANGFLOW_API_KEY_FILE"

Verb = Callable[[argparse.Namespace], int]


# --- what people see --------------------------------------------------------------------------------------------------


def show(arguments: argparse.Namespace, data: Any, text: str) -> None:
    """Print JSON for machines or a text for people."""
    print(json.dumps(data, indent=2, sort_keys=True) if arguments.json else text)


def moment(seconds: float | None) -> str:
    """Return a time for people."""
    if not seconds:
        return "-"
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return columns as wide as they have to be."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def describe(run: dict[str, Any]) -> str:
    """Return one run in a few lines."""
    lines = [f"{run['id']}  {run['state']}" + (f" ({run['reason']})" if run.get("reason") else "")]
    if run.get("message"):
        lines.append(f"  {run['message']}")
    flow = run.get("flow_name") or run.get("flow", "")
    lines.append(f"  flow {flow}, queue {run.get('queue', '')}, {run.get('mode', '')}, {run.get('guarantee', '')}")
    lines.append("  " + ", ".join(f"{what} {moment(run.get(what))}" for what in ("created", "started", "ended")))
    return "\n".join(lines)


class Bar:
    """How far a batch is: one line that is rewritten on a terminal, nothing elsewhere."""

    def __init__(self, quiet: bool) -> None:
        """Draw only where someone looks."""
        self.drawn = not quiet and sys.stderr.isatty()
        self.begun = time.monotonic()

    @staticmethod
    def line(batch: dict[str, Any], seconds: float) -> str:
        """Return the line."""
        done, total, counts = batch["done"], batch["total"], batch["counts"]
        full = int(30 * done / total)
        left = f", about {seconds / done * (total - done):.0f} s left" if 0 < done < total else ""
        bad = sum(counts[state] for state in ("failed", "unknown", "cancelled"))
        return f"[{'#' * full}{'.' * (30 - full)}] {done}/{total}, {bad} not succeeded, {seconds:.0f} s{left}"

    def tell(self, batch: dict[str, Any]) -> None:
        """Draw the line again."""
        if self.drawn:
            end = "\n" if batch["state"] == "ended" else ""
            print(f"\r\x1b[K{self.line(batch, time.monotonic() - self.begun)}", end=end, file=sys.stderr, flush=True)


# --- verbs over HTTPS -------------------------------------------------------------------------------------------------


def client(arguments: argparse.Namespace) -> Client:
    """Return the client that the options ask for."""
    url, connect, ca_file = arguments.url, arguments.connect, arguments.ca_file
    if not url:
        settings = config.load(arguments.config or None)
        url, connect = settings.langflow.url, connect or settings.langflow.connect
        ca_file = ca_file or settings.langflow.ca_file
    return Client(Door(url.rstrip("/"), connect, ca_file), api_key(arguments.key_file), arguments.path)


def _request(arguments: argparse.Namespace) -> dict[str, Any]:
    body: dict[str, Any] = {"flow": arguments.flow}
    for name in ("queue", "mode", "guarantee", "session_id", "timeout", "max_retries"):
        value = getattr(arguments, name)
        if value is not None:
            body[name] = value
    for name in ("tweaks", "globals"):
        value = getattr(arguments, name)
        if value:
            body[name] = load_json(value, f"--{name}")
    return body


def _outcome(run: dict[str, Any]) -> int:
    if run["state"] not in FINAL:
        return NOT_YET
    return GOOD if run["state"] == "succeeded" else BAD_RUN


def _answer(run: dict[str, Any]) -> str:
    """Return what a flow answered, if it is a text, else the whole result."""
    result = run.get("result")
    if not result:
        return describe(run)
    text = (result.get("output") or {}).get("text") if isinstance(result, dict) else None
    return text if isinstance(text, str) else json.dumps(result, indent=2, sort_keys=True)


def do_submit(arguments: argparse.Namespace) -> int:
    """Make a run, and wait for it if asked to."""
    here = client(arguments)
    body = _request(arguments)
    if arguments.input is not None:
        body["input"] = sys.stdin.read() if arguments.input == "-" else arguments.input
    run = here.submit(body, idempotency=arguments.idempotency_key, traceparent=arguments.traceparent)
    if not arguments.wait:
        show(arguments, run, run["id"])
        return GOOD
    run = here.finish(run["id"], time.monotonic() + arguments.wait)
    run = here.result(run["id"])
    show(arguments, run, _answer(run))
    return _outcome(run)


def do_batch(arguments: argparse.Namespace) -> int:
    """Make a batch from a file with one input in each line, or with a JSON list."""
    here = client(arguments)
    body = _request(arguments)
    try:
        text = sys.stdin.read() if arguments.file == "-" else pathlib.Path(arguments.file).read_text(encoding="utf-8")
    except OSError as error:
        raise TasksError(f"{arguments.file}: {error.strerror}") from error
    body["items"] = load_json(text, arguments.file) if text.lstrip().startswith("[") else text.splitlines()
    batch = here.submit_batch(body, idempotency=arguments.idempotency_key, traceparent=arguments.traceparent)
    if not arguments.wait:
        show(arguments, batch, batch["id"])
        return GOOD
    return _follow(arguments, here, batch["id"])


def _follow(arguments: argparse.Namespace, here: Client, batch_id: str) -> int:
    progress = Bar(arguments.json)
    batch = here.follow_batch(batch_id, time.monotonic() + arguments.wait, progress.tell)
    show(arguments, batch, f"{batch['id']}  {progress.line(batch, time.monotonic() - progress.begun)}")
    if batch["state"] != "ended":
        return NOT_YET
    return GOOD if batch["counts"]["succeeded"] == batch["total"] else BAD_RUN


def do_status(arguments: argparse.Namespace) -> int:
    """Show a run, or the summary of a batch."""
    here = client(arguments)
    if arguments.batch:
        if arguments.wait:
            return _follow(arguments, here, arguments.id)
        batch = here.batch(arguments.id)
        show(arguments, batch, f"{batch['id']}  {Bar.line(batch, 0.0)}")
        return GOOD
    run = here.finish(arguments.id, time.monotonic() + arguments.wait) if arguments.wait else here.run(arguments.id)
    show(arguments, run, describe(run))
    return _outcome(run) if arguments.wait else GOOD


def do_result(arguments: argparse.Namespace) -> int:
    """Show what a run returned."""
    here = client(arguments)
    if arguments.wait:
        here.finish(arguments.id, time.monotonic() + arguments.wait)
    run = here.result(arguments.id)
    show(arguments, run, _answer(run))
    return _outcome(run)


def do_cancel(arguments: argparse.Namespace) -> int:
    """Cancel a run or what is left of a batch."""
    here = client(arguments)
    if arguments.batch:
        batch = here.call("DELETE", f"/batches/{arguments.id}")
        show(arguments, batch, f"{batch['id']}  {Bar.line(batch, 0.0)}")
        return GOOD
    run = here.cancel(arguments.id)
    show(arguments, run, describe(run))
    return GOOD


def do_list(arguments: argparse.Namespace) -> int:
    """List the caller's runs, the newest first."""
    names = ("state", "queue", "flow", "schedule", "batch")
    runs = list(client(arguments).runs(arguments.limit, **{name: getattr(arguments, name) for name in names}))
    head = ("ID", "STATE", "REASON", "QUEUE", "FLOW", "CREATED")
    rows = [
        (
            run["id"],
            run["state"],
            str(run.get("reason", "")),
            str(run.get("queue", "")),
            str(run.get("flow_name") or run.get("flow", "")),
            moment(run.get("created")),
        )
        for run in runs
    ]
    show(arguments, runs, table([head, *rows]))
    return GOOD


def do_replay(arguments: argparse.Namespace) -> int:
    """Make new runs like dead letters: those that are named, or all."""
    here = client(arguments)
    chosen = arguments.ids
    if arguments.all:
        chosen = [run["id"] for run in here.runs(arguments.limit, state="dead", flow=arguments.flow)]
    elif not chosen:
        raise TasksError("name the runs to replay, or --all")
    made, failed = [], 0
    for run_id in chosen:
        try:
            made.append(here.replay(run_id))
        except RequestError as error:
            failed += 1
            print(f"{run_id}: {error.code}: {error.message}", file=sys.stderr)
    lines = [f"{run['replay_of']} -> {run['id']}" for run in made]
    show(arguments, made, "\n".join([*lines, f"{len(made)} of {len(chosen)} replayed"]))
    return REFUSED if failed else GOOD


def do_schedules(arguments: argparse.Namespace) -> int:
    """Show the schedules and when they fired."""
    found = client(arguments).listed("schedules")
    head = ("NAME", "WHEN", "ZONE", "FLOW", "FIRED", "LATE", "MISSED", "ERROR")
    rows = [
        (
            entry["name"] + ("" if entry["enabled"] else " (off)"),
            entry["cron"] or f"every {entry['every']} s",
            entry["timezone"],
            str(entry.get("flow", "")),
            moment(entry.get("fired")),
            f"{entry.get('late', 0):.1f} s",
            str(entry["missed"]),
            entry["error"],
        )
        for entry in found
    ]
    show(arguments, found, table([head, *rows]))
    return GOOD


def do_queues(arguments: argparse.Namespace) -> int:
    """Show the queues and how much waits in them."""
    found = client(arguments).listed("queues")
    rows = [
        (entry["name"], str(entry["depth"]), entry["rate"] or "-", f"{entry['run_timeout']:g} s") for entry in found
    ]
    show(arguments, found, table([("QUEUE", "WAITING", "RATE", "TIMEOUT"), *rows]))
    return GOOD


# --- verbs on a worker host -------------------------------------------------------------------------------------------


def do_check_config(arguments: argparse.Namespace) -> int:
    """Check the configuration and the schedules; nothing is asked for over the network."""
    faults: list[str] = []
    number = 0
    try:
        settings = config.load(arguments.file or arguments.config or None)
    except ConfigError as error:
        faults = error.faults
    else:
        if arguments.schedules or pathlib.Path(settings.schedules_file).exists():
            from . import schedules

            try:
                number = len(schedules.load(arguments.schedules or settings.schedules_file, settings))
            except ConfigError as error:
                faults = error.faults
    for fault in faults:
        print(fault, file=sys.stderr)
    show(arguments, {"faults": faults, "schedules": number}, "" if faults else f"good; {number} schedules")
    return BAD_INPUT if faults else GOOD


def _application(arguments: argparse.Namespace) -> Any:
    if arguments.config:
        os.environ[config.CONFIG_VARIABLE] = arguments.config
    from .app import Application

    application = Application()
    application.configure()
    return application


def do_worker(arguments: argparse.Namespace) -> int:
    """Work on tasks until told to stop."""
    from .process import WorkerProcess, set_up_logs

    set_up_logs()
    application = _application(arguments)
    queues = arguments.queues.split(",") if arguments.queues else sorted(application.settings.queues)
    application.check_secrets()
    WorkerProcess(application, arguments.name, queues, arguments.concurrency).run(arguments.more)
    return GOOD


def do_beat(arguments: argparse.Namespace) -> int:
    """Lead or stand by until told to stop."""
    from .process import run_beat, set_up_logs

    set_up_logs()
    application = _application(arguments)
    application.check_secrets()
    run_beat(application)
    return GOOD


def do_api(arguments: argparse.Namespace) -> int:
    """Serve the API until told to stop."""
    from .api import serve
    from .process import set_up_logs

    set_up_logs()
    application = _application(arguments)
    application.check_secrets()
    serve(application)
    return GOOD


def _controlled(arguments: argparse.Namespace, verb: str, *more: Any) -> int:
    from .drain import EXIT, Control

    answer = getattr(Control(_application(arguments), arguments.name), verb)(*more)
    show(arguments, answer, f"{answer['worker']}: {answer['state']}")
    return EXIT.get(answer["state"], GOOD)


def do_drain(arguments: argparse.Namespace) -> int:
    """Take a worker of this host out of work."""
    return _controlled(arguments, "drain", arguments.timeout)


def do_undrain(arguments: argparse.Namespace) -> int:
    """Let it work again."""
    return _controlled(arguments, "undrain", arguments.timeout)


def do_worker_status(arguments: argparse.Namespace) -> int:
    """Show what the workers of this host do."""
    from .drain import Control, instances

    application = _application(arguments)
    names = [arguments.name] if arguments.name else instances(application)
    found = [Control(application, name).status() for name in names]
    lines = [f"{one['worker']}: {one['state']}, {one['active']} active of {one['processes']}" for one in found]
    show(arguments, found, "\n".join(lines) or "no workers")
    return GOOD


def do_ping(arguments: argparse.Namespace) -> int:
    """Whether a worker answers through the broker."""
    from .drain import Control

    control = Control(_application(arguments), arguments.name)
    good = control.ping(arguments.timeout)
    show(arguments, {"worker": control.name, "answers": good}, f"{control.name}: {'answers' if good else 'silent'}")
    return GOOD if good else UNREACHABLE


# --- the parser -------------------------------------------------------------------------------------------------------


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--flow", required=True, help="identifier or endpoint name of the flow")
    parser.add_argument("--queue")
    parser.add_argument("--mode", choices=MODES)
    parser.add_argument("--guarantee", choices=GUARANTEES)
    parser.add_argument("--session-id")
    parser.add_argument("--timeout", type=float, help="seconds that the flow may run")
    parser.add_argument("--max-retries", type=int)
    parser.add_argument("--tweaks", help="JSON, or @FILE")
    parser.add_argument("--globals", help="JSON, or @FILE")
    parser.add_argument(
        "--idempotency-key", default="", help="the same key makes the same run, however often it is sent"
    )
    parser.add_argument("--traceparent", default="", help="W3C trace context to go on with")


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="an answer for machines")
    common.add_argument("--config", default="", help=f"configuration file (default {config.CONFIG_DEFAULT})")
    remote = argparse.ArgumentParser(add_help=False, parents=[common])
    remote.add_argument("--url", default=os.environ.get(URL_VARIABLE, ""), help="the front door, https://NAME")
    remote.add_argument("--connect", default="", help="connect to this HOST[:PORT] instead")
    remote.add_argument("--ca-file", default=os.environ.get(CA_VARIABLE, ""))
    remote.add_argument("--path", default=DEFAULT_PATH, help=argparse.SUPPRESS)
    remote.add_argument(
        "--key-file", default=os.environ.get(KEY_FILE_VARIABLE, ""), help="file with your Langflow API key"
    )
    main = argparse.ArgumentParser(prog="flowfleet-tasks", description="Runs of Langflow flows as tasks.")
    main.add_argument("--version", action="version", version=__version__)
    verbs = main.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, function: Verb, parent: argparse.ArgumentParser) -> argparse.ArgumentParser:
        about = (function.__doc__ or "").splitlines()[0]
        parser = verbs.add_parser(name, help=about, description=about, parents=[parent])
        parser.set_defaults(function=function)
        return parser

    one = verb("submit", do_submit, remote)
    _run_options(one)
    one.add_argument("--input", help="text for the flow, or - for standard input")
    one.add_argument("--wait", type=float, default=0, help="seconds to wait for the end")
    many = verb("batch", do_batch, remote)
    _run_options(many)
    many.add_argument("file", help="one input in each line, or a JSON list; - for standard input")
    many.add_argument("--wait", type=float, default=0, help="seconds to wait for the end, with a progress bar")
    for name, function in (("status", do_status), ("result", do_result), ("cancel", do_cancel)):
        parser = verb(name, function, remote)
        parser.add_argument("id")
        if name != "result":
            parser.add_argument("--batch", action="store_true", help="the identifier is that of a batch")
        if name != "cancel":
            parser.add_argument("--wait", type=float, default=0, help="seconds to wait for the end")
    listing = verb("list", do_list, remote)
    for name in ("state", "queue", "flow", "schedule", "batch"):
        listing.add_argument(f"--{name}", default="")
    listing.add_argument("--limit", type=int, default=50)
    again = verb("replay", do_replay, remote)
    again.add_argument("ids", nargs="*")
    again.add_argument("--all", action="store_true", help="every dead letter of yours")
    again.add_argument("--flow", default="")
    again.add_argument("--limit", type=int, default=1000)
    verb("schedules", do_schedules, remote)
    verb("queues", do_queues, remote)
    _host_verbs(verb, common)
    return main


def _host_verbs(verb: Callable[[str, Verb, argparse.ArgumentParser], Any], common: argparse.ArgumentParser) -> None:
    check = verb("check-config", do_check_config, common)
    check.add_argument("--file", default="")
    check.add_argument("--schedules", default="")
    worker = verb("worker", do_worker, common)
    worker.add_argument("--name", default="main")
    worker.add_argument("--queues", default="", help="names, separated by commas (default: all)")
    worker.add_argument("--concurrency", type=int, default=4)
    worker.add_argument("more", nargs="*", help="further options of the Celery worker, after --")
    verb("beat", do_beat, common)
    verb("api", do_api, common)
    draining = verb("drain", do_drain, common)
    draining.add_argument("--name", default="main")
    draining.add_argument("--timeout", type=float, default=300)
    resuming = verb("undrain", do_undrain, common)
    resuming.add_argument("--name", default="main")
    resuming.add_argument("--timeout", type=float, default=30, help="seconds until the worker has to say that it works")
    verb("worker-status", do_worker_status, common).add_argument("--name", default="")
    ping = verb("ping", do_ping, common)
    ping.add_argument("--name", default="main")
    ping.add_argument("--timeout", type=float, default=10)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.function(chosen))
    except ConfigError as error:
        for fault in error.faults:
            print(f"configuration: {fault}", file=sys.stderr)
        return BAD_INPUT
    except RequestError as error:
        print(f"{error.status} {error.code}: {error.message}", file=sys.stderr)
        if error.status in {502, 503, 504}:
            return UNREACHABLE
        return REFUSED if error.status in {401, 403} else BAD_INPUT
    except (NotSent, NoAnswer) as error:
        print(error, file=sys.stderr)
        return UNREACHABLE
    except TasksError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        return GOOD
    except KeyboardInterrupt:
        return 130
