# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role otel_collector: which traces its policies keep, what is masked, where secrets stand, and what it refuses."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendering import ROLES, Role

ROOT = ROLES.parent
ARCHIVE = ROOT / ".cache/lab-artifacts/otelcol-contrib.tar.gz"
PASSWORD, KEY, TOKEN = 'quote" and \\ slash', "key of a backend", "token-of-the-fleet-0123456789"
GATEWAYS = [{"name": f"mon{number}", "address": f"192.0.2.{number}"} for number in (1, 2, 3)]
HOT, CRITICAL = "0c9a2b34-0000-4000-8000-00000000000a", "critical-flow"
GIVEN: dict[str, Any] = {
    "role_path": str(ROLES / "otel_collector"),
    "otel_collector_modes": ["agent", "gateway"],
    "otel_collector_archive_url": "https://mirror.example.com/otelcol-contrib.tar.gz",
    "otel_collector_archive_sha256": "a" * 64,
    "otel_collector_gateway_token": TOKEN,
    "otel_collector_elasticsearch_password": PASSWORD,
    "otel_collector_hot_flows": [HOT, "hot-flow"],
    "otel_collector_critical_flows": [CRITICAL],
    "langflow_fleet_monitoring_hosts": GATEWAYS[:1],
    "langflow_fleet_logging_hosts": [{"name": "log1", "address": "192.0.2.21"}],
}


def role(**changes: Any) -> Role:
    return Role("otel_collector", {"architecture": "x86_64"}, **{**GIVEN, **changes})


def config(mode: str, **changes: Any) -> dict[str, Any]:
    """The configuration as the Collector reads it: a dollar sign is written twice there."""
    text = role(**changes).file("config.yml.j2", __otel_collector_mode=mode)
    references = re.sub(r"\$\{env:[A-Z_0-9]+\}", "", text)
    assert not re.sub(r"\$\$", "", references).count("$"), "a single dollar sign begins a reference"
    found: dict[str, Any] = yaml.safe_load(text.replace("$$", "$"))
    return found


# --- which traces are kept -------------------------------------------------------------------------------------------


def span(
    flow: str = "", path: str = "", error: bool = False, database: str = "", parent: bool = True
) -> dict[str, Any]:
    known = (("flow_id", flow), ("url.path", path), ("db.system", database))
    attributes = {key: value for key, value in known if value}
    return {"attributes": attributes, "error": error, "name": "", "parent": parent}


def statement(error: bool = False) -> dict[str, Any]:
    """What nobody asked for: Langflow looks after its leases and queues on its own."""
    return span(error=error, database="postgresql", parent=False)


def condition_holds(text: str, one: dict[str, Any]) -> bool:
    """The little of OTTL that the role writes."""
    if " and " in text:
        return all(condition_holds(part, one) for part in text.split(" and "))
    if text == "span.parent_span_id == SpanID(0x0000000000000000)":
        return not one["parent"]
    if match := re.fullmatch(r'IsMatch\(span\.(?:attributes\["([^"]+)"\]|(name)), "(.+)"\)', text):
        value = one["attributes"].get(match[1]) if match[1] else one["name"]
        return value is not None and re.search(match[3], value) is not None
    match = re.fullmatch(r'span\.attributes\["([^"]+)"\] != nil', text)
    assert match, text
    return match[1] in one["attributes"]


def votes(policy: dict[str, Any], spans: list[dict[str, Any]], seconds: float, dice: float) -> bool:
    """Whether a policy of the Collector would keep a trace; `dice` is what its hash of the trace's id amounts to."""
    kind = policy["type"]
    if kind == "and":
        return all(votes(part, spans, seconds, dice) for part in policy["and"]["and_sub_policy"])
    if kind == "not":
        return not votes(policy["not"]["not_sub_policy"], spans, seconds, dice)
    if kind == "probabilistic":
        return dice * 100 < policy["probabilistic"]["sampling_percentage"]
    if kind == "latency":
        return seconds * 1000 >= policy["latency"]["threshold_ms"]
    if kind == "status_code":
        return any(one["error"] for one in spans)
    if kind == "ottl_condition":
        return any(condition_holds(text, one) for text in policy["ottl_condition"]["span"] for one in spans)
    assert kind == "always_sample", kind
    return True


