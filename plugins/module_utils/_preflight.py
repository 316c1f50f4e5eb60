# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Everything that can be known to be wrong before a host is changed.

Each check is a function from a :class:`Fleet` (the effective variables of every host) or from one host's measured state
to problems. Nothing here talks to a host, reads a clock or prints. A problem always names the variable or the group at
fault and the fix.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import fnmatch
import hashlib
import ipaddress
import re
import typing as t
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ansible_collections.flowfleet.langflow.plugins.module_utils import _celery_plan
from ansible_collections.flowfleet.langflow.plugins.module_utils._version_edges import (
    REFUSE,
    goes_back,
    judge,
    version_tuple,
)

LOADBALANCERS, LANGFLOW, POSTGRESQL, REDIS, ETCD, BACKUP, CELERY, GPU, MONITORING, LOGGING = TIERS = (
    "loadbalancers",
    "langflow",
    "postgresql",
    "redis",
    "etcd",
    "backup",
    "celery",
    "gpu",
    "monitoring",
    "logging",
)
# Without these there is no cluster; the others are wanted by a mode, or not at all.
NEEDED_TIERS = (LOADBALANCERS, LANGFLOW, POSTGRESQL, REDIS)
STANDALONE, PATRONI, SENTINEL = "standalone", "patroni", "sentinel"
S3 = "s3"
# Tiers that come as one server or as a cluster: the variable that says it, and what it is called then.
CLUSTER_MODES = ((POSTGRESQL, "postgresql_mode", PATRONI), (REDIS, "redis_mode", SENTINEL))
CLUSTER_SIZE = 3
ETCD_SIZES = (1, 3, 5, 7)
# Where traces begin.
TRACED_TIERS = (LOADBALANCERS, LANGFLOW, CELERY)
# What a host may show to Prometheus: the local port of each program, where it is one that nothing else has.
EXPORTERS = {
    "node": 9100,
    "nginx": 9113,
    "gateway": "exporters_gateway_port",
    "haproxy": None,
    "postgres": 9187,
    "patroni": None,
    "etcd": None,
    "pgbackrest": 9854,
    "redis_cache": 9121,
    "redis_queue": 9122,
    "pgbouncer": 9127,
    "celery": None,
    "dcgm": "exporters_dcgm_port",
    "elasticsearch": 9114,
    "otel_agent": None,
    "otel_gateway": None,
    "span_metrics": None,
}
# Ports of a monitoring host, and the unit that has each.
MONITORING_PORTS = (
    ("prometheus_port", "langflow-prometheus.service"),
    ("prometheus_otlp_port", "langflow-otlp.service"),
    ("alertmanager_port", "langflow-alertmanager.service"),
    ("blackbox_port", "langflow-blackbox.service"),
)
# Ports of what carries and keeps logs and traces, and the unit that has each.
LOGGING_PORTS = (
    # Or the gate before a store that has no TLS of its own.
    ("elasticsearch_http_port", "elasticsearch*.service"),
    ("elasticsearch_transport_port", "elasticsearch.service"),
    ("kibana_port", "kibana.service"),
    ("logstash_http_port", "logstash.service"),
    ("logstash_api_port", "logstash.service"),
)
AGENT_PORTS = ("otel_collector_agent_port", "otel_collector_agent_metrics_port")
GATEWAY_PORTS = (
    "otel_collector_gateway_port",
    "otel_collector_gateway_metrics_port",
    "otel_collector_span_metrics_port",
)
COLLECTOR_UNITS = "otel*.service"
# What a namespace of data streams may be made of.
NAMESPACE = re.compile(r"[a-z0-9][a-z0-9_.]{0,99}")
# Archives that are fetched, each with the checksum that it has to have.
COLLECTOR = "otel_collector_archive"
ARCHIVES = ("elasticsearch_archive", "logstash_archive", "kibana_archive", COLLECTOR)
# Half of the memory is for the file system's cache, which searches read from.
HEAP_SHARE = 0.5
# What a receiver of alerts of each type needs, and what it may say about what it is told.
RECEIVER_NEEDS = {
    "webhook": ("url",),
    "email": ("to",),
    "slack": ("url", "channel"),
    "pagerduty": ("routing_key",),
}
ALERT_TIERS = ("seconds", "minutes", "hours")
ALERT_SEVERITIES = ("page", "ticket", "info")
# What a client talks to on its own host when a proxy leads there: its address and port, and the port of the proxy.
PROXIED = (
    ("langflow_database_host", "langflow_database_port", "service_proxy_database_port"),
    ("langflow_redis_cache_host", "langflow_redis_cache_port", "service_proxy_redis_cache_port"),
    ("langflow_redis_queue_host", "langflow_redis_queue_port", "service_proxy_redis_queue_port"),
)

COLLECTION = "flowfleet.langflow"
# What the playbook is about to do. `rollback` returns to what a node has run before, `restart` and `maintenance` keep
# the release: nothing is asked about it then.
SITE, UPGRADE, *_UNJUDGED = OPERATIONS = ("site", "upgrade", "rollback", "restart", "maintenance")
JUDGED_OPERATIONS = {SITE, UPGRADE}

MINIMUM_ANSIBLE = (2, 18)
MINIMUM_POSTGRESQL = 15
MINIMUM_PYTHON = (3, 11)
MINIMUM_SYSTEMD = 252
SUPPORTED_SYSTEMS = {("debian", "12"), ("debian", "13"), ("ubuntu", "24.04")}
PATRONI_SYSTEMS = {("debian", "13")}
ETCD_SYSTEMS = {("debian", "13"), ("ubuntu", "24.04")}
MONITORING_SYSTEMS = {("debian", "13")}
MINIMUM_SECRET_LENGTH = 12
WEAK_SECRETS = {"admin", "changeme", "default", "langflow", "password", "postgres", "redis", "secret"}
MAXIMUM_CLOCK_SKEW = 30.0

# Settings that break a cluster whatever their value is meant to do.
REFUSED_SETTINGS = {
    "AUTO_LOGIN": "hands every visitor the account of the superuser",
    "CELERY_ENABLED": "breaks the ingestion of knowledge bases and runs no flow",
    "DANGEROUSLY_ALLOW_MULTI_WORKER_WITHOUT_SHARED_QUEUE": "loses builds as soon as a second worker exists",
    "GUNICORN_PRELOAD": "cannot boot while automatic login is off",
}
NETWORK_LISTS = (
    "common_firewall_clients",
    "common_firewall_operators",
    "common_firewall_ssh_from",
    "nginx_limit_exempt",
    "nginx_trusted_proxies",
    "postgresql_client_addresses",
)
# Timeouts from the inside out, each with what is added to it; an outer one has to be the longer one.
TIMEOUT_CHAIN = (
    (LANGFLOW, "langflow_request_timeout", ""),
    (LANGFLOW, "langflow_worker_timeout", ""),
    (LOADBALANCERS, "nginx_request_timeout", "nginx_timeout_margin"),
)
# Data of role langflow that the checks share with it: file and variable for each field of Fleet.
ROLE_DATA = {
    "known_settings": ("settings.yml", "__langflow_known_settings"),
    "managed_settings": ("main.yml", "__langflow_managed_settings"),
    "version_edges": ("version_edges.yml", "__langflow_version_edges"),
}
UPLOAD_LIMIT = "langflow_max_upload_mb"
# Back-ends that cannot make a secret, and where each one has to find it.
SECRET_PLACES = {
    "variables": ("langflow_fleet_secrets.{name}", "add {name} to langflow_fleet_secrets in the vault file"),
    "env": ("FLOWFLEET_SECRET_{NAME}", "set FLOWFLEET_SECRET_{NAME} in the environment of the controller"),
}
SECRET_BACKENDS = ("store", "variables", "env", "hashi_vault")
DNS_NAME = re.compile(r"(?=.{1,253}$)(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
SHA256 = re.compile(r"(sha256:)?[0-9a-f]{64}", re.I)


@dataclass(frozen=True)
class Problem:
    """One thing to correct: `subject` is the variable or the group; no `hosts` means the whole fleet."""

    subject: str
    message: str
    fix: str
    hosts: tuple[str, ...] = ()

    def line(self) -> str:
        """Show the problem as one line."""
        where = f" [{', '.join(self.hosts)}]" if self.hosts else ""
        return f"{self.subject}{where}: {self.message}. Fix: {self.fix}."


@dataclass(frozen=True)
class Host:
    """One host: its groups, its effective variables, and the names that the inventory (not a default) gives."""

    name: str
    tiers: frozenset[str]
    values: Mapping[str, t.Any]
    given: frozenset[str] = frozenset()

    @property
    def address(self) -> str:
        """The address that the other hosts use."""
        return str(self.values.get("langflow_fleet_address") or self.name)

    def number(self, name: str) -> float | None:
        """Give a variable as a number, or nothing when it is not known or not a number."""
        try:
            return float(self.values[name])
        except (KeyError, TypeError, ValueError):
            return None

    def text(self, name: str) -> str:
        """Give a variable as text; empty when it is not known."""
        value = self.values.get(name)
        return "" if value is None else str(value)

    def chosen(self, name: str) -> bool:
        """Tell whether the inventory itself gives a value that is not empty."""
        return name in self.given and bool(self.values.get(name))


@dataclass
class Fleet:
    """The whole inventory as the checks see it."""

    hosts: Mapping[str, Host]
    tiers: Mapping[str, tuple[str, ...]]
    public_variables: frozenset[str] = frozenset()
    known_settings: Mapping[str, list[str]] = field(default_factory=dict)
    managed_settings: Mapping[str, str] = field(default_factory=dict)
    version_edges: list[Mapping[str, str]] = field(default_factory=list)
    operation: str = SITE
    locked_versions: frozenset[str] = frozenset()
    secrets: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    ansible_version: str = "99"
    file_exists: Callable[[str], bool] = bool
    environment: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Mapping[str, t.Any]] = field(default_factory=dict)

    def tier(self, name: str) -> list[Host]:
        """Give the hosts of a tier."""
        return [self.hosts[host] for host in self.tiers.get(name, ()) if host in self.hosts]


