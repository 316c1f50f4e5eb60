# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Which GPUs the PCI bus has and what their driver needs, read from the kernel's own files alone."""

from __future__ import annotations

import bisect
import dataclasses
import re
from pathlib import Path
from typing import Any

NVIDIA = "10de"
VENDORS = {NVIDIA: "nvidia", "1002": "amd", "8086": "intel"}
# Displays of virtual machines and of management controllers, which compute nothing.
PLAIN_DISPLAYS = {
    "1013": "cirrus",
    "102b": "matrox",
    "1234": "bochs",
    "15ad": "vmware",
    "1a03": "aspeed",
    "1af4": "virtio",
    "1b36": "qxl",
}
# The base class of displays: VGA, 3D and other controllers.
DISPLAY_CLASS = 0x03
# NVSwitch calls itself a bridge of no known kind.
SWITCH_CLASS = 0x0680
# A device that is handed through to a virtual machine is not the host's to use.
HANDED_THROUGH = "vfio-pci"

# First device number of each range, as the public list pci.ids has them. A range ends where the next one begins.
ARCHITECTURES = (
    (0x0000, "older"),
    (0x0FC0, "kepler"),
    (0x1040, "older"),
    (0x1180, "kepler"),
    (0x1200, "older"),
    (0x1280, "kepler"),
    (0x1340, "maxwell"),
    (0x15C0, "pascal"),
    (0x1600, "maxwell"),
    (0x1720, "pascal"),
    (0x1740, "maxwell"),
    (0x1B00, "pascal"),
    (0x1D80, "volta"),
    (0x1E00, "turing"),
    (0x2080, "ampere"),
    (0x2180, "turing"),
    (0x2200, "ampere"),
    (0x2300, "hopper"),
    (0x2400, "ampere"),
    (0x2680, "ada"),
    (0x2900, "blackwell"),
    (0x3200, "newer"),
)
STARTS = [start for start, _name in ARCHITECTURES]
# The open kernel modules need the processor that Turing brought; from Blackwell on there are no others.
OPEN_POSSIBLE = ("turing", "ampere", "hopper", "ada", "blackwell", "newer")
OPEN_REQUIRED = ("blackwell", "newer")
# GH200 and its kin, whose memory the proprietary modules do not know.
OPEN_REQUIRED_DEVICES = range(0x2340, 0x2350)
# Cards that can be divided (MIG): A100 and A30, H100 and its kin, B200 and its kin, RTX PRO 6000 and 5000.
MIG_DEVICES = (
    range(0x20B0, 0x20C0),
    range(0x20F0, 0x2100),
    range(0x2300, 0x2400),
    range(0x2900, 0x2980),
    range(0x29BC, 0x29BD),
    range(0x2BB1, 0x2BC0),
    range(0x3180, 0x3200),
)
MIG_NEVER = (0x20BB,)

REQUIRED, POSSIBLE, IMPOSSIBLE, MIXED = "required", "possible", "impossible", "mixed"

# The variable of the firmware; four bytes of attributes come before its value.
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@dataclasses.dataclass(frozen=True)
class Device:
    """One device of the bus."""

    address: str
    vendor_id: str
    device_id: str
    class_id: int
    driver: str

    @property
    def number(self) -> int:
        """The device number."""
        return int(self.device_id, 16)

    @property
    def display(self) -> bool:
        """Whether it is a display or 3D controller."""
        return self.class_id >> 16 == DISPLAY_CLASS

    @property
    def nvidia(self) -> bool:
        """Whether it is a GPU of NVIDIA."""
        return self.display and self.vendor_id == NVIDIA

    @property
    def usable(self) -> bool:
        """Whether it is a GPU of NVIDIA that this host may use itself."""
        return self.nvidia and self.driver != HANDED_THROUGH

    @property
    def switch(self) -> bool:
        """Whether it is an NVSwitch."""
        return self.class_id >> 8 == SWITCH_CLASS and self.vendor_id == NVIDIA

    @property
    def architecture(self) -> str:
        """The generation of a GPU of NVIDIA."""
        return ARCHITECTURES[bisect.bisect_right(STARTS, self.number) - 1][1] if self.nvidia else ""

    @property
    def open_modules(self) -> str:
        """What the open kernel modules are to it."""
        if not self.nvidia:
            return ""
        if self.architecture in OPEN_REQUIRED or self.number in OPEN_REQUIRED_DEVICES:
            return REQUIRED
        return POSSIBLE if self.architecture in OPEN_POSSIBLE else IMPOSSIBLE

    @property
    def mig_capable(self) -> bool:
        """Whether it can be divided."""
        return self.nvidia and self.number not in MIG_NEVER and any(self.number in numbers for numbers in MIG_DEVICES)

    def described(self) -> dict[str, Any]:
        """The device as the module returns it."""
        return {
            "address": self.address,
            "vendor_id": self.vendor_id,
            "device_id": self.device_id,
            "class": f"{self.class_id:06x}",
            "vendor": VENDORS.get(self.vendor_id) or PLAIN_DISPLAYS.get(self.vendor_id, "other"),
            "driver": self.driver,
            "architecture": self.architecture,
            "turing_or_newer": self.architecture in OPEN_POSSIBLE,
            "open_modules": self.open_modules,
            "mig_capable": self.mig_capable,
        }


