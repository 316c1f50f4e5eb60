# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Tests that tell a worse sample from chance, with the standard library only.

Samples of times are given as L(Counts): how often each value was seen. That keeps large samples small, lets samples of
several load balancers be added, and makes ties the normal case that they are with times in whole milliseconds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping

Counts = Mapping[float, int]
NORMAL = statistics.NormalDist()


def total(counts: Counts) -> int:
    """Number of values."""
    return sum(counts.values())


def quantile(counts: Counts, share: float) -> float | None:
    """The smallest value that at least I(share) of all values do not exceed: the inverse empirical distribution."""
    wanted = share * total(counts)
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted - 1e-9 and seen > 0:
            return value
    return None


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def fisher_greater(hits: int, size: int, other_hits: int, other_size: int) -> float:
    """One-sided exact test of Fisher: how likely at least I(hits) of all hits fall into the first sample by chance.

    The upper tail of the hypergeometric distribution with all margins fixed.
    R. A. Fisher, The Logic of Inductive Inference, J. R. Stat. Soc. 98 (1935), 39-82.
    """
    everything, marked = size + other_size, hits + other_hits
    lowest, highest = max(0, marked - other_size), min(size, marked)
    if hits <= lowest:
        return 1.0
    term = math.exp(_log_choose(size, hits) + _log_choose(other_size, marked - hits) - _log_choose(everything, marked))
    tail = 0.0
    for count in range(hits, highest + 1):
        tail += term
        # the next term of the distribution from this one
        term *= (size - count) * (marked - count) / ((count + 1) * (other_size - marked + count + 1))
    return min(1.0, tail)


def binomial_greater(hits: int, size: int, ratio: float) -> float:
    """Exact binomial test: how likely I(hits) or more of I(size) are if each has the chance I(ratio).

    C. J. Clopper and E. S. Pearson, Biometrika 26 (1934), 404-413.
    """
    if hits <= 0 or ratio >= 1:
        return 1.0
    if ratio <= 0:
        return 0.0
    term = math.exp(_log_choose(size, hits) + hits * math.log(ratio) + (size - hits) * math.log1p(-ratio))
    tail = 0.0
    for count in range(hits, size + 1):
        tail += term
        term *= (size - count) / (count + 1) * ratio / (1 - ratio)
    return min(1.0, tail)


def mann_whitney_greater(sample: Counts, other: Counts) -> float:
    """One-sided rank test: how likely I(sample) is so often above I(other) by chance. Normal approximation.

    With the correction for ties and for continuity.
    H. B. Mann and D. R. Whitney, Ann. Math. Stat. 18 (1947), 50-60; E. L. Lehmann, Nonparametrics (1975), section 1.4.
    """
    n, m = total(sample), total(other)
    if not n or not m:
        return 1.0
    below = wins = ties = 0.0
    for value in sorted({*sample, *other}):
        here, there = sample.get(value, 0), other.get(value, 0)
        wins += here * (below + there / 2)
        below += there
        ties += (here + there) ** 3 - (here + there)
    everything = n + m
    variance = n * m / 12 * (everything + 1 - ties / (everything * (everything - 1)))
    if variance <= 0:
        return 1.0
    return 1 - NORMAL.cdf((wins - n * m / 2 - 0.5) / math.sqrt(variance))


def exceedance(sample: Counts, other: Counts, share: float) -> tuple[int, int]:
    """How many values of each sample lie above the I(share) quantile of both together."""
    pooled = {value: sample.get(value, 0) + other.get(value, 0) for value in {*sample, *other}}
    border = quantile(pooled, share)
    if border is None:
        return 0, 0
    above = [sum(count for value, count in counts.items() if value > border) for counts in (sample, other)]
    return above[0], above[1]


