#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell what lies on block devices, before anything is written to them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: block_device_info
short_description: Tell what lies on block devices and who uses them
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Looks for signatures, for a LUKS header, for whoever uses a device, and for data without any signature.
    Changes nothing.
  - Meant to be asked before a device is formatted. A device is free if it RV(devices[].exists), is RV(devices[].blank),
    and has no RV(devices[].holders), RV(devices[].partitions), RV(devices[].mounts) or RV(devices[].swap).
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  devices:
    description: Paths of block devices. Links such as those below C(/dev/disk/by-id) are followed.
    type: list
    elements: path
    default: []
  mount_points:
    description: Directories to look at.
    type: list
    elements: path
    default: []
  timeout:
    description: Seconds that one program may take.
    type: float
    default: 30.0
notes:
  - Needs root, C(wipefs), and C(cryptsetup) for the details of a LUKS header.
  - RV(devices[].blank) reads the first 16 MiB and the last MiB.
"""

EXAMPLES = r"""
- name: Look at a disk
  flowfleet.langflow.block_device_info:
    devices: [/dev/disk/by-id/virtio-data]
    mount_points: [/var/lib/postgresql]
  register: disk

- name: Refuse a disk that holds something
  ansible.builtin.assert:
    that: disk.devices[0].blank
"""

RETURN = r"""
devices:
  description: One entry for each of O(devices), in the same order.
  type: list
  elements: dict
  returned: success
  contains:
    device:
      description: The path as it was given.
      type: str
    path:
      description: The path that it leads to.
      type: str
    exists:
      description: Whether it is there. If not, nothing else is told.
      type: bool
    size:
      description: Size in bytes.
      type: int
    signatures:
      description: What C(wipefs) recognises, each with C(type), C(label) and C(uuid).
      type: list
      elements: dict
    luks:
      description:
        - Empty if there is no LUKS header, otherwise C(uuid), C(label), C(version), C(keyslots) and types of C(tokens).
        - C(digest) changes with whatever is changed in the header, so also when one key takes the place of another one.
        - C(unused) tells whether nothing was ever written into the volume, not even a file system.
      type: dict
      sample:
        uuid: 0f5c5a5e-3a4f-4a53-8c61-0d4ab6a1e4b2
        label: pgdata
        version: 2
        keyslots: [0]
        tokens: [clevis]
        digest: 8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4
        unused: false
    blank:
      description: Whether there is no signature and nothing but zeros at its begin and at its end.
      type: bool
    holders:
      description: Kernel names of the devices that are built on it.
      type: list
      elements: str
    partitions:
      description: Kernel names of its partitions.
      type: list
      elements: str
    mounts:
      description: Where it, or what is built directly on it, is mounted.
      type: list
      elements: str
    swap:
      description: Whether it is used as swap space.
      type: bool
mount_points:
  description:
    - For each of O(mount_points) whether something is C(mounted), its C(source) and C(type), and how many C(entries) it
      has.
  type: dict
  returned: success
  sample: {/var/lib/postgresql: {mounted: true, source: /dev/dm-0, type: ext4, entries: 3}}
"""

from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flowfleet.langflow.plugins.module_utils import _block_device as blocks
from ansible_collections.flowfleet.langflow.plugins.module_utils._command import (
    CommandMissing,
    CommandTimeout,
    Done,
    run,
)


def main() -> None:
    """Look and tell."""
    module = AnsibleModule(
        argument_spec={
            "devices": {"type": "list", "elements": "path", "default": []},
            "mount_points": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )

    def call(argv: Sequence[str]) -> Done:
        return run(argv, timeout=module.params["timeout"])

    try:
        devices = [blocks.inspect(device, call) for device in module.params["devices"]]
        table = blocks.Paths().mountinfo.read_text()
        places = {path: blocks.mount_point(path, table) for path in module.params["mount_points"]}
    except (blocks.DeviceError, CommandTimeout, OSError, ValueError) as exc:
        module.fail_json(msg=str(exc))
    except CommandMissing as exc:
        module.fail_json(msg=f"{exc} is not installed")
    module.exit_json(changed=False, devices=devices, mount_points=places)


if __name__ == "__main__":
    main()
