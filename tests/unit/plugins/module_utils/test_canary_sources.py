# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read from access logs and from Prometheus."""

from __future__ import annotations

import gzip
import json
import os
import pathlib
import re
import shutil
import urllib.parse
from typing import Any

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _canary_sources as cs
from ansible_collections.flowfleet.langflow.plugins.module_utils import _nginx_log

NEW, OLD = "192.0.2.1:7860", "192.0.2.2:7860"
ROOT = pathlib.Path(__file__).resolve().parents[4]


def line(moment: float, addresses: str = NEW, statuses: str = "200", times: str = "0.100", **change: Any) -> str:
    """One line as the role's format writes it."""
    fields = {
        "msec": moment,
        "request_id": f"{moment}-{addresses}",
        "path": "/api/v1/run/x",
        "status": int(statuses.split()[-1]) if statuses[-1:].isdigit() else 499,
        "upstream_addr": addresses,
        "upstream_status": statuses,
        "upstream_header_time": times,
        "upstream_response_time": times,
        **change,
    }
    return json.dumps(fields) + "\n"


def reader(path: pathlib.Path, new: str = NEW, old: str = OLD, **change: Any) -> cs.NginxLog:
    reading = cs.Reading(
        **{"instances": cs.Instances([new], [old]), "errors": cs.status_pattern(["5xx", "499"]), **change}
    )
    return cs.NginxLog(str(path), reading)


