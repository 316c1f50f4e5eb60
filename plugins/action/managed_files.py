# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Render the templates of a list of files on the controller and hand all of it to the host in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import generate_ansible_template_vars
from ansible.utils.vars import merge_hash
from ansible_collections.flowfleet.langflow.plugins.module_utils._managed_files import (
    Item,
    ItemError,
    check_items,
    label,
    pack,
    parse_mode,
)

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core 2.18
    trust_as_template = None

MODULE = "flowfleet.langflow.managed_files"
OPTIONS = frozenset({"files", "validate"})
SHOWN = ("path", "state", "owner", "group", "mode", "target", "secret", "recursive")


class ActionModule(ActionBase):
    """The part of the module that runs on the controller."""

    TRANSFERS_FILES = False
    _requires_connection = True
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check, render, call the module once."""
        variables: dict[str, Any] = task_vars or {}
        result = super().run(tmp, variables)
        arguments = self._task.args
        unknown = sorted(set(arguments) - OPTIONS)
        if unknown:
            raise AnsibleActionFail(f"managed_files: unknown option {', '.join(unknown)}; known are files and validate")
        if "files" not in arguments:
            raise AnsibleActionFail("managed_files: the option files is missing")
        try:
            items = check_items(arguments["files"])
            commands = self._commands(arguments.get("validate"))
        except ItemError as exc:
            raise AnsibleActionFail(f"managed_files: {exc}") from None
        rendered = [self._render(index, item, variables) for index, item in enumerate(items)]
        wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
        outcome = self._execute_module(
            module_name=MODULE,
            module_args={
                "files": [{key: item[key] for key in SHOWN if item.get(key) is not None} for item in items],
                "validate": commands,
                "_payload": pack(rendered, commands),
            },
            task_vars=variables,
            wrap_async=wrap_async,
        )
        if not wrap_async:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return merge_hash(result, outcome)

    @staticmethod
    def _commands(value: Any) -> list[str]:
        commands = [value] if isinstance(value, str) else value or []
        if not isinstance(commands, list) or not all(
            isinstance(command, str) and command.strip() for command in commands
        ):
            raise ItemError("validate must be a list of commands")
        return [str(command) for command in commands]

    def _render(self, index: int, item: dict[str, Any], variables: dict[str, Any]) -> Item:
        """The item with its content as bytes."""
        content: bytes | None = None
        if item["state"] == "file":
            try:
                content = self._content(item, variables)
            except (AnsibleError, OSError, UnicodeError) as exc:
                source = item.get("template") or item.get("src")
                where = f"{label(index, item)}{f', {source}' if source else ''}"
                raise AnsibleActionFail(f"managed_files: {where}: {exc}") from exc
        return Item(
            path=str(item["path"]),
            state=str(item["state"]),
            content=content,
            target=item.get("target"),
            owner=item.get("owner"),
            group=item.get("group"),
            mode=None if item.get("mode") is None else parse_mode(item["mode"]),
            secret=item.get("secret", False),
            validate=item.get("validate"),
            recursive=item.get("recursive", False),
        )

    def _content(self, item: dict[str, Any], variables: dict[str, Any]) -> bytes:
        if item.get("template") is not None:
            return self._template(item, variables).encode("utf-8")
        if item.get("src") is not None:
            real = self._loader.get_real_file(self._find_needle("files", item["src"]))
            try:
                with open(real, "rb") as handle:
                    return handle.read()
            finally:
                self._loader.cleanup_tmp_file(real)
        return str(item["content"]).encode("utf-8")

    def _template(self, item: dict[str, Any], variables: dict[str, Any]) -> str:
        """Render a template the way ansible.builtin.template does."""
        source = self._find_needle("templates", item["template"])
        search = [*variables.get("ansible_search_path", []), self._loader.get_basedir(), os.path.dirname(source)]
        search = [place for root in search for place in (os.path.join(root, "templates"), root)]
        known: dict[str, Any] = dict(variables)
        described: Mapping[str, Any] = generate_ansible_template_vars(item["template"], source, item["path"])
        known.update(described)
        if "ansible_managed" in variables:
            known["ansible_managed"] = variables["ansible_managed"]
        known.update(item.get("vars") or {})
        overrides = {"trim_blocks": True, "lstrip_blocks": False, "newline_sequence": "\n"}
        if trust_as_template is None:
            from ansible.template import AnsibleEnvironment

            text, _show = self._loader._get_file_contents(source)
            templar = self._templar.copy_with_new_env(
                environment_class=AnsibleEnvironment, searchpath=search, available_variables=known
            )
            rendered = templar.do_template(
                text.decode("utf-8"), preserve_trailing_newlines=True, escape_backslashes=False, overrides=overrides
            )
        else:
            templar = self._templar.copy_with_new_env(searchpath=search, available_variables=known)
            text = trust_as_template(self._loader.get_text_file_contents(source))
            rendered = templar.template(text, escape_backslashes=False, overrides=overrides)
        return "" if rendered is None else str(rendered)
