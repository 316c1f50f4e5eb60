# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write a pipeline, which is data here, in Logstash's language."""

from __future__ import annotations

DOCUMENTATION = r"""
name: logstash_pipeline
short_description: Write a pipeline in Logstash's language
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Refuses what Logstash would read as something else, such as quotes that end too early.
options:
  _input:
    description:
      - The pipeline, with C(id), C(inputs), C(filters) and C(outputs).
      - "Steps are plugins, C({name: settings}), or conditions with C(if), C(then) and C(else)."
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show a pipeline
  ansible.builtin.debug:
    msg: "{{ example | flowfleet.langflow.logstash_pipeline }}"
  vars:
    example:
      id: example
      inputs: [{beats: {port: 5044}}]
      filters: [{if: '![service][name]', then: [{drop: {}}]}]
      outputs: [{stdout: {codec: json_lines}}]
"""

RETURN = r"""
_value:
  description: The text of the file.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.module_utils._logstash_pipeline import PipelineError, pipeline


def logstash_pipeline(data: Mapping[str, Any]) -> str:
    """Give the text of one pipeline."""
    try:
        return pipeline(data)
    except PipelineError as error:
        raise AnsibleFilterError(f"logstash_pipelines: {error}") from error


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"logstash_pipeline": logstash_pipeline}
