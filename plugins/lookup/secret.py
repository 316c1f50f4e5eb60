# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one way in which this collection gets a secret."""

from __future__ import annotations

DOCUMENTATION = r"""
name: secret
short_description: Get a secret, made once and kept
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Returns the value of a secret.
  - Where it comes from is one decision for the whole inventory, C(langflow_fleet_secret_backend).
  - A value in C(langflow_fleet_secrets) comes before every back-end. It may stand in a vault file.
  - The back-end V(store) makes a secret the first time it is asked for and keeps it in C(langflow_fleet_secrets_dir),
    one file for each, encrypted if the run has a vault password. All hosts and all later runs get the same value.
  - In check mode nothing is stored. A secret that does not exist yet then has a throw-away value.
  - An error names the secret and what to do, and never shows a value.
options:
  _terms:
    description: Names of secrets, made of letters, digits, C(_) and C(-).
    type: list
    elements: str
    required: true
  type:
    description:
      - What to make, and what a given value has to be.
      - V(password) has letters and digits only, so that it needs no quoting in a URL or a file.
      - V(fernet) is a key for symmetric encryption, 32 bytes in URL-safe base64.
    type: str
    choices: [password, fernet, hex, uuid]
    default: password
  length:
    description: Number of characters to make, for V(password) and V(hex).
    type: int
    default: 32
  initial:
    description: Value to keep if there is none yet, instead of a random one.
    type: str
notes:
  - The back-ends other than V(store) do not make secrets. V(variables) knows only C(langflow_fleet_secrets),
    V(env) reads the environment of the controller (E(FLOWFLEET_SECRET_) followed by the name in capitals),
    and V(hashi_vault) reads the key/value store version 2 of HashiCorp Vault at C(langflow_fleet_secret_vault_path)
    through P(community.hashi_vault.vault_kv2_get#lookup), with one key for each secret.
"""

EXAMPLES = r"""
- name: Use the same password on every host
  ansible.builtin.set_fact:
    database_password: "{{ lookup('flowfleet.langflow.secret', 'database_password') }}"

- name: Use a key for symmetric encryption
  ansible.builtin.set_fact:
    secret_key: "{{ lookup('flowfleet.langflow.secret', 'langflow_secret_key', type='fernet') }}"

- name: Keep a value that something else has made
  ansible.builtin.set_fact:
    api_key: "{{ lookup('flowfleet.langflow.secret', 'langflow_api_key', initial=created.json.api_key) }}"
"""