@dataclass(frozen=True)
class Listener:
    """A port that one of our services takes on a host."""

    port: int
    variable: str
    units: tuple[str, ...]


def stand_in(name: str) -> str:
    """Give a value of the shape of a generated secret (any kind) that is nobody's secret."""
    return base64.urlsafe_b64encode(hashlib.sha256(f"stand-in {name}".encode()).digest()).decode()


def merged(problems: Iterable[Problem]) -> list[Problem]:
    """Join the same finding of several hosts into one problem; the order of the first sight stays."""
    hosts: dict[tuple[str, str, str], list[str]] = {}
    for item in problems:
        known = hosts.setdefault((item.subject, item.message, item.fix), [])
        known.extend(name for name in item.hosts if name not in known)
    return [Problem(subject, message, fix, tuple(names)) for (subject, message, fix), names in hosts.items()]


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Give the known name that looks most like `name`; empty when none does."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return found[0] if found else ""


def misspelled(name: str, known: Iterable[str]) -> str:
    """Give the known name that differs from `name` in one word only, and there in little; empty when there is none."""
    words = name.split("_")
    for candidate in sorted(known):
        others = candidate.split("_")
        if "".join(words) == "".join(others):
            return candidate
        different = [pair for pair in zip(words, others, strict=False) if pair[0] != pair[1]]
        if len(words) == len(others) and len(different) == 1 and nearest(different[0][0], [different[0][1]], 0.75):
            return candidate
    return ""


def is_fernet_key(value: str) -> bool:
    """Tell whether a text is a Fernet key: URL-safe base64 of exactly 32 bytes."""
    try:
        return len(base64.urlsafe_b64decode(value.encode("ascii"))) == 32 and "+" not in value and "/" not in value
    except (binascii.Error, UnicodeEncodeError, ValueError):
        return False


# --- the shape of the fleet -------------------------------------------------------------------------------------------


def check_ansible_version(fleet: Fleet) -> Iterator[Problem]:
    """The collection is written for and tested on current ansible-core."""
    if version_tuple(fleet.ansible_version) < MINIMUM_ANSIBLE:
        wanted = ".".join(map(str, MINIMUM_ANSIBLE))
        yield Problem(
            "ansible_version",
            f"ansible-core {fleet.ansible_version} is older than {wanted}",
            f"install ansible-core {wanted} or newer",
        )


def check_tiers(fleet: Fleet) -> Iterator[Problem]:
    """Every tier has a host, or a server of the operator's own takes its place."""
    own: dict[str, tuple[str, ...]] = {
        POSTGRESQL: ("langflow_database_host",),
        REDIS: ("langflow_redis_cache_host", "langflow_redis_queue_host"),
    }
    for tier in NEEDED_TIERS:
        if fleet.tiers.get(tier):
            continue
        names = own.get(tier, ())
        apps = fleet.tier(LANGFLOW)
        if names and apps and all(host.chosen(name) for host in apps for name in names):
            continue
        other = f", or set {' and '.join(names)} to a server of your own" if names else ""
        yield Problem(tier, f"group {tier} has no host", f"add a host to group {tier}{other}")


def check_data_hosts(fleet: Fleet) -> Iterator[Problem]:
    """A data tier is one server, or a cluster that can lose one: anything between is separate data, or no majority."""
    for tier, variable, cluster in CLUSTER_MODES:
        names = fleet.tiers.get(tier, ())
        hosts = f"group {tier} has {len(names)} host{'s' * (len(names) != 1)} ({', '.join(names)})"
        modes = {host.text(variable) or STANDALONE for host in fleet.tier(tier)}
        if len(modes) > 1:
            message = f"differs between the hosts of group {tier} ({', '.join(sorted(modes))})"
            yield Problem(variable, message, f"set it once, in the variables of group {tier}")
        elif modes == {cluster} and len(names) < CLUSTER_SIZE:
            message = f"is {cluster}, and {hosts}: with fewer than {CLUSTER_SIZE} none can be lost"
            yield Problem(variable, message, f"add hosts to group {tier}, or set {variable} to {STANDALONE}")
        elif modes == {STANDALONE} and len(names) > 1:
            message = f"{hosts}, which would be {len(names)} separate servers with separate data"
            fix = (
                f"keep exactly one host in group {tier}, or have {CLUSTER_SIZE} or more and set {variable} to {cluster}"
            )
            yield Problem(tier, message, fix)


def check_etcd(fleet: Fleet) -> Iterator[Problem]:
    """A database cluster agrees in etcd who leads; an even number of members survives no more than one less."""
    names = fleet.tiers.get(ETCD, ())
    if not names:
        if any(host.text("postgresql_mode") == PATRONI for host in fleet.tier(POSTGRESQL)):
            message = "group etcd has no host, and with postgresql_mode patroni the servers agree in it who leads"
            yield Problem(ETCD, message, "add three hosts to group etcd; they may be those of group postgresql")
    elif len(names) not in ETCD_SIZES:
        message = f"group etcd has {len(names)} hosts ({', '.join(names)})"
        yield Problem(ETCD, message, "have 3, 5 or 7 hosts in it (1 where nothing has to survive)")


def check_cluster_addresses(fleet: Fleet) -> Iterator[Problem]:
    """Members of some clusters know each other by IP address only."""
    members = ((ETCD, "members of etcd"), (REDIS, "sentinels"), (MONITORING, "members of Alertmanager's cluster"))
    for tier, needed in members:
        for host in fleet.tier(tier):
            if tier == REDIS and host.text("redis_mode") != SENTINEL:
                continue
            if tier == MONITORING and len(fleet.tier(tier)) < 2:
                continue
            try:
                ipaddress.ip_address(host.address)
            except ValueError:
                message = f"'{host.address}' is a name, and {needed} know each other by IP address"
                fix = "set langflow_fleet_address to the IP address of the host"
                yield Problem("langflow_fleet_address", message, fix, (host.name,))


def check_names(fleet: Fleet) -> Iterator[Problem]:
    """A host with the name of a tier makes every pattern ambiguous."""
    for name in fleet.hosts:
        if name in TIERS:
            yield Problem(
                name,
                f"is the name of a group and of a host, so that 'hosts: {name}' means both",
                "rename the host",
                (name,),
            )


def check_addresses(fleet: Fleet) -> Iterator[Problem]:
    """Two names for one machine would be configured twice, each run undoing the other."""
    seen: dict[str, list[str]] = defaultdict(list)
    for host in fleet.hosts.values():
        seen[host.address].append(host.name)
    for address, names in seen.items():
        if len(names) > 1:
            yield Problem(
                "langflow_fleet_address",
                f"{address} is the address of {len(names)} hosts",
                "give each host its own langflow_fleet_address, or put one host name into several groups",
                tuple(names),
            )


