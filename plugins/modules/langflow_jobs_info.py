#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell which runs and background jobs a node works on, and wait for their end."""

from __future__ import annotations

DOCUMENTATION = r"""
module: langflow_jobs_info
short_description: Tell which runs and background jobs a Langflow node works on, and wait for their end
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Reads the unfinished jobs from Langflow's database and keeps those that a process of the service on this node works
    on. Changes nothing.
  - When Langflow is stopped, the background jobs that it works on fail, and so do those that wait in its queue. So take
    the node out of the load balancer first, then wait with this module, then stop the service.
  - Runs through the API and the editor, webhooks, background workflows, triggers and the filling of knowledge bases
    are jobs. While Langflow works on one, it signs it with its process number at least every 15 seconds.
  - Langflow 1.12 signs background jobs only. Its other jobs are RV(unattributed) as long as they run, on every node.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
    details:
      - Looks once and does not wait.
  diff_mode:
    support: none
options:
  wait:
    description:
      - Whether to wait until RV(left) is zero. If it is not when O(timeout) is over, the task does not fail; let the
        play decide with C(failed_when).
    type: bool
    default: false
  timeout:
    description: Seconds to wait. A database that does not answer meanwhile is asked again until then.
    type: float
    default: 300.0
  interval:
    description: Seconds between two looks.
    type: float
    default: 2.0
  settle:
    description:
      - Seconds without any job before the wait ends. A build that was just begun is written to the database only after
        its flow was prepared.
    type: float
    default: 2.0
  unattributed:
    description:
      - What to do about unfinished jobs that no process has signed yet, which are background jobs in the queue of some
        process of some node.
      - V(wait) waits for those that were there at the first look, because they could be in the queue of this node.
        Others cannot, since a drained node gets no new ones. V(report) only reports them.
    type: str
    choices: [wait, report]
    default: wait
  abandoned_after:
    description:
      - Seconds after which an unsigned job is taken for one that a crash has left. It is reported and not waited for.
      - With C(LANGFLOW_JOB_QUEUE_TYPE=redis) Langflow does not take up such jobs again after a restart.
    type: float
    default: 900.0
  stale_after:
    description:
      - Seconds without a sign of life after which a job of this node is taken for dead. It is reported in RV(silent)
        and not waited for. Langflow itself gives up such a job after 45 seconds.
    type: float
    default: 90.0
  unit:
    description: The unit of the service.
    type: str
    default: langflow.service
  python:
    description: Python of a Langflow release, which has the driver of the database.
    type: path
    default: /opt/langflow/current/bin/python
  environment_files:
    description: Files of the unit to read C(LANGFLOW_DATABASE_URL) from. The last one that has it counts.
    type: list
    elements: path
    default: [/etc/langflow/langflow.env, /etc/langflow/secrets.env]
  database_url:
    description: The address of the database, instead of what O(environment_files) say.
    type: str
  user:
    description: User to ask the database as, if the module runs as root.
    type: str
    default: langflow
  request_timeout:
    description: Seconds for one look.
    type: float
    default: 20.0
notes:
  - Needs root, because the address of the database holds a password. It is given to the asking process in its
    environment and is never returned, even if the driver complains about it.
  - A node whose service does not run works on nothing, so the database is not asked.
  - A job is attributed by process number. If a process on another node has the same number and was signed off later
    than the one here was started, its jobs are counted here too. That makes a wait longer, never shorter. RV(ambiguous)
    tells when this can be proven to happen.
  - Not in the table, and so not seen here, are the time between the answer to a build request and the first vertex (see
    O(settle)), and what goes on after a job has ended, such as traces and usage records being written. The graceful
    stop of the service gives these time.
  - Workflows that wait for a person are stored and go on after a restart. They are not counted.
  - A drained node still starts jobs by itself if it dispatches triggers (RV(dispatches_triggers)). Set
    C(LANGFLOW_TRIGGER_DISPATCHER_ENABLED=false) on nodes that take requests if triggers fire often.
seealso:
  - module: flowfleet.langflow.nginx_backend
"""

EXAMPLES = r"""
- name: Wait for the work of this node
  flowfleet.langflow.langflow_jobs_info:
    wait: true
    timeout: 600
  register: work
  failed_when: work is failed or work.left > 0

- name: Show what the node does
  flowfleet.langflow.langflow_jobs_info:
  register: work
"""

RETURN = r"""
running:
  description: Jobs that a process of this node works on.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: The job.
      type: str
    kind:
      description:
        - V(run) for a run through the API, the editor or a webhook. V(background) for a background workflow, also one
          that a trigger has started. V(ingestion) and V(evaluation) as Langflow calls them. V(unknown) before a process
          has signed it.
      type: str
    status:
      description: V(queued) or V(in_progress).
      type: str
    flow_id:
      description: The flow, if it has one.
      type: str
    started:
      description: When the job was made.
      type: str
    age:
      description: Seconds since then.
      type: int
    process:
      description: The process that works on it.
      type: int
    last_sign:
      description: Seconds since that process has signed it.
      type: int
count:
  description: Number of jobs in RV(running).
  returned: always
  type: int
silent:
  description: Jobs of this node without a sign of life for longer than O(stale_after).
  returned: always
  type: list
  elements: dict
unattributed:
  description: Jobs of the whole cluster that no process has signed.
  returned: always
  type: list
  elements: dict
left:
  description: Number of jobs that are, or would be, waited for. RV(count) and those of RV(unattributed) that count.
  returned: always
  type: int
waited:
  description: Seconds the module took.
  returned: always
  type: float
service_running:
  description: Whether the service has processes on this node.
  returned: always
  type: bool
known:
  description: Whether this release of Langflow signs its jobs. If not, nothing can be said about them.
  returned: always
  type: bool
ambiguous:
  description: Whether jobs of another node are certainly among those in RV(running).
  returned: always
  type: bool
dispatches_triggers:
  description: Whether this node is the one that starts jobs for triggers now.
  returned: always
  type: bool
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_jobs import JobsError, Watch
from ansible_collections.flowfleet.langflow.plugins.module_utils._systemd import SystemdError

SPEC: dict[str, dict[str, Any]] = {
    "wait": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 300.0},
    "interval": {"type": "float", "default": 2.0},
    "settle": {"type": "float", "default": 2.0},
    "unattributed": {"type": "str", "choices": ["wait", "report"], "default": "wait"},
    "abandoned_after": {"type": "float", "default": 900.0},
    "stale_after": {"type": "float", "default": 90.0},
    "unit": {"type": "str", "default": "langflow.service"},
    "python": {"type": "path", "default": "/opt/langflow/current/bin/python"},
    "environment_files": {
        "type": "list",
        "elements": "path",
        "default": ["/etc/langflow/langflow.env", "/etc/langflow/secrets.env"],
    },
    "database_url": {"type": "str", "no_log": True},
    "user": {"type": "str", "default": "langflow"},
    "request_timeout": {"type": "float", "default": 20.0},
}


def main() -> None:
    """Take the arguments, look, tell the result."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    watch = Watch(**module.params, hide=module.no_log_values.update)
    watch.wait = watch.wait and not module.check_mode
    try:
        watch.run()
    except (JobsError, SystemdError) as error:
        module.fail_json(msg=str(error), **watch.result())
    if not watch.picture.known:
        module.warn("This release of Langflow does not sign its jobs: what it works on cannot be told.")
    module.exit_json(**watch.result())


if __name__ == "__main__":
    main()
