# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the ingest pipeline that masks documents."""

from __future__ import annotations

DOCUMENTATION = r"""
name: elasticsearch_masking
short_description: Write the ingest pipeline that masks documents
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Makes a script of the patterns that the shipper of logs works with.
options:
  _input:
    description: Patterns and words of keys, in the form that roles/common/files/masking.yml describes.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the pipeline
  ansible.builtin.debug:
    msg: "{{ example | flowfleet.langflow.elasticsearch_masking }}"
  vars:
    example:
      patterns: [{name: jwt, regex: 'eyJ[A-Za-z0-9_-]{5,}'}]
      keys: {words: [password], except: []}
"""

RETURN = r"""
_value:
  description: The pipeline as the API takes it.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.module_utils._elasticsearch_masking import MaskingError, pipeline


def elasticsearch_masking(masking: Mapping[str, Any]) -> dict[str, Any]:
    """Give the pipeline."""
    try:
        return pipeline(masking)
    except MaskingError as error:
        raise AnsibleFilterError(f"elasticsearch_masking_patterns: {error}") from error


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"elasticsearch_masking": elasticsearch_masking}