def check_domain(fleet: Fleet) -> Iterator[Problem]:
    """The public name goes into certificates, redirects and cookies."""
    for host in fleet.hosts.values():
        domain = host.text("langflow_fleet_domain")
        if "langflow_fleet_domain" in host.values and not DNS_NAME.fullmatch(domain):
            yield Problem(
                "langflow_fleet_domain",
                f"'{domain}' is not a DNS name",
                "give the bare public name, such as flows.example.com",
                (host.name,),
            )


def check_misspelled_variables(fleet: Fleet) -> Iterator[Problem]:
    """A misspelled variable would be ignored in silence; a name that resembles no other is the operator's own."""
    prefixes = tuple({f"{name.split('_')[0]}_" for name in fleet.public_variables})
    for host in fleet.hosts.values():
        for name in sorted(host.given - fleet.public_variables):
            if name.startswith(prefixes) and (close := misspelled(name, fleet.public_variables)):
                message = f"no role reads it; {close} looks like what was meant"
                yield Problem(name, message, f"rename it to {close}", (host.name,))


# --- ports and addresses ----------------------------------------------------------------------------------------------


def listeners(host: Host) -> list[Listener]:
    """Give the ports that our services take on a host."""
    found: list[Listener] = []

    def take(variable: str, value: t.Any, *units: str) -> None:
        if isinstance(value, int) and not isinstance(value, bool):
            found.append(Listener(value, variable, units))

    if LOADBALANCERS in host.tiers:
        for variable in ("nginx_http_port", "nginx_https_port", "nginx_status_port"):
            take(variable, host.values.get(variable), "nginx.service")
    if LANGFLOW in host.tiers:
        take("langflow_port", host.values.get("langflow_port"), "langflow*.service")
        if uses_pooler(host):
            take("pgbouncer_port", host.values.get("pgbouncer_port"), "langflow-pgbouncer.service")
    if CELERY in host.tiers:
        if host.values.get("celery_api_enabled") is not False:
            take("celery_api_port", host.values.get("celery_api_port"), "celery-api.service")
        take("celery_metrics_port", host.values.get("celery_metrics_port"), "celery*.service")
    if {LANGFLOW, CELERY} & host.tiers and uses_proxy(host):
        for _address, _port, variable in PROXIED:
            take(variable, host.values.get(variable), "service-proxy.service")
        take("service_proxy_local_port", host.values.get("service_proxy_local_port"), "service-proxy.service")
    if POSTGRESQL in host.tiers:
        take("postgresql_port", host.values.get("postgresql_port"), "postgresql*.service", "patroni.service")
        if host.text("postgresql_mode") == PATRONI:
            take("postgresql_patroni_port", host.values.get("postgresql_patroni_port"), "patroni.service")
    if ETCD in host.tiers:
        for variable in ("etcd_client_port", "etcd_peer_port", "etcd_metrics_port"):
            take(variable, host.values.get(variable), "etcd.service")
    if MONITORING in host.tiers:
        for variable, unit in MONITORING_PORTS:
            if variable != "prometheus_otlp_port" or host.values.get("prometheus_otlp_enabled") is not False:
                take(variable, host.values.get(variable), unit)
        peers = host.values.get("alertmanager_peers")
        if isinstance(peers, list) and len(peers) > 1:
            port = host.values.get("alertmanager_cluster_port")
            take("alertmanager_cluster_port", port, "langflow-alertmanager.service")
        if uses_grafana(host):
            take("grafana_port", host.values.get("grafana_port"), "grafana*.service")
    # Known only where the roles run.
    for variable, unit in LOGGING_PORTS:
        take(variable, host.values.get(variable), unit)
    if "otel_collector_modes" in host.values:
        for modes, variables in ((TRACED_TIERS, AGENT_PORTS), ((MONITORING,), GATEWAY_PORTS)):
            for variable in variables if host.tiers.intersection(modes) else ():
                take(variable, host.values.get(variable), COLLECTOR_UNITS)
    # Known only where role exporters runs: on every host of a fleet that is monitored.
    take("exporters_port", host.values.get("exporters_port"), "langflow-exporters.service")
    for module in exporters(host):
        port = EXPORTERS.get(module)
        value = host.values.get(port) if isinstance(port, str) else port
        take(
            port if isinstance(port, str) else f"exporters_modules[{module}]",
            value,
            f"langflow-exporter-{module.replace('_', '-')}.service",
            f"langflow-exporter-{module}.service",
            "dcgm-exporter.service",
        )
    # Known only where role backup runs: on the hosts of its group and, with a repository, on those of the database.
    take("backup_port", host.values.get("backup_port"), "pgbackrest.service")
    if REDIS in host.tiers:
        if host.text("redis_mode") == SENTINEL:
            take("redis_sentinel_port", host.values.get("redis_sentinel_port"), "redis-sentinel.service")
        for instance in redis_instances(host):
            if instance.get("name"):
                name = instance["name"]
                take(
                    f"redis_instances[{name}].port",
                    instance.get("port"),
                    f"redis-{name}.service",
                    f"*-{name}.service",
                    f"*@{name}.service",
                )
    return found


def uses_proxy(host: Host) -> bool:
    """Tell whether clients on this host reach the data through a proxy of their own."""
    return host.values.get("langflow_fleet_proxy") is True


def wished(host: Host, variable: str) -> bool:
    """Tell whether something is switched on that is off by default."""
    return host.text(variable).lower() in ("true", "yes", "1", "on")


def uses_grafana(host: Host) -> bool:
    """Tell whether Grafana is wanted on the monitoring hosts."""
    return wished(host, "langflow_fleet_grafana")


def exporters(host: Host) -> list[str]:
    """Give what a host shows to Prometheus; nothing where role exporters does not run."""
    modules = host.values.get("exporters_modules") if "exporters_port" in host.values else None
    return [str(module) for module in modules] if isinstance(modules, list) else []


def uses_pooler(host: Host) -> bool:
    """Tell whether Langflow on this host reaches the database through a pool of its own."""
    return wished(host, "langflow_fleet_pgbouncer")


def check_port_clashes(fleet: Fleet) -> Iterator[Problem]:
    """Tiers may share a host, ports may not."""
    for host in fleet.hosts.values():
        taken: dict[int, str] = {}
        for item in listeners(host):
            if item.port in taken:
                yield Problem(
                    item.variable,
                    f"port {item.port} is also that of {taken[item.port]} on this host",
                    f"give {item.variable} or {taken[item.port]} another port, or put the tiers on separate hosts",
                    (host.name,),
                )
            else:
                taken[item.port] = item.variable


def check_shared_address(fleet: Fleet) -> Iterator[Problem]:
    """The shared address of the load balancers moves between at least two of them."""
    balancers = fleet.tier(LOADBALANCERS)
    addresses = {host.address: host.name for host in fleet.hosts.values()}
    for host in balancers:
        vip = host.text("keepalived_vip").strip()
        if not vip:
            continue
        plain = vip.split("/")[0]
        try:
            ipaddress.ip_address(plain)
            ipaddress.ip_interface(vip)
        except ValueError:
            yield Problem(
                "keepalived_vip",
                f"'{vip}' is not an IP address",
                "give one free address, such as 192.0.2.10",
                (host.name,),
            )
            continue
        if len(balancers) < 2:
            yield Problem(
                "keepalived_vip",
                f"a shared address needs two load balancers and group {LOADBALANCERS} has {len(balancers)}",
                f"add a host to group {LOADBALANCERS}, or leave keepalived_vip empty",
            )
        if plain in addresses:
            yield Problem(
                "keepalived_vip",
                f"{plain} is already the address of host {addresses[plain]}",
                "choose a free address of the same network",
            )
        watched = re.match(r"https?://(?:127\.0\.0\.1|localhost|\[::1\]):(\d+)/", host.text("keepalived_check_url"))
        status = host.number("nginx_status_port")
        if watched and status is not None and int(watched[1]) != status:
            message = f"port {watched[1]} is not nginx_status_port ({status:g}): no host would ever hold the address"
            yield Problem("keepalived_check_url", message, f"write port {status:g} in it", (host.name,))
    if len({host.text("keepalived_vip").strip() for host in balancers}) > 1:
        yield Problem(
            "keepalived_vip",
            "the load balancers disagree on the shared address",
            f"set it once, in the variables of group {LOADBALANCERS}",
        )


