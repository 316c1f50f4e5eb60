#!/usr/bin/python
# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do some steps of the smoke test of a Langflow cluster on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: langflow_smoke
short_description: Test a Langflow cluster with a real flow
version_added: 1.0.0
author:
  - The flowfleet.langflow contributors (@flowfleet)
description:
  - Does some of the steps of a smoke test. The playbook C(flowfleet.langflow.smoke) puts the steps in order and on the
    right hosts - the front door from the controller, each node from that node, the access logs from the load balancers.
  - A step that fails has its row like every other. The steps after it are still done, unless they cannot be without it.
  - Everything a run makes carries the identifier of the run in its name. The step V(clean) removes it, together with
    what runs left behind that were killed more than an hour ago. The API key of a run expires by itself after an hour.
  - The task is never C(changed), as a whole run leaves nothing.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.langflow_server
attributes:
  check_mode:
    support: full
    details: Returns one row for each thing that would be tested, and connects to nothing.
  diff_mode:
    support: none
    details: There is nothing to compare.
options:
  steps:
    description:
      - What to do, in this order.
      - V(sign_in) asks for health and version, logs in and makes a temporary API key.
      - V(import) puts the flow of O(plan) together from the components of the server and imports it.
      - V(run) and V(stream) run the flow and compare its output with the computed one.
      - V(task) lets the tasks tier run the flow, which has to be there.
      - V(spread) sends O(requests) short requests.
      - V(build_start) starts a build, V(build_follow) follows the one in O(job_id) to its end.
      - V(file_put) uploads a file, V(file_get) reads the one in O(file_id), V(file_drop) deletes it.
      - V(served) counts the requests of this run in O(access_log).
      - V(judge) adds up O(counts) and fails unless each of O(nodes) has served.
      - V(targets) asks the Prometheus at O(url), as O(username), whether all that it measures is up.
      - V(clean) removes everything the run has made.
    type: list
    elements: str
    required: true
    choices:
      - sign_in
      - import
      - run
      - stream
      - task
      - spread
      - build_start
      - build_follow
      - file_put
      - file_get
      - file_drop
      - served
      - judge
      - targets
      - clean
  node:
    description: What this place is called in the rows.
    type: str
    default: front door
  origin:
    description: The node on which O(job_id) was started and O(file_id) uploaded.
    type: str
    default: ""
  url:
    description: Where the server is. Needed by all steps but V(served) and V(judge).
    type: str
  username:
    description: User to log in as.
    type: str
  password:
    description: Password of that user.
    type: str
  api_key:
    description: The temporary key that V(sign_in) returned.
    type: str
  run_id:
    description: The identifier that V(sign_in) returned.
    type: str
  plan:
    description: The plan of the flow, as JSON.
    type: json
  flow_id:
    description: The flow that V(import) returned.
    type: str
  job_id:
    description: The job that V(build_start) returned.
    type: str
  file_id:
    description: The file that V(file_put) returned.
    type: str
  requests:
    description: How many requests V(spread) sends, and how many V(served) waits for.
    type: int
    default: 20
  wait:
    description: Seconds that V(served) waits for the log to be written.
    type: float
    default: 5
  access_log:
    description: Path of an access log with one JSON object a line, or V(journal) for the journal of the system.
    type: str
    default: /var/log/nginx/access.json
  nodes:
    description: The nodes behind the load balancer.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the node is called in the rows.
        type: str
        required: true
      address:
        description: Where the load balancer reaches it.
        type: str
        required: true
      port:
        description: Port of the node.
        type: int
        default: 7860
  counts:
    description: What V(served) returned on each load balancer.
    type: list
    elements: dict
    default: []
seealso:
  - module: flowfleet.langflow.langflow_api_key
"""

EXAMPLES = r"""
- name: Sign in through the front door
  flowfleet.langflow.langflow_smoke:
    steps: [sign_in]
    url: https://langflow.example.com
    ca_path: pki/ca.crt
    username: admin
    password: "{{ langflow_superuser_password }}"
  delegate_to: localhost
  register: session
  no_log: true

