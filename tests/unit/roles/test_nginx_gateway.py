"""Gateway rules: what they refuse, what they let pass, and that nonsense is an error."""

from __future__ import annotations

import importlib.util
import posixpath
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
import yaml
from ansible_collections.flowfleet.langflow.plugins.module_utils import _nginx_gateway as ng

ROOT = Path(__file__).resolve().parents[3]
SPEC = importlib.util.spec_from_file_location("gateway_corpus", ROOT / "tests/corpus/gateway_corpus.py")
gateway_corpus = importlib.util.module_from_spec(SPEC)
sys.modules["gateway_corpus"] = gateway_corpus
SPEC.loader.exec_module(gateway_corpus)

DATA: dict[str, Any] = yaml.safe_load((ROOT / "roles/nginx/vars/main/gateway.yml").read_text())
SERIES: dict[str, Any] = DATA["__nginx_gateway"]
ROUTES = SERIES["1.13"]
CORPUS = gateway_corpus.corpus()


def normalised(target: str) -> str:
    """Do what Nginx does to a request target before it looks at it."""
    path = target.replace("http://{host}", "").split("?")[0].split("#")[0]
    path = unquote_to_bytes(path).decode("latin-1")
    slash = "/" if path.endswith(("/", "/.", "/..")) else ""
    path = posixpath.normpath("/" + path.lstrip("/"))
    return path if path == "/" else path + slash


def test_every_release_that_can_be_installed_has_rules() -> None:
    locks = (ROOT / "roles/langflow/files").glob("requirements-[0-9]*.txt")
    releases = {".".join(lock.name.removeprefix("requirements-").split(".")[:2]) for lock in locks}
    assert releases == set(SERIES)
    specification = yaml.safe_load((ROOT / "roles/nginx/meta/argument_specs.yml").read_text())
    option = specification["argument_specs"]["main"]["options"]["nginx_gateway_release"]
    assert set(option["choices"]) == set(SERIES)
    version = yaml.safe_load((ROOT / "roles/langflow/defaults/main.yml").read_text())["langflow_version"]
    assert version.startswith(f"{option['default']}.")


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize(("method", "target"), CORPUS["refused"])
def test_refused(series: str, method: str, target: str) -> None:
    assert ng.decide(ng.decisions(SERIES[series]["deny"]), method, normalised(target))


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize(("method", "target"), CORPUS["passed"])
def test_passed(series: str, method: str, target: str) -> None:
    assert ng.decide(ng.decisions(SERIES[series]["deny"]), method, normalised(target)) == ""


@pytest.mark.parametrize(
    ("method", "path", "passes"),
    [
        ("POST", "/api/v1/run/x", True),
        ("GET", "/api/v1/run/x", False),
        ("POST", "/api/v1/webhook/x", True),
        ("GET", "/api/v2/workflows/j/events", True),
        ("POST", "/api/v2/workflows/public/x", False),
        ("POST", "/api/v1/mcp/project/p/streamable", True),
        ("POST", "/api/v1/mcp/project/p/install", False),
        ("GET", "/health", True),
        ("GET", "/healthz", True),
        ("GET", "/", False),
        ("POST", "/api/v1/login", False),
        ("POST", "/api/v1/build/x/flow", False),
        ("GET", "/api/v1/flows/", False),
    ],
)
def test_mode_api_passes_only_what_is_listed(method: str, path: str, passes: bool) -> None:
    table = ng.decisions(ROUTES["deny"], ROUTES["allow"], "api")
    assert (ng.decide(table, method, path, "not_listed") == "") is passes


def test_opened_by_name_and_by_group() -> None:
    def name(opened: list[str], path: str, mode: str = "ui") -> str:
        return ng.decide(
            ng.decisions(ROUTES["deny"], ROUTES["allow"], mode, opened),
            "POST",
            path,
            "not_listed" if mode == "api" else "",
        )

    update = "/api/v1/custom_component/update"
    assert name([], update) == "custom_component_update"
    assert name(["custom_component_update"], update) == ""
    assert name(["custom_component_update"], "/api/v1/custom_component") == "custom_component"
    assert name(["editor"], "/api/v1/validate/code") == ""
    assert name(["build"], "/api/v1/build/x/flow", "api") == ""


@pytest.mark.parametrize(
    ("rules", "opened", "message"),
    [
        ([{"name": "Bad", "path": "/x"}], [], "name of a rule"),
        ([{"path": "/x"}], [], "name of a rule"),
        ([{"name": "a", "path": "/x"}, {"name": "a", "path": "/y"}], [], "two rules"),
        ([{"name": "a", "path": "x"}], [], "not a path"),
        ([{"name": "a", "path": "/x//y"}], [], "not a path"),
        ([{"name": "a", "path": "/x.*"}], [], "not a path"),
        ([{"name": "a", "path": "/{x"}], [], "placeholder"),
        ([{"name": "a", "path": "/x", "methods": ["GE T"]}], [], "request method"),
        ([{"name": "a", "path": "/x", "method": "GET"}], [], "unknown keys: method"),
        ([{"name": "a", "path": "/x"}], ["b"], "named b"),
    ],
)
def test_nonsense_is_an_error(rules: list[dict[str, Any]], opened: list[str], message: str) -> None:
    with pytest.raises(ng.GatewayError, match=message):
        ng.decisions(rules, opened=opened)


def test_every_rule_has_a_reason_and_a_group() -> None:
    for rule in ROUTES["deny"]:
        assert rule.get("reason"), rule["name"]
        assert rule.get("group"), rule["name"]


def test_every_refusing_rule_is_in_the_corpus() -> None:
    table = ng.decisions(ROUTES["deny"])
    hit = {ng.decide(table, method, normalised(target)) for method, target in CORPUS["refused"]}
    assert {rule["name"] for rule in ROUTES["deny"] if "ui" in rule.get("modes", ["ui"])} == hit


def test_all_paths_compile() -> None:
    for kind in ("deny", "allow", "streams", "websockets", "uploads", "login", "runs"):
        for rule in ROUTES[kind]:
            ng.path_pattern(rule["path"])