def check_networks(fleet: Fleet) -> Iterator[Problem]:
    """Who may connect is said with addresses and networks: a packet filter resolves no names."""
    for host in fleet.hosts.values():
        lists = [(name, host.values.get(name)) for name in NETWORK_LISTS]
        services = host.values.get("common_firewall_services")
        for row in services if isinstance(services, list) else ():
            if isinstance(row, Mapping):
                lists.append((f"common_firewall_services[{row.get('name', '')}].from", row.get("from")))
        for name, items in lists:
            for item in items if isinstance(items, list) else [items]:
                if not isinstance(item, str) or not item or (item == "any" and name.startswith("common_firewall_")):
                    continue
                try:
                    ipaddress.ip_network(item)
                except ValueError:
                    if name == "postgresql_client_addresses" and DNS_NAME.fullmatch(item) and not item[-1].isdigit():
                        continue  # the server resolves names itself
                    fix = "write an address, or network/prefix with no host bits set, such as 198.51.100.0/24"
                    yield Problem(name, f"'{item}' is neither an address nor a network", fix, (host.name,))


def check_firewall_addresses(fleet: Fleet) -> Iterator[Problem]:
    """The packet filter is made from the addresses of all hosts."""
    if not any(host.values.get("common_firewall_enabled") is True for host in fleet.hosts.values()):
        return
    for host in fleet.hosts.values():
        try:
            ipaddress.ip_address(host.address)
        except ValueError:
            message = f"'{host.address}' is a name, and the packet filter (common_firewall_enabled) needs addresses"
            fix = "set langflow_fleet_address to the IP address of the host, or common_firewall_enabled to false"
            yield Problem("langflow_fleet_address", message, fix, (host.name,))


# --- Langflow ---------------------------------------------------------------------------------------------------------


def settings(host: Host) -> Iterator[tuple[str, str, t.Any]]:
    """Give variable, bare name and value of every setting of the operator's; LANGFLOW_X and X mean the same."""
    for variable in ("langflow_settings", "langflow_secret_settings"):
        given = host.values.get(variable)
        for name, value in given.items() if isinstance(given, Mapping) else ():
            yield variable, str(name).upper().removeprefix("LANGFLOW_"), value


def check_settings(fleet: Fleet) -> Iterator[Problem]:
    """Langflow ignores in silence a setting that it does not know; one that the role sets would be contradicted."""
    for host in fleet.tier(LANGFLOW):
        release = ".".join(host.text("langflow_version").split(".")[:2])
        known = fleet.known_settings.get(release, [])
        for variable, name, value in settings(host):
            shown = f"{variable}.{name}"
            enabled = str(value).strip().lower() in ("true", "1", "yes", "on")
            if known and name not in known:
                close = nearest(name, known)
                fix = f"write {close}" if close else "remove it; roles/langflow/vars/settings.yml has the list"
                yield Problem(shown, f"Langflow {release} has no setting LANGFLOW_{name}", fix, (host.name,))
            elif name in REFUSED_SETTINGS and enabled:
                yield Problem(shown, f"LANGFLOW_{name} {REFUSED_SETTINGS[name]}", "remove it", (host.name,))
            elif name in fleet.managed_settings:
                instead = fleet.managed_settings[name]
                fix = f"remove it and set {instead}" if instead else "remove it; the role computes it from the topology"
                yield Problem(shown, f"LANGFLOW_{name} is set by the role itself", fix, (host.name,))


def check_version(fleet: Fleet) -> Iterator[Problem]:
    """Only a release with a lock file and a list of settings can be installed and checked."""
    for host in fleet.tier(LANGFLOW):
        version = host.text("langflow_version")
        if not version or host.chosen("langflow_requirements_file"):
            continue
        if version not in fleet.locked_versions:
            yield Problem(
                "langflow_version",
                f"release '{version}' is unknown: the collection ships no lock file for it",
                f"choose one of {', '.join(sorted(fleet.locked_versions))}, or give langflow_requirements_file",
                (host.name,),
            )


def check_one_release(fleet: Fleet) -> Iterator[Problem]:
    """Nodes of one cluster share a schema and signing keys: what must be equal is equal."""
    hosts = fleet.tier(LANGFLOW)
    for name in ("langflow_version", "langflow_secret_key", "langflow_database_host", "langflow_database_name"):
        values = {host.text(name) for host in hosts if name in host.values}
        if len(values) > 1:
            yield Problem(
                name,
                "differs between the Langflow nodes of one cluster",
                f"set it once, in the variables of group {LANGFLOW}",
            )


def check_sources(fleet: Fleet) -> Iterator[Problem]:
    """Whatever is fetched is verified, and what an install source needs is given."""
    for host in fleet.tier(LANGFLOW):
        source, checksum = host.text("langflow_wheelhouse"), host.text("langflow_wheelhouse_sha256")
        if host.text("langflow_install_source") != "wheelhouse":
            continue
        if not source:
            message = "langflow_install_source is wheelhouse and no wheelhouse is given"
            fix = "set langflow_wheelhouse to the archive with the wheels (a path on the controller, or an address)"
            yield Problem("langflow_wheelhouse", message, fix, (host.name,))
        elif not re.match(r"https?://", source):
            if not fleet.file_exists(source):
                message = f"file {source} does not exist on the controller"
                yield Problem("langflow_wheelhouse", message, "correct the path", (host.name,))
        elif not SHA256.fullmatch(checksum):
            state = "is not 64 hexadecimal digits" if checksum else "is missing"
            message = f"langflow_wheelhouse is fetched from a mirror and its checksum {state}"
            fix = "set langflow_wheelhouse_sha256 to what sha256sum prints for the archive"
            yield Problem("langflow_wheelhouse_sha256", message, fix, (host.name,))
    for host in fleet.hosts.values():
        if POSTGRESQL in host.tiers and host.text("postgresql_source") == "pgdg":
            for name in ("postgresql_repository_uris", "postgresql_repository_key"):
                if not host.values.get(name):
                    message = "postgresql_source is pgdg, and the repository or the key that signs it is not given"
                    yield Problem(name, message, f"set {name}, or postgresql_source to distribution", (host.name,))


def check_storage(fleet: Fleet) -> Iterator[Problem]:
    """An upload has to be readable on every node."""
    hosts = fleet.tier(LANGFLOW)
    for host in hosts:
        remote = host.text("langflow_storage_type") == "s3"
        if (remote or len(hosts) > 1) and not (remote and host.values.get("langflow_s3_bucket")):
            reason = (
                "langflow_storage_type is s3" if remote else f"{len(hosts)} nodes would each keep their own uploads"
            )
            fix = "set langflow_s3_bucket (and langflow_s3_endpoint for a store of your own), or keep one node"
            yield Problem("langflow_s3_bucket", f"{reason}, and no bucket is given", fix, (host.name,))


def check_redis_pair(fleet: Fleet) -> Iterator[Problem]:
    """Hosts that copy each other's data read each other's format."""
    hosts = [host for host in fleet.tier(REDIS) if host.text("redis_mode") == SENTINEL]
    programs = {host.text("redis_implementation") for host in hosts} - {""}
    if len(programs) > 1:
        message = f"differs between hosts that copy each other ({', '.join(sorted(programs))}), and their formats do"
        yield Problem("redis_implementation", message, f"set it once, in the variables of group {REDIS}")


def check_redis_instances(fleet: Fleet) -> Iterator[Problem]:
    """The cache may throw keys away, the queue must not: two instances."""
    for host in fleet.tier(LANGFLOW):
        cache = (host.text("langflow_redis_cache_host"), host.text("langflow_redis_cache_port"))
        queue = (host.text("langflow_redis_queue_host"), host.text("langflow_redis_queue_port"))
        if all(cache) and cache == queue:
            message = (
                f"cache and queue are the same Redis ({':'.join(cache)}): the eviction of the cache would lose jobs"
            )
            fix = "point langflow_redis_queue_host and langflow_redis_queue_port to an instance that evicts nothing"
            yield Problem("langflow_redis_queue_port", message, fix, (host.name,))


def check_eviction(fleet: Fleet) -> Iterator[Problem]:
    """The instance that Langflow's queue points to keeps what it was given."""
    queues = {redis_server_port(host, "queue") for host in fleet.tier(LANGFLOW)}
    caches = {redis_server_port(host, "cache") for host in fleet.tier(LANGFLOW)}
    for host in fleet.tier(REDIS):
        for instance in redis_instances(host):
            policy = str(instance.get("maxmemory_policy", ""))
            if str(instance.get("port")) in queues - caches and policy not in ("", "noeviction"):
                subject = f"redis_instances[{instance.get('name', '')}].maxmemory_policy"
                message = f"{policy} lets the queue throw away jobs when memory runs out"
                yield Problem(subject, message, "set it to noeviction", (host.name,))


