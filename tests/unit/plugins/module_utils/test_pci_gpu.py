# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which GPUs are found on which bus, what their driver needs, and when a boot helps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flowfleet.langflow.plugins.module_utils import _pci_gpu
from ansible_collections.flowfleet.langflow.plugins.modules import pci_gpu_info

TREES: dict[str, list[str]] = yaml.safe_load((Path(__file__).parents[1] / "pci_trees.yml").read_text(encoding="utf-8"))
RUNNING, NEWER = "6.12.48+deb13-amd64", "6.12.107+deb13-amd64"
Look = Callable[..., dict[str, Any]]


def put(path: Path, content: str | bytes = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())


def grow(root: Path, tree: str) -> None:
    """The bus below I(root), with links to drivers as the kernel has them."""
    shutil.rmtree(root / "sys/bus", ignore_errors=True)
    (root / "sys/bus/pci/devices").mkdir(parents=True)
    for line in TREES[tree]:
        address, kind, numbers, *driver = line.split()
        vendor, device = numbers.split(":")
        place = root / "sys/bus/pci/devices" / address
        for name, value in (("class", kind), ("vendor", vendor), ("device", device)):
            put(place / name, f"0x{value}")
        if driver:
            (place / "driver").symlink_to(f"../../../bus/pci/drivers/{driver[0]}")
    put(root / "proc/sys/kernel/osrelease", RUNNING)


@pytest.fixture
def look(tmp_path: Path) -> Look:
    def call(tree: str, installed: str = "", *, key_enrolled: bool = True) -> dict[str, Any]:
        grow(tmp_path, tree)
        return _pci_gpu.look(tmp_path, installed, key_enrolled)

    return call


@pytest.mark.parametrize(
    ("tree", "count", "architectures", "modules", "mig", "summary"),
    [
        ("this_vm", 0, [], "", 0, "no NVIDIA GPU on the PCI bus"),
        ("vm_with_display", 0, [], "", 0, "no NVIDIA GPU on the PCI bus, only virtio"),
        ("server_without", 0, [], "", 0, "no NVIDIA GPU on the PCI bus, only aspeed"),
        ("one_t4", 1, ["turing"], "possible", 0, "NVIDIA: 1 x turing (10de:1eb8)"),
        ("a100_x8", 8, ["ampere"], "possible", 8, "NVIDIA: 8 x ampere (10de:20b0)"),
        ("h100_with_mig", 2, ["hopper"], "possible", 2, "NVIDIA: 2 x hopper (10de:2331)"),
        ("gh200", 1, ["hopper"], "required", 1, "NVIDIA: 1 x hopper (10de:2342)"),
        ("b200", 2, ["blackwell"], "required", 2, "NVIDIA: 2 x blackwell (10de:2901)"),
        ("amd", 0, [], "", 0, "no NVIDIA GPU on the PCI bus, only amd"),
        ("old_kepler", 2, ["kepler"], "impossible", 0, "NVIDIA: 2 x kepler (10de:102d)"),
        ("nouveau_bound", 1, ["ampere"], "possible", 0, "NVIDIA: 1 x ampere (10de:2204)"),
        (
            "handed_through",
            0,
            [],
            "",
            0,
            "no NVIDIA GPU of its own: 0000:3b:00.0 is handed through, 0000:5e:00.0 is handed through",
        ),
        (
            "old_and_new",
            2,
            ["blackwell", "pascal"],
            "mixed",
            1,
            "NVIDIA: 1 x pascal (10de:1b80), 1 x blackwell (10de:2bb1)",
        ),
    ],
)
def test_each_bus_is_read(
    look: Look, tree: str, count: int, architectures: list[str], modules: str, mig: int, summary: str
) -> None:
    found = look(tree)
    nvidia = found["nvidia"]
    assert (nvidia["count"], nvidia["architectures"], nvidia["open_modules"]) == (count, architectures, modules)
    assert (nvidia["mig_capable"], found["summary"]) == (mig, summary)


def test_a_host_without_a_bus_has_no_gpu(tmp_path: Path) -> None:
    found = _pci_gpu.look(tmp_path)
    assert (found["gpus"], found["nvidia"]["count"], found["secure_boot"]) == ([], 0, False)


