# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role common: the firewall's table, the package sources and the files of the baseline."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.flowfleet.langflow.plugins.filter.firewall_rules import FilterModule, firewall_rules
from rendering import Role

ROOT = pathlib.Path(__file__).resolve().parents[3]
DEBIAN = {"distribution": "Debian", "distribution_major_version": "13", "distribution_release": "trixie"}
UBUNTU = {"distribution": "Ubuntu", "distribution_major_version": "24", "distribution_release": "noble"}
LB = [{"name": "lb1", "address": "192.0.2.11"}, {"name": "lb2", "address": "192.0.2.12"}]
APP = [{"name": "app1", "address": "192.0.2.21"}, {"name": "app2", "address": "192.0.2.22"}]
DATA = [{"name": "data1", "address": "192.0.2.31"}]
FLEET: dict[str, Any] = {
    "langflow_fleet_lb_hosts": LB,
    "langflow_fleet_app_hosts": APP,
    "langflow_fleet_database_hosts": DATA,
    "langflow_fleet_redis_hosts": DATA,
}


def role(facts: dict[str, str] | None = None, **given: Any) -> Role:
    return Role("common", facts or DEBIAN, **given)


def topology(address: str, **given: Any) -> dict[str, dict[str, Any]]:
    rows = role(**FLEET, **given).value("{{ common_firewall_topology }}")
    return {row["name"]: row for row in firewall_rules(rows, [address])}


# --- the filter -------------------------------------------------------------------------------------------------------


def test_filter_is_registered() -> None:
    assert FilterModule().filters() == {"firewall_rules": firewall_rules}


def test_monitoring_reaches_every_host_and_nobody_else_does() -> None:
    hosts = [{"name": "mon1", "address": "192.0.2.41"}, {"name": "mon2", "address": "192.0.2.43"}]
    given = {"langflow_fleet_monitoring_hosts": hosts, "common_firewall_operators": ["198.51.100.0/24"]}
    both = ["192.0.2.41", "192.0.2.43"]
    for address in ("192.0.2.11", "192.0.2.21", "192.0.2.31"):
        assert topology(address, **given)["exporters"]["from4"] == both
        assert "monitoring" not in topology(address, **given)
    found = {name: row["from4"] for name, row in topology("192.0.2.41", **given).items()}
    assert found["alertmanager peers"] == found["exporters"] == ["192.0.2.43"]
    assert found["monitoring"] == ["192.0.2.43", "198.51.100.0/24"]
    assert found["langflow metrics"] == ["192.0.2.21", "192.0.2.22"]
    closed = topology("192.0.2.11", common_firewall_clients=["198.51.100.7"], **given)["front door"]
    assert closed["from4"] == [*both, "198.51.100.7"]


