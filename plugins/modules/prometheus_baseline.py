#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Record how flows and hosts did in a span of time, and compare two such spans."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prometheus_baseline
short_description: Record how flows and hosts did in a span of time, and compare two such spans
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Asks Prometheus for times, errors and throughput of flows and for the use of processors and memory in a span of
    time, as one figure for the whole span and as a curve, and keeps them in a file.
  - Compares two such files, says what became worse, and draws the curves of both over each other.
  - It reads the metrics that the role C(exporters) shows on load balancers, database servers and all hosts.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
    details:
      - Asks and compares, and writes nothing.
  diff_mode:
    support: none
options:
  state:
    description:
      - V(recorded) asks Prometheus and writes O(dest).
      - V(compared) reads O(before) and O(after), asks nobody, and writes O(dest) as a picture.
    type: str
    choices: [recorded, compared]
    default: recorded
  dest:
    description:
      - File to write, JSON for V(recorded) and SVG for V(compared). The picture needs nothing else to be shown.
    type: path
    required: true
  url:
    description: Address of Prometheus. Needed for V(recorded).
    type: str
  ca_path:
    description: Certificates that Prometheus is verified with.
    type: path
  username:
    description: Name to sign in with.
    type: str
  password:
    description: Password of O(username).
    type: str
  timeout:
    description: Seconds for each answer.
    type: float
    default: 30.0
  name:
    description: What the span is called in tables and pictures. Needed for V(recorded).
    type: str
  flows:
    description: Ids or endpoint names of flows, as they stand in the path of their requests. Empty means all.
    type: list
    elements: str
    default: []
  window:
    description: Length of the span in seconds.
    type: int
    default: 1800
  end:
    description: End of the span, in seconds since 1970. Default is now.
    type: float
  before:
    description: File of the span to compare with. Needed for V(compared).
    type: path
  after:
    description: File of the later span. Needed for V(compared).
    type: path
  tolerance:
    description: Change in percent that is no change.
    type: float
    default: 10.0
  minimum:
    description: Requests that a flow needs in both spans to be judged.
    type: int
    default: 100
"""

EXAMPLES = r"""
- name: Keep how the last half hour was
  flowfleet.langflow.prometheus_baseline:
    url: https://mon1.example.com:9090
    ca_path: /etc/flowfleet/tls/ca.crt
    username: monitoring
    password: "{{ lookup('flowfleet.langflow.secret', 'monitoring_password') }}"
    name: before-upgrade
    flows: [support-bot]
    dest: reports/before-upgrade.json

- name: Compare with it
  flowfleet.langflow.prometheus_baseline:
    state: compared
    before: reports/before-upgrade.json
    after: reports/after-upgrade.json
    dest: reports/after-upgrade.svg
"""

RETURN = r"""
requests:
  description: Requests of each flow in the span.
  type: dict
  returned: when state is recorded
  sample: {support-bot: 5400}
totals:
  description: Each figure of the whole span, by flow or by host.
  type: dict
  returned: when state is recorded
  sample: {p99: {support-bot: 1.82}}
table:
  description: The comparison, line by line.
  type: list
  elements: str
  returned: when state is compared
notes:
  description: What limits the comparison.
  type: list
  elements: str
  returned: when state is compared
rows:
  description: The comparison, figure by figure.
  type: list
  elements: dict
  returned: when state is compared
  contains:
    curve: {description: The figure., type: str}
    label: {description: Flow or host., type: str}
    before: {description: Value in the earlier span., type: float}
    after: {description: Value in the later span., type: float}
    change: {description: Change in percent., type: float}
    verdict:
      description: One of C(same), C(better), C(worse), C(too few), C(new), C(gone), and C(load) for what is not judged.
      type: str
worse:
  description: Figures that became worse, as C(figure of label).
  type: list
  elements: str
  returned: when state is compared
  sample: [p99 of support-bot]
"""

import dataclasses
import os
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _baseline
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import basic_login


def read(path: str) -> _baseline.Baseline:
    """A file that was recorded."""
    try:
        with open(path, encoding="utf-8") as file:
            return _baseline.Baseline.of(file.read(), path)
    except OSError as exc:
        raise _baseline.BaselineError(f"cannot read {path}: {exc.strerror or exc}") from exc


def write(module: AnsibleModule, text: str) -> bool:
    """Put the text into the file at once; whether anything changed."""
    path = module.params["dest"]
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return False
    except (OSError, UnicodeDecodeError):
        pass
    if module.check_mode:
        return True
    try:
        number, draft = tempfile.mkstemp(dir=module.tmpdir)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        module.atomic_move(draft, path)
    except OSError as exc:
        raise _baseline.BaselineError(f"cannot write {path}: {exc.strerror or exc}") from exc
    return True


def record(module: AnsibleModule) -> None:
    """Ask, and keep the answers."""
    given = module.params
    end = time.time() if given["end"] is None else given["end"]
    login = basic_login(given["username"], given["password"])
    source = _baseline.Prometheus(given["url"], ca_path=given["ca_path"], login=login, timeout=given["timeout"])
    found = _baseline.record(source, given["name"], end - given["window"], end, given["flows"])
    changed = write(module, found.text())
    module.exit_json(changed=changed, requests=found.requests, totals=found.totals)


def compare(module: AnsibleModule) -> None:
    """Say what became of it."""
    given = module.params
    before, after = read(given["before"]), read(given["after"])
    rows = _baseline.compare(before, after, given["tolerance"], given["minimum"])
    changed = write(module, _baseline.picture(before, after, rows))
    module.exit_json(
        changed=changed,
        table=_baseline.table(before, after, rows),
        notes=_baseline.notes(before, after, rows),
        rows=[dataclasses.asdict(row) for row in rows],
        worse=[f"{row.curve} of {row.label}" for row in rows if row.verdict == "worse"],
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["recorded", "compared"], "default": "recorded"},
            "dest": {"type": "path", "required": True},
            "url": {"type": "str"},
            "ca_path": {"type": "path"},
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "timeout": {"type": "float", "default": 30.0},
            "name": {"type": "str"},
            "flows": {"type": "list", "elements": "str", "default": []},
            "window": {"type": "int", "default": 1800},
            "end": {"type": "float"},
            "before": {"type": "path"},
            "after": {"type": "path"},
            "tolerance": {"type": "float", "default": 10.0},
            "minimum": {"type": "int", "default": 100},
        },
        required_if=[("state", "recorded", ("url", "name")), ("state", "compared", ("before", "after"))],
        supports_check_mode=True,
    )
    try:
        if module.params["state"] == "recorded":
            record(module)
        else:
            compare(module)
    except _baseline.BaselineError as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()
