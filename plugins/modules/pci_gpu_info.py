#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell which GPUs the PCI bus has, before any driver or tool of theirs is installed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pci_gpu_info
short_description: Tell which GPUs the PCI bus has and what their driver needs
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Reads C(/sys/bus/pci/devices) and a few other files of the kernel. Needs no program and no driver.
  - For GPUs of NVIDIA it tells the generation, which kernel modules fit, whether they can be divided (MIG), and, with
    O(driver_version), whether the driver that is installed is the one in use.
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
options:
  root:
    description: Directory below which C(sys), C(proc), C(boot) and C(lib/modules) are looked for.
    type: path
    default: /
  driver_version:
    description:
      - Version of the driver whose packages are installed, such as V(580.105.08).
      - Without it, RV(reboot_reasons) and RV(reboot_blockers) are empty.
    type: str
    default: ""
  key_enrolled:
    description: Whether the key that signs the modules is known to the firmware. Only asked for with Secure Boot.
    type: bool
    default: true
notes:
  - Reading the state of Secure Boot and the directory C(/boot) may need root.
  - A GPU that is bound to C(vfio-pci) is handed through to a virtual machine. It is listed, and not counted.
"""

EXAMPLES = r"""
- name: Look for GPUs
  flowfleet.langflow.pci_gpu_info:
  register: bus

- name: Say why this host is left out
  ansible.builtin.debug:
    msg: "{{ bus.summary }}"
  when: bus.nvidia.count == 0

- name: See whether the driver that is installed is in use
  flowfleet.langflow.pci_gpu_info:
    driver_version: "580.105.08"
  register: bus
"""

RETURN = r"""
gpus:
  description: Every display and 3D controller of the bus.
  type: list
  elements: dict
  returned: success
  contains:
    address:
      description: Address on the bus.
      type: str
      sample: "0000:3b:00.0"
    vendor_id:
      description: Number of the vendor.
      type: str
      sample: 10de
    device_id:
      description: Number of the device.
      type: str
      sample: 1eb8
    class:
      description: Class, subclass and interface.
      type: str
      sample: "030200"
    vendor:
      description: C(nvidia), C(amd), C(intel), the kind of a plain display such as C(virtio), or C(other).
      type: str
    driver:
      description: Driver that it is bound to, empty if none.
      type: str
      sample: nouveau
    architecture:
      description:
        - Generation of a GPU of NVIDIA, C(kepler) to C(blackwell). C(older) and C(newer) are outside of what is known.
        - Empty for others.
      type: str
    turing_or_newer:
      description: Whether it is of NVIDIA and can run with the open kernel modules.
      type: bool
    open_modules:
      description: Whether the open kernel modules are C(required), C(possible) or C(impossible). Empty for others.
      type: str
    mig_capable:
      description: Whether it can be divided (MIG).
      type: bool
nvidia:
  description: The GPUs of NVIDIA that the host may use itself, together.
  type: dict
  returned: success
  contains:
    count:
      description: How many.
      type: int
    architectures:
      description: Their generations.
      type: list
      elements: str
    open_modules:
      description: As for one GPU, or C(mixed) if one requires what is impossible for another one.
      type: str
    mig_capable:
      description: How many of them can be divided.
      type: int
    mig_instances:
      description: How many parts the loaded driver has divided them into.
      type: int
    nvswitches:
      description: Addresses of switches between GPUs. With one, GPUs do not work without the fabric manager.
      type: list
      elements: str
    loaded_version:
      description: Version of the loaded driver, empty if none is.
      type: str
kernel:
  description:
    - The C(running) kernel, the one that the C(next) boot takes (the newest in C(/boot)), and those that a driver was
      C(built) for.
  type: dict
  returned: success
  sample: {running: 6.12.48+deb13-amd64, next: 6.12.57+deb13-amd64, built: [6.12.48+deb13-amd64, 6.12.57+deb13-amd64]}
secure_boot:
  description: Whether Secure Boot is on.
  type: bool
  returned: success
reboot_reasons:
  description: Why the installed driver is not in use, as far as only a boot helps.
  type: list
  elements: str
  returned: success
  sample: ["driver 580.95.05 is loaded, 580.105.08 is installed"]
reboot_blockers:
  description: Why a boot would not help now, or would leave the host without its GPUs.
  type: list
  elements: str
  returned: success
summary:
  description: What the bus has, in one sentence.
  type: str
  returned: success
  sample: "NVIDIA: 8 x ampere (10de:20b0)"
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _pci_gpu


def main() -> None:
    """Look and tell."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "driver_version": {"type": "str", "default": ""},
            "key_enrolled": {"type": "bool", "default": True, "no_log": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        found = _pci_gpu.look(Path(params["root"]), params["driver_version"], params["key_enrolled"])
    except OSError as exc:
        module.fail_json(msg=f"cannot read what the kernel tells: {exc}")
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