def kept(policies: list[dict[str, Any]], spans: list[dict[str, Any]], seconds: float = 1, dice: float = 0.99) -> bool:
    """As the Collector combines its policies: any vote keeps a trace, unless one of type drop objects."""
    for policy in policies:
        parts = policy["drop"]["drop_sub_policy"] if policy["type"] == "drop" else []
        if parts and all(votes(part, spans, seconds, dice) for part in parts):
            return False
    return any(votes(policy, spans, seconds, dice) for policy in policies if policy["type"] != "drop")


def policies(**changes: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = config("gateway", **changes)["processors"]["tail_sampling"]["policies"]
    return found


def share(rules: list[dict[str, Any]], spans: list[dict[str, Any]], seconds: float = 1) -> float:
    return sum(kept(rules, spans, seconds, dice / 1000) for dice in range(1000)) / 1000


RUN = "/api/v1/run/some-flow"


@pytest.mark.parametrize(
    ("spans", "seconds", "wanted"),
    [
        ([span(path=RUN), span("some-flow")], 1, 0.10),
        ([span(path=RUN), span(HOT)], 1, 0.01),
        ([span(path="/api/v1/run/hot-flow")], 1, 0.01),
        ([span(path="/api/v1/run/advanced/hot-flow")], 1, 0.01),
        ([span(path="/api/v1/webhook/hot-flow")], 1, 0.01),
        ([span(path="/api/v1/run/hot-flow-2")], 1, 0.10),
        ([span(CRITICAL)], 1, 1),
        ([span(HOT), span(CRITICAL)], 1, 1),
        ([span(HOT), span(HOT, error=True)], 1, 1),
        ([span(HOT)], 5, 1),
        ([span(path="/health_check")], 1, 0),
        ([span(path="/health"), span()], 60, 0),
        # Whatever else is in it, a flow ran.
        ([span(path="/health"), span(CRITICAL)], 1, 1),
        ([span(path="/healthy-food")], 1, 0.10),
        ([statement()], 1, 0),
        ([statement(error=True)], 1, 1),
        ([statement()], 5, 1),
        ([span(path=RUN, parent=False), span("some-flow"), span(database="postgresql")], 1, 0.10),
        ([span(path=RUN, parent=False), span(database="postgresql")], 1, 0.10),
        ([statement(), span(CRITICAL)], 1, 1),
    ],
)
def test_the_first_class_decides(spans: list[dict[str, Any]], seconds: float, wanted: float) -> None:
    assert share(policies(), spans, seconds) == pytest.approx(wanted)


def test_statements_that_nobody_asked_for_are_kept_if_wanted() -> None:
    assert share(policies(otel_collector_background_statements=True), [statement()]) == pytest.approx(0.10)


def test_policies_by_themselves_let_hot_flows_through_at_the_rate_of_the_rest() -> None:
    assert share(policies(otel_collector_sampling_match="any"), [span(HOT)]) == pytest.approx(0.10)


def test_a_class_can_keep_less_than_all_before_another_one_and_nothing_at_all() -> None:
    classes = [
        {"name": "slow", "slower_than": 2, "percent": 50},
        {"name": "noise", "flows": ["noise"], "percent": 0},
        {"name": "errors", "errors": True, "percent": 100},
        {"name": "rest", "percent": 20},
    ]
    rules = policies(otel_collector_sampling=classes)
    assert share(rules, [span("noise")], 3) == pytest.approx(0.5)
    assert share(rules, [span("noise", error=True)], 1) == 0
    assert share(rules, [span("other", error=True)], 3) == pytest.approx(0.5)
    assert share(rules, [span("other", error=True)], 1) == 1
    assert share(rules, [span("other")], 1) == pytest.approx(0.2)
    assert share(rules, [statement()], 1) == 0
    assert share(rules, [statement()], 3) == pytest.approx(0.5)
    assert share(rules, [statement(error=True)], 1) == 1


def test_a_class_of_no_flows_takes_nothing() -> None:
    rules = policies(otel_collector_hot_flows=[], otel_collector_critical_flows=[])
    assert [policy["name"] for policy in rules] == ["health", "statements", "errors", "slow", "rest"]
    assert share(rules, [span(HOT)]) == pytest.approx(0.10)


def test_a_trace_waits_until_the_longest_run_has_ended() -> None:
    settings = config("gateway", langflow_fleet_request_timeout=600)["processors"]["tail_sampling"]
    assert (settings["decision_wait"], settings["decision_wait_after_root_received"]) == ("610s", "0s")
    assert settings["num_traces"] == 20 * 610 * 1.2
    assert settings["decision_cache"]["non_sampled_cache_size"] == settings["num_traces"] * 10


def test_everything_is_counted_before_anything_is_dropped() -> None:
    pipelines = config("gateway")["service"]["pipelines"]
    assert pipelines["traces/in"]["processors"] == ["memory_limiter", "redaction", "transform/mask"]
    assert pipelines["traces/in"]["exporters"] == ["forward/measure", "forward/choose"]
    assert (pipelines["traces/measure"]["receivers"], pipelines["traces/measure"]["exporters"]) == (
        ["forward/measure"],
        ["span_metrics"],
    )
    assert pipelines["traces/choose"]["processors"][0] == "tail_sampling"
    assert "tail_sampling" not in pipelines["traces/measure"]["processors"]


# --- from agents to gateways -----------------------------------------------------------------------------------------


def test_one_gateway_needs_no_shares() -> None:
    found = config("agent")
    assert found["receivers"] == {"otlp": {"protocols": {"http": {"endpoint": "127.0.0.1:4328"}}}}
    assert list(found["exporters"]) == ["otlp_http/mon1"]
    exporter = found["exporters"]["otlp_http/mon1"]
    assert exporter["endpoint"] == "https://192.0.2.1:4319"
    assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s", "nothing is given up while there is room"
    assert exporter["sending_queue"]["storage"] == "file_storage"
    assert exporter["sending_queue"]["queue_size"] == 512 * 1024 * 1024
    assert not [name for name in found["processors"] if name.startswith("filter")]


def test_every_trace_goes_to_one_of_several_gateways() -> None:
    found = config("agent", langflow_fleet_monitoring_hosts=GATEWAYS)
    shares = {}
    for gateway in GATEWAYS:
        pipeline = found["service"]["pipelines"][f"traces/{gateway['name']}"]
        assert pipeline == {
            "receivers": ["forward"],
            "processors": [f"filter/{gateway['name']}"],
            "exporters": [f"otlp_http/{gateway['name']}"],
        }
        (text,) = found["processors"][f"filter/{gateway['name']}"]["traces"]["span"]
        match = re.fullmatch(r'not IsMatch\(span\.trace_id\.string, "(.+)"\)', text)
        assert match
        shares[gateway["name"]] = re.compile(match[1])
    counts = dict.fromkeys(shares, 0)
    for number in range(3000):
        trace = hashlib.sha256(str(number).encode()).hexdigest()[:32]
        (name,) = [name for name, ours in shares.items() if ours.search(trace)]
        counts[name] += 1
    assert min(counts.values()) > 900


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    found = config("agent", otel_collector_gateways=[{"name": "mon1", "address": "2001:db8::1"}])
    assert found["exporters"]["otlp_http/mon1"]["endpoint"] == "https://[2001:db8::1]:4319"
    assert config("gateway", otel_collector_gateway_bind="2001:db8::1")["receivers"]["otlp"]["protocols"]["http"][
        "endpoint"
    ] == ("[2001:db8::1]:4319")


def test_a_gateway_wants_tls_and_the_token() -> None:
    server = config("gateway")["receivers"]["otlp"]["protocols"]["http"]
    assert server["endpoint"] == "0.0.0.0:4319"
    assert server["tls"]["cert_file"] == "/etc/flowfleet/tls/otel.crt"
    assert server["auth"] == {"authenticator": "bearertokenauth"}


# --- where traces are kept -------------------------------------------------------------------------------------------


def test_traces_are_kept_in_elasticsearch_where_there_is_one() -> None:
    found = config("gateway")
    exporter = found["exporters"]["elasticsearch"]
    assert exporter["endpoints"] == ["https://192.0.2.21:9200"]
    assert (exporter["user"], exporter["password"]) == ("flowfleet_writer", "${env:OTELCOL_ELASTICSEARCH_PASSWORD}")
    assert exporter["retry"]["max_retries"] >= 10000
    assert found["service"]["pipelines"]["traces/choose"] == {
        "receivers": ["forward/choose"],
        "processors": ["tail_sampling", "transform/stream"],
        "exporters": ["elasticsearch"],
    }


def test_any_other_backend_takes_them_too() -> None:
    found = config(
        "gateway",
        langflow_fleet_logging_hosts=[],
        otel_collector_otlp_endpoint="https://traces.example.com/otlp",
        otel_collector_otlp_headers={"x-key": KEY},
        otel_collector_otlp_ca_file="/etc/ssl/own.pem",
    )
    assert "elasticsearch" not in found["exporters"]
    exporter = found["exporters"]["otlp_http"]
    assert exporter["headers"] == {"x-key": "${env:OTELCOL_HEADER_1}"}
    assert exporter["tls"] == {"ca_file": "/etc/ssl/own.pem"}
    assert found["service"]["pipelines"]["traces/choose"]["processors"] == ["tail_sampling"]


def test_a_new_authority_restarts_who_trusts_it() -> None:
    ours, theirs = "/etc/flowfleet/tls/ca.crt", "/etc/ssl/own.pem"
    assert ours in role().value("{{ __otel_collector_watch.agent }}")
    assert ours in role().value("{{ __otel_collector_watch.gateway }}")
    elsewhere = role(
        langflow_fleet_logging_hosts=[],
        otel_collector_otlp_endpoint="https://traces.example.com/otlp",
        otel_collector_otlp_ca_file=theirs,
    )
    watched = elsewhere.value("{{ __otel_collector_watch.gateway }}")
    assert theirs in watched
    assert ours not in watched


def test_figures_bear_the_trace_that_they_come_from() -> None:
    found = config("gateway")
    assert found["connectors"]["span_metrics"]["exemplars"]["enabled"] is True
    assert found["exporters"]["prometheus"]["enable_open_metrics"] is True


def test_several_hosts_of_the_log_tier_are_asked_in_turn() -> None:
    hosts = [{"name": "log1", "address": "192.0.2.21"}, {"name": "log2", "address": "2001:db8::22"}]
    found = config("gateway", langflow_fleet_logging_hosts=hosts)
    assert found["exporters"]["elasticsearch"]["endpoints"] == [
        "https://192.0.2.21:9200",
        "https://[2001:db8::22]:9200",
    ]


def test_more_settings_are_laid_over() -> None:
    found = config("gateway", otel_collector_gateway_settings={"exporters": {"elasticsearch": {"timeout": "90s"}}})
    assert found["exporters"]["elasticsearch"]["timeout"] == "90s"
    assert found["exporters"]["elasticsearch"]["user"] == "flowfleet_writer"


# --- masking ---------------------------------------------------------------------------------------------------------

CANARIES = [
    "sk-canary0A1b2C3d4E5f6G7h8I9j",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl",
    "Bearer canaryBearerToken0123456789",
    "4111 1111 1111 1111",
    "canary.person@example.org",
    "+49 151 12345678",
    'password="canary-pass-phrase"',
    "https://user:word@example.org/",
]


@pytest.mark.parametrize("mode", ["agent", "gateway"])
@pytest.mark.parametrize("canary", CANARIES)
def test_the_one_list_of_patterns_masks_attributes_and_names(mode: str, canary: str) -> None:
    processors = config(mode)["processors"]
    assert any(re.search(pattern, f"x {canary} y") for pattern in processors["redaction"]["blocked_values"])
    groups = processors["transform/mask"]["trace_statements"]
    for text in ("span.name", "span.status.message", "spanevent.name"):
        ours = [
            yaml.safe_load(f'"{match[1]}"')
            for group in groups
            for statement in group["statements"]
            if (match := re.fullmatch(rf'replace_pattern\({re.escape(text)}, "(.*)", ".*"\)', statement))
        ]
        assert any(re.search(pattern, f"x {canary} y") for pattern in ours)


def test_a_word_in_the_name_of_an_attribute_masks_it() -> None:
    (words,) = config("agent", otel_collector_masking_keys=["tax_number"])["processors"]["redaction"][
        "blocked_key_patterns"
    ]
    assert all(re.search(words, name) for name in ("http.request.header.authorization", "API-Key", "user.tax.number"))
    assert not re.search(words, "url.path")


def test_what_cannot_be_masked_is_not_passed_on() -> None:
    assert config("agent")["processors"]["transform/mask"]["error_mode"] == "propagate"


def test_ids_of_flows_are_never_taken_for_cards() -> None:
    assert config("gateway")["processors"]["redaction"]["ignored_keys"] == ["flow_id", "run_id"]


def test_patterns_can_be_added_and_left_out() -> None:
    extra = [{"name": "tenant", "regex": "tenant-[0-9]+$"}]
    patterns = config("agent", otel_collector_masking_patterns=extra, otel_collector_masking_off=["email"])[
        "processors"
    ]["redaction"]["blocked_values"]
    assert patterns[-1] == "tenant-[0-9]+$"
    assert not any(re.search(pattern, "someone at@example.org") for pattern in patterns)


def test_go_counts_to_a_thousand_only() -> None:
    patterns = config("agent")["processors"]["redaction"]["blocked_values"]
    counts = [
        int(number)
        for text in patterns
        for pair in re.findall(r"\{(\d+)(?:,(\d*))?\}", text)
        for number in pair
        if number
    ]
    assert max(counts) <= 1000


# --- secrets, units --------------------------------------------------------------------------------------------------


def test_secrets_stand_in_files_that_only_systemd_reads() -> None:
    made = role(otel_collector_otlp_endpoint="https://traces.example.com", otel_collector_otlp_headers={"x-key": KEY})
    for mode in ("agent", "gateway"):
        shown = made.file("config.yml.j2", __otel_collector_mode=mode)
        shown += made.file("otelcol.service.j2", __otel_collector_mode=mode)
        assert not [word for word in ("quote", "slash", KEY, TOKEN) if word in shown]
    hidden = made.file("gateway.env.j2")
    assert 'OTELCOL_ELASTICSEARCH_PASSWORD="quote\\" and \\\\ slash"' in hidden
    assert f'OTELCOL_HEADER_1="{KEY}"' in hidden
    files = {item["path"].rpartition("/")[2]: item for item in made.value("{{ __otel_collector_files }}")}
    assert all(files[name]["secret"] and files[name]["mode"] == "0600" for name in ("token", "gateway.env"))


def test_a_configuration_is_validated_before_it_is_used() -> None:
    files = {item["path"].rpartition("/")[2]: item for item in role().value("{{ __otel_collector_files }}")}
    program = "/opt/flowfleet/otel-collector/aaaaaaaaaaaaaaaa/otelcol-contrib"
    assert {files[f"{mode}.yml"]["validate"] for mode in ("agent", "gateway")} == {f"{program} validate --config=%s"}


@pytest.mark.parametrize("mode", ["agent", "gateway"])
def test_the_unit_is_a_sandbox(mode: str) -> None:
    unit = role().file("otelcol.service.j2", __otel_collector_mode=mode)
    for line in (
        "User=otel",
        "NoNewPrivileges=true",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "NoExecPaths=/",
    ):
        assert f"\n{line}\n" in unit
    assert "LoadCredential=token:/etc/flowfleet/otel-collector/token" in unit
    assert ("EnvironmentFile=" in unit) == (mode == "gateway")


def test_nothing_is_written_for_what_the_host_is_not() -> None:
    names = [item["path"] for item in role(otel_collector_modes=["agent"]).value("{{ __otel_collector_files }}")]
    assert not [name for name in names if "gateway" in name]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"otel_collector_modes": ["relay"]}, "otel_collector_modes"),
        ({"otel_collector_archive_url": ""}, "otel_collector_archive_url"),
        ({"otel_collector_archive_sha256": ""}, "otel_collector_archive_sha256"),
        ({"otel_collector_gateways": []}, "otel_collector_gateways"),
        ({"otel_collector_gateways": [{"name": "mon 1", "address": "192.0.2.1"}]}, "otel_collector_gateways"),
        ({"langflow_fleet_logging_hosts": []}, "otel_collector_otlp_endpoint"),
        ({"otel_collector_otlp_endpoint": "traces:4318"}, "otel_collector_otlp_endpoint"),
        ({"otel_collector_otlp_endpoint": "https://traces:4318/v1/traces"}, "otel_collector_otlp_endpoint"),
        (
            {"otel_collector_otlp_endpoint": "http://traces:4318", "otel_collector_otlp_headers": {"x": "y"}},
            "otel_collector_otlp_headers",
        ),
        ({"otel_collector_elasticsearch_endpoints": ["log1:9200"]}, "otel_collector_elasticsearch_endpoints"),
        ({"otel_collector_elasticsearch_password": "a$b"}, "otel_collector_elasticsearch_password"),
        ({"otel_collector_gateway_token": "short"}, "otel_collector_gateway_token"),
        ({"otel_collector_agent_metrics_port": 8887}, "otel_collector_*_port"),
        ({"otel_collector_sampling": [{"name": "rest", "percent": 101}]}, "otel_collector_sampling"),
        ({"otel_collector_sampling": []}, "otel_collector_sampling"),
        (
            {"otel_collector_sampling": [{"name": "a", "errors": True, "slower_than": 5, "percent": 1}]},
            "otel_collector_sampling",
        ),
        ({"otel_collector_sampling": [{"name": "a", "percent": 1}] * 2}, "otel_collector_sampling"),
        ({"otel_collector_hot_flows": ["a flow"]}, "otel_collector_sampling"),
        ({"otel_collector_decision_wait": 30}, "otel_collector_decision_wait"),
        ({"otel_collector_health_paths": []}, "otel_collector_health_paths"),
        ({"otel_collector_agent_queue_mb": 0}, "otel_collector_agent_queue_mb"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], name: str) -> None:
    (message,) = role(**changes).refusals()
    assert message.startswith(name)