RETURN = r"""
_raw:
  description: The values, in the order of the names.
  type: list
  elements: str
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.vault import is_encrypted
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase
from ansible_collections.flowfleet.langflow.plugins.module_utils._lock import LockTimeout
from ansible_collections.flowfleet.langflow.plugins.module_utils._secrets import (
    SecretError,
    Store,
    check_name,
    generate,
    problem,
)

ENVIRONMENT_PREFIX = "FLOWFLEET_SECRET_"
VAULT_LOOKUP = "community.hashi_vault.vault_kv2_get"


class LookupModule(LookupBase):
    """Ask the back-ends in turn."""

    def run(self, terms: list[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """One value for each name."""
        self.set_options(var_options=variables, direct=kwargs)
        self._variables: Mapping[str, Any] = variables or {}
        try:
            return [self._secret(check_name(term)) for term in terms]
        except (SecretError, LockTimeout) as exc:
            raise AnsibleLookupError(str(exc)) from None

    def _variable(self, name: str, default: Any = None) -> Any:
        """A variable of the inventory with the templates in it resolved."""
        if name not in self._variables:
            return default
        value = self._templar.template(self._variables[name])
        return default if value is None else value

    def _secret(self, name: str) -> str:
        value = self._given(name)
        return self._from_backend(name) if value is None else self._checked(name, value, "langflow_fleet_secrets")

    def _checked(self, name: str, value: Any, source: str) -> str:
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise SecretError(f"secret {name}: its value in {source} is not text")
        fault = problem(self.get_option("type"), str(value))
        if fault is not None:
            raise SecretError(f"secret {name}: its value in {source} {fault}")
        return str(value)

    def _given(self, name: str) -> Any:
        given = self._variables.get("langflow_fleet_secrets")
        if given is None:
            return None
        # Only the dictionary and the one entry are resolved: another secret that is broken is not our business.
        if not isinstance(given, Mapping):
            given = self._templar.template(given)
        if given is None:
            return None
        if not isinstance(given, Mapping):
            raise SecretError("langflow_fleet_secrets must be a dictionary of names and values")
        if name not in given:
            return None
        try:
            return self._templar.template(given[name])
        except AnsibleError as exc:
            kind = type(exc).__name__
            raise SecretError(f"secret {name}: langflow_fleet_secrets.{name} cannot be resolved ({kind})") from None

    def _from_backend(self, name: str) -> str:
        backend = self._variable("langflow_fleet_secret_backend", "store")
        readers: dict[str, Callable[[str], Any]] = {
            "store": self._stored,
            "variables": lambda _name: None,
            "env": lambda wanted: os.environ.get(self._environment_name(wanted)),
            "hashi_vault": self._from_vault,
        }
        if backend not in readers:
            raise SecretError(f"langflow_fleet_secret_backend must be one of {', '.join(readers)}, got {backend!r}")
        value = readers[backend](name)
        places = {
            "variables": f"set langflow_fleet_secrets.{name} in the inventory's vault file",
            "env": f"set {self._environment_name(name)} in the environment of the controller",
            "hashi_vault": f"write the key {name} to the path of langflow_fleet_secret_vault_path",
        }
        if value is None:
            raise SecretError(f"secret {name} is missing: {places[backend]}")
        return self._checked(name, value, f"the back-end {backend}")

    @staticmethod
    def _environment_name(name: str) -> str:
        return ENVIRONMENT_PREFIX + name.upper().replace("-", "_")

    def _make(self, name: str) -> str:
        initial = self.get_option("initial")
        if initial is None:
            return generate(self.get_option("type"), self.get_option("length"))
        return self._checked(name, initial, "the option initial")

    def _stored(self, name: str) -> str:
        vault = getattr(self._loader, "_vault", None)
        usable = vault is not None and bool(vault.secrets)
        store = Store(
            self._directory(name),
            encrypt=vault.encrypt if vault is not None and usable else None,
            decrypt=vault.decrypt if vault is not None and usable else None,
            is_encrypted=is_encrypted,
        )
        if boolean(self._variable("ansible_check_mode", False), strict=False):
            value = store.read(name)
            return self._make(name) if value is None else value
        return store.read_or_create(name, lambda: self._make(name))

    def _directory(self, name: str) -> str:
        directory = self._variable("langflow_fleet_secrets_dir")
        base = self._variable("inventory_dir")
        if directory is None:
            if base is None:
                raise SecretError(
                    f"secret {name}: no inventory directory to keep it in; set langflow_fleet_secrets_dir"
                )
            directory = ".secrets"  # hidden: Ansible reads the other files of an inventory folder as inventories
        path = os.path.expanduser(str(directory))
        return path if os.path.isabs(path) else os.path.join(str(base or os.getcwd()), path)

    def _from_vault(self, name: str) -> Any:
        path = self._variable("langflow_fleet_secret_vault_path")
        if not path:
            raise SecretError(f"secret {name}: the back-end hashi_vault needs langflow_fleet_secret_vault_path")
        lookup = lookup_loader.get(VAULT_LOOKUP, loader=self._loader, templar=self._templar)
        if lookup is None:
            raise SecretError(f"secret {name}: the back-end hashi_vault needs the collection community.hashi_vault")
        options = {}
        mount = self._variable("langflow_fleet_secret_vault_mount")
        if mount:
            options["engine_mount_point"] = mount
        try:
            found = lookup.run([path], variables=self._variables, **options)
        except Exception as exc:  # its message may quote a token or a URL with one
            kind = type(exc).__name__
            raise SecretError(f"secret {name}: HashiCorp Vault gave no answer for {path} ({kind})") from None
        return found[0]["secret"].get(name)
