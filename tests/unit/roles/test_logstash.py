# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role logstash: pipelines as Logstash would read them, secrets that stand nowhere, and what is refused."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
import test_langflow
import yaml
from ansible_collections.flowfleet.langflow.plugins.module_utils._logstash_pipeline import PipelineError, pipeline
from logstash_grammar import GrammarError, read
from rendering import ROLES, Role

# A fixture of that module, for this one too.
_filters = test_langflow._filters_of_this_checkout

TRIXIE = {"distribution": "Debian", "distribution_major_version": "13", "memtotal_mb": 16384}
WORDS = {"sender": "sender-word-of-19", "writer": "writer-word-of-19", "store": "store-word-of-18"}
GIVEN: dict[str, Any] = {
    "inventory_hostname": "log1",
    "role_path": str(ROLES / "logstash"),
    "logstash_password": WORDS["sender"],
    "logstash_elasticsearch_password": WORDS["writer"],
    "logstash_keystore_password": WORDS["store"],
    "logstash_elasticsearch_hosts": [
        {"name": "log1", "address": "192.0.2.70"},
        {"name": "log2", "address": "2001:db8::71"},
    ],
}
REPOSITORY = {"uris": ["https://mirror.example.com/elastic"], "key": "-----BEGIN PGP PUBLIC KEY BLOCK-----"}
OWN = {
    "id": "own",
    "settings": {"pipeline.workers": 1},
    "inputs": [{"tcp": {"port": 5046, "codec": {"json_lines": {"charset": "UTF-8"}}}}],
    "filters": [
        {
            "if": '[level] == "debug" or ([path] =~ /^\\/a{2}"#/ and ![message])',
            "then": [{"drop": None}],
            "else": [{"if": "[a][b] in [1, 2]", "then": [{"mutate": {"add_field": {"x y": 'say "this"'}}}]}],
        }
    ],
    "outputs": [{"http": {"url": "https://x.example.com/", "retries": 3, "list": ["a", 1, True, {"k": "v"}]}}],
}


def role(**changes: Any) -> Role:
    return Role("logstash", TRIXIE, **{**GIVEN, **changes})


def pipelines(made: Role) -> dict[str, str]:
    """The text of every pipeline by its id."""
    return {
        data["id"]: made.file("pipeline.conf.j2", __logstash_pipeline=data)
        for data in made.value("{{ __logstash_all }}")
    }


def plugins(made: Role, name: str, section: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for step in read(pipelines(made)[name])[section]:
        found.update(step)
    return found


def findings(made: Role) -> str:
    return " ".join(item["text"] for item in made.value("{{ __logstash_findings }}") if not item["ok"])


# --- the language -----------------------------------------------------------------------------------------------------
def test_what_is_written_is_what_is_read() -> None:
    found = read(pipeline(OWN))
    assert found["input"] == [{"tcp": {"port": "5046", "codec": {"json_lines": {"charset": "UTF-8"}}}}]
    (branch,) = found["filter"]
    assert branch["if"][0] == {"==": ["[level]", "debug"]}
    assert branch["then"] == [{"drop": {}}]
    assert branch["else"][0]["then"] == [{"mutate": {"add_field": {"x y": 'say "this"'}}}]
    assert found["output"] == [
        {"http": {"url": "https://x.example.com/", "retries": "3", "list": ["a", "1", True, {"k": "v"}]}}
    ]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"id": "Own"}, "id"),
        ({"inputs": []}, "inputs"),
        ({"outputs": []}, "outputs"),
        ({"input": []}, "unknown input"),
        ({"inputs": [{"if": "[a]", "then": []}]}, "conditions"),
        ({"filters": [{"if": "[a]"}]}, "then"),
        ({"filters": [{"if": "[a] { } output { stdout", "then": []}]}, "no condition"),
        ({"filters": [{"if": '[a] == "b', "then": []}]}, "no condition"),
        ({"filters": [{"if": "[a] # b", "then": []}]}, "no condition"),
        ({"filters": [{"if": "([a]", "then": []}]}, "bracket"),
        ({"filters": [{"mutate": {}, "drop": {}}]}, "one name"),
        ({"filters": [{"mutate } }": {}}]}, "name of a plugin"),
        ({"filters": [{"mutate": {"a b": 1}}]}, "name of a setting"),
        ({"filters": [{"mutate": {"a": None}}]}, "no value"),
        ({"filters": [{"mutate": ["a"]}]}, "dictionary"),
        ({"filters": {"mutate": {}}}, "list"),
        ({"filters": [{"mutate": {"a": "both \" and '"}}]}, "both kinds"),
        ({"filters": [{"mutate": {"a": "end\\"}}]}, "backslash"),
    ],
)
def test_what_would_be_read_as_something_else_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(named)):
        pipeline({**OWN, **changes})


