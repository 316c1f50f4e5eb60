# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Membership files of the load balancer: one file per backend, with one ``server`` line in it.

::

    #
    # Ansible managed
    #
    server 192.0.2.11:7860 max_fails=1 fail_timeout=5s weight=2 down;

Comment lines are kept as they are. Who the backend is (address, port, failure parameters) is configuration and
belongs to the role; ``weight`` and ``down`` are state and belong to whoever drains and enables.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Any

# Options of the modules that look at a load balancer.
FILES: dict[str, dict[str, Any]] = {
    "directory": {"type": "path", "default": "/etc/nginx/langflow/backends.d"},
    "pid_file": {"type": "path", "default": "/run/nginx/nginx.pid"},
}
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$")
SUFFIX = ".conf"
SERVER = re.compile(r"^[ \t]*server[ \t]+(?P<endpoint>[^\s;]+)(?P<parameters>[^;]*);[ \t]*$", re.M)
ENDPOINT = re.compile(r"^(?P<address>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})$")


class MembershipError(ValueError):
    """A membership file or a value for one is not usable."""


@dataclass(frozen=True)
class Backend:
    """One backend of the load balancer and its state."""

    name: str
    address: str
    port: int
    down: bool = False
    weight: int = 1
    parameters: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """Give the state the way the modules say it."""
        return "drained" if self.down else "enabled"

    def result(self) -> dict[str, Any]:
        """Give what the modules return."""
        return {
            "name": self.name,
            "address": self.address,
            "port": self.port,
            "state": self.state,
            "weight": self.weight,
            "parameters": list(self.parameters),
        }


def check_name(name: str) -> str:
    """Refuse a name that cannot be a file name."""
    if not NAME.match(name):
        raise MembershipError(f"{name!r} cannot be the name of a backend: letters, digits, point, - and _ only")
    return name


def parse_backend(name: str, text: str) -> Backend:
    """Read the one ``server`` line of a membership file."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = list(SERVER.finditer(code))
    if len(found) != 1:
        raise MembershipError(f"the membership file of {name!r} has {len(found)} server lines instead of one")
    endpoint = ENDPOINT.match(found[0]["endpoint"])
    if not endpoint:
        raise MembershipError(f"{found[0]['endpoint']!r} in the membership file of {name!r} is not address:port")
    down, weight, rest = False, 1, []
    for word in found[0]["parameters"].split():
        if word == "down":
            down = True
        elif re.fullmatch(r"weight=\d+", word):
            weight = int(word.partition("=")[2])
        else:
            rest.append(word)
    return Backend(name, endpoint["address"].strip("[]"), int(endpoint["port"]), down, weight, tuple(rest))


def server_line(backend: Backend) -> str:
    """Write the ``server`` line; words come in a fixed order, so that equal backends give equal text."""
    address = f"[{backend.address}]" if ":" in backend.address else backend.address
    words = [f"server {address}:{backend.port}", *backend.parameters]
    if backend.weight != 1:
        words.append(f"weight={backend.weight}")
    if backend.down:
        words.append("down")
    return " ".join(words) + ";"


def with_server_line(text: str, backend: Backend) -> str:
    """Replace the ``server`` line of a membership file and keep everything else."""
    lines = text.splitlines(keepends=True)
    return "".join(server_line(backend) + "\n" if SERVER.match(line.rstrip("\r\n")) else line for line in lines)


def with_configuration(wanted: Backend, existing: Backend | None) -> Backend:
    """Take the configuration of `wanted` and the state of `existing`."""
    return wanted if existing is None else replace(wanted, down=existing.down, weight=existing.weight)


def read_backends(directory: str) -> list[Backend]:
    """Read all membership files of a directory, sorted by name; a missing directory has none."""
    try:
        entries = sorted(
            entry for entry in os.listdir(directory) if entry.endswith(SUFFIX) and not entry.startswith(".")
        )
    except FileNotFoundError:
        return []
    backends = []
    for entry in entries:
        with open(os.path.join(directory, entry), encoding="utf-8") as stream:
            backends.append(parse_backend(entry.removesuffix(SUFFIX), stream.read()))
    return backends