def quantile_greater(sample: Counts, other: Counts, share: float) -> float:
    """Quantile test: how likely so much of the upper tail of both samples together belongs to I(sample) by chance.

    Under the same distribution the largest values are a draw without replacement, so this is exact for any
    distribution, with or without ties.
    R. A. Johnson, S. Verrill and D. H. Moore, Two-sample rank tests for detecting changes that occur in a small
    proportion of the treated population, Biometrics 43 (1987), 641-655.
    """
    ours, theirs = exceedance(sample, other, share)
    return fisher_greater(ours, total(sample), theirs, total(other))


def best_possible(size: int, other_size: int, marked: int) -> float:
    """The smallest chance that Fisher's test can give when I(marked) hits are there to be shared."""
    return fisher_greater(min(size, marked), size, marked - min(size, marked), other_size)


# --- power ------------------------------------------------------------------------------------------------------------


def _binomial_probabilities(size: int, ratio: float) -> list[float]:
    if ratio <= 0:
        return [1.0] + [0.0] * size
    base, odds = math.log1p(-ratio), math.log(ratio)
    return [math.exp(_log_choose(size, hits) + hits * odds + (size - hits) * base) for hits in range(size + 1)]


def fisher_power(
    size: int, other_size: int, ratio: float, other_ratio: float, alpha: float, floor: float = 0.0
) -> float:
    """Exact chance to reject: Fisher's test at I(alpha), with a difference of I(floor) or more, by enumeration."""
    ours, theirs = (_binomial_probabilities(*arm) for arm in ((size, ratio), (other_size, other_ratio)))
    upper_tails = [0.0] * (size + 2)
    for hits in range(size, -1, -1):
        upper_tails[hits] = upper_tails[hits + 1] + ours[hits]
    power, needed = 0.0, 0
    for other_hits, chance in enumerate(theirs):
        # What is needed only grows with the errors of the other side.
        while needed <= size and (
            needed / size - other_hits / other_size < floor
            or fisher_greater(needed, size, other_hits, other_size) > alpha
        ):
            needed += 1
        if needed > size:
            break
        power += chance * upper_tails[needed]
    return min(1.0, power)


def minimum_sample(ratio: float, other_ratio: float, alpha: float, power: float, arms: float = 1.0) -> int:
    """Values needed in the first sample to tell I(ratio) from I(other_ratio); the second has I(arms) times as many.

    Approximation with the correction for Fisher's test.
    J. T. Casagrande, M. C. Pike and P. G. Smith, Biometrics 34 (1978), 483-486; J. L. Fleiss, Statistical Methods for
    Rates and Proportions (1981), section 3.2, for unequal samples.
    """
    difference = ratio - other_ratio
    if difference <= 0:
        raise ValueError("the first ratio has to be the larger one")
    mean = (ratio + arms * other_ratio) / (1 + arms)
    spread = NORMAL.inv_cdf(1 - alpha) * math.sqrt((arms + 1) * mean * (1 - mean))
    spread += NORMAL.inv_cdf(power) * math.sqrt(arms * ratio * (1 - ratio) + other_ratio * (1 - other_ratio))
    plain = spread**2 / (arms * difference**2)
    corrected = plain / 4 * (1 + math.sqrt(1 + 2 * (arms + 1) / (plain * arms * difference))) ** 2
    return math.ceil(corrected)


def detectable_ratio(size: int, other_size: int, other_ratio: float, alpha: float, power: float = 0.8) -> float | None:
    """The smallest ratio that samples of these sizes tell from I(other_ratio) with I(power), or nothing."""
    if size < 1 or other_size < 1:
        return None
    arms = other_size / size
    low, high = other_ratio, 1.0
    if minimum_sample(1 - 1e-9, other_ratio, alpha, power, arms) > size:
        return None
    for _step in range(40):
        middle = (low + high) / 2
        if middle > other_ratio and minimum_sample(min(middle, 1 - 1e-9), other_ratio, alpha, power, arms) <= size:
            high = middle
        else:
            low = middle
    return high


def add(samples: Iterable[Counts]) -> dict[float, int]:
    """All values of all samples."""
    result: dict[float, int] = {}
    for sample in samples:
        for value, count in sample.items():
            result[value] = result.get(value, 0) + count
    return result