def text(path: Path) -> str:
    """What a file of the kernel says; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def devices(root: Path) -> list[Device]:
    """All devices of the bus, in the order of their addresses."""
    bus = root / "sys/bus/pci/devices"
    found = []
    for place in sorted(bus.iterdir()) if bus.is_dir() else []:
        driver = place / "driver"
        numbers = [text(place / name) for name in ("vendor", "device", "class")]
        # One that is being taken away has no files any more.
        if all(re.fullmatch(r"0x[0-9a-f]+", number) for number in numbers):
            vendor, device, kind = numbers
            found.append(
                Device(
                    address=place.name,
                    vendor_id=vendor.removeprefix("0x"),
                    device_id=device.removeprefix("0x"),
                    class_id=int(kind, 16),
                    driver=driver.readlink().name if driver.is_symlink() else "",
                )
            )
    return found


def secure_boot(root: Path) -> bool:
    """Whether the firmware takes only what is signed, and so does the kernel with its modules."""
    try:
        return (root / SECURE_BOOT).read_bytes()[4:5] == b"\x01"
    except (FileNotFoundError, NotADirectoryError):
        return False


def mig_instances(root: Path) -> int:
    """How many parts the loaded driver has divided GPUs into."""
    return len(list(root.glob("proc/driver/nvidia/capabilities/gpu*/mig/gi*")))


def in_order(version: str) -> list[tuple[int, int, str]]:
    """A key that sorts versions as people do: 6.12.9 before 6.12.48."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|\D+", version)]


def kernels(root: Path) -> dict[str, Any]:
    """The kernel that runs, the one that the next boot takes, and those that a driver was built for."""
    running = text(root / "proc/sys/kernel/osrelease")
    installed = [path.name.removeprefix("vmlinuz-") for path in root.glob("boot/vmlinuz-*")]
    modules = root / "lib/modules"
    # Built on the host (DKMS), or built and signed by the distribution; the kernel's own nvidiafb is neither.
    built = [*modules.glob("*/updates/**/nvidia*.ko*"), *modules.glob("*/kernel/nvidia*/nvidia*.ko*")]
    return {
        "running": running,
        "next": max(installed, key=in_order, default=running),
        "built": sorted({path.relative_to(modules).parts[0] for path in built}, key=in_order),
    }


def needed_modules(gpus: list[Device]) -> str:
    """What the open kernel modules are to all GPUs together; empty without one."""
    answers = {gpu.open_modules for gpu in gpus}
    if {REQUIRED, IMPOSSIBLE} <= answers:
        return MIXED
    return next((answer for answer in (REQUIRED, IMPOSSIBLE, POSSIBLE) if answer in answers), "")


def reboot_reasons(gpus: list[Device], loaded: str, installed: str, kernel: dict[str, Any]) -> list[str]:
    """Why the driver that is installed is not the one in use, as far as only a boot helps."""
    if not gpus or not installed:
        return []
    reasons = []
    if loaded and loaded != installed:
        reasons.append(f"driver {loaded} is loaded, {installed} is installed")
    for gpu in gpus:
        if gpu.driver != "nvidia":
            reasons.append(f"{gpu.address} {'belongs to ' + gpu.driver if gpu.driver else 'has no driver'}")
    if kernel["running"] != kernel["next"]:
        reasons.append(f"kernel {kernel['running']} runs, {kernel['next']} is installed")
    return reasons


def reboot_blockers(reasons: list[str], kernel: dict[str, Any], signed: bool) -> list[str]:
    """Why a boot would not help, or would leave the host without its GPUs."""
    blockers = []
    if reasons and kernel["next"] not in kernel["built"]:
        blockers.append(f"there is no driver for kernel {kernel['next']}, which the next boot takes; see dkms status")
    if reasons and not signed:
        blockers.append("Secure Boot is on and the key of the modules is not enrolled")
    return blockers


def sentence(found: list[Device]) -> str:
    """What the bus has, for people."""
    nvidia = [device for device in found if device.nvidia]
    usable = [device for device in nvidia if device.usable]
    if usable:
        kinds: dict[str, int] = {}
        for gpu in usable:
            kind = f"{gpu.architecture} ({gpu.vendor_id}:{gpu.device_id})"
            kinds[kind] = kinds.get(kind, 0) + 1
        return "NVIDIA: " + ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    if nvidia:
        return "no NVIDIA GPU of its own: " + ", ".join(f"{gpu.address} is handed through" for gpu in nvidia)
    others = sorted({str(device.described()["vendor"]) for device in found if device.display})
    return f"no NVIDIA GPU on the PCI bus{', only ' + ', '.join(others) if others else ''}"


def look(root: Path, installed: str = "", key_enrolled: bool = True) -> dict[str, Any]:
    """Everything that the module returns."""
    found = devices(root)
    usable = [device for device in found if device.usable]
    loaded = text(root / "sys/module/nvidia/version")
    kernel = kernels(root)
    secure = secure_boot(root)
    reasons = reboot_reasons(usable, loaded, installed, kernel)
    return {
        "gpus": [device.described() for device in found if device.display],
        "nvidia": {
            "count": len(usable),
            "architectures": sorted({gpu.architecture for gpu in usable}),
            "open_modules": needed_modules(usable),
            "mig_capable": sum(gpu.mig_capable for gpu in usable),
            "mig_instances": mig_instances(root),
            "nvswitches": [device.address for device in found if device.switch],
            "loaded_version": loaded,
        },
        "kernel": kernel,
        "secure_boot": secure,
        "reboot_reasons": reasons,
        "reboot_blockers": reboot_blockers(reasons, kernel, key_enrolled or not secure),
        "summary": sentence(found),
    }
