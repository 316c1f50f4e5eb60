# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role elasticsearch: what nodes are told, what the API is told, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import test_langflow
import yaml
from rendering import ROLES, Role

# A fixture of that module, for this one too.
_filters = test_langflow._filters_of_this_checkout

ROOT = Path(__file__).resolve().parents[3]
NODES = [{"name": f"log{number}", "address": f"192.0.2.7{number}"} for number in (1, 2, 3)]
WORDS = {name: f"word-of-{name}-0123456789" for name in ("admin", "writer", "reader", "monitor", "kibana")}
FACTS = {"distribution": "Debian", "distribution_major_version": "13", "memtotal_mb": 64000}
ARCHIVE = {
    "elasticsearch_engine": "opensearch",
    "elasticsearch_archive_url": "file:///srv/elasticsearch.tar.gz",
    "elasticsearch_archive_sha256": "ab" * 32,
}
GIVEN: dict[str, Any] = {
    "inventory_hostname": "log1",
    "ansible_host": "192.0.2.71",
    "role_path": str(ROLES / "elasticsearch"),
    "elasticsearch_hosts": NODES,
    "hostvars": {node["name"]: {"__elasticsearch_data": {"matched": 0}} for node in NODES},
    **{f"elasticsearch_{name}_password": word for name, word in WORDS.items()},
}


def role(facts: dict[str, Any] | None = None, **changes: Any) -> Role:
    return Role("elasticsearch", {**FACTS, **(facts or {})}, **{**GIVEN, **changes})


