# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Log what a run does, one object of JSON for each event."""

from __future__ import annotations

DOCUMENTATION = r"""
name: run_log
type: notification
short_description: Log what a run of Ansible does, as JSON with a trace id
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Logs the start and end of a playbook and each task that changes something, fails or cannot reach its host, one line
    of JSON each, to the journal of the controller or to a file. Tasks that change nothing are counted at the end.
  - All lines of a run carry the same C(run_id) and C(trace_id). The latter is that of the environment variable
    E(TRACEPARENT), if a pipeline sets it.
  - A controller that has role P(flowfleet.langflow.log_shipper#role) sends the lines like those of any other service,
    masked and kept while the log tier is away. That is why the plugin sends nothing by itself. It needs no login, and a
    run goes on without a log tier.
  - Arguments of tasks, what commands print and differences are never logged, of tasks with C(no_log) nothing but name
    and outcome.
requirements:
  - Enable it with C(callbacks_enabled = flowfleet.langflow.run_log).
options:
  path:
    description:
      - File to append to. It is readable for its owner and group only.
      - An empty text logs to the journal, by the name C(flowfleet-ansible).
    type: str
    default: ""
    env:
      - name: FLOWFLEET_RUN_LOG
    ini:
      - section: callback_run_log
        key: path
"""

import datetime
import getpass
import json
import os
import re
import secrets
import socket
import time
import uuid
from collections.abc import Mapping
from typing import Any

from ansible.plugins.callback import CallbackBase

SOCKET = "/dev/log"
# The priorities of syslog for facility user.
PRIORITIES = {"error": 11, "warning": 12, "info": 14}
TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$")
LONGEST = 500


def who() -> str:
    """Return the name of the person, if the system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


class CallbackModule(CallbackBase):
    """Writes a line for each event that counts."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "flowfleet.langflow.run_log"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        given = TRACEPARENT.match(os.environ.get("TRACEPARENT", ""))
        self.names = {"run_id": str(uuid.uuid4()), "trace_id": given[1] if given else secrets.token_hex(16)}
        self.playbook = ""
        self.play = ""
        self.begun = time.monotonic()
        self._broken = False

    def _log(self, level: str, event: str, **fields: Any) -> None:
        """Write one line; a log that cannot be written does not stop the run."""
        if self._broken:
            return
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        known = {name: value for name, value in fields.items() if value not in (None, "")}
        line = json.dumps(
            {"timestamp": when, "level": level, "event": event, **self.names, "playbook": self.playbook, **known},
            default=str,
        )
        path = self.get_option("path")
        try:
            if path:
                handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
                try:
                    os.write(handle, line.encode() + b"\n")
                finally:
                    os.close(handle)
            else:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
                    log.connect(SOCKET)
                    log.send(f"<{PRIORITIES[level]}>flowfleet-ansible[{os.getpid()}]: {line}".encode())
        except OSError as exc:
            self._broken = True
            self._display.warning(f"the log of the run cannot be written: {exc}")

    # ansible-core 2.19 made these attributes public.
    def _result(self, outcome: Any, level: str, state: str) -> None:
        task = getattr(outcome, "task", None) or outcome._task
        result: Mapping[str, Any] = getattr(outcome, "result", None) or outcome._result
        host = (getattr(outcome, "host", None) or outcome._host).get_name()
        hidden = bool(task.no_log) or bool(result.get("_ansible_no_log")) or "censored" in result
        said = "" if hidden or level == "info" else str(result.get("msg") or "")[:LONGEST]
        name = task.get_name().strip()
        action = str(getattr(task, "resolved_action", None) or task.action)
        event = f"{host}: {state}: {name}"
        self._log(
            level,
            event,
            host=host,
            task=name,
            action=action,
            state=state,
            play=self.play,
            said=said,
            check=task.check_mode or None,
        )

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """A run begins."""
        self.playbook = os.path.basename(playbook._file_name)
        self._log("info", f"{self.playbook} begins", user=who())

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play begins."""
        self.play = play.get_name().strip()

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task has done something, or there was nothing to do."""
        if (getattr(result, "result", None) or result._result).get("changed"):
            self._result(result, "info", "changed")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task has failed."""
        self._result(result, "warning" if ignore_errors else "error", "failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host is lost."""
        self._result(result, "error", "unreachable")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run is over."""
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        bad = [host for host, counts in hosts.items() if counts["failures"] or counts["unreachable"]]
        outcome = f"{len(bad)} of {len(hosts)} hosts failed" if bad else f"{len(hosts)} hosts are well"
        seconds = round(time.monotonic() - self.begun, 1)
        self._log(
            "error" if bad else "info",
            f"{self.playbook} ends after {seconds:.0f} s: {outcome}",
            seconds=seconds,
            hosts=hosts,
        )
