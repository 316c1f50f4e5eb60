# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role nvidia_gpu: which driver for which GPU and system, what is refused, and what waits until nobody uses the GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from rendering import Role

TRIXIE = {
    "distribution": "Debian",
    "distribution_major_version": "13",
    "distribution_release": "trixie",
    "kernel": "6.12.48+deb13-amd64",
}
BOOKWORM = {
    **TRIXIE,
    "distribution_major_version": "12",
    "distribution_release": "bookworm",
    "kernel": "6.1.0-32-cloud-amd64",
}
NOBLE = {**TRIXIE, "distribution": "Ubuntu", "distribution_major_version": "24", "kernel": "6.8.0-90-generic"}
NVIDIA: dict[str, Any] = {
    "nvidia_gpu_source": "nvidia",
    "nvidia_gpu_repository_uri": "https://mirror.example.com/cuda/debian13/x86_64/",
    "nvidia_gpu_repository_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----\n",
}
PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"


def bus(*architectures: str, modules: str = "possible", **more: Any) -> dict[str, Any]:
    nvidia = {"count": len(architectures), "architectures": sorted(set(architectures)), "open_modules": modules}
    nvidia |= {"mig_instances": 0, "nvswitches": [], "loaded_version": ""}
    return {"nvidia": {**nvidia, **more}, "summary": "what is there", "reboot_reasons": [], "reboot_blockers": []}


NONE = bus(modules="")


def role(facts: dict[str, Any] | None = None, found: dict[str, Any] | None = None, **changes: Any) -> Role:
    given = {"nvidia_gpu_bus": found or bus("ampere"), **changes}
    return Role("nvidia_gpu", dict(facts or TRIXIE), **given)


def packages(**versions: str) -> dict[str, list[dict[str, str]]]:
    return {name.replace("_", "-"): [{"version": version}] for name, version in versions.items()}


@pytest.mark.parametrize(
    ("facts", "changes", "branch"),
    [(TRIXIE, {}, "550"), (BOOKWORM, {}, "535"), (TRIXIE, NVIDIA, "580"), (NOBLE, NVIDIA, "580")],
)
def test_the_branch_follows_from_the_source(facts: dict[str, Any], changes: dict[str, Any], branch: str) -> None:
    made = role(facts, **changes)
    assert str(made.value("{{ nvidia_gpu_branch }}")) == branch
    assert made.refusals() == []


@pytest.mark.parametrize(
    ("found", "changes", "kind"),
    [
        (bus("ampere"), NVIDIA, "open"),
        (bus("ampere"), {}, "proprietary"),  # branch 550
        (bus("pascal", modules="impossible"), NVIDIA, "proprietary"),
        (bus("hopper", modules="required"), {}, "open"),
        (bus("blackwell", modules="required"), NVIDIA, "open"),
        (bus("ampere"), {**NVIDIA, "nvidia_gpu_modules": "proprietary"}, "proprietary"),
        (bus("ampere"), {"nvidia_gpu_modules": "open"}, "open"),
    ],
)
def test_the_kernel_modules_follow_from_the_gpus(found: dict[str, Any], changes: dict[str, Any], kind: str) -> None:
    made = role(None, found, **changes)
    assert made.refusals() == []
    assert made.value("{{ __nvidia_gpu_kind }}") == kind
    package = {
        ("open", True): "nvidia-kernel-open-dkms",
        ("open", False): "nvidia-open-kernel-dkms",
    }.get((kind, "nvidia_gpu_source" in changes), "nvidia-kernel-dkms")
    assert made.value("{{ __nvidia_gpu_wanted }}")[0] == package


@pytest.mark.parametrize(
    ("found", "changes", "named"),
    [
        (NONE, {"nvidia_gpu_required": True}, "nvidia_gpu_required"),
        (bus("blackwell", modules="required"), {}, "nvidia_gpu_branch"),
        (
            bus("blackwell", modules="required"),
            {**NVIDIA, "nvidia_gpu_modules": "proprietary"},
            "nvidia_gpu_modules",
        ),
        (bus("volta", modules="impossible"), {"nvidia_gpu_modules": "open"}, "nvidia_gpu_modules"),
        (bus("volta", modules="impossible"), {**NVIDIA, "nvidia_gpu_branch": 590}, "nvidia_gpu_branch"),
        (bus("kepler", modules="impossible"), NVIDIA, "nvidia_gpu_branch"),
        (bus("pascal", "blackwell", modules="mixed"), NVIDIA, "no driver serves all"),
        (bus("ampere"), {**NVIDIA, "nvidia_gpu_branch": "latest"}, "nvidia_gpu_branch"),
        (bus("ampere"), {**NVIDIA, "nvidia_gpu_version": "575.57.08"}, "nvidia_gpu_version"),
        (bus("ampere"), {**NVIDIA, "nvidia_gpu_repository_uri": ""}, "nvidia_gpu_repository_uri"),
        (bus("ampere"), {**NVIDIA, "nvidia_gpu_repository_key": ""}, "nvidia_gpu_repository_key"),
    ],
)
def test_what_cannot_work_is_refused_by_name(found: dict[str, Any], changes: dict[str, Any], named: str) -> None:
    refusals = role(None, found, **changes).refusals()
    assert len(refusals) == 1
    assert named in refusals[0]


