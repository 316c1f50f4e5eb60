# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""How many connections Langflow's nodes may open to PostgreSQL, and whether the server has them; the one place.

Every worker has pools of its own. The main pool opens its size and its overflow, the writer of telemetry two more.
Knowledge bases have two further pools that are empty until one is used: they are shown, not demanded. With PgBouncer
all of these end at the pool of the host, and what counts at the server is that pool.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Pools of Langflow that no setting of the roles changes.
TELEMETRY = 2
# Locks of knowledge bases (LANGFLOW_KNOWLEDGE_BASE_STORAGE_POOL_SIZE), and SQLAlchemy's default 5 + 10 for vectors.
LOCKS_DEFAULT = 20
VECTORS = 15
SESSION, TRANSACTION = "session", "transaction"


@dataclass(frozen=True)
class Pooler:
    """PgBouncer on a node."""

    mode: str
    size: int
    reserve: int
    clients: int

    @property
    def total(self) -> int:
        """Connections to the server, at most."""
        return self.size + self.reserve


@dataclass(frozen=True)
class Node:
    """One Langflow node."""

    name: str
    workers: int
    pool: int
    overflow: int
    locks: int = LOCKS_DEFAULT
    pooler: Pooler | None = None

    @property
    def kept(self) -> int:
        """What the workers keep open for good."""
        return self.workers * (self.pool + TELEMETRY)

    @property
    def opened(self) -> int:
        """What the workers may open under load."""
        return self.workers * (self.pool + self.overflow + TELEMETRY)

    @property
    def on_demand(self) -> int:
        """What comes on top while knowledge bases are in use."""
        return self.workers * (self.locks + VECTORS)

    @property
    def wanted(self) -> int:
        """What the server has to have for this node."""
        return self.pooler.total if self.pooler else self.opened


@dataclass(frozen=True)
class Budget:
    """All nodes against one server; what the server takes is not known before an unknown server is asked."""

    nodes: tuple[Node, ...]
    limit: int | None = None
    reserved: int = 0

    @property
    def wanted(self) -> int:
        """What all nodes together may open."""
        return sum(node.wanted for node in self.nodes)

    @property
    def on_demand(self) -> int:
        """What knowledge bases may add; nothing where a pool is in between."""
        return sum(node.on_demand for node in self.nodes if node.pooler is None)

    @property
    def left(self) -> int | None:
        """What remains; below nothing means that it does not fit."""
        return None if self.limit is None else self.limit - self.reserved - self.wanted

    def lines(self) -> list[str]:
        """The calculation as it would be done on paper."""
        rows: list[str] = []
        groups: dict[tuple[object, ...], list[Node]] = {}
        for node in self.nodes:
            key = (node.workers, node.pool, node.overflow, node.pooler)
            groups.setdefault(key, []).append(node)
        for nodes in groups.values():
            node, count = nodes[0], len(nodes)
            many = f"{count} node{'s' * (count != 1)}"
            if node.pooler:
                sum_of = f"(pool {node.pooler.size} + reserve {node.pooler.reserve})"
                rows.append(f"{many} x {sum_of} of PgBouncer, mode {node.pooler.mode} = {count * node.wanted}")
            else:
                each = f"(pool {node.pool} + overflow {node.overflow} + telemetry {TELEMETRY})"
                rows.append(f"{many} x {node.workers} workers x {each} = {count * node.wanted}")
        if self.limit is None:
            rows.append(f"in all {self.wanted}; the server's limit is not known")
        else:
            rows.append(f"in all {self.wanted} of {self.limit}, {self.reserved} are reserved, {self.left} are left")
        if self.on_demand:
            rows.append(f"while knowledge bases are in use up to {self.on_demand} more")
        return rows


def budget(nodes: Iterable[Node], limit: int | None, reserved: int) -> Budget:
    """Put the nodes and a server together."""
    return Budget(tuple(nodes), limit, reserved)
