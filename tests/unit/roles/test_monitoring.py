# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles prometheus, alertmanager and blackbox: what they write, and what they refuse."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from rendering import Role

PAIR = [{"name": "mon1", "address": "192.0.2.61"}, {"name": "mon2", "address": "2001:db8::62"}]
SECRET = "monitoring-" + "secret" * 3
SALT = "a" * 22
RECEIVERS = [
    {"name": "on-call", "type": "pagerduty", "severities": ["page"], "routing_key": "routing" + SECRET},
    {"name": "chat", "type": "slack", "channel": "#x", "url": f"https://chat.example.com/{SECRET}"},
    {"name": "ops", "type": "email", "tiers": ["hours"], "to": "ops@example.com"},
    {
        "name": "hook",
        "type": "webhook",
        "url": "https://h.example.com/a",
        "token": "t" + SECRET,
        "config": {"max_alerts": 5},
    },
]
MAIL = {"alertmanager_smtp_smarthost": "mail.example.com:587", "alertmanager_smtp_from": "l@example.com"}


def alertmanager(**changes: Any) -> Role:
    given: dict[str, Any] = {
        "inventory_hostname": "mon1",
        "alertmanager_password": SECRET,
        "alertmanager_password_salt": SALT,
        "alertmanager_peers": PAIR,
        "alertmanager_address": "192.0.2.61",
        "__alertmanager_hashed": {"stdout": "$2b$10$hash"},
    }
    return Role("alertmanager", {}, **{**given, **changes})


def prometheus(**changes: Any) -> Role:
    given: dict[str, Any] = {
        "inventory_hostname": "mon1",
        "prometheus_password": SECRET,
        "prometheus_password_salt": SALT,
        "prometheus_peers": PAIR,
        "prometheus_address": "192.0.2.61",
        "prometheus_alertmanager_user": "monitoring",
        "prometheus_alertmanager_password": SECRET,
        "prometheus_targets_token": "token" + SECRET,
        "prometheus_otlp_password": "otlp" + SECRET,
        "__prometheus_hashed": {"stdout": "$2b$10$hash"},
        "prometheus_targets": [
            {"job": "node", "targets": [{"address": "192.0.2.11", "instance": "lb1", "role": "loadbalancers"}]},
            {"job": "postgres", "targets": [{"address": "2001:db8::5", "instance": "data1", "role": "postgresql"}]},
        ],
        "prometheus_probes": [
            {"job": "probe_front", "module": "front", "target": "https://192.0.2.11:443/health", "instance": "lb1"},
        ],
    }
    return Role("prometheus", {}, **{**given, **changes})


def config(role: Role, template: str) -> dict[str, Any]:
    return dict(yaml.safe_load(role.file(template)))


def names(found: dict[str, Any]) -> dict[str, list[str]]:
    """Kinds of entries of each receiver."""
    return {item["name"]: sorted(key for key in item if key != "name") for item in found["receivers"]}


def test_receivers_follow_from_tier_and_severity() -> None:
    found = config(alertmanager(alertmanager_receivers=RECEIVERS, **MAIL), "alertmanager.yml.j2")
    receivers = names(found)
    assert receivers["nobody"] == []
    assert receivers["seconds-page"] == ["pagerduty_configs", "slack_configs", "webhook_configs"]
    assert receivers["seconds-ticket"] == ["slack_configs", "webhook_configs"]
    assert receivers["hours-info"] == ["email_configs", "slack_configs", "webhook_configs"]
    deadman, *tiers = found["route"]["routes"]
    assert deadman["receiver"] == "nobody"
    assert deadman["matchers"] == ['alertname="Watchdog"']
    # Looks as far apart as the repetition would leave out every other one.
    assert (deadman["group_interval"], deadman["repeat_interval"]) == ("10s", "1m")
    assert [route["matchers"] for route in tiers] == [['tier="seconds"'], ['tier="minutes"'], ['tier="hours"']]
    assert tiers[0]["group_wait"] == "1s"
    assert [way["receiver"] for way in tiers[0]["routes"]] == ["seconds-page", "seconds-ticket", "seconds-info"]
    assert found["route"]["receiver"] == "minutes-page"