def redis_server_port(host: Host, name: str) -> str:
    """Give the port of the server that Langflow's cache or queue ends at, behind the proxy if there is one."""
    port = host.text(f"langflow_redis_{name}_port")
    proxied = uses_proxy(host) and port == host.text(f"service_proxy_redis_{name}_port")
    return host.text(f"service_proxy_redis_{name}_server_port") if proxied else port


def redis_instances(host: Host) -> list[Mapping[str, t.Any]]:
    """Give the Redis instances of a host."""
    instances = host.values.get("redis_instances")
    return [item for item in instances if isinstance(item, Mapping)] if isinstance(instances, list) else []


def check_wiring(fleet: Fleet) -> Iterator[Problem]:
    """A client is pointed at a port on which the server of this inventory listens."""
    clients = (
        (LOADBALANCERS, "", "nginx_backend_port", LANGFLOW, "langflow_port"),
        (LANGFLOW, "langflow_database_host", "langflow_database_port", POSTGRESQL, "postgresql_port"),
        (LANGFLOW, "langflow_redis_cache_host", "langflow_redis_cache_port", REDIS, "redis_instances"),
        (LANGFLOW, "langflow_redis_queue_host", "langflow_redis_queue_port", REDIS, "redis_instances"),
        (POSTGRESQL, "", "postgresql_etcd_port", ETCD, "etcd_client_port"),
    )
    behind = (
        (LANGFLOW, "", "service_proxy_database_server_port", POSTGRESQL, "postgresql_port"),
        (LANGFLOW, "", "service_proxy_patroni_port", POSTGRESQL, "postgresql_patroni_port"),
        (LANGFLOW, "", "service_proxy_redis_cache_server_port", REDIS, "redis_instances"),
        (LANGFLOW, "", "service_proxy_redis_queue_server_port", REDIS, "redis_instances"),
        (LANGFLOW, "", "service_proxy_sentinel_port", REDIS, "redis_sentinel_port"),
    )
    for host in filter(uses_proxy, fleet.tier(LANGFLOW)):
        for address, variable, proxy in PROXIED:
            if host.text(address) == "127.0.0.1" and host.number(variable) != host.number(proxy):
                message = f"{host.text(variable)} is not the port of the service proxy ({proxy}: {host.text(proxy)})"
                fix = f"leave {variable} out, or set {address} to a server of your own"
                yield Problem(variable, message, fix, (host.name,))
    for tier, address, variable, server_tier, server_variable in (*clients, *behind):
        for host in fleet.tier(tier):
            if variable.startswith("service_proxy_") and not uses_proxy(host):
                continue
            wanted = host.number(variable)
            elsewhere: dict[str, list[str]] = defaultdict(list)
            for server in fleet.tier(server_tier):
                if wanted is None or (address and host.text(address) != server.address):
                    continue  # not known, or a server of the operator's own
                ports = [item.port for item in listeners(server) if item.variable.startswith(server_variable)]
                if ports and wanted not in ports:
                    elsewhere[", ".join(map(str, ports))].append(server.name)
            for shown, names in elsewhere.items():
                message = f"{wanted:g} is not a port of {', '.join(names)}, where {server_variable} says {shown}"
                yield Problem(variable, message, f"set {variable} to match {server_variable}", (host.name,))


def check_celery(fleet: Fleet) -> Iterator[Problem]:
    """Workers, queues, schedules and times of the tasks tier."""
    for host in fleet.tier(CELERY):
        for variable, message, fix in _celery_plan.problems(host.values):
            yield Problem(variable, message, fix, (host.name,))


def check_backup(fleet: Fleet) -> Iterator[Problem]:
    """What is backed up is a server of this inventory, and all hosts mean the same repository."""
    if fleet.tiers.get(BACKUP) and not fleet.tiers.get(POSTGRESQL):
        message = "group backup has a host, and group postgresql has none: there is no server that could be backed up"
        fix = "empty group backup; whoever runs the PostgreSQL of your own backs it up"
        yield Problem(BACKUP, message, fix)
        return
    hosts = [host for host in fleet.hosts.values() if {BACKUP, POSTGRESQL} & host.tiers]
    kinds = {host.text("backup_repository_type") for host in hosts} - {""}
    if len(kinds) > 1:
        message = f"differs between the hosts that share the repository ({', '.join(sorted(kinds))})"
        yield Problem("backup_repository_type", message, "set it once, for groups postgresql and backup")
    elif kinds == {S3}:
        for host in hosts:
            for name in ("backup_s3_endpoint", "backup_s3_bucket"):
                if name in host.values and not host.text(name):
                    message = f"is empty, and backup_repository_type is {S3}"
                    yield Problem(name, message, f"set {name}, for groups postgresql and backup", (host.name,))
            if "://" in host.text("backup_s3_endpoint"):
                message = f"'{host.text('backup_s3_endpoint')}' has a scheme, and pgBackRest takes a name"
                fix = "write the name alone; backup_s3_port is for a port"
                yield Problem("backup_s3_endpoint", message, fix, (host.name,))


def check_exporters(fleet: Fleet) -> Iterator[Problem]:
    """A monitored host shows what there is something for, and its access log can be read."""
    for host in fleet.hosts.values():
        modules = exporters(host)
        unknown = [module for module in modules if module not in EXPORTERS]
        if unknown:
            message = f"{', '.join(unknown)} is none of {', '.join(EXPORTERS)}"
            fix = "leave exporters_modules out, and put programs of your own into exporters_modules_extra"
            yield Problem("exporters_modules", message, fix, (host.name,))
        if "gateway" in modules and host.text("nginx_log_target") == "journal":
            message = "is journal, and the figures of the business are read from the access log as a file"
            yield Problem("nginx_log_target", message, "set it to file, or leave it out", (host.name,))
        if any(name in EXPORTERS for name in host.values.get("exporters_modules_extra") or {}):
            message = "bears the name of a module that the role knows itself"
            yield Problem("exporters_modules_extra", message, "choose another name for it", (host.name,))


def check_receivers(fleet: Fleet) -> Iterator[Problem]:
    """A receiver that lacks something would be found out by the first alert that nobody gets."""
    for host in fleet.tier(MONITORING):
        names: list[str] = []
        for variable in ("alertmanager_receivers", "alertmanager_deadman_receivers"):
            items = host.values.get(variable)
            for item in items if isinstance(items, list) else ():
                if not isinstance(item, Mapping):
                    continue
                name, kind = str(item.get("name", "")), str(item.get("type", ""))
                shown = f"{variable}[{name}]"
                if name in names:
                    yield Problem(shown, "the name is used twice", "give each receiver its own name", (host.name,))
                names.append(name)
                for key in RECEIVER_NEEDS.get(kind, ()):
                    if not item.get(key):
                        message = f"a receiver of type {kind} needs {key}"
                        yield Problem(shown, message, f"add {key}", (host.name,))
                if kind == "email" and not host.text("alertmanager_smtp_smarthost"):
                    message = f"is needed by receiver {name}, which is told by mail"
                    fix = "set it to host:port of a mail server"
                    yield Problem("alertmanager_smtp_smarthost", message, fix, (host.name,))
        timings = host.values.get("alertmanager_timings")
        if isinstance(timings, Mapping) and set(timings) != set(ALERT_TIERS):
            message = f"needs {', '.join(ALERT_TIERS)}, and has {', '.join(sorted(map(str, timings)))}"
            yield Problem("alertmanager_timings", message, "write all of them, or leave it out", (host.name,))


def check_monitoring_pair(fleet: Fleet) -> Iterator[Problem]:
    """Two hosts that measure differently, or tell different people, are no pair."""
    hosts = fleet.tier(MONITORING)
    for name in ("alertmanager_receivers", "prometheus_password", "prometheus_port", "alertmanager_port"):
        if len({repr(host.values[name]) for host in hosts if name in host.values}) > 1:
            message = "differs between the hosts of group monitoring, which have to do the same"
            yield Problem(name, message, "set it once, in the variables of group monitoring")


