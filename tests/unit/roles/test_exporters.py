# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role exporters: its table, its units, the one way in, and the logins that other roles make for it."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from rendering import Role

TRIXIE = {"distribution": "Debian", "distribution_major_version": "13"}
BOOKWORM = {"distribution": "Debian", "distribution_major_version": "12"}
TOKEN = "t" * 48
URL = "https://mirror.example.com/n.tar.gz"
SECRETS = {
    "exporters_token": TOKEN,
    "exporters_redis_password": 'redis"pass$word',
    "exporters_pgbouncer_password": 'pool"er$`pass\\word',
    "exporters_elasticsearch_password": 'search"er$`pass\\word',
}
EVERYTHING = [
    "node", "nginx", "gateway", "haproxy", "postgres", "patroni", "etcd", "pgbackrest", "redis_cache", "redis_queue",
    "pgbouncer", "celery", "dcgm", "elasticsearch", "otel_agent", "otel_gateway", "span_metrics",
]  # fmt: skip
OWN_UNITS = ["node", "nginx", "postgres", "pgbackrest", "redis_cache", "redis_queue", "pgbouncer", "elasticsearch"]


def role(facts: dict[str, str] | None = None, **changes: Any) -> Role:
    given: dict[str, Any] = {**SECRETS, "exporters_modules": EVERYTHING, "ansible_host": "192.0.2.31"}
    return Role("exporters", dict(facts or TRIXIE), **{**given, **changes})


def service(made: Role) -> Any:
    return made.value("{{ __exporters_service }}")


def unit(made: Role, name: str) -> str:
    return made.file("exporter.service.j2", __exporters_name=name)


def command(text: str) -> list[str]:
    """What systemd would start: one line, quotes taken, $$ read as $ and %% as %."""
    found = re.search(r"^ExecStart=(.*?)(?<!\\)$", text, re.M | re.S)
    assert found is not None
    return [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(found[1].replace("\\\n", " "))]


def modules(made: Role) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(made.file("modules.yml.j2"))["modules"]
    return found


# --- the one way in


def test_the_gate_asks_for_certificate_name_and_token_and_speaks_no_plain_http() -> None:
    started = command(role().file("gate.service.j2"))
    assert "-web.tls.verify" in started
    assert "-web.tls.certmatch=^prometheus[.]internal$" in started
    assert "-web.bearer.token-file=%d/token" in started
    assert "-web.listen-address=" in started
    assert "-web.tls.listen-address=:9998" in started


@pytest.mark.parametrize(
    ("bind", "shown"), [("", ":9998"), ("192.0.2.1", "192.0.2.1:9998"), ("fd00::1", "[fd00::1]:9998")]
)
def test_the_address_of_the_gate(bind: str, shown: str) -> None:
    assert f"-web.tls.listen-address={shown}" in command(role(exporters_bind=bind).file("gate.service.j2"))


def test_a_name_is_matched_as_a_whole() -> None:
    started = command(role(exporters_client_name="prom.example.com").file("gate.service.j2"))
    pattern = next(word.partition("certmatch=")[2] for word in started if "certmatch=" in word)
    assert re.search(pattern, "prom.example.com")
    for other in ("prom-example.com", "prom.example.com.evil.example", "xprom.example.com"):
        assert not re.search(pattern, other), other


def test_everything_else_is_on_the_loopback_address() -> None:
    made = role()
    for name in OWN_UNITS:
        listening = [word for word in command(unit(made, name)) if "listen-address" in word]
        assert [word.split("=")[1].rpartition(":")[0] for word in listening] == ["127.0.0.1"], name
    shown = modules(made)
    assert list(shown) == EVERYTHING
    assert {row["http"]["address"] for name, row in shown.items() if name != "patroni"} == {"127.0.0.1"}
    assert shown["patroni"]["http"] == {
        "verify": False, "scheme": "https", "address": "192.0.2.31", "port": 8008, "path": "/metrics",
    }  # fmt: skip


def test_the_gate_knows_only_keys_of_its_oldest_version() -> None:
    """A key that it does not know stops it, and with it every module of the host."""
    known = {"verify", "tls_insecure_skip_verify", "port", "path", "scheme", "address", "headers"}
    extra = {"search": {"port": 9114, "scheme": "https", "path": "/m?x=1", "address": "192.0.2.9"}}
    for row in modules(role(exporters_modules_extra=extra)).values():
        assert set(row) == {"method", "timeout", "http"}
        assert set(row["http"]) <= known
    assert "tls_insecure_skip_verify" not in role(exporters_modules_extra=extra).file("modules.yml.j2")


