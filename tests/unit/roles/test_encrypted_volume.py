# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role encrypted_volume: what it refuses, what it installs, what a boot waits for."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from rendering import ROLES, Role

TRIXIE = {"distribution": "Debian", "distribution_major_version": "13"}
BOOKWORM = {"distribution": "Debian", "distribution_major_version": "12"}
NOBLE = {"distribution": "Ubuntu", "distribution_major_version": "24"}
DATA: dict[str, Any] = {
    "name": "pgdata",
    "device": "/dev/vdb",
    "mount": "/var/lib/postgresql",
    "services": ["postgresql.service"],
}
PAPERS: dict[str, Any] = {
    "name": "papers",
    "method": "fscrypt",
    "mount": "/srv/papers",
    "services": ["postgresql.service"],
}
FREE: dict[str, Any] = {
    "device": "/dev/vdb", "path": "/dev/vdb", "exists": True, "signatures": [], "luks": {}, "blank": True,
    "holders": [], "partitions": [], "mounts": [], "swap": False,
}  # fmt: skip
BARE: dict[str, Any] = {"mounted": False, "entries": 0}
OURS: dict[str, Any] = {
    **FREE,
    "blank": False,
    "luks": {"label": "pgdata", "tokens": []},
    "signatures": [{"type": "crypto_LUKS"}],
}


def role(*volumes: dict[str, Any], facts: dict[str, Any] = TRIXIE, **given: Any) -> Role:
    return Role("encrypted_volume", facts, encrypted_volume_list=list(volumes), **given)


def checks(*volumes: dict[str, Any], **given: Any) -> list[str]:
    """What the role says about its variables."""
    found = role(*volumes, **given).value("{{ __encrypted_volume_checks | rejectattr('ok') | map(attribute='text') }}")
    return [str(text) for text in found]


def refusals(disks: list[dict[str, Any]], places: dict[str, Any] | None = None, *volumes: dict[str, Any]) -> list[str]:
    """What the role says about what it found on the host."""
    found = {"devices": disks, "mount_points": places or {DATA["mount"]: BARE}}
    return list(role(*(volumes or [DATA]), __encrypted_volume_disks=found).value("{{ __encrypted_volume_refusals }}"))


def options(kind: str, volume: dict[str, Any], **given: Any) -> list[str]:
    entry = {"unlock": "keyfile", "mount_options": ["noatime"], **volume}
    return list(role(volume, __encrypted_volume=entry, **given).value("{{ __encrypted_volume_" + kind + "_options }}"))


def test_a_plain_list_is_fine() -> None:
    assert checks(DATA, PAPERS) == []
    assert refusals([FREE]) == []


@pytest.mark.parametrize("name", ["", "-x", "a b", "a\n", "a/b", "control", "x" * 48])
def test_names_that_no_device_can_have(name: str) -> None:
    assert "a name is made of" in checks({**DATA, "name": name})[0]


@pytest.mark.parametrize("name", ["a", "pg-data_1", "controls", "x" * 47])
def test_names_that_are_fine(name: str) -> None:
    assert checks({**DATA, "name": name}) == []


@pytest.mark.parametrize("mount", ["/", "srv", "/srv/", "/srv//x", "/srv/../etc", "/srv/a b", "/srv/%i", "/srv\n"])
def test_paths_that_a_unit_cannot_name(mount: str) -> None:
    assert "mount is an absolute path" in checks({**DATA, "mount": mount})[0]


@pytest.mark.parametrize("mount", ["/etc", "/var", "/var/lib", "/usr", "/boot", "/run"])
def test_directories_of_the_system_itself(mount: str) -> None:
    assert "directory of the system" in checks({**DATA, "mount": mount})[0]


@pytest.mark.parametrize(
    ("volumes", "given", "text"),
    [
        ([DATA, {**DATA, "mount": "/srv/x"}], {}, "the same name"),
        ([DATA, {**DATA, "name": "other"}], {}, "the same mount"),
        ([{**DATA, "device": ""}], {}, "needs a device"),
        ([{**DATA, "unlock": "tang"}], {}, "encrypted_volume_tang_servers is empty"),
        (
            [{**DATA, "unlock": "tang"}],
            {"encrypted_volume_tang_servers": [{"url": "u", "thp": "t"}], "encrypted_volume_tang_threshold": 2},
            "larger than the number",
        ),
    ],
)
def test_lists_that_cannot_be_meant(volumes: list[dict[str, Any]], given: dict[str, Any], text: str) -> None:
    assert text in checks(*volumes, **given)[0]


@pytest.mark.parametrize(
    ("disk", "place", "text"),
    [
        ({"device": "/dev/vdb", "path": "/dev/vdb", "exists": False}, BARE, "there is no device"),
        ({**FREE, "blank": False}, BARE, "holds data (without a known signature)"),
        ({**FREE, "blank": False, "signatures": [{"type": "ext4"}]}, BARE, "holds data (ext4)"),
        ({**FREE, "blank": False, "signatures": [{"type": "dos"}]}, BARE, "holds data (dos)"),
        ({**OURS, "luks": {"label": "other"}}, BARE, 'did not make for it (label "other")'),
        ({**OURS, "luks": {"label": ""}}, BARE, 'did not make for it (label "")'),
        ({**FREE, "holders": ["dm-0"]}, BARE, "is in use"),
        ({**FREE, "partitions": ["vdb1"]}, BARE, "is in use"),
        ({**FREE, "swap": True}, BARE, "is in use"),
        (FREE, {"mounted": False, "entries": 1}, "holds 1 files, which the mount would hide"),
        (OURS, {"mounted": False, "entries": 1}, "holds 1 files, which the mount would hide"),
    ],
)
def test_a_device_or_a_directory_that_holds_data(disk: dict[str, Any], place: dict[str, Any], text: str) -> None:
    found = refusals([disk], {DATA["mount"]: place})
    assert len(found) == 1
    assert text in found[0]


