# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Refuse a fleet that cannot work, before any host is changed; documentation is in the module of the same name."""

from __future__ import annotations

import os
import typing as t
from collections.abc import Callable, Iterable, Mapping

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as ansible_version
from ansible_collections.flowfleet.langflow.plugins.module_utils._preflight import (
    BACKUP,
    LOGGING,
    MONITORING,
    OPERATIONS,
    POSTGRESQL,
    ROLE_DATA,
    S3,
    SITE,
    TIERS,
    TRACED_TIERS,
    Fleet,
    Host,
    Problem,
    fleet_problems,
    host_problems,
    merged,
    stand_in,
    summary,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._preflight_data import data_lines, data_problems
from ansible_collections.flowfleet.langflow.plugins.plugin_utils._fleet_variables import (
    RoleContract,
    collect,
    load_roles,
    public_names,
)

ROLES_DIRECTORY = os.path.normpath(os.path.join(os.path.dirname(__file__), "..", "..", "roles"))
STATE_VARIABLE = "__preflight_host"
DATA_VARIABLE = "__preflight_data"
GPU_VARIABLE = "__preflight_gpu"
EXPORTERS_ROLE, GRAFANA_ROLE = "exporters", "grafana"
SHIPPER_ROLE, COLLECTOR_ROLE, LOGSTASH_ROLE, KIBANA_ROLE = "log_shipper", "otel_collector", "logstash", "kibana"
EXTRA_VARIABLES = ("ansible_host", STATE_VARIABLE, DATA_VARIABLE, GPU_VARIABLE)
HOST_LISTS = {
    "loadbalancers": "langflow_fleet_lb_hosts",
    "langflow": "langflow_fleet_app_hosts",
    "postgresql": "langflow_fleet_database_hosts",
    "redis": "langflow_fleet_redis_hosts",
    "etcd": "langflow_fleet_etcd_hosts",
    "backup": "langflow_fleet_backup_hosts",
    "celery": "langflow_fleet_celery_hosts",
    "gpu": "langflow_fleet_gpu_hosts",
    "monitoring": "langflow_fleet_monitoring_hosts",
    "logging": "langflow_fleet_logging_hosts",
}


def locked_versions(roles_directory: str) -> frozenset[str]:
    """Releases for which the collection carries a lock file."""
    folder = os.path.join(roles_directory, "langflow", "files")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = {
        name.removeprefix("requirements-").removesuffix(".txt") for name in names if name.startswith("requirements-")
    }
    return frozenset(name for name in found if name[:1].isdigit())


def role_data(roles_directory: str, load: Callable[[str], t.Any]) -> dict[str, t.Any]:
    """Read what the checks share with role langflow."""
    found: dict[str, t.Any] = {}
    for field, (file, variable) in ROLE_DATA.items():
        content = load(os.path.join(roles_directory, "langflow", "vars", file)) or {}
        found[field] = content[variable]
    return found


def _add_logging(tiers: Mapping[str, list[str]], hosts: dict[str, tuple[str, ...]], hostvars: t.Any) -> None:
    """Add the roles for logs and traces, which follow from more than one group."""

    def wished(name: str, variable: str, otherwise: bool) -> bool:
        return bool(boolean(hostvars.raw_get(name).get(variable, otherwise), strict=False))

    keepers, gateways = tiers.get(LOGGING, []), tiers.get(MONITORING, [])
    if keepers:
        # Every host sends what it says.
        for name in hosts:
            hosts[name] = (*hosts[name], SHIPPER_ROLE)
        for name in keepers:
            if wished(name, "langflow_fleet_logstash", False):
                hosts[name] = (*hosts[name], LOGSTASH_ROLE)
        if wished(keepers[0], "langflow_fleet_kibana", True):
            hosts[keepers[0]] = (*hosts[keepers[0]], KIBANA_ROLE)
    elsewhere = any(hostvars.raw_get(name).get("otel_collector_otlp_endpoint") for name in gateways)
    if gateways and (keepers or elsewhere):
        traced = [name for tier in (*TRACED_TIERS, MONITORING) for name in tiers.get(tier, ())]
        for name in dict.fromkeys(traced):
            if wished(name, "langflow_fleet_tracing", True):
                hosts[name] = (*hosts[name], COLLECTOR_ROLE)


def keeps_in_bucket(servers: Iterable[str], hostvars: t.Any) -> bool:
    """Tell whether a server keeps its backups in a bucket; what cannot be computed is reported by whoever uses it."""
    try:
        return any(hostvars[name].get("backup_repository_type") == S3 for name in servers)
    except AnsibleError:
        return False


def build_fleet(
    tiers: Mapping[str, list[str]],
    tier_roles: Mapping[str, list[str]],
    every_host: list[str],
    hostvars: t.Any,
    load: Callable[[str], t.Any],
    templar: t.Any,
    resolve: Callable[[str], str],
    roles_directory: str = ROLES_DIRECTORY,
    operation: str = SITE,
) -> tuple[Fleet, list[Problem], dict[str, Mapping[str, t.Any]]]:
    """Compute the fleet as the checks see it, what is wrong with single variables, and the hosts' measured states."""
    roles: dict[str, RoleContract] = load_roles(roles_directory, load)
    names = list(dict.fromkeys(name for tier in TIERS for name in tiers.get(tier, ())))
    where = {name: frozenset(tier for tier in TIERS if name in tiers.get(tier, ())) for name in names}
    hosts = {
        name: (*every_host, *(role for tier in TIERS if tier in where[name] for role in tier_roles.get(tier, ())))
        for name in names
    }
    if tiers.get(BACKUP) or keeps_in_bucket(tiers.get(POSTGRESQL, ()), hostvars):
        # A database that is backed up runs the client of it.
        for name in tiers.get(POSTGRESQL, ()):
            hosts[name] = (*hosts[name], *(role for role in tier_roles.get(BACKUP, ()) if role not in hosts[name]))
    empty = [HOST_LISTS[tier] for tier in TIERS if not tiers.get(tier)]
    if tiers.get(MONITORING):
        # A fleet that is looked at shows something on every host; Grafana is a wish of its own.
        for name in names:
            hosts[name] = (*hosts[name], EXPORTERS_ROLE)
        for name in tiers[MONITORING]:
            if boolean(hostvars.raw_get(name).get("langflow_fleet_grafana", False), strict=False):
                hosts[name] = (*hosts[name], GRAFANA_ROLE)
    _add_logging(tiers, hosts, hostvars)
    variables, problems = collect(hosts, hostvars.raw_get, hostvars, roles, templar, EXTRA_VARIABLES, empty)

    states, data = (
        {
            name: host.values[variable]["state"]
            for name, host in variables.items()
            if "state" in (host.values.get(variable) or {})
        }
        for variable in (STATE_VARIABLE, DATA_VARIABLE)
    )
    fleet = Fleet(
        hosts={
            name: Host(
                name,
                where[name],
                {"langflow_fleet_address": host.values.get("ansible_host"), **host.values},
                host.given,
            )
            for name, host in variables.items()
        },
        tiers={tier: tuple(tiers.get(tier, ())) for tier in TIERS},
        public_variables=public_names(roles, os.path.dirname(roles_directory)),
        locked_versions=locked_versions(roles_directory),
        secrets={
            name: {
                # Only what the value really comes from: a default may ask for a secret in one mode and not in another.
                variable: frozenset(name for name in names if stand_in(name) in str(host.values[variable]))
                for variable, names in host.secrets.items()
                if variable in host.values
            }
            for name, host in variables.items()
        },
        environment=os.environ,
        ansible_version=ansible_version,
        operation=operation,
        data=data,
        file_exists=lambda path: os.path.exists(resolve(path)),
        **role_data(roles_directory, load),
    )
    return fleet, problems, states


class ActionModule(ActionBase):
    """Run on the controller only; no connection is opened."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Check the inventory, or judge what was measured on the hosts."""
        result = super().run(tmp, task_vars)
        validated, arguments = self.validate_argument_spec(
            {
                "step": {"type": "str", "choices": ["inventory", "hosts"], "required": True},
                "tiers": {"type": "dict", "required": True},
                "every_host": {"type": "list", "elements": "str", "default": []},
                "operation": {"type": "str", "choices": list(OPERATIONS), "default": SITE},
            }
        )
        task_vars = task_vars or {}
        groups = task_vars.get("groups", {})
        fleet, problems, states = build_fleet(
            {tier: list(groups.get(tier, ())) for tier in TIERS},
            arguments["tiers"],
            arguments["every_host"],
            task_vars["hostvars"],
            self._load,
            self._templar,
            self._loader.path_dwim,
            operation=arguments["operation"],
        )
        if arguments["step"] == "inventory":
            problems = merged([*problems, *fleet_problems(fleet), *data_problems(fleet)])
            lines: list[str] = []
        else:
            # With facts, values are known that the first step could not compute.
            problems = merged([*problems, *fleet_problems(fleet), *data_problems(fleet), *host_problems(fleet, states)])
            problems += [
                Problem(
                    name,
                    "did not answer, so nothing is known about it",
                    "make it reachable (ssh, become) or take it out of the inventory",
                )
                for name in fleet.hosts
                if name not in states and name in task_vars.get("ansible_play_hosts_all", ())
            ]
            lines = [*summary(fleet, states, problems), *data_lines(fleet)]
        for line in lines:
            self._display.display(line)
        for problem in problems:
            self._display.display(problem.line(), color="red")
        result.update(changed=False, hosts=len(fleet.hosts), problems=[problem.line() for problem in problems])
        if problems:
            result.update(failed=True, msg=f"Preflight: {len(problems)} problem(s), listed above. No host was changed.")
        else:
            result.update(msg=f"Preflight: {len(fleet.hosts)} hosts, no problem.", table=lines)
        return result

    def _load(self, path: str) -> t.Any:
        """Read one YAML file of the collection."""
        return self._loader.load_from_file(path)
