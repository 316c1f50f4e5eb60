# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures of the business: what nginx logs about a request, and what reads it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
NGINX, EXPORTERS = ROLES / "nginx", ROLES / "exporters"
FOLLOW = "mtail-follow.sh.j2"


def defaults(role: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8"))
    return found


def render(role: Path, name: str, **changes: Any) -> str:
    environment = jinja2.Environment(trim_blocks=True, autoescape=False, keep_trailing_newline=True)
    environment.filters["comment"] = lambda text: f"# {text}"
    environment.filters["quote"] = lambda text: f"'{text}'"
    variables = {"ansible_managed": "managed", "nginx_trace_trusted": [], **defaults(role), **changes}
    template = environment.from_string((role / "templates" / name).read_text(encoding="utf-8"))
    return template.render({**variables, "nginx_trace_trusted": []} if role == NGINX else variables)


MAPS = render(NGINX, "maps.conf.j2")
PROGRAM = render(EXPORTERS, "mtail-gateway.mtail.j2")


# --- the maps of nginx, in Python -----------------------------------------------------------------------------------


def tokens(text: str) -> list[str]:
    """The words of one directive, without quotes and with nginx's escapes undone."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|([^\s;]+)', text)
    return [re.sub(r"\\([\"'\\])", r"\1", double or single or plain) for double, single, plain in found]


def evaluate(text: str, known: dict[str, str]) -> str:
    """A text with variables in it, as nginx would have it for this request."""
    return re.sub(r"\$(\w+)", lambda match: value(match[1], known), text)


def value(name: str, known: dict[str, str]) -> str:
    """A variable of this request, computed from its map if it has one."""
    if name in known or f" ${name} {{" not in MAPS:
        return known.get(name, "")
    head = MAPS[: MAPS.index(f" ${name} {{")].rpartition("\n")[2]
    source = evaluate(tokens(head.removeprefix("map "))[0], known)
    block = MAPS.partition(f" ${name} {{\n")[2].partition("\n}")[0]
    default = ""
    patterns = []
    for line in block.splitlines():
        words = tokens(line) if line.strip() and not line.strip().startswith("#") else []
        if len(words) < 2 and words:
            words.append("")
        if words and words[0] == "default":
            default = words[1]
        elif words and words[0].startswith("~"):
            patterns.append(words)
        elif words and words[0] == source:
            return evaluate(words[1], known)
    for pattern, result in patterns:
        if match := re.search(pattern[1:].replace("(?<langflow", "(?P<langflow"), source):
            return evaluate(result, {**known, **{key: text or "" for key, text in match.groupdict().items()}})
    return evaluate(default, known)


def judged(
    method: str, path: str, body: str = "", query: str = "", answer: str = "application/json"
) -> tuple[str, str]:
    known = {
        "request_method": method,
        "uri": path,
        "request_body": body,
        "arg_stream": query,
        "sent_http_content_type": answer,
    }
    return value("langflow_kind", known), value("langflow_flow", known)


FLOW = "5f0e5e5e-0000-4000-8000-000000000001"
EVENTS = "text/event-stream; charset=utf-8"


@pytest.mark.parametrize(
    ("request_line", "more", "expected"),
    [
        (f"POST /api/v1/run/{FLOW}", {}, ("run", FLOW)),
        ("POST /api/v1/run/support_bot", {"query": "false"}, ("run", "support_bot")),
        ("POST /api/v1/run/support_bot", {"query": "true"}, ("stream", "support_bot")),
        ("POST /api/v1/run/support_bot", {"query": "1"}, ("stream", "support_bot")),
        ("POST /api/v1/run/support_bot", {"answer": EVENTS}, ("stream", "support_bot")),
        ("POST /api/v1/run/session/bot", {}, ("run", "bot")),
        ("POST /api/v1/run/advanced/bot", {}, ("run", "bot")),
        ("GET /api/v1/run/bot", {}, ("api", "")),
        ("POST /api/v1/webhook/hook", {}, ("webhook", "hook")),
        (f"POST /api/v1/build/{FLOW}/flow", {}, ("build", FLOW)),
        ("GET /api/v1/build/job/events", {"answer": EVENTS}, ("events", "")),
        ("POST /api/v2/workflows", {"body": f'{{"flow_id": "{FLOW}", "mode": "sync"}}'}, ("run", FLOW)),
        ("POST /api/v2/workflows", {"body": f'{{"flow_id":"{FLOW}"}}'}, ("run", FLOW)),
        ("POST /api/v2/workflows", {"body": f'{{"mode":"background",\n "flow_id":"{FLOW}"}}'}, ("background", FLOW)),
        ("POST /api/v2/workflows", {"body": f'{{"mode":"stream","flow_id":"{FLOW}"}}'}, ("stream", FLOW)),
        ("POST /api/v2/workflows", {"body": ""}, ("run", "")),
        ("POST /api/v2/workflows/stop", {"body": "{}"}, ("api", "")),
        ("POST /api/v1/responses", {"body": '{"model":"bot","input":"x"}'}, ("openai", "bot")),
        ("POST /tasks/v1/runs", {"body": '{"flow":"bot"}'}, ("task", "bot")),
        ("GET /tasks/v1/runs/1", {}, ("api", "")),
        ("GET /api/v1/flows/", {}, ("api", "")),
        ("GET /health", {}, ("health", "")),
        ("GET /health_check", {}, ("health", "")),
        ("GET /", {}, ("ui", "")),
        ("GET /assets/index.js", {}, ("ui", "")),
    ],
)
def test_what_a_request_is(request_line: str, more: dict[str, str], expected: tuple[str, str]) -> None:
    method, path = request_line.split()
    assert judged(method, path, **more) == expected


@pytest.mark.parametrize(
    "body",
    [
        # What a user writes stands in a string, where quotes are escaped.
        f'{{"input_value":"say \\"flow_id\\": \\"other\\"","flow_id":"{FLOW}"}}',
        f'{{"input_value":"\\"mode\\":\\"background\\"","flow_id":"{FLOW}"}}',
    ],
)
def test_what_users_write_is_no_flow(body: str) -> None:
    assert judged("POST", "/api/v2/workflows", body) == ("run", FLOW)


@pytest.mark.parametrize("name", ["a b", 'x"y', "ü", "x" * 65, "a%0ab", "../x"])
def test_no_other_name_becomes_a_label(name: str) -> None:
    assert judged("POST", f"/api/v1/run/{name}")[1] == ""
    assert judged("POST", "/api/v2/workflows", json.dumps({"flow_id": name}))[1] == ""


def test_nothing_of_a_body_but_the_name_is_logged() -> None:
    log = MAPS.partition("log_format")[2]
    assert "request_body" not in log
    assert "langflow_read_body" not in log


# --- the program of mtail -------------------------------------------------------------------------------------------


def line(**fields: Any) -> str:
    """A line as the log_format makes it."""
    text = "".join(re.findall(r"'(\{.*|\".*)'", MAPS.partition("log_format langflow_json escape=json\n")[2]))
    given = {
        "langflow_kind": "run",
        "langflow_flow": "bot",
        "status": "200",
        "bytes_sent": "512",
        "request_time": "1.250",
        "request_completion": "OK",
        "upstream_addr": "192.0.2.21:7860",
        "upstream_status": "200",
        "langflow_path": '/x\\"kind\\":\\"ui\\"',
        **fields,
    }
    made = re.sub(r"\$(\w+)", lambda match: given.get(match[1], "0"), text)
    json.loads(made)
    return made


def pattern(start: str) -> re.Pattern[str]:
    """A pattern of the program; parts that are joined with + are one."""
    text = PROGRAM[PROGRAM.index(f"/{start}") :].partition(" {\n")[0]
    return re.compile("".join(part.strip("/") for part in text.split(" +\n")))


def test_every_line_of_nginx_is_read() -> None:
    match = pattern('"kind"').search(line())
    assert match
    assert match.groupdict() == {
        "kind": "run",
        "flow": "bot",
        "status": "200",
        "bytes": "512",
        "seconds": "1.250",
        "completion": "OK",
        "upstreams": "192.0.2.21:7860",
    }


@pytest.mark.parametrize("dropped", ["kind", "flow", "status", "request_time", "upstream_status"])
def test_a_line_without_a_field_is_not(dropped: str) -> None:
    assert not pattern('"kind"').search(line().replace(f'"{dropped}":', '"renamed":'))


@pytest.mark.parametrize(
    ("addresses", "states", "failed"),
    [
        ("a:1", "200", []),
        ("a:1", "502", ["a:1"]),
        ("a:1, b:1", "502, 200", ["a:1"]),
        ("a:1, b:1, c:1", "504, 503, 200", ["a:1", "b:1"]),
        ("a:1, b:1, c:1", "502, 502, 502", ["a:1", "b:1", "c:1"]),
        ("langflow", "502", ["langflow"]),
        ("", "", []),
        ("a:1", "500", []),
    ],
)
def test_every_failed_attempt_is_seen(addresses: str, states: str, failed: list[str]) -> None:
    found = []
    for place, start in enumerate(("first", "second", "third")):
        lead = '"upstream_addr":"' + '[^",]+, ' * place + f"(?P<{start}>"
        if match := pattern(lead).search(line(upstream_addr=addresses, upstream_status=states)):
            found.append(match[start])
    assert found == failed


def test_labels_are_bounded() -> None:
    counted = re.findall(r"^(?:hidden )?(?:counter|gauge|histogram) (\w+) by (.*)$", PROGRAM, re.M)
    assert {name for name, rest in counted if "flow" in rest or "upstream" in rest} == {
        name for name, rest in counted if " limit " in rest
    }
    labels = re.findall(r"requests_total\[(\w+)\]", PROGRAM)
    assert labels == ["flow_label"], "a name that no answer has proven must not become a label"


# What the reader makes of some lines. It runs on load balancers only, so the scenario of the whole cluster asks it.


def sample() -> str:
    """A log of one line for each way a request can end, and one that is broken."""
    lines = [
        line(langflow_flow="never", status="404"),
        line(langflow_flow="nobody-answered", status="502"),
        line(langflow_flow="always-fails", status="500"),
        line(status="502"),
        line(),
        line(status="500", request_time="0.000"),
        line(langflow_kind="stream", request_completion=""),
        line(status="503", upstream_addr="", upstream_status=""),
        "broken",
    ]
    return "".join(f"{text}\n" for text in lines)


def check_counts(text: str) -> None:
    """Compare what the reader shows with what the sample holds."""
    name = "langflow_gateway_requests_total"
    for label, count in (
        ('{code_class="4xx",flow="",kind="run"}', 1),
        ('{code_class="5xx",flow="",kind="run"}', 2),
        # It never answered well, and yet it is the flow that somebody looks for.
        ('{code_class="5xx",flow="always-fails",kind="run"}', 1),
        ('{code_class="2xx",flow="bot",kind="run"}', 1),
        ('{code_class="5xx",flow="bot",kind="run"}', 1),
        ('{code_class="cut",flow="bot",kind="stream"}', 1),
        ('{code_class="paused",flow="bot",kind="run"}', 1),
    ):
        assert f"{name}{label} {count}\n" in text
    assert "langflow_gateway_unreadable_lines_total 1\n" in text
    assert 'seconds_bucket{flow="bot",kind="run",le="0.05"} 1\n' in text


# --- rotation -------------------------------------------------------------------------------------------------------


class Follower:
    """The script that keeps the log readable, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.log, self.names = directory / "access.json", directory / "follow"
        self.names.mkdir()
        self.log.write_text("1\n", encoding="utf-8")
        self.script = directory / "follow_access_log"
        text = render(
            EXPORTERS,
            FOLLOW,
            exporters_gateway_log=str(self.log),
            __exporters_gateway_follow=str(self.names),
            __exporters_gateway_unit="x.service",
        )
        self.script.write_text(text, encoding="utf-8")

    def run(self) -> list[Path]:
        subprocess.run(["sh", str(self.script)], check=True)
        return sorted(self.names.iterdir())

    def rotate(self) -> None:
        self.log.rename(self.log.with_suffix(".1"))
        self.log.write_text("", encoding="utf-8")


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(tmp_path)


def test_the_log_gets_one_more_name(follower: Follower) -> None:
    follower.log.chmod(0o600)
    (name,) = follower.run()
    assert name.samefile(follower.log)
    assert name.stat().st_mode & 0o777 == 0o640, "the group of the reader has to be able to read it"
    assert follower.run() == [name], "and only one"


def test_a_rotated_log_goes_when_nobody_writes_to_it(follower: Follower) -> None:
    (old,) = follower.run()
    follower.rotate()
    (new,) = follower.run()
    assert new != old
    assert new.samefile(follower.log)


def test_a_rotated_log_stays_while_old_workers_write_to_it(follower: Follower, tmp_path: Path) -> None:
    program = tmp_path / "nginx"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    (old,) = follower.run()
    with follower.log.open("a", encoding="utf-8") as written:
        worker = subprocess.Popen([str(program), "60"], stdout=written)
    try:
        follower.rotate()
        assert follower.run() == [old, *[name for name in sorted(follower.names.iterdir()) if name != old]]
        assert old in follower.run()
        assert (tmp_path / "access.1").samefile(old)
    finally:
        worker.kill()
        worker.wait()
    assert old not in follower.run()


def test_rotation_tells_the_reader_before_nginx_changes_files() -> None:
    script = render(NGINX, "logrotate.j2").partition("postrotate")[2]
    assert script.index("follow_access_log --wait") < script.index("systemctl reload nginx.service")
    path = yaml.safe_load((EXPORTERS / "vars/gateway.yml").read_text(encoding="utf-8"))["__exporters_gateway_library"]
    assert f"{path}/follow_access_log" in script
    assert "allowhardlink" in render(NGINX, "logrotate.j2"), "logrotate would leave the log alone"


# --- jobs in the database -------------------------------------------------------------------------------------------

SQL = (EXPORTERS / "files/langflow_jobs.sql").read_text(encoding="utf-8")
QUERIES: dict[str, Any] = yaml.safe_load((EXPORTERS / "files/langflow_jobs.yml").read_text(encoding="utf-8"))


def test_the_login_reads_no_table() -> None:
    for name, query in QUERIES.items():
        tables = re.findall(r"\b(?:FROM|JOIN)\s+(\S+)", query["query"])
        assert tables
        assert all(re.fullmatch(r"flowfleet_metrics\.\w+\(\)", table) for table in tables), name
    assert not re.search(r"\bGRANT\b|\bVIEW\b", SQL.replace("No views", ""))
    assert "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA flowfleet_metrics FROM PUBLIC" in SQL


def test_functions_cannot_be_led_astray() -> None:
    heads = re.findall(r"CREATE OR REPLACE FUNCTION (.*?) AS \$body\$", SQL, re.S)
    assert len(heads) == 5
    for head in heads:
        assert "SECURITY DEFINER" in head
        assert "SET search_path = pg_catalog, pg_temp" in head
        assert "STABLE" in head


def test_the_names_of_the_series() -> None:
    series = {
        f"{name}_{column}"
        for name, query in QUERIES.items()
        for metric in query["metrics"]
        for column, about in metric.items()
        if about["usage"] != "LABEL"
    }
    assert series == {
        "langflow_jobs",
        "langflow_jobs_oldest_queued_seconds",
        "langflow_job_runs_total",
        "langflow_job_duration_seconds",
    }


def test_a_changed_program_is_a_restart() -> None:
    """After a reload mtail keeps what the old program counted beside what the new one counts, and shows nothing."""
    found = yaml.safe_load((EXPORTERS / "vars/gateway.yml").read_text(encoding="utf-8"))
    (unit,) = found["__exporters_gateway_service"]["units"]
    assert unit["apply"] == "restart"
    assert "{{ __exporters_gateway_programs }}/gateway.mtail" in unit["watch"]
    assert unit["gate"]["type"] == "http", "the port is open as well when figures are not shown"
    assert "ExecReload" not in (EXPORTERS / "templates/mtail.service.j2").read_text(encoding="utf-8")


def test_the_reader_has_no_rights() -> None:
    unit = render(
        EXPORTERS,
        "mtail.service.j2",
        __exporters_gateway_library="/usr/lib/x",
        __exporters_gateway_programs="/etc/x",
        __exporters_gateway_follow="/var/log/nginx/follow",
    )
    assert "User=mtail" in unit
    assert "--address 127.0.0.1" in unit
    assert "CapabilityBoundingSet=\n" in unit
