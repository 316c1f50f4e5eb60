"""What the templates of the load balancer must and must not say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles/nginx"
DEFAULTS: dict[str, Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())


def render(name: str, **changed: Any) -> str:
    environment = jinja2.Environment(
        trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    environment.filters["comment"] = lambda text: f"# {text}"
    variables = {
        "ansible_managed": "managed",
        "__nginx_directory": "/etc/nginx/langflow",
        "__nginx_read_timeout": 310,
        **DEFAULTS,
        **changed,
    }
    return environment.from_string((ROLE / "templates" / name).read_text()).render(variables)


def directives(text: str, name: str) -> list[str]:
    return re.findall(rf"^\s*{name} (.*);$", text, re.M)


def test_a_post_is_never_sent_twice() -> None:
    for file in (ROLE / "templates").glob("*.j2"):
        code = "\n".join(line for line in file.read_text().splitlines() if not line.lstrip().startswith("#"))
        assert "non_idempotent" not in code, file.name
    assert directives(render("proxy.conf.j2"), "proxy_next_upstream") == ["error timeout http_502 http_503"]


def test_backends_are_verified() -> None:
    proxy = render("proxy.conf.j2", nginx_backend_tls_ca="/ca.crt")
    assert directives(proxy, "proxy_ssl_verify") == ["on"]
    assert directives(proxy, "proxy_ssl_name") == ["langflow.internal"]
    assert "proxy_ssl" not in render("proxy.conf.j2", nginx_backend_tls=False)


def test_clients_cannot_forge_who_they_are() -> None:
    forward = directives(render("forward.conf.j2"), "proxy_set_header")
    assert "X-Forwarded-For $remote_addr" in forward
    assert "X-Request-Id $request_id" in forward
    assert not [line for line in forward if "proxy_add_x_forwarded_for" in line]
    for header in ("Forwarded", "X-Forwarded-Prefix", "X-Original-URL"):
        assert f'{header} ""' in forward


def test_the_query_is_never_logged() -> None:
    log = render("maps.conf.j2").partition("log_format")[2]
    for variable in (
        "$request_uri",
        "$args",
        "$query_string",
        "$request ",
        '$request"',
        "$http_referer",
        "$http_authorization",
    ):
        assert variable not in log


@pytest.mark.parametrize(("accept", "source"), [(True, "$http_traceparent"), (False, "$request_id")])
def test_a_trace_starts_here_unless_it_is_accepted(accept: bool, source: str) -> None:
    maps = render("maps.conf.j2", nginx_trace_accept=accept, nginx_trace_trusted=[])
    assert f"map {source} $langflow_traceparent" in maps


@pytest.mark.parametrize("given", [{"nginx_trace_accept": True}, {"nginx_trace_trusted": ["192.0.2.7"]}])
@pytest.mark.parametrize(
    ("traceparent", "valid"),
    [
        (f"00-{'a' * 32}-{'b' * 16}-00", True),
        (f"00-{'a' * 32}-{'b' * 16}-01", True),
        # Level 2 of the standard has a second flag, and SDKs set it.
        (f"00-{'a' * 32}-{'b' * 16}-03", True),
        (f"00-{'0' * 32}-{'b' * 16}-01", False),
        (f"00-{'a' * 32}-{'0' * 16}-01", False),
        (f"00-{'a' * 32}-{'b' * 16}-1", False),
        (f"00-{'a' * 32}-{'b' * 16}-01-more", False),
    ],
)
def test_a_trace_goes_on_whatever_its_flags_are(given: dict[str, Any], traceparent: str, valid: bool) -> None:
    maps = render("maps.conf.j2", **{"nginx_trace_accept": False, "nginx_trace_trusted": [], **given})
    patterns = re.findall(r'"~(\^(?:1:)?00-.*)" \$http_trace', maps)
    assert len(patterns) == 2
    for pattern in patterns:
        assert bool(re.search(pattern, ("1:" if "^1:" in pattern else "") + traceparent)) is valid


def test_old_tls_is_off() -> None:
    assert directives(render("nginx.conf.j2"), "ssl_protocols") == ["TLSv1.2 TLSv1.3"]


def test_drop_in_keeps_three_capabilities() -> None:
    unit = render("nginx.service.conf.j2")
    assert re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.M) == ["CAP_NET_BIND_SERVICE CAP_SETUID CAP_SETGID"]
    assert "AF_UNIX" not in unit
    assert "AF_UNIX" in render("nginx.service.conf.j2", nginx_log_target="journal")


def test_streams_outlive_requests_and_reloads() -> None:
    assert DEFAULTS["nginx_worker_shutdown_timeout"] >= DEFAULTS["nginx_stream_timeout"] > 310


def test_workers_of_the_tasks_tier_keep_their_trace() -> None:
    maps = render("maps.conf.j2", nginx_trace_trusted=["192.0.2.7"])
    assert directives(maps, "192.0.2.7") == ["1"]
    assert maps.count('map "$langflow_trace_trusted:$http_traceparent"') == 2
    # Whoever is not trusted gets the trace that starts here: the pattern asks for the 1 that the table gives.
    assert maps.count('"~^1:00-') == 2
    # Where every client is believed, the table has nothing to decide.
    assert "langflow_trace_trusted" not in render(
        "maps.conf.j2", nginx_trace_accept=True, nginx_trace_trusted=["192.0.2.7"]
    )
