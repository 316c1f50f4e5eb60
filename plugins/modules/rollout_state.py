#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep plan, progress and circuit breaker of a roll where they outlive the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_state
short_description: Keep plan, progress and circuit breaker of a rolling change
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Keeps one file that says what a roll wants, how far each host came and whether anything may go on.
    The file is replaced as a whole under a lock, so that a controller killed at any moment leaves one that can be read.
  - All steps of one roll have to go to the same host, usually the first load balancer by C(delegate_to).
  - The same plan again resumes. Hosts that are done are left out, and hosts that were left in the middle come first.
  - Each plan gets a new RV(run_id). The steps of an older one are refused from then on.
  - A host that failed or was rolled back opens the circuit breaker. Nothing begins until it is reset.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
    details:
      - A plan is computed and returned, and not kept.
        Its RV(run_id) is V(check), which the later steps accept in check mode only.
  diff_mode:
    support: full
options:
  state:
    description:
      - V(plan) begins or resumes a roll.
        It is refused while the breaker is open, and while a different roll is unfinished.
      - V(begin_batch) lets a batch begin. It is refused while the breaker is open, while a host of an earlier batch
        is not done, if O(hosts) is not the batch that was planned, and if fewer than O(minimum) hosts would be left
        in service.
      - V(record) notes that O(host) enters O(phase).
        Record a phase before it begins, so that a killed run shows where it was.
      - V(finish) closes a roll. It is refused unless every host is done.
      - V(open) opens the breaker.
      - V(reset) closes the breaker and gives up an unfinished roll. The same plan can still resume it afterwards.
        A file that cannot be understood is kept beside the new one.
    type: str
    choices: [plan, begin_batch, record, finish, open, reset]
    required: true
  path:
    description: The file. Its directory is made if it is missing.
    type: path
    default: /var/lib/flowfleet/rollout.json
  operation:
    description: What is done to the hosts, such as V(upgrade). Part of the identity of a plan.
    type: str
    default: restart
  digest:
    description: Names the wanted release and configuration. Part of the identity of a plan. Required for O(state=plan).
    type: str
  hosts:
    description:
      - Names of hosts, in order. All of the roll for O(state=plan), those of the batch for O(state=begin_batch).
    type: list
    elements: str
  batches:
    description: Sizes of the batches as for Ansible's C(serial), of the hosts that are still to be changed.
    type: list
    elements: raw
    default: [1, "25%", "100%"]
  minimum:
    description:
      - Number of hosts that have to be in service at any time.
      - A plan splits batches that would leave fewer.
        If not given, a plan takes V(0) and a batch takes that of its plan.
    type: int
  healthy:
    description:
      - Hosts that are in service now, as just seen by health probes and load balancers.
      - Required for O(state=begin_batch). If not given, a plan assumes that all its O(hosts) are.
    type: list
    elements: str
  who:
    description: Who runs the roll and where, such as V(alice@controller).
    type: str
    default: unknown
  lease:
    description:
      - Seconds since the last recorded step before somebody else may take up an unfinished roll.
        The same O(who) may do so at once.
    type: float
    default: 900.0
  run_id:
    description: The RV(run_id) of the plan. Required for O(state=begin_batch), O(state=record) and O(state=finish).
    type: str
  host:
    description: The host that a phase is recorded for, or that was the cause for O(state=open).
    type: str
  phase:
    description: What O(host) begins now, or how it ended. V(failed) and V(rolled_back) open the breaker.
    type: str
    choices: [drain, stop, start, gate, enabled, failed, rolled_back]
  timings:
    description:
      - Seconds that phases took, as measured by other modules. Without them, the time between records counts.
    type: dict
  reason:
    description: Why. Required for O(state=open).
    type: str
  lock_timeout:
    description: Seconds to wait for another process that is writing.
    type: float
    default: 60.0
notes:
  - In a play with batches, give C(serial) the RV(plan.serial) and C(hosts) the RV(plan.order) of the plan.
seealso:
  - module: flowfleet.langflow.rollout_state_info
  - module: flowfleet.langflow.canary_gate
  - plugin: flowfleet.langflow.rollout_batches
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Plan the roll, or take it up where it was left
  flowfleet.langflow.rollout_state:
    state: plan
    operation: upgrade
    digest: 1.13.0-0a1b2c3d
    hosts: [app1, app2, app3, app4]
    batches: [1, "25%", "100%"]
    minimum: 2
    who: alice@controller
  delegate_to: lb1
  run_once: true
  register: rollout

- name: Let the batch begin
  flowfleet.langflow.rollout_state:
    state: begin_batch
    run_id: "{{ rollout.run_id }}"
    hosts: "{{ ansible_play_batch }}"
    healthy: [app1, app2, app3, app4]
  delegate_to: lb1
  run_once: true