@pytest.mark.parametrize(
    "text",
    [
        "input { beats { port => 5044 }",
        "inputs { beats { } }",
        'input { beats { port "5044" } }',
        "filter { if [a] = 1 { drop { } } }",
        'filter { mutate { a => "x" a => "y" } }',
        "filter { mutate { a => [1 2] } }",
        'output { stdout { codec => "x } }',
    ],
)
def test_the_reader_of_these_tests_refuses_too(text: str) -> None:
    with pytest.raises(GrammarError):
        read(text)


def test_a_quote_in_a_value_cannot_end_it() -> None:
    # Without the check of quotes this would be a pipeline with a second output.
    sly = 'x" } } output { exec { command => "id'
    made = read(pipeline({**OWN, "filters": [{"mutate": {"a": sly}}]}))
    assert made["filter"] == [{"mutate": {"a": sly}}]
    assert set(made) == {"input", "filter", "output"}
    assert list(made["output"][0]) == ["http"]


# --- the pipelines of the fleet ---------------------------------------------------------------------------------------
def test_every_pipeline_can_be_read_and_is_listed() -> None:
    made = role(logstash_inputs=["http", "beats", "tcp"], logstash_pipelines_extra=[OWN])
    texts = pipelines(made)
    assert list(texts) == ["logs", "deadletters", "own"]
    for text in texts.values():
        assert {"input", "output"} <= set(read(text))
    listed = yaml.safe_load(made.file("pipelines.yml.j2"))
    assert [entry["pipeline.id"] for entry in listed] == list(texts)
    assert listed[0]["path.config"] == "/etc/flowfleet/logstash/conf.d/logs.conf"
    assert listed[2]["pipeline.workers"] == 1


def test_every_way_in_is_tls_and_knows_who_comes() -> None:
    made = role(logstash_inputs=["http", "beats", "tcp"])
    found = plugins(made, "logs", "input")
    assert {name: settings["port"] for name, settings in found.items()} == {
        "http": "8088",
        "beats": "5044",
        "tcp": "5045",
    }
    for settings in found.values():
        assert settings["ssl_enabled"] is True
        assert settings["ssl_certificate"] == "/etc/flowfleet/tls/logstash.crt"
        assert settings["ssl_key"] == "/etc/flowfleet/logstash/tls.key"
    login = {name: found["http"][name] for name in ("user", "password")}
    assert login == {"user": "flowfleet_shipper", "password": "${LOGSTASH_PASSWORD}"}
    for name in ("beats", "tcp"):
        assert found[name]["ssl_client_authentication"] == "required"
        assert found[name]["ssl_certificate_authorities"] == ["/etc/flowfleet/tls/ca.crt"]
    open_to_all = plugins(role(logstash_client_authentication="none"), "logs", "input")["beats"]
    assert open_to_all["ssl_client_authentication"] == "none"
    assert "ssl_certificate_authorities" not in open_to_all


def test_what_an_input_says_of_the_connection_stays_out_of_the_event() -> None:
    found = plugins(role(), "logs", "input")["http"]
    assert found["ecs_compatibility"] == "disabled"
    for name in ("remote_host_target_field", "request_headers_target_field"):
        assert found[name].startswith("[@metadata]")
    assert {"mutate": {"remove_field": ["[event][original]"]}} in read(pipelines(role())["logs"])["filter"]


def test_all_goes_to_data_streams_over_verified_tls() -> None:
    for name in ("logs", "deadletters"):
        (branch,) = read(pipelines(role())[name])["output"]
        assert branch["if"] == ["[event][id]"]
        for way in ("then", "else"):
            found = branch[way][0]["elasticsearch"]
            assert found["hosts"] == ["https://192.0.2.70:9200", "https://[2001:db8::71]:9200"]
            login = {name: found[name] for name in ("user", "password")}
            assert login == {"user": "flowfleet_writer", "password": "${ELASTICSEARCH_PASSWORD}"}
            assert found["ssl_enabled"] is True
            assert found["ssl_verification_mode"] == "full"
            assert found["ssl_certificate_authorities"] == ["/etc/flowfleet/tls/ca.crt"]
        stream = branch["else"][0]["elasticsearch"]
        assert stream["data_stream"] == "true"
        assert stream["data_stream_auto_routing"] is True


def test_an_event_that_comes_twice_is_written_once() -> None:
    (branch,) = read(pipelines(role())["logs"])["output"]
    found = branch["then"][0]["elasticsearch"]
    assert found["action"] == "create"
    assert found["document_id"] == "%{[event][id]}"
    assert found["index"] == "%{[data_stream][type]}-%{[data_stream][dataset]}-%{[data_stream][namespace]}"
    # A data stream has its template from role elasticsearch.
    assert found["data_stream"] == "false"
    assert found["manage_template"] is False
    assert found["ilm_enabled"] is False
    # The settings for data streams refuse an id.
    assert "document_id" not in branch["else"][0]["elasticsearch"]


