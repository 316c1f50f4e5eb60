#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Send requests at a constant rate while something is changed, and tell what became of each."""

from __future__ import annotations

DOCUMENTATION = r"""
module: request_probe
short_description: Load a front door at a constant rate and tell what became of each request
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Starts a small load generator that goes on when the task has ended, marks moments while it runs, stops it, and
    reports. Meant to run beside a rolling restart or an upgrade, in a test as well as in production.
  - The load is an open loop. Each request is sent when it is due, whether or not earlier ones have been answered, and
    its latency counts from the moment it was due. A server that stalls can therefore not hide how many it kept waiting.
  - Nothing is ever tried again, with one exception that is counted. A GET that was sent on a kept connection while the
    server closed it, and got no byte of an answer, is sent once more on a new connection, as all HTTP clients do. A
    POST in the same position counts as failed.
  - A connection that the server closed while nothing was sent on it is no failure.
  - The generator ends by itself, at the latest O(max_duration) plus the longest timeout after its start.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.langflow_server
attributes:
  check_mode:
    support: full
    details:
      - Judges the options and sends nothing. Reports what there is, and an empty report where there is nothing.
  diff_mode:
    support: none
    details:
      - There is nothing to compare.
  platform:
    platforms: linux
options:
  state:
    description:
      - V(started) starts the generator and waits until it sends. It is an error if one runs in O(directory) already.
      - V(marked) ends a window of time and begins another, named O(mark).
      - V(stopped) starts no more requests, waits for those under way, and ends the generator.
      - V(reported) reads the results, also while the generator runs or after it was killed.
    type: str
    choices: [started, marked, stopped, reported]
    required: true
  directory:
    description:
      - Where plan, results and lock of this probe are. Made if it is missing, for this user alone.
      - The results of one earlier probe are kept in its folder C(previous).
    type: path
    required: true
  url:
    description:
      - The only address that is connected to, as C(https://host[:port][/prefix]). Redirects are not followed and no
        proxy is used. Needed for O(state=started).
    type: str
  api_key_path:
    description:
      - File that holds the API key for runs and streams. If it is not set, the environment variable
        E(FLOWFLEET_PROBE_API_KEY) of the module's process is used, if there is one.
      - The key is handed to the generator through a pipe. It is in no file of the probe, in no argument and in no
        environment.
    type: path
  loads:
    description: What to send. Needed for O(state=started).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of this load in the report. The kind if not set.
        type: str
      kind:
        description:
          - V(get) asks for O(loads[].path) and accepts any content.
          - V(run) runs a flow and looks for O(loads[].expect) in its output.
          - V(long_run) does the same with a flow that takes the time that its input says.
          - V(stream) runs a flow, follows its events, and checks that they are complete, in order, and not doubled.
        type: str
        choices: [get, run, long_run, stream]
        required: true
      rate:
        description: Requests a second.
        type: float
        required: true
      path:
        description: For V(get), what to ask for.
        type: str
        default: /health_check
      status:
        description: Status codes that count as good.
        type: list
        elements: int
        default: [200]
      flow:
        description: Identifier or endpoint name of the flow. Needed for all kinds but V(get).
        type: str
      input:
        description:
          - Input of the flow. C({token}) stands for a text that is different in each request, C({seconds}) for the
            length of a long run, C({events}) for the length of a stream.
          - The usual ones are C({token}), C({token} {seconds}) for V(long_run), and C({token} {events}) for a V(stream)
            with O(loads[].events).
        type: str
      tweaks:
        description: Values for components of the flow, with the same places inside texts.
        type: dict
      seconds:
        description: For V(long_run), the length of a run, or the least and the greatest.
        type: list
        elements: float
        default: [30.0, 60.0]
      events:
        description:
          - For V(stream), how many numbers the flow writes, from 1 on, each in the form of O(loads[].sequence).
          - With V(0) the events are not numbered, and the last one must be there and hold O(loads[].expect).
        type: int
        default: 0
      sequence:
        description: Regular expression with one group that finds the numbers in the text of a stream.
        type: str
        default: seq=(\d+)\b
      expect:
        description:
          - Text that the output must contain. The usual one is C({token}), and nothing for a stream with numbers.
        type: str
      executions:
        description:
          - Regular expression with one group that finds, in the output of a flow that counts, how often it was executed
            for this token. More than once is a failure of class C(duplicate).
        type: str
        default: executions=(\d+)\b
      keep_alive:
        description: Share of the requests that use kept connections. The others use a new one each.
        type: float
        default: 0.5
      timeout:
        description: Seconds that one request of this load may take as a whole. O(timeout) if not set.
        type: float
      late_after:
        description: Seconds after which a good answer counts as failure of class C(late). V(0) for never.
        type: float
        default: 0.0
  max_duration:
    description: Seconds after which no more requests are sent. At most a day.
    type: float
    default: 600.0
  max_requests:
    description: Number of requests after which no more are sent.
    type: int
    default: 100000
  max_in_flight:
    description:
      - Number of requests that may be under way. More are not sent, which the report shows and does not trust.
    type: int
    default: 256
  max_lag:
    description: Seconds by which one request in a hundred may start late before the report is not trusted.
    type: float
    default: 0.1
  grace:
    description: Seconds that O(state=stopped) waits for requests that are under way. Set with O(state=started).
    type: float
    default: 90.0
  sampled:
    description: Whether the C(traceparent) of each request asks for its trace to be recorded.
    type: bool
    default: true
  node_header:
    description: Header of the answers that names the node that gave them, for a count in the report.
    type: str
  mark:
    description: Name of the window that begins with O(state=marked).
    type: str
    aliases: [name]
  executed:
    description:
      - For O(state=reported), what really was executed, one item for each execution. Texts are searched for tokens.
    type: list
    elements: raw
  executed_path:
    description:
      - The same as a file on this host, JSON (a list, or numbers for tokens) or text with one line for each execution.
    type: path
notes:
  - Run it on a host that is not part of what is changed. The module may be delegated to the controller.
  - The generator takes one core at most, and is the first to go if memory runs out.
  - Do not set E(FLOWFLEET_PROBE_API_KEY) with the keyword C(environment) of a task, because Ansible writes that on a
    command line. Set it where Ansible itself is started, for a module that runs there.
  - Where the login manager ends the processes of a user who logs out (C(KillUserProcesses=yes)), let the user linger.
  - Each request bears an C(X-Request-Id), and each run the same text as C(Idempotency-Key) and session.
seealso:
  - module: flowfleet.langflow.health_gate
  - module: flowfleet.langflow.rolling_restart
"""