- name: Note that this host is being drained
  flowfleet.langflow.rollout_state:
    state: record
    run_id: "{{ rollout.run_id }}"
    host: "{{ inventory_hostname }}"
    phase: drain
  delegate_to: lb1

- name: Close the roll
  flowfleet.langflow.rollout_state:
    state: finish
    run_id: "{{ rollout.run_id }}"
  delegate_to: lb1
  run_once: true

- name: Allow rolls again
  flowfleet.langflow.rollout_state:
    state: reset
    reason: the release was withdrawn
  delegate_to: lb1
  run_once: true
"""

RETURN = r"""
path:
  description: The file.
  type: str
  returned: always
run_id:
  description: The present or last run.
  type: str
  returned: when the file can be read
  sample: 20260314T101500Z-5f2c1a
status:
  description: V(none), V(running), V(stopped) by the breaker, V(given_up) or V(finished).
  type: str
  returned: when the file can be read
breaker:
  description: Whether the breaker is C(open) and, if so, C(since) when, the C(reason), the C(host) and the C(run_id).
  type: dict
  returned: when the file can be read
  sample: {open: false}
phases:
  description: The phase of each host.
  type: dict
  returned: when the file can be read
  sample: {app1: enabled, app2: gate, app3: pending}
remaining:
  description: Hosts that are not done.
  type: list
  elements: str
  returned: when the file can be read
interrupted:
  description: Hosts that are in the middle or were left there, with the phase.
  type: dict
  returned: when the file can be read
  sample: {app2: gate}
timings:
  description: Seconds that each phase took, for each host.
  type: dict
  returned: when the file can be read
  sample: {app1: {drain: 2.1, stop: 1.0, start: 14.2, gate: 6.0, total: 23.3}}
spans:
  description:
    - The time before, in and after the roll and that of each batch, for M(flowfleet.langflow.nginx_traffic_info).
      The first span covers the five minutes before the roll. One that still lasts has no end.
  type: list
  elements: dict
  returned: when the file can be read
  sample: [{name: before, since: "2026-03-14T10:10:00.000Z", until: "2026-03-14T10:15:00.000Z"}]
plan:
  description: What will be done.
  type: dict
  returned: for O(state=plan)
  contains:
    order:
      description: Hosts that will be changed, in this order.
      type: list
      elements: str
    batches:
      description: For each batch its C(number), C(hosts), and how many hosts are in service before and meanwhile.
      type: list
      elements: dict
      sample: [{number: 1, hosts: [app1], serving_before: 3, serving_during: 2}]
    serial:
      description: Sizes of the batches.
      type: list
      elements: int
    skipped:
      description: Hosts that an earlier run of the same plan has done.
      type: list
      elements: str
    interrupted:
      description: Hosts that an earlier run left in the middle, with the phase. They come first.
      type: dict
    broken:
      description: Hosts that failed or were rolled back in an earlier run.
      type: dict
    resumed:
      description: Whether an earlier run is taken up.
      type: bool
    estimated_seconds:
      description:
        - Time the roll will take if batches take as long as the earlier ones kept here. Null without earlier ones.
      type: float
    estimated_batches:
      description: The same for each batch.
      type: list
      elements: float
    estimated_phases:
      description: Time that each phase of a host took in earlier rolls, as the median, and that of a host as C(total).
      type: dict
      sample: {drain: 2.1, start: 14.2, gate: 6.0, total: 23.3}
    taken_up:
      description:
        - The attempt that is taken up, with C(run_id), C(who), its C(last_step), the C(idle_seconds) since then, the
          C(interrupted) hosts and the C(reason) why it did not come to its end. Null if none is.
      type: dict
    attempts:
      description: All attempts of this roll before this one, with the phases of each host and their times.
      type: list
      elements: dict
    now:
      description: The present moment by the clock of the host that keeps the file.
      type: str
serving_during:
  description: Hosts in service while the batch is not.
  type: int
  returned: for O(state=begin_batch)
set_aside:
  description: Where a file that could not be understood is kept now.
  type: str
  returned: for O(state=reset), if there was one
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _lock, _rollout


