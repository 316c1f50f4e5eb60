# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role redis: what it writes and what it refuses."""

from __future__ import annotations

import base64
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
    "redis_check_password": "check-secret",
    "redis_replication_password": "replication-secret",
    "redis_sentinel_password": "sentinel-secret",
    "ansible_host": "192.0.2.31",
}
HOSTS = [{"name": f"data{number}", "address": f"192.0.2.3{number}"} for number in (1, 2, 3)]
CLUSTER: dict[str, Any] = {"redis_mode": "sentinel", "redis_hosts": HOSTS}


def state(master: str | None, source: str) -> dict[str, Any]:
    """What module redis_replication_info found."""
    said = {"master": master, "error": None if master else "connection refused"}
    view = {"master": master if source != "none" else None, "source": source}
    sentinels = {host["name"]: said for host in HOSTS}
    return {
        "settled": source == "sentinels",
        "problems": [] if source == "sentinels" else ["some"],
        "instances": {name: {**view, "sentinels": sentinels} for name in ("cache", "queue")},
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
    # Off, and yet with rights: what was written in a transaction is replayed in its name.
    assert lines[0] == "user default reset ~* &* +@all"
    assert [line.split()[1] for line in lines] == ["default", "admin", "langflow", "check", "celery"]
    assert "secret" not in text
    passwords = ("admin-secret", "queue-secret", "check-secret", "celery-secret")
    for line, password in zip(lines[1:], passwords, strict=True):
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


# --- a cluster with sentinels -----------------------------------------------------------------------------------------


def test_standalone_knows_nothing_of_replication() -> None:
    text = role().file("instance.conf.j2", __redis_name="cache")
    assert "replicas" not in text
    assert "replica-" not in text
    unit = role().file("instance.service.j2", __redis_name="cache")
    assert "ExecStart=/usr/bin/redis-server /etc/flowfleet/redis/cache.conf\n" in unit
    assert "own.conf" not in unit
    assert not [item for item in role().value("{{ __redis_service.files }}") if "sentinel" in item["path"]]


def test_managed_settings_win_over_what_the_server_writes_itself() -> None:
    unit = role(**CLUSTER).file("instance.service.j2", __redis_name="queue").replace(" \\\n ", "")
    start = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert start == (
        "ExecStart=/usr/bin/redis-server /var/lib/redis/queue/own.conf --include /etc/flowfleet/redis/queue.conf"
        " --include /run/credentials/redis-queue.service/replication.conf"
    )
    assert "ReadWritePaths=/var/lib/redis/queue\n" in unit
    # A killed master comes back only after another one was made.
    assert "RestartSec=10s" in unit
    assert "RestartSec=13s" in role(**CLUSTER, redis_sentinel_down_after=7200).file(
        "instance.service.j2", __redis_name="queue"
    )


def test_nothing_managed_says_who_is_master() -> None:
    made = role(**CLUSTER)
    texts = [made.file(name, __redis_name="queue") for name in ("instance.conf.j2", "replication.conf.j2")]
    texts += [made.file(name) for name in ("sentinel.conf.j2", "sentinel.secret.j2")]
    for text in texts:
        assert not [line for line in text.splitlines() if line.startswith(("replicaof", "sentinel monitor"))]


@pytest.mark.parametrize(("count", "least"), [(3, "1"), (4, "2"), (5, "2"), (7, "3")])
def test_a_master_without_the_majority_takes_no_writes(count: int, least: str) -> None:
    hosts = [{"name": f"data{number}", "address": f"192.0.2.3{number}"} for number in range(1, count + 1)]
    text = settings(role(**{**CLUSTER, "redis_hosts": hosts}).file("instance.conf.j2", __redis_name="queue"))
    assert (text["min-replicas-to-write"], text["min-replicas-max-lag"]) == (least, "5")


def test_a_policy_of_one_instance() -> None:
    made = role(**CLUSTER, redis_min_replicas=2, redis_instances=[{**CACHE, "min_replicas": 0}, QUEUE])
    assert settings(made.file("instance.conf.j2", __redis_name="cache"))["min-replicas-to-write"] == "0"
    assert settings(made.file("instance.conf.j2", __redis_name="queue"))["min-replicas-to-write"] == "2"


def test_users_of_programs_may_do_little() -> None:
    made = role(**CLUSTER)
    lines = {line.split()[1]: line for line in made.file("instance.acl.j2", __redis_name="queue").splitlines()}
    assert lines["check"].endswith(" +ping +role")
    assert lines["replication"].endswith(" +psync +replconf +ping")
    assert "~" not in lines["sentinel"]
    assert "@" not in lines["sentinel"]
    guard = {line.split()[1]: line for line in made.file("sentinel.acl.j2").splitlines()}
    assert list(guard) == ["default", "admin", "sentinel", "check"]
    assert guard["default"] == "user default reset"
    assert guard["check"].endswith(" +ping +sentinel|get-master-addr-by-name")
    assert "secret" not in "".join(lines.values()) + "".join(guard.values())


def test_passwords_in_clear_are_for_root_only() -> None:
    made = role(**CLUSTER)
    files = made.value("{{ __redis_service.files }}")
    for item in files:
        if "template" in item and "-secret" in made.file(
            item["template"], **item.get("vars", {"__redis_name": "queue"})
        ):
            assert (item["owner"], item["mode"], item["secret"]) == ("root", "0600", True), item["path"]
    assert "secret" not in str([item.get("vars") for item in files])


def own(made: Role, found: list[str], text: str = "", **view: Any) -> dict[str, str]:
    """What new servers are told, by path."""
    answer = made.value(
        "{{ __redis_own_missing }}",
        __redis_state=view["view"],
        __redis_own_found={"files": [{"path": path} for path in found]},
        __redis_sentinel_own={"content": base64.b64encode(text.encode()).decode()},
    )
    return {item["path"]: item["content"] for item in answer}


def test_the_first_host_is_master_of_a_new_cluster() -> None:
    told = own(role(**CLUSTER), [], view=state(None, "none"))
    assert told == {
        "/var/lib/redis/cache/own.conf": "",
        "/var/lib/redis/queue/own.conf": "",
        "/var/lib/redis/sentinel/own.conf": (
            "sentinel monitor cache 192.0.2.31 6379 2\nsentinel monitor queue 192.0.2.31 6380 2\n"
        ),
    }
    second = own(role(**CLUSTER, inventory_hostname="data2"), [], view=state(None, "none"))
    assert second["/var/lib/redis/queue/own.conf"] == "replicaof 192.0.2.31 6380\n"


def test_a_rebuilt_host_follows_the_master_that_the_sentinels_name() -> None:
    told = own(role(**CLUSTER), [], view=state("data3", "sentinels"))
    assert told["/var/lib/redis/cache/own.conf"] == "replicaof 192.0.2.33 6379\n"
    assert "sentinel monitor queue 192.0.2.33 6380 2\n" in told["/var/lib/redis/sentinel/own.conf"]


def test_what_is_there_is_never_touched() -> None:
    found = [f"/var/lib/redis/{name}/own.conf" for name in ("cache", "queue", "sentinel")]
    text = "sentinel monitor cache 192.0.2.33 6379 2\nsentinel monitor queue 192.0.2.33 6380 2\n"
    assert own(role(**CLUSTER), found, text, view=state("data3", "sentinels")) == {}
    # A new instance is added to what the sentinel knows.
    told = own(role(**CLUSTER), found, text.splitlines(keepends=True)[0], view=state("data3", "sentinels"))
    assert told == {"/var/lib/redis/sentinel/own.conf": text}


@pytest.mark.parametrize(
    ("mode", "due"), [("any", ["queue"]), ("start", []), ("always", ["cache", "queue", "sentinel"])]
)
def test_what_has_to_restart(mode: str, due: list[str]) -> None:
    units = [{"unit": f"redis-{name}.service", "stale": name == "queue"} for name in ("cache", "queue", "sentinel")]
    made = role(**CLUSTER, redis_restart_mode=mode)
    assert made.value("{{ __redis_due }}", __redis_unit={"units": units}) == due


def test_every_unit_is_proven_by_an_answer_over_tls() -> None:
    word = "with 'quotes\" and \\ {{ braces }}"
    made = role(**{**CLUSTER, "redis_admin_password": word})
    units = made.value("{{ __redis_units }}", __redis_unit_mode="start")
    assert [unit["unit"] for unit in units] == ["redis-cache.service", "redis-queue.service", "redis-sentinel.service"]
    for unit, port in zip(units, (6379, 6380, 26379), strict=True):
        name = unit["unit"].removeprefix("redis-").removesuffix(".service")
        assert f"/etc/flowfleet/redis/{name}.conf" in unit["watch"]
        assert f"/etc/systemd/system/{unit['unit']}" in unit["watch"]
        assert (unit["mode"], unit["enabled"]) == ("start", True)
        assert unit["gate"]["argv"][-5:] == ["-p", port, "--user", "admin", "PING"]
        assert unit["gate"]["environment"] == {"REDISCLI_AUTH": word}
        assert word not in str(unit["gate"]["argv"])


def test_only_a_cluster_that_agrees_is_restarted_host_by_host() -> None:
    for source, clustered in (("sentinels", True), ("servers", False), ("none", False)):
        assert role(**CLUSTER).value("{{ __redis_clustered }}", __redis_state=state("data1", source)) is clustered
    assert role().value("{{ __redis_clustered }}") is False


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
        ({"redis_instances": [{**CACHE, "name": "sentinel"}]}, "must all differ"),
        ({"redis_user": "admin"}, "redis_admin_user"),
        ({"redis_check_user": "langflow"}, "redis_admin_user"),
        ({**CLUSTER, "redis_hosts": HOSTS[:2]}, "Three or more redis_hosts are needed, now 2"),
        ({**CLUSTER, "redis_name": "data9"}, "this host (data9)"),
        ({**CLUSTER, "redis_hosts": [*HOSTS[:2], {"name": "data3", "address": "data3.example.com"}]}, "IP addresses"),
        ({**CLUSTER, "redis_sentinel_quorum": 4}, "redis_sentinel_quorum"),
        ({**CLUSTER, "redis_min_replicas": 3}, "redis_min_replicas is not below"),
        ({**CLUSTER, "redis_sentinel_port": 6379}, "redis_sentinel_port"),
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
