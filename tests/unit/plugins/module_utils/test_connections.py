# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections are counted as Langflow opens them."""

from __future__ import annotations

from ansible_collections.flowfleet.langflow.plugins.module_utils._connections import Node, Pooler, budget

PLAIN = Node("app", workers=2, pool=10, overflow=10)
POOLED = Node("app", workers=2, pool=10, overflow=10, pooler=Pooler("transaction", 20, 5, 1000))


def test_every_worker_has_pools_of_its_own() -> None:
    assert (PLAIN.opened, PLAIN.kept, PLAIN.wanted) == (44, 24, 44)
    assert PLAIN.on_demand == 2 * (20 + 15)
    assert Node("app", 4, 5, 0, locks=3).on_demand == 4 * 18


def test_behind_a_pool_only_the_pool_counts() -> None:
    assert (POOLED.opened, POOLED.wanted) == (44, 25)
    assert budget([POOLED], 100, 0).on_demand == 0


def test_what_is_reserved_is_not_there() -> None:
    assert budget([PLAIN, PLAIN], 108, 20).left == 0
    assert budget([PLAIN, PLAIN], 107, 20).left == -1
    assert budget([PLAIN], None, 20).left is None


def test_the_calculation_is_shown() -> None:
    assert budget([PLAIN, PLAIN, POOLED], 150, 20).lines() == [
        "2 nodes x 2 workers x (pool 10 + overflow 10 + telemetry 2) = 88",
        "1 node x (pool 20 + reserve 5) of PgBouncer, mode transaction = 25",
        "in all 113 of 150, 20 are reserved, 17 are left",
        "while knowledge bases are in use up to 140 more",
    ]
    assert budget([POOLED], None, 0).lines()[-1] == "in all 25; the server's limit is not known"
