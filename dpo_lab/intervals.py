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

    @property
    def half_width(self) -> float:
        """Half the width of the interval, which need not lie evenly around the estimate."""
        return (self.high - self.low) / 2

    def as_dict(self) -> dict[str, float | int]:
        return self._asdict()


def share(values: Sequence[float], clusters: Sequence[Hashable]) -> Share | None:
    """Mean of `values` in [0, 1], whose clusters are independent of each other; None where there is none.

    The interval is Wilson's (1927), which stays inside of [0, 1], for an effective number of values (Korn and Graubard
    1998): as many zeros and ones, independent of each other, as would have the variance of this mean.

    * Zeros and ones, a cluster each: for their number. This is Wilson's interval as it stands in the books.
    * Else the variance is that of a ratio over G clusters (Liang and Zeger 1986, with the correction G / (G - 1)), and
      the number shrinks by (1.96 / t)^2, t the quantile of Student's distribution with G - 1 degrees of freedom.
    * Of zeros and ones it is at most n, how many there are. Fractions vary less and may count for more, up to
      n^2 / 1.96^2: what only one value in n / 1.96^2 does may well be missing (Hanley and Lippman-Hand 1983).
    * Of one cluster, of clusters that all say the same, and of a share of 0 or 1 no spread is seen: then it is G.

    >>> share([1, 1, 0, 0], "abcd")
    Share(estimate=0.5, low=0.15..., high=0.84..., num=4)
    """
    sums: defaultdict[Hashable, float] = defaultdict(float)
    counts: defaultdict[Hashable, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value
        counts[cluster] += 1
    return _share(list(sums.values()), list(counts.values()), all(value in (0, 1) for value in values))


def share_of_sums(sums: Sequence[float], counts: Sequence[float]) -> Share | None:
    """`share` of zeros and ones that were added up in each cluster."""
    return _share(sums, counts, True)


def _share(sums: Sequence[float], counts: Sequence[float], zeros_and_ones: bool) -> Share | None:
    total = sum(counts)
    if not total:
        return None
    estimate = min(1.0, max(0.0, sum(sums) / total))
    low, high = wilson(estimate, _effective_number(estimate, sums, counts, zeros_and_ones))
    return Share(estimate, low, high, round(total))


def _effective_number(estimate: float, sums: Sequence[float], counts: Sequence[float], zeros_and_ones: bool) -> float:
    total, num_clusters = float(sum(counts)), len(counts)
    if num_clusters == 1 or not 0 < estimate < 1 or (zeros_and_ones and num_clusters == total):
        return min(total, num_clusters)
    spread = sum((part - estimate * count) ** 2 for part, count in zip(sums, counts, strict=True))
    largest = estimate * (1 - estimate)
    number = min(total, num_clusters)
    if spread > 1e-12 * largest * total:  # else what rounding left of none
        variance = spread / total**2 * num_clusters / (num_clusters - 1)
        number = min(largest / variance, total if zeros_and_ones else (total / Z95) ** 2)
    # Of few clusters the spread itself is hardly known: Student's quantile in place of the normal one.
    return number * (Z95 / student(num_clusters - 1)) ** 2


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