def check_logging_hosts(fleet: Fleet) -> Iterator[Problem]:
    """Elasticsearch goes on while most of its nodes are there; all of them are one cluster."""
    hosts = fleet.tier(LOGGING)
    if len(hosts) == 2:
        names = ", ".join(host.name for host in hosts)
        message = f"group logging has 2 hosts ({names}): without either of them there is no majority, as with one"
        yield Problem(LOGGING, message, "have one host in it, or three and more")
    for name in (
        "elasticsearch_version",
        "elasticsearch_cluster_name",
        "elasticsearch_http_port",
        "elasticsearch_transport_port",
    ):
        if len({repr(host.values[name]) for host in hosts if name in host.values}) > 1:
            message = "differs between the hosts of group logging, which are one cluster"
            yield Problem(name, message, "set it once, in the variables of group logging")


def check_log_wishes(fleet: Fleet) -> Iterator[Problem]:
    """What is switched on has the hosts that it needs, and means one thing on every host."""
    for host in fleet.hosts.values():
        for name in ("langflow_fleet_logstash", "langflow_fleet_kibana"):
            if wished(host, name) and name in host.given and not fleet.tier(LOGGING):
                message = "is on, and group logging has no host that could run it"
                yield Problem(name, message, "add a host to group logging, or leave it out", (host.name,))
        namespace = host.text("langflow_fleet_environment")
        if "langflow_fleet_environment" in host.values and not NAMESPACE.fullmatch(namespace):
            message = f"'{namespace}' cannot be part of the name of a data stream"
            fix = "use lower-case letters, digits, dots and underscores, such as production"
            yield Problem("langflow_fleet_environment", message, fix, (host.name,))
    names = ("langflow_fleet_logstash", "langflow_fleet_kibana", "langflow_fleet_environment", "langflow_fleet_tracing")
    for name in names:
        found = {str(host.values[name]).lower() for host in fleet.hosts.values() if name in host.values}
        known = [host for host in fleet.hosts.values() if name in host.values]
        if len(found) > 1 or (known and len(known) < len(fleet.hosts)):
            message = "is not the same on every host, and both ends of the way have to agree"
            yield Problem(name, message, "set it once, in the variables of group all")


def check_tracing(fleet: Fleet) -> Iterator[Problem]:
    """Traces that are wished for have a gateway that chooses, and somebody who keeps them."""
    hosts = [host for host in fleet.hosts.values() if "langflow_fleet_tracing" in host.given]
    if not any(wished(host, "langflow_fleet_tracing") for host in hosts):
        return
    elsewhere = any(host.text("otel_collector_otlp_endpoint") for host in fleet.tier(MONITORING))
    if not fleet.tier(MONITORING):
        message = "is on, and group monitoring has no host that could choose which traces are kept"
        yield Problem("langflow_fleet_tracing", message, "add a host to group monitoring, or leave it out")
    elif not fleet.tier(LOGGING) and not elsewhere:
        message = "is on, and nobody keeps the traces"
        fix = "add a host to group logging, or set otel_collector_otlp_endpoint to a backend of your own"
        yield Problem("langflow_fleet_tracing", message, fix)


def check_log_archives(fleet: Fleet) -> Iterator[Problem]:
    """Whatever is fetched is verified. The Collector always comes as an archive, the others if an address is given."""
    for host in fleet.hosts.values():
        for name in ARCHIVES:
            checksum, known = host.text(f"{name}_sha256"), f"{name}_sha256" in host.values
            if name == COLLECTOR and known and not host.text(f"{name}_url"):
                fix = f"set {name}_url to an archive of upstream or of your mirror, or langflow_fleet_tracing to false"
                yield Problem(f"{name}_url", "is missing, and the Collector has no other source", fix, (host.name,))
                continue
            if not known or SHA256.fullmatch(checksum) or not (name == COLLECTOR or host.chosen(f"{name}_url")):
                continue
            fix = f"set it to what sha256sum prints for the archive that {name}_url names"
            if name == COLLECTOR:
                fix += ", or set langflow_fleet_tracing to false"
            message = "is not 64 hexadecimal digits" if checksum else "is missing, so the archive cannot be verified"
            yield Problem(f"{name}_sha256", message, fix, (host.name,))


def check_vector_extension(fleet: Fleet) -> Iterator[Problem]:
    """With the profile prod Langflow does not start without the extension."""
    profiles = {host.text("langflow_deployment_profile") for host in fleet.tier(LANGFLOW)}
    for host in fleet.tier(POSTGRESQL):
        if "prod" in profiles and host.values.get("postgresql_pgvector_enabled") is False:
            message = "Langflow with langflow_deployment_profile prod refuses to start without the extension vector"
            fix = "set postgresql_pgvector_enabled to true, or langflow_deployment_profile to dev"
            yield Problem("postgresql_pgvector_enabled", message, fix, (host.name,))


def check_service_memory(fleet: Fleet) -> Iterator[Problem]:
    """The limit of the service leaves every worker its share."""
    for host in fleet.tier(LANGFLOW):
        workers, each = host.number("langflow_workers"), host.number("langflow_worker_memory_mb")
        limit = megabytes(host.text("langflow_memory_max"))
        if workers and each and limit and workers * each > limit:
            message = f"{workers:g} workers of {each:g} MB do not fit into the {limit:g} MB of langflow_memory_max"
            fix = "raise langflow_memory_max or leave it out, or lower langflow_workers"
            yield Problem("langflow_memory_max", message, fix, (host.name,))


def check_postgresql_version(fleet: Fleet) -> Iterator[Problem]:
    """Langflow refuses to start on an older server."""
    for host in fleet.tier(POSTGRESQL):
        version = host.number("postgresql_version")
        if version is not None and version < MINIMUM_POSTGRESQL:
            yield Problem(
                "postgresql_version",
                f"PostgreSQL {host.text('postgresql_version')} is older than {MINIMUM_POSTGRESQL}, Langflow refuses it",
                f"set it to {MINIMUM_POSTGRESQL} or newer, or leave it out for the version of the distribution",
                (host.name,),
            )


# --- order of limits --------------------------------------------------------------------------------------------------


def megabytes(value: t.Any) -> float | None:
    """Read a size (1024m, 1G, 256mb, bytes without a unit) as MB."""
    found = re.fullmatch(r"(\d+)([kmg]?)b?", str(value).strip().lower())
    return int(found[1]) * {"": 2**-20, "k": 2**-10, "m": 1.0, "g": 2.0**10}[found[2]] if found else None


def check_timeouts(fleet: Fleet) -> Iterator[Problem]:
    """An outer timeout that ends first turns a slow answer into an error that nobody can explain."""
    inner, longest = "", 0.0
    for tier, name, extra in TIMEOUT_CHAIN:
        found = [
            (number + ((host.number(extra) or 0.0) if extra else 0.0), host.name)
            for host in fleet.tier(tier)
            if (number := host.number(name)) is not None
        ]
        if not found:
            continue
        shortest, where = min(found)
        if inner and shortest <= longest:
            yield Problem(
                name,
                f"{shortest:g} s end before the inner {inner} ({longest:g} s)",
                f"make {name} longer than {inner}, or leave it out: it derives from langflow_fleet_request_timeout",
                (where,),
            )
        inner, longest = name, max(found)[0]


def check_upload_limits(fleet: Fleet) -> Iterator[Problem]:
    """An upload that Langflow would take must pass the edge."""
    inner = [value for host in fleet.tier(LANGFLOW) if (value := host.number(UPLOAD_LIMIT)) is not None]
    for host in fleet.tier(LOADBALANCERS):
        outer = megabytes(host.text("nginx_client_max_body_size"))
        if outer is not None and inner and outer < max(inner):
            yield Problem(
                "nginx_client_max_body_size",
                f"the edge takes {outer:g} MB and Langflow {max(inner):g} MB ({UPLOAD_LIMIT})",
                f"make nginx_client_max_body_size at least as large as {UPLOAD_LIMIT}",
                (host.name,),
            )


# --- secrets and certificates -----------------------------------------------------------------------------------------


def _secret_key_problem(subject: str, value: str, hosts: tuple[str, ...]) -> Iterator[Problem]:
    """Judge a value for LANGFLOW_SECRET_KEY without showing it."""
    fix = "use the output of: python3 -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
    if len(value) < 32:
        yield Problem(subject, f"the secret key is too short ({len(value)} characters, 44 are needed)", fix, hosts)
    elif not is_fernet_key(value):
        yield Problem(subject, "the secret key is not a Fernet key (URL-safe base64 of exactly 32 bytes)", fix, hosts)


def check_secret_key(fleet: Fleet) -> Iterator[Problem]:
    """The key signs sessions and encrypts the credentials that users store."""
    for host in fleet.tier(LANGFLOW):
        if host.chosen("langflow_secret_key"):
            yield from _secret_key_problem("langflow_secret_key", host.text("langflow_secret_key"), (host.name,))


