# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a secret key opens what Langflow has stored."""

from __future__ import annotations

DOCUMENTATION = r"""
name: langflow_key_opens
short_description: Tell whether a LANGFLOW_SECRET_KEY opens stored credentials
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Checks the signature of each Fernet token with the key that Langflow derives from its secret key. Nothing is
    decrypted, so no plaintext is
    handled; a wrong key and a damaged token are both found.
options:
  _input:
    description: Fernet tokens, as they stand in Langflow's database.
    type: list
    elements: str
    required: true
  secret_key:
    description: Value of E(LANGFLOW_SECRET_KEY).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse a key that opens nothing
  ansible.builtin.assert:
    that: (tokens | flowfleet.langflow.langflow_key_opens(escrow.langflow_secret_key)) == tokens | length
  no_log: true
"""

RETURN = r"""
_value:
  description: How many of the tokens the key opens.
  type: int
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.module_utils._fernet import opens


def langflow_key_opens(tokens: Iterable[str], secret_key: str) -> int:
    """How many of them."""
    if isinstance(tokens, str | Mapping):
        raise AnsibleFilterError("langflow_key_opens takes a list of tokens")
    try:
        return sum(opens(str(secret_key), str(token)) for token in tokens)
    except ValueError as exc:
        raise AnsibleFilterError(f"langflow_key_opens: {exc}") from None


class FilterModule:
    """Name the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"langflow_key_opens": langflow_key_opens}
