# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The words of the interface that several modules share."""

from __future__ import annotations

# once: Langflow is asked again with the same idempotency key when an answer got lost, so that it runs one job.
# at_most_once: it is never asked twice. at_least_once: an execution that failed or got lost is followed by another.
ONCE, AT_MOST_ONCE, AT_LEAST_ONCE = "once", "at_most_once", "at_least_once"
GUARANTEES = (ONCE, AT_MOST_ONCE, AT_LEAST_ONCE)
MODES = ("auto", "background", "held")
OPEN = ("queued", "waiting", "running")
FINAL = ("succeeded", "failed", "cancelled", "unknown")
