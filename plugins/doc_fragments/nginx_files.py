# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a load balancer keeps what the modules look at."""

from __future__ import annotations


class ModuleDocFragment:
    """The two places."""

    DOCUMENTATION = r"""
options:
  directory:
    description: Where the membership files are.
    type: path
    default: /etc/nginx/langflow/backends.d
  pid_file:
    description: Where Nginx writes the number of its main process.
    type: path
    default: /run/nginx/nginx.pid
"""
