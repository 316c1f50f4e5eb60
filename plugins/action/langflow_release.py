# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send the locks, the sources and the wheelhouse to the host only when a release has to be built."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.flowfleet.langflow.plugins.module_utils._release import ReleaseError, pack_sources

_FILES = ("requirements", "uv_requirements", "wheelhouse")


def _sha256(path: str) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class ActionModule(ActionBase):
    """Action plugin of module C(langflow_release)."""

    TRANSFERS_FILES = True
    MODULE = "flowfleet.langflow.langflow_release"
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the module first, and send what it needs when it asks for it."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        local = {name: self._find(arguments.pop(name)) for name in _FILES if arguments.get(name)}
        if "requirements" in local:
            arguments["requirements_sha256"] = _sha256(local["requirements"])
        with tempfile.TemporaryDirectory(prefix="langflow-release-") as folder:
            if arguments.get("sources"):
                local["sources"] = f"{folder}/sources.zip"
                arguments["sources_sha256"] = self._pack(self._find(arguments.pop("sources")), local["sources"])
            return self._ask(arguments, local, task_vars)

    def _ask(
        self, arguments: dict[str, Any], local: dict[str, str], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        try:
            result = self._call(arguments, task_vars)
            if result.pop("files_needed", False):
                result = self._call(arguments | self._send(local), task_vars)
            if result.pop("files_needed", False):
                raise AnsibleActionFail("a release has to be built: requirements and uv_requirements are needed")
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _find(self, path: str) -> str:
        try:
            return self._find_needle("files", path)
        except AnsibleError as error:
            raise AnsibleActionFail(f"cannot find {path} on the controller: {error}") from error

    def _pack(self, directory: str, archive: str) -> str:
        try:
            return pack_sources(Path(directory), Path(archive))
        except (ReleaseError, OSError) as error:
            raise AnsibleActionFail(f"cannot pack the sources: {error}") from error

    def _send(self, local: dict[str, str]) -> dict[str, str]:
        shell = self._connection._shell
        self._make_tmp_path()
        sent = {name: self._transfer_file(path, shell.join_path(shell.tmpdir, name)) for name, path in local.items()}
        self._fixup_perms2((shell.tmpdir, *sent.values()))
        return sent

    def _call(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return self._execute_module(module_name=self.MODULE, module_args=arguments, task_vars=task_vars)
