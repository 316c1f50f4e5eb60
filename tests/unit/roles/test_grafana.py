# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role grafana: configuration and provisioning as Grafana would read them, and what is refused."""

from __future__ import annotations

import configparser
from typing import Any

import pytest
import yaml
from rendering import ROLES, Role

TRIXIE = {"distribution": "Debian", "distribution_major_version": "13"}
WORDS = {"admin": "admin-word-of-16", "key": "key-of-24-characters-abc", "reader": "reader-word-of-18"}
GIVEN: dict[str, Any] = {
    "ansible_host": "192.0.2.60",
    "role_path": str(ROLES / "grafana"),
    "grafana_admin_password": WORDS["admin"],
    "grafana_secret_key": WORDS["key"],
    "grafana_prometheus_password": WORDS["reader"],
}
REPOSITORY = {"uris": ["https://mirror.example.com/grafana"], "key": "-----BEGIN PGP PUBLIC KEY BLOCK-----"}


def role(**changes: Any) -> Role:
    return Role("grafana", TRIXIE, **{**GIVEN, **changes})


def settings(made: Role) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, comment_prefixes=(";",))
    found.read_string(made.file("grafana.ini.j2"))
    return found


def findings(made: Role) -> str:
    return " ".join(item["text"] for item in made.value("{{ __grafana_findings }}") if not item["ok"])


def test_only_tls_and_a_login_lead_in() -> None:
    found = settings(role())
    assert found["server"]["protocol"] == "https"
    assert found["server"]["cert_key"] == "/etc/flowfleet/tls/grafana.key"
    assert found["server"]["root_url"] == "https://192.0.2.60:3000/"
    assert found["auth.anonymous"]["enabled"] == "false"
    assert found["users"]["allow_sign_up"] == "false"
    assert found["security"]["cookie_secure"] == "true"
    assert settings(role(grafana_anonymous_viewers=True))["auth.anonymous"]["enabled"] == "true"


def test_it_calls_nobody() -> None:
    found = settings(role())
    for name in ("reporting_enabled", "check_for_updates", "check_for_plugin_updates"):
        assert found["analytics"][name] == "false"
    assert found["news"]["news_feed_enabled"] == "false"
    assert found["snapshots"]["external_enabled"] == "false"
    assert found["plugins"]["preinstall_disabled"] == "true"


def test_secrets_stand_in_files_of_their_own() -> None:
    made = role()
    found = settings(made)
    for name in ("admin_password", "secret_key"):
        assert found["security"][name] == f"$__file{{/etc/flowfleet/grafana/secrets/{name}}}"
    for template in ("grafana.ini.j2", "datasources.yml.j2", "dashboards.yml.j2", "environment.j2", "unit.conf.j2"):
        for word in WORDS.values():
            assert word not in made.file(template), template
    files = made.value("{{ __grafana_files }}")
    secret = [file for file in files if "/secrets/" in file["path"] and file.get("state") != "absent"]
    assert len(secret) == 3
    assert all(file["mode"] == "0640" and file["group"] == "grafana" and file["secret"] for file in secret)


def test_own_settings_win_and_leave_the_rest() -> None:
    found = settings(role(grafana_settings={"users": {"default_theme": "light"}, "log": {"level": "info"}}))
    assert found["users"]["default_theme"] == "light"
    assert found["users"]["allow_sign_up"] == "false"
    assert found["log"]["level"] == "info"


def test_data_sources_are_verified_and_have_fixed_identifiers() -> None:
    servers = [
        {"name": "first", "url": "https://192.0.2.60:9090"},
        {"name": "second", "url": "https://192.0.2.61:9090"},
    ]
    read = yaml.safe_load(role(grafana_prometheus_servers=servers).file("datasources.yml.j2"))
    assert read["apiVersion"] == 1
    found = read["datasources"]
    assert [source["uid"] for source in found] == [
        "flowfleet-prometheus",
        "flowfleet-prometheus-2",
        "flowfleet-alertmanager",
    ]
    assert [source["isDefault"] for source in found if source["type"] == "prometheus"] == [True, False]
    for source in found:
        assert source["url"].startswith("https://")
        assert source["editable"] is False
        assert source["jsonData"]["tlsAuthWithCACert"] is True
        assert "tlsSkipVerify" not in source["jsonData"]
        assert source["secureJsonData"] == {
            "basicAuthPassword": "$__file{/etc/flowfleet/grafana/secrets/prometheus_password}",
            "tlsCACert": "$__file{/etc/flowfleet/tls/ca.crt}",
        }
    alone = yaml.safe_load(role(grafana_alertmanager_servers=[]).file("datasources.yml.j2"))["datasources"]
    assert "alertmanagerUid" not in alone[0]["jsonData"]


LOGS = {
    "langflow_fleet_logging_hosts": [{"name": "log1", "address": "192.0.2.70"}],
    "langflow_fleet_kibana_url": "https://192.0.2.70:5601",
    "grafana_elasticsearch_password": "reader-of-logs-23",
}


def sources(**changes: Any) -> dict[str, dict[str, Any]]:
    read = yaml.safe_load(role(**changes).file("datasources.yml.j2"))
    return {source["uid"]: source for source in read["datasources"]}


def test_without_a_log_tier_there_is_nothing_of_it() -> None:
    made = role()
    assert "Elasticsearch" not in made.file("datasources.yml.j2")
    assert "exemplar" not in made.file("datasources.yml.j2")
    (gone,) = [file for file in made.value("{{ __grafana_files }}") if file["path"].endswith("elasticsearch_password")]
    assert gone["state"] == "absent"