def test_no_secret_stands_in_the_configuration() -> None:
    role = alertmanager(alertmanager_receivers=RECEIVERS, **MAIL)
    text = role.file("alertmanager.yml.j2")
    assert SECRET not in text
    hook = next(item for item in yaml.safe_load(text)["receivers"] if item["name"] == "minutes-page")[
        "webhook_configs"
    ][0]
    assert hook["url_file"] == "/etc/flowfleet/alertmanager/secrets/hook.url"
    assert hook["http_config"]["authorization"]["credentials_file"].endswith("/hook.token")
    assert hook["max_alerts"] == 5
    secrets = {item["path"]: item for item in role.value("{{ __alertmanager_files }}") if "/secrets/" in item["path"]}
    assert {path.rsplit("/", 1)[1] for path in secrets} == {
        "password",
        "on-call.routing_key",
        "chat.url",
        "hook.url",
        "hook.token",
    }
    assert all(item["secret"] and item["mode"] == "0640" for item in secrets.values())
    assert SECRET not in role.file("web.yml.j2") + role.file("client.yml.j2") + role.file("cluster.yml.j2")


def test_without_receivers_nobody_is_told() -> None:
    found = config(alertmanager(), "alertmanager.yml.j2")
    assert names(found) == {"nobody": []}
    assert found["route"]["receiver"] == "nobody"


def test_a_single_member_opens_no_cluster() -> None:
    assert "--cluster.peer=[2001:db8::62]:9094" in alertmanager().file("langflow-alertmanager.service.j2")
    alone = alertmanager(alertmanager_peers=PAIR[:1]).file("langflow-alertmanager.service.j2")
    assert "--cluster.listen-address= \\" in alone
    assert "--cluster.peer=" not in alone


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"alertmanager_receivers": [{"name": "a", "type": "pigeon"}]}, "type is one of"),
        ({"alertmanager_receivers": [{"name": "a", "type": "webhook"}]}, "a of type webhook needs url"),
        ({"alertmanager_receivers": [{"name": "a b", "type": "webhook", "url": "x"}]}, "a name of its own"),
        ({"alertmanager_receivers": [RECEIVERS[1], RECEIVERS[1]]}, "a name of its own"),
        ({"alertmanager_receivers": [{**RECEIVERS[1], "tiers": ["days"]}]}, "tiers of chat are"),
        ({"alertmanager_receivers": [RECEIVERS[2]]}, "alertmanager_smtp_smarthost"),
        ({"alertmanager_timings": {"seconds": {}}}, "alertmanager_timings"),
        ({"alertmanager_templates": {"../x": ""}}, "alertmanager_templates"),
        ({"alertmanager_password": "short"}, "alertmanager_password"),
    ],
)
def test_alertmanager_refuses(changes: dict[str, Any], word: str) -> None:
    role = alertmanager(**changes)
    # An unknown type stops the role before the second question.
    if "type is one of" in word:
        assert word in role.value(
            "{{ __alertmanager_findings | rejectattr('ok') | map(attribute='text') | join(' ') }}"
        )
    else:
        assert any(word in line for line in role.refusals())


def test_alertmanager_accepts_it() -> None:
    assert alertmanager(alertmanager_receivers=RECEIVERS, **MAIL).refusals() == []