def test_a_host_without_a_gpu_is_not_judged() -> None:
    """It is skipped, so it needs no repository, no known kernel, and no Debian."""
    assert role({**NOBLE, "kernel": "6.18.5"}, NONE).refusals() == []
    assert role({**TRIXIE, "kernel": "6.18.5"}).refusals() != []
    assert role(NOBLE).refusals() != []


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (TRIXIE, ["linux-image-amd64", "linux-headers-amd64"]),
        (BOOKWORM, ["linux-image-cloud-amd64", "linux-headers-cloud-amd64"]),
        ({**TRIXIE, "kernel": "6.12.48+deb13-rt-arm64"}, ["linux-image-rt-arm64", "linux-headers-rt-arm64"]),
        (NOBLE, ["linux-image-generic", "linux-headers-generic"]),
        ({**TRIXIE, "kernel": "6.18.5"}, []),
    ],
)
def test_kernel_and_headers_are_of_the_flavour_that_runs(facts: dict[str, Any], names: list[str]) -> None:
    assert role(facts).value("{{ nvidia_gpu_kernel_packages }}") == names


@pytest.mark.parametrize(
    ("wanted", "switches", "there"),
    [("auto", [], False), ("auto", ["0000:c4:00.0"], True), ("present", [], True), ("absent", ["0000:c4:00.0"], False)],
)
def test_the_fabric_manager_comes_with_a_switch(wanted: str, switches: list[str], there: bool) -> None:
    made = role(None, bus("ampere", nvswitches=switches), **NVIDIA, nvidia_gpu_fabric_manager=wanted)
    assert ("nvidia-fabricmanager" in made.value("{{ __nvidia_gpu_wanted }}")) is there


def stanzas(text: str) -> list[dict[str, str]]:
    blocks = [block for block in text.split("\n\n") if "\nPin:" in block or block.startswith("Package:")]
    return [
        dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith("#"))
        for block in blocks
    ]


def test_the_pin_lets_one_branch_in_and_nothing_else() -> None:
    family, loose, rest = stanzas(role(None, **NVIDIA).file("preferences.j2"))
    assert (family["Pin"], family["Pin-Priority"]) == ("version 580.*", "990")
    assert (loose["Package"], loose["Pin"]) == ("nvidia-persistenced", "version 580.*")
    assert (rest["Pin"], rest["Pin-Priority"]) == ("version *", "-1")
    # Exactly what the role installs: a helper of Debian that is called nvidia-something has another number.
    assert rest["Package"].split() == ["nvidia-kernel-open-dkms", "nvidia-driver-cuda", "nvidia-persistenced"]
    exact = stanzas(role(None, **NVIDIA, nvidia_gpu_version="580.105.08").file("preferences.j2"))
    assert [stanza["Pin"] for stanza in exact] == ["version 580.105.08*", "version 580.*", "version *"]


def test_the_repository_of_nvidia_is_flat_and_signed() -> None:
    made = role(None, **NVIDIA)
    text = made.file("nvidia.sources.j2")
    assert "URIs: https://mirror.example.com/cuda/debian13/x86_64/\nSuites: /\nSigned-By: " in text
    assert "Components" not in text
    files = {item["path"]: item for item in made.value("{{ __nvidia_gpu_files }}")}
    key = files["/etc/apt/keyrings/flowfleet-nvidia.asc"]
    assert key["content"] == "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    assert f"Signed-By: {key['path']}\n" in text


def test_debian_adds_its_other_components_from_the_mirror() -> None:
    text = role(common_apt_mirror="https://mirror.example.com/debian").file("nvidia.sources.j2")
    assert text.count("Components: contrib non-free non-free-firmware") == 2
    assert "Suites: trixie trixie-updates\n" in text
    assert "Suites: trixie-security\n" in text
    assert text.count("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg") == 2


def test_without_a_mirror_the_sources_of_the_host_are_left_alone() -> None:
    files = {item["path"]: item for item in role().value("{{ __nvidia_gpu_files }}")}
    assert files["/etc/apt/sources.list.d/flowfleet-nvidia.sources"] == {
        "path": "/etc/apt/sources.list.d/flowfleet-nvidia.sources",
        "state": "absent",
    }


