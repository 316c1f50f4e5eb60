"""What the configuration of the shared address must and must not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles/keepalived"
DEFAULTS: dict[str, Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())


def render(**changed: Any) -> list[str]:
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters["comment"] = lambda text, *args, **kwargs: f"! {text}"
    variables = {
        **DEFAULTS,
        "ansible_managed": "managed",
        "keepalived_name": "lb1",
        "keepalived_vip": "192.0.2.100",
        "__keepalived_device": "eth0",
        "__keepalived_address": "192.0.2.1",
        "__keepalived_others": ["192.0.2.2", "192.0.2.3"],
        **changed,
    }
    text = environment.from_string((ROLE / "templates/keepalived.conf.j2").read_text()).render(variables)
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith(("#", "!"))]


def test_equal_peers_and_a_check_that_never_stops_all_of_them() -> None:
    lines = render()
    assert "nopreempt" not in lines  # it would ignore a holder whose priority fell
    assert "state BACKUP" in lines
    assert "priority 100" in lines
    assert [line for line in lines if line.startswith("weight")] == ["weight -50"]  # 0 would mean FAULT


def test_unicast_to_the_others_only() -> None:
    lines = render()
    start = lines.index("unicast_peer {")
    assert lines[start + 1 : start + 4] == ["192.0.2.2", "192.0.2.3", "}"]
    assert "unicast_src_ip 192.0.2.1" in lines


def test_the_check_asks_http_as_another_user() -> None:
    lines = render()
    script = next(line for line in lines if line.startswith("script "))
    assert "--fail" in script
    assert "http://127.0.0.1:8404/nginx-health" in script
    assert "script_user keepalived_script keepalived_script" in lines


def test_password_forces_version_2() -> None:
    assert "vrrp_version 3" in render()
    assert "authentication {" not in render()
    assert {"vrrp_version 2", "auth_pass secret12"} <= set(render(**{"keepalived_password": "secret12"}))
