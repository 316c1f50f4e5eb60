#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep secrets in the keystore of Logstash."""

from __future__ import annotations

DOCUMENTATION = r"""
module: logstash_keystore
short_description: Keep secrets in the keystore of Logstash
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Makes a keystore with exactly the given secrets, which pipelines name as C(${NAME}).
  - Logstash's own program makes it. Secrets reach it through its standard input, the keystore's password through its
    environment.
  - The program cannot say what is in a keystore, and takes many seconds to start. So a file beside the keystore
    remembers salted hashes; while they and the sum of the keystore agree, the program is not run.
  - A new keystore is made aside, checked, and put in place in one step.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - ansible.builtin.files
attributes:
  check_mode:
    support: full
  diff_mode:
    support: partial
    details: Names only.
options:
  settings_dir:
    description: Directory of C(logstash.yml), where the keystore is looked for as C(logstash.keystore).
    type: path
    required: true
  program:
    description: The program.
    type: path
    default: /usr/share/logstash/bin/logstash-keystore
  secrets:
    description: The secrets by name. Letters, digits and C(_); capitals make no difference. One line of ASCII each.
    type: dict
    required: true
  password:
    description: Password of the keystore, which Logstash needs as C(LOGSTASH_KEYSTORE_PASS) in its environment.
    type: str
    required: true
  timeout:
    description: Seconds for one run of the program.
    type: int
    default: 180
notes:
  - For Logstash 8.12 and later, whose program takes several secrets at once.
"""

EXAMPLES = r"""
- name: Let pipelines log in to Elasticsearch
  flowfleet.langflow.logstash_keystore:
    settings_dir: /etc/flowfleet/logstash
    secrets:
      ELASTICSEARCH_PASSWORD: "{{ vault_writer_password }}"
    password: "{{ vault_keystore_password }}"
    owner: root
    group: logstash
    mode: "0640"
"""

RETURN = r"""
path:
  description: The keystore.
  returned: success
  type: str
names:
  description: Names of secrets that were missing, other or too many.
  returned: success
  type: list
  elements: str
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils._logstash_keystore import (
    KeystoreError,
    Memory,
    check,
)


def content(path: Path) -> bytes | None:
    """Read a file that may be missing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def put(path: Path, text: str) -> None:
    """Write a file that is root's alone from its first moment."""
    number, fresh = tempfile.mkstemp(prefix=".keystore-", dir=path.parent)
    with os.fdopen(number, "w", encoding="utf-8") as out:
        out.write(text)
    Path(fresh).replace(path)


class Builder:
    """Runs the program in a directory of its own."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.folder = Path(tempfile.mkdtemp(prefix="keystore-", dir=module.tmpdir))
        # The program reads settings, and fails without them.
        (self.folder / "logstash.yml").write_text("# none\n", encoding="utf-8")

    def run(self, *arguments: str, lines: list[str] | None = None) -> str:
        """One run; its output may repeat what it was told, so it is never shown."""
        argv = [self.params["program"], "--path.settings", str(self.folder), *arguments]
        environment = {"LOGSTASH_KEYSTORE_PASS": self.params["password"]}
        # A program that asks again for ever is ended by the closed input, one that hangs by this.
        argv = ["timeout", "--kill-after=5", str(self.params["timeout"]), *argv]
        code, out, _unused = self.module.run_command(
            argv, data="\n".join(lines or []), environ_update=environment, handle_exceptions=False
        )
        if code:
            raise KeystoreError(f"logstash-keystore {arguments[0]} ended with {code}")
        return str(out)

    def build(self) -> Path:
        """Make the keystore and look into it; the program ends with 0 even when it has failed."""
        wanted: dict[str, str] = self.params["secrets"]
        self.run("create")
        made = self.folder / "logstash.keystore"
        if not made.exists():
            raise KeystoreError("logstash-keystore create has made no keystore")
        if wanted:
            self.run("add", *wanted, lines=list(wanted.values()))
        told = {line.strip() for line in self.run("list").splitlines()}
        missing = sorted(name for name in wanted if name.lower() not in told)
        if missing:
            raise KeystoreError(f"logstash-keystore did not take {', '.join(missing)}")
        return made


def main() -> None:
    """Compare, and make it anew if it is not as wanted."""
    module = AnsibleModule(
        argument_spec={
            "settings_dir": {"type": "path", "required": True},
            "program": {"type": "path", "default": "/usr/share/logstash/bin/logstash-keystore"},
            "secrets": {"type": "dict", "required": True, "no_log": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "timeout": {"type": "int", "default": 180},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    params = module.params
    path = Path(params["settings_dir"]) / "logstash.keystore"
    notes = path.with_name(".keystore.json")
    try:
        check({**params["secrets"], "password": params["password"]})
        kept = content(notes)
        memory = Memory.read(kept.decode("utf-8", "replace")) if kept else None
        memory = memory or Memory("", "", {})
        names = memory.differences(content(path), params["secrets"], params["password"])
        if names and not module.check_mode:
            made = Builder(module).build()
            told = Memory.of(made.read_bytes(), params["secrets"], params["password"]).text()
            # The notes last: without them the next run makes both again.
            module.atomic_move(str(made), str(path))
            put(notes, told)
            shutil.rmtree(made.parent)
    except (KeystoreError, OSError) as exc:
        module.fail_json(msg=f"keystore: {exc}")
    changed = bool(names)
    if path.exists():
        arguments = module.load_file_common_arguments({**params, "path": str(path)}, path=str(path))
        changed = module.set_fs_attributes_if_different(arguments, changed)
    shown = [name for name in names if name]
    result: dict[str, Any] = {"changed": changed, "path": str(path), "names": shown}
    if module._diff and names:
        result["diff"] = {"before": "", "after": "".join(f"{name}\n" for name in shown), "after_header": str(path)}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