def check_given_secrets(fleet: Fleet) -> Iterator[Problem]:
    """Secrets that the operator gives are strong; the back-end `variables` has all that the roles ask for."""
    for host in fleet.hosts.values():
        given = host.values.get("langflow_fleet_secrets") or {}
        given = given if isinstance(given, Mapping) else {}
        for name, value in sorted(given.items()):
            subject = f"langflow_fleet_secrets.{name}"
            text = "" if value is None else str(value)
            if name == "langflow_secret_key":
                yield from _secret_key_problem(subject, text, (host.name,))
            elif text.lower() in WEAK_SECRETS:
                yield Problem(
                    subject,
                    "is a default that everybody knows",
                    "give a random value of 24 characters or more",
                    (host.name,),
                )
            elif len(text) < MINIMUM_SECRET_LENGTH and not name.endswith("_access_key"):
                yield Problem(
                    subject,
                    f"is too short ({len(text)} characters, at least {MINIMUM_SECRET_LENGTH} are needed)",
                    "give a random value of 24 characters or more",
                    (host.name,),
                )
        yield from _missing_secrets(fleet, host, given)
        for name in sorted(host.given):
            if (
                name.endswith("_password")
                and name in fleet.public_variables
                and host.text(name).lower() in WEAK_SECRETS
            ):
                yield Problem(
                    name, "is a default that everybody knows", "leave it out: the role generates it", (host.name,)
                )


def _missing_secrets(fleet: Fleet, host: Host, given: Mapping[str, t.Any]) -> Iterator[Problem]:
    """Find what a back-end that makes no secrets does not have."""
    backend = host.text("langflow_fleet_secret_backend") or "store"
    if backend not in SECRET_BACKENDS:
        message = f"'{backend}' is not a back-end"
        yield Problem(
            "langflow_fleet_secret_backend", message, f"choose one of {', '.join(SECRET_BACKENDS)}", (host.name,)
        )
    if backend == "hashi_vault" and not host.text("langflow_fleet_secret_vault_path"):
        message = "is needed by langflow_fleet_secret_backend hashi_vault and not set"
        yield Problem("langflow_fleet_secret_vault_path", message, "set it to the path of the secrets", (host.name,))
    if backend not in SECRET_PLACES:
        return
    wanted = {
        name
        for variable, names in fleet.secrets.get(host.name, {}).items()
        if not variable.startswith("langflow_s3_") or host.text("langflow_storage_type") == "s3"
        for name in names
    }
    for name in sorted(wanted - set(given)):
        place, fix = (text.format(name=name, NAME=name.upper().replace("-", "_")) for text in SECRET_PLACES[backend])
        if backend == "env" and fleet.environment.get(place):
            continue
        yield Problem(place, f"is missing, and langflow_fleet_secret_backend is {backend}", fix, (host.name,))


def check_given_certificates(fleet: Fleet) -> Iterator[Problem]:
    """Given certificates are there before a host waits for them."""
    for host in fleet.hosts.values():
        given = host.values.get("certificates_given")
        for name, files in sorted(given.items()) if isinstance(given, Mapping) else ():
            for part in ("cert", "key", "chain"):
                path = files.get(part) if isinstance(files, Mapping) else None
                subject = f"certificates_given.{name}.{part}"
                if path and not fleet.file_exists(str(path)):
                    yield Problem(
                        subject, f"file {path} does not exist on the controller", "correct the path", (host.name,)
                    )
                elif not path and part != "chain":
                    yield Problem(subject, "is missing", f"give the path of the {part} on the controller", (host.name,))


# --- one host, measured -----------------------------------------------------------------------------------------------


def check_host_system(fleet: Fleet, host: Host, state: Mapping[str, t.Any]) -> Iterator[Problem]:
    """Operating system, Python and systemd are ones that the collection is made for."""
    system = (str(state["os"].get("id")), str(state["os"].get("version")))
    if system not in SUPPORTED_SYSTEMS:
        wanted = ", ".join(f"{name} {version}" for name, version in sorted(SUPPORTED_SYSTEMS))
        yield Problem(host.name, f"operating system {' '.join(system)} is not supported", f"install one of {wanted}")
    if version_tuple(str(state["python"])) < MINIMUM_PYTHON:
        yield Problem(
            "ansible_python_interpreter",
            f"Python {state['python']} is older than {'.'.join(map(str, MINIMUM_PYTHON))}",
            "point it to a newer Python of the host",
            (host.name,),
        )
    if not state["systemd"] or int(state["systemd"]) < MINIMUM_SYSTEMD:
        found = f"systemd {state['systemd']}" if state["systemd"] else "no running systemd"
        yield Problem(
            host.name, f"{found}, and {MINIMUM_SYSTEMD} or newer is needed", "use a host that boots with systemd"
        )


