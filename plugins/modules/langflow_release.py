#!/usr/bin/python
# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: langflow_release
short_description: Install, activate and remove versioned Langflow releases
version_added: 1.0.0
description:
  - A release is one complete virtual environment below C(<root>/releases/<id>), installed by C(uv) from a hash-locked
    requirements file. Its id names the version, the checksum of the lock (and of O(sources)) and the Python version.
  - A release is never changed once it is built. A build that was interrupted is removed and started again.
  - C(<root>/current) is a symbolic link to the active release. It is replaced in one atomic step.
  - The requirements files and the wheelhouse are files on the controller. They are sent only when a release is built,
    so a run that has nothing to do costs one small call.
author:
  - The flowfleet.langflow contributors (@flowfleet)
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.release
seealso:
  - module: flowfleet.langflow.langflow_release_info
  - module: flowfleet.langflow.config_snapshot
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  state:
    description:
      - V(present) builds the release when it is not there.
      - V(active) lets C(current) name the release, which must be installed, and prunes when O(keep) is given.
      - V(pruned) removes all but O(keep) releases. It is about no release in particular.
      - V(absent) removes the release; the active one, one that a process still uses and the one that O(snapshot) names
        are refused.
      - To build, the lock must pin O(package) to O(version).
    type: str
    choices: [present, active, pruned, absent]
    default: present
  package:
    description: Package that O(version) is the version of.
    type: str
    default: langflow-base
  schema:
    description: Whether the release works on a database schema (Alembic), whose revisions are then noted with it.
    type: bool
    default: true
  uv_requirements:
    description: Hash-locked requirements file of C(uv) on the controller. Needed to build.
    type: path
  python:
    description: Python interpreter on the host that the release is made for.
    type: path
    default: /usr/bin/python3
  index:
    description: Address of the Python package index. Empty for the default of the tools on the host.
    type: str
    default: ""
  ca_file:
    description: Certificates that the index and the wheelhouse address are verified with. Empty for the tools' own.
    type: str
    default: ""
  cache_dir:
    description: Package cache on the host, for root only. Empty for the tools' own.
    type: str
    default: ""
  wheelhouse:
    description: Archive (tar or zip) on the controller with every package of both locks. Nothing else is fetched then.
    type: path
  wheelhouse_url:
    description: Address of such an archive, fetched by the host.
    type: str
  wheelhouse_sha256:
    description: Checksum of the archive. Required with O(wheelhouse_url).
    type: str
  min_free_mb:
    description: Free space in MiB that a build needs.
    type: int
    default: 4096
  timeout:
    description: Seconds that one step of a build may take.
    type: int
    default: 1800
  keep:
    description:
      - With O(state=active) and O(state=pruned), number of releases to leave on the host, the active one included.
      - The active release, every release that a process uses and the one that O(snapshot) names are always left.
        V(0) prunes nothing.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Install a release
  flowfleet.langflow.langflow_release:
    version: 1.13.0
    requirements: requirements-1.13.0.txt
    uv_requirements: requirements-uv.txt
    python_version: "3.13"
  register: release

- name: Activate it and keep the two before it
  flowfleet.langflow.langflow_release:
    state: active
    id: "{{ release.release.id }}"
    keep: 3

- name: Install a program with packages of its own, which are part of the release and of its id
  flowfleet.langflow.langflow_release:
    root: /opt/celery
    package: celery
    version: 5.6.2
    schema: false
    requirements: requirements.txt
    sources: packages
    uv_requirements: requirements-uv.txt
    python_version: "3.13"

- name: Remove a release that nobody needs
  flowfleet.langflow.langflow_release:
    state: absent
    id: 1.12.0-5d1f0c2e-py313
"""

RETURN = r"""
release:
  description: The release in question. One that is not there has only C(id), C(path), C(installed) and C(active).
  returned: unless O(state=pruned)
  type: dict
  contains:
    id:
      description: Id.
      type: str
    path:
      description: Directory.
      type: str
    installed:
      description: Whether it is complete.
      type: bool
    active:
      description: Whether C(current) names it.
      type: bool
    version:
      description: Version of the program.
      type: str
    schema_head:
      description: Revision of the database schema that this release works with. Missing without O(schema).
      type: str
    build_seconds:
      description: How long the build took.
      type: float