- name: Import and run the flow
  flowfleet.langflow.langflow_smoke:
    steps: [import, run, stream]
    url: https://langflow.example.com
    ca_path: pki/ca.crt
    api_key: "{{ session.api_key }}"
    run_id: "{{ session.run_id }}"
    plan: "{{ lookup('ansible.builtin.file', 'files/flows/smoke.json') }}"
  delegate_to: localhost
"""

RETURN = r"""
rows:
  description: One entry for each thing tested, in order, also when the task failed.
  type: list
  elements: dict
  returned: always
  contains:
    step:
      description: What was tested.
      type: str
    node:
      description: Where.
      type: str
    ms:
      description: Milliseconds that it took.
      type: int
    verdict:
      description: V(ok), V(FAILED) or, in check mode, V(planned).
      type: str
    detail:
      description: What was seen, or why it failed.
      type: str
run_id:
  description: The identifier of the run.
  type: str
  returned: when a run is known
api_key:
  description: The temporary API key. A secret.
  type: str
  returned: with the step V(sign_in)
flow_id:
  description: The imported flow.
  type: str
  returned: with the step V(import)
job_id:
  description: The started build.
  type: str
  returned: with the step V(build_start)
file_id:
  description: The uploaded file.
  type: str
  returned: with the step V(file_put)
served:
  description: How many requests of the run each node has answered.
  type: dict
  returned: with the step V(served)
