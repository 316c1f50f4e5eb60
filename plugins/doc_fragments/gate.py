# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of a health gate, alone, inside the option C(gate) of another module, or inside each unit of a list."""

from __future__ import annotations

import textwrap

INSIDE_ANOTHER_MODULE = """
options:
  gate:
    description:
      - What the unit has to pass after it was started, restarted or reloaded.
      - If nothing was done, one good answer is enough, unless the process is what a crash has left.
      - Without it, the process only has to stay up for a second after it was started, restarted or reloaded.
    type: dict
    suboptions:
"""

INSIDE_A_LIST_OF_UNITS = """
options:
  units:
    description:
      - Several units of the host, in their order. Each is proven well before the next is touched.
      - One unit may stand there twice, with files that need a restart and with files that need a reload.
      - The first that fails stops the rest, so that a setting that one does not start with leaves the others running.
    type: list
    elements: dict
    suboptions:
      unit:
        description: As O(unit).
        type: str
        required: true
      watch:
        description: As O(watch).
        type: list
        elements: path
        default: []
      apply:
        description: As O(apply).
        type: str
        choices: [restart, reload]
        default: restart
      mode:
        description: As O(mode).
        type: str
        choices: [any, start, always]
        default: any
      enabled:
        description: As O(enabled).
        type: bool
      gate:
        description: As O(gate).
        type: dict
        suboptions:
"""


class ModuleDocFragment:
    """Three shapes of the same options."""

    DOCUMENTATION = r"""
options:
  type:
    description:
      - What is asked. V(http) sends a GET request, V(tcp) opens a connection, V(command) runs a program.
    type: str
    choices: [http, tcp, command]
    default: http
  url:
    description:
      - For V(http), where to ask. Redirects are not followed. With C(https) the certificate is always verified.
    type: str
  status:
    description: For V(http), the status codes that count as good.
    type: list
    elements: int
    default: [200]
  host:
    description: For V(tcp), the name or address.
    type: str
    default: 127.0.0.1
  port:
    description: For V(tcp), the port.
    type: int
  tls:
    description: For V(tcp), whether a verified TLS handshake is part of the question.
    type: bool
    default: false
  ca_path:
    description: File with the certificates of the authorities to trust instead of the system's.
    type: path
  server_name:
    description:
      - Name that the certificate has to bear and that the request is for.
      - Needed where it differs from the host that is connected to.
    type: str
  argv:
    description: For V(command), the program and its arguments. It has to end with 0.
    type: list
    elements: str
  environment:
    description: For V(command), variables to add to its environment. Never shown.
    type: dict
  successes:
    description: How many good answers in a row are needed.
    type: int
    default: 3
  interval:
    description: Seconds between two questions.
    type: float
    default: 1.0
  timeout:
    description: Seconds after which the gate gives up.
    type: float
    default: 300.0
  request_timeout:
    description: Seconds for one question, from connecting to the last byte of the answer.
    type: float
    default: 3.0
"""

    NESTED: str = INSIDE_ANOTHER_MODULE + textwrap.indent(DOCUMENTATION.partition("options:\n")[2], "    ")
    UNITS: str = INSIDE_A_LIST_OF_UNITS + textwrap.indent(DOCUMENTATION.partition("options:\n")[2], " " * 8)