def test_logs_and_traces_have_their_ways_and_no_others() -> None:
    keepers = [{"name": f"log{n}", "address": f"192.0.2.{60 + n}"} for n in (1, 2, 3)]
    monitor = [{"name": "mon1", "address": "192.0.2.41"}]
    given: dict[str, Any] = {
        "langflow_fleet_monitoring_hosts": monitor,
        "langflow_fleet_logging_hosts": keepers,
        "langflow_fleet_every_host": [*LB, *APP, *DATA, *monitor, *keepers],
        "langflow_fleet_log_target": "elasticsearch",
        "langflow_fleet_kibana_url": "https://192.0.2.61:5601",
        "langflow_fleet_traced": True,
        "common_firewall_operators": ["198.51.100.0/24"],
    }
    first, second = topology("192.0.2.61", **given), topology("192.0.2.62", **given)
    every = ["192.0.2.11", "192.0.2.12", "192.0.2.21", "192.0.2.22", "192.0.2.31", "192.0.2.41"]
    assert first["elasticsearch"]["from4"] == [*every, "192.0.2.62/31"]
    assert first["elasticsearch peers"]["from4"] == ["192.0.2.62/31"]
    assert first["kibana"]["from4"] == ["192.0.2.41", "198.51.100.0/24"]
    assert "kibana" not in second
    assert "logs" not in first
    assert topology("192.0.2.41", **given)["traces"]["from4"] == every[:4]
    behind = topology("192.0.2.61", **{**given, "langflow_fleet_log_target": "logstash"})
    assert behind["elasticsearch"]["from4"] == ["192.0.2.41", "192.0.2.62/31"]
    assert behind["logs"]["from4"] == [*every, "192.0.2.62/31"]
    assert {name for row in (topology("192.0.2.21", **given), topology("192.0.2.31", **given)) for name in row} <= {
        "langflow", "postgresql", "redis", "exporters",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("192.0.2.11", {"front door": "any", "vrrp": ["192.0.2.12"]}),
        ("192.0.2.21", {"langflow": ["192.0.2.11", "192.0.2.12"]}),
        ("192.0.2.31", {"postgresql": ["192.0.2.21", "192.0.2.22"], "redis": ["192.0.2.21", "192.0.2.22"]}),
        ("192.0.2.99", {}),
    ],
)
def test_each_tier_takes_its_own_rows(address: str, wanted: dict[str, Any]) -> None:
    found = {name: "any" if row["any"] else row["from4"] for name, row in topology(address).items()}
    # Neighbours are merged into the networks that hold them and nothing else.
    expected = {
        name: value
        if value == "any"
        else firewall_rules([{"name": "x", "port": 1, "from": value}], "192.0.2.1")[0]["from4"]
        for name, value in wanted.items()
    }
    assert found == expected


def test_a_cluster_of_data_talks_among_itself_and_nobody_else_does() -> None:
    hosts = [{"name": f"data{n}", "address": f"192.0.2.{30 + n}"} for n in range(1, 4)]
    backup = [{"name": "backup1", "address": "192.0.2.51"}]
    given: dict[str, Any] = {
        **FLEET,
        "langflow_fleet_database_hosts": hosts,
        "langflow_fleet_redis_hosts": hosts,
        "langflow_fleet_etcd_hosts": hosts,
        "langflow_fleet_backup_hosts": backup,
        "langflow_fleet_database_mode": "patroni",
        "langflow_fleet_redis_mode": "sentinel",
    }
    rows = role(**given).value("{{ common_firewall_topology }}")

    def sources(address: str) -> dict[str, tuple[list[str], list[str]]]:
        return {row["name"]: (row["ports"], row["from4"]) for row in firewall_rules(rows, [address])}

    others, clients = ["192.0.2.32/31"], ["192.0.2.21", "192.0.2.22"]
    assert sources("192.0.2.31") == {
        "postgresql": (["5432"], clients + others),
        "patroni": (["8008"], clients + others),
        "etcd clients": (["2379"], others),
        "etcd peers": (["2380"], others),
        "redis": (["6379-6380"], clients + others),
        "sentinel": (["26379"], clients + others),
        "backup": (["8432"], [*others, "192.0.2.51"]),
    }
    assert sources("192.0.2.51") == {"backup": (["8432"], ["192.0.2.31", *others])}
    assert set(sources("192.0.2.21")) == {"langflow"}


@pytest.mark.parametrize("archived", [True, False])
def test_servers_that_share_a_bucket_take_backups_of_each_other(archived: bool) -> None:
    hosts = [{"name": f"data{n}", "address": f"192.0.2.{30 + n}"} for n in range(1, 4)]
    given = {**FLEET, "langflow_fleet_database_hosts": hosts, "langflow_fleet_archived": archived}
    rows = role(**given).value("{{ common_firewall_topology }}")
    found = [row for row in firewall_rules(rows, ["192.0.2.31"]) if row["name"] == "backup"]
    assert [(row["ports"], row["from4"]) for row in found] == ([(["8432"], ["192.0.2.32/31"])] if archived else [])


def test_ports_follow_the_variables_of_the_roles() -> None:
    assert topology("192.0.2.31", postgresql_port=5544)["postgresql"]["ports"] == ["5544"]
    assert topology("192.0.2.31")["redis"]["ports"] == ["6379-6380"]
    assert topology("192.0.2.11", nginx_https_port=8443)["front door"]["ports"] == ["80", "8443"]