class Steps:
    """One method for each state, each turning a state of the file into the next one."""

    def __init__(self, params: dict[str, Any], check_mode: bool) -> None:
        self.params = params
        self.check_mode = check_mode
        self.now = _rollout.utc_now()
        self.extra: dict[str, Any] = {}

    @property
    def rehearsed(self) -> bool:
        """The run was planned in check mode, so the file knows nothing of it."""
        return bool(self.check_mode and self.params["run_id"] == _rollout.CHECK_RUN)

    def plan(self, state: _rollout.State) -> _rollout.State:
        """Begin or resume."""
        params = self.params
        wanted = _rollout.Wanted(
            operation=params["operation"],
            digest=params["digest"],
            hosts=tuple(dict.fromkeys(params["hosts"])),
            spec=params["batches"],
            minimum=params["minimum"] or 0,
            healthy=None if params["healthy"] is None else tuple(params["healthy"]),
            who=params["who"],
            lease=params["lease"],
        )
        run_id = _rollout.CHECK_RUN if self.check_mode else _rollout.new_run_id(self.now)
        after, plan = _rollout.begin_run(state, wanted, self.now, run_id)
        self.extra["plan"] = plan.result()
        return after

    def begin_batch(self, state: _rollout.State) -> _rollout.State:
        """Breaker, order, lost hosts, capacity."""
        params = self.params
        if self.rehearsed:
            _rollout.refuse_when_open(state)
            left = _rollout.check_capacity(params["hosts"], params["healthy"], params["minimum"] or 0)
            self.extra["serving_during"] = left
            return state
        after, self.extra["serving_during"] = _rollout.begin_batch(
            state, params["run_id"], params["hosts"], params["healthy"], params["minimum"], self.now
        )
        return after

    def record(self, state: _rollout.State) -> _rollout.State:
        """Progress of one host."""
        params = self.params
        if self.rehearsed:
            return state
        return _rollout.record(
            state, params["run_id"], params["host"], params["phase"], params["timings"], params["reason"], self.now
        )

    def finish(self, state: _rollout.State) -> _rollout.State:
        """All done."""
        return state if self.rehearsed else _rollout.finish(state, self.params["run_id"], self.now)

    def open(self, state: _rollout.State) -> _rollout.State:
        """Stop everything."""
        return _rollout.open_breaker(state, self.params["reason"], self.params["host"], self.now)

    def reset(self, state: _rollout.State) -> _rollout.State:
        """Allow everything again."""
        return _rollout.reset(state, self.params["reason"], self.now)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Take the step; the result of the module."""
    params = module.params
    file = _rollout.StateFile(params["path"], params["lock_timeout"])
    steps = Steps(params, module.check_mode)
    step = getattr(steps, params["state"])
    set_aside = file.set_aside(steps.now, module.check_mode) if params["state"] == "reset" else None
    if set_aside and module.check_mode:
        before = after = _rollout.empty_state()
    elif module.check_mode:
        before, after = file.preview(step)
    else:
        before, after = file.change(step)
    result = {"changed": after != before or set_aside is not None, **_rollout.summary(after), **steps.extra}
    if set_aside:
        result["set_aside"] = set_aside
    if module._diff and after != before:
        result["diff"] = {
            "before_header": params["path"],
            "after_header": params["path"],
            "before": _rollout.format_state(before),
            "after": _rollout.format_state(after),
        }
    return result


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["plan", "begin_batch", "record", "finish", "open", "reset"],
                "required": True,
            },
            "path": {"type": "path", "default": "/var/lib/flowfleet/rollout.json"},
            "operation": {"type": "str", "default": "restart"},
            "digest": {"type": "str"},
            "hosts": {"type": "list", "elements": "str"},
            "batches": {"type": "list", "elements": "raw", "default": [1, "25%", "100%"]},
            "minimum": {"type": "int"},
            "healthy": {"type": "list", "elements": "str"},
            "who": {"type": "str", "default": "unknown"},
            "lease": {"type": "float", "default": 900.0},
            "run_id": {"type": "str"},
            "host": {"type": "str"},
            "phase": {"type": "str", "choices": list(_rollout.RECORDED)},
            "timings": {"type": "dict"},
            "reason": {"type": "str"},
            "lock_timeout": {"type": "float", "default": 60.0},
        },
        required_if=[
            ("state", "plan", ("digest", "hosts")),
            ("state", "begin_batch", ("run_id", "hosts", "healthy")),
            ("state", "record", ("run_id", "host", "phase")),
            ("state", "finish", ("run_id",)),
            ("state", "open", ("reason",)),
        ],
        supports_check_mode=True,
    )
    path = module.params["path"]
    try:
        result = run(module)
    except _rollout.CorruptState as exc:
        module.fail_json(path=path, msg=_rollout.corrupt_message(path, exc))
    except _rollout.Refused as exc:
        module.fail_json(path=path, msg=str(exc), **_rollout.summary(_rollout.StateFile(path).read()))
    except (ValueError, TypeError) as exc:
        module.fail_json(path=path, msg=str(exc))
    except (OSError, _lock.LockTimeout) as exc:
        module.fail_json(path=path, msg=f"cannot keep {path}: {exc}")
    module.exit_json(path=path, **result)


if __name__ == "__main__":
    main()
