# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""A module with secrets inside of its dictionaries and lists."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


class QuietModule(AnsibleModule):
    """A module whose nested secrets stay out of the host's log as well, whatever characters they have."""

    def _log_invocation(self) -> None:
        # The log gets lists and dictionaries as Python writes them: a quote or a backslash looks different there.
        self.no_log_values.update({repr(value)[1:-1] for value in self.no_log_values})
        super()._log_invocation()