def test_targets_probes_and_paces() -> None:
    found = config(prometheus(), "prometheus.yml.j2")
    jobs = {job["job_name"]: job for job in found["scrape_configs"]}
    assert list(jobs) == ["prometheus", "alertmanager", "otlp", "node", "postgres", "blackbox", "probe_front"]
    assert (jobs["node"]["scrape_interval"], jobs["node"]["scrape_timeout"]) == ("5s", "4s")
    assert (jobs["postgres"]["scrape_interval"], jobs["postgres"]["scrape_timeout"]) == ("15s", "10s")
    assert jobs["postgres"]["static_configs"][0]["targets"] == ["[2001:db8::5]:9998"]
    assert jobs["node"]["params"] == {"module": ["node"]}
    assert jobs["node"]["static_configs"][0]["labels"] == {"instance": "lb1", "role": "loadbalancers"}
    assert jobs["probe_front"]["static_configs"][0]["labels"]["__param_module"] == "front"
    assert {job.get("scheme", "http") for name, job in jobs.items() if not name.startswith(("probe", "blackbox"))} == {
        "https"
    }
    assert found["global"]["external_labels"]["replica"] == "mon1"
    assert found["alerting"]["alert_relabel_configs"] == [{"action": "labeldrop", "regex": "replica"}]
    assert found["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == [
        "192.0.2.61:9093",
        "[2001:db8::62]:9093",
    ]


def test_both_of_a_pair_measure_the_same() -> None:
    both = [config(prometheus(inventory_hostname=name), "prometheus.yml.j2") for name in ("mon1", "mon2")]
    jobs = [{job["job_name"]: job for job in found["scrape_configs"]} for found in both]
    # What Langflow pushes is taken by the first one and handed to both.
    assert jobs[0].pop("otlp")
    jobs[0].pop("blackbox"), jobs[1].pop("blackbox")
    assert jobs[0] == jobs[1]
    unit = prometheus().file("langflow-otlp.service.j2")
    assert "https://192.0.2.61:9090/api/v1/write" in unit
    assert "https://[2001:db8::62]:9090/api/v1/write" in unit


def test_prometheus_writes_secrets_to_files_only() -> None:
    role = prometheus()
    for template in (
        "prometheus.yml.j2",
        "web.yml.j2",
        "client.yml.j2",
        "langflow-prometheus.service.j2",
        "langflow-otlp.service.j2",
    ):
        assert SECRET not in role.file(template), template


@pytest.mark.parametrize("unit", ["langflow-prometheus.service.j2", "langflow-otlp.service.j2"])
def test_units_have_one_setting_a_line(unit: str) -> None:
    lines = prometheus().file(unit).splitlines()
    assert "NoExecPaths=/" in lines
    assert "SystemCallErrorNumber=EPERM" in lines


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"prometheus_peers": []}, "prometheus_peers"),
        ({"prometheus_password": "x" * 73}, "prometheus_password"),
        ({"prometheus_scrape_interval_fast": 20}, "prometheus_scrape_interval_fast"),
        ({"prometheus_retention_time": "40"}, "prometheus_retention_time"),
        ({"prometheus_retention_size": "lots"}, "prometheus_retention_size"),
        ({"prometheus_port": 9093}, "each its own"),
    ],
)
def test_prometheus_refuses(changes: dict[str, Any], word: str) -> None:
    otlp = {} if changes.get("prometheus_peers", PAIR) else {"prometheus_otlp_enabled": False}
    assert any(word in line for line in prometheus(**changes, **otlp).refusals())


def test_blackbox_has_a_flow_only_with_a_key() -> None:
    assert "flow" not in config(Role("blackbox", {}), "blackbox.yml.j2")["modules"]
    role = Role("blackbox", {}, blackbox_flow="probe", blackbox_flow_key=SECRET, blackbox_flow_answer="5 words")
    flow = config(role, "blackbox.yml.j2")["modules"]["flow"]["http"]
    assert flow["fail_if_body_not_matches_regexp"] == ["5 words"]
    assert flow["headers"]["x-api-key"] == SECRET
    entry = next(item for item in role.value("{{ __blackbox_service.files }}") if item["path"].endswith("blackbox.yml"))
    assert entry["secret"] is True


def test_amtool_accepts_it(tmp_path: pathlib.Path) -> None:
    program = shutil.which("amtool")
    text = alertmanager(alertmanager_receivers=RECEIVERS, **MAIL).file("alertmanager.yml.j2")
    (tmp_path / "alertmanager.yml").write_text(text, encoding="utf-8")
    if program:
        subprocess.run([program, "check-config", str(tmp_path / "alertmanager.yml")], check=True)


