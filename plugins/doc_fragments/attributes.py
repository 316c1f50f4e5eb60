# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every module of this collection states about check mode, diff mode and platform."""

from __future__ import annotations


class ModuleDocFragment:
    """The attribute tables; a module fills in its own C(support)."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can predict what it would change without changing it.
  diff_mode:
    description: Shows what changed, or would change, when the play runs with C(--diff).
  platform:
    description: Operating systems the module runs on.
    platforms: posix
    support: full
"""