@pytest.mark.parametrize(
    ("installed", "version", "strays"),
    [
        ({"nvidia_kernel_open_dkms": "580.95.05-1", "nvidia_driver_cuda": "580.95.05-1"}, "", []),
        ({"nvidia_kernel_open_dkms": "1:580.95.05-0ubuntu1", "nvidia_persistenced": "580.82.07-1"}, "", []),
        (
            {"nvidia_kernel_open_dkms": "580.95.05-1", "nvidia_driver_cuda": "580.105.08-1"},
            "",
            ["nvidia-driver-cuda 580.105.08"],
        ),
        (
            {"nvidia_kernel_open_dkms": "575.57.08-1", "nvidia_driver_cuda": "575.57.08-1"},
            "",
            ["nvidia-kernel-open-dkms 575.57.08", "nvidia-driver-cuda 575.57.08"],
        ),
        ({"nvidia_kernel_open_dkms": "580.95.05-1"}, "580.105.08", ["nvidia-kernel-open-dkms 580.95.05"]),
        ({}, "", []),
    ],
)
def test_parts_of_another_version_are_found(installed: dict[str, str], version: str, strays: list[str]) -> None:
    made = role({**TRIXIE, "packages": packages(**installed)}, **NVIDIA, nvidia_gpu_version=version)
    assert made.value("{{ __nvidia_gpu_strays }}") == strays


def test_only_one_kind_of_modules_stays() -> None:
    facts = {**TRIXIE, "packages": packages(nvidia_kernel_dkms="580.95.05-1", nvidia_kernel_open_dkms="580.95.05-1")}
    assert role(facts, **NVIDIA).value("{{ __nvidia_gpu_other_packages }}") == ["nvidia-kernel-dkms"]


@pytest.mark.parametrize(
    ("loaded", "upgrade", "version", "disturbs"),
    [
        ("", True, "580.95.05-1", False),
        ("580.95.05", False, "580.95.05-1", False),
        ("580.95.05", True, "580.95.05-1", True),
        ("575.57.08", False, "575.57.08-1", True),
    ],
)
def test_a_driver_in_use_is_replaced_when_nobody_uses_it(
    loaded: str, upgrade: bool, version: str, disturbs: bool
) -> None:
    made = role(
        {**TRIXIE, "packages": packages(nvidia_kernel_open_dkms=version)},
        bus("ampere", loaded_version=loaded),
        **NVIDIA,
        nvidia_gpu_upgrade=upgrade,
    )
    tasks = yaml.safe_load((made.path / "tasks/detect.yml").read_text(encoding="utf-8"))
    (fact,) = [task["ansible.builtin.set_fact"] for task in tasks if "ansible.builtin.set_fact" in task]
    assert made.value(fact["nvidia_gpu_disturbs"]) is disturbs


def test_nothing_but_the_entry_point_reboot_boots() -> None:
    for path in sorted((role().path / "tasks").glob("*.yml")):
        assert ("ansible.builtin.reboot" in path.read_text(encoding="utf-8")) is (path.name == "reboot.yml"), path.name
    for name in ("gpu_install.yml", "site.yml"):
        text = (PLAYBOOKS / name).read_text(encoding="utf-8")
        assert "reboot.yml" not in text
        assert "gpu_host.yml" not in text


def test_a_blocked_boot_is_refused_before_it() -> None:
    tasks = yaml.safe_load((role().path / "tasks/reboot.yml").read_text(encoding="utf-8"))
    assert tasks[0]["ansible.builtin.assert"]["that"] == "nvidia_gpu_state.blockers | length == 0"
    assert "ansible.builtin.reboot" in tasks[1]
    made = role(nvidia_gpu_state={"blockers": ["no driver for kernel x"]})
    assert not made.value("{{ " + tasks[0]["ansible.builtin.assert"]["that"] + " }}")


def test_hosts_with_other_duties_are_not_booted() -> None:
    plays = yaml.safe_load((PLAYBOOKS / "gpu.yml").read_text(encoding="utf-8"))
    (tiers,) = [
        task["vars"]["__gpu_tiers"]
        for play in plays
        for task in play.get("tasks", [])
        if "__gpu_tiers" in task.get("vars", {})
    ]
    assert role(group_names=["gpu", "redis", "etcd"]).value(tiers) == ["redis", "etcd"]
    assert role(group_names=["gpu", "langflow", "celery"]).value(tiers) == []
    # One at a time, and the first failure stops the rest.
    (other,) = [play for play in plays if play["name"] == "Boot the other hosts, one by one"]
    assert (other["serial"], other["max_fail_percentage"]) == (1, 0)