EXAMPLES = r"""
# Evidence for a change in production. Low rates are enough to see a cut request, and 3000 requests without a failure
# say that fewer than 0.1 % fail.
- name: Start to look at the front door
  flowfleet.langflow.request_probe:
    state: started
    directory: /var/lib/flowfleet-probe
    url: https://langflow.example.com
    ca_path: /etc/flowfleet/tls/ca.crt
    api_key_path: /root/probe.key
    max_duration: 3600
    loads:
      - {kind: get, rate: 10}
      - {kind: run, rate: 2, flow: "{{ echo_flow }}", timeout: 30}
      - {kind: long_run, rate: 0.2, flow: "{{ sleep_flow }}", seconds: [30, 60], timeout: 120}
      - {kind: stream, rate: 0.5, flow: "{{ counting_flow }}", events: 20}
  delegate_to: probe.example.com
  run_once: true

- name: Collect figures for the time before the change
  ansible.builtin.wait_for:
    timeout: 60
  delegate_to: probe.example.com
  run_once: true

- name: Begin the window of the change
  flowfleet.langflow.request_probe:
    state: marked
    directory: /var/lib/flowfleet-probe
    mark: during
  delegate_to: probe.example.com
  run_once: true

# Here the change is made. Then the window "after" is begun in the same way.

- name: Stop when all requests have been answered
  flowfleet.langflow.request_probe:
    state: stopped
    directory: /var/lib/flowfleet-probe
  delegate_to: probe.example.com
  run_once: true

- name: Read the result, with what the called service has logged as ground truth
  flowfleet.langflow.request_probe:
    state: reported
    directory: /var/lib/flowfleet-probe
    executed_path: /var/log/called-service.log
  register: probe
  delegate_to: probe.example.com
  run_once: true

- name: Let the change count as good only if nobody noticed it
  ansible.builtin.assert:
    that:
      - probe.report.trusted
      - probe.report.failed == 0
      - probe.report.executions.double == 0
      - probe.report.windows.during.loads.get.p99_ratio <= 2
    fail_msg: "{{ probe.report.lines | join('\n') }}"
  run_once: true
"""

