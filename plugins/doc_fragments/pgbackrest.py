# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every module around pgBackRest has to know about the repository."""

from __future__ import annotations


class ModuleDocFragment:
    """The stanza; how long a quick and a long command may take; a passphrase that is kept elsewhere."""

    DOCUMENTATION = r"""
options:
  stanza:
    description: Name of the stanza.
    type: str
    required: true
"""

    QUICK = r"""
options:
  timeout:
    description: Seconds that each step may take.
    type: float
    default: 300.0
"""

    LONG = r"""
options:
  timeout:
    description: Seconds that it may take.
    type: float
    default: 86400.0
"""

    CIPHER = r"""
options:
  cipher_passphrase:
    description:
      - Passphrase of the repository, used instead of the one in the configuration of the host. Proves that the one
        that is kept elsewhere fits.
      - Only for a host that reaches the repository itself, not through a repository host.
    type: str
"""

    TARGET = r"""
options:
  type:
    description:
      - How far to go. V(latest) replays all that was archived, V(immediate) stops as soon as the backup is
        consistent, V(time) and V(name) stop at O(target).
    type: str
    choices: [latest, immediate, time, name]
    default: latest
  target:
    description:
      - For O(type=time), a time with a zone such as V(2026-11-22 14:05:00+00); all that was committed until then is
        there.
      - For O(type=name), the name of a restore point.
    type: str
    default: ""
  backup_set:
    description: Label of the backup to begin with. By default the newest one that fits.
    type: str
    default: ""
"""
