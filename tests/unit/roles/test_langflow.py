# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role langflow: what it writes and what it refuses."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from rendering import ROLES, Role

FACTS = {"python": {"version": {"major": 3, "minor": 13}}, "systemd": {"version": 257}}
AWKWARD = "p@ss/w%rd$x"
GIVEN: dict[str, Any] = {
    "langflow_fleet_database_hosts": [{"name": "data1", "address": "192.0.2.31"}],
    "langflow_fleet_redis_hosts": [{"name": "data1", "address": "192.0.2.31"}],
    "langflow_database_password": AWKWARD,
    "langflow_redis_cache_password": "cache/secret",
    "langflow_redis_queue_password": "queue/secret",
    "langflow_superuser_password": "a-long-password",
    "langflow_secret_key": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "langflow_cache_signing_key": "signing",
    "langflow_s3_access_key": "access",
    "langflow_s3_secret_key": "secret",
    "langflow_s3_bucket": "files",
    **yaml.safe_load((ROLES / "langflow" / "vars" / "settings.yml").read_text(encoding="utf-8")),
}
VERSIONS = sorted(
    path.name.removeprefix("requirements-").removesuffix(".txt")
    for path in (ROLES / "langflow" / "files").glob("requirements-[0-9]*.txt")
)
SECRETS = (
    AWKWARD,
    "p%40ss",
    "cache/secret",
    "cache%2Fsecret",
    "queue%2Fsecret",
    "a-long-password",
    "MDEyMzQ1",
    "signing",
)


@pytest.fixture(scope="module", autouse=True)
def _filters_of_this_checkout() -> None:
    """Let templates find the collection's own filters, whichever test has imported the packages before."""
    Role("langflow", FACTS)  # The first role of a process sets up Ansible's own loaders.
    collection = importlib.import_module("ansible_collections.flowfleet.langflow")
    if not hasattr(collection, "_collection_meta"):
        collection._collection_meta = {}
    filters = importlib.import_module("ansible_collections.flowfleet.langflow.plugins.filter")
    if not getattr(filters, "__file__", None):
        filters.__file__ = f"{next(iter(filters.__path__))}/__synthetic__"


def role(systemd: int = 257, **changes: Any) -> Role:
    return Role("langflow", {**FACTS, "systemd": {"version": systemd}}, **{**GIVEN, **changes})


def environment(text: str) -> dict[str, str]:
    """Read an environment file as systemd does."""
    found = {}
    for line in text.splitlines():
        if match := re.fullmatch(r'([A-Za-z_]\w*)="(.*)"', line):
            found[match[1]] = re.sub(r'\\([\\"$`])', r"\1", match[2])
        else:
            assert not line or line.startswith("#"), line
    return found


