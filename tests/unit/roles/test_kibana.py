# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role kibana: configuration as Kibana would read it, secrets that stand in one file, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from rendering import ROLES, Role

TRIXIE = {"distribution": "Debian", "distribution_major_version": "13", "memtotal_mb": 16384}
WORDS = {
    "kibana_elasticsearch_password": "system-word-of-19-x",
    "kibana_admin_password": "admin-word-of-18-xx",
    "kibana_encryption_key": "objects-" + "a" * 32,
    "kibana_session_key": "session-" + "b" * 32,
    "kibana_reporting_key": "reports-" + "c" * 32,
}
GIVEN: dict[str, Any] = {
    "inventory_hostname": "log1",
    "ansible_host": "192.0.2.70",
    "role_path": str(ROLES / "kibana"),
    "kibana_elasticsearch_hosts": [
        {"name": "log1", "address": "192.0.2.70"},
        {"name": "log2", "address": "2001:db8::71"},
    ],
    **WORDS,
}
REPOSITORY = {"uris": ["https://mirror.example.com/elastic"], "key": "-----BEGIN PGP PUBLIC KEY BLOCK-----"}


def role(**changes: Any) -> Role:
    return Role("kibana", TRIXIE, **{**GIVEN, **changes})


def settings(made: Role) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(made.file("kibana.yml.j2"))
    return found


def findings(made: Role) -> str:
    return " ".join(item["text"] for item in made.value("{{ __kibana_findings }}") if not item["ok"])


def test_only_tls_leads_in_and_out() -> None:
    found = settings(role())
    assert found["server.ssl.enabled"] is True
    assert found["server.ssl.key"] == "/etc/flowfleet/tls/kibana.key"
    assert found["server.ssl.supportedProtocols"] == ["TLSv1.2", "TLSv1.3"]
    assert found["server.port"] == 5601
    assert found["server.publicBaseUrl"] == "https://192.0.2.70:5601"
    assert found["elasticsearch.hosts"] == ["https://192.0.2.70:9200", "https://[2001:db8::71]:9200"]
    assert found["elasticsearch.ssl.verificationMode"] == "full"
    assert found["elasticsearch.ssl.certificateAuthorities"] == ["/etc/flowfleet/tls/ca.crt"]
    assert found["elasticsearch.username"] == "kibana_system"
    assert found["server.securityResponseHeaders.disableEmbedding"] is True


def test_it_calls_nobody() -> None:
    found = settings(role())
    for name in (
        "telemetry.optIn",
        "telemetry.allowChangingOptInStatus",
        "newsfeed.enabled",
        "map.includeElasticMapsService",
    ):
        assert found[name] is False
    assert found["xpack.fleet.isAirGapped"] is True


def test_secrets_stand_in_one_file() -> None:
    made = role(kibana_encryption_keys_old=["former-" + "d" * 32])
    found = yaml.safe_load(made.file("secrets.yml.j2"))
    assert found == {
        "elasticsearch.password": WORDS["kibana_elasticsearch_password"],
        "xpack.encryptedSavedObjects.encryptionKey": WORDS["kibana_encryption_key"],
        "xpack.security.encryptionKey": WORDS["kibana_session_key"],
        "xpack.reporting.encryptionKey": WORDS["kibana_reporting_key"],
        "xpack.encryptedSavedObjects.keyRotation.decryptionOnlyKeys": ["former-" + "d" * 32],
    }
    assert len(yaml.safe_load(role().file("secrets.yml.j2"))) == 4
    for template in ("kibana.yml.j2", "unit.conf.j2"):
        for word in WORDS.values():
            assert word not in made.file(template)
    (file,) = [file for file in made.value("{{ __kibana_files }}") if file["path"].endswith("secrets.yml")]
    assert (file["mode"], file["owner"], file["group"], file["secret"]) == ("0640", "root", "kibana", True)


def test_it_reads_both_files_and_starts_anew_for_each() -> None:
    made = role()
    unit = made.file("unit.conf.j2")
    read = re.findall(r"--config (\S+)", unit)
    assert read == ["/etc/flowfleet/kibana/kibana.yml", "/etc/flowfleet/kibana/secrets.yml"]
    watched = made.value("{{ __kibana_service.units[0].watch }}")
    assert set(read) < set(watched)
    assert "/etc/flowfleet/tls/kibana.key" in watched
    assert "--max-old-space-size=2048\n" in unit
    assert "MemoryMax=2816M\n" in unit


def test_own_settings_win_and_leave_the_rest() -> None:
    found = settings(role(kibana_settings={"telemetry.optIn": True, "server.basePath": "/logs"}))
    assert found["telemetry.optIn"] is True
    assert found["server.basePath"] == "/logs"
    assert found["newsfeed.enabled"] is False


def test_nothing_but_kibana_comes_from_the_repository() -> None:
    made = role(kibana_repository=REPOSITORY)
    assert "Signed-By: /etc/apt/keyrings/flowfleet-elastic.asc\n" in made.file("elastic.sources.j2")
    pin = made.file("pin.j2")
    assert 'Package: *\nPin: origin "mirror.example.com"\nPin-Priority: -1\n' in pin
    assert 'Package: kibana\nPin: origin "mirror.example.com"\nPin-Priority: 500\n' in pin
    assert made.value("{{ __kibana_service.packages }}") == ["kibana=8.19.*"]
    assert role(kibana_version="").value("{{ __kibana_service.packages }}") == ["kibana"]
    assert role(kibana_source="archive").value("{{ __kibana_service.packages }}") == []


def test_roles_of_the_log_tier_write_the_same_repository() -> None:
    """They share one file; a difference would make each of them change it back."""
    shared = {"uris": ["https://mirror.example.com/elastic"], "suites": ["stable"], "key": "x"}
    texts = set()
    for name in ("elasticsearch", "kibana", "logstash"):
        made = Role(name, TRIXIE, **GIVEN, **{f"{name}_repository": shared})
        texts.add(made.file("elastic.sources.j2"))
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kibana_source": "archive"}, "kibana_archive"),
        ({"kibana_repository": {"suites": ["stable"], "key": "x"}}, "uris"),
        ({"kibana_repository": {"uris": ["https://mirror.example.com/elastic"]}}, "signed_by"),
        ({"kibana_version": "7.17.*"}, "kibana_version"),
        ({"kibana_port": 443}, "kibana_port"),
        ({"kibana_elasticsearch_hosts": []}, "kibana_elasticsearch_hosts"),
        ({"kibana_elasticsearch_user": "elastic"}, "kibana_elasticsearch_user"),
        ({"kibana_admin_password": "short"}, "kibana_admin_password"),
        ({"kibana_session_key": "short"}, "kibana_session_key"),
        ({"kibana_encryption_keys_old": [WORDS["kibana_encryption_key"]]}, "no former one"),
        ({"kibana_space": "Fleet"}, "kibana_space"),
        ({"kibana_session_idle": "soon"}, "kibana_session_idle"),
        ({"kibana_heap_mb": 100}, "kibana_heap_mb"),
        ({"kibana_objects_extra": ["/srv/own.json"]}, "kibana_objects_extra"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], named: str) -> None:
    assert findings(role()) == ""
    assert named in findings(role(**changes))