def test_our_own_volume_is_taken_again() -> None:
    assert refusals([OURS], {DATA["mount"]: {"mounted": True, "entries": 7}}) == []
    assert refusals([OURS]) == []


def test_one_device_by_two_names() -> None:
    other = {**DATA, "name": "other", "device": "/dev/disk/by-id/x", "mount": "/srv/other"}
    found = refusals(
        [FREE, {**FREE, "device": "/dev/disk/by-id/x"}], {DATA["mount"]: BARE, "/srv/other": BARE}, DATA, other
    )
    assert found == ["other: /dev/disk/by-id/x is the device of another volume too."]


@pytest.mark.parametrize(
    ("facts", "unlock", "wanted"),
    [
        (TRIXIE, "keyfile", ["cryptsetup", "systemd-cryptsetup"]),
        (BOOKWORM, "keyfile", ["cryptsetup"]),
        (NOBLE, "keyfile", ["cryptsetup"]),
        (TRIXIE, "tpm2", ["cryptsetup", "systemd-cryptsetup", "tpm2-tools", "libtss2-tcti-device0t64"]),
        (BOOKWORM, "tpm2", ["cryptsetup", "tpm2-tools", "libtss2-tcti-device0"]),
        (NOBLE, "tpm2", ["cryptsetup", "tpm2-tools", "libtss2-tcti-device0t64"]),
        (TRIXIE, "tang", ["cryptsetup", "systemd-cryptsetup", "clevis-luks", "clevis-systemd"]),
    ],
)
def test_what_opens_it_at_boot_is_installed(facts: dict[str, Any], unlock: str, wanted: list[str]) -> None:
    assert role({**DATA, "unlock": unlock}, facts=facts).value("{{ __encrypted_volume_packages }}") == wanted


@pytest.mark.parametrize("unlock", ["keyfile", "tang", "tpm2", "none"])
def test_a_boot_never_waits_for_ever(unlock: str) -> None:
    found = options("crypt", {**DATA, "unlock": unlock})
    assert {"luks", "nofail", "x-systemd.device-timeout=300s", "timeout=300s"} <= set(found)
    assert ("tpm2-device=auto" in found) is (unlock == "tpm2")
    for kind in ("crypt", "fstab"):
        found = options(kind, {**DATA, "unlock": unlock})
        assert ("_netdev" in found) is (unlock == "tang")
        assert ("noauto" in found) is (unlock == "none")
        assert "nofail" in found


def test_discards_are_passed_on_only_when_told_to() -> None:
    assert "discard" not in options("crypt", DATA)
    assert "discard" in options("crypt", DATA, encrypted_volume_discard=True)


def test_a_service_waits_for_each_of_its_volumes() -> None:
    needed = [{"method": "luks", **DATA}, PAPERS]
    text = role(DATA, PAPERS).file("service.conf.j2", __encrypted_volume_needed=needed)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if line] == [
        "[Unit]",
        "RequiresMountsFor=/var/lib/postgresql",
        "AssertPathIsMountPoint=/var/lib/postgresql",
        "Requires=flowfleet-unlock-papers.service",
        "After=flowfleet-unlock-papers.service",
    ]


def test_a_service_of_two_volumes_has_one_file() -> None:
    files = role(DATA, PAPERS).value("{{ __encrypted_volume_dropins }}")
    assert [item["path"] for item in files] == [
        "/etc/systemd/system/postgresql.service.d",
        "/etc/systemd/system/postgresql.service.d/encrypted-volume.conf",
    ]


@pytest.mark.parametrize(("unlock", "keys"), [("keyfile", 1), ("tang", 0), ("tpm2", 0), ("none", 0)])
def test_only_a_key_file_lies_on_the_host(unlock: str, keys: int) -> None:
    found = role({**DATA, "unlock": unlock}, PAPERS).value("{{ __encrypted_volume_with_key | map(attribute='name') }}")
    assert list(found) == ["pgdata"] * keys + ["papers"]


def test_every_task_that_sees_a_secret_hides_it() -> None:
    """What names the passphrase hides its output."""

    def flat(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [leaf for task in tasks for leaf in (flat(task["block"]) if "block" in task else [task])]

    found = [
        task
        for file in sorted((ROLES / "encrypted_volume/tasks").glob("*.yml"))
        for task in flat(yaml.safe_load(file.read_text()))
        if "__encrypted_volume_passphrase" in str(task)
    ]
    assert len(found) == 4
    assert all(task["no_log"] == "{{ encrypted_volume_no_log }}" for task in found)


def test_volumes_come_before_everything_that_keeps_data() -> None:
    """In the playbook for the whole cluster, whatever else is moved about in it."""
    plays = yaml.safe_load((ROLES.parent / "playbooks/site.yml").read_text())
    order = [
        next(iter(task[key]["name"] for key in task if key.endswith(("import_role", "include_role"))), "")
        for play in plays
        for task in play.get("tasks", [])
        if any(key.endswith(("import_role", "include_role")) for key in task)
    ]
    names = [name.removeprefix("flowfleet.langflow.") for name in order]
    first = {name: names.index(name) for name in names}
    assert first["common"] < first["encrypted_volume"]
    for name in ("etcd", "postgresql", "backup", "redis", "langflow"):
        assert first["encrypted_volume"] < first[name], name