def unit(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


def service(migration: bool = False, **changes: Any) -> dict[str, list[str]]:
    return unit(role(**changes).file("langflow.service.j2", __langflow_migration=migration))


def test_settings_make_a_node_of_a_cluster() -> None:
    found = environment(role().file("langflow.env.j2"))
    assert found["LANGFLOW_JOB_QUEUE_TYPE"] == found["LANGFLOW_CACHE_TYPE"] == "redis"
    assert found["LANGFLOW_STORAGE_TYPE"] == "s3"
    assert found["LANGFLOW_DEPLOYMENT_PROFILE"] == "prod"
    assert found["LANGFLOW_LOG_ENV"] == "container"
    assert (
        found["LANGFLOW_AUTO_LOGIN"] == found["LANGFLOW_ENABLE_SIGNUP"] == found["LANGFLOW_CELERY_ENABLED"] == "false"
    )
    assert found["LANGFLOW_RATE_LIMIT_TRUST_PROXY"] == found["LANGFLOW_ACCESS_SECURE"] == "true"
    assert json.loads(found["LANGFLOW_DB_CONNECTION_SETTINGS"])["pool_size"] == 10


@pytest.mark.parametrize("version", VERSIONS)
def test_every_setting_of_the_role_is_known_to_langflow(version: str) -> None:
    rendered = role(langflow_version=version)
    names = environment(rendered.file("langflow.env.j2")) | environment(rendered.file("secrets.env.j2"))
    known = {f"LANGFLOW_{name}" for name in GIVEN["__langflow_known_settings"][version.rpartition(".")[0]]}
    assert {name for name in names if name.startswith("LANGFLOW_")} - known == set()


def test_runs_of_1_12_are_not_called_lost_while_they_work() -> None:
    old = environment(role(langflow_version="1.12.8").file("langflow.env.j2"))
    assert int(old["LANGFLOW_BACKGROUND_WATCHDOG_INTERVAL_S"]) >= 3600
    own = role(langflow_version="1.12.8", langflow_settings={"BACKGROUND_WATCHDOG_INTERVAL_S": 60})
    assert environment(own.file("langflow.env.j2"))["LANGFLOW_BACKGROUND_WATCHDOG_INTERVAL_S"] == "60"
    assert "LANGFLOW_BACKGROUND_WATCHDOG_INTERVAL_S" not in environment(role().file("langflow.env.j2"))


def test_no_secret_stands_outside_the_secret_file() -> None:
    rendered = role()
    for template in ("langflow.env.j2", "gunicorn.conf.py.j2", "langflow.service.j2"):
        text = rendered.file(template, __langflow_migration=False)
        assert not [secret for secret in SECRETS if secret in text], template
    files = {item["path"]: item for item in rendered.value("{{ __langflow_service }}")["files"]}
    secret = files["/etc/langflow/secrets.env"]
    assert (secret["mode"], secret["owner"], secret["secret"]) == ("0600", "root", True)


def test_addresses_verify_the_server_and_carry_any_password() -> None:
    found = environment(role().file("secrets.env.j2"))
    database = urlsplit(found["LANGFLOW_DATABASE_URL"])
    assert database.scheme == "postgresql+psycopg"
    assert (unquote(database.password or ""), database.hostname, database.port) == (AWKWARD, "192.0.2.31", 5432)
    assert parse_qs(database.query) == {
        "connect_timeout": ["10"],
        "sslmode": ["verify-full"],
        "sslrootcert": ["/etc/flowfleet/tls/ca.crt"],
    }
    cache, queue = urlsplit(found["LANGFLOW_REDIS_URL"]), urlsplit(found["LANGFLOW_REDIS_QUEUE_URL"])
    assert (cache.scheme, queue.scheme) == ("rediss", "rediss")
    assert (cache.port, queue.port) == (6379, 6380)
    assert unquote(cache.password or "") == "cache/secret"
    assert parse_qs(queue.query)["ssl_cert_reqs"] == ["required"]
    assert parse_qs(queue.query)["ssl_check_hostname"] == ["true"]


def test_one_node_without_a_bucket_keeps_files_locally() -> None:
    alone = role(langflow_s3_bucket="")
    found = environment(alone.file("langflow.env.j2"))
    assert (found["LANGFLOW_STORAGE_TYPE"], found["LANGFLOW_DEPLOYMENT_PROFILE"]) == ("local", "dev")
    assert not [name for name in environment(alone.file("secrets.env.j2")) if name.startswith("AWS_")]


def test_settings_of_the_operator_win_and_null_takes_back() -> None:
    changed = role(
        langflow_settings={"LANGFLOW_EVENT_DELIVERY": "polling", "CORS_ORIGINS": None, "AUTO_SAVING": False},
        langflow_secret_settings={"SENTRY_DSN": "hidden"},
        langflow_environment={"HTTP_PROXY": "http://proxy.example.com"},
        langflow_secret_environment={"OPENAI_API_KEY": "hidden too"},
    )
    found, secret = environment(changed.file("langflow.env.j2")), environment(changed.file("secrets.env.j2"))
    assert found["LANGFLOW_EVENT_DELIVERY"] == "polling"
    assert found["LANGFLOW_AUTO_SAVING"] == "false"
    assert "LANGFLOW_CORS_ORIGINS" not in found
    assert found["HTTP_PROXY"] == "http://proxy.example.com"
    assert (secret["LANGFLOW_SENTRY_DSN"], secret["OPENAI_API_KEY"]) == ("hidden", "hidden too")


def test_the_guard_stands_in_front_of_service_and_migration() -> None:
    (start,) = service()["ExecStart"]
    assert start.startswith("/opt/langflow/current/bin/python -I /usr/lib/flowfleet-langflow/schema_guard.py -- ")
    assert start.endswith("/opt/langflow/current/bin/gunicorn -c /etc/langflow/gunicorn.conf.py")
    (migrate,) = service(migration=True)["ExecStart"]
    assert "schema_guard.py --for-migration -- /opt/langflow/releases/%i/bin/langflow migration" in migrate
    assert service()["RestartPreventExitStatus"] == ["78"]


@pytest.mark.parametrize("migration", [False, True])
def test_both_units_are_hardened(migration: bool) -> None:
    found = service(migration=migration)
    assert found["ProtectSystem"] == ["strict"]
    assert found["CapabilityBoundingSet"] == [""]
    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateUsers", "MemoryDenyWriteExecute", "RestrictNamespaces"):
        assert found[name] == ["true"], name


def test_backoff_on_a_systemd_that_has_it() -> None:
    found = service(systemd=257)
    assert (found["RestartSec"], found["RestartSteps"], found["RestartMaxDelaySec"]) == (["2"], ["6"], ["120"])
    assert "ExecStartPre" not in found


def test_backoff_on_a_systemd_that_lacks_it() -> None:
    found = service(systemd=252)
    assert "RestartSteps" not in found
    (delay,) = found["ExecStartPre"]
    assert delay.endswith("restart_policy.py delay %n --first 2 --steps 6 --longest 120")
    assert int(found["TimeoutStartSec"][0]) >= 600 + 120


def test_giving_up_really_happens() -> None:
    never = service()
    assert never["StartLimitIntervalSec"] == ["0"]
    assert "StartLimitBurst" not in never
    limited = service(langflow_restart_max_attempts=5)
    assert limited["StartLimitBurst"] == ["6"]
    # Every delay and the longest failing run fit into the window, so the limit trips.
    assert int(limited["StartLimitIntervalSec"][0]) >= 5 * (120 + 300)


def test_a_stopping_service_outlives_streams_and_requests() -> None:
    config = role(langflow_graceful_timeout=90).file("gunicorn.conf.py.j2")
    compile(config, "gunicorn.conf.py", "exec")
    assert '"timeout_graceful_shutdown": 80' in config
    assert "graceful_timeout = 90" in config
    assert service(langflow_graceful_timeout=90)["TimeoutStopSec"] == ["110"]


def test_plain_http_needs_no_certificate() -> None:
    assert "certfile" not in role(langflow_tls_enabled=False).file("gunicorn.conf.py.j2")
    assert "LoadCredential" not in service(langflow_tls_enabled=False)
    assert role(langflow_tls_enabled=False).value("{{ __langflow_gate.url }}") == "http://127.0.0.1:7860/health_check"


def test_memory_follows_the_workers() -> None:
    assert (service(langflow_workers=4)["MemoryHigh"], service(langflow_workers=4)["MemoryMax"]) == (
        ["4608M"],
        ["5760M"],
    )


def test_what_is_right_is_accepted() -> None:
    assert role(langflow_settings={"AUTO_SAVING": False}).refusals() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"langflow_settings": {"AUTO_LOGN": True}},
            r"does not know LANGFLOW_AUTO_LOGN \(did you mean LANGFLOW_AUTO_LOGIN\?\)",
        ),
        ({"langflow_secret_settings": {"LANGFLOW_SENTRY_DNS": "x"}}, "did you mean LANGFLOW_SENTRY_DSN"),
        ({"langflow_settings": {"WORKERS": 3}}, "the role itself sets WORKERS"),
        ({"langflow_version": "9.9.9"}, "langflow_version: the settings of Langflow 9.9.9 are not known"),
        ({"langflow_workers": 0}, "langflow_workers"),
        ({"langflow_redis_queue_port": 6379}, "langflow_redis_queue_port"),
        ({"langflow_secret_key": "too-short"}, "langflow_secret_key"),
        ({"langflow_superuser_password": "langflow"}, "langflow_superuser_password"),
        ({"langflow_worker_timeout": 300}, "langflow_worker_timeout"),
        ({"langflow_restart_delay_max": 1}, "langflow_restart_delay"),
        ({"langflow_graceful_timeout": 10}, "langflow_graceful_timeout"),
        ({"langflow_install_source": "wheelhouse"}, "langflow_wheelhouse: needed"),
        ({"langflow_wheelhouse": "https://mirror.example.com/w.tar"}, "langflow_wheelhouse_sha256"),
        ({"langflow_storage_type": "s3", "langflow_s3_bucket": ""}, "langflow_s3_bucket"),
        ({"langflow_deployment_profile": "prod", "langflow_s3_bucket": ""}, "langflow_deployment_profile"),
    ],
)
def test_what_is_wrong_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    (refusal,) = role(**changes).refusals()
    assert re.search(message, refusal)
    assert not [secret for secret in SECRETS if secret in refusal]