def test_sound_and_switches_are_no_gpus(look: Look) -> None:
    found = look("a100_x8")
    assert len(found["nvidia"]["nvswitches"]) == 6
    assert [gpu["vendor"] for gpu in found["gpus"]].count("nvidia") == 8
    assert look("nouveau_bound")["nvidia"]["nvswitches"] == []
    assert "040300" not in {gpu["class"] for gpu in look("amd")["gpus"]}


def test_one_gpu_in_full(look: Look) -> None:
    assert look("nouveau_bound")["gpus"] == [
        {
            "address": "0000:01:00.0",
            "vendor_id": "10de",
            "device_id": "2204",
            "class": "030000",
            "vendor": "nvidia",
            "driver": "nouveau",
            "architecture": "ampere",
            "turing_or_newer": True,
            "open_modules": "possible",
            "mig_capable": False,
        }
    ]


@pytest.mark.parametrize(
    ("number", "architecture"),
    [
        ("0640", "older"),
        ("0fc0", "kepler"),
        ("103f", "kepler"),
        ("1040", "older"),
        ("12ba", "kepler"),
        ("13f2", "maxwell"),
        ("15f8", "pascal"),
        ("17fd", "maxwell"),
        ("1b38", "pascal"),
        ("1db6", "volta"),
        ("1e30", "turing"),
        ("20b7", "ampere"),
        ("2191", "turing"),
        ("2235", "ampere"),
        ("2335", "hopper"),
        ("25b6", "ampere"),
        ("26b9", "ada"),
        ("27b8", "ada"),
        ("2941", "blackwell"),
        ("2bb5", "blackwell"),
        ("3182", "blackwell"),
        ("3340", "newer"),
    ],
)
def test_the_number_tells_the_generation(number: str, architecture: str) -> None:
    gpu = _pci_gpu.Device("0000:01:00.0", "10de", number, 0x030200, "")
    assert gpu.architecture == architecture
    assert gpu.open_modules == (
        "required"
        if architecture in ("blackwell", "newer")
        else "impossible"
        if architecture in ("older", "kepler", "maxwell", "pascal", "volta")
        else "possible"
    )


def test_a_device_that_goes_away_meanwhile_is_left_out(tmp_path: Path, look: Look) -> None:
    grow(tmp_path, "one_t4")
    (tmp_path / "sys/bus/pci/devices/0000:3b:00.0/vendor").unlink()
    assert _pci_gpu.look(tmp_path)["nvidia"]["count"] == 0


@pytest.mark.parametrize(("value", "on"), [(b"\x06\x00\x00\x00\x01", True), (b"\x06\x00\x00\x00\x00", False)])
def test_secure_boot_is_the_byte_after_the_attributes(tmp_path: Path, value: bytes, on: bool) -> None:
    put(tmp_path / _pci_gpu.SECURE_BOOT, value)
    assert _pci_gpu.look(tmp_path)["secure_boot"] is on


def test_parts_of_divided_gpus_are_counted(tmp_path: Path, look: Look) -> None:
    for gpu, part in ((0, 1), (0, 2), (1, 9)):
        put(tmp_path / f"proc/driver/nvidia/capabilities/gpu{gpu}/mig/gi{part}/access", "DeviceFileMinor: 12")
    put(tmp_path / "proc/driver/nvidia/capabilities/mig/monitor", "DeviceFileMinor: 2")
    assert look("h100_with_mig")["nvidia"]["mig_instances"] == 3


def test_the_next_boot_takes_the_newest_kernel(tmp_path: Path, look: Look) -> None:
    assert look("one_t4")["kernel"] == {"running": RUNNING, "next": RUNNING, "built": []}
    for version in (RUNNING, NEWER, "6.1.0-9-amd64"):
        put(tmp_path / "boot" / f"vmlinuz-{version}")
    assert look("one_t4")["kernel"]["next"] == NEWER


def test_only_a_driver_that_was_built_counts(tmp_path: Path, look: Look) -> None:
    put(tmp_path / f"lib/modules/{RUNNING}/kernel/drivers/video/fbdev/nvidia/nvidiafb.ko.xz")
    put(tmp_path / f"lib/modules/{RUNNING}/kernel/drivers/platform/x86/nvidia-wmi-ec-backlight.ko.xz")
    assert look("one_t4")["kernel"]["built"] == []
    put(tmp_path / f"lib/modules/{NEWER}/updates/dkms/nvidia-current-open.ko.xz")
    put(tmp_path / f"lib/modules/{RUNNING}/kernel/nvidia-580/nvidia.ko.zst")
    assert look("one_t4")["kernel"]["built"] == [RUNNING, NEWER]


