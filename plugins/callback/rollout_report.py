# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Show how a roll goes, and keep a report of it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_report
type: aggregate
short_description: Show how a rolling change goes, and keep a report of it
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Shows the plan, each batch, and each host from drain to restart, gate and enabled, one line for each step, with the
    time that has passed and the time that is left. The latter goes by what earlier rolls took.
  - Writes one HTML page with a timeline, which needs no other file, and the same as JSON. They are written anew with
    each step, so that one is there even if the controller is killed.
  - It watches the results of M(flowfleet.langflow.rollout_state), M(flowfleet.langflow.canary_gate),
    M(flowfleet.langflow.nginx_traffic_info) and M(flowfleet.langflow.request_probe), and takes down every task that
    fails and every host that is lost while a roll is under way. A play without them shows and writes nothing.
  - A task with the variable C(rollout_event) is shown as a step of the roll as a whole, by the text of the variable, or
    by its own name if the variable is V(true). The text is not a template. A skipped task is not shown.
  - Results of tasks with C(no_log) do not reach it. What looks like a password, token or key in the text of an error
    is replaced as well.
requirements:
  - Enable it with C(callbacks_enabled = flowfleet.langflow.rollout_report).
options:
  directory:
    description: Where reports are written on the controller. An empty text writes none.
    type: str
    default: rollout-reports
    env:
      - name: FLOWFLEET_ROLLOUT_REPORTS
    ini:
      - section: callback_rollout_report
        key: directory
"""

import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.flowfleet.langflow.plugins.plugin_utils._rollout_page import page
from ansible_collections.flowfleet.langflow.plugins.plugin_utils._rollout_report import Report

COLLECTION = "flowfleet.langflow."
EVENT = "rollout_event"


class CallbackModule(CallbackBase):
    """Feeds results into a report."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "flowfleet.langflow.rollout_report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.report = Report()
        self._started: dict[str, tuple[float, str]] = {}
        self._broken = False

    # ansible-core 2.19 made these attributes public.
    @staticmethod
    def _parts(outcome: Any) -> tuple[Any, Mapping[str, Any], str]:
        task = getattr(outcome, "task", None) or outcome._task
        result = getattr(outcome, "result", None) or outcome._result
        host = (getattr(outcome, "host", None) or outcome._host).get_name()
        fields = getattr(outcome, "task_fields", None) or outcome._task_fields
        delegated = (result.get("_ansible_delegated_vars") or {}).get("ansible_delegated_host")
        return task, result, str(delegated or fields.get("delegate_to") or host)

    def _show(self, line: str | None) -> None:
        if line:
            self._display.display(line)

    def _take(self, outcome: Any, failed: bool = False) -> bool:
        """Whether the result is one of those that a report is made of."""
        task, result, host = self._parts(outcome)
        # ansible-core 2.19 does not say so in the result itself.
        result = {**result, "failed": failed}
        module = str(getattr(task, "resolved_action", None) or task.action).removeprefix(COLLECTION)
        now = time.time()
        if module == "rollout_state":
            arguments = result.get("invocation", {}).get("module_args", {})
            if arguments.get("state") == "plan" and "plan" in result and self.report.begun is not None:
                self._write()
                self.report = Report()
            self._show(self.report.state(now, arguments, result))
            self._write()
        elif module == "canary_gate":
            self._show(self.report.canary(now, result))
        elif module == "nginx_traffic_info":
            self.report.traffic(now, host, result)
        elif module == "request_probe":
            self.report.probe(now, result)
        else:
            return False
        return True

    def _event(self, outcome: Any) -> None:
        task, _result, _host = self._parts(outcome)
        begin, what = self._started.pop(task._uuid, (0.0, ""))
        if what:
            self._show(self.report.event(begin, time.time(), what))

    @staticmethod
    def _is_loop(result: Mapping[str, Any]) -> bool:
        return isinstance(result.get("results"), list)

    def _stop(self, outcome: Any, kind: str) -> None:
        if self.report.begun is None:
            return
        task, result, host = self._parts(outcome)
        said = result.get("msg") or result.get("censored") or "no message"
        self._show(self.report.stop(time.time(), kind, host, f"{task.name or task.get_name().strip()}: {said}"))

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Something begins."""
        what = task.vars.get(EVENT)
        if what:
            # Only now its name is no template any more.
            self._started[task._uuid] = time.time(), task.get_name().strip() if what is True else str(what)

    def v2_runner_on_ok(self, result: Any) -> None:
        """A step was taken."""
        if not self._is_loop(self._parts(result)[1]):
            self._take(result)
        self._event(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """The same for one item of a loop."""
        self._take(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A step was refused, or any other task has failed. Without arguments, it is one of C(no_log)."""
        if self._is_loop(self._parts(result)[1]):
            return
        # rollout_state and canary_gate tell their reasons themselves.
        known = self._take(result, failed=True) and "invocation" in self._parts(result)[1]
        if not known and not ignore_errors:
            self._stop(result, "task failed")

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """The same for one item of a loop."""
        task, plain, _host = self._parts(result)
        known = self._take(result, failed=True) and "invocation" in plain
        if not known and not task.ignore_errors:
            self._stop(result, "task failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host is lost."""
        self._stop(result, "unreachable")
        self._write()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The play is over."""
        self._show(self.report.end(time.time()))
        for path in self._write():
            self._display.display(f"Report: {path}")

    def _write(self) -> list[pathlib.Path]:
        """Both files, each as a whole; where they are."""
        directory = self.get_option("directory")
        if not directory or not self.report.worth_keeping or self._broken:
            return []
        base = pathlib.Path(directory)
        written = []
        try:
            base.mkdir(parents=True, exist_ok=True)
            for suffix, text in (("json", self.report.to_json()), ("html", page(self.report.data()))):
                path = base / f"rollout-{self.report.run_id}.{suffix}"
                fresh = path.with_suffix(f".{suffix}.new")
                fresh.write_text(text, encoding="utf-8")
                os.replace(fresh, path)
                written.append(path)
        except OSError as exc:
            self._broken = True
            self._display.warning(f"the report of the roll cannot be written: {exc}")
        return written