releases:
  description: Ids of all complete releases, newest first.
  returned: success
  type: list
  elements: str
active:
  description: Id of the active release.
  returned: success
  type: str
current:
  description: The active release, in the form of RV(release). Empty if there is none.
  returned: success
  type: dict
previous:
  description: Id that was active before.
  returned: when O(state=active)
  type: str
pruned:
  description: Ids that were removed, or would be.
  returned: when O(state=active) or O(state=pruned)
  type: list
  elements: str
timings:
  description: Seconds per step of a build.
  returned: when a release was built
  type: dict
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.flowfleet.langflow.plugins.module_utils import _config_snapshot as snapshots
from ansible_collections.flowfleet.langflow.plugins.module_utils import _release as releases


def fetch_wheelhouse(module: AnsibleModule, folder: Path) -> Path | None:
    """Unpack the wheelhouse, when one is given, and return its directory."""
    params = module.params
    archive: Path | None = Path(params["wheelhouse"]) if params["wheelhouse"] else None
    if params["wheelhouse_url"]:
        archive = folder / "archive"
        with (
            open_url(params["wheelhouse_url"], ca_path=params["ca_file"] or None, timeout=60) as response,
            open(archive, "wb") as handle,
        ):
            shutil.copyfileobj(response, handle, 1024 * 1024)
    if archive is None:
        return None
    if params["wheelhouse_sha256"] and releases.file_sha256(archive) != params["wheelhouse_sha256"].lower():
        raise releases.ReleaseError("the checksum of the wheelhouse is not the given one")
    target = folder / "wheels"
    target.mkdir()
    if not releases.unpack_wheelhouse(archive, target):
        raise releases.ReleaseError("the wheelhouse holds no package")
    return target


def build(module: AnsibleModule, layout: releases.Layout) -> dict[str, float]:
    """Build the wanted release and return the seconds of each step."""
    params = module.params
    with tempfile.TemporaryDirectory(prefix="langflow-wheelhouse-", dir=module.tmpdir) as folder:
        plan = releases.BuildPlan(
            version=params["version"],
            lock_sha256=params["requirements_sha256"],
            requirements=Path(params["requirements"]),
            uv_requirements=Path(params["uv_requirements"]),
            python=params["python"],
            python_version=params["python_version"],
            package=params["package"],
            schema=params["schema"],
            sources=Path(params["sources"]) if params["sources"] else None,
            sources_sha256=params["sources_sha256"],
            index=params["index"],
            ca_file=params["ca_file"],
            cache_dir=params["cache_dir"],
            wheelhouse=fetch_wheelhouse(module, Path(folder)),
            min_free_mb=params["min_free_mb"],
            timeout=params["timeout"],
        )
        builder = releases.Builder(layout, plan, os.environ)
        builder.build()
    return builder.timings


def ensure_present(module: AnsibleModule, layout: releases.Layout, name: str, result: dict[str, Any]) -> None:
    """Build the release unless it is complete."""
    result["changed"] = not releases.read_marker(layout.release(name))
    result["diff"] = {"before": "", "after": f"{name}\n"} if result["changed"] else {}
    if not result["changed"] or module.check_mode:
        return
    wanted = ["requirements", "uv_requirements"] + (["sources"] if module.params["sources_sha256"] else [])
    if not all(module.params[option] for option in wanted):
        # The action plugin answers this by sending the files.
        result["files_needed"] = True
        return
    with releases.locked(layout):
        if not releases.read_marker(layout.release(name)):
            result["timings"] = build(module, layout)


