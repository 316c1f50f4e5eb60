# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A password as the file of Elasticsearch's users has it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: elasticsearch_password_hash
short_description: Write a password as the file of Elasticsearch's users has it
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Uses PBKDF2 with a salt that follows from name and password, so that the same password gives the same line.
positional: user
options:
  _input:
    description: The password.
    type: str
    required: true
  user:
    description: Name of the user.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Write the file of users
  ansible.builtin.copy:
    content: "admin:{{ vault_password | flowfleet.langflow.elasticsearch_password_hash('admin') }}\n"
    dest: /etc/elasticsearch/users
    owner: root
    group: elasticsearch
    mode: "0640"
"""

RETURN = r"""
_value:
  description: The hash.
  type: str
"""

import base64
import hashlib
from collections.abc import Callable
from typing import Any

ROUNDS = 10000


def elasticsearch_password_hash(password: str, user: str) -> str:
    """Give the hash."""
    word = str(password).encode()
    # A fast hash for a salt would be an easier target than the slow one beside it.
    salt = hashlib.pbkdf2_hmac("sha512", word, f"flowfleet {user}".encode(), ROUNDS, 32)
    done = hashlib.pbkdf2_hmac("sha512", word, salt, ROUNDS, 32)
    return f"{{PBKDF2}}{ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(done).decode()}"


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"elasticsearch_password_hash": elasticsearch_password_hash}
