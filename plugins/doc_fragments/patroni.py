# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How modules reach the REST API of Patroni."""

from __future__ import annotations


class ModuleDocFragment:
    """Address, certificates and login."""

    DOCUMENTATION = r"""
options:
  url:
    description:
      - REST API of a member, with https. The certificate is always verified.
      - The other members are found through it.
    type: str
    default: https://127.0.0.1:8008
  ca_path:
    description: File with the authority to trust instead of the system's.
    type: path
  client_cert:
    description: Certificate to show. Patroni may want one for changes.
    type: path
  client_key:
    description: Its key.
    type: path
  username:
    description: User for changes. Nothing is sent with mere questions.
    type: str
  password:
    description: Its password.
    type: str
  request_timeout:
    description: Seconds for one request.
    type: float
    default: 10.0
"""
