# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a module reaches an Elasticsearch cluster."""

from __future__ import annotations


class ModuleDocFragment:
    """Options for the address and the login."""

    DOCUMENTATION = r"""
options:
  url:
    description: Address of a node, with C(https). Its certificate is always verified.
    type: str
    required: true
  username:
    description: Name of the user that asks.
    type: str
    required: true
  password:
    description: Its password.
    type: str
    required: true
  ca_path:
    description: File with the certificates of the authorities to trust instead of the system's.
    type: path
  request_timeout:
    description: Seconds for one question.
    type: float
    default: 60.0
"""
