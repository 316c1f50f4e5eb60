#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files, directories and links of a service in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: managed_files
short_description: Manage all files of a service in one step
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Brings a list of files, directories and links to the wanted state with a single call to the host.
  - The list is one transaction. If a file cannot be written or a command of O(validate) fails, the task fails and
    everything that was changed is put back with its owner, mode and times.
  - Each file is replaced atomically; what is already right is not touched, not even its times.
  - The content of a file marked as secret appears in no log, no diff and no result.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
    details:
      - A user, group or directory that does not exist yet counts as a change, so that a bare host can be looked at.
      - Commands of O(validate) are not run, those of O(files[].validate) only where all they need is there already.
  diff_mode:
    support: full
options:
  files:
    description:
      - What shall be there, in this order. A directory stands before what it contains.
      - A path may stand in the list twice only with the same values.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      state:
        description:
          - What the path shall be.
          - With V(absent) all other keys but O(files[].recursive) are ignored.
        type: str
        choices: [file, directory, link, absent]
        default: file
      template:
        description:
          - Name of a template, searched for as by M(ansible.builtin.template).
          - One of O(files[].template), O(files[].content) and O(files[].src) is needed for a file.
        type: str
      content:
        description: The text of the file.
        type: str
      src:
        description: Name of a file on the controller, searched for as by M(ansible.builtin.copy).
        type: str
      vars:
        description: Variables for this template only.
        type: dict
      target:
        description: Where a link leads.
        type: str
      owner:
        description: Name or number of the user. What is not given is left alone.
        type: str
      group:
        description: Name or number of the group. What is not given is left alone.
        type: str
      mode:
        description:
          - Quoted octal number, such as V("0640").
          - If it is not given, the mode of what exists is left alone.
          - A new file then gets V("0644"), a new directory V("0755").
          - A secret file without it always gets V("0600").
        type: str
      secret:
        description: Never show the content.
        type: bool
        default: false
      validate:
        description:
          - Command that checks a copy of the new content before the file is replaced. C(%s) stands for the copy.
        type: str
      recursive:
        description: Allow V(absent) to remove a directory with all it contains.
        type: bool
        default: false
  validate:
    description:
      - Commands that are run once everything is written, if anything changed. If one fails, everything is put back.
    type: list
    elements: str
    default: []
  _payload:
    description: What the action plugin of this module has rendered. Not for use in a task.
    type: str
seealso:
  - module: ansible.builtin.template
  - module: flowfleet.langflow.rolling_restart
"""

EXAMPLES = r"""
- name: Write everything the cache needs
  flowfleet.langflow.managed_files:
    files:
      - path: /etc/redis
        state: directory
        owner: root
        group: redis
        mode: "0750"
      - path: /etc/redis/cache.conf
        template: redis.conf.j2
        vars:
          instance: cache
        owner: root
        group: redis
        mode: "0640"
        secret: true
      - path: /etc/redis/redis.conf
        state: absent
  register: cache_files

- name: Change the front door only if the program accepts it
  flowfleet.langflow.managed_files:
    files:
      - path: /etc/nginx/nginx.conf
        template: nginx.conf.j2
        owner: root
        group: root
        mode: "0644"
    validate:
      - nginx -t
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be.
  type: list
  elements: str
  returned: success
  sample: [/etc/redis/cache.conf]
files:
  description: What happened to each path, in the order given.
  type: list
  elements: dict
  returned: success
  contains:
    path:
      description: The path.
      type: str
    changed:
      description: Whether it was changed, or would be.
      type: bool
    changes:
      description: What differed.
      type: list
      elements: str
      sample: [content, mode]
skipped_validation:
  description: Commands that check mode could not run.
  type: list
  elements: str
  returned: in check mode
restored:
  description: Paths that were put back.
  type: list
  elements: str
  returned: failure
not_restored:
  description: Paths that could not be put back, with the reason.
  type: list
  elements: str
  returned: failure
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._managed_files import ApplyError, Transaction, unpack

FILE_OPTIONS = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
    "template": {"type": "str"},
    "content": {"type": "str"},
    "src": {"type": "str"},
    "vars": {"type": "dict"},
    "target": {"type": "str"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "str"},
    "secret": {"type": "bool", "default": False, "no_log": False},
    "validate": {"type": "str"},
    "recursive": {"type": "bool", "default": False},
}


def main() -> None:
    """Unpack what the action plugin prepared and apply it."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True, "options": FILE_OPTIONS},
            "validate": {"type": "list", "elements": "str", "default": []},
            # What the action plugin rendered; contents travel here only, where nothing logs them.
            "_payload": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    if module.params["_payload"] is None:
        module.fail_json(msg="this module works only through its action plugin; use it in a task by its full name")
    items, validate = unpack(module.params["_payload"])
    transaction = Transaction(module, check_mode=module.check_mode, workdir=module.tmpdir)
    try:
        outcomes = transaction.run(items, validate)
    except ApplyError as exc:
        details = exc.details
        if details.get("not_restored"):
            after = f"NOT put back: {'; '.join(details['not_restored'])}"
        elif details.get("restored"):
            after = f"put back: {', '.join(details['restored'])}"
        else:
            after = "nothing was changed"
        module.fail_json(msg=f"{exc} ({after})", **details)
    result = {
        "changed": any(outcome.changed for outcome in outcomes),
        "changed_paths": [outcome.path for outcome in outcomes if outcome.changed],
        "files": [{"path": each.path, "changed": each.changed, "changes": each.changes} for each in outcomes],
    }
    if module.check_mode:
        result["skipped_validation"] = transaction.skipped
    if module._diff:
        result["diff"] = [entry for outcome in outcomes for entry in outcome.diff]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
