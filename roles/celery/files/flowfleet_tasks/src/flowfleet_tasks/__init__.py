# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of Langflow flows as tasks: a queue, workers, schedules, an HTTPS API and a command line."""

from __future__ import annotations

__version__ = "1.0.0"