def test_what_is_given_here_is_accepted() -> None:
    assert not role().refusals()
    assert not role(otel_collector_modes=[], otel_collector_archive_sha256="").refusals()


# --- the program itself ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not ARCHIVE.exists():
        pytest.skip("the lab's Collector was not built (tools/lab_artifacts/otelcol.sh): nothing validated by itself")
    folder = tmp_path_factory.mktemp("otelcol")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "otelcol-contrib"


def validate(program: Path, folder: Path, text: str) -> str:
    """What the program says to a configuration; empty means that it takes it."""
    file = folder / "config.yml"
    file.write_text(re.sub(r"/var/lib/otelcol-\w+", str(folder), text), encoding="utf-8")
    done = subprocess.run(
        [program, "validate", f"--config={file}"], capture_output=True, text=True, check=False, env={**os.environ}
    )
    return done.stderr if done.returncode else ""


# The lab's program has no exporter for Elasticsearch.
ELSEWHERE = {"langflow_fleet_logging_hosts": [], "otel_collector_otlp_endpoint": "https://traces.example.com"}


@pytest.mark.parametrize("mode", ["agent", "gateway"])
@pytest.mark.parametrize("gateways", [1, 3])
@pytest.mark.parametrize("match", ["first", "any"])
def test_the_program_takes_what_the_role_writes(
    collector: Path, tmp_path: Path, mode: str, gateways: int, match: str
) -> None:
    made = role(
        langflow_fleet_monitoring_hosts=GATEWAYS[:gateways],
        otel_collector_sampling_match=match,
        otel_collector_otlp_headers={"x-key": KEY},
        **ELSEWHERE,
    )
    assert not validate(collector, tmp_path, made.file("config.yml.j2", __otel_collector_mode=mode))


@pytest.mark.parametrize(
    "changes",
    [
        {"otel_collector_masking_patterns": [{"name": "bad", "regex": "(?=look)"}]},
        {"otel_collector_gateway_settings": {"processors": {"memory_limiter": {"no_such_option": 1}}}},
    ],
)
def test_the_program_refuses_what_is_wrong(collector: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    made = role(**ELSEWHERE, **changes)
    assert validate(collector, tmp_path, made.file("config.yml.j2", __otel_collector_mode="gateway"))