def prune(module: AnsibleModule, layout: releases.Layout) -> list[str]:
    """Remove surplus releases that nobody needs, and return their ids."""
    keep = module.params["keep"]
    if not keep:
        return []
    protected = snapshots.kept_release(module.params["snapshot"])
    surplus = releases.prunable(layout, keep, protected)
    if surplus:
        used = releases.in_use(layout)
        surplus = [item for item in surplus if item not in used]
    if not module.check_mode:
        for item in surplus:
            releases.remove(layout, item)
    return surplus


def ensure_active(module: AnsibleModule, layout: releases.Layout, name: str, result: dict[str, Any]) -> None:
    """Flip C(current) and prune."""
    result["previous"] = releases.active_id(layout)
    flip = result["previous"] != name
    result["pruned"] = []
    if not module.check_mode:
        with releases.locked(layout):
            if flip:
                releases.activate(layout, name)
            result["pruned"] = prune(module, layout)
    result["changed"] = flip or bool(result["pruned"])
    if result["changed"]:
        result["diff"] = {"before": f"{result['previous'] or ''}\n", "after": f"{name}\n"}


def ensure_pruned(module: AnsibleModule, layout: releases.Layout, result: dict[str, Any]) -> None:
    """Remove what is surplus."""
    if module.check_mode or not layout.releases.is_dir():
        result["pruned"] = prune(module, layout)
    else:
        with releases.locked(layout):
            result["pruned"] = prune(module, layout)
    result["changed"] = bool(result["pruned"])
    if result["changed"]:
        result["diff"] = {"before": "".join(f"{item}\n" for item in result["pruned"]), "after": ""}


def ensure_absent(module: AnsibleModule, layout: releases.Layout, name: str, result: dict[str, Any]) -> None:
    """Remove a release that nobody needs."""
    if releases.active_id(layout) == name:
        raise releases.ReleaseError(f"release {name} is the active one")
    result["changed"] = layout.release(name).exists()
    if not result["changed"]:
        return
    if name in releases.in_use(layout):
        raise releases.ReleaseError(f"release {name} is in use by a running process")
    if name in snapshots.kept_release(module.params["snapshot"]):
        raise releases.ReleaseError(f"release {name} is the one that the snapshot goes back to")
    result["diff"] = {"before": f"{name}\n", "after": ""}
    if not module.check_mode:
        with releases.locked(layout):
            releases.remove(layout, name)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **releases.OPTIONS,
            "state": {"type": "str", "choices": ["present", "active", "pruned", "absent"], "default": "present"},
            "package": {"type": "str", "default": "langflow-base"},
            "schema": {"type": "bool", "default": True},
            "uv_requirements": {"type": "path"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "index": {"type": "str", "default": ""},
            "ca_file": {"type": "str", "default": ""},
            "cache_dir": {"type": "str", "default": ""},
            "wheelhouse": {"type": "path"},
            "wheelhouse_url": {"type": "str"},
            "wheelhouse_sha256": {"type": "str"},
            "min_free_mb": {"type": "int", "default": 4096},
            "timeout": {"type": "int", "default": 1800},
            "keep": {"type": "int", "default": 0},
        },
        required_if=[("state", "present", ("version", "python_version", "requirements_sha256"))],
        required_by={"wheelhouse_url": ("wheelhouse_sha256",)},
        mutually_exclusive=[("wheelhouse", "wheelhouse_url")],
        supports_check_mode=True,
    )
    params = module.params
    layout = releases.Layout(Path(params["root"]))
    result: dict[str, Any] = {"changed": False}
    name: str | None = None
    try:
        if params["state"] == "pruned":
            ensure_pruned(module, layout, result)
        else:
            name = releases.named(params)
            if name is None:
                module.fail_json(msg=f"state {params['state']} needs id or version")
            steps = {"present": ensure_present, "active": ensure_active, "absent": ensure_absent}
            steps[params["state"]](module, layout, name, result)
    except (releases.ReleaseError, snapshots.SnapshotError, OSError) as error:
        module.fail_json(msg=releases.redact(str(error), params["index"]), **result)
    module.exit_json(**result, **releases.report(layout, name))


if __name__ == "__main__":
    main()
