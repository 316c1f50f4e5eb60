# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role log_shipper: what it writes and refuses, and how it sends to a log tier that is well, full, gone or choosy."""

from __future__ import annotations

import datetime
import importlib.util
import io
import ipaddress
import json
import os
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import log_tier
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rendering import ROLES, Role

MASKING = yaml.safe_load((ROLES / "common/files/masking.yml").read_text(encoding="utf-8"))
GIVEN: dict[str, Any] = {
    "langflow_fleet_log_target": "elasticsearch",
    "langflow_fleet_logging_hosts": [
        {"name": "log1", "address": "192.0.2.71"},
        {"name": "log2", "address": "2001:db8::72"},
    ],
    "log_shipper_password": "quote\"and'%-sign",
}


def role(**changes: Any) -> Role:
    return Role("log_shipper", {}, **{**GIVEN, **changes})


# --- what it writes ---------------------------------------------------------------------------------------------------


def test_lines_go_to_the_hosts_of_the_log_tier() -> None:
    assert role().value("{{ log_shipper_urls }}") == ["https://192.0.2.71:9200", "https://[2001:db8::72]:9200"]
    logstash = role(langflow_fleet_log_target="logstash")
    assert logstash.value("{{ log_shipper_urls }}")[0] == "https://192.0.2.71:8088"
    assert logstash.value("{{ log_shipper_user }}") == "flowfleet_shipper"
    assert role().value("{{ log_shipper_user }}") == "flowfleet_writer"


def test_the_queue_is_on_disk_and_never_drops() -> None:
    text = role().file("rsyslog.conf.j2")
    for setting in (
        'queue.type="Disk"',
        'queue.checkpointInterval="1"',
        'queue.timeoutEnqueue="2147483647"',
        'queue.maxDiskSpace="2048m"',
        'action.resumeRetryCount="-1"',
        'confirmMessages="on"',
        'useTransactions="on"',
    ):
        assert setting in text
    # What is read is on disk before its position counts as read.
    assert 'main_queue(queue.type="Direct")' in text
    assert 'ruleset(name="ship" queue.type="Direct")' in text
    assert 'PersistStateInterval="1"' in text
    control = role(log_shipper_queue_disk=False).file("rsyslog.conf.j2")
    assert "Disk" not in control.replace("maxDiskSpace", "")
    assert 'queue.timeoutEnqueue="0" queue.saveOnShutdown="off"' in control


def test_the_login_stands_only_where_systemd_reads_it() -> None:
    made = role()
    text = (
        made.file("rsyslog.conf.j2")
        + made.file("log-shipper.service.j2")
        + json.dumps(made.value("{{ __log_shipper_send }}"))
    )
    assert GIVEN["log_shipper_password"] not in text
    login = next(file for file in made.value("{{ __log_shipper_files }}") if file["path"].endswith("/login"))
    assert (login["mode"], login["secret"]) == ("0600", True)
    assert login["content"].splitlines() == ["flowfleet_writer", GIVEN["log_shipper_password"]]


def test_files_of_this_host_are_read() -> None:
    # Without a file to read rsyslog refuses the module.
    assert "imfile" not in role().file("rsyslog.conf.j2")
    extra = [{"path": "/var/log/mine/*.log", "service": "mine", "dataset": "mine.log"}]
    made = role(log_shipper_sources=["nginx", "postgresql"], log_shipper_files_extra=extra)
    text = made.file("rsyslog.conf.j2")
    assert 'module(load="imfile" mode="inotify")' in text
    assert 'File="/var/log/nginx/access.json" Tag="nginx.access:"' in text
    assert 'File="/var/log/postgresql/json/*.json" Tag="postgresql.json:"' in text
    assert 'File="/var/log/mine/*.log" Tag="file.mine.log:"' in text
    mask = made.value("{{ __log_shipper_mask }}")
    assert mask["sources"][0] == {"match": {"tag": r"^file\.mine\.log$"}, "service": "mine", "dataset": "mine.log"}
    assert mask["ignored"] == [{"SYSLOG_IDENTIFIER": "^postgres"}]