@pytest.fixture
def log(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "access.json"


def test_the_role_still_writes_the_fields_that_are_read() -> None:
    template = (ROOT / "roles/nginx/templates/maps.conf.j2").read_text(encoding="utf-8")
    for field, variable in {
        "msec": "msec",
        "path": "langflow_path",
        "status": "status",
        "upstream_addr": "upstream_addr",
        "upstream_status": "upstream_status",
        "upstream_header_time": "upstream_header_time",
        "upstream_response_time": "upstream_response_time",
    }.items():
        assert re.search(rf'"{field}":"?\${variable}\b', template), field


@pytest.mark.parametrize(
    ("text", "new", "old", "counts"),
    [
        (line(1), (1, 0, {100: 1}), (0, 0, {}), {"exposed": 1}),
        (line(1, OLD, "503"), (0, 0, {}), (1, 1, {}), {}),
        # tried on both: the new one failed, the old one answered
        (
            line(1, f"{NEW}, {OLD}", "502, 200", "0.001, 0.250"),
            (1, 1, {}),
            (1, 0, {250: 1}),
            {"exposed": 1, "both": 1},
        ),
        # an internal redirect
        (
            line(1, f"{OLD} : {NEW}", "404 : 200", "0.002 : 0.003"),
            (1, 0, {3: 1}),
            (1, 0, {2: 1}),
            {"exposed": 1, "both": 1},
        ),
        # the client went away before the answer
        (line(1, NEW, "-", "-"), (1, 1, {}), (0, 0, {}), {"exposed": 1}),
        (line(1, f"{NEW}, {OLD}", "-, 200", "-, 0.010"), (0, 0, {}), (1, 0, {10: 1}), {"exposed": 1, "both": 1}),
        # never reached an instance
        (line(1, "", "", "", status=429), (0, 0, {}), (0, 0, {}), {}),
        (line(1, "-", "-", "-", status=403), (0, 0, {}), (0, 0, {}), {}),
        (line(1, "langflow", "502", "0.000"), (0, 0, {}), (0, 0, {}), {"other": 1}),
        (line(1, "192.0.2.9:7860"), (0, 0, {}), (0, 0, {}), {"other": 1}),
        (line(1, "192.0.2.1:9999"), (0, 0, {}), (0, 0, {}), {"other": 1}),
        # a time that cannot be read
        (line(1, NEW, "200", "soon"), (1, 0, {}), (0, 0, {}), {"exposed": 1}),
    ],
)
def test_attempts(
    log: pathlib.Path, text: str, new: tuple[Any, ...], old: tuple[Any, ...], counts: dict[str, int]
) -> None:
    log.write_text(text, encoding="utf-8")
    seen = reader(log).observe(0, 10)
    assert (seen.new.requests, seen.new.errors, seen.new.times) == new
    assert (seen.old.requests, seen.old.errors, seen.old.times) == old
    found = {name: getattr(seen, name) for name in ("exposed", "both", "other") if getattr(seen, name)}
    assert (found, seen.seen) == (counts, 1)


def test_what_does_not_count(log: pathlib.Path) -> None:
    log.write_text(
        "no json\n[]\n{}\n"
        + line(9.999)
        + line(10.0)
        + line(19.999)
        + line(20.0)
        + line(15, path="/health_check")
        + '{"msec":15.0,"status":000}\n',
        encoding="utf-8",
    )
    seen = reader(log, exclude=[re.compile("^/health")]).observe(10, 20)
    assert (seen.new.requests, seen.seen, seen.unreadable) == (2, 2, 4)


def test_later_lines_count_when_the_window_grows(log: pathlib.Path) -> None:
    log.write_text(line(1) + line(5) + line(9), encoding="utf-8")
    source = reader(log)
    assert [source.observe(0, end).new.requests for end in (2, 6, 6, 10)] == [1, 2, 2, 3]


def test_partial_last_line_is_read_when_it_is_whole(log: pathlib.Path) -> None:
    text = line(1) + line(2)
    source = reader(log)
    counts = []
    for cut in (20, len(line(1)), len(text) - 1, len(text)):
        log.write_text(text[:cut], encoding="utf-8")
        seen = source.observe(0, 10)
        counts.append((seen.new.requests, seen.unreadable))
    assert counts == [(0, 0), (1, 0), (1, 0), (2, 0)]


def test_rotation_neither_loses_nor_repeats(log: pathlib.Path) -> None:
    source = reader(log)
    log.write_text(line(1), encoding="utf-8")
    assert source.observe(0, 99).new.requests == 1
    # rotated, and the old workers still write to the old file
    os.rename(log, f"{log}.1")
    with open(f"{log}.1", "a", encoding="utf-8") as stream:
        stream.write(line(2))
    log.write_text(line(3), encoding="utf-8")
    assert source.observe(0, 99).new.requests == 3
    # rotated again, the oldest one is compressed under another name
    with open(f"{log}.1", "rb") as plain, gzip.open(f"{log}.2.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    os.rename(log, f"{log}.1")
    log.write_text("", encoding="utf-8")
    assert source.observe(0, 99).new.requests == 3
    log.write_text(line(4), encoding="utf-8")
    assert source.observe(0, 99).new.requests == 4
    # someone who comes now finds the same
    assert reader(log).observe(0, 99).new.requests == 4


def test_files_that_ended_before_the_window_are_not_opened(log: pathlib.Path) -> None:
    log.write_text(line(1000), encoding="utf-8")
    old = pathlib.Path(f"{log}.2.gz")
    old.write_bytes(b"no gzip")
    os.utime(old, (900, 900))
    assert reader(log).observe(950, 2000).new.requests == 1
    os.utime(old, (990, 990))
    with pytest.raises(cs.SourceError, match=r"access\.json\.2\.gz"):
        reader(log).observe(950, 2000)


def test_long_log_is_searched_not_read(log: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nginx_log, "SEARCH_FROM", 2048)
    log.write_text("".join(line(number + 0.5) for number in range(5000)), encoding="utf-8")
    with open(log, "rb") as stream:
        offset = _nginx_log.first_offset(stream, 4000.0)
        stream.seek(offset)
        first = json.loads(stream.readline())["msec"]
    assert 3980 < first <= 4001
    for start in (0, 1, 2500, 4990, 6000):
        assert reader(log).observe(start, 99999).new.requests == max(0, 5000 - start)


def test_missing_log_is_an_error(log: pathlib.Path) -> None:
    with pytest.raises(cs.SourceError, match="does not exist"):
        reader(log).observe(0, 1)


@pytest.mark.parametrize(
    ("name", "logged", "match"),
    [
        ("192.0.2.1", "192.0.2.1:7860", True),
        ("192.0.2.1:7860", "192.0.2.1:7860", True),
        ("192.0.2.1:7861", "192.0.2.1:7860", False),
        ("2001:DB8::1", "[2001:db8::1]:7860", True),
        ("[2001:db8::1]:7860", "[2001:db8::1]:7860", True),
        ("unix:/run/a.sock", "unix:/run/a.sock", True),
        ("localhost:7860", "127.0.0.1:7860", True),
    ],
)
def test_addresses(name: str, logged: str, match: bool) -> None:
    assert (cs.Instances([name], ["192.0.2.200"]).side(logged) == "new") is match


@pytest.mark.parametrize(
    ("new", "old", "message"),
    [(["192.0.2.1"], ["192.0.2.1"], "both new and old"), (["no such host."], [], "has no address")],
)
def test_bad_instances(new: list[str], old: list[str], message: str) -> None:
    with pytest.raises(cs.SourceError, match=message):
        cs.Instances(new, old)


def test_bad_status() -> None:
    with pytest.raises(cs.SourceError, match="'five'"):
        cs.status_pattern(["five"])


def test_observations_add_up(log: pathlib.Path) -> None:
    log.write_text(line(1) + line(2, OLD, "500") + line(3, OLD), encoding="utf-8")
    seen = json.loads(json.dumps(reader(log).observe(0, 9).plain()))
    both = cs.Given([seen, seen]).observe(0, 0)
    assert (both.new.times, both.old.errors, both.old.statuses, both.seen) == ({100: 2}, 2, {"200": 2, "500": 2}, 6)
    for bad in ({}, {"new": 1, "old": 2}, {**seen, "new": {"requests": 1, "errors": 2}}):
        with pytest.raises(cs.SourceError, match="no observation"):
            cs.Given([bad])


# --- Prometheus -------------------------------------------------------------------------------------------------------


def vector(*series: tuple[dict[str, str], str]) -> bytes:
    result = [{"metric": labels, "value": [1.0, value]} for labels, value in series]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


QUERIES = cs.Queries("requests[$window]", "errors[$window]", "buckets[$window]")
PLAIN = cs.Queries("requests", "errors")
BEARER = "a.b.c"


def test_prometheus_counts_and_histogram(serve: Any, behaviours: Any, requests_seen: list[bytes]) -> None:
    buckets = vector(({"le": "0.1"}, "60.2"), ({"le": "0.5"}, "90"), ({"le": "+Inf"}, "100"))
    answers = [vector(({}, "70"), ({}, "30.4")), vector(({}, "5")), buckets, vector(), vector(({}, "NaN")), vector()]
    server = serve(*(behaviours.answer(body=answer) for answer in answers))
    seen = cs.Prometheus(server.url("/prom/"), QUERIES, QUERIES, token=BEARER).observe(1000, 1060)
    assert (seen.new.requests, seen.new.errors, seen.new.times) == (100, 5, {100.0: 60, 500.0: 30, 1000.0: 10})
    assert (seen.old.requests, seen.old.errors, seen.old.times) == (0, 0, {})
    asked = [urllib.parse.unquote_plus(request.split()[1].decode()) for request in requests_seen]
    assert asked[:2] == [
        "/prom/api/v1/query?query=requests[60s]&time=1060",
        "/prom/api/v1/query?query=errors[60s]&time=1060",
    ]
    assert all(f"Authorization: Bearer {BEARER}\r\n".encode() in request for request in requests_seen)


def test_prometheus_range_is_added_up(serve: Any, behaviours: Any, requests_seen: list[bytes]) -> None:
    series = [{"metric": {}, "values": [[1, "2"], [2, "3"], [3, "NaN"]]}]
    body = json.dumps({"data": {"resultType": "matrix", "result": series}}).encode()
    source = cs.Prometheus(serve(behaviours.answer(body=body)).url(""), PLAIN, None, query_type="range", step=10)
    assert source.observe(1000, 1030).new.requests == 50
    assert b"/api/v1/query_range?query=requests&start=1010&end=1030&step=10 " in requests_seen[0]


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (lambda b: b.answer(400, b"parse error"), "answered 400 to 'requests'.*parse error"),
        (lambda b: b.answer(302), "answered 302"),
        (lambda b: b.answer(body=b"<html>"), "no vector"),
        (lambda b: b.answer(body=b'{"data": {"resultType": "vector", "result": [{}]}}'), "no vector"),
        (lambda b: b.answer(body=b"x", announced=99), "cut off"),
        (lambda b: b.reset(), "reset"),
        (lambda b: b.half_close(), "closed without an answer|reset"),
        (lambda b: b.garbage(), "not valid HTTP"),
        (lambda b: b.silence(), "within 0.3 s|in time"),
        (lambda b: b.drip(), "no complete answer within 0.3 s"),
    ],
)
def test_prometheus_in_trouble(serve: Any, behaviours: Any, behaviour: Any, message: str) -> None:
    source = cs.Prometheus(serve(behaviour(behaviours)).url(""), PLAIN, None, timeout=0.3)
    with pytest.raises(cs.SourceError, match=message):
        source.observe(0, 60)


def test_prometheus_is_verified(serve: Any, authority: Any) -> None:
    server = serve(tls=authority.server_context("127.0.0.1"))
    with pytest.raises(cs.SourceError, match="certificate not accepted"):
        cs.Prometheus(server.url(""), PLAIN, None).observe(0, 60)
    with pytest.raises(cs.SourceError, match="no vector"):
        cs.Prometheus(server.url(""), PLAIN, None, ca_path=str(authority.path)).observe(0, 60)
    for url, ca_path in (("ftp://x", None), ("https://user@x", None), ("https://x", "/no/such")):
        with pytest.raises(cs.SourceError):
            cs.Prometheus(url, PLAIN, None, ca_path=ca_path)