def test_one_host_with_every_tier_only_opens_its_door() -> None:
    one = [{"name": "one", "address": "192.0.2.1"}]
    rows = role(**dict.fromkeys(FLEET, one)).value("{{ common_firewall_topology }}")
    assert [row["name"] for row in firewall_rules(rows, ["192.0.2.1"])] == ["front door"]


def test_overlapping_sources_are_merged_because_nft_refuses_them() -> None:
    (row,) = firewall_rules(
        [
            {
                "name": "x",
                "port": [443, "8000-8010", 8005, 80],
                "from": ["192.0.2.0/24", "192.0.2.7", "2001:db8::1", "2001:db8::/64"],
            }
        ],
        "198.51.100.1",
    )
    assert row["from4"] == ["192.0.2.0/24"]
    assert row["from6"] == ["2001:db8::/64"]
    assert row["ports"] == ["80", "443", "8000-8010"]


def test_a_row_for_a_network_is_taken_by_its_hosts() -> None:
    row = {"name": "x", "port": 1, "from": "any", "to": ["192.0.2.0/28"]}
    assert firewall_rules([row], "192.0.2.3")
    assert not firewall_rules([row], "192.0.2.33")
    assert not firewall_rules([row], "2001:db8::3")


def test_a_row_without_sources_opens_nothing() -> None:
    assert firewall_rules([{"name": "x", "port": 1, "from": []}], "192.0.2.3") == []
    assert firewall_rules([{"name": "x", "port": 1, "from": ["192.0.2.3"]}], "192.0.2.3") == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "x", "port": 1, "from": ["app1"]}, "'app1' in from of 'x' is neither an IP address nor a network"),
        (
            {"name": "x", "port": 1, "from": [{"name": "app1", "address": "app1.example.com"}]},
            r"'app1\.example\.com' \(host app1\)",
        ),
        ({"name": "x", "port": 1, "from": "any", "to": ["db"]}, "'db' in to of 'x'"),
        ({"name": "x", "port": 1}, "'x' does not say from whom"),
        ({"name": "x", "from": "any"}, "tcp needs a port"),
        ({"name": "x", "port": 1, "proto": "vrrp", "from": "any"}, "vrrp has no ports"),
        ({"name": "x", "port": 70000, "from": "any"}, "'70000' in port of 'x'"),
        ({"name": "x", "port": "9-5", "from": "any"}, "'9-5' in port"),
        ({"name": "x", "port": True, "from": "any"}, "'True' in port"),
        ({"name": "x", "port": 1, "proto": "icmp", "from": "any"}, "'icmp' in proto"),
        ({"name": 'x"; drop', "port": 1, "from": "any"}, "is not a name of a row"),
        ({"name": "x", "port": 1, "from": "any", "dport": 2}, "unknown keys: dport"),
        ("x", "expected rows"),
    ],
)
def test_mistakes_are_told(row: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        firewall_rules([row], "192.0.2.3")


def test_a_host_without_an_address_is_told() -> None:
    with pytest.raises(AnsibleFilterError, match="langflow_fleet_address"):
        firewall_rules([{"name": "x", "port": 1, "from": "any"}], ["app1"])


# --- what is written --------------------------------------------------------------------------------------------------


def rules(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if " accept comment " in line]


def test_the_table_drops_by_default_and_touches_only_itself() -> None:
    wanted = firewall_rules(
        [
            {"name": "ssh", "port": 22, "from": ["192.0.2.0/24", "2001:db8::/32"]},
            {"name": "front door", "port": [80, 443], "from": "any"},
            {"name": "vrrp", "proto": "vrrp", "from": ["192.0.2.12"]},
        ],
        "198.51.100.1",
    )
    text = role().file("firewall.nft.j2", __common_firewall_rules=wanted)
    assert "policy drop;" in text
    assert "flush ruleset" not in text
    assert re.findall(r"^(?:delete )?table .*$", text, re.M) == [
        "table inet flowfleet",
        "delete table inet flowfleet",
        "table inet flowfleet {",
    ]
    assert rules(text)[2:] == [
        'ip saddr { 192.0.2.0/24 } tcp dport { 22 } accept comment "ssh"',
        'ip6 saddr { 2001:db8::/32 } tcp dport { 22 } accept comment "ssh"',
        'tcp dport { 80, 443 } accept comment "front door"',
        'ip saddr { 192.0.2.12 } meta l4proto 112 accept comment "vrrp"',
    ]
    # Names of protocols need /etc/protocols, which a small Debian lacks.
    assert not re.search(r"l4proto [a-z]", text)


def paths(found: list[dict[str, Any]], state: str | None = None) -> list[str]:
    return [item["path"] for item in found if state is None or item.get("state", "file") == state]


def test_everything_optional_can_be_off() -> None:
    off = role(common_time_sync_enabled=False, common_sysctl_enabled=False)
    assert off.value("{{ __common_apt_files }}") == []
    assert set(paths(off.value("{{ __common_baseline_files }}"))) == set(off.value("{{ __common_firewall_files }}"))
    assert {item["state"] for item in off.value("{{ __common_baseline_files }}")} == {"absent"}
    assert off.value("{{ __common_baseline_apply }}") == []
    assert off.value("{{ __common_baseline_packages }}") == ["acl", "ca-certificates", "openssl", "procps"]


def test_everything_optional_can_be_on() -> None:
    on = role(
        common_firewall_enabled=True,
        common_ca_certificates=[{"name": "site", "content": "PEM"}, {"name": "old", "state": "absent"}],
    )
    found = on.value("{{ __common_baseline_files }}")
    assert "/usr/local/share/ca-certificates/flowfleet-site.crt" in paths(found, "file")
    assert paths(found, "absent") == ["/usr/local/share/ca-certificates/flowfleet-old.crt"]
    assert {"/etc/sysctl.d/60-flowfleet.conf", "/etc/chrony/chrony.conf", "/etc/flowfleet/firewall.nft"} <= set(
        paths(found, "file")
    )
    assert next(item for item in found if item["path"].endswith(".nft"))["validate"] == "nft -c -f %s"
    assert on.value("{{ __common_baseline_apply }}") == [
        "update-ca-certificates",
        "sysctl -q -p /etc/sysctl.d/60-flowfleet.conf",
    ]
    assert {"nftables", "chrony"} <= set(on.value("{{ __common_baseline_packages }}"))


def stanzas(text: str) -> list[dict[str, str]]:
    blocks = [b for b in text.split("\n\n") if "Types:" in b]
    return [dict(line.split(": ", 1) for line in block.splitlines() if ": " in line) for block in blocks]


@pytest.mark.parametrize(
    ("facts", "suites"),
    [(DEBIAN, ["trixie trixie-updates", "trixie-security"]), (UBUNTU, ["noble noble-updates", "noble-security"])],
)
def test_a_mirror_replaces_the_sources(facts: dict[str, str], suites: list[str]) -> None:
    there = role(
        facts,
        common_apt_mirror="https://mirror.example.com/os",
        common_apt_mirror_security="https://mirror.example.com/sec",
    )
    found = there.value("{{ __common_apt_files }}")
    assert paths(found, "absent") == ["/etc/apt/sources.list"]
    text = there.file("apt.sources.j2", __common_stanzas=there.value("{{ __common_apt_mirror_stanzas }}"))
    assert [s["Suites"] for s in stanzas(text)] == suites
    assert [s["URIs"] for s in stanzas(text)] == ["https://mirror.example.com/os", "https://mirror.example.com/sec"]
    assert all(s["Signed-By"].startswith("/usr/share/keyrings/") for s in stanzas(text))


def test_a_repository_brings_its_key_and_its_pin() -> None:
    repository = {
        "name": "site",
        "uris": ["https://apt.example.com"],
        "suites": ["stable"],
        "components": ["main"],
        "key": "KEY\n",
        "pin": 700,
    }
    there = role(common_apt_repositories=[repository, {"name": "gone", "state": "absent"}])
    found = there.value("{{ __common_apt_files }}")
    assert paths(found, "file") == [
        "/etc/apt/keyrings/flowfleet-site.asc",
        "/etc/apt/sources.list.d/flowfleet-site.sources",
        "/etc/apt/preferences.d/flowfleet-site",
    ]
    assert found[0]["content"] == "KEY\n"
    assert "/etc/apt/sources.list.d/flowfleet-gone.sources" in paths(found, "absent")
    assert found[1]["vars"]["__common_stanzas"][0]["signed_by"] == "/etc/apt/keyrings/flowfleet-site.asc"
    assert 'Pin: origin "apt.example.com"' in there.file("apt-pin.j2", __common_repository=repository)


def test_logins_of_mirrors_are_secret() -> None:
    found = role(common_apt_credentials=[{"machine": "m", "login": "u", "password": "p"}]).value(
        "{{ __common_apt_files }}"
    )
    assert [(item["mode"], item["secret"]) for item in found] == [("0600", True)]


def test_settings_of_a_tier_win() -> None:
    text = role(common_sysctl={"vm.swappiness": 10, "a.b": 1}, common_sysctl_extra={"vm.swappiness": 1}).file(
        "sysctl.conf.j2"
    )
    assert [line for line in text.splitlines() if "=" in line] == ["a.b = 1", "vm.swappiness = 1"]


def test_time_servers_replace_the_pool() -> None:
    assert "pool 2.debian.pool.ntp.org iburst" in role().file("chrony.conf.j2")
    text = role(common_time_servers=["ntp1.example.com", "ntp2.example.com"]).file("chrony.conf.j2")
    assert re.findall(r"^(?:server|pool) (\S+)", text, re.M) == ["ntp1.example.com", "ntp2.example.com"]


def test_names_are_left_out_of_the_hosts_file() -> None:
    entries = [
        {"name": "b", "address": "192.0.2.2"},
        {"name": "a", "address": "2001:db8::1"},
        {"name": "c", "address": "c.example.com"},
    ]
    assert role(common_hosts_file_entries=entries).file("hosts.block.j2").splitlines() == [
        "2001:db8::1 a",
        "192.0.2.2 b",
    ]


@pytest.mark.parametrize(
    ("facts", "given", "message"),
    [
        ({**DEBIAN, "distribution": "Fedora"}, {}, "Fedora is not supported"),
        ({**DEBIAN, "distribution_major_version": "11"}, {}, "Debian 11 is too old"),
        (DEBIAN, {"common_apt_mirror_security": "https://mirror.example.com"}, "common_apt_mirror is empty"),
        (DEBIAN, {}, ""),
    ],
)
def test_preflight(facts: dict[str, str], given: dict[str, Any], message: str) -> None:
    problems = role(facts, **given).value("{{ __common_problems }}")
    assert message in " ".join(problems) if message else problems == []


# --- the engine -------------------------------------------------------------------------------------------------------


def tasks(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load((ROOT / "roles/common/tasks" / file).read_text(encoding="utf-8")))


def test_the_engine_knows_the_keys_it_documents() -> None:
    spec = yaml.safe_load((ROOT / "roles/common/meta/argument_specs.yml").read_text(encoding="utf-8"))
    documented = set(spec["argument_specs"]["service"]["options"]["common_service"]["options"]) - {"name"}
    code = (ROOT / "roles/common/tasks/service.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"common_service(?:\.|\[')(\w+)", code)) == documented


def test_the_engine_passes_on_all_units_in_one_call() -> None:
    """With all that is said about them: a loop would cost one more call for each unit of each host."""
    units = [
        {"unit": "x.service", "watch": ["/a"], "enabled": True, "gate": {"type": "tcp", "port": 1}},
        # One unit may stand there twice, with files that need a restart and with files that need a reload.
        {"unit": "x.service", "watch": ["/b"], "apply": "reload", "mode": "start"},
    ]
    there = role(common_service={"units": units}, common_service_phase=["units"])
    (task,) = [task for task in tasks("service.yml") if "flowfleet.langflow.rolling_restart" in task]
    assert "loop" not in task
    assert list(task["flowfleet.langflow.rolling_restart"]) == ["units"]
    assert there.value(task["flowfleet.langflow.rolling_restart"]["units"]) == units


def test_nothing_starts_by_itself() -> None:
    for file in ("service.yml", "main.yml"):
        for task in tasks(file):
            if "ansible.builtin.apt" in task:
                assert task["ansible.builtin.apt"]["policy_rc_d"] == 101, task["name"]


def test_apt_is_not_asked_for_what_is_there() -> None:
    """One look for the whole run; what is half installed, of another architecture or not seen at all goes to apt."""
    (seen,) = [task for task in tasks("main.yml") if task.get("register") == "__common_packages_there"]
    assert seen["check_mode"] is False
    (task,) = [task for task in tasks("service.yml") if "ansible.builtin.apt" in task]
    lines = ["ii nginx", "ii libnginx-mod-http-perl", "iF half", "rc gone", "ii lib:i386"]
    for packages, there, asked in (
        (["nginx"], {"stdout_lines": lines}, False),
        (["nginx", "other"], {"stdout_lines": lines}, True),
        (["half"], {"stdout_lines": lines}, True),
        (["gone"], {"stdout_lines": lines}, True),
        (["lib"], {"stdout_lines": lines}, True),
        (["nginx=1.2"], {"stdout_lines": lines}, True),
        (["nginx"], {}, True),
        ([], {}, False),
    ):
        given = role(common_service={"packages": packages}, common_service_phase=["packages"])
        told = [given.value("{{ " + line + " }}", __common_packages_there=there) for line in task["when"]]
        assert all(told) is asked, packages


def test_a_repeated_run_is_cheap() -> None:
    """Four module calls without options, whatever is configured as data."""
    optional = ("common_firewall_enabled", "common_hosts_file_enabled", "__common_apt_files", "distribution_release")
    calls = [
        t
        for t in tasks("main.yml")
        if not any(o in str(t.get("when", "")) for o in optional) and "ansible.builtin.assert" not in t
    ]
    assert len(calls) == 4


def test_the_filter_is_confirmed_before_it_stays() -> None:
    names = [next(key for key in task if "." in key) for task in tasks("firewall_apply.yml")]
    assert names == [
        "ansible.builtin.systemd_service",  # the timer that takes the filter off
        "flowfleet.langflow.rolling_restart",
        "ansible.builtin.meta",
        "ansible.builtin.wait_for_connection",
        "ansible.builtin.systemd_service",
        "ansible.builtin.systemd_service",
    ]
    there = role(common_firewall_confirm_timeout=60)
    assert "OnActiveSec=75" in there.file("firewall-rollback.timer.j2")
    assert "disable --now flowfleet-firewall.service" in there.file("firewall-rollback.service.j2")


# --- the engine behind every service ----------------------------------------------------------------------------------


def test_units_stop_at_the_first_that_fails_and_show_no_gate(play: Any) -> None:
    """A setting that one unit does not start with must not take the others down, and a gate may hold a password."""
    hidden = "S3cr3t-of-the-gate"
    gate = {"type": "command", "argv": ["true"], "environment": {"WORD": hidden}}
    units = [{"unit": f"no-such-unit-{name}.service", "gate": gate} for name in ("one", "two")]
    task = {
        "name": "Bring it up",
        "ansible.builtin.import_role": {"name": "flowfleet.langflow.common", "tasks_from": "service.yml"},
        "vars": {"common_service": {"name": "x", "units": units}, "common_service_phase": ["units"]},
    }
    run = play([task], "-vvv")
    assert run.returncode != 0
    assert "no-such-unit-one.service" in run.stdout, run.stdout + run.stderr
    assert run.stdout.count('"unit_state": ') == 1, "the second was not touched"
    assert '"WORD": "********"' in run.stdout, "the arguments are shown"
    assert hidden not in run.stdout + run.stderr
