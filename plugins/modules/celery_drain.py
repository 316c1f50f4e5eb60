#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take workers out of their queues before they stop, or put them back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: celery_drain
short_description: Take Celery workers out of their queues before they stop, or put them back
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - A worker that is drained takes nothing more from its queues. Requests that it holds open are finished. Runs that
    Langflow does in the background go on there; the worker hands them back, and another one takes them up.
  - The workers are those of role C(celery) on the host where the module runs. All that are named are drained at the
    same time.
  - A worker that is started again takes tasks again by itself.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
    details:
      - Tells what the workers are doing. Nothing is cancelled and nothing is waited for.
  diff_mode:
    support: none
options:
  workers:
    description: Names of the workers, as in C(celery-worker@NAME.service).
    type: list
    elements: str
    required: true
  state:
    description:
      - V(drained) waits until the workers have nothing left. A worker that does not run counts as drained.
      - V(consuming) lets them take tasks again.
    type: str
    choices: [drained, consuming]
    default: drained
  timeout:
    description: Seconds until the workers have to have nothing left.
    type: float
    default: 300.0
  on_deadline:
    description:
      - What to do when a worker still has tasks after O(timeout), or does not answer.
      - With V(fail) all workers take tasks again, so that nothing is left half-way.
      - With V(continue) the caller decides; RV(workers) tells which tasks are left.
    type: str
    choices: [fail, continue]
    default: fail
  command:
    description: The program of the workers, with arguments that come before its own.
    type: list
    elements: str
    default: [/usr/local/bin/flowfleet-tasks]
seealso:
  - module: flowfleet.langflow.rolling_restart
"""

EXAMPLES = r"""
- name: Let two workers come to an end before the host goes down
  flowfleet.langflow.celery_drain:
    workers: [main, bulk]
    timeout: 120

- name: Let them go on
  flowfleet.langflow.celery_drain:
    workers: [main, bulk]
    state: consuming
"""

RETURN = r"""
workers:
  description: What became of each worker.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the worker.
      type: str
    state:
      description: V(drained), V(deadline), V(unreachable), V(absent), V(consuming) or V(draining).
      type: str
    consumers_cancelled:
      description: Queues that it does not take from any more.
      type: list
      elements: str
    active:
      description: Tasks that it still works on.
      type: int
    reserved:
      description: Tasks that it has taken and not begun.
      type: int
    finished:
      description: Tasks that ended while it was drained.
      type: int
    handed_back:
      description: Tasks that went back to their queue.
      type: int
    runs:
      description: Identifiers of what it still works on.
      type: list
      elements: str
    seconds:
      description: How long it took.
      type: float
totals:
  description: C(active), C(reserved), C(finished) and C(handed_back) of all workers together.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._celery_drain import DrainError, Summary, Workers


def refuse(module: AnsibleModule, workers: Workers, summary: Summary) -> None:
    """Put everything back and fail, if a worker is not where it should be."""
    late, silent = summary.named("deadline"), summary.named("unreachable")
    reasons = [f"still has tasks after {module.params['timeout']:g} s: {', '.join(late)}"] if late else []
    reasons += [f"does not answer, or its broker does not: {', '.join(silent)}"] if silent else []
    if not reasons or (module.params["state"] == "drained" and module.params["on_deadline"] == "continue"):
        return
    rows = {"workers": summary.workers, "totals": summary.totals}
    if module.params["state"] == "drained":
        resumed = workers.resume(module.params["workers"])
        left = resumed.named("unreachable")
        reasons.append(f"takes no tasks: {', '.join(left)}" if left else "All take tasks again")
    module.fail_json(msg="; ".join(reasons) + ".", changed=False, **rows)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "workers": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["drained", "consuming"], "default": "drained"},
            "timeout": {"type": "float", "default": 300.0},
            "on_deadline": {"type": "str", "choices": ["fail", "continue"], "default": "fail"},
            "command": {"type": "list", "elements": "str", "default": ["/usr/local/bin/flowfleet-tasks"]},
        },
        supports_check_mode=True,
    )
    params = module.params
    workers = Workers(params["command"])
    try:
        if module.check_mode:
            summary = workers.status(params["workers"])
            others = ("absent", "draining") if params["state"] == "drained" else ("absent", "consuming")
            changed = len(summary.named(*others)) < len(params["workers"])
        elif params["state"] == "drained":
            summary = workers.drain(params["workers"], params["timeout"])
            changed = summary.changed
            refuse(module, workers, summary)
        else:
            before = workers.status(params["workers"])
            summary = workers.resume(params["workers"])
            changed = bool(before.named("draining"))
            refuse(module, workers, summary)
    except DrainError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, workers=summary.workers, totals=summary.totals)


if __name__ == "__main__":
    main()