RETURN = r"""
pid:
  description: Process of the generator.
  type: int
  returned: state started
run:
  description: Identifier of this probe. It is part of each token and of the user agent.
  type: str
  returned: state started
report:
  description:
    - What became of the requests. Latencies count from the moment a request was due, service times from the moment it
      was sent, both in milliseconds and for complete and correct answers.
    - A request belongs to the window in which it was due.
  type: dict
  returned: state reported
  contains:
    n:
      description: Number of requests that were sent and ended.
      type: int
    failed:
      description: Number of those that got anything but a complete and correct answer in time.
      type: int
    classes:
      description:
        - Number of requests for each outcome. C(ok), C(http_<status>), C(refused), C(unreachable), C(tls), C(reset)
          (closed before an answer), C(timeout), C(truncated) (closed or ended within an answer), C(duplicate),
          C(disordered), C(wrong) (not what was expected), C(late).
        - C(unfinished) and C(unsent) are no failures of the server and not part of RV(report.n).
      type: dict
    bound:
      description: 3/n if nothing failed. The share of failures is below it in 95 of 100 such tests.
      type: float
    latency_ms:
      description: Latencies C(p50), C(p95), C(p99) and C(max).
      type: dict
    service_ms:
      description: Service times C(p50), C(p95), C(p99) and C(max).
      type: dict
    reconnected:
      description: Number of GETs that were sent again because the server closed the kept connection.
      type: int
    loads:
      description: The same figures for each load, with wanted number, connections and longest time without success.
      type: dict
    windows:
      description:
        - The same figures for the time C(before) the first mark and for the time after each mark, as a whole and for
          each load.
        - C(in_flight) counts the requests under way at the mark, C(p99_ratio) compares with C(before).
      type: dict
    executions:
      description:
        - How many runs were executed, how many of them more than once (C(double)), and, if the ground truth is given,
          how many were answered well without having been executed (C(lost)) and how many failed and were executed.
      type: dict
    generator:
      description: Wanted and achieved rate, how late requests were started, processor time and memory.
      type: dict
    trusted:
      description: Whether the generator did its part, so that the figures tell about the server.
      type: bool
    doubts:
      description: Why it is not trusted.
      type: list
      elements: str
    failures:
      description: The first 50 failures with time, class, identifiers of request and trace, and phase.
      type: list
      elements: dict
    lines:
      description: A short form for people.
      type: list
      elements: str
  sample:
    n: 3000
    failed: 0
    bound: 0.001
    latency_ms: {p50: 12.1, p95: 30.4, p99: 55.0, max: 81.3}
    trusted: true
"""

import dataclasses
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _request_probe as probe
from ansible_collections.flowfleet.langflow.plugins.module_utils import _request_probe_control as control
from ansible_collections.flowfleet.langflow.plugins.module_utils import _request_probe_report as report
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import SERVER_OPTIONS

KEY_VARIABLE = "FLOWFLEET_PROBE_API_KEY"
LOAD_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str"},
    "kind": {"type": "str", "choices": list(probe.KINDS), "required": True},
    "rate": {"type": "float", "required": True},
    "path": {"type": "str", "default": "/health_check"},
    "status": {"type": "list", "elements": "int", "default": [200]},
    "flow": {"type": "str"},
    "input": {"type": "str"},
    "tweaks": {"type": "dict"},
    "seconds": {"type": "list", "elements": "float", "default": [30.0, 60.0]},
    "events": {"type": "int", "default": 0},
    "sequence": {"type": "str", "default": r"seq=(\d+)\b"},
    "expect": {"type": "str"},
    "executions": {"type": "str", "default": r"executions=(\d+)\b"},
    "keep_alive": {"type": "float", "default": 0.5},
    "timeout": {"type": "float"},
    "late_after": {"type": "float", "default": 0.0},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["started", "marked", "stopped", "reported"], "required": True},
    "directory": {"type": "path", "required": True},
    "url": {"type": "str"},
    **SERVER_OPTIONS,
    "api_key_path": {"type": "path", "no_log": False},
    "loads": {"type": "list", "elements": "dict", "options": LOAD_OPTIONS},
    "max_duration": {"type": "float", "default": 600.0},
    "max_requests": {"type": "int", "default": 100_000},
    "max_in_flight": {"type": "int", "default": 256},
    "max_lag": {"type": "float", "default": 0.1},
    "grace": {"type": "float", "default": 90.0},
    "sampled": {"type": "bool", "default": True},
    "node_header": {"type": "str"},
    "mark": {"type": "str", "aliases": ["name"]},
    "executed": {"type": "list", "elements": "raw"},
    "executed_path": {"type": "path"},
}


