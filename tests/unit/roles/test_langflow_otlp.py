# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role langflow: pushing metrics and spans changes nothing where nobody receives them, and gives no secret away."""

from __future__ import annotations

from typing import Any

import pytest
import test_langflow
from test_langflow import environment, role

# A fixture of that module, for this one too.
_filters = test_langflow._filters_of_this_checkout

RECEIVER = "https://192.0.2.14:4318/opentelemetry"
PASSWORD = {"langflow_fleet_otlp_password": "push/p@ss=1"}
LOGIN = {"langflow_fleet_otlp_endpoint": RECEIVER, "langflow_fleet_otlp_user": "pusher", **PASSWORD}


def settings(name: str, **given: Any) -> dict[str, str]:
    return environment(role(**given).file(name))


@pytest.mark.parametrize("file", ["langflow.env.j2", "secrets.env.j2"])
@pytest.mark.parametrize("given", [{}, {"langflow_fleet_otlp_endpoint": ""}, PASSWORD])
def test_without_a_receiver_nothing_is_added(file: str, given: dict[str, Any]) -> None:
    assert not [name for name in settings(file, **given) if name.startswith("OTEL_")]


def test_every_worker_pushes_metrics_and_nothing_else() -> None:
    plain = settings("langflow.env.j2", **LOGIN)
    assert plain["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] == f"{RECEIVER}/v1/metrics"
    assert plain["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"] == "http/protobuf"
    assert plain["OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE"] == "/etc/flowfleet/tls/ca.crt"
    assert plain["OTEL_METRIC_EXPORT_INTERVAL"] == "15000"
    assert plain["OTEL_TRACES_EXPORTER"] == plain["OTEL_LOGS_EXPORTER"] == "none"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in plain, "it would switch on spans and logs as well"


def test_the_login_stands_in_the_secret_file_alone() -> None:
    plain, private = settings("langflow.env.j2", **LOGIN), settings("secrets.env.j2", **LOGIN)
    assert not [value for value in plain.values() if "push" in value and "opentelemetry" not in value]
    assert "OTEL_EXPORTER_OTLP_METRICS_HEADERS" not in plain
    # Header values are percent-encoded; "pusher:push/p@ss=1" in base64 follows.
    assert private["OTEL_EXPORTER_OTLP_METRICS_HEADERS"] == "Authorization=Basic%20cHVzaGVyOnB1c2gvcEBzcz0x"


def test_a_receiver_without_tls_needs_no_certificates() -> None:
    plain = settings("langflow.env.j2", langflow_otlp_metrics_endpoint="http://127.0.0.1:4318/v1/metrics")
    assert "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE" not in plain


def test_what_the_user_sets_wins() -> None:
    plain = settings("langflow.env.j2", **LOGIN, langflow_environment={"OTEL_SERVICE_NAME": "mine"})
    assert plain["OTEL_SERVICE_NAME"] == "mine"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"langflow_otlp_metrics_endpoint": "mon1:4318"}, "langflow_otlp_metrics_endpoint"),
        ({"langflow_otlp_metrics_endpoint": "https://user:word@mon1/v1/metrics"}, "langflow_otlp_metrics_endpoint"),
        ({"langflow_otlp_traces_endpoint": "127.0.0.1:4328"}, "langflow_otlp_traces_endpoint"),
        ({"langflow_otlp_interval": 1}, "langflow_otlp_interval"),
    ],
)
def test_what_cannot_work_is_refused(given: dict[str, Any], name: str) -> None:
    demands = role(**given).value("{{ __langflow_demands }}")
    refused = [demand["otherwise"] for demand in demands if not demand["met"]]
    assert [text for text in refused if text.startswith(name)]


AGENT = {"langflow_fleet_trace_endpoint": "http://127.0.0.1:4328"}


def test_every_worker_sends_all_of_its_spans_to_the_agent_of_its_host() -> None:
    plain = settings("langflow.env.j2", **AGENT)
    assert plain["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == "http://127.0.0.1:4328/v1/traces"
    assert plain["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert plain["OTEL_TRACES_SAMPLER"] == "parentbased_always_on", "what fails has to be there to be kept"
    assert plain["LANGFLOW_OTEL_DB_SPANS"] == "true"
    assert "OTEL_TRACES_EXPORTER" not in plain
    assert plain["OTEL_METRICS_EXPORTER"] == plain["OTEL_LOGS_EXPORTER"] == "none"
    assert "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" not in plain


def test_spans_and_metrics_go_their_own_ways() -> None:
    plain = settings("langflow.env.j2", **LOGIN, **AGENT)
    assert plain["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] == f"{RECEIVER}/v1/metrics"
    assert plain["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == "http://127.0.0.1:4328/v1/traces"
    assert not {"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT"} & set(plain)
    assert "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE" not in plain, "the agent is on this host"


def test_an_agent_that_is_away_costs_a_bounded_time_and_memory() -> None:
    plain = settings("langflow.env.j2", **AGENT)
    assert int(plain["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"]) <= 5
    assert int(plain["OTEL_BSP_EXPORT_TIMEOUT"]) <= 5000
    assert int(plain["OTEL_BSP_MAX_QUEUE_SIZE"]) <= 8192


def test_statements_to_the_database_can_be_left_out() -> None:
    assert settings("langflow.env.j2", **AGENT, langflow_otlp_database_spans=False)["LANGFLOW_OTEL_DB_SPANS"] == "false"


def test_a_backend_elsewhere_is_verified() -> None:
    plain = settings("langflow.env.j2", langflow_otlp_traces_endpoint="https://traces.example.com/v1/traces")
    assert plain["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"] == "/etc/flowfleet/tls/ca.crt"
