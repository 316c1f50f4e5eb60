# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""What preflight says about connections to the database, and about servers that are not of this inventory.

Those were measured on every Langflow node by M(flowfleet.langflow.data_check). As in C(_preflight), nothing here talks
to a host, and a problem names the variable at fault and the fix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils._connections import (
    LOCKS_DEFAULT,
    SESSION,
    TRANSACTION,
    Budget,
    Node,
    Pooler,
    budget,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._preflight import (
    LANGFLOW,
    MINIMUM_POSTGRESQL,
    POSTGRESQL,
    Fleet,
    Host,
    Problem,
    merged,
    settings,
    table,
    uses_pooler,
)
from ansible_collections.flowfleet.langflow.plugins.module_utils._version_edges import version_tuple

State = Mapping[str, Any]

MINIMUM_REDIS = "6.2"
LATENCY_LIMIT_MS = 20.0
LOCKS_SETTING = "KNOWLEDGE_BASE_STORAGE_POOL_SIZE"
# Connections of a server of the operator's own that stay free for migrations and for people.
FREE = 5
# Clients of PgBouncer on a node beside Langflow's: schema guard, proofs of this collection, people.
MORE_CLIENTS = 10
POOL_FIX = "lower langflow_workers, langflow_db_pool_size or langflow_db_max_overflow"
POOLER_FIX = "lower pgbouncer_pool_size or pgbouncer_reserve_size"

DATABASE_SUBJECTS = {
    "ca_file": "langflow_database_ca_file",
    "tls": "langflow_database_ca_file",
    "login": "langflow_database_password",
    "access": "langflow_database_user",
    "database": "langflow_database_name",
}
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"

STORE_SUBJECTS = {
    "ca_file": "langflow_s3_ca_file",
    "tls": "langflow_s3_ca_file",
    "login": "langflow_s3_access_key",
    "bucket": "langflow_s3_bucket",
}
FIXES = {
    "ca_file": "put the authorities there, or name a file of the host, such as /etc/ssl/certs/ca-certificates.crt",
    "tls": "name the authority that signed the certificate, and reach the server by a name that the certificate bears",
    "login": "give the user and password (or keys) that the server knows, in langflow_fleet_secrets or its variable",
    "access": "let the role into that database from this host (pg_hba.conf of the server, or its right to connect)",
    "database": "create the database, or correct its name",
    "bucket": "create the bucket, or correct its name",
    "connections": "raise max_connections of the server",
    "endpoint": "correct the address and langflow_s3_region",
    "network": "correct address and port, and let this host through to it",
}


# --- connections ------------------------------------------------------------------------------------------------------


def node(host: Host) -> Node | None:
    """What one Langflow node may open; nothing when that cannot be known yet."""
    found = [host.number(f"langflow_{name}") for name in ("workers", "db_pool_size", "db_max_overflow")]
    workers, pool, overflow = (int(value or 0) for value in found)
    locks = LOCKS_DEFAULT
    for _variable, name, value in settings(host):
        if name == LOCKS_SETTING and str(value).isdigit():
            locks = int(value)
    pooler = None
    if uses_pooler(host):
        sizes = [host.number(f"pgbouncer_{name}") for name in ("pool_size", "reserve_size", "max_clients")]
        mode = host.text("pgbouncer_pool_mode")
        if None in sizes or not mode:
            return None  # rests on facts of the host
        size, reserve, clients = (int(value or 0) for value in sizes)
        pooler = Pooler(mode, size, reserve, clients)
    return Node(host.name, workers, pool, overflow, locks, pooler)


def nodes(fleet: Fleet) -> list[Node]:
    """All nodes, or none as long as one of them is not known."""
    found = [node(host) for host in fleet.tier(LANGFLOW)]
    return [item for item in found if item] if all(found) else []


def reserved(host: Host) -> int:
    """Connections of our own server that Langflow does not get."""
    given = host.values.get("postgresql_settings")
    given = given if isinstance(given, Mapping) else {}
    kept = 0
    for name in ("superuser_reserved_connections", "reserved_connections"):
        kept += int(given[name]) if str(given.get(name, "")).isdigit() else 0
    return max(int(host.number("postgresql_reserved_connections") or 0), kept)


def check_connections(fleet: Fleet) -> Iterator[Problem]:
    """All workers of all nodes together get the connections that they may open."""
    found = nodes(fleet)
    pooled = any(item.pooler for item in found)
    who = "pools of PgBouncer" if pooled else "Langflow workers"
    fix = POOLER_FIX if pooled else f"{POOL_FIX}, or set langflow_fleet_pgbouncer to true"
    for host in fleet.tier(POSTGRESQL):
        limit = host.number("postgresql_max_connections")
        if limit is None or not found or _elsewhere(fleet):
            continue
        plan = budget(found, int(limit), reserved(host))
        if plan.left is not None and plan.left < 0:
            message = (
                f"the {who} may open {plan.wanted} connections, {plan.reserved} are reserved "
                f"(postgresql_reserved_connections), and the server takes {limit:g}"
            )
            raised = "set langflow_workers in group all, where PostgreSQL sees it too, or raise it"
            yield Problem("postgresql_max_connections", message, f"{raised}; or {fix}", (host.name,))


def check_pooler(fleet: Fleet) -> Iterator[Problem]:
    """A pool that is too small lets workers wait for each other."""
    for host in fleet.tier(LANGFLOW):
        found = node(host)
        if found is None or found.pooler is None:
            continue
        pooler = found.pooler
        if pooler.mode == SESSION and pooler.total < found.kept:
            message = f"mode session, and the workers keep {found.kept} connections open: {pooler.total} are too few"
            fix = f"set it to {found.opened} or more, or lower langflow_db_pool_size"
            yield Problem("pgbouncer_pool_size", message, fix, (host.name,))
        if pooler.mode == TRANSACTION and pooler.size < 2 * found.workers:
            message = (
                f"{pooler.size} for {found.workers} workers: one that holds a lock and needs another connection waits"
            )
            yield Problem("pgbouncer_pool_size", message, f"set it to {2 * found.workers} or more", (host.name,))
        clients = found.opened + found.on_demand + MORE_CLIENTS
        if pooler.clients < clients:
            message = f"{pooler.clients} is less than the {clients} connections that Langflow may open on this host"
            yield Problem("pgbouncer_max_clients", message, f"set it to {clients} or more", (host.name,))


def _elsewhere(fleet: Fleet) -> bool:
    """Whether the database is a server of the operator's own although the inventory has one too."""
    return any("database" in state for state in fleet.data.values())


# --- servers of the operator's own ------------------------------------------------------------------------------------


def _unreachable(subjects: Mapping[str, str], otherwise: str, host: Host, state: State) -> Problem:
    """Say why a service could not be asked."""
    subject = subjects.get(state["kind"], otherwise)
    return Problem(subject, str(state["error"]), FIXES.get(state["kind"], FIXES["network"]), (host.name,))


def not_yet(host: Host, variable: str, state: State) -> bool:
    """Whether a service could not be verified only because the host is bare: a role installs those authorities."""
    return state.get("kind") == "ca_file" and host.text(variable) == SYSTEM_AUTHORITIES


def _slow(host: Host, subject: str, state: State) -> Iterator[Problem]:
    """Langflow asks the database many times for one request."""
    limit = host.number("langflow_fleet_latency_limit_ms")
    limit = LATENCY_LIMIT_MS if limit is None else limit
    measured = state.get("latency_ms")
    if measured is not None and float(measured) > limit:
        message = f"one round trip takes longer than {limit:g} ms ({measured:g} ms, median)"
        yield Problem(subject, message, "use a server nearby, or raise langflow_fleet_latency_limit_ms", (host.name,))


def judge_database(fleet: Fleet, host: Host, state: State) -> Iterator[Problem]:
    """Judge a PostgreSQL server as Langflow's role met it."""
    subject = "langflow_database_host"
    if state["error"]:
        yield _unreachable(DATABASE_SUBJECTS, subject, host, state)
        return
    name, user = host.text("langflow_database_name"), host.text("langflow_database_user")
    if state["version"] < MINIMUM_POSTGRESQL:
        message = f"PostgreSQL {state['version']} is older than {MINIMUM_POSTGRESQL}, Langflow refuses it"
        yield Problem(subject, message, f"use a server with {MINIMUM_POSTGRESQL} or newer", (host.name,))
    if state["read_only"]:
        message = "the server is a standby, or read-only for this role"
        yield Problem(subject, message, "give the address of the primary", (host.name,))
    if not state["can_create"]:
        message = f"role {user} may not create tables in database {name}"
        fix = f"make it the owner of the database, or run: GRANT CREATE ON SCHEMA public TO {user}"
        yield Problem("langflow_database_user", message, fix, (host.name,))
    if host.text("langflow_deployment_profile") == "prod" and not state["vector"]:
        if state["vector_available"]:
            message = f"the extension vector is not installed in database {name}"
            fix = "run CREATE EXTENSION vector in it, as a role that may"
        else:
            message = "the server has no extension vector, and with langflow_deployment_profile prod Langflow needs it"
            fix = "install pgvector on the server, or set langflow_deployment_profile to dev"
        yield Problem("langflow_database_name", message, fix, (host.name,))
    yield from _slow(host, subject, state)
    yield from _own_limit(fleet, state)


def external_budget(fleet: Fleet, state: State) -> Budget:
    """All nodes against a server of the operator's own, as it is now."""
    taken = int(state.get("reserved") or 0) + int(state.get("others") or 0) + FREE
    return budget(nodes(fleet), state.get("max_connections"), taken)


def _own_limit(fleet: Fleet, state: State) -> Iterator[Problem]:
    """A server of the operator's own has to have the connections too."""
    plan = external_budget(fleet, state)
    pooled = any(item.pooler for item in plan.nodes)
    subject = "pgbouncer_pool_size" if pooled else "langflow_db_pool_size"
    fix = POOLER_FIX if pooled else f"{POOL_FIX}, set langflow_fleet_pgbouncer to true"
    own = state.get("own_limit")
    if plan.left is not None and plan.left < 0:
        message = (
            f"the Langflow nodes may open {plan.wanted} connections, {plan.reserved} are reserved or in use by others, "
            f"and the server takes {plan.limit}"
        )
        yield Problem(subject, message, f"{fix}, or raise max_connections of the server")
    elif own is not None and plan.wanted + FREE > int(own):
        message = f"the Langflow nodes may open {plan.wanted} connections, and the limit of role or database is {own}"
        yield Problem(subject, message, f"{fix}, or raise the CONNECTION LIMIT of role and database")


def judge_redis(host: Host, name: str, state: State) -> Iterator[Problem]:
    """Judge the server of the cache or of the queue."""
    subject = f"langflow_redis_{name}_host"
    if state["error"]:
        subjects = {
            "ca_file": "langflow_redis_ca_file",
            "tls": "langflow_redis_ca_file",
            "login": f"langflow_redis_{name}_password",
        }
        yield _unreachable(subjects, subject, host, state)
        return
    version, policy = state["version"], state["maxmemory_policy"]
    if version and version_tuple(version) < version_tuple(MINIMUM_REDIS):
        message = f"Redis {version} is older than {MINIMUM_REDIS}"
        yield Problem(subject, message, f"use a server with {MINIMUM_REDIS} or newer", (host.name,))
    if state["role"] and state["role"] != "master":
        yield Problem(subject, "the server is a replica", "give the address of the master", (host.name,))
    if state["write_error"]:
        denied = state["write_error"].startswith("NOPERM")
        message = f"a key langflow:* cannot be written ({state['write_error']})"
        fix = "let the user read and write the keys langflow:*" if denied else "look at the server's own log"
        yield Problem(f"langflow_redis_{name}_user" if denied else subject, message, fix, (host.name,))
    if policy and state["maxmemory"] != 0:
        if name == "queue" and policy != "noeviction":
            message = f"maxmemory-policy {policy} lets the queue throw away jobs when memory runs out"
            yield Problem(subject, message, "set maxmemory-policy of that server to noeviction", (host.name,))
        if name == "cache" and policy == "noeviction":
            message = "maxmemory-policy noeviction lets the cache refuse every write when memory runs out"
            yield Problem(subject, message, "set maxmemory-policy of that server to allkeys-lru", (host.name,))
    yield from _slow(host, subject, state)


def judge_separate(host: Host, states: Mapping[str, State]) -> Iterator[Problem]:
    """Cache and queue may have two names for one server."""
    ids = [states[name].get("run_id") for name in ("cache", "queue") if name in states]
    if len(ids) == 2 and ids[0] and ids[0] == ids[1]:
        message = "cache and queue are the same server under two addresses: the eviction of the cache would lose jobs"
        yield Problem("langflow_redis_queue_host", message, "use a server of its own for the queue", (host.name,))


def data_problems(fleet: Fleet) -> list[Problem]:
    """Judge connections, pools and everything that was measured."""
    found: list[Problem] = [*check_connections(fleet), *check_pooler(fleet)]
    for name, state in fleet.data.items():
        host = fleet.hosts[name]
        database, redis, store = (state.get(key) or {} for key in ("database", "redis", "object_store"))
        if database and not not_yet(host, "langflow_database_ca_file", database):
            found += judge_database(fleet, host, database)
        for instance, measured in redis.items():
            if not not_yet(host, "langflow_redis_ca_file", measured):
                found += judge_redis(host, instance, measured)
        found += judge_separate(host, redis)
        if store.get("error") and not not_yet(host, "langflow_s3_ca_file", store):
            found.append(_unreachable(STORE_SUBJECTS, "langflow_s3_endpoint", host, store))
    return merged(found)


# --- what is shown ----------------------------------------------------------------------------------------------------


def notes(fleet: Fleet) -> Iterator[str]:
    """What works and is worth knowing."""
    for name, state in fleet.data.items():
        asked = [
            ("langflow_database_ca_file", state.get("database")),
            ("langflow_s3_ca_file", state.get("object_store")),
        ]
        asked += [("langflow_redis_ca_file", item) for item in (state.get("redis") or {}).values()]
        if any(not_yet(fleet.hosts[name], variable, item) for variable, item in asked if item):
            yield f"{name} has no {SYSTEM_AUTHORITIES} yet; what is verified with it was not asked"
        login = (state.get("database") or {}).get("login")
        if login and login != "scram-sha-256":
            yield f"PostgreSQL lets the role in with '{login}' instead of scram-sha-256"
        queue = (state.get("redis") or {}).get("queue") or {}
        if queue.get("append_only") is False and not queue.get("save"):
            yield "the queue's Redis keeps no append-only file: what waits there is lost with its process"
        store = state.get("object_store") or {}
        if store.get("error") is None and store.get("tls") is False:
            yield "the endpoint of the object store is not https: uploads travel in the clear"


def _rows(fleet: Fleet) -> Iterator[tuple[str, ...]]:
    for name, state in fleet.data.items():
        host = fleet.hosts[name]
        services: list[tuple[str, str, State]] = []
        if "database" in state:
            services.append(("PostgreSQL", "langflow_database", state["database"]))
        services += [
            (f"Redis {key}", f"langflow_redis_{key}", item) for key, item in (state.get("redis") or {}).items()
        ]
        for label, prefix, item in services:
            place = f"{host.text(f'{prefix}_host')}:{host.text(f'{prefix}_port')}"
            latency = f"{item['latency_ms']:g} ms" if item.get("latency_ms") is not None else "-"
            yield (
                label,
                place,
                name,
                str(item.get("version") or "-"),
                latency,
                "refused" if item["error"] else "answers",
            )
        if "object_store" in state:
            item = state["object_store"]
            place = f"{host.text('langflow_s3_endpoint')} {host.text('langflow_s3_bucket')}".strip()
            result = "refused" if item["error"] else "put, get, delete" if item.get("written") else "answers"
            yield "S3", place, name, "-", "-", result


def data_lines(fleet: Fleet) -> list[str]:
    """Connections, and the servers that are not of this inventory, for people."""
    lines: list[str] = []
    plan = nodes(fleet)
    measured: Iterable[State] = [state["database"] for state in fleet.data.values() if "database" in state]
    answered = [state for state in measured if not state["error"]]
    servers = fleet.tier(POSTGRESQL)
    result: Budget | None = None
    if plan and answered:
        result = external_budget(fleet, answered[0])
    elif plan and servers and not _elsewhere(fleet):
        limit = servers[0].number("postgresql_max_connections")
        result = budget(plan, None if limit is None else int(limit), reserved(servers[0]))
    elif plan:
        result = budget(plan, None, 0)
    if result:
        lines += ["", "connections to PostgreSQL", *(f"  {line}" for line in result.lines())]
    rows = list(_rows(fleet))
    if rows:
        lines += ["", *table([("service", "address", "from", "version", "round trip", "result"), *rows])]
    return lines + [f"note: {text}" for text in dict.fromkeys(notes(fleet))]