def test_modules_of_the_operator() -> None:
    row = modules(role(exporters_modules=["node"], exporters_modules_extra={"search": {"port": 9114}}))
    assert list(row) == ["node", "search"]
    assert row["search"]["http"]["port"] == 9114


# --- units


def test_a_unit_for_each_exporter_that_is_wanted() -> None:
    made = role(exporters_modules=["node", "haproxy", "redis_queue"])
    assert [item["unit"] for item in service(made)["units"]] == [
        "langflow-exporter-node.service",
        "langflow-exporter-redis_queue.service",
        "langflow-host-metrics.timer",
        "langflow-exporters.service",
    ]
    assert service(made)["packages"] == [
        "prometheus-exporter-exporter", "prometheus-node-exporter", "prometheus-redis-exporter",
    ]  # fmt: skip


def test_the_units_of_the_packages_are_masked() -> None:
    files = {item["path"]: item for item in service(role())["files"]}
    for package in service(role())["packages"]:
        assert files[f"/etc/systemd/system/{package}.service"]["target"] == "/dev/null"
        assert files[f"/etc/systemd/system/multi-user.target.wants/{package}.service"]["state"] == "absent"


def test_units_that_nobody_wants_are_found() -> None:
    found = [
        {"path": f"/etc/systemd/system/langflow-exporter-{name}.service"} for name in ("node", "gateway", "redis_x")
    ]
    made = role(exporters_modules=["node", "gateway"], __exporters_found={"files": found})
    assert made.value("{{ __exporters_surplus }}") == ["langflow-exporter-redis_x.service"]


@pytest.mark.parametrize("name", OWN_UNITS)
def test_every_unit_is_sandboxed(name: str) -> None:
    text = unit(role(), name)
    for line in ("NoNewPrivileges=true", "CapabilityBoundingSet=", "PrivateDevices=true", "IPAddressDeny=any"):
        assert line in text.splitlines(), line
    assert ("ProtectSystem=strict" in text) == (name != "node")
    assert ("DynamicUser=true" in text) == (name not in {"node", "postgres", "pgbackrest"})
    assert "User=root" not in text


def test_an_archive_takes_the_place_of_a_package() -> None:
    archive = {"url": URL, "sha256": "a" * 64}
    made = role(exporters_modules=["node"], exporters_archives={"node": archive})
    assert made.refusals() == []
    assert service(made)["packages"] == ["prometheus-exporter-exporter"]
    assert command(unit(made, "node"))[0] == f"/opt/flowfleet/exporters/node-{'a' * 16}/node_exporter"
    other = role(exporters_modules=["node"], exporters_archives={"node": {**archive, "program": "bin/other"}})
    assert command(unit(other, "node"))[0] == f"/opt/flowfleet/exporters/node-{'a' * 16}/bin/other"


def test_arguments_of_the_operator_come_last_and_are_taken_literally() -> None:
    made = role(exporters_arguments={"node": ["--collector.x=^a b$", '--y="100%"']})
    assert command(unit(made, "node"))[-2:] == ["--collector.x=^a b$", '--y="100%"']


# --- secrets


def test_no_secret_is_in_a_unit_or_in_a_file_that_is_shown() -> None:
    made = role()
    files = {item["path"]: item for item in service(made)["files"]}
    for name in ("token", "redis.json", "pgbouncer.env"):
        item = files[f"/etc/flowfleet/exporters/{name}"]
        assert (item["secret"], item["mode"], item["owner"]) == (True, "0600", "root")
    texts = [unit(made, name) for name in OWN_UNITS] + [
        made.file(name) for name in ("gate.service.j2", "modules.yml.j2", "host-metrics.service.j2")
    ]
    for secret in SECRETS.values():
        assert not [text for text in texts if secret in text]


def test_the_password_of_redis_is_found_by_old_and_new_programs() -> None:
    found = json.loads(role(exporters_redis_ports={"cache": 6379, "queue": 6390}).file("redis.json.j2"))
    assert found == dict.fromkeys(
        [
            "rediss://127.0.0.1:6379",
            "rediss://monitor@127.0.0.1:6379",
            "rediss://127.0.0.1:6390",
            "rediss://monitor@127.0.0.1:6390",
        ],  # fmt: skip
        SECRETS["exporters_redis_password"],
    )


def test_the_password_of_pgbouncer_survives_the_quoting_of_systemd() -> None:
    line = role().file("pgbouncer.env.j2").splitlines()[-1]
    value = re.sub(r'\\(["\\`$])', r"\1", line.removeprefix('PGPASSWORD="').removesuffix('"'))
    assert value == SECRETS["exporters_pgbouncer_password"]