def settings(made: Role, **extra: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(made.file("elasticsearch.yml.j2", **extra))
    return found


def stamp(made: Role) -> str:
    files = made.value("{{ __elasticsearch_files }}")
    return str(next(file["content"] for file in files if file["path"].endswith("/settings.sha256")))


def lines(made: Role, template: str) -> list[str]:
    """What counts in a file, without remarks."""
    return [line for line in made.file(template).splitlines() if line and not line.startswith("#")]


def objects(made: Role) -> dict[str, Any]:
    return {f"{one['kind']} {one['name']}": one["body"] for one in made.value("{{ __elasticsearch_objects }}")}


def test_both_ports_have_tls_and_nothing_about_security_is_made_up() -> None:
    found = settings(role())
    for side in ("http", "transport"):
        assert found[f"xpack.security.{side}.ssl.enabled"] is True
        assert found[f"xpack.security.{side}.ssl.key"] == "/etc/elasticsearch/tls/elasticsearch.key"
    assert found["xpack.security.enabled"] is True
    assert found["xpack.security.transport.ssl.client_authentication"] == "required"
    assert found["xpack.security.autoconfiguration.enabled"] is False
    assert found["xpack.security.enrollment.enabled"] is False
    assert found["discovery.seed_hosts"] == ["192.0.2.71:9300", "192.0.2.72:9300", "192.0.2.73:9300"]
    assert "BindReadOnlyPaths=/etc/flowfleet/tls:/etc/elasticsearch/tls" in role().file("unit.conf.j2")


def test_the_first_nodes_are_named_for_the_first_start_only() -> None:
    made = role()
    assert made.value("{{ __elasticsearch_fresh }}") is True
    files = made.value("{{ __elasticsearch_files }}")
    file = next(file for file in files if file["path"] == "/etc/elasticsearch/elasticsearch.yml")
    assert settings(made, **file["vars"])["cluster.initial_master_nodes"] == ["log1", "log2", "log3"]
    assert "cluster.initial_master_nodes" not in settings(made)
    assert made.value("{{ __elasticsearch_files_founded }}")[0].get("vars") is None
    # It is written anew afterwards, which is no reason for a restart.
    assert file["path"] not in made.value("{{ __elasticsearch_watch }}")


@pytest.mark.parametrize(
    "hostvars",
    [
        {"log1": {"__elasticsearch_data": {"matched": 0}}},
        {name: {"__elasticsearch_data": {"matched": int(name == "log2")}} for name in ("log1", "log2", "log3")},
    ],
)
def test_no_second_cluster_is_founded_beside_one_that_may_exist(hostvars: dict[str, Any]) -> None:
    made = role(hostvars=hostvars)
    assert made.value("{{ __elasticsearch_fresh }}") is False
    file = next(
        file for file in made.value("{{ __elasticsearch_files }}") if file["path"].endswith("/elasticsearch.yml")
    )
    assert "cluster.initial_master_nodes" not in settings(made, **file["vars"])


@pytest.mark.parametrize(
    ("memory", "asked", "heap"), [(64000, 0, 31743), (8000, 0, 4000), (8000, 1024, 1024), (200000, 0, 31743)]
)
def test_the_heap_is_half_of_the_memory_and_below_31_gb(memory: int, asked: int, heap: int) -> None:
    made = role({"memtotal_mb": memory}, elasticsearch_heap_mb=asked)
    assert f"-Xms{heap}m\n-Xmx{heap}m" in made.file("heap.options.j2")
    assert made.refusals() == []


def test_a_changed_setting_is_seen_by_the_stamp() -> None:
    before, after = stamp(role()), stamp(role(elasticsearch_settings={"a.b": 1}))
    assert before != after
    assert re.fullmatch("[0-9a-f]{64}", before.strip())


def test_own_settings_win_and_leave_the_rest() -> None:
    found = settings(role(elasticsearch_settings={"xpack.ml.enabled": True, "path.repo": ["/srv"]}))
    assert found["xpack.ml.enabled"] is True
    assert found["path.repo"] == ["/srv"]
    assert found["cluster.name"] == "flowfleet"


def test_the_admin_stands_in_a_file_without_the_password() -> None:
    (line,) = lines(role(), "users.j2")
    assert re.fullmatch(r"flowfleet_admin:\{PBKDF2\}10000\$[A-Za-z0-9+/]{43}=\$[A-Za-z0-9+/]{43}=", line)
    assert [line] == lines(role(), "users.j2")
    assert WORDS["admin"] not in line
    assert lines(role(), "users_roles.j2") == ["superuser:flowfleet_admin"]
    secret = [file for file in role().value("{{ __elasticsearch_files }}") if file.get("secret")]
    assert [file["path"] for file in secret] == ["/etc/elasticsearch/users"]


def test_the_hash_is_the_one_that_elasticsearch_verifies() -> None:
    import base64
    import hashlib

    _, salt, digest = lines(role(), "users.j2")[0].partition(":")[2].split("$")
    wanted = hashlib.pbkdf2_hmac("sha512", WORDS["admin"].encode(), base64.b64decode(salt), 10000, 32)
    assert base64.b64decode(digest) == wanted
    assert len(base64.b64decode(salt)) == 32


# --- what the API is told


def test_shippers_may_add_and_nothing_else() -> None:
    found = objects(role())
    writer = found["role flowfleet_writer"]
    assert writer["indices"] == [{"names": ["logs-*", "traces-*"], "privileges": ["create_doc", "auto_configure"]}]
    assert writer["cluster"] == ["monitor"]
    assert found["role flowfleet_reader"]["indices"][0]["privileges"] == ["read", "view_index_metadata"]
    assert found["role flowfleet_monitor"]["indices"] == [{"names": ["*"], "privileges": ["monitor"]}]
    assert "user flowfleet_admin" not in found
    assert found["password kibana_system"] == {"password": WORDS["kibana"]}


def test_streams_end_by_age_and_size() -> None:
    found = objects(role(elasticsearch_logs_keep="90d", elasticsearch_rollover_size="5gb"))
    phases = found["ilm_policy flowfleet-logs"]["policy"]["phases"]
    assert phases["hot"]["actions"]["rollover"] == {"max_age": "1d", "max_primary_shard_size": "5gb"}
    assert phases["delete"]["min_age"] == "90d"
    template = found["index_template logs-flowfleet"]
    assert template["template"]["settings"]["index.lifecycle.name"] == "flowfleet-logs"
    assert (
        found["index_template traces-flowfleet"]["template"]["settings"]["index.lifecycle.name"] == "flowfleet-traces"
    )


def test_masking_is_last_for_logs_and_traces() -> None:
    found = objects(role())
    for name in ("index_template logs-flowfleet", "index_template traces-flowfleet"):
        body = found[name]
        assert body["template"]["settings"]["index.final_pipeline"] == "flowfleet-mask"
        # Above the vendor's template for all logs (100), below the one for OpenTelemetry's form (120).
        assert 100 < body["priority"] < 120
    for name in ("logs-otel@custom", "traces-otel@custom"):
        assert found[f"component_template {name}"]["template"]["settings"]["index.final_pipeline"] == "flowfleet-mask"


def test_objects_come_before_what_needs_them() -> None:
    names = list(objects(role(elasticsearch_snapshot_repository={"type": "fs", "settings": {"location": "/srv"}})))
    for first, second in (
        ("ilm_policy flowfleet-logs", "index_template logs-flowfleet"),
        ("ingest_pipeline flowfleet-mask", "index_template logs-flowfleet"),
        ("ingest_pipeline flowfleet-nginx.access", "ingest_pipeline flowfleet-logs"),
        ("role flowfleet_writer", "user flowfleet_writer"),
        ("snapshot_repository flowfleet", "slm_policy flowfleet"),
    ):
        assert names.index(first) < names.index(second)


def test_every_pipeline_is_called_for_its_dataset_and_a_failure_keeps_the_line() -> None:
    made = role(elasticsearch_pipelines_extra={"own.program": {"processors": []}})
    found = objects(made)
    called = {
        step["pipeline"]["name"]: step["pipeline"]["if"]
        for step in found["ingest_pipeline flowfleet-logs"]["processors"]
        if "pipeline" in step
    }
    assert called["flowfleet-own.program"] == "ctx.event?.dataset == 'own.program'"
    for name in called:
        assert found[f"ingest_pipeline {name}"]["on_failure"] == [{"set": {"field": "labels.unparsed", "value": True}}]
    files = {path.stem for path in (ROLES / "elasticsearch/files/pipelines").glob("*.yml")}
    assert files == set(made.value("{{ __elasticsearch_datasets }}"))


def test_every_pipeline_has_documents_that_prove_it() -> None:
    rows = yaml.safe_load((ROOT / "tests/logstore/documents.yml").read_text())
    for dataset in role().value("{{ __elasticsearch_datasets }}"):
        assert len([row for row in rows if row["dataset"] == dataset]) >= 2, dataset


# --- the node without TLS and users of its own


def test_the_other_engine_listens_to_its_gate_alone() -> None:
    made = role(elasticsearch_hosts=NODES[:1], **ARCHIVE)
    found = settings(made)
    assert (found["http.host"], found["transport.host"], found["discovery.type"]) == (
        "127.0.0.1",
        "127.0.0.1",
        "single-node",
    )
    assert not [name for name in found if name.startswith("xpack")]
    gate = made.file("gate.cfg.j2")
    assert "bind :9200 ssl crt" in gate
    assert "http-request deny deny_status 403" in gate
    assert "http-request auth realm elasticsearch if !{ http_auth(fleet) }" in gate
    for word in WORDS.values():
        assert word not in gate
    assert {one.split()[0] for one in objects(made)} == {"ingest_pipeline", "index_template"}
    assert made.refusals() == []


@pytest.mark.parametrize(
    ("user", "method", "path", "allowed"),
    [
        ("flowfleet_writer", "POST", "/_bulk", True),
        ("flowfleet_writer", "POST", "/logs-nginx.access-default/_bulk", True),
        ("flowfleet_writer", "PUT", "/logs-nginx.access-default/_create/abc", True),
        ("flowfleet_writer", "POST", "/logs-nginx.access-default/_search", False),
        ("flowfleet_writer", "DELETE", "/logs-nginx.access-default/_doc/1", False),
        ("flowfleet_writer", "PUT", "/_ingest/pipeline/x", False),
        ("flowfleet_writer", "POST", "/other/_bulk", False),
        ("flowfleet_reader", "POST", "/logs-*/_search", True),
        ("flowfleet_reader", "POST", "/_search", True),
        ("flowfleet_reader", "POST", "/.secret/_search", False),
        ("flowfleet_reader", "POST", "/_bulk", False),
        ("flowfleet_monitor", "GET", "/_cluster/health", True),
        ("flowfleet_monitor", "GET", "/_nodes/_local/stats", True),
        ("flowfleet_monitor", "GET", "/_all/_stats", True),
        ("flowfleet_monitor", "GET", "/logs-a-b/_search", False),
    ],
)
def test_the_gate_lets_a_login_ask_for_its_own_things(user: str, method: str, path: str, allowed: bool) -> None:
    methods = {"reads": ("GET", "HEAD"), "writes": ("POST", "PUT"), "asks": ("GET", "POST")}
    rules = role(**ARCHIVE).value("{{ __elasticsearch_gate_rules }}")
    fits = [
        rule
        for rule in rules
        if rule["user"] == user and method in methods[rule["methods"]] and re.search(rule["paths"], path)
    ]
    assert bool(fits) is allowed


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"elasticsearch_archive_url": "https://files.example.com/e.tar.gz"}, "elasticsearch_archive_sha256"),
        ({"elasticsearch_engine": "opensearch"}, "elasticsearch_archive_url"),
        ({"elasticsearch_repository": {"key": "k"}}, "elasticsearch_repository: needs uris"),
        ({"elasticsearch_repository": {"uris": ["https://x"]}}, "elasticsearch_repository: needs key"),
        ({"elasticsearch_version": "7.17.*"}, "elasticsearch_version"),
        ({"elasticsearch_hosts": NODES[1:]}, "elasticsearch_hosts"),
        ({"elasticsearch_transport_port": 9200}, "elasticsearch_http_port"),
        ({"elasticsearch_heap_mb": 40000}, "elasticsearch_heap_mb"),
        ({"elasticsearch_writer_password": "short"}, "elasticsearch_admin_password"),
        ({"elasticsearch_writer_password": WORDS["admin"]}, "each a different one"),
        ({"elasticsearch_users_extra": {"flowfleet_admin": {}}}, "elasticsearch_users_extra"),
        ({"elasticsearch_logs_keep": "a month"}, "elasticsearch_logs_keep"),
        ({"elasticsearch_rollover_size": "30"}, "elasticsearch_rollover_size"),
        ({"elasticsearch_replicas": 3}, "elasticsearch_replicas"),
        ({"elasticsearch_snapshot_repository": {"type": "fs"}}, "elasticsearch_snapshot_repository"),
        ({**ARCHIVE, "elasticsearch_keystore": {"a": "b"}}, "elasticsearch_keystore"),
    ],
)
def test_what_cannot_work_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    said = " ".join(role(**changes).refusals())
    assert named in said