def test_logs_and_traces_lead_to_each_other() -> None:
    found = sources(**LOGS)
    for uid, index, other in (
        ("flowfleet-logs", "logs-*", "flowfleet-traces"),
        ("flowfleet-traces", "traces-*", "flowfleet-logs"),
    ):
        source = found[uid]
        assert source["type"] == "elasticsearch"
        assert source["url"] == "https://192.0.2.70:9200"
        assert source["basicAuthUser"] == "flowfleet_reader"
        assert source["jsonData"]["index"] == index
        assert source["jsonData"]["tlsAuthWithCACert"] is True
        links = [link for link in source["jsonData"]["dataLinks"] if link["field"] == "trace.id"]
        assert links[0]["datasourceUid"] == other
        assert links[0]["url"].startswith('trace.id:"$${__value.raw}"')
        assert links[1]["url"].startswith("https://192.0.2.70:5601/s/flowfleet/app/discover#/view/trace?")
        assert source["secureJsonData"]["basicAuthPassword"].endswith("/secrets/elasticsearch_password}")
    assert LOGS["grafana_elasticsearch_password"] not in role(**LOGS).file("datasources.yml.j2")


def test_an_exemplar_leads_to_its_request() -> None:
    links = sources(**LOGS)["flowfleet-prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert [link["name"] for link in links] == ["trace_id", "trace_id"]
    assert links[0]["url"].endswith("(query:(language:kuery,query:'trace.id:%22$${__value.raw}%22'))")
    assert links[1]["datasourceUid"] == "flowfleet-traces"
    # A dollar sign alone would be the name of a variable of the environment.
    for text in (role(**LOGS).file("datasources.yml.j2"),):
        assert "$" not in text.replace("$${__value.raw}", "").replace("$__file{", "")
    alone = sources(**{**LOGS, "langflow_fleet_kibana_url": ""})["flowfleet-prometheus"]["jsonData"]
    assert [link.get("url") for link in alone["exemplarTraceIdDestinations"]] == [None]


def test_every_dashboard_is_provisioned() -> None:
    made = role(grafana_dashboards_extra=["/srv/own.json"])
    providers = yaml.safe_load(made.file("dashboards.yml.j2"))["providers"]
    assert [provider["options"]["path"].rpartition("/")[2] for provider in providers] == ["fleet", "own"]
    assert all(provider["allowUiUpdates"] is False for provider in providers)
    assert len({provider["folderUid"] for provider in providers}) == 2
    paths = {file["path"] for file in made.value("{{ __grafana_files }}")}
    shipped = {file.name for file in (ROLES / "grafana/files/dashboards").glob("*.json")}
    assert len(shipped) == 7
    assert {f"/etc/flowfleet/grafana/dashboards/fleet/{name}" for name in shipped} <= paths
    assert "/etc/flowfleet/grafana/dashboards/own/own.json" in paths


def test_nothing_but_grafana_comes_from_its_repository() -> None:
    made = role(grafana_repository=REPOSITORY)
    source = made.file("grafana.sources.j2")
    assert "URIs: https://mirror.example.com/grafana\n" in source
    assert "Signed-By: /etc/apt/keyrings/flowfleet-grafana.asc\n" in source
    pin = made.file("pin.j2")
    assert 'Package: *\nPin: origin "mirror.example.com"\nPin-Priority: -1\n' in pin
    assert 'Package: grafana\nPin: origin "mirror.example.com"\nPin-Priority: 500\n' in pin
    assert made.value("{{ __grafana_service.packages }}") == ["grafana"]
    assert role(grafana_version="12.4.*").value("{{ __grafana_service.packages }}") == ["grafana=12.4.*"]
    assert role(grafana_source="archive").value("{{ __grafana_service.packages }}") == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"grafana_source": "archive"}, "grafana_archive"),
        (
            {"grafana_source": "archive", "grafana_archive": {"url": "https://x.example.com/g.deb", "sha256": "0"}},
            "sha256",
        ),
        ({"grafana_repository": {"suites": ["stable"], "key": "x"}}, "uris"),
        ({"grafana_repository": {"uris": ["https://mirror.example.com/grafana"]}}, "signed_by"),
        ({"grafana_admin_password": "short"}, "grafana_admin_password"),
        ({"grafana_prometheus_password": "with$dollar"}, "grafana_prometheus_password"),
        ({"grafana_prometheus_servers": [{"name": "x", "url": "http://192.0.2.60:9090"}]}, "https://"),
        ({"grafana_prometheus_servers": []}, "at least one"),
        ({"grafana_prometheus_servers": [{"name": "Alertmanager", "url": "https://x.example.com"}]}, "name of its own"),
        ({"grafana_elasticsearch_url": "http://192.0.2.70:9200", **LOGS}, "grafana_elasticsearch_url"),
        ({"grafana_kibana_url": "https://192.0.2.70:5601/"}, "grafana_kibana_url"),
        ({**LOGS, "grafana_elasticsearch_password": "with$dollar-and-more"}, "grafana_elasticsearch_password"),
        ({"grafana_port": 443}, "grafana_port"),
        ({"grafana_dashboards_extra": ["/srv/own.yml"]}, "grafana_dashboards_extra"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], named: str) -> None:
    assert findings(role()) == ""
    assert named in findings(role(**changes))