def test_passwords_go_when_nothing_needs_them() -> None:
    files = {item["path"]: item for item in service(role(exporters_modules=["node"]))["files"]}
    assert files["/etc/flowfleet/exporters/redis.json"]["state"] == "absent"
    assert files["/etc/flowfleet/exporters/pgbouncer.env"]["state"] == "absent"


# --- the logins that other roles make


def test_without_monitoring_other_roles_make_no_login() -> None:
    pool = Role(
        "pgbouncer",
        TRIXIE,
        langflow_fleet_database_hosts=[{"name": "a", "address": "192.0.2.1"}],
        pgbouncer_password="p" * 20,
    )
    assert "stats_users" not in pool.file("pgbouncer.ini.j2")
    assert '"monitor"' not in pool.file("userlist.txt.j2")
    server = Role("postgresql", {**TRIXIE, "distribution_version": "13"}, postgresql_users=[])
    assert "monitor" not in str(server.value("{{ __postgresql_hba + __postgresql_ident }}"))


def test_postgresql_lets_the_exporter_in_by_its_account_only() -> None:
    server = Role(
        "postgresql", {**TRIXIE, "distribution_version": "13"}, postgresql_users=[], langflow_fleet_monitored=True
    )
    account = role().value("{{ __exporters_table.postgres.account }}")
    assert f"operators  {account}  monitor" in server.value("{{ __postgresql_ident }}")
    lines = [line for line in server.value("{{ __postgresql_hba }}") if " monitor " in line]
    assert lines == ["local  all  monitor  peer map=operators"]


def test_pgbouncer_shows_statistics_to_the_exporter_and_no_more() -> None:
    pool = Role(
        "pgbouncer",
        TRIXIE,
        langflow_fleet_database_hosts=[{"name": "a", "address": "192.0.2.1"}],
        pgbouncer_password="p" * 20,
        pgbouncer_monitor_password='m"' * 10,
    )
    assert "stats_users = monitor" in pool.file("pgbouncer.ini.j2")
    assert "admin_users" not in pool.file("pgbouncer.ini.j2")
    assert pool.file("userlist.txt.j2").splitlines()[-1] == '"monitor" "' + 'm""' * 10 + '"'


def test_redis_lets_the_exporter_read_figures_and_no_keys() -> None:
    cache = {"name": "cache", "port": 6379, "password": "c" * 20}
    server = Role(
        "redis",
        TRIXIE,
        redis_instances=[cache],
        redis_admin_password="a" * 20,
        redis_check_password="b" * 20,
        redis_monitor_password="m" * 20,
    )
    line = next(
        line for line in server.file("instance.acl.j2", __redis_name="cache").splitlines() if " monitor " in line
    )
    assert "~" not in line
    assert "&" not in line
    granted = {word for word in line.split() if word.startswith("+")}
    assert granted == {
        "+ping", "+info", "+dbsize", "+client|setname", "+slowlog|len", "+slowlog|get", "+latency|latest",
        "+latency|histogram",
    }  # fmt: skip


# --- what is refused


@pytest.mark.parametrize("facts", [TRIXIE, BOOKWORM])
def test_what_is_right_is_not_refused(facts: dict[str, str]) -> None:
    names = [name for name in EVERYTHING if facts is TRIXIE or name not in {"pgbouncer", "pgbackrest"}]
    assert role(facts, exporters_modules=names).refusals() == []


@pytest.mark.parametrize(
    ("facts", "changes", "message"),
    [
        (TRIXIE, {"exporters_modules": ["node", "mysql"]}, "exporters_modules: mysql is not known"),
        (BOOKWORM, {"exporters_modules": ["pgbouncer"]}, "Debian 12 has no fitting package for pgbouncer"),
        (BOOKWORM, {"exporters_modules": ["pgbackrest"]}, "no fitting package for pgbackrest"),
        (TRIXIE, {"exporters_modules_extra": {"node": {"port": 1}}}, "exporters_modules_extra"),
        (TRIXIE, {"exporters_modules_extra": {"Bad-Name": {"port": 1}}}, "exporters_modules_extra"),
        (TRIXIE, {"exporters_modules_extra": {"search": {}}}, "each with a port"),
        (TRIXIE, {"exporters_archives": {"node": {"url": URL, "sha256": "1"}}}, "exporters_archives"),
        (TRIXIE, {"exporters_archives": {"haproxy": {"url": URL, "sha256": "a" * 64}}}, "exporters_archives"),
        (TRIXIE, {"exporters_port": 9100}, "exporters_port: 9100 is that of an exporter"),
        (TRIXIE, {"exporters_token": "short"}, "exporters_token: 24 or more"),
        (TRIXIE, {"exporters_client_name": "*.internal"}, "exporters_client_name"),
        (TRIXIE, {"exporters_pgbouncer_password": "two\nlines"}, "exporters_pgbouncer_password"),
    ],
)  # fmt: skip
def test_refusals(facts: dict[str, str], changes: dict[str, Any], message: str) -> None:
    modules = [name for name in EVERYTHING if facts is TRIXIE or name not in {"pgbouncer", "pgbackrest"}]
    refusals = role(facts, **{"exporters_modules": modules, **changes}).refusals()
    assert len(refusals) == 1
    assert message in refusals[0]
    assert "two" not in refusals[0]