def built(root: Path, *versions: str) -> None:
    for version in versions:
        put(root / f"lib/modules/{version}/updates/dkms/nvidia.ko.xz")
        put(root / "boot" / f"vmlinuz-{version}")


def test_nothing_is_due_when_what_is_installed_is_in_use(tmp_path: Path, look: Look) -> None:
    built(tmp_path, RUNNING)
    put(tmp_path / "sys/module/nvidia/version", "580.105.08")
    found = look("one_t4", "580.105.08")
    assert (found["reboot_reasons"], found["reboot_blockers"]) == ([], [])
    # Without packages of ours nobody asks.
    assert look("one_t4")["reboot_reasons"] == []


def test_every_reason_to_boot_is_told(tmp_path: Path, look: Look) -> None:
    built(tmp_path, RUNNING, NEWER)
    put(tmp_path / "sys/module/nvidia/version", "580.95.05")
    found = look("one_t4", "580.105.08")
    assert found["reboot_reasons"] == [
        "driver 580.95.05 is loaded, 580.105.08 is installed",
        f"kernel {RUNNING} runs, {NEWER} is installed",
    ]
    assert found["reboot_blockers"] == []


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ("nouveau_bound", "0000:01:00.0 belongs to nouveau"),
        ("t4_without_driver", "0000:00:04.0 has no driver"),
    ],
)
def test_a_gpu_of_another_driver_needs_a_boot(tmp_path: Path, look: Look, tree: str, reason: str) -> None:
    built(tmp_path, RUNNING)
    assert look(tree, "580.105.08")["reboot_reasons"] == [reason]


def test_no_boot_into_a_kernel_without_a_driver(tmp_path: Path, look: Look) -> None:
    """Control: the same host with the driver built for that kernel has no blocker."""
    built(tmp_path, RUNNING)
    put(tmp_path / "boot" / f"vmlinuz-{NEWER}")
    assert look("nouveau_bound", "580.105.08")["reboot_blockers"] == [
        f"there is no driver for kernel {NEWER}, which the next boot takes; see dkms status"
    ]
    built(tmp_path, NEWER)
    assert look("nouveau_bound", "580.105.08")["reboot_blockers"] == []


def test_no_boot_while_the_firmware_does_not_know_the_key(tmp_path: Path, look: Look) -> None:
    built(tmp_path, RUNNING)
    unsigned = look("nouveau_bound", "580.105.08", key_enrolled=False)
    assert unsigned["reboot_blockers"] == []
    put(tmp_path / _pci_gpu.SECURE_BOOT, b"\x06\x00\x00\x00\x01")
    secure = look("nouveau_bound", "580.105.08", key_enrolled=False)
    assert secure["reboot_blockers"] == ["Secure Boot is on and the key of the modules is not enrolled"]
    assert look("nouveau_bound", "580.105.08")["reboot_blockers"] == []


def test_a_host_without_gpu_never_has_to_boot(look: Look, tmp_path: Path) -> None:
    put(tmp_path / "boot" / f"vmlinuz-{NEWER}")
    assert look("amd", "580.105.08")["reboot_reasons"] == []


def test_the_module_returns_it(run_module: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    grow(tmp_path, "nouveau_bound")
    for check in (False, True):
        found = run_module(pci_gpu_info, {"root": str(tmp_path), "driver_version": "550.163.01"}, check=check)
        assert found["changed"] is False
        assert found["reboot_reasons"] == ["0000:01:00.0 belongs to nouveau"]
        documented = yaml.safe_load(pci_gpu_info.RETURN)
        assert set(documented) == set(found) - {"changed", "invocation"}
        assert set(documented["nvidia"]["contains"]) == set(found["nvidia"])
        assert set(documented["gpus"]["contains"]) == set(found["gpus"][0])


def test_the_module_says_what_it_cannot_read(run_module: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / _pci_gpu.SECURE_BOOT).mkdir(parents=True)
    result = run_module(pci_gpu_info, {"root": str(tmp_path)})
    assert result["failed"]
    assert "cannot read what the kernel tells" in result["msg"]
