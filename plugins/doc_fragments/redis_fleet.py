# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of modules that look at all hosts of a replicated Redis."""

from __future__ import annotations


class ModuleDocFragment:
    """Where the servers are, and how to log in."""

    DOCUMENTATION = r"""
options:
  hosts:
    description: All hosts. Each runs every instance and one sentinel.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the host in answers.
        type: str
        required: true
      address:
        description: IP address that servers and sentinels know it by. Its certificate has to bear it.
        type: str
        required: true
  instances:
    description: The instances that are meant. The sentinels know the master of each by its name.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the instance.
        type: str
        required: true
      port:
        description: Its TLS port.
        type: int
        required: true
  sentinel_port:
    description: TLS port of the sentinels.
    type: int
    default: 26379
  user:
    description: User with all rights on servers and sentinels.
    type: str
    default: admin
  password:
    description: Its password.
    type: str
    required: true
  ca_path:
    description: File with the authorities that certificates are verified with. Names are always verified.
    type: path
    default: /etc/flowfleet/tls/ca.crt
  timeout:
    description: Seconds to wait.
    type: float
    default: 120.0
  interval:
    description: Seconds between two looks.
    type: float
    default: 0.5
  request_timeout:
    description: Seconds for one answer of one server.
    type: float
    default: 3.0
  max_lag_bytes:
    description: How far a replica may be behind and still count as caught up.
    type: int
    default: 1048576
"""