def test_numbers_from_the_command_line_are_text() -> None:
    found = service(langflow_workers="4", langflow_worker_memory_mb="1024")
    assert (found["MemoryHigh"], found["MemoryMax"]) == (["4608M"], ["5760M"])


# --- the entry points of a change -------------------------------------------------------------------------------------


def tasks(name: str) -> list[dict[str, Any]]:
    """The tasks of a file in which nothing is nested."""
    text = (ROLES / "langflow" / "tasks" / name).read_text(encoding="utf-8")
    return [item for task in yaml.safe_load(text) for item in [task, *task.get("block", [])]]


def position(found: list[dict[str, Any]], wanted: Any) -> int:
    (index,) = [number for number, task in enumerate(found) if wanted(task)]
    return index


def test_what_is_there_is_kept_before_any_of_it_is_touched() -> None:
    found = tasks("stage.yml")
    built = position(found, lambda task: task.get("ansible.builtin.import_tasks") == "install.yml")
    kept = position(found, lambda task: "flowfleet.langflow.config_snapshot" in task)
    written = position(found, lambda task: task.get("vars", {}).get("common_service_phase") == ["files"])
    flipped = position(found, lambda task: task.get("flowfleet.langflow.langflow_release", {}).get("state") == "active")
    assert built < kept < written < flipped
    # Everything that is written is kept.
    files = found[kept]["flowfleet.langflow.config_snapshot"]["files"]
    assert role().value(files) == [item["path"] for item in role().value("{{ __langflow_service.files }}")]


