# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role redis: what it writes and what it refuses."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from rendering import Role

FACTS = {
    "distribution": "Debian",
    "distribution_major_version": "13",
    "memtotal_mb": 4096,
    "all_ipv4_addresses": ["192.0.2.31"],
    "all_ipv6_addresses": [],
    "default_ipv4": {"address": "192.0.2.31"},
}
CACHE = {
    "name": "cache",
    "port": 6379,
    "password": "cache-secret",
    "maxmemory": "256mb",
    "maxmemory_policy": "allkeys-lru",
}
QUEUE = {
    "name": "queue",
    "port": 6380,
    "password": "queue-secret",
    "maxmemory_policy": "noeviction",
    "appendonly": True,
}
GIVEN: dict[str, Any] = {
    "redis_instances": [CACHE, QUEUE],
    "redis_admin_password": "admin-secret",
    "ansible_host": "192.0.2.31",
}


def role(**changes: Any) -> Role:
    return Role("redis", {**FACTS, **changes.pop("facts", {})}, **{**GIVEN, **changes})


def settings(text: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))


def test_an_instance_has_no_plaintext_port_and_its_own_purpose() -> None:
    cache = settings(role().file("instance.conf.j2", __redis_name="cache"))
    queue = settings(role().file("instance.conf.j2", __redis_name="queue"))
    assert (cache["port"], cache["tls-port"]) == ("0", "6379")
    assert (queue["port"], queue["tls-port"]) == ("0", "6380")
    assert cache["bind"] == "127.0.0.1 192.0.2.31"
    assert (cache["maxmemory"], cache["maxmemory-policy"], cache["appendonly"]) == ("256mb", "allkeys-lru", "no")
    assert (queue["maxmemory-policy"], queue["appendonly"], queue["appendfsync"]) == ("noeviction", "yes", "everysec")
    assert "appendfsync" not in cache
    assert "maxmemory" not in queue
    assert cache["aclfile"] == "/run/credentials/redis-cache.service/users.acl"
    assert cache["tls-key-file"] == "/run/credentials/redis-cache.service/tls.key"


def test_settings_of_an_instance_come_after_those_of_all() -> None:
    mine = {**CACHE, "settings": {"hz": 20}}
    text = role(redis_instances=[mine], redis_settings={"hz": 15, "databases": 4}).file(
        "instance.conf.j2", __redis_name="cache"
    )
    assert text.endswith("# --- further settings\ndatabases 4\nhz 20\n")


def test_the_access_list_holds_sums_only_and_nobody_is_anonymous() -> None:
    extra = {**QUEUE, "users": [{"name": "celery", "password": "celery-secret", "rules": "~celery* +@all"}]}
    text = role(redis_instances=[CACHE, extra]).file("instance.acl.j2", __redis_name="queue")
    lines = text.splitlines()
    # The server accepts nothing but users in this file.
    assert all(line.startswith("user ") for line in lines)
    assert lines[0] == "user default reset"
    assert [line.split()[1] for line in lines] == ["default", "admin", "langflow", "celery"]
    assert "secret" not in text
    for line, password in zip(lines[1:], ("admin-secret", "queue-secret", "celery-secret"), strict=True):
        assert f" on #{hashlib.sha256(password.encode()).hexdigest()} " in line
    application = lines[2]
    for rule in ("-@admin", "-@dangerous", "-@scripting", "~langflow:*", "&langflow:cancel:*"):
        assert f" {rule}" in application


def test_the_unit_names_the_program_and_its_own_files() -> None:
    text = role(redis_implementation="valkey").file("instance.service.j2", __redis_name="queue")
    assert "ExecStart=/usr/bin/valkey-server /etc/flowfleet/redis/queue.conf" in text
    assert "ReadWritePaths=/var/lib/valkey/queue" in text
    assert "LoadCredential=users.acl:/etc/flowfleet/redis/queue.acl" in text
    assert "User=valkey" in text


def test_the_files_of_all_instances_and_the_mask() -> None:
    files = role().value("{{ __redis_service.files }}")
    paths = {item["path"]: item for item in files}
    assert paths["/etc/systemd/system/redis-server.service"]["target"] == "/dev/null"
    for name in ("cache", "queue"):
        assert paths[f"/etc/flowfleet/redis/{name}.acl"] == {
            "path": f"/etc/flowfleet/redis/{name}.acl",
            "template": "instance.acl.j2",
            "vars": {"__redis_name": name},
            "owner": "root",
            "group": "root",
            "mode": "0600",
            "secret": True,
        }
    # Arguments of a module can be printed: no password may be among them.
    assert "secret" not in str([item.get("vars") for item in files])


@pytest.mark.parametrize(
    ("host", "facts", "addresses"),
    [
        ("192.0.2.31", {}, ["127.0.0.1", "192.0.2.31"]),
        ("127.0.0.1", {}, ["127.0.0.1"]),
        ("data1.example.com", {"default_ipv4": {"address": "192.0.2.77"}}, ["127.0.0.1", "192.0.2.77"]),
        ("2001:db8::31", {}, ["127.0.0.1", "2001:db8::31"]),
    ],
)
def test_addresses_to_listen_on(host: str, facts: dict[str, Any], addresses: list[str]) -> None:
    assert role(ansible_host=host, facts=facts).value("{{ redis_bind }}") == addresses


def test_what_is_right_is_not_refused() -> None:
    assert role().refusals() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"redis_instances": [CACHE, {**QUEUE, "port": 6379}]}, "must all differ"),
        ({"redis_instances": [CACHE, {**QUEUE, "name": "cache"}]}, "must all differ"),
        ({"redis_instances": [CACHE, {**QUEUE, "password": "cache-secret"}]}, "must all differ"),
        ({"redis_instances": [{**CACHE, "name": "../x"}]}, "must all differ"),
        ({"redis_instances": []}, "at least one entry"),
        ({"redis_user": "admin"}, "redis_admin_user"),
        (
            {"redis_instances": [{key: CACHE[key] for key in CACHE if key != "maxmemory"}]},
            "cache evict(s) keys but has no maxmemory",
        ),
        ({"redis_instances": [{**CACHE, "maxmemory": "4gb"}]}, "4096 MB together"),
        ({"redis_bind": ["198.51.100.1"]}, "redis_bind names 198.51.100.1"),
        ({"redis_implementation": "valkey", "facts": {"distribution_major_version": "12"}}, "no package on Debian 12"),
        ({"facts": {"distribution": "Fedora"}}, "no package on Fedora"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    refusals = role(**changes).refusals()
    assert len(refusals) == 1
    assert message in refusals[0]
    assert "secret" not in refusals[0]
