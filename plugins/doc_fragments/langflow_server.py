# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How modules that talk to Langflow get there."""

from __future__ import annotations


class ModuleDocFragment:
    """The options beside the URL."""

    DOCUMENTATION = r"""
options:
  server_name:
    description: Name that the server's certificate has to prove, and name to ask for. The host in O(url) if not set.
    type: str
  ca_path:
    description: File with the authority that the certificate has to come from. The system's authorities if not set.
    type: path
  timeout:
    description: Seconds that one request may take as a whole.
    type: float
    default: 60
"""