# --- the figures of the host


def load() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "roles/exporters/files/host_metrics.py"
    spec = importlib.util.spec_from_file_location("flowfleet_host_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


host = load()


def figures(lines: Any) -> dict[str, float]:
    return {
        name: float(value)
        for name, _space, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


def test_ends_of_certificates_and_those_that_cannot_be_read(tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "10",
         "-subj", "/CN=x", "-keyout", str(tmp_path / "good.key"), "-out", str(tmp_path / "good.crt")],
        check=True,
        capture_output=True,
    )  # fmt: skip
    (tmp_path / "broken.crt").write_text("not a certificate", encoding="utf-8")
    found = figures(host.certificates(tmp_path))
    left = found['flowfleet_certificate_expiry_timestamp_seconds{name="good"}'] - host.time.time()
    assert 9.9 * 86400 < left <= 10 * 86400
    assert found["flowfleet_certificates_unreadable"] == 1
    assert len(found) == 2


@pytest.mark.parametrize(
    ("installed", "running", "flag", "waits"),
    [
        ([], "6.1.0-9-amd64", False, False),
        (["6.1.0-9-amd64"], "6.1.0-9-amd64", False, False),
        (["6.1.0-9-amd64", "6.1.0-10-amd64"], "6.1.0-9-amd64", False, True),
        (["6.1.0-9-amd64", "6.1.0-10-amd64"], "6.1.0-10-amd64", False, False),
        (["6.1.0-9-amd64", "6.1.0-10-cloud-amd64"], "6.1.0-10-cloud-amd64", False, False),
        (["6.1.0-9-amd64"], "6.18.44-host", False, False),
        (["6.1.0-9-amd64"], "6.1.0-9-amd64", True, True),
    ],
)
def test_a_pending_reboot(tmp_path: Path, installed: list[str], running: str, flag: bool, waits: bool) -> None:
    for name in installed:
        (tmp_path / f"vmlinuz-{name}").touch()
    asked = tmp_path / "reboot-required"
    if flag:
        asked.touch()
    assert host.waits_for_reboot(tmp_path, running, [asked]) is waits


def test_release_and_gateway_where_there_are_any(tmp_path: Path) -> None:
    assert list(host.release(tmp_path / "current")) == []
    (tmp_path / "current").symlink_to("releases/1.13.0-a6dac239-py313")
    assert figures(host.release(tmp_path / "current")) == {
        'flowfleet_release_info{release="1.13.0-a6dac239-py313",version="1.13.0"}': 1
    }
    assert list(host.gateway(tmp_path / "none", tmp_path / "maintenance")) == []
    (tmp_path / "app1.conf").write_text("# down\nserver 192.0.2.1:7860 max_fails=3;\n", encoding="utf-8")
    (tmp_path / "app2.conf").write_text("server 192.0.2.2:7860 max_fails=3 down;\n", encoding="utf-8")
    (tmp_path / "maintenance").touch()
    assert figures(host.gateway(tmp_path, tmp_path / "maintenance")) == {
        'flowfleet_gateway_backend_drained{backend="app1"}': 0,
        'flowfleet_gateway_backend_drained{backend="app2"}': 1,
        "flowfleet_gateway_maintenance": 1,
    }


def test_the_file_is_replaced_at_once(tmp_path: Path) -> None:
    target = tmp_path / "out.prom"
    empty = tmp_path / "empty"
    empty.mkdir()
    words = [f"--{name}={empty}" for name in ("certificates", "release", "backends", "maintenance")]
    host.main([*words, f"--output={target}"])
    assert target.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.prom"]
    assert "flowfleet_host_metrics_last_run_timestamp_seconds" in target.read_text(encoding="utf-8")
