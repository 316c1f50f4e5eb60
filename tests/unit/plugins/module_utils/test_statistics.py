# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The statistics against values that others computed.

Unless another source is named, the expected values are those of SciPy 1.17.1: C(scipy.stats.fisher_exact),
C(binomtest), C(mannwhitneyu(method="asymptotic")), each with C(alternative="greater"), and C(hypergeom.sf).
"""

from __future__ import annotations

import collections
import math

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _statistics as st


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # Fisher's own example, the lady tasting tea (The Design of Experiments, 1935): 1/70 and 17/70
        ((4, 4, 0, 4), 1 / 70),
        ((3, 4, 1, 4), 17 / 70),
        ((3, 10, 0, 10), 0.10526315789473684),
        ((8, 14, 1, 11), 0.017149010634001885),
        ((5, 100, 1, 100), 0.10582392634786585),
        ((20, 100, 2, 300), 2.8368804178263092e-11),
        ((1, 50, 0, 100), 1 / 3),
        ((10, 2000, 12, 8000), 0.006086058658271942),
        ((200, 1000, 1800, 10000), 0.06536317840832395),
        ((7, 7, 0, 3), 1 / 120),
        ((0, 10, 3, 10), 1.0),
        ((0, 0, 0, 0), 1.0),
        ((10, 10, 10, 10), 1.0),
    ],
)
def test_fisher(table: tuple[int, int, int, int], expected: float) -> None:
    assert st.fisher_greater(*table) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((3, 50, 0.01), 0.013817270830600381),
        ((10, 100, 0.05), 0.02818829416341614),
        ((1, 10, 0.01), 0.09561792499119552),
        ((40, 2000, 0.01), 4.811531715232038e-05),
        ((0, 10, 0.5), 1.0),
        ((10, 10, 0.5), 0.5**10),
        ((1, 10, 0.0), 0.0),
    ],
)
def test_binomial(arguments: tuple[int, int, float], expected: float) -> None:
    assert st.binomial_greater(*arguments) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("sample", "other", "expected"),
    [
        ([1, 2, 3, 4, 5], [2, 3, 4, 5, 6], 0.8548265831696178),
        ([10, 20, 30, 40, 50, 60], [5, 15, 25, 35], 0.12047733435078506),
        ([3, 3, 3, 4, 5, 9, 9], [1, 2, 3, 3, 3, 4, 4, 8], 0.0932411347872929),
        ([(i * 37) % 101 + 20 for i in range(60)], [(i * 53) % 97 for i in range(90)], 2.6978709448322787e-05),
        ([5, 5], [5, 5, 5], 1.0),
        ([], [1], 1.0),
    ],
)
def test_mann_whitney(sample: list[float], other: list[float], expected: float) -> None:
    counts = collections.Counter(sample), collections.Counter(other)
    assert st.mann_whitney_greater(*counts) == pytest.approx(expected, rel=1e-9)


def test_quantile_test_is_the_hypergeometric_tail() -> None:
    """Of 200 values 10 are the slowest, and 8 of them are among the 50 new ones: hypergeom.sf(7, 200, 10, 50)."""
    new = {**{float(value): 1 for value in range(42)}, **{1000.0 + value: 1 for value in range(8)}}
    old = {**{float(value): 1 for value in range(148)}, 2000.0: 2}
    assert st.exceedance(new, old, 0.95) == (8, 2)
    assert st.quantile_greater(new, old, 0.95) == pytest.approx(0.0002844285341995309, rel=1e-7)


def test_quantile_test_with_nothing_but_ties() -> None:
    assert st.quantile_greater({7.0: 50}, {7.0: 90}, 0.95) == 1.0


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([3], 0.99, 3), ([1, 2, 3, 4], 0.5, 2), (range(1, 101), 0.95, 95), (range(1, 101), 0.99, 99)],
)
def test_quantile(values: list[float], share: float, expected: float | None) -> None:
    assert st.quantile(collections.Counter(values), share) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [  # enumerated with scipy.stats.binom and hypergeom
        ((50, 50, 0.2, 0.01, 0.05), 0.9364282823208867),
        ((100, 200, 0.1, 0.02, 0.01), 0.6603665499689741),
        ((280, 280, 0.05, 0.01, 0.025), 0.7608683171156776),
    ],
)
def test_power(arguments: tuple[int, int, float, float, float], expected: float) -> None:
    assert st.fisher_power(*arguments) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("ratio", "arms", "documented"),
    [(0.05, 1, 670), (0.10, 1, 240), (0.20, 1, 100), (0.05, 2, 440), (0.10, 2, 155), (0.20, 2, 65)],
)
def test_documented_numbers_have_the_documented_power(ratio: float, arms: int, documented: int) -> None:
    """What the page of canary_gate says: 0.01 for four metrics and five looks."""
    alpha = 0.01 / 20
    assert documented - 5 <= st.minimum_sample(ratio, 0.01, alpha, 0.8, arms) <= documented
    assert 0.8 <= st.fisher_power(documented, arms * documented, ratio, 0.01, alpha, floor=0.01) < 0.95


def test_detectable_ratio_is_the_other_side_of_the_minimum_sample() -> None:
    for size in (50, 200, 1000):
        found = st.detectable_ratio(size, 2 * size, 0.01, 0.001)
        assert found is not None
        assert st.minimum_sample(found, 0.01, 0.001, 0.8, 2) == size
    assert st.detectable_ratio(3, 3, 0.01, 0.001) is None
    assert st.detectable_ratio(0, 3, 0.01, 0.001) is None


def test_large_samples_are_quick_and_finite() -> None:
    p_value = st.fisher_greater(50_500, 1_000_000, 100_000, 2_000_000)
    assert math.isfinite(p_value)
    assert 0 < p_value < 0.05
