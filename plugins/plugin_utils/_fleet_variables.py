# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every role would see on every host, computed on the controller: no connection is opened, no secret is made.

The defaults of the roles are overlaid by the inventory and templated per host. What needs facts that are not there yet
is left out (:attr:`HostVariables.deferred`), calls of the secret lookup are replaced by a stand-in of the same shape,
and whatever cannot be templated becomes a problem that names the variable.
"""

from __future__ import annotations

import functools
import os
import re
import typing as t
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible_collections.flowfleet.langflow.plugins.module_utils._preflight import Problem, stand_in

try:  # ansible-core 2.19 and later: only text that says so is a template
    from ansible.template import is_trusted_as_template, trust_as_template
except ImportError:

    def is_trusted_as_template(value: object) -> bool:
        """Tell that every text is a template, as it is before ansible-core 2.19."""
        return isinstance(value, str)

    def trust_as_template(value: t.Any) -> t.Any:
        """Give the text back; before ansible-core 2.19 nothing is tagged."""
        return value


LOOKUP = re.compile(r"\b(?:lookup|query|q)\(\s*(['\"])flowfleet\.langflow\.secret\1\s*,\s*")
LITERAL = re.compile(r"\s*(['\"])([^'\"]*)\1\s*[,)]")
FLEET = "langflow_fleet_"
SPEC_KEYS = ("type", "elements", "choices", "required", "options", "default", "no_log", "aliases")


@dataclass(frozen=True)
class RoleContract:
    """The public face of one role: its defaults and its argument specification."""

    name: str
    defaults: Mapping[str, t.Any]
    options: Mapping[str, Mapping[str, t.Any]]


@dataclass
class HostVariables:
    """The effective variables of one host."""

    name: str
    roles: tuple[str, ...]
    values: dict[str, t.Any] = field(default_factory=dict)
    deferred: set[str] = field(default_factory=set)
    given: frozenset[str] = frozenset()
    secrets: dict[str, set[str]] = field(default_factory=dict)


def _end_of_call(text: str, start: int) -> int:
    """Find the position behind the bracket that closes the call whose arguments begin at `start`."""
    depth, quote = 1, ""
    for position in range(start, len(text)):
        char = text[position]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0:
                return position + 1
    return len(text)


def mask_secret_lookups(text: str) -> tuple[str, set[str]]:
    """Replace each call of the secret lookup in `text` by a literal of the same shape; tell the names it asked for."""
    names: set[str] = set()
    parts: list[str] = []
    position = 0
    while match := LOOKUP.search(text, position):
        end = _end_of_call(text, match.end())
        literal = LITERAL.match(text, match.end(), end)
        name = literal[2] if literal else "computed"
        if literal:
            names.add(name)
        parts += [text[position : match.start()], repr(stand_in(name))]
        position = end
    return "".join(parts) + text[position:], names


def mask(value: t.Any, names: set[str]) -> t.Any:
    """Mask the secret lookups in a whole value and collect the names that it asks for."""
    if isinstance(value, str):
        if "flowfleet.langflow.secret" not in value or not is_trusted_as_template(value):
            return value
        masked, found = mask_secret_lookups(str(value))
        names |= found
        return trust_as_template(masked)
    if isinstance(value, Mapping):
        return {key: mask(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask(item, names) for item in value]
    return value


def trusted(value: t.Any) -> t.Any:
    """Say of every text in a value from this collection's own files that it may be a template."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, Mapping):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [trusted(item) for item in value]
    return value


def load_roles(directory: str, load: Callable[[str], t.Any]) -> dict[str, RoleContract]:
    """Read defaults and argument specification of every role below `directory`."""
    roles: dict[str, RoleContract] = {}
    for name in sorted(os.listdir(directory)):
        defaults_file = os.path.join(directory, name, "defaults", "main.yml")
        spec_file = os.path.join(directory, name, "meta", "argument_specs.yml")
        defaults = load(defaults_file) if os.path.isfile(defaults_file) else {}
        specs = (load(spec_file) or {}).get("argument_specs", {}) if os.path.isfile(spec_file) else {}
        options: dict[str, t.Any] = {}
        for entry, spec in specs.items():
            for option, body in (spec.get("options") or {}).items():
                # What another entry point requires is handed over by the role that calls it.
                options[option] = body if entry == "main" else {**body, "required": False}
        roles[name] = RoleContract(name, trusted(defaults or {}), options)
    return roles