def test_an_event_without_a_stream_gets_one() -> None:
    steps = read(pipelines(role(logstash_environment="prod"))["logs"])["filter"]
    given = {}
    for step in steps:
        if "if" in step:
            (condition,) = step["if"]
            ((field, value),) = step["then"][0]["mutate"]["add_field"].items()
            assert condition == {"not": field}
            given[field] = value
    assert given == {
        "[data_stream][dataset]": "generic",
        "[data_stream][type]": "logs",
        "[data_stream][namespace]": "prod",
    }


def test_refused_events_are_kept_as_text_and_cannot_go_round() -> None:
    made = role()
    found = plugins(made, "deadletters", "input")["dead_letter_queue"]
    assert found["pipeline_id"] == "logs"
    assert found["commit_offsets"] is True
    assert found["path"] == "/var/lib/logstash/dead_letter_queue"
    listed = {entry["pipeline.id"]: entry for entry in yaml.safe_load(made.file("pipelines.yml.j2"))}
    assert listed["deadletters"]["dead_letter_queue.enable"] is False
    assert "dead_letter_queue.enable" not in listed["logs"]
    steps = [next(iter(step)) for step in read(pipelines(made)["deadletters"])["filter"]]
    # The copy first, then everything else goes, then the fields of the contract.
    assert steps == ["ruby", "prune", "mutate"]
    fields = read(pipelines(made)["deadletters"])["filter"][2]["mutate"]["add_field"]
    assert fields["[event][original]"] == "%{[@metadata][refused]}"
    assert fields["[data_stream][dataset]"] == fields["[event][dataset]"] == "logstash.deadletter"


# --- settings ---------------------------------------------------------------------------------------------------------
def test_an_event_is_on_disk_before_it_is_acknowledged() -> None:
    found = yaml.safe_load(role().file("logstash.yml.j2"))
    assert found["queue.type"] == "persisted"
    assert found["queue.checkpoint.writes"] == 1
    assert found["dead_letter_queue.enable"] is True
    assert found["dead_letter_queue.storage_policy"] == "drop_older"
    assert found["api.http.host"] == "127.0.0.1"
    assert found["config.debug"] is False
    assert "pipeline.workers" not in found
    other = yaml.safe_load(role(logstash_workers=3, logstash_settings={"log.level": "warn"}).file("logstash.yml.j2"))
    assert other["pipeline.workers"] == 3
    assert other["log.level"] == "warn"


@pytest.mark.parametrize(
    ("memory", "heap", "limit"), [(2048, 512, "1792M"), (16384, 2048, "4864M"), (131072, 4096, "8960M")]
)
def test_the_heap_follows_the_memory(memory: int, heap: int, limit: str) -> None:
    made = Role("logstash", {**TRIXIE, "memtotal_mb": memory}, **GIVEN)
    assert f"LS_JAVA_OPTS=-Xms{heap}m -Xmx{heap}m\n" in made.file("environment.j2")
    assert f"MemoryMax={limit}\n" in made.file("unit.conf.j2")


def test_secrets_stand_in_the_keystore_alone() -> None:
    made = role(logstash_secrets={"OWN_TOKEN": "own-token-of-18-signs"}, logstash_inputs=["http", "beats", "tcp"])
    texts = [*pipelines(made).values()]
    texts += [
        made.file(name) for name in ("logstash.yml.j2", "pipelines.yml.j2", "unit.conf.j2", "log4j2.properties.j2")
    ]
    texts.append(made.value("{{ __logstash_validate }}"))
    for text in texts:
        for word in (*WORDS.values(), "own-token-of-18-signs"):
            assert word not in text
    # Its own password is the one exception: a file for root, which systemd reads.
    (environment,) = [file for file in made.value("{{ __logstash_base_files }}") if "environment" in file["path"]]
    assert environment["mode"] == "0600"
    assert environment["owner"] == "root"
    assert environment["secret"] is True
    assert made.value("{{ __logstash_keystore_entries }}") == {
        "OWN_TOKEN": "own-token-of-18-signs",
        "LOGSTASH_PASSWORD": WORDS["sender"],
        "ELASTICSEARCH_PASSWORD": WORDS["writer"],
    }


def test_every_secret_that_a_pipeline_names_is_there() -> None:
    made = role(logstash_inputs=["http", "beats", "tcp"])
    named = set(re.findall(r"\$\{(\w+)\}", "".join(pipelines(made).values())))
    assert named == set(made.value("{{ __logstash_keystore_entries }}"))