def test_patterns_of_the_fleet_are_added_and_taken_off() -> None:
    own = {"name": "badge", "regex": "badge-[0-9]{4}"}
    mask = role(
        langflow_fleet_masking_patterns=[own], langflow_fleet_masking_keys=["pin"], langflow_fleet_masking_off=["phone"]
    ).value("{{ __log_shipper_mask }}")
    names = [pattern["name"] for pattern in mask["masking"]["patterns"]]
    assert names[-1] == "badge"
    assert "phone" not in names
    assert "card" in names
    assert mask["masking"]["keys"]["words"][-1] == "pin"


def test_regexes_come_through_ansible_as_they_are() -> None:
    assert role().value("{{ __log_shipper_mask }}")["masking"] == MASKING


def test_the_figures_are_linked_where_the_exporter_reads_them() -> None:
    def links(made: Role) -> list[str]:
        return [file["path"] for file in made.value("{{ __log_shipper_files }}") if file.get("state") == "link"]

    assert links(role()) == ["/etc/systemd/system/rsyslog.service"]
    assert links(role(langflow_fleet_monitored=True, log_shipper_package_unit_masked=False)) == [
        "/var/lib/prometheus/node-exporter/log_shipper.prom"
    ]


def test_what_is_taken_off_leaves_what_nobody_else_has() -> None:
    made = role(langflow_fleet_monitored=True, log_shipper_target="")
    gone = [file["path"] for file in made.value("{{ __log_shipper_gone }}")]
    # A file that grows old there would be told as a shipper that is silent.
    assert "/var/lib/prometheus/node-exporter/log_shipper.prom" in gone
    assert not [path for path in gone if path.startswith("/var/lib/log-shipper")]
    assert len(role(log_shipper_target="").value("{{ __log_shipper_gone }}")) == len(gone) - 1


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"log_shipper_target": "loki"}, "log_shipper_target"),
        ({"log_shipper_urls": []}, "log_shipper_urls"),
        ({"log_shipper_urls": ["http://log1:9200"]}, "log_shipper_urls"),
        ({"log_shipper_urls": ["https://user:word@log1:9200"]}, "log_shipper_urls"),
        ({"log_shipper_password": "short"}, "log_shipper_password"),
        ({"log_shipper_password": "two\nlines of it"}, "log_shipper_password"),
        ({"log_shipper_user": "a:b"}, "log_shipper_user"),
        ({"log_shipper_namespace": "Prod-1"}, "log_shipper_namespace"),
        ({"log_shipper_queue_max_mb": 1}, "log_shipper_queue_max_mb"),
        ({"log_shipper_line_max_kb": 4}, "log_shipper_line_max_kb"),
        ({"log_shipper_batch": 0}, "log_shipper_batch"),
        ({"log_shipper_files_extra": [{"path": 'a"b', "service": "x", "dataset": "x"}]}, "log_shipper_files_extra"),
        ({"log_shipper_masking_patterns": [{"name": "card", "regex": "x"}]}, "log_shipper_masking_patterns"),
        ({"log_shipper_masking_off": ["cards"]}, "log_shipper_masking_off"),
    ],
)
def test_what_cannot_work_is_refused_by_name(changes: dict[str, Any], name: str) -> None:
    assert role().refusals() == []
    found = role(**changes).refusals()
    assert len(found) == 1
    assert name in found[0]


def test_nothing_is_needed_where_there_is_no_log_tier() -> None:
    assert role(langflow_fleet_log_target="", langflow_fleet_logging_hosts=[], log_shipper_password="").refusals() == []


