# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the log shipper masks and what stays: canaries through every path of a line, and what only looks like one."""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import re
import signal
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles/log_shipper"
MASKING = yaml.safe_load((ROLE.parent / "common/files/masking.yml").read_text(encoding="utf-8"))
TABLE = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))["__log_shipper_table"]

# A secret of each kind. None of them may be seen afterwards, in any way of writing it.
CANARIES = {
    "api_key": "sk-proj-CANARYa1B2c3D4e5F6g7H8",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJDQU5BUlkifQ.CANARYsignature0123456789",
    "card": "4111 1111 1111 1111",
    "card_plain": "5555555555554444",
    "card_amex": "3782-822463-10005",
    "email": "canary.person@mail.example.com",
    "phone": "+49 171 5550 1234",
    "phone_us": "(212) 555-0142",
}
# These are secret for where they stand.
BEARER = "CANARYopaque0123456789"
SPACED = "CANARY hunter2, with spaces"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """The program as the shipper runs it."""
    spec = importlib.util.spec_from_file_location("flowfleet_log_mask", ROLE / "files/log_mask.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def masker(program: ModuleType) -> Any:
    return program.Masker(MASKING)


def settings(**changes: Any) -> dict[str, Any]:
    return {"host": "app1", "namespace": "default", "sources": TABLE, "masking": MASKING, **changes}


@pytest.fixture
def documents(program: ModuleType) -> Iterator[Any]:
    before = signal.signal(signal.SIGVTALRM, program.too_slow)
    yield program.Documents(settings())
    signal.signal(signal.SIGVTALRM, before)


def journal(message: str, unit: str = "langflow.service", **fields: str) -> str:
    """A line as rsyslog hands it over."""
    known = {"MESSAGE": message, "_SYSTEMD_UNIT": unit, "_PID": "42", "_BOOT_ID": "b1", **fields}
    return json.dumps(
        {
            "msg": message,
            "rawmsg": message,
            "timereported": "2026-11-22T14:00:00.000001+00:00",
            "programname": "x",
            "syslogseverity": "6",
            "$!": known,
        }
    )


def sent(answer: dict[str, Any]) -> dict[str, Any]:
    """The document in an answer."""
    return dict(json.loads(answer["$!"]["flowfleet_line"])["doc"])


def leaks(text: str) -> list[str]:
    """Canaries that are seen in a text, as they were written or without what stands between the digits."""
    bare = re.sub(r"[ ()+-]|%20|%2B|\\", "", text)
    wanted = [*CANARIES.values(), BEARER, SPACED, "CANARY"]
    return [canary for canary in wanted if canary in text or re.sub(r"[ ()+-]", "", canary) in bare]


def nested(value: Any, depth: int) -> Any:
    for level in range(depth):
        value = {f"level{level}": value} if level % 2 else [value, {"beside": level}]
    return value


TRACEBACK = """Traceback (most recent call last):
  File "/opt/langflow/app.py", line 42, in run
    client = OpenAI(api_key="{api_key}")
  File "/opt/langflow/other.py", line 7, in call
    raise ValueError(f"card {card} of {email}, call {phone}")
ValueError: {{'password': '{password}', 'headers': {{'Authorization': 'Bearer {bearer}'}}}}
During handling of the above exception, another exception occurred:
httpx.HTTPStatusError: 401 for url 'https://user:{bearer}@api.example.com/v1?api_key={api_key}&q=1' {jwt}"""


def paths() -> dict[str, str]:
    """Lines in which secrets stand, one for each way in which they get there."""
    everything = " ".join(CANARIES.values())
    quote = urllib.parse.quote
    found = {
        "body": f"input_value={everything} and more",
        "body in JSON": json.dumps({"event": "run", "input": everything, "password": SPACED}),
        "url": f"GET /api/v1/run?x-api-key={CANARIES['api_key']}&mail={quote(CANARIES['email'])}"
        f"&card={quote(CANARIES['card'])}&p={quote(CANARIES['phone'])}",
        "phone in a url": f"GET /x?p={quote(CANARIES['phone'])} HTTP/1.1",
        "card in a url": "GET /x?q=pay%204111111111111111&r=a%3D5555555555554444%26b",
        "url of a database": f"postgresql://langflow:{BEARER}@db1:5432/langflow?sslmode=verify-full",
        "header": f"Authorization: Bearer {BEARER}",
        "header, basic": "authorization: Basic Q0FOQVJZOnBhc3N3b3JkQ0FOQVJZ CANARY",
        "headers of ASGI": f"[(b'authorization', b'Bearer {BEARER}'), (b'x-api-key', b'{CANARIES['api_key']}'), "
        "(b'cookie', b'session=CANARY; a=b')]",
        "headers in JSON": json.dumps(
            {"headers": {"Authorization": f"Bearer {BEARER}", "Cookie": "a=CANARY; b=CANARY", "X-API-Key": "CANARY"}}
        ),
        "exception": "",
        "exception in JSON": "",
        "JSON in JSON": json.dumps(
            {
                "event": json.dumps(
                    {"token": "CANARY", "inner": json.dumps({"secret": SPACED, "mail": CANARIES["email"]})}
                )
            }
        ),
        "half of JSON": json.dumps({"password": SPACED, "n": 1})[:-3] + " ... truncated",
        "half of JSON in JSON": json.dumps({"event": 'request failed: {"password": "' + SPACED + '", "a"'}),
        "key": json.dumps({"event": "x", CANARIES["email"]: {CANARIES["api_key"]: 1}}),
        "number": json.dumps({"event": "x", "n": 4111111111111111, "list": [5555555555554444]}),
        "single quotes": f"{{'client_secret': '{SPACED}', 'x': 1}}",
        "libpq": "connection failed: host=db1 password=CANARYpw user=langflow",
        "python": f"Settings(secret_key='{SPACED}', api_token=\"{SPACED}\")",
        "private key": "-----BEGIN PRIVATE KEY-----\\nCANARYMIIEvQIBADANBgkq\\n-----END PRIVATE KEY-----",
        "after a number": f"1795357741000 {CANARIES['card_plain']} 12",
    }
    words = {key: CANARIES[key] for key in ("api_key", "card", "email", "phone", "jwt")}
    found["exception"] = TRACEBACK.format(password=SPACED, bearer=BEARER, **words)
    found["exception in JSON"] = json.dumps({"event": "failed", "level": "error", "exception": found["exception"]})
    for depth in range(1, 7):
        content = {"list": list(CANARIES.values()), "api_key": SPACED, "text": f"Bearer {BEARER}"}
        found[f"JSON, depth {depth}"] = json.dumps({"event": "x", "data": nested(content, depth)})
    return found


@pytest.mark.parametrize("path", paths())
def test_no_canary_gets_through(documents: Any, path: str) -> None:
    line = paths()[path]
    assert leaks(line) or path in ("number", "after a number", "card in a url"), "the canary has to be in the line"
    answer = documents.answer(journal(line))
    assert documents.unmaskable == 0
    assert leaks(json.dumps(answer, ensure_ascii=False)) == []
    assert not re.search("4111111111111111|5555555555554444", json.dumps(answer))


@pytest.mark.parametrize("path", [path for path in paths() if path not in ("header, basic", "libpq")])
def test_the_canaries_get_through_without_patterns(program: ModuleType, path: str) -> None:
    """The control: it is the patterns that keep them back."""
    off = {"patterns": [], "keys": {"words": [], "except": []}}
    made = program.Documents(settings(masking={**off, "keys": {"words": ["never-a-key"], "except": []}}))
    text = json.dumps(made.answer(journal(paths()[path])), ensure_ascii=False)
    assert leaks(text) or re.search("4111111111111111|5555555555554444", text)


@pytest.mark.parametrize(
    "line",
    TRACEBACK.format(
        password=SPACED, bearer=BEARER, **{k: CANARIES[k] for k in ("api_key", "card", "email", "phone", "jwt")}
    ).split("\n"),
)
def test_each_line_of_a_traceback_is_safe_by_itself(documents: Any, line: str) -> None:
    """The journal has each line of a traceback that is no JSON as a line of its own."""
    assert leaks(json.dumps(documents.answer(journal(line)), ensure_ascii=False)) == []


@pytest.mark.parametrize(
    "text",
    [
        "order 4111111111111112 has no checksum",
        "1795357741000 1795357741000123 17953577410001234",
        "took 0.4111111111111111 s and 5.5555555555554444 ms",
        "trace 4bf92f3577b34da6a3ce929d0e0e4736 span 00f067aa0ba902b7",
        "0af7651916cd43dd8448eb211c80319c 5105105105105100a",
        "id 550e8400-e29b-41d4-a716-446655440000",
        "2026-11-22T14:00:00.000001+00:00 +0100 10.77.0.39:5432 192.168.100.200 192.168.100.201",
        "Started user@1000.service and postgresql@17-main.service",
        "total_tokens: 512, max_tokens=4096 prompt_tokens 3",
        "GET /api/v1/run/basic-flow 200 1234 5678",
        "Basic authentication needed, bearer of bad news",
        "pid 1234567 4242424 9999999999",
        "the task-scheduler asked a risk-free question",
    ],
)
def test_what_only_looks_like_a_secret_stays(masker: Any, text: str) -> None:
    assert masker.text(text) == text
    assert not masker.found


def test_numbers_and_counts_stay_in_json(masker: Any) -> None:
    content = {
        "total_tokens": 512,
        "usage": {"prompt_tokens": 3, "Completion-Tokens": 4},
        "token": None,
        "has_password": True,
        "msec": 1795357741.123,
        "ratio": 0.4111111111111111,
        "n": 4111111111111112,
        "request_time": 0.25,
    }
    assert masker.value(copy.deepcopy(content)) == content


@pytest.mark.parametrize("path", paths())
def test_masking_twice_changes_nothing(masker: Any, path: str) -> None:
    once = masker.any_text(paths()[path], 0)
    assert masker.any_text(once, 0) == once


@pytest.mark.parametrize("word", MASKING["keys"]["words"])
def test_each_word_counts_in_json_and_in_text(masker: Any, word: str) -> None:
    for name in (word, word.upper(), word.replace("_", "-"), f"x_{word}", f"my{word.replace('_', '')}"):
        assert masker.value({name: "CANARY1"}) == {name: "[masked:key]"}
    for text in (
        f"{word}=CANARY1",
        f"{word}: CANARY1",
        f"'{word}': 'CANARY 1'",
        f'\\"{word}\\": \\"CANARY 1\\"',
        f"?{word.replace('_', '-')}=CANARY1&a=b",
    ):
        assert "CANARY" not in masker.text(text), text


@pytest.mark.parametrize("pattern", MASKING["patterns"], ids=lambda pattern: pattern["name"])
def test_patterns_are_what_other_engines_read_alike(pattern: dict[str, Any]) -> None:
    assert set(pattern) <= {"name", "regex", "replace", "hints", "boundary", "except", "check"}
    for regex in (pattern["regex"], pattern.get("except", "")):
        assert not re.search(r"\(\?(?!:|i\))|\\[1-9ZzAGKpPQEX]|[*+}]\+", regex), (
            "look-around, back-references and the like"
        )
        assert "(?i)" not in regex[1:]
        assert not re.search("{[{%#]", regex), "Ansible would take it for a template"


def test_hints_do_not_hide_a_match(program: ModuleType) -> None:
    with_hints = program.Masker(MASKING)
    without = program.Masker(
        {**MASKING, "patterns": [{k: v for k, v in p.items() if k != "hints"} for p in MASKING["patterns"]]}
    )
    for line in paths().values():
        assert with_hints.text(line) == without.text(line)


def test_own_patterns_and_words(program: ModuleType) -> None:
    own = copy.deepcopy(MASKING)
    own["patterns"].append({"name": "badge", "regex": "badge-[0-9]{4}", "boundary": True})
    own["keys"]["words"].append("pin_code")
    masker = program.Masker(own)
    assert masker.text("badge-1234 xbadge-1234 badge-12345") == "[masked:badge] xbadge-1234 badge-12345"
    assert masker.value({"pinCode": 1234, "pin": 5}) == {"pinCode": "[masked:key]", "pin": 5}
    with pytest.raises(ValueError, match="unknown check"):
        program.Masker({**MASKING, "patterns": [{"name": "x", "regex": "x", "check": "crc"}]})


def test_deep_json_ends_somewhere(masker: Any, documents: Any) -> None:
    assert "CANARY" not in json.dumps(masker.value(nested("CANARY", 60)))
    for deep in (
        '{"a":' * 5000 + '{"token":"CANARY"}' + "}" * 5000,
        "[" * 100_000 + '{"token":"CANARY"}' + "]" * 100_000,
    ):
        assert "CANARY" not in json.dumps(documents.answer(journal(deep)))


# --- fail closed ------------------------------------------------------------------------------------------------------


def test_a_line_that_cannot_be_masked_is_not_sent(documents: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_given: Any) -> str:
        raise RuntimeError("CANARY in the error")

    monkeypatch.setattr(documents.masker, "text", broken)
    answer = documents.answer(journal(f"Bearer {BEARER}"))
    assert leaks(json.dumps(answer)) == []
    found = sent(answer)
    assert found["event"]["dataset"] == "log_shipper.unmaskable"
    assert "RuntimeError" in found["message"]
    assert documents.unmaskable == 1


def test_a_line_that_takes_too_long_is_not_sent(program: ModuleType, documents: Any) -> None:
    own = copy.deepcopy(MASKING)
    own["patterns"].append({"name": "endless", "regex": "(?:a|aa)+$"})
    made = program.Documents(settings(masking=own), seconds=0.2)
    answer = made.answer(journal("a" * 60 + "CANARY"))
    assert sent(answer)["message"].endswith("TooSlowError")
    assert "CANARY" not in json.dumps(answer)
    assert documents.unmaskable == 0


@pytest.mark.parametrize(
    "line",
    ["", "CANARY", "[]", "null", '{"$!": 5, "msg": "CANARY"}', '{"msg": {"CANARY": 1}, "$!": {"metadata": "CANARY"}}'],
)
def test_what_is_no_line_of_rsyslog_is_not_sent(documents: Any, line: str) -> None:
    assert "CANARY" not in json.dumps(documents.answer(line))


def test_everything_of_the_line_is_replaced_in_what_rsyslog_keeps(documents: Any) -> None:
    answer = documents.answer(journal("hello"))
    assert {key: answer[key] for key in ("rawmsg", "msg")} == {"rawmsg": "-", "msg": "-"}
    template = (ROLE / "templates/rsyslog.conf.j2").read_text(encoding="utf-8")
    kept = template.partition('== "masked" then {')[2]
    assert kept.index("unset $!;") < kept.index('action(name="send"')
    assert 'string="%$!flowfleet_line%\\n"' in template


# --- documents --------------------------------------------------------------------------------------------------------


def test_a_line_of_langflow(documents: Any) -> None:
    line = {
        "event": "flow done",
        "level": "warning",
        "logger": "langflow.api",
        "timestamp": "2026-11-22T13:59:59.5Z",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
        "flow_id": "f-1",
        "run_id": "r-1",
    }
    found = sent(documents.answer(journal(json.dumps(line))))
    assert found["@timestamp"] == "2026-11-22T13:59:59.500000+00:00"
    assert (found["message"], found["log"]) == ("flow done", {"level": "warning", "logger": "langflow.api"})
    assert (found["trace"]["id"], found["span"]["id"]) == (line["trace_id"], line["span_id"])
    assert (found["flow"]["id"], found["run"]["id"]) == ("f-1", "r-1")
    assert (found["service"]["name"], found["event"]["dataset"], found["host"]["name"]) == (
        "langflow",
        "langflow.app",
        "app1",
    )
    assert found["data_stream"] == {"type": "logs", "dataset": "langflow.app", "namespace": "default"}
    assert found["flowfleet"]["langflow"] == line


def from_file(tag: str, content: dict[str, Any], offset: int = 7) -> str:
    text = json.dumps(content)
    metadata = {"filename": "/var/log/x.json", "fileoffset": offset}
    return json.dumps(
        {
            "msg": text,
            "rawmsg": text,
            "timereported": "2026-11-22T14:00:00+00:00",
            "programname": tag,
            "$!": {"metadata": metadata},
        }
    )


def test_a_line_of_nginx(documents: Any) -> None:
    line = {
        "msec": 1795357741.5,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "path": "/api/v1/run/x",
        "flow": "x",
        "status": 200,
    }
    found = sent(documents.answer(from_file("nginx.access", line)))
    assert (found["message"], found["flow"]["id"], found["event"]["dataset"]) == ("/api/v1/run/x", "x", "nginx.access")
    assert found["@timestamp"].startswith("2026-11-22T14:29:01.5")
    assert found["log"] == {"level": "info", "file": {"path": "/var/log/x.json"}, "offset": "7"}


@pytest.mark.parametrize(
    "more",
    [
        {"application_name": "langflow 4bf92f3577b34da6a3ce929d0e0e4736"},
        {
            "application_name": "psql",
            "statement": "SELECT 1 /*traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/",
        },
    ],
)
def test_a_line_of_postgresql_and_its_trace(documents: Any, more: dict[str, str]) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    line = {
        "timestamp": "2026-11-22 14:00:00.123 UTC",
        "pid": 77,
        "error_severity": "ERROR",
        "message": "duplicate key",
        **more,
    }
    found = sent(documents.answer(from_file("postgresql.json", line)))
    assert found["@timestamp"] == "2026-11-22T14:00:00.123000+00:00"
    assert (found["log"]["level"], found["process"]["pid"], found["trace"]["id"]) == ("error", 77, trace)


def test_a_time_without_a_zone_is_not_believed(documents: Any) -> None:
    found = sent(
        documents.answer(from_file("postgresql.json", {"timestamp": "2026-11-22 03:00:00.123 CET", "message": "x"}))
    )
    assert found["@timestamp"] == "2026-11-22T14:00:00+00:00"


@pytest.mark.parametrize(
    ("unit", "service", "dataset"),
    [
        ("langflow.service", "langflow", "langflow.app"),
        ("langflow-migrate@1.service", "langflow", "langflow.app"),
        ("celery-worker@2.service", "celery", "celery.app"),
        ("redis-cache.service", "redis", "redis.log"),
        ("service-proxy.service", "haproxy", "haproxy.log"),
        ("patroni.service", "patroni", "patroni.log"),
        ("etcd.service", "etcd", "etcd.log"),
        ("nginx.service", "nginx", "nginx.error"),
        ("ssh.service", "systemd", "systemd.journal"),
    ],
)
def test_units_and_their_datasets(documents: Any, unit: str, service: str, dataset: str) -> None:
    found = sent(documents.answer(journal("x", unit)))
    assert (found["service"]["name"], found["event"]["dataset"], found["systemd"]["unit"]) == (service, dataset, unit)


def test_a_repeated_line_has_the_same_name_and_another_one_has_not(program: ModuleType) -> None:
    def names(*lines: str) -> list[str]:
        made = program.Documents(settings())
        return [sent(made.answer(line))["event"]["id"] for line in lines]

    one, two = journal("same"), journal("other")
    assert names(one, two) == names(one, two)
    assert len(set(names(one, one, two))) == 3
    assert names(from_file("nginx.access", {"a": 1}, 7)) != names(from_file("nginx.access", {"a": 1}, 8))


def test_ignored_lines_are_not_sent(program: ModuleType) -> None:
    made = program.Documents(settings(ignored=[{"SYSLOG_IDENTIFIER": "^postgres"}]))
    answer = made.answer(journal("CANARY", "postgresql@17-main.service", SYSLOG_IDENTIFIER="postgresql-langflow"))
    assert answer["$!"] == {"flowfleet_state": "ignored"}
    assert sent(made.answer(journal("x", "postgresql@17-main.service")))["service"]["name"] == "postgresql"


def test_it_answers_line_by_line_and_reports(program: ModuleType, documents: Any) -> None:
    answers, reports = io.BytesIO(), []
    program.serve(
        documents,
        io.BytesIO(f"{journal('one')}\n{journal('two')}\n".encode()),
        answers,
        lambda: reports.append(documents.lines),
    )
    assert [sent(json.loads(line))["message"] for line in answers.getvalue().splitlines()] == ["one", "two"]
    assert reports == [1]


def test_figures_of_speed(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "mask.json"
    config.write_text(json.dumps(settings()), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((journal("x") + "\n").encode() * 50)))
    program.main(["--config", str(config), "--bench"])
    assert json.loads(capsys.readouterr().out)["lines"] == 50