def test_a_change_of_anything_it_reads_at_its_start_restarts_it() -> None:
    watched = role(logstash_pipelines_extra=[OWN]).value("{{ __logstash_watch }}")
    for name in ("logstash.keystore", "environment", "logstash.yml", "pipelines.yml", "conf.d/own.conf", "tls.key"):
        assert f"/etc/flowfleet/logstash/{name}" in watched
    assert "/etc/flowfleet/tls/ca.crt" in watched


def test_a_pipeline_that_is_not_wanted_any_more_goes() -> None:
    found = {
        "files": [
            {"path": "/etc/flowfleet/logstash/conf.d/logs.conf"},
            {"path": "/etc/flowfleet/logstash/conf.d/old.conf"},
        ]
    }
    files = role().value("{{ __logstash_pipeline_files }}", __logstash_found=found)
    assert [file["path"].rpartition("/")[2] for file in files if file.get("state") == "absent"] == ["old.conf"]


def test_logstash_itself_reads_them_before_they_are_used() -> None:
    command = role().value("{{ __logstash_validate }}")
    assert command.endswith("--config.test_and_exit")
    assert "--property=User=logstash" in command
    assert "--path.data /run/logstash-check" in command
    tasks = yaml.safe_load((ROLES / "logstash/tasks/pipelines.yml").read_text(encoding="utf-8"))
    names = [task["name"] for task in tasks]
    # It cannot read them without the key and the secrets.
    assert names.index("Pipelines | Keep the secrets") < names.index(
        "Pipelines | Write them, if Logstash can read them"
    )


def test_nothing_but_logstash_comes_from_the_repository() -> None:
    made = role(logstash_repository=REPOSITORY)
    assert "Signed-By: /etc/apt/keyrings/flowfleet-elastic.asc\n" in made.file("elastic.sources.j2")
    pin = made.file("pin.j2")
    assert 'Package: *\nPin: origin "mirror.example.com"\nPin-Priority: -1\n' in pin
    assert 'Package: logstash\nPin: origin "mirror.example.com"\nPin-Priority: 500\n' in pin
    assert "logstash=1:8.19.*" in made.value("{{ __logstash_service.packages }}")
    assert "logstash=1:9.1.4-1" in role(logstash_version="1:9.1.4-1").value("{{ __logstash_service.packages }}")
    assert "logstash" in role(logstash_version="").value("{{ __logstash_service.packages }}")
    archived = role(logstash_source="archive").value("{{ __logstash_service.packages }}")
    assert not [name for name in archived if name.startswith("logstash")]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"logstash_source": "archive"}, "logstash_archive"),
        ({"logstash_repository": {"suites": ["stable"], "key": "x"}}, "uris"),
        ({"logstash_repository": {"uris": ["https://mirror.example.com/elastic"]}}, "signed_by"),
        ({"logstash_version": "7.17.*"}, "logstash_version"),
        ({"logstash_version": "8.1.*"}, "logstash_version"),
        ({"logstash_inputs": []}, "logstash_inputs"),
        ({"logstash_beats_port": 8088}, "logstash_beats_port"),
        ({"logstash_http_port": 443}, "above 1023"),
        ({"logstash_elasticsearch_hosts": []}, "logstash_elasticsearch_hosts"),
        ({"logstash_user": "a b"}, "logstash_user"),
        ({"logstash_password": "with$dollar-and-more"}, "logstash_password"),
        ({"logstash_keystore_password": "short"}, "logstash_keystore_password"),
        ({"logstash_secrets": {"LOGSTASH_PASSWORD": "x"}}, "logstash_secrets"),
        ({"logstash_secrets": {"lower": "x"}}, "logstash_secrets"),
        ({"logstash_environment": "a-b"}, "logstash_environment"),
        ({"logstash_queue_size": "4"}, "logstash_queue_size"),
        ({"logstash_dead_letters_age": "long"}, "logstash_dead_letters_age"),
        ({"logstash_heap_mb": 40000}, "logstash_heap_mb"),
        ({"logstash_pipelines_extra": [{"id": "x", "inputs": [{"beats": {}}]}]}, "x: it has no outputs"),
        ({"logstash_pipelines_extra": [{**OWN, "id": "logs"}]}, "two of that id"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], named: str) -> None:
    assert findings(role()) == ""
    assert named in findings(role(**changes))


def test_the_filter_names_the_variable() -> None:
    written = importlib.import_module("ansible_collections.flowfleet.langflow.plugins.filter.logstash_pipeline")
    with pytest.raises(Exception, match="logstash_pipelines: x: it has no inputs"):
        written.logstash_pipeline({"id": "x"})
