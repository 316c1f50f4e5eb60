# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Say what each host of a fleet shows to Prometheus."""

from __future__ import annotations

DOCUMENTATION = r"""
name: exporter_modules
short_description: Say what each host of a fleet shows to Prometheus
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - From the groups of the inventory alone, so that exporters and the targets of Prometheus always agree.
positional: hostvars
options:
  _input:
    description: The variable C(groups).
    type: dict
    required: true
  hostvars:
    description: The variable of the same name. Facts and C(exporters_archives) of hosts are read from it.
    type: dict
    required: true
  patroni:
    description: Whether the databases form a cluster.
    type: bool
    default: false
  proxy:
    description: Whether clients of the data have a service proxy on their own host.
    type: bool
    default: false
  pgbouncer:
    description: Whether the Langflow hosts pool connections. The exporter of Debian 12 is too old for it.
    type: bool
    default: false
  tracing:
    description: Whether services send traces, through agents on their hosts and gateways on those that monitor.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Know what this host shows
  ansible.builtin.set_fact:
    modules: "{{ (groups | flowfleet.langflow.exporter_modules(hostvars))[inventory_hostname] }}"
  # -> ["node", "nginx", "gateway"]
"""

RETURN = r"""
_value:
  description: Names of modules for each host, in the words of role exporters.
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

# Groups in the order in which hosts appear, and what their hosts show whatever else is set.
MODULES = {
    "loadbalancers": ("nginx", "gateway"),
    "langflow": (),
    "postgresql": ("postgres",),
    "redis": ("redis_cache", "redis_queue"),
    "etcd": ("etcd",),
    "celery": ("celery",),
    "backup": (),
    "gpu": ("dcgm",),
    "monitoring": (),
    "logging": ("elasticsearch",),
}
# Groups whose services send traces, by an agent on the same host.
TRACED = ("loadbalancers", "langflow", "celery")
OLDEST_WITH_PGBOUNCER_EXPORTER = 13


def _pool_is_shown(variables: Mapping[str, Any]) -> bool:
    """Tell whether there is a program that shows what PgBouncer does."""
    if "pgbouncer" in (variables.get("exporters_archives") or {}):
        return True
    facts = variables.get("ansible_facts") or {}
    release = str(facts.get("distribution_major_version") or OLDEST_WITH_PGBOUNCER_EXPORTER).partition(".")[0]
    return release.isdigit() and int(release) >= OLDEST_WITH_PGBOUNCER_EXPORTER


def exporter_modules(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    patroni: bool = False,
    proxy: bool = False,
    pgbouncer: bool = False,
    tracing: bool = False,
) -> dict[str, list[str]]:
    """Names of modules for each host."""
    if not isinstance(groups, Mapping) or not isinstance(hostvars, Mapping):
        raise AnsibleFilterError("exporter_modules: takes the variables groups and hostvars themselves")
    found: dict[str, list[str]] = {}
    for group, modules in MODULES.items():
        for name in groups.get(group) or ():
            found.setdefault(str(name), ["node"]).extend(modules)
    if patroni:
        for name in groups.get("postgresql") or ():
            found[name].append("patroni")
    if proxy:
        workers = [name for name in groups.get("celery") or () if groups.get("redis")]
        for name in dict.fromkeys([*(groups.get("langflow") or ()), *workers]):
            found[name].append("haproxy")
    if pgbouncer:
        for name in groups.get("langflow") or ():
            if _pool_is_shown(hostvars[name]):
                found[name].append("pgbouncer")
    if tracing:
        for name in dict.fromkeys(name for group in TRACED for name in groups.get(group) or ()):
            found[name].append("otel_agent")
        for name in groups.get("monitoring") or ():
            found[name].extend(("otel_gateway", "span_metrics"))
    return found


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name them for the template engine."""
        return {"exporter_modules": exporter_modules}
