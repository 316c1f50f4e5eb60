# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name a release by the checksum of its lock, which lies on the controller."""

from __future__ import annotations

from ansible_collections.flowfleet.langflow.plugins.action.langflow_release import ActionModule as ReleaseAction


class ActionModule(ReleaseAction):
    """Action plugin of module C(langflow_release_info)."""

    TRANSFERS_FILES = False
    MODULE = "flowfleet.langflow.langflow_release_info"
