# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which lines of a load balancer's access log count, and which of them are errors."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of all modules that read the log."""

    DOCUMENTATION = r"""
options:
  exclude_paths:
    description: Regular expressions of paths that do not count.
    type: list
    elements: str
    default: ["^/health"]
  error_statuses:
    description:
      - Statuses that are errors, with C(x) for any digit.
      - V(499) means that the client went away before it had its answer.
    type: list
    elements: str
    default: ["5xx", "499"]
"""