def check_host_memory(fleet: Fleet, host: Host, state: Mapping[str, t.Any]) -> Iterator[Problem]:
    """Workers that do not fit are killed one after the other under load."""
    workers, each = host.number("langflow_workers"), host.number("langflow_worker_memory_mb")
    if LANGFLOW not in host.tiers or not workers or not each:
        return
    others = (
        sum(megabytes(item.get("maxmemory", 0)) or 0.0 for item in redis_instances(host))
        if REDIS in host.tiers
        else 0.0
    )
    needed = workers * each + others
    if needed > state["memory_mb"]:
        fits = int((state["memory_mb"] - others) // each)
        fix = f"set langflow_workers to {fits}" if fits > 0 else "lower langflow_worker_memory_mb"
        beside = f" beside {others:g} MB of Redis" if others else ""
        message = (
            f"{workers:g} workers of {each:g} MB{beside} need {needed:g} MB and the host has {state['memory_mb']} MB"
        )
        yield Problem("langflow_workers", message, f"{fix}, or give the host more memory", (host.name,))


def check_host_heap(fleet: Fleet, host: Host, state: Mapping[str, t.Any]) -> Iterator[Problem]:
    """A heap that takes the memory of the cache makes searches slow, and one beyond the memory kills services."""
    heap = host.number("elasticsearch_heap_mb")
    if LOGGING in host.tiers and heap and heap > state["memory_mb"] * HEAP_SHARE:
        most = int(state["memory_mb"] * HEAP_SHARE)
        message = f"{heap:g} MB are more than half of the {state['memory_mb']} MB of the host"
        fix = f"set it to {most} or less, or leave it out: it follows from the memory"
        yield Problem("elasticsearch_heap_mb", message, fix, (host.name,))


def check_host_queue(fleet: Fleet, host: Host, state: Mapping[str, t.Any]) -> Iterator[Problem]:
    """The queue for the time without a log tier must not fill the disk before it ends."""
    queue, free = host.number("log_shipper_queue_max_mb"), state["disk_free_mb"].get("/var")
    if queue and free is not None and queue > free:
        message = f"{queue:g} MB for lines that wait, and /var has {free} MB free"
        yield Problem("log_shipper_queue_max_mb", message, "lower it, or make room on /var", (host.name,))


def check_host_packages(fleet: Fleet, host: Host, state: Mapping[str, t.Any]) -> Iterator[Problem]:
    """Some packages are newer than Debian 12."""
    system = (str(state["os"].get("id")), str(state["os"].get("version")))
    if POSTGRESQL in host.tiers and host.text("postgresql_mode") == PATRONI and system not in PATRONI_SYSTEMS:
        message = f"patroni is made for the packages of Debian 13, and the host has {' '.join(system)}"
        yield Problem("postgresql_mode", message, f"use Debian 13, or set it to {STANDALONE}", (host.name,))
    if ETCD in host.tiers and system not in ETCD_SYSTEMS:
        message = f"etcd 3.5 has no package for {' '.join(system)}"
        yield Problem(ETCD, message, "use Debian 13 for the hosts of group etcd", (host.name,))
    if MONITORING in host.tiers and system not in MONITORING_SYSTEMS:
        message = f"monitoring is made for the packages of Debian 13, and the host has {' '.join(system)}"
        yield Problem(MONITORING, message, "use Debian 13 for the hosts of group monitoring", (host.name,))
    if system != ("debian", "12"):
        return
    if REDIS in host.tiers and host.text("redis_implementation") == "valkey":
        message = "Debian 12 has no package of valkey"
        yield Problem("redis_implementation", message, "set it to redis, or use Debian 13", (host.name,))
    own = host.text("postgresql_source") == "distribution"
    if POSTGRESQL in host.tiers and own and host.values.get("postgresql_pgvector_enabled") is True:
        message = "Debian 12 has no package of the extension vector"
        fix = "set postgresql_source to pgdg, or use Debian 13"
        yield Problem("postgresql_pgvector_enabled", message, fix, (host.name,))


def check_host_disk(fleet: Fleet, host: Host, state: Mapping[str, t.Any]) -> Iterator[Problem]:
    """A full disk in the middle of an installation is the worst moment to notice."""
    wanted = {"/var": 1024}
    if LANGFLOW in host.tiers and not state.get("release"):
        root = host.text("langflow_root")
        wanted[root if root in state["disk_free_mb"] else "/opt"] = 4096
    for path, megabytes in wanted.items():
        free = state["disk_free_mb"].get(path)
        if free is not None and free < megabytes:
            yield Problem(
                host.name,
                f"{path} has {free} MB free, {megabytes} MB are needed",
                f"make room on the file system of {path}",
            )


def check_host_ports(fleet: Fleet, host: Host, state: Mapping[str, t.Any]) -> Iterator[Problem]:
    """A port that a foreign program holds would be found out when our service fails to start."""
    for item in listeners(host):
        for taken in state["listeners"]:
            unit = str(taken.get("unit") or "")
            if taken["port"] == item.port and not any(fnmatch.fnmatch(unit, pattern) for pattern in item.units):
                holder = unit or taken.get("process") or "another program"
                yield Problem(
                    item.variable,
                    f"port {item.port} is in use by {holder}",
                    f"stop {holder}, or choose another port",
                    (host.name,),
                )
                break


def check_host_clock(fleet: Fleet, host: Host, state: Mapping[str, t.Any]) -> Iterator[Problem]:
    """Certificates and session tokens of a host with a wrong clock are refused."""
    skew = float(state["clock_skew"])
    if abs(skew) > MAXIMUM_CLOCK_SKEW:
        direction = "ahead of" if skew > 0 else "behind"
        yield Problem(
            host.name,
            f"its clock is {abs(skew):.0f} s {direction} the controller's",
            "set the clock (timedatectl set-ntp true) and run again",
        )


def check_host_gpu(fleet: Fleet, host: Host, state: Mapping[str, t.Any]) -> Iterator[Problem]:
    """A host of group gpu has a GPU; where nobody has looked, nothing is said."""
    bus = host.values.get("__preflight_gpu") or {}
    if GPU in host.tiers and "nvidia" in bus and not bus["nvidia"]["count"]:
        yield Problem(
            GPU, str(bus["summary"]), "take the host out of group gpu, or look at its firmware and slot", (host.name,)
        )


def check_host_version_edge(fleet: Fleet, host: Host, state: Mapping[str, t.Any]) -> Iterator[Problem]:
    """Only playbook upgrade leads to another release, and only on a step that is tested and destroys nothing."""
    if LANGFLOW not in host.tiers or not state.get("release") or fleet.operation not in JUDGED_OPERATIONS:
        return
    step = judge(fleet.version_edges, str(state["release"].get("version")), host.text("langflow_version"))
    if step.action == REFUSE:
        back = goes_back(step.old, step.new)
        fix = f"keep langflow_version at {step.old}"
        if back:
            fix += f", or restore a backup that {step.new} has made"
        elif not step.known:
            fix += ", or go through a version that roles/langflow/vars/version_edges.yml knows"
        message = f"the step from {step.old} to {step.new} is {'refused' if step.known else 'unknown'}: {step.reason}"
        yield Problem("langflow_version", message.rstrip("."), fix, (host.name,))
    elif step.old != step.new and fleet.operation == SITE:
        verb = f"{COLLECTION}.rollback, which puts the release before back" if goes_back(step.old, step.new) else ""
        fix = f"run playbook {COLLECTION}.upgrade" + (f", or {verb}" if verb else "")
        message = f"the host runs {step.old}; playbook site does not lead to another release ({step.new})"
        yield Problem("langflow_version", message, f"{fix}; or set it to {step.old}", (host.name,))


def check_redis_releases(fleet: Fleet, states: Mapping[str, Mapping[str, t.Any]]) -> Iterator[Problem]:
    """A server copies from one that may be older, not from a newer one; any of them may become the one to copy from."""
    systems: dict[str, list[str]] = defaultdict(list)
    for host in fleet.tier(REDIS):
        if host.text("redis_mode") == SENTINEL and host.name in states:
            system = states[host.name]["os"]
            systems[f"{system.get('id')} {system.get('version')}"].append(host.name)
    if len(systems) > 1:
        found = "; ".join(f"{system}: {', '.join(names)}" for system, names in sorted(systems.items()))
        message = f"is {SENTINEL}, and the hosts of group {REDIS} have different releases ({found})"
        fix = (
            f"install the same release on all of them (an older Redis cannot follow a newer one that took over), "
            f"or set redis_mode to {STANDALONE}"
        )
        yield Problem("redis_mode", message, fix)


FLEET_CHECKS: tuple[Callable[[Fleet], Iterable[Problem]], ...] = (
    check_ansible_version,
    check_tiers,
    check_data_hosts,
    check_etcd,
    check_cluster_addresses,
    check_names,
    check_addresses,
    check_domain,
    check_misspelled_variables,
    check_port_clashes,
    check_shared_address,
    check_networks,
    check_firewall_addresses,
    check_settings,
    check_version,
    check_one_release,
    check_sources,
    check_storage,
    check_redis_pair,
    check_redis_instances,
    check_eviction,
    check_wiring,
    check_celery,
    check_backup,
    check_exporters,
    check_receivers,
    check_monitoring_pair,
    check_logging_hosts,
    check_log_wishes,
    check_tracing,
    check_log_archives,
    check_vector_extension,
    check_service_memory,
    check_postgresql_version,
    check_timeouts,
    check_upload_limits,
    check_secret_key,
    check_given_secrets,
    check_given_certificates,
)

HOST_CHECKS: tuple[Callable[[Fleet, Host, Mapping[str, t.Any]], Iterable[Problem]], ...] = (
    check_host_system,
    check_host_memory,
    check_host_heap,
    check_host_queue,
    check_host_packages,
    check_host_disk,
    check_host_ports,
    check_host_clock,
    check_host_gpu,
    check_host_version_edge,
)

# What only the hosts together can show.
STATES_CHECKS: tuple[Callable[[Fleet, Mapping[str, Mapping[str, t.Any]]], Iterable[Problem]], ...] = (
    check_redis_releases,
)


def fleet_problems(fleet: Fleet) -> list[Problem]:
    """Run every check that needs the inventory only."""
    return merged(problem for check in FLEET_CHECKS for problem in check(fleet))


def host_problems(fleet: Fleet, states: Mapping[str, Mapping[str, t.Any]]) -> list[Problem]:
    """Run every check that needs the state of a host, for all hosts that were measured."""
    found = [
        problem
        for name, state in states.items()
        for check in HOST_CHECKS
        for problem in check(fleet, fleet.hosts[name], state)
    ]
    return merged([*found, *(problem for judge_all in STATES_CHECKS for problem in judge_all(fleet, states))])


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Align columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def summary(fleet: Fleet, states: Mapping[str, Mapping[str, t.Any]], problems: Iterable[Problem]) -> list[str]:
    """Show what was found on every host, one line each."""
    bad = {name for problem in problems for name in (*problem.hosts, problem.subject)}
    rows: list[tuple[str, ...]] = [
        ("host", "tiers", "system", "memory", "cpu", "free /opt", "free /var", "clock", "langflow", "result")
    ]
    for name, host in fleet.hosts.items():
        tiers = ",".join(tier for tier in TIERS if tier in host.tiers)
        state = states.get(name)
        if state is None:
            rows.append((name, tiers, *("-" for dummy in range(7)), "not checked"))
            continue
        free = [f"{state['disk_free_mb'].get(path, 0) / 1024:.1f} GB" for path in ("/opt", "/var")]
        release = str((state.get("release") or {}).get("version") or "-")
        system = f"{state['os'].get('id')} {state['os'].get('version')}"
        memory = f"{state['memory_mb'] / 1024:.1f} GB"
        clock = f"{float(state['clock_skew']):+.1f} s"
        rows.append(
            (name, tiers, system, memory, str(state["cpus"]), *free, clock, release, "refused" if name in bad else "ok")
        )
    return table(rows)
