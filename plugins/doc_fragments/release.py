# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How modules are told which release is meant, and what they tell about it."""

from __future__ import annotations


class ModuleDocFragment:
    """The options that name a release."""

    DOCUMENTATION = r"""
options:
  root:
    description: Directory of the installation.
    type: path
    default: /opt/langflow
  id:
    description:
      - Id of the release. O(version), O(requirements) and O(python_version) together name one as well.
    type: str
  version:
    description: Version of Langflow, or of another program.
    type: str
  requirements:
    description: Hash-locked requirements file on the controller, searched like the source of a copied file.
    type: path
  requirements_sha256:
    description: Checksum of O(requirements). Filled in by the action plugin.
    type: str
  sources:
    description:
      - Directory on the controller with packages of Python that are part of the release as they are, beside what the
        lock names. Searched like O(requirements). What is in it takes part in the id.
    type: path
  sources_sha256:
    description: Checksum of O(sources). Filled in by the action plugin.
    type: str
  python_version:
    description: Version of Python that the release is for, for example V(3.13).
    type: str
  snapshot:
    description:
      - Directory of the snapshot that M(flowfleet.langflow.config_snapshot) keeps. The release that it names is needed
        to go back, so it counts as one in use.
    type: path
"""