# --- programs from archives -------------------------------------------------------------------------------------------

ARCHIVE = {"url": "https://mirror.example.com/p-2.53.tar.gz", "sha256": "c0ffee" + "0" * 58}


def test_programs_of_archives_take_the_place_of_packages() -> None:
    role = prometheus(prometheus_archive=ARCHIVE, prometheus_otlp_archive=ARCHIVE)
    service = role.value("{{ __prometheus_service }}")
    assert service["packages"] == []
    root = "/opt/flowfleet/prometheus/prometheus-c0ffee0000000000"
    assert f"ExecStart={root}/prometheus " in role.file("langflow-prometheus.service.j2")
    assert f"ExecPaths={root}/prometheus " in role.file("langflow-prometheus.service.j2")
    assert service["validate"][0].startswith(f"{root}/promtool check config ")
    assert role.value("{{ __prometheus_gate }}")["argv"][0] == f"{root}/promtool"
    links = {item["path"]: item["target"] for item in service["files"] if item.get("state") == "link"}
    assert links["/usr/local/bin/promtool"] == f"{root}/promtool"
    receiver = "/opt/flowfleet/prometheus/vmagent-c0ffee0000000000/vmagent-prod"
    assert f"ExecStart={receiver} " in role.file("langflow-otlp.service.j2")
    assert [(item["path"], item.get("strip", 1)) for item in role.value("{{ __prometheus_programs }}")] == [
        (f"{root}/prometheus", 1),
        (receiver, 0),
    ]
    # The other host of the pair takes nothing that is pushed.
    other = prometheus(prometheus_archive=ARCHIVE, prometheus_otlp_archive=ARCHIVE, inventory_hostname="mon2")
    assert len(other.value("{{ __prometheus_programs }}")) == 1


def test_alertmanager_from_an_archive() -> None:
    role = alertmanager(alertmanager_archive=ARCHIVE)
    service = role.value("{{ __alertmanager_service }}")
    root = "/opt/flowfleet/alertmanager/alertmanager-c0ffee0000000000"
    assert service["packages"] == []
    assert service["validate"][0].startswith(f"{root}/amtool check-config ")
    assert role.value("{{ __alertmanager_gate }}")["argv"][0] == f"{root}/amtool"
    text = role.file("langflow-alertmanager.service.j2")
    assert f"ExecStart={root}/alertmanager " in text
    assert f"ExecPaths={root}/alertmanager " in text
    assert "/usr/bin/prometheus-alertmanager" not in text


def test_without_an_archive_it_is_the_package() -> None:
    """Control: nothing of an archive is left where none is named."""
    measures, tells = prometheus(), alertmanager()
    assert measures.value("{{ __prometheus_service.packages }}") == ["prometheus", "promtool", "victoria-metrics"]
    assert tells.value("{{ __alertmanager_service.packages }}") == ["prometheus-alertmanager"]
    assert measures.value("{{ __prometheus_programs }}") == []
    for text in (
        measures.file("langflow-prometheus.service.j2"),
        measures.file("langflow-otlp.service.j2"),
        tells.file("langflow-alertmanager.service.j2"),
    ):
        assert "/opt/" not in text


@pytest.mark.parametrize(
    "broken", [{"url": ARCHIVE["url"]}, {**ARCHIVE, "sha256": "1"}, {**ARCHIVE, "url": "p.tar.gz"}]
)
def test_an_archive_without_address_or_checksum_is_refused(broken: dict[str, str]) -> None:
    for made, name in (
        (prometheus(prometheus_archive=broken), "prometheus"),
        (prometheus(prometheus_otlp_archive=broken), "prometheus"),
        (alertmanager(alertmanager_archive=broken), "alertmanager"),
        (Role("blackbox", {}, blackbox_archive=broken), "blackbox"),
    ):
        found = made.value("{{ __" + name + "_findings | rejectattr('ok') | map(attribute='text') | list }}")
        assert [text for text in found if text.startswith(name)] == found
        assert any("64 hexadecimal digits" in text for text in found)
