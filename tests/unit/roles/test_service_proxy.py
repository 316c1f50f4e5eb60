# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role service_proxy: what it writes, what HAProxy says to it, and what it refuses."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
from typing import Any

import pytest
from rendering import Role

HOSTS = [{"name": f"data{number}", "address": f"192.0.2.3{number}"} for number in (1, 2, 3)]
PASSWORD = "check" + "pass" * 3
GIVEN: dict[str, Any] = {
    "service_proxy_database_hosts": HOSTS,
    "service_proxy_redis_hosts": HOSTS,
    "service_proxy_redis_check_password": PASSWORD,
    "service_proxy_ca_file": "/etc/flowfleet/tls/ca.crt",
}
HA: dict[str, Any] = {"service_proxy_database_mode": "patroni", "service_proxy_redis_mode": "sentinel"}
EXTRA = [
    {"name": "search", "port": 19200, "server_port": 9200, "servers": HOSTS, "check": "tls", "required": False},
    {"name": "other", "port": 15433, "server_port": 5432, "servers": HOSTS[:1], "check": "postgresql"},
]
# Where the program is not installed, only the text is judged; the role validates with the program on every host.
PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")


def role(**changes: Any) -> Role:
    return Role("service_proxy", {}, **{**GIVEN, **changes})


def sections(text: str) -> dict[str, list[str]]:
    """The lines of each section, by its name."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            name = line
            found[name] = []
        elif line.strip() and not line.lstrip().startswith("#"):
            found[name].append(line.strip())
    return found


def config(**changes: Any) -> dict[str, list[str]]:
    return sections(role(**changes).file("haproxy.cfg.j2"))


@pytest.mark.parametrize(
    "changes", [{}, HA, {**HA, "service_proxy_services_extra": EXTRA}, {"service_proxy_redis_hosts": []}]
)
def test_haproxy_accepts_it(changes: dict[str, Any], tmp_path: pathlib.Path, authority: Any) -> None:
    made = role(**changes, service_proxy_ca_file=str(authority.path))
    files = []
    for name in ("secrets.cfg", "haproxy.cfg"):
        text = made.file(f"{name}.j2").replace("/run/service-proxy", str(tmp_path))
        assert "{{" not in text
        (tmp_path / name).write_text(text, encoding="utf-8")
        files += ["-f", str(tmp_path / name)]
    if PROGRAM:
        done = subprocess.run([PROGRAM, "-c", *files], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "WARNING" not in done.stderr + done.stdout


def test_it_listens_on_the_loopback_address_only() -> None:
    text = role(**HA, service_proxy_services_extra=EXTRA).file("haproxy.cfg.j2")
    binds = re.findall(r"^ +bind (\S+)", text, re.M)
    assert binds == [f"127.0.0.1:{port}" for port in (15432, 16379, 16380, 19200, 15433, 18405)]
    assert "mode 600" in re.findall(r"^ +stats socket (.*)$", text, re.M)[0]


def test_every_check_verifies_authority_and_name() -> None:
    found = config(**HA)
    servers = [line for lines in found.values() for line in lines if line.startswith("server ")]
    assert len(servers) == 3 * 3 + 3  # three services, and the sentinels once for both
    for line in servers:
        name = line.split()[1]
        assert line.endswith(f" check ca-file /etc/flowfleet/tls/ca.crt verify required verifyhost {name}")
    text = role(**HA).file("haproxy.cfg.j2")
    assert "verify none" not in text
    for connect in re.findall(r"-check connect (.*)$", text, re.M):
        assert " ssl sni data" in connect or connect == "addr 127.0.0.1 port 18405"


def test_the_primary_is_what_patroni_says() -> None:
    lines = config(**HA)["backend postgresql-data2"]
    assert "http-check connect port 8008 ssl sni data2" in lines
    assert "http-check send meth GET uri /primary ver HTTP/1.1 hdr Host data2" in lines
    assert "http-check expect status 200" in lines
    assert lines[-1].startswith("server data2 192.0.2.32:5432 check")


def test_no_session_waits_for_a_second_try() -> None:
    """One that waits when its server is marked down is never ended towards the client."""
    lines = config(**HA)["defaults"]
    assert "retries 0" in lines
    # Longer than the second after which a lost packet is sent again.
    assert "timeout connect 1500ms" in lines


def test_a_redis_master_needs_its_own_word_and_that_of_most_sentinels() -> None:
    found = config(**HA)
    lines = found["backend queue-data3"]
    assert lines[1] == "tcp-check connect port 6380 ssl sni data3"
    assert lines[2].startswith('tcp-check send "AUTH check ${CHECK_PASSWORD_QUEUE}')
    order = [line for line in lines if "expect" in line or "connect" in line or "proven" in line]
    assert "slave" in order[2]
    assert "master" in order[3]
    assert order[4:] == [
        "tcp-check connect addr 127.0.0.1 port 18405",
        'tcp-check expect string " 200 "',
        "tcp-check set-var(proc.proven_queue_3) bool(true)",
    ]
    local = found["frontend local"]
    votes = [line for line in local if "add(1) if { path /agreed/queue/3 }" in line]
    assert len(votes) == 3
    for number, line in enumerate(votes, 1):
        assert f"srv_is_up(sentinel-{number}-data{number}/data{number})" in line
        assert f"var(proc.said_queue_{number}) -m str 192.0.2.33" in line
    assert "http-request return status 200 if { path /agreed/queue/3 } { var(txn.votes) -m int ge 2 }" in local


def test_each_sentinel_is_asked_in_one_connection_about_every_master() -> None:
    lines = config(**HA)["backend sentinel-2-data2"]
    assert [line.split()[-1] for line in lines if "SENTINEL" in line] == ['cache\\r\\n"', 'queue\\r\\n"']
    assert sum("tcp-check connect" in line for line in lines) == 1
    assert [line for line in lines if "set-var" in line] == [
        'tcp-check set-var(proc.said_cache_2) res.payload(0,0),word(3,"\\r\\n")',
        'tcp-check set-var(proc.said_queue_2) res.payload(0,0),word(3,"\\r\\n")',
    ]


def test_a_server_is_used_only_when_a_check_has_proven_it() -> None:
    found = config(**HA)
    for service in ("postgresql", "cache", "queue"):
        lines = found[f"frontend {service}"]
        used = [line for line in lines if line.startswith("use_backend")]
        assert len(used) == 3
        for number, line in enumerate(used, 1):
            assert f"srv_is_up({service}-data{number}/data{number})" in line
            assert f"var(proc.proven_{service}_{number}) -m bool" in line
        assert not [line for line in lines if line.startswith("default_backend")]
        assert lines[-4] == "tcp-request content reject if WAIT_END"


def test_sessions_to_a_demoted_server_are_cut_and_idle_ones_are_not() -> None:
    defaults = config(**HA)["defaults"]
    assert any("on-marked-down shutdown-sessions" in line for line in defaults)
    assert {"timeout client 20d", "timeout server 20d", "option clitcpka", "option srvtcpka"} <= set(defaults)


def test_standalone_uses_the_first_host_and_asks_no_sentinel() -> None:
    found = config()
    assert [name for name in found if name.startswith("backend")] == [
        "backend postgresql-data1",
        "backend cache-data1",
        "backend queue-data1",
    ]
    assert found["backend postgresql-data1"][1] == "tcp-check connect port 5432"
    assert "sentinel" not in role().file("haproxy.cfg.j2").lower().replace("most sentinels", "")


def test_the_password_is_in_one_secret_file() -> None:
    made = role(**HA)
    files = {item["path"]: item for item in made.value("{{ __service_proxy_service.files }}")}
    secret = files["/etc/flowfleet/service-proxy/secrets.cfg"]
    assert (secret["secret"], secret["mode"]) == (True, "0640")
    assert PASSWORD in made.file("secrets.cfg.j2")
    assert PASSWORD not in made.file("haproxy.cfg.j2") + made.file("service-proxy.service.j2")
    assert PASSWORD not in str(made.value("{{ __service_proxy_service }}"))


def test_a_changed_configuration_is_reloaded() -> None:
    units = role().value("{{ __service_proxy_service.units }}")
    assert [(unit["unit"], unit["apply"], unit["watch"][0]) for unit in units] == [
        ("service-proxy.service", "restart", "/usr/sbin/haproxy"),
        ("service-proxy.service", "reload", "/etc/flowfleet/service-proxy/haproxy.cfg"),
    ]
    assert units[1]["gate"]["url"] == "http://127.0.0.1:18405/ready"


def test_what_is_right_is_not_refused() -> None:
    assert role().refusals() == []
    assert role(**HA, service_proxy_services_extra=EXTRA).refusals() == []


def service(**changes: Any) -> dict[str, Any]:
    return {"service_proxy_services_extra": [{**EXTRA[1], **changes}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"service_proxy_database_hosts": [], "service_proxy_redis_hosts": []}, "nothing to proxy"),
        (service(name="Bad-Name"), "different name"),
        (service(name="cache"), "different name"),
        (service(name="local"), "not local"),
        (service(port=15432), "different port"),
        (service(port=443), "above 1023"),
        (service(servers=[]), "has no servers"),
        (service(servers=[{"name": "a b", "address": "192.0.2.1"}]), "certificate can bear"),
        (service(servers=[HOSTS[0], HOSTS[0]]), "same server twice"),
        (service(check="guess"), "has to be one of"),
        (service(check="redis"), "needs check_user"),
        ({"service_proxy_redis_check_password": 'quote"inside'}, "needs check_user and check_password"),
        ({**HA, "service_proxy_redis_hosts": HOSTS[:2]}, "three or more servers"),
        (
            {**HA, "service_proxy_redis_hosts": [*HOSTS[:2], {"name": "data3", "address": "data3.example.com"}]},
            "with IP addresses",
        ),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    refusals = role(**changes).refusals()
    assert len(refusals) == 1
    assert message in refusals[0]
    assert "inside" not in refusals[0]
