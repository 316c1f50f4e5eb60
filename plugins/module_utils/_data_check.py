# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Measure PostgreSQL, Redis and an object store as a client on this host meets them; nothing is judged here.

What cannot be measured is C(None). C(error) says why a service could not be asked at all, and C(kind) what that has to
do with: C(ca_file), C(tls), C(login), C(access), C(database), C(connections), C(endpoint), C(bucket), or C(network).
"""

from __future__ import annotations

import secrets
import ssl
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _redis, _s3
from ansible_collections.flowfleet.langflow.plugins.module_utils._postgres_wire import (
    Connection,
    PostgresError,
    context_for,
    load_authorities,
)

# Classes of SQLSTATE (or whole codes) by what the operator has to look at.
KINDS = {
    "28000": "access",
    "28": "login",
    "3D": "database",
    "42501": "access",
    "53300": "connections",
    "tls": "tls",
    "ca_file": "ca_file",
}
SERVER = """SELECT current_setting('server_version_num'), current_setting('max_connections'),
 current_setting('superuser_reserved_connections'), coalesce(current_setting('reserved_connections', true), '0'),
 (SELECT count(*) FROM pg_stat_activity WHERE usename <> current_user),
 (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
 (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
 pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,
 coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
 (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"""
VECTOR = """SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
 (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')"""
MISSING_BUCKET, DENIED = 404, 403


def refused(exc: PostgresError) -> dict[str, str]:
    """Why a server could not be asked, and where to look."""
    kind = KINDS.get(exc.code) or KINDS.get(exc.code[:2]) or "network"
    return {"error": str(exc), "kind": kind}


def median_ms(ask: Callable[[], Any], rounds: int) -> float:
    """The median time of one round trip, in milliseconds."""
    times = []
    for _round in range(rounds):
        begun = time.monotonic()
        ask()
        times.append(time.monotonic() - begun)
    return round(statistics.median(times) * 1000, 2)


def number(text: Any) -> int | None:
    """A whole number, or nothing."""
    try:
        return int(str(text))
    except ValueError:
        return None


def connect(wanted: Mapping[str, Any], timeout: float) -> Connection:
    """Log in to a database as Langflow would."""
    context = context_for(wanted["sslmode"], wanted["ca_file"], wanted.get("ca_text") or "")
    return Connection(
        wanted["host"],
        wanted["port"],
        database=wanted["name"],
        user=wanted["user"],
        password=wanted["password"],
        context=context,
        timeout=timeout,
    )


def reach_database(wanted: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """One statement, there and back."""
    try:
        with connect(wanted, timeout) as connection:
            connection.query("SELECT 1")
            return {"error": None, "kind": "", "tls": connection.tls}
    except PostgresError as exc:
        return refused(exc)


def measure_database(wanted: Mapping[str, Any], rounds: int, timeout: float) -> dict[str, Any]:
    """What Langflow needs to know about its server; nothing is written."""
    try:
        with connect(wanted, timeout) as connection:
            row = connection.query(SERVER)[0]
            installed, available = connection.query(VECTOR)[0]
            latency = median_ms(lambda: connection.query("SELECT 1"), rounds)
            tls, login = connection.tls, connection.login
    except PostgresError as exc:
        return refused(exc)
    limits = [value for value in (number(row[5]), number(row[6])) if value is not None and value >= 0]
    return {
        "error": None,
        "kind": "",
        "tls": tls,
        "login": login,
        "latency_ms": latency,
        "version": (number(row[0]) or 0) // 10000,
        "max_connections": number(row[1]),
        "reserved": (number(row[2]) or 0) + (number(row[3]) or 0),
        "others": number(row[4]),
        "own_limit": min(limits, default=None),
        "read_only": row[7] in ("t", "true", "on"),
        "can_create": row[8] == "t",
        "superuser": row[9] == "t",
        "vector": installed,
        "vector_available": available,
    }


def _context(wanted: Mapping[str, Any]) -> ssl.SSLContext:
    """Names and authorities are always verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_authorities(context, wanted["ca_file"], wanted.get("ca_text") or "")
    return context


def _optional(client: _redis.Client, *words: str) -> Any:
    """The answer to what a user may not be allowed to ask."""
    try:
        return client.call(*words)
    except _redis.RedisError:
        return None


def measure_redis(wanted: Mapping[str, Any], rounds: int, timeout: float, write: bool) -> dict[str, Any]:
    """What a cache or a queue needs of its server; a key of our own is written and removed."""
    try:
        context = _context(wanted)
    except PostgresError as exc:
        return refused(exc)
    key = f"langflow:preflight:{secrets.token_hex(8)}"
    try:
        with _redis.Client(
            wanted["host"],
            wanted["port"],
            user=wanted["user"],
            password=wanted["password"],
            context=context,
            timeout=timeout,
        ) as client:
            latency = median_ms(lambda: client.call("PING"), rounds)
            info: dict[str, str] = {}
            for name in ("server", "memory", "persistence", "replication"):
                info.update(_redis.section(_optional(client, "INFO", name)))
            save = _redis.pairs(_optional(client, "CONFIG", "GET", "save")).get("save")
            written: str | None = None
            if write:
                try:
                    client.call("SET", key, "1", "EX", 30)
                    client.call("DEL", key)
                    written = ""
                except _redis.RedisError as exc:
                    written = str(exc)
    except _redis.RedisError as exc:
        text = str(exc)
        login = text.startswith(("WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH", "ERR invalid password"))
        # A server without TLS hangs up, or answers in its own words.
        tls = "certificate" in text or "SSL" in text.upper()
        return {"error": text, "kind": "login" if login else "tls" if tls else "network"}
    return {
        "error": None,
        "kind": "",
        "latency_ms": latency,
        "version": info.get("redis_version"),
        "run_id": info.get("run_id"),
        "role": info.get("role"),
        "maxmemory": number(info.get("maxmemory")),
        "maxmemory_policy": info.get("maxmemory_policy"),
        "append_only": {"1": True, "0": False}.get(info.get("aof_enabled", "")),
        "save": save,
        # Empty: it worked. Nothing: it was not tried.
        "write_error": written,
    }


def measure_store(wanted: Mapping[str, Any], timeout: float, write: bool) -> dict[str, Any]:
    """Whether uploads would arrive; an object of our own is written, read and removed."""
    context = None
    if wanted["endpoint"] == "" or wanted["endpoint"].startswith("https://"):
        try:
            context = _context(wanted)
        except PostgresError as exc:
            return refused(exc)
    bucket = _s3.Bucket(
        wanted["endpoint"],
        wanted["bucket"],
        wanted["region"],
        wanted["access_key"],
        wanted["secret_key"],
        context,
        timeout,
    )
    prefix = wanted["prefix"].strip("/")
    key = f"{prefix}/flowfleet-preflight-{secrets.token_hex(8)}".lstrip("/")
    content = secrets.token_hex(32).encode()
    result: dict[str, Any] = {"error": None, "kind": "", "tls": context is not None, "written": None}
    try:
        # A refused HEAD has no text that says why.
        seen = bucket.request("HEAD")
        if seen.status == MISSING_BUCKET:
            return {**result, "error": f"bucket {wanted['bucket']} does not exist", "kind": "bucket"}
        if seen.status >= 300 and seen.status != DENIED:
            return {**result, "error": f"the store answers with status {seen.status}", "kind": "endpoint"}
        if not write:
            if seen.status == DENIED:
                return {**result, "error": "the store refuses these keys", "kind": "login"}
            return result
        put = bucket.request("PUT", key, content)
        if put.status >= 300:
            code = put.code or f"status {put.status}"
            kind = "bucket" if put.code == "NoSuchBucket" else "login"
            return {**result, "error": f"an object could not be written ({code})", "kind": kind}
        got = bucket.request("GET", key)
        gone = bucket.request("DELETE", key)
    except _s3.StoreError as exc:
        return {**result, "error": str(exc), "kind": exc.code or "network"}
    if got.status >= 300 or got.body != content:
        why = got.code or (f"status {got.status}" if got.status >= 300 else "other content")
        return {**result, "error": f"an object that was written could not be read ({why})", "kind": "login"}
    if gone.status >= 300:
        why = gone.code or f"status {gone.status}"
        return {**result, "error": f"the object {key} could not be deleted ({why})", "kind": "login"}
    return {**result, "written": True}
