#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Refuse a fleet that cannot work, before any host is changed
version_added: 1.0.0
description:
  - With O(step=inventory) it computes what every role would see on every host (role defaults overlaid by the
    inventory), validates it against the argument specifications of the roles, and checks what no single variable
    shows, such as two services on one port. No host is contacted and no secret is generated.
  - With O(step=hosts) it judges what M(flowfleet.langflow.host_check) measured, registered as C(__preflight_host), and
    prints a table.
  - All problems are reported together, one line each, with the variable or group, what is wrong, and the fix.
author:
  - The flowfleet.langflow contributors (@flowfleet)
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    description: Runs on the controller.
    support: full
options:
  step:
    description: What is judged, the inventory or the measured hosts.
    type: str
    choices: [inventory, hosts]
    required: true
  tiers:
    description:
      - Roles that run on the hosts of each group.
      - The keys are V(loadbalancers), V(langflow), V(postgresql) and V(redis).
    type: dict
    required: true
  every_host:
    description: Roles that run on every host of these groups.
    type: list
    elements: str
    default: []
  operation:
    description:
      - What the playbook is about to do; it decides what another Langflow release on a host means.
      - With V(site) a host that runs another release than C(langflow_version) is a problem that names the playbook
        for it.
      - With V(upgrade) a step between releases that is unknown, or known to lose data, is a problem.
      - With V(rollback), V(restart) and V(maintenance) the release on a host is not judged.
    type: str
    choices: [site, upgrade, rollback, restart, maintenance]
    default: site
notes:
  - This is an action plugin, it runs on the controller.
"""

EXAMPLES = r"""
- name: Check the inventory
  flowfleet.langflow.preflight:
    step: inventory
    every_host: [common, certificates]
    tiers:
      loadbalancers: [nginx, keepalived]
      langflow: [langflow]
      postgresql: [postgresql]
      redis: [redis]
"""

RETURN = r"""
hosts:
  description: Number of hosts in the fleet.
  returned: always
  type: int
problems:
  description: One line for each problem, in the order in which it was found.
  returned: always
  type: list
  elements: str
  sample:
    - "postgresql_version [db1]: PostgreSQL 14 is older than 15. Fix: set it to 15 or newer."
table:
  description: The lines of the summary; empty with O(step=inventory).
  returned: success
  type: list
  elements: str
"""