# --- sending ----------------------------------------------------------------------------------------------------------


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"flowfleet_{name}", ROLES / f"log_shipper/files/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sending() -> ModuleType:
    return program("log_send")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that vouches for itself, and its key."""
    directory = tmp_path_factory.mktemp("pair")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "log tier")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
    )
    made = made.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
    made = made.add_extension(names, critical=False).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    certificate, secret = directory / "c.pem", directory / "k.pem"
    certificate.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, secret


class Tier:
    """The log tier of a test."""

    def __init__(self, pair: tuple[Path, Path]) -> None:
        self.pair = pair
        self.mode = "ok"
        self.store = log_tier.Store()
        self.server = log_tier.server("127.0.0.1", 0, *pair, self.store, lambda: self.mode)
        self.port = int(self.server.server_address[1])
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def tier(pair: tuple[Path, Path]) -> Iterator[Tier]:
    made = Tier(pair)
    yield made
    made.close()


@pytest.fixture
def settings(tier: Tier, tmp_path: Path) -> dict[str, Any]:
    return {
        "target": "elasticsearch",
        "urls": [f"https://127.0.0.1:{tier.port}"],
        "ca_file": str(tier.pair[0]),
        "timeout": 5,
        "retry_max": 0,
        "dead_letters": str(tmp_path / "dead.jsonl"),
        "dead_letters_bytes": 2000,
    }


def sender(sending: ModuleType, settings: dict[str, Any], report: Path | None = None) -> Any:
    letters = sending.DeadLetters(Path(settings["dead_letters"]), settings["dead_letters_bytes"])
    return sending.Sender(settings, sending.Tier(settings, ("writer", "word")), letters, report)


def lines(sending: ModuleType, *messages: str, first: int = 0) -> list[Any]:
    return [
        sending.Line(f"id{number}", "logs-x-default", json.dumps({"message": message, "event": {"id": f"id{number}"}}))
        for number, message in enumerate(messages, first)
    ]


def test_a_batch_arrives_once_and_in_order(sending: ModuleType, settings: dict[str, Any], tier: Tier) -> None:
    made = sender(sending, {**settings, "request_bytes": 100})
    batch = lines(sending, *(f"line {number}" for number in range(20)))
    assert made.batch(batch) == "OK"
    assert tier.store.messages == [f"line {number}" for number in range(20)]
    assert len(tier.store.requests) > 5
    assert tier.store.requests[0][1] == "Basic d3JpdGVyOndvcmQ="
    # rsyslog was killed before it knew.
    assert made.batch(batch) == "OK"
    assert (len(tier.store.messages), tier.store.repeated) == (20, 20)


@pytest.mark.parametrize("mode", ["full", "part", "denied", "broken"])
def test_a_log_tier_that_takes_no_lines_is_waited_for(
    sending: ModuleType, settings: dict[str, Any], tier: Tier, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sender(sending, {**settings, "retry_max": 3})
    pauses: list[float] = []
    monkeypatch.setattr(sending.time, "sleep", pauses.append)
    batch = lines(sending, "one", "two", "three")
    tier.mode = mode
    assert made.batch(batch) == "held"
    assert made.figures()["held_since"] > 0
    assert (made.sent, made.failed, made.letters.count) == (0, 1, 0)
    for _again in range(4):
        made.batch(batch)
    # rsyslog comes again at once: without a pause it does so 5000 times a second.
    assert pauses == [0.5, 1, 2, 3, 3]
    tier.mode = "ok"
    assert made.batch(batch) == "OK"
    assert sorted(tier.store.messages) == ["one", "three", "two"]
    assert (made.sent, made.figures()["held_since"]) == (3, 0)


def test_a_restart_while_the_log_tier_is_away_does_not_forget_since_when(
    sending: ModuleType, settings: dict[str, Any], tier: Tier, tmp_path: Path
) -> None:
    report = tmp_path / "sender.json"
    begun = time.time()
    first = sender(sending, settings, report)
    tier.mode = "full"
    assert first.batch(lines(sending, "one")) == "held"
    # Nothing was ever sent: it waits since the sender began, not since 1970.
    assert begun <= json.loads(report.read_text(encoding="utf-8"))["last_sent"] <= time.time()
    tier.mode = "ok"
    assert first.batch(lines(sending, "one")) == "OK"
    known = first.last_sent
    first.say(force=True)
    again = sender(sending, settings, report)
    tier.mode = "full"
    assert again.batch(lines(sending, "two", first=2)) == "held"
    assert json.loads(report.read_text(encoding="utf-8"))["last_sent"] == known
    report.write_text('{"last_sent": "never"}', encoding="utf-8")
    assert sender(sending, settings, report).last_sent >= known


def test_a_log_tier_that_is_gone_is_waited_for(sending: ModuleType, settings: dict[str, Any], tier: Tier) -> None:
    made = sender(sending, settings)
    assert made.batch(lines(sending, "one")) == "OK"
    tier.close()
    made.tier.close()
    assert made.batch(lines(sending, "two", first=1)) == "held"
    assert "ConnectionRefused" in made.reason


def test_another_server_takes_over(sending: ModuleType, settings: dict[str, Any], tier: Tier) -> None:
    made = sender(sending, {**settings, "urls": ["https://127.0.0.1:9", *settings["urls"]]})
    assert made.batch(lines(sending, "one")) == "OK"
    assert tier.store.messages == ["one"]


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(
    sending: ModuleType, settings: dict[str, Any], tier: Tier
) -> None:
    made = sending.Sender(
        settings,
        sending.Tier(settings, ("writer", "word"), ssl.create_default_context()),
        sending.DeadLetters(Path(settings["dead_letters"]), 2000),
    )
    assert made.batch(lines(sending, "one")) == "held"
    assert "CERTIFICATE_VERIFY_FAILED" in made.reason
    assert tier.store.requests == []
    with pytest.raises(ValueError, match="https only"):
        sending.Tier({**settings, "urls": ["http://127.0.0.1"]}, ("writer", "word"))


def test_a_refused_document_is_put_away_and_the_others_arrive(
    sending: ModuleType, settings: dict[str, Any], tier: Tier
) -> None:
    made = sender(sending, settings)
    tier.mode = "refuse"
    assert made.batch(lines(sending, "one", "refuse-me", "three")) == "OK"
    assert tier.store.messages == ["one", "three"]
    letters = [json.loads(line) for line in Path(settings["dead_letters"]).read_text(encoding="utf-8").splitlines()]
    assert [(letter["status"], letter["document"]["message"]) for letter in letters] == [(400, "refuse-me")]
    assert Path(settings["dead_letters"]).stat().st_mode & 0o777 == 0o600
    # Handed over again, it is not written twice.
    assert made.batch(lines(sending, "one", "refuse-me", "three")) == "OK"
    assert made.letters.count == 1
    assert sender(sending, settings).letters.count == 1


def test_a_full_file_of_dead_letters_makes_lines_wait(
    sending: ModuleType, settings: dict[str, Any], tier: Tier
) -> None:
    made = sender(sending, settings)
    tier.mode = "refuse"
    answers = [made.batch(lines(sending, "refuse-me " + 100 * "x", first=number)) for number in range(12)]
    assert answers[0] == "OK"
    assert answers[-1] == "held"
    assert made.letters.size <= 2000
    assert made.letters.count == answers.count("OK")


def test_logstash_gets_an_array(sending: ModuleType, settings: dict[str, Any], tier: Tier) -> None:
    made = sender(sending, {**settings, "target": "logstash"})
    tier.mode = "full"
    assert made.batch(lines(sending, "one", "two")) == "held"
    tier.mode = "ok"
    assert made.batch(lines(sending, "one", "two")) == "OK"
    assert tier.store.messages == ["one", "two"]
    assert tier.store.requests[-1][0] == "/"


@pytest.mark.parametrize("reply", [b"", b"{}", b"[]", b"<html>", b'{"errors": true}', b'{"errors": true, "items": []}'])
def test_a_reply_that_says_nothing_confirms_nothing(
    sending: ModuleType, settings: dict[str, Any], reply: bytes
) -> None:
    made = sender(sending, settings)
    made.tier.post = lambda *_given: (200, reply)
    assert made.batch(lines(sending, "one")) == "held"


def test_a_request_that_is_too_large_is_halved(sending: ModuleType, settings: dict[str, Any]) -> None:
    made = sender(sending, settings)
    taken: list[int] = []

    def post(_path: str, body: bytes, _kind: str) -> tuple[int, bytes]:
        documents = body.count(b"\n") // 2
        if documents > 2 or b"monster" in body:
            return 413, b"too large"
        taken.append(documents)
        return 200, json.dumps({"errors": False, "items": []}).encode()

    made.tier.post = post
    assert made.batch(lines(sending, "a", "b", "monster", "d", "e")) == "OK"
    assert (sum(taken), made.letters.count) == (4, 1)


def test_it_speaks_with_rsyslog(sending: ModuleType, settings: dict[str, Any], tier: Tier, tmp_path: Path) -> None:
    made = sender(sending, settings)
    made.report = tmp_path / "send.json"

    def kept(number: int) -> bytes:
        return (
            json.dumps({"id": f"id{number}", "index": "logs-x-default", "doc": {"message": f"m{number}"}}).encode()
            + b"\n"
        )

    tier.mode = "full"
    answers = io.BytesIO()
    batch = [b"BEGIN TRANSACTION\n", kept(1), kept(2), b"COMMIT TRANSACTION\n"]
    sending.serve(made, iter(batch), answers)
    assert answers.getvalue() == b"OK\nOK\nDEFER_COMMIT\nDEFER_COMMIT\nheld\n"
    tier.mode = "ok"
    answers = io.BytesIO()
    sending.serve(made, iter([*batch, b"BEGIN TRANSACTION\n", b"no JSON\n", b"COMMIT TRANSACTION\n"]), answers)
    assert answers.getvalue() == b"OK\nOK\nDEFER_COMMIT\nDEFER_COMMIT\nOK\nOK\nDEFER_COMMIT\nOK\n"
    assert tier.store.messages == ["m1", "m2"]
    figures = json.loads(made.report.read_text(encoding="utf-8"))
    assert (figures["sent"], figures["failed"], figures["dead_letters"]) == (2, 1, 1)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_figures_for_the_exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = program("log_figures")
    queue = tmp_path / "queue"
    queue.mkdir()
    (queue / "send.00000001").write_bytes(b"x" * 1000)
    (tmp_path / "send.json").write_text(
        json.dumps({"sent": 7, "failed": 2, "held_since": 5.0, "dead_letters": 1, "last_sent": 1000.5}),
        encoding="utf-8",
    )
    for process, lines_ in ((os.getpid(), 4), (1, 5), (2**30, 100)):
        (tmp_path / f"mask-{process}.json").write_text(
            json.dumps({"lines": lines_, "unmaskable": 0, "masked": {"card": lines_}}), encoding="utf-8"
        )
    reports = [
        "no JSON",
        json.dumps({"name": "other"}),
        json.dumps({"name": "send queue", "size": 4, "full": 1, "discarded.full": 0}),
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(reports)))
    target = tmp_path / "out.prom"
    given = {
        "--action": "send",
        "--queue": queue,
        "--queue-max": 5000,
        "--sender": tmp_path / "send.json",
        "--maskers": tmp_path,
        "--output": target,
    }
    figures.main([str(word) for item in given.items() for word in item])
    found = dict(
        line.rsplit(" ", 1) for line in target.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    )
    prefix = "flowfleet_log_shipper_"
    expected = {
        "queue_lines": 4,
        "queue_bytes": 1000,
        "queue_bytes_max": 5000,
        "queue_full_total": 1,
        "lines_total": 9,
        "sent_total": 7,
        "held": 1,
        "dead_letters": 1,
    }
    assert {name: int(found[prefix + name]) for name in expected} == expected
    assert found[prefix + 'masked_total{pattern="card"}'] == "9"
    assert not (tmp_path / f"mask-{2**30}.json").exists()
    assert target.stat().st_mode & 0o777 == 0o644
