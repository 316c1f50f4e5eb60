#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Let Alertmanager be silent about something for a while."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alertmanager_silence
short_description: Let Alertmanager be silent about something for a while
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Makes a silence that ends by itself, or ends one. For planned work, so that nobody is called for it.
  - A silence is known by O(created_by). One with the same matchers is made once, and made longer when less than half of
    O(duration) is left. One with other matchers is ended.
  - A cluster is asked through the first of O(urls) that answers; its members tell each other.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
    details:
      - Silences are read, not changed.
  diff_mode:
    support: full
options:
  urls:
    description: Addresses of the members, with https. Certificates are always verified.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(present) is silent from now on, for O(duration).
      - V(absent) ends every silence of O(created_by) now.
    type: str
    choices: [present, absent]
    default: present
  created_by:
    description: Who wants it, such as the name of a run. Another run must not have the same.
    type: str
    required: true
  comment:
    description: Why. Needed for V(present).
    type: str
    default: ""
  matchers:
    description: What alerts have to be like to be silenced, all of it. Needed for V(present).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of a label.
        type: str
        required: true
      value:
        description: Its value, or a regular expression for the whole of it.
        type: str
        required: true
      regex:
        description: Whether O(matchers[].value) is a regular expression.
        type: bool
        default: false
      equal:
        description: Whether it has to match, or must not.
        type: bool
        default: true
  duration:
    description: Minutes after which it ends by itself, whatever becomes of the one who asked for it.
    type: int
    default: 60
  username:
    description: User to log in as.
    type: str
  password:
    description: Password of that user.
    type: str
  ca_path:
    description: File with the authority to trust instead of the system's.
    type: path
  request_timeout:
    description: Seconds for one request.
    type: float
    default: 5.0
seealso:
  - name: Silences of Alertmanager
    description: What a silence does.
    link: https://prometheus.io/docs/alerting/latest/alertmanager/#silences
"""

EXAMPLES = r"""
- name: Be silent about the services of a host while it is worked on
  flowfleet.langflow.alertmanager_silence:
    urls: [https://192.0.2.61:9093, https://192.0.2.62:9093]
    created_by: kernel update
    comment: New kernel on app1
    matchers:
      - {name: instance, value: app1}
      - {name: layer, value: service|infrastructure, regex: true}
    duration: 30
    username: monitoring
    password: "{{ monitoring_password }}"
    ca_path: /etc/flowfleet/tls/ca.crt

- name: Be loud again
  flowfleet.langflow.alertmanager_silence:
    state: absent
    urls: [https://192.0.2.61:9093, https://192.0.2.62:9093]
    created_by: kernel update
    username: monitoring
    password: "{{ monitoring_password }}"
    ca_path: /etc/flowfleet/tls/ca.crt
"""

RETURN = r"""
silence_id:
  description: Identifier of the silence. Empty when there is none, and for one that check mode would make.
  returned: always
  type: str
  sample: 8c1a3f0e-6d0b-4a9c-9a57-1f6d4e0f7b11
ends_at:
  description: When it ends by itself.
  returned: when there is one
  type: str
  sample: "2026-11-22T10:30:00.000000Z"
ended:
  description: Identifiers of silences that were ended, or would be.
  returned: always
  type: list
  elements: str
url:
  description: The member that was asked.
  returned: always
  type: str
  sample: https://192.0.2.61:9093
"""

import datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._alertmanager import (
    Alertmanager,
    Matcher,
    Silence,
    SilenceError,
    written,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Access, basic_login

MATCHER = {
    "name": {"type": "str", "required": True},
    "value": {"type": "str", "required": True},
    "regex": {"type": "bool", "default": False},
    "equal": {"type": "bool", "default": True},
}


def lines(silences: list[Silence]) -> str:
    """Show silences for a diff."""
    return "".join(
        f"{{{', '.join(matcher.shown() for matcher in item.matchers)}}} until {written(item.ends_at)}: {item.comment}\n"
        for item in silences
    )


def work(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring the silences of one author to what is wanted."""
    login = basic_login(params["username"], params["password"])
    access = Access(params["ca_path"], timeout=params["request_timeout"], token=login)
    server = Alertmanager(params["urls"], access)
    present = params["state"] == "present"
    there = server.living(params["created_by"])
    wanted = tuple(
        sorted(Matcher(item["name"], item["value"], item["regex"], item["equal"]) for item in params["matchers"])
    )
    same = [item for item in there if present and item.matchers == wanted]
    kept, surplus = same[:1], [item for item in there if item not in same[:1]]
    now = datetime.datetime.now(datetime.UTC)
    ends_at = now + datetime.timedelta(minutes=params["duration"])
    result: dict[str, Any] = {
        "changed": bool(surplus),
        "silence_id": kept[0].id if kept else "",
        "ended": [item.id for item in surplus],
    }
    after = list(kept)
    if present and not (kept and kept[0].ends_at - now >= (ends_at - now) / 2):
        result["changed"] = True
        starts_at = kept[0].starts_at if kept else now
        after = [Silence("", "active", params["created_by"], params["comment"], starts_at, ends_at, wanted)]
        if not check_mode:
            # An old one keeps its identifier when only its end changes.
            result["silence_id"] = server.put(
                wanted, params["created_by"], params["comment"], starts_at, ends_at, kept[0].id if kept else ""
            )
    if not check_mode:
        for item in surplus:
            server.end(item.id)
    if after:
        result["ends_at"] = written(after[0].ends_at)
    result["diff"] = {"before": lines(there), "after": lines(after)}
    result["url"] = server.url
    return result


def main() -> None:
    """Take the arguments, do the work, tell the result."""
    module = AnsibleModule(
        argument_spec={
            "urls": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "created_by": {"type": "str", "required": True},
            "comment": {"type": "str", "default": ""},
            "matchers": {"type": "list", "elements": "dict", "default": [], "options": MATCHER},
            "duration": {"type": "int", "default": 60},
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "ca_path": {"type": "path"},
            "request_timeout": {"type": "float", "default": 5.0},
        },
        required_together=[("username", "password")],
        supports_check_mode=True,
    )
    if module.params["state"] == "present":
        # A silence of everything, or one without a reason, is a mistake.
        for name in ("matchers", "comment"):
            if not module.params[name]:
                module.fail_json(msg=f"state present needs {name}")
        if module.params["duration"] < 1:
            module.fail_json(msg="duration is at least 1 minute")
    try:
        result = work(module.params, module.check_mode)
    except SilenceError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