def _texts(value: t.Any) -> Iterable[str]:
    """Give every text inside a value."""
    if isinstance(value, str):
        yield str(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def rests_on(name: str, wanted: re.Pattern[str], variables: Mapping[str, t.Any], seen: set[str] | None = None) -> bool:
    """Tell whether the templates behind a variable mention `wanted`, directly or through other variables."""
    seen = seen if seen is not None else set()
    if name in seen:
        return False
    seen.add(name)
    for text in _texts(variables.get(name)):
        if "{{" not in text and "{%" not in text:
            continue
        if wanted.search(text):
            return True
        words = set(re.findall(r"[A-Za-z_]\w*", text)) & variables.keys()
        if any(rests_on(word, wanted, variables, seen) for word in words if word != "hostvars"):
            return True
    return False


def plain(value: t.Any) -> t.Any:
    """Copy a templated value into plain containers, so that nothing is left to be templated later."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if type(value).__name__ in ("EncryptedString", "AnsibleVaultEncryptedUnicode"):
        return str(value)
    return value


def _spec(option: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Keep of a documented option what the validator understands, at every depth."""
    spec = {key: option[key] for key in SPEC_KEYS if key in option and key != "options"}
    spec.setdefault("type", "str")
    if "options" in option:
        spec["options"] = {name: _spec(item) for name, item in option["options"].items()}
    if "default" in spec and spec.get("required"):
        del spec["default"]
    return spec


def validate(role: RoleContract, host: HostVariables) -> Iterable[Problem]:
    """Check the values of one role on one host against its argument specification, one variable at a time."""
    for name, option in role.options.items():
        if name in host.deferred:
            continue
        if name not in host.values:
            if option.get("required"):
                yield Problem(
                    name, f"is required by role {role.name} and not set", f"set {name} in the inventory", (host.name,)
                )
            continue
        result = ArgumentSpecValidator({name: _spec(option)}).validate({name: host.values[name]})
        if result.error_messages:
            # The messages quote the value: never that of a secret.
            text = "; ".join(result.error_messages)
            hidden = {str(item) for item in _texts(host.values[name])} if option.get("no_log") else set()
            text = str(remove_values(text, hidden | set(result._no_log_values)))
            yield Problem(name, _sentence(text), f"see {name} in the README of role {role.name}", (host.name,))
        else:
            host.values[name] = result.validated_parameters[name]


def _sentence(text: str) -> str:
    """Shorten Ansible's own wording to what an operator needs."""
    text = re.sub(r"<class '(?:ansible[\w.]*\.)?_?(?:Ansible)?(?:Tagged)?(\w+)'>", lambda match: match[1].lower(), text)
    return text.rstrip(". ")


def collect(
    hosts: Mapping[str, tuple[str, ...]],
    raw_variables: Callable[[str], Mapping[str, t.Any]],
    hostvars: Mapping[str, t.Any],
    roles: Mapping[str, RoleContract],
    templar: t.Any,
    extra: Iterable[str] = (),
    unknown: Iterable[str] = (),
) -> tuple[dict[str, HostVariables], list[Problem]]:
    """Compute and validate the variables of every host.

    `hosts` says which roles run where, `unknown` names variables that are known to be of no use (a tier without hosts):
    what rests on one of them, or on facts, is left out instead of reported.
    """
    found: dict[str, HostVariables] = {}
    problems: list[Problem] = []
    defaults = {name: value for role in roles.values() for name, value in role.defaults.items()}
    # Names with two underscores are a role's own, known when it runs.
    later = ("ansible_facts", "ansible_local", r"__\w+", *unknown)
    not_yet = re.compile(rf"\b(?:{'|'.join(later)})\b")
    for name, role_names in hosts.items():
        given = dict(raw_variables(name))
        secrets: dict[str, set[str]] = {}
        variables = {
            key: mask(value, secrets.setdefault(key, set()))
            for key, value in {**defaults, **given}.items()
            if key not in ("groups", "hostvars", "vars")
        }
        variables |= {"hostvars": hostvars, "groups": given.get("groups", {}), "ansible_check_mode": True}
        # What was computed takes the place of its template, or each value that rests on it would compute it again.
        computed = dict(variables)
        engine = templar.copy_with_new_env(available_variables=computed)
        host = HostVariables(name, role_names, given=frozenset(given), secrets=secrets)
        found[name] = host
        wanted = {
            item for role in role_names if role in roles for item in (*roles[role].defaults, *roles[role].options)
        }
        wanted |= {item for item in variables if item.startswith(FLEET)} | set(extra)
        # Those of the fleet first: the others rest on them.
        for variable in sorted(wanted & variables.keys(), key=lambda item: (not item.startswith(FLEET), item)):
            try:
                host.values[variable] = plain(engine.template(variables[variable]))
                computed[variable] = host.values[variable]
            except AnsibleUndefinedVariable as error:
                if rests_on(variable, not_yet, variables):
                    host.deferred.add(variable)
                else:
                    problems.append(_untemplated(variable, error, name, "define it, or give a default(...)"))
            except AnsibleError as error:
                problems.append(
                    _untemplated(variable, error, name, "correct the expression, or supply the vault password")
                )
        for role_name in role_names:
            if role_name in roles:
                problems += validate(roles[role_name], host)
    return found, problems


def _untemplated(variable: str, error: AnsibleError, host: str, fix: str) -> Problem:
    """Describe a value that cannot be computed; the first line of Ansible's message is enough."""
    reason = str(getattr(error, "message", "") or error).strip().splitlines()[0]
    return Problem(variable, f"cannot be computed: {reason.rstrip('.')}", fix, (host,))


def public_names(roles: Mapping[str, RoleContract], collection: str) -> frozenset[str]:
    """Give every public variable of the roles and of the fleet."""
    return frozenset(name for role in roles.values() for name in (*role.defaults, *role.options)) | fleet_names(
        collection
    )


@functools.cache
def fleet_names(collection: str) -> frozenset[str]:
    """Give the fleet-wide variables: those names that roles, playbooks or plugins mention."""
    names: set[str] = set()
    for folder in ("roles", "playbooks", "plugins"):
        for directory, _dummy, files in os.walk(os.path.join(collection, folder)):
            for file in files:
                if file.endswith((".yml", ".j2", ".py")):
                    with open(os.path.join(directory, file), encoding="utf-8") as stream:
                        names |= set(re.findall(r"\blangflow_fleet_\w+", stream.read()))
    return frozenset(names)
