# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How modules reach the members of an etcd cluster."""

from __future__ import annotations


class ModuleDocFragment:
    """Hosts, ports and certificates."""

    DOCUMENTATION = r"""
options:
  hosts:
    description: The hosts to ask, until one answers.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the member.
        type: str
        required: true
      address:
        description: Where it is reached; its certificate has to bear it.
        type: str
        required: true
  client_port:
    description: Port for clients.
    type: int
    default: 2379
  peer_port:
    description: Port for other members.
    type: int
    default: 2380
  ca_path:
    description: File with the authority that has signed the members' certificates.
    type: path
    required: true
  client_cert:
    description: Certificate to show; it has to be one that peers and clients are let in with.
    type: path
    required: true
  client_key:
    description: Its key.
    type: path
    required: true
  request_timeout:
    description: Seconds for one request to one host.
    type: float
    default: 5.0
"""