def test_looking_and_going_back_restart_nothing() -> None:
    for name in ("state.yml", "build.yml", "stage.yml", "revert.yml", "settle.yml"):
        for task in tasks(name):
            assert "ansible.builtin.systemd_service" not in task, name
            if "flowfleet.langflow.rolling_restart" in task:
                assert task["check_mode"] is True, name


def test_the_schema_is_asked_for_before_anything_is_put_back() -> None:
    found = tasks("revert.yml")
    asked = position(found, lambda task: task.get("ansible.builtin.include_tasks") == "revert_schema.yml")
    restored = position(found, lambda task: "flowfleet.langflow.config_snapshot" in task)
    assert asked < restored


def test_a_release_that_a_snapshot_names_is_never_pruned() -> None:
    for name in ("start.yml", "settle.yml"):
        (options,) = [
            task["flowfleet.langflow.langflow_release"]
            for task in tasks(name)
            if "flowfleet.langflow.langflow_release" in task
        ]
        assert options["keep"]
        assert options["snapshot"] == "{{ langflow_snapshot_dir }}"


@pytest.mark.parametrize(
    ("staged", "goes_back"),
    [({}, True), ({"__langflow_staged": "20260101T000000Z-abcdef"}, True), ({"__langflow_staged": ""}, False)],
)
def test_a_run_that_changed_nothing_puts_nothing_back(staged: dict[str, str], goes_back: bool) -> None:
    (block,) = [task for task in tasks("revert.yml") if "block" in task]
    assert role(**staged).value("{{ " + block["when"] + " }}") is goes_back