def test_what_can_work_is_not_refused() -> None:
    assert role().refusals() == []
    assert (
        role(elasticsearch_version="9.1.2", elasticsearch_repository={"uris": ["https://x"], "key": "k"}).refusals()
        == []
    )


# --- masking


def masking(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = objects(role(**changes))["ingest_pipeline flowfleet-mask"]
    return found


def test_the_script_has_every_pattern_of_the_shipper() -> None:
    data = yaml.safe_load((ROLES / "common/files/masking.yml").read_text())
    script = masking()["processors"][0]["script"]
    for pattern in data["patterns"]:
        assert f"[masked:{pattern['name']}]" in script["source"] or pattern.get("replace"), pattern["name"]
    assert "<keys>" not in script["source"]
    assert {"apikey", "password"} <= set(script["params"]["words"])
    # The API refuses scripts beyond 64 KiB.
    assert len(script["source"]) < 60000


def test_patterns_can_be_added_and_left_out_for_all_places_at_once() -> None:
    own = [{"name": "badge", "regex": "B-[0-9]{6}"}]
    script = masking(
        langflow_fleet_masking_patterns=own,
        langflow_fleet_masking_off=["email"],
        langflow_fleet_masking_keys=["badge_code"],
    )
    source = script["processors"][0]["script"]["source"]
    assert "/B-[0-9]{6}/.matcher(t).replaceAll('[masked:badge]')" in source
    assert "[masked:email]" not in source
    assert "badgecode" in script["processors"][0]["script"]["params"]["words"]


def test_a_document_that_cannot_be_masked_loses_its_text() -> None:
    script = masking()["on_failure"][0]["script"]
    assert "ctx.remove(key)" in script["source"]
    assert "[masked:failed]" in script["source"]
    assert script["params"]["safe"] == ["@timestamp", "data_stream", "host", "service"]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ({"name": "Bad Name", "regex": "a"}, "lower-case"),
        ({"name": "a"}, "regex is missing"),
        ({"name": "a", "regex": "b", "check": "crc"}, "unknown check"),
        ({"name": "a", "regex": "b\nc"}, "one line"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_named(pattern: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        masking(elasticsearch_masking_patterns=[pattern])


# --- the program that asks a real store, and the one that builds the lab's


def test_the_canaries_are_on_every_way_and_are_told_from_what_is_none() -> None:
    sys.path.insert(0, str(ROOT / "tests/logstore"))
    import check

    rows = check.canary_documents()
    for name in {**check.CANARIES, **check.NAMED}:
        assert [row for row in rows if name in check.leaks(row)], name
    assert check.leaks({"message": f"no card {check.INNOCENT}"}) == []
    luhn = [int(digit) for digit in check.CANARIES["card_plain"]]
    total = sum(digit if place % 2 else sum(divmod(digit * 2, 10)) for place, digit in enumerate(luhn))
    assert total % 10 == 0


def test_the_lab_says_what_it_lacks(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "tools/lab_artifacts/elasticsearch.py"),
        f"--output={tmp_path}/e.tar.gz",
        "--maven=/nonexistent/mvn",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "not built: /nonexistent/mvn is not installed" in answer.stderr
    assert not list(tmp_path.iterdir())


def test_the_parts_of_the_lab_are_pinned_and_packed_alike_each_time(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "tools/lab_artifacts"))
    import elasticsearch as build

    parts = build.read_parts(build.PARTS.read_text())
    assert {part.place for part in parts} == {"lib", *build.MODULES}
    assert len({part.file for part in parts}) == len(parts)
    with pytest.raises(build.BuildError, match="expected <sha256>"):
        build.read_parts("abc lib a:b:1\n")
    (tmp_path / parts[0].file).write_bytes(b"another")
    with pytest.raises(build.BuildError, match="sha256 is"):
        build.verify(parts[:1], tmp_path)
    files = {"bin/a": (b"x", 0o755), "lib/b": (b"y", 0o644)}
    first, second = (build.pack(files, tmp_path / name) for name in ("one.tar.gz", "two.tar.gz"))
    assert first == second
    assert json.loads(json.dumps(first)) == (tmp_path / "one.tar.gz.sha256").read_text().split()[0]
