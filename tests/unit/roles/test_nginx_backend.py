"""Membership files: who the backend is comes from the variables, its state from the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ansible")

from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.filter.nginx_members import nginx_members
from ansible_collections.flowfleet.langflow.plugins.module_utils import _nginx_backend as nb


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("server 192.0.2.1:7860;", nb.Backend("a", "192.0.2.1", 7860)),
        (
            "  server 192.0.2.1:7860 max_fails=1 fail_timeout=5s down;",
            nb.Backend("a", "192.0.2.1", 7860, True, 1, ("max_fails=1", "fail_timeout=5s")),
        ),
        ("server app.example:1 weight=3;", nb.Backend("a", "app.example", 1, False, 3)),
        ("server [2001:db8::1]:7860 down weight=2;", nb.Backend("a", "2001:db8::1", 7860, True, 2)),
        ("# server 192.0.2.9:1 down;\nserver 192.0.2.1:7860;", nb.Backend("a", "192.0.2.1", 7860)),
    ],
)
def test_parse(line: str, expected: nb.Backend) -> None:
    assert nb.parse_backend("a", f"#\n# Ansible managed\n#\n{line}\n") == expected
    assert nb.parse_backend("a", nb.server_line(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "# server a:1;", "server a:1;\nserver b:2;", "server a;", "server a:b;", "upstream x {}", "server a:1"]
)
def test_refuses_what_it_does_not_understand(text: str) -> None:
    with pytest.raises(nb.MembershipError, match="'a'"):
        nb.parse_backend("a", text)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "a;b"])
def test_names_are_file_names(name: str) -> None:
    with pytest.raises(nb.MembershipError):
        nb.check_name(name)


def test_read_directory(tmp_path: Path) -> None:
    assert nb.read_backends(str(tmp_path / "missing")) == []
    (tmp_path / "b.conf").write_text("server 192.0.2.2:1 down;\n")
    (tmp_path / "a.conf").write_text("server 192.0.2.1:1;\n")
    (tmp_path / ".a.conf.swp").write_text("rubbish")
    (tmp_path / "notes.txt").write_text("rubbish")
    assert [(backend.name, backend.state) for backend in nb.read_backends(str(tmp_path))] == [
        ("a", "enabled"),
        ("b", "drained"),
    ]


def found(name: str, state: str = "enabled", weight: int = 1) -> dict[str, Any]:
    return {
        "name": name,
        "address": "192.0.2.99",
        "port": 1,
        "state": state,
        "weight": weight,
        "parameters": ["max_fails=9"],
    }


def test_members_follow_the_address_and_keep_the_state() -> None:
    hosts = [{"name": "app1", "address": "192.0.2.1"}, {"name": "app2", "address": "192.0.2.2", "port": 7861}]
    members = nginx_members(hosts, [found("app1", "drained", 3), found("old")], 7860, ["max_fails=3"])
    assert [member["server"] for member in members] == [
        "server 192.0.2.1:7860 max_fails=3 weight=3 down;",
        "server 192.0.2.2:7861 max_fails=3;",
        "",
    ]
    assert members[0]["file"]["path"] == "/etc/nginx/langflow/backends.d/app1.conf"
    assert members[2]["file"] == {"path": "/etc/nginx/langflow/backends.d/old.conf", "state": "absent"}


def test_members_refuse_a_bad_name() -> None:
    with pytest.raises(AnsibleFilterError, match="file name|name of a backend"):
        nginx_members([{"name": "../x", "address": "a"}], [], 1)
