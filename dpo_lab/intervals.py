"""Shares and means with an interval that knows that what was seen of one prompt is not independent."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

Z95 = 1.959964
"""Quantile of the normal distribution for a two-sided interval of 95 %."""


class Share(NamedTuple):
    """A share in [0, 1], its 95 % interval, and how many values stand behind it."""

    estimate: float
    low: float
    high: float
    num: int

    def as_dict(self) -> dict[str, float | int]:
        return self._asdict()


def share(values: Sequence[float], clusters: Sequence[Hashable]) -> Share | None:
    """Mean of `values` in [0, 1], whose clusters are independent of each other; None where there is none.

    The variance is that of a ratio over clusters (Liang and Zeger 1986); the interval is Wilson's (1927) for as many
    independent values as would have this variance, so that it stays inside of [0, 1].

    >>> share([1, 1, 0, 0], "abcd")
    Share(estimate=0.5, low=0.06..., high=0.93..., num=4)
    """
    sums: defaultdict[Hashable, float] = defaultdict(float)
    counts: defaultdict[Hashable, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value
        counts[cluster] += 1
    return share_of_sums(list(sums.values()), list(counts.values()))


def share_of_sums(sums: Sequence[float], counts: Sequence[float]) -> Share | None:
    """`share` of values that were added up in each cluster."""
    total = sum(counts)
    if not total:
        return None
    estimate = min(1.0, max(0.0, sum(sums) / total))
    num_clusters = len(counts)
    independent = float(min(total, num_clusters))
    if num_clusters > 1 and 0 < estimate < 1:
        spread = sum((part - estimate * count) ** 2 for part, count in zip(sums, counts, strict=True))
        variance = spread / total**2 * num_clusters / (num_clusters - 1)
        if variance > 0:
            independent = min(float(total), estimate * (1 - estimate) / variance)
        # Of few clusters the spread itself is hardly known: Student's quantile in place of the normal one.
        independent *= (Z95 / student(num_clusters - 1)) ** 2
    low, high = wilson(estimate, independent)
    return Share(estimate, low, high, round(total))


class Mean(NamedTuple):
    """A mean, its 95 % interval, and how many values stand behind it.

    The interval is nan where there is one cluster alone, or all clusters say the same: that is no certainty.
    """

    estimate: float
    low: float
    high: float
    num: int


def mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Mean | None:
    """Mean of `values` of any size, whose clusters are independent of each other; None where there is none.

    The variance is that of sums over clusters (Liang and Zeger 1986, with the correction G / (G - 1)), the quantile
    Student's with G - 1 degrees of freedom, G the number of clusters.

    >>> mean([1.0, 2.0, 3.0], "abc")
    Mean(estimate=2.0, low=-0.48..., high=4.48..., num=3)
    """
    if not values:
        return None
    estimate = math.fsum(values) / len(values)
    sums: defaultdict[Hashable, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value - estimate
    largest = max(1.0, max(map(abs, values)))
    if len(sums) < 2 or max(map(abs, sums.values())) <= 1e-12 * largest * len(values):
        return Mean(estimate, math.nan, math.nan, len(values))
    spread = math.fsum(part**2 for part in sums.values()) * len(sums) / (len(sums) - 1)
    half = student(len(sums) - 1) * math.sqrt(spread) / len(values)
    return Mean(estimate, estimate - half, estimate + half, len(values))


def student(freedom: int) -> float:
    """The quantile of Student's distribution for a two-sided 95 % interval, by Hill's expansion (CACM 396, 1970).

    >>> [round(student(freedom), 2) for freedom in (1, 2, 4, 30)]
    [12.71, 4.3, 2.77, 2.04]
    """
    exact = {1: 12.7062, 2: 4.3027, 3: 3.1824}
    z, n = Z95, freedom
    terms = (
        z,
        (z**3 + z) / (4 * n),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3),
    )
    return exact.get(freedom, sum(terms))


def wilson(estimate: float, num: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share that was seen among `num` independent values.

    >>> [round(bound, 3) for bound in wilson(0.5, 100)]
    [0.404, 0.596]
    """
    z2 = Z95**2
    centre = (estimate + z2 / (2 * num)) / (1 + z2 / num)
    half = Z95 / (1 + z2 / num) * math.sqrt(estimate * (1 - estimate) / num + z2 / (4 * num**2))
    return max(0.0, min(estimate, centre - half)), min(1.0, max(estimate, centre + half))
