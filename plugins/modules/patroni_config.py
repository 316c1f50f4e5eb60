#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Change the settings that all members of a Patroni cluster share."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_config
short_description: Change the settings that all members of a Patroni cluster share
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Compares what the cluster holds with O(settings) and changes what differs, through the REST API. Settings that
    O(settings) does not name belong to somebody else and are left alone.
  - Values are compared as PostgreSQL reads them, so that V(true) and V(on), or a number and its text, are the same.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.patroni
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  settings:
    description: Wanted settings, nested as Patroni has them. An empty value removes a setting.
    type: dict
    required: true
notes:
  - Every member may be asked, so one host of a play is enough.
seealso:
  - module: flowfleet.langflow.patroni_cluster_info
"""

EXAMPLES = r"""
- name: Fast failover, without loss
  flowfleet.langflow.patroni_config:
    ca_path: /etc/flowfleet/tls/ca.crt
    client_cert: /etc/flowfleet/tls/patroni.crt
    client_key: /etc/flowfleet/tls/patroni.key
    username: patroni
    password: "{{ patroni_password }}"
    settings:
      ttl: 20
      loop_wait: 2
      retry_timeout: 5
      synchronous_mode: true
"""

RETURN = r"""
changes:
  description: What was changed, or would be.
  returned: always
  type: dict
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._patroni import (
    ACCESS_OPTIONS,
    Client,
    PatroniError,
    config_changes,
    make_access,
    merged,
    typed,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import RestError


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(
        argument_spec={**ACCESS_OPTIONS, "settings": {"type": "dict", "required": True}}, supports_check_mode=True
    )
    params = module.params
    try:
        client = Client(params["url"], make_access(params))
        held = client.config()
        changes = config_changes(held, typed(params["settings"]))
        if changes and not module.check_mode:
            client.patch_config(changes)
            left = config_changes(client.config(), changes)
            if left:
                raise PatroniError(f"Patroni did not keep {left}")
    except (RestError, PatroniError) as exc:
        module.fail_json(msg=str(exc))
    result = {"changed": bool(changes), "changes": changes}
    if module._diff and changes:
        before, after = (json.dumps(side, indent=2, sort_keys=True) + "\n" for side in (held, merged(held, changes)))
        result["diff"] = {"before": before, "after": after, "before_header": "held", "after_header": "wanted"}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