def given(values: dict[str, Any]) -> dict[str, Any]:
    """What was set."""
    return {name: value for name, value in values.items() if value is not None}


def make_plan(params: dict[str, Any]) -> probe.Plan:
    """The plan that the options describe."""
    names = {field.name for field in dataclasses.fields(probe.Plan)} - {"loads", "run"}
    loads = tuple(probe.Load(**{"timeout": params["timeout"], **given(load)}) for load in params["loads"])
    return probe.Plan(loads=loads, **given({name: params[name] for name in names}))


def api_key(module: AnsibleModule) -> str:
    """The secret, from a file or from the environment."""
    path = module.params["api_key_path"]
    if not path:
        return os.environ.get(KEY_VARIABLE, "")
    try:
        with open(path, encoding="utf-8") as handle:
            if os.fstat(handle.fileno()).st_mode & 0o077:
                module.warn(f"{path} can be read by other users")
            key = handle.read().strip()
    except OSError as error:
        if module.check_mode:
            return ""
        raise control.ControlError(f"{path}: {error.strerror}") from None
    module.no_log_values.add(key)
    return key


def start(module: AnsibleModule) -> dict[str, Any]:
    """Start the generator."""
    plan = make_plan(module.params)
    key = api_key(module)
    directory = module.params["directory"]
    if module.check_mode:
        pid = control.running(directory)
        if pid is not None:
            raise control.ControlError(f"a probe runs in {directory} already, as process {pid}")
        return {"changed": True}
    return {"changed": True, "pid": control.start(directory, plan, key), "run": plan.run}


def mark(module: AnsibleModule) -> dict[str, Any]:
    """Begin a window."""
    if module.check_mode:
        control.check_mark(module.params["mark"])
    else:
        control.set_mark(module.params["directory"], module.params["mark"])
    return {"changed": True}


def stop(module: AnsibleModule) -> dict[str, Any]:
    """Stop the generator."""
    directory = module.params["directory"]
    if module.check_mode:
        return {"changed": control.running(directory) is not None}
    try:
        grace = probe.read_plan(directory).grace
    except (OSError, ValueError, TypeError):
        grace = module.params["grace"]
    return {"changed": control.stop(directory, grace + 10)}


def tell(module: AnsibleModule) -> dict[str, Any]:
    """Report."""
    params = module.params
    truth = None
    if params["executed_path"] is not None and os.path.exists(params["executed_path"]):
        truth = report.read_executions(params["executed_path"])
    elif params["executed_path"] is not None and not module.check_mode:
        raise control.ControlError(f"{params['executed_path']} is missing")
    elif params["executed"] is not None:
        truth = report.count_executions(params["executed"])
    directory = params["directory"]
    try:
        running = control.running(directory) is not None
        return {"changed": False, "report": report.make_report(directory, running=running, executions=truth)}
    except report.ReportError:
        if module.check_mode:
            return {"changed": False, "report": {**report.summarise([]), "trusted": False, "lines": []}}
        raise


STATES = {"started": start, "marked": mark, "stopped": stop, "reported": tell}


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(
        argument_spec=OPTIONS,
        required_if=[("state", "started", ["url", "loads"]), ("state", "marked", ["mark"])],
        mutually_exclusive=[("executed", "executed_path")],
        supports_check_mode=True,
    )
    try:
        result = STATES[module.params["state"]](module)
    except (probe.PlanError, control.ControlError, report.ReportError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or module.params['directory']}: {error.strerror or error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
