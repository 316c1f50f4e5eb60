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
  - Shows the plan, each batch, and each host from drain to restart, gate and enabled, with elapsed and estimated time.
  - At the end it writes one HTML page with a timeline, which needs no other file, and the same as JSON.
  - It watches the results of M(flowfleet.langflow.rollout_state), M(flowfleet.langflow.canary_gate) and
    M(flowfleet.langflow.request_probe). A play without them shows and writes nothing.
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

import pathlib
import time
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.flowfleet.langflow.plugins.plugin_utils._rollout_report import Report

COLLECTION = "flowfleet.langflow."


class CallbackModule(CallbackBase):
    """Feeds results into a report."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "flowfleet.langflow.rollout_report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.report = Report()

    def _take(self, outcome: Any) -> None:
        task = getattr(outcome, "task", None) or outcome._task
        result = getattr(outcome, "result", None) or outcome._result
        module = str(getattr(task, "resolved_action", None) or task.action).removeprefix(COLLECTION)
        now, line = time.time(), None
        if module == "rollout_state":
            line = self.report.state(now, result.get("invocation", {}).get("module_args", {}), result)
        elif module == "canary_gate":
            line = self.report.canary(now, result)
        elif module == "request_probe":
            self.report.probe(now, result)
        if line:
            self._display.display(line)

    def v2_runner_on_ok(self, result: Any) -> None:
        """A step was taken."""
        self._take(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A step was refused."""
        self._take(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host is lost."""
        if self.report.begun is not None:
            host = (getattr(result, "host", None) or result._host).get_name()
            self._display.display(self.report.stop(time.time(), host, "unreachable"))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The play is over."""
        directory = self.get_option("directory")
        if not directory or not self.report.worth_keeping:
            return
        base = pathlib.Path(directory)
        try:
            base.mkdir(parents=True, exist_ok=True)
            for suffix, text in (("json", self.report.to_json()), ("html", self.report.to_html())):
                path = base / f"rollout-{self.report.run_id}.{suffix}"
                path.write_text(text, encoding="utf-8")
                self._display.display(f"Report: {path}")
        except OSError as exc:
            self._display.warning(f"the report of the roll cannot be written: {exc}")
