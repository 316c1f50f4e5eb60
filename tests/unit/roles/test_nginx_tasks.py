# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tasks API behind the front door: there when it has hosts, and under the gateway's rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.flowfleet.langflow.plugins.filter.nginx_gateway import nginx_gateway
from ansible_collections.flowfleet.langflow.plugins.filter.nginx_members import nginx_members
from ansible_collections.flowfleet.langflow.plugins.filter.nginx_path import nginx_path
from ansible_collections.flowfleet.langflow.plugins.module_utils import _nginx_gateway as gateway

ROLE = Path(__file__).resolve().parents[3] / "roles/nginx"
HOSTS = [{"name": "app1", "address": "192.0.2.21"}, {"name": "app2", "address": "2001:db8::22", "port": 7999}]
RULES = yaml.safe_load((ROLE / "vars/main/gateway.yml").read_text(encoding="utf-8"))
NONE: dict[str, Any] = {"deny": [], "allow": [], "runs": []}


def render(template: str, hosts: list[dict[str, Any]], **changes: Any) -> str:
    """A template with the rules and hosts that the role would give it."""
    environment = jinja2.Environment(trim_blocks=True, autoescape=False, keep_trailing_newline=True)
    environment.filters["comment"] = lambda text: f"# {text}"
    environment.filters["bool"] = bool
    for function in (nginx_gateway, nginx_members, nginx_path):
        environment.filters[f"flowfleet.langflow.{function.__name__}"] = function
    routes, tasks = RULES["__nginx_gateway"]["1.13"], RULES["__nginx_gateway_tasks"] if hosts else NONE
    variables = {
        **yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8")),
        "__nginx_directory": "/etc/nginx/langflow",
        "__nginx_routes": routes,
        "__nginx_decisions": nginx_gateway(routes["deny"] + tasks["deny"]),
        "__nginx_counted_runs": routes["runs"] + tasks["runs"],
        "__nginx_limits": [],
        "__nginx_member_words": ["max_fails=3", "fail_timeout=5s"],
        "nginx_tasks_backends": hosts,
        "nginx_server_names": ["x.example.com"],
        **changes,
    }
    return environment.from_string((ROLE / "templates" / template).read_text(encoding="utf-8")).render(variables)


def test_without_hosts_nothing_is_there() -> None:
    for name in ("upstream", "server", "gateway", "limits"):
        assert "tasks" not in render(f"{name}.conf.j2", []), name


def test_with_hosts_it_is_verified_under_its_own_name() -> None:
    upstream = render("upstream.conf.j2", HOSTS)
    assert "    server 192.0.2.21:7870 max_fails=3 fail_timeout=5s;\n" in upstream
    assert "    server [2001:db8::22]:7999 max_fails" in upstream
    location = render("server.conf.j2", HOSTS).partition("location ^~ /tasks/ {")[2].partition("}")[0]
    assert "proxy_ssl_name tasks.internal;" in location
    assert "proxy_pass https://langflow_tasks;" in location
    assert "include /etc/nginx/langflow/forward.conf;" in location
    plain = render("server.conf.j2", HOSTS, nginx_backend_tls=False).partition("location ^~ /tasks/ {")[2]
    assert "proxy_pass http://langflow_tasks;" in plain.partition("}")[0]


def test_submissions_count_as_runs() -> None:
    assert "/tasks" in render("limits.conf.j2", HOSTS).partition("langflow_client_runs {")[2].partition("}")[0]


@pytest.mark.parametrize(
    ("method", "path", "mode", "rule"),
    [
        ("POST", "/tasks/v1/runs", "ui", ""),
        ("POST", "/tasks/v1/runs", "api", ""),
        ("GET", "/tasks/v1/runs/1?wait=30", "api", ""),
        ("DELETE", "/tasks/v1/runs/1", "api", ""),
        ("GET", "/tasks/v1/openapi.json", "ui", "tasks_openapi"),
        ("GET", "/tasks/v1/openapi.json", "api", "tasks_openapi"),
        ("GET", "/taskss", "api", "not_listed"),
    ],
)
def test_the_gateway_judges_it(method: str, path: str, mode: str, rule: str) -> None:
    rules = RULES["__nginx_gateway_tasks"]
    table = gateway.decisions(rules["deny"], rules["allow"], mode, [])
    assert gateway.decide(table, method, path, "not_listed" if mode == "api" else "") == rule