"""

import json
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_smoke as smoke
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import (
    SERVER_OPTIONS,
    ApiError,
    LangflowClient,
    endpoint_from,
)

# What each step shows up as in the rows, and the options without which it means nothing.
ROWS: dict[str, tuple[str, ...]] = {
    "sign_in": ("health", "version", "login", "api key"),
    "import": ("import flow",),
    "run": ("run",),
    "stream": ("run streamed",),
    "task": ("run as task",),
    "spread": ("spread requests",),
    "build_start": ("build started",),
    "build_follow": ("build followed",),
    "file_put": ("file uploaded",),
    "file_get": ("file read",),
    "file_drop": ("file deleted",),
    "served": (),
    "judge": ("has served",),
    "targets": ("all targets up",),
    "clean": ("clean up",),
}
NEEDS: dict[str, tuple[str, ...]] = {
    "sign_in": ("url", "username", "password"),
    "import": ("url", "api_key", "run_id", "plan"),
    "run": ("url", "api_key", "run_id", "flow_id"),
    "stream": ("url", "api_key", "run_id", "flow_id"),
    "task": ("url", "api_key", "run_id", "flow_id"),
    "spread": ("url", "run_id"),
    "build_start": ("url", "api_key", "run_id", "flow_id"),
    "build_follow": ("url", "api_key", "run_id", "origin"),
    "file_put": ("url", "api_key", "run_id"),
    "file_get": ("url", "api_key", "run_id", "origin"),
    "file_drop": ("url", "api_key", "file_id"),
    "served": ("run_id", "nodes"),
    "judge": ("nodes",),
    "targets": ("url", "username", "password"),
    "clean": ("url", "username", "password"),
}
# Without these there is nothing for the steps after them.
DECISIVE = ("sign_in", "import")


class Smoke:
    """One task."""

    def __init__(self, params: dict[str, Any], report: smoke.Report, result: dict[str, Any]) -> None:
        self.params = params
        self.report = report
        self.result = result
        run_id = params["run_id"] or (smoke.new_run_id() if "sign_in" in params["steps"] else None)
        if run_id is not None:
            if not smoke.RUN_ID.match(run_id):
                raise ValueError(f"run_id {run_id!r} is not one that the step sign_in returned")
            result["run_id"] = run_id
        self.run_id: str = run_id or ""
        self.client: LangflowClient
        if params["url"]:
            endpoint = endpoint_from(params, smoke.user_agent(self.run_id) if self.run_id else smoke.PREFIX)
            self.client = LangflowClient(endpoint, params["api_key"], (params["password"] or "",))

    @property
    def nodes(self) -> list[smoke.Node]:
        return [smoke.Node(item["name"], item["address"], item["port"]) for item in self.params["nodes"]]

    def sign_in(self) -> None:
        params = self.params
        try:
            smoke.sign_in(self.client, self.report, self.run_id, params["username"], params["password"])
        finally:
            self.result["api_key"] = self.client.api_key or ""

    def import_flow(self) -> None:
        plan = json.loads(self.params["plan"])
        self.result["flow_id"] = smoke.import_flow(self.client, self.report, self.run_id, plan)
        self.params["flow_id"] = self.result["flow_id"]

    def run(self) -> None:
        smoke.run_flow(self.client, self.report, self.run_id, self.params["flow_id"])

    def stream(self) -> None:
        smoke.stream_flow(self.client, self.report, self.run_id, self.params["flow_id"])

    def task(self) -> None:
        smoke.run_task(self.client, self.report, self.run_id, self.params["flow_id"])

    def spread(self) -> None:
        smoke.spread(self.client, self.report, self.params["requests"])

    def build_start(self) -> None:
        self.result["job_id"] = smoke.start_build(self.client, self.report, self.run_id, self.params["flow_id"])

    def build_follow(self) -> None:
        params = self.params
        smoke.follow_build(self.client, self.report, self.run_id, params["job_id"], params["origin"])

    def file_put(self) -> None:
        self.result["file_id"] = smoke.put_file(self.client, self.report, self.run_id)

    def file_get(self) -> None:
        params = self.params
        smoke.get_file(self.client, self.report, self.run_id, params["file_id"], params["origin"])

    def file_drop(self) -> None:
        smoke.drop_file(self.client, self.report, self.params["file_id"])

    def served(self) -> None:
        params = self.params
        agent = smoke.user_agent(self.run_id)
        self.result["served"] = smoke.wait_served(
            params["access_log"], agent, self.nodes, params["requests"], params["wait"]
        )

    def judge(self) -> None:
        smoke.judge_served(self.report, self.params["counts"], self.nodes)

    def targets(self) -> None:
        params = self.params
        smoke.all_targets_up(self.report, params["url"], params["username"], params["password"], params["ca_path"])

    def clean(self) -> None:
        params = self.params
        smoke.clean_up(self.client, self.report, self.run_id or None, params["username"], params["password"])

    def actions(self) -> dict[str, Callable[[], None]]:
        return {step: getattr(self, "import_flow" if step == "import" else step) for step in ROWS}


def missing(params: dict[str, Any]) -> list[str]:
    """Options that the wanted steps need and do not have."""
    made = {"run_id", "api_key"} if "sign_in" in params["steps"] else set()
    made |= {"flow_id"} if "import" in params["steps"] else set()
    return sorted({name for step in params["steps"] for name in NEEDS[step] if not params[name]} - made)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "steps": {"type": "list", "elements": "str", "required": True, "choices": list(ROWS)},
            "node": {"type": "str", "default": "front door"},
            "origin": {"type": "str", "default": ""},
            "url": {"type": "str"},
            **SERVER_OPTIONS,
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "api_key": {"type": "str", "no_log": True},
            "run_id": {"type": "str"},
            "plan": {"type": "json"},
            "flow_id": {"type": "str"},
            "job_id": {"type": "str"},
            "file_id": {"type": "str"},
            "requests": {"type": "int", "default": 20},
            "wait": {"type": "float", "default": 5.0},
            "access_log": {"type": "str", "default": "/var/log/nginx/access.json"},
            "nodes": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "port": {"type": "int", "default": 7860},
                },
            },
            "counts": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    report = smoke.Report(params["node"])
    result: dict[str, Any] = {"changed": False, "rows": report.rows}
    if module.check_mode:
        names = [item["name"] for item in params["nodes"]]
        for step in params["steps"]:
            for node in names if step == "judge" else [params["node"]]:
                report.rows += smoke.planned(node, ROWS[step])
        module.exit_json(**result)
    absent = missing(params)
    if absent:
        module.fail_json(msg=f"{', '.join(params['steps'])}: these options are needed: {', '.join(absent)}", **result)
    failures: list[str] = []
    try:
        task = Smoke(params, report, result)
        actions = task.actions()
        for step in params["steps"]:
            try:
                actions[step]()
            except smoke.StepFailed as error:
                failures.append(str(error))
                if step in DECISIVE:
                    break
    except (ApiError, ValueError, OSError) as error:
        failures.append(str(error))
    if failures:
        module.fail_json(msg="; ".join(failures), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
