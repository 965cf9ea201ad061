"""What seeds can say: intervals, paired tests, corrections, power. Numbers in, numbers out; no run, no name of a curve.

Everything takes its sample along the last axis. A sample whose values are all equal is no evidence of certainty (a seed
that moves nothing gives one), so it is not tested: its p is nan.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy import special

CONFIDENCE = 0.95
POWER = 0.8
FEWEST_FOR_BOOTSTRAP = 8
"""Below it a bootstrap draws from too few distinct samples: its interval is too narrow."""
MOST_SEEDS = 1000
_LARGEST_SHIFT = 300.0

Array = np.ndarray[Any, np.dtype[np.float64]]


class Estimate(NamedTuple):
    """A mean over `count` values and its 95 % interval, which is nan where `count` is below 2."""

    mean: float
    low: float
    high: float
    sd: float
    count: int

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


class PairedTest(NamedTuple):
    """A mean difference over `count` pairs; interval and p (two-sided, Student's t) are nan where they say nothing."""

    difference: float
    low: float
    high: float
    p: float
    sd: float
    count: int


class ClusteredTest(NamedTuple):
    """As `PairedTest`, over `count` values in `num_clusters` clusters of values that may have something in common."""

    difference: float
    low: float
    high: float
    p: float
    count: int
    num_clusters: int


def finite(values: Any) -> Array:
    """The values that are numbers, as float64."""
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def t_quantile(count: int, alpha: float) -> float:
    """How many standard errors wide half of the two-sided interval at level 1 - alpha is.

    >>> round(t_quantile(5, 0.05), 3)
    2.776
    """
    return float(special.stdtrit(count - 1, 1 - alpha / 2)) if count > 1 else float("nan")


def estimate(values: Any, confidence: float = CONFIDENCE) -> Estimate:
    """Mean and Student's t interval of the finite ones of `values`.

    >>> estimate([1.0, 2.0, 3.0]).mean
    2.0
    """
    sample = finite(values)
    count = len(sample)
    if count == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), float("nan"), 0)
    mean = float(sample.mean())
    if count == 1:
        return Estimate(mean, float("nan"), float("nan"), float("nan"), 1)
    sd = float(sample.std(ddof=1))
    half = t_quantile(count, 1 - confidence) * sd / count**0.5
    return Estimate(mean, mean - half, mean + half, sd, count)


def bootstrap_interval(values: Any, confidence: float = CONFIDENCE, seed: int = 0) -> tuple[float, float] | None:
    """BCa interval of the mean (10000 draws); None below `FEWEST_FOR_BOOTSTRAP` values or where all are equal."""
    sample = finite(values)
    if len(sample) < FEWEST_FOR_BOOTSTRAP or np.ptp(sample) == 0:
        return None
    # Here, since it takes a second that most reports need not spend.
    from scipy import stats

    drawn = stats.bootstrap((sample,), np.mean, n_resamples=10_000, confidence_level=confidence, rng=seed)
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def paired_p(differences: Array) -> Array:
    """Two-sided p of Student's t for ``differences[..., n]`` against 0: ``[...]``, nan where there is no spread."""
    count = differences.shape[-1]
    if count < 2:
        return np.full(differences.shape[:-1], np.nan)
    mean, sd = differences.mean(axis=-1), differences.std(axis=-1, ddof=1)
    # Equal values: their spread is rounding, not evidence.
    flat = np.ptp(differences, axis=-1) <= 1e-12 * np.maximum(1.0, np.abs(differences).max(axis=-1))
    t = mean / np.where(flat, 1.0, sd) * count**0.5
    return np.where(flat, np.nan, 2 * special.stdtr(count - 1, -np.abs(t)))


def paired_test(differences: Any, confidence: float = CONFIDENCE) -> PairedTest:
    """Test the mean of finite `differences` against 0."""
    sample = finite(differences)
    summary = estimate(sample, confidence)
    p = float(paired_p(sample)) if len(sample) else float("nan")
    low, high = (summary.low, summary.high) if np.isfinite(p) else (float("nan"), float("nan"))
    return PairedTest(summary.mean, low, high, p, summary.sd, summary.count)


def clustered_test(differences: Any, clusters: Any, confidence: float = CONFIDENCE) -> ClusteredTest:
    """Test the mean of `differences` against 0 where values with the same number in `clusters` are no independent news.

    The variance of the mean is that of sums over clusters (Liang and Zeger 1986, Biometrika 73, with the correction
    G / (G - 1)), and t has G - 1 degrees of freedom, G the number of clusters. With one value a cluster it is
    `paired_test`. Where all sums are equal, or there is one cluster, interval and p are nan.
    """
    values, numbers = np.asarray(differences, dtype=np.float64), np.asarray(clusters)
    is_known = np.isfinite(values)
    values, (_, numbers) = values[is_known], np.unique(numbers[is_known], return_inverse=True)
    count, num_clusters = len(values), int(numbers.max(initial=-1)) + 1
    nothing = float("nan")
    mean = float(values.mean()) if count else nothing
    if num_clusters < 2 or np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return ClusteredTest(mean, nothing, nothing, nothing, count, num_clusters)
    sums = np.bincount(numbers, weights=values - mean)
    error = float(np.sqrt((sums**2).sum() * num_clusters / (num_clusters - 1))) / count
    if error <= 1e-12 * max(1.0, abs(mean)):  # the clusters say the same to the last digit
        return ClusteredTest(mean, nothing, nothing, nothing, count, num_clusters)
    half = t_quantile(num_clusters, 1 - confidence) * error
    p = float(2 * special.stdtr(num_clusters - 1, -abs(mean) / error))
    return ClusteredTest(mean, mean - half, mean + half, p, count, num_clusters)


def best_of_sides(left: Array, right: Array, confidence: float = CONFIDENCE) -> PairedTest:
    """Test max_a(mean of row a of `left`) - max_b(mean of row b of `right`), true means meant, against 0.

    ``left[a, n]`` and ``right[b, n]`` share their n seeds. That the best row is not known makes no luck of it: the left
    side is the better one where one of its rows beats every row of the other, so of a row the largest p over the
    other side counts (intersection-union, Berger 1982, Technometrics 24), and of all rows the smallest, times
    their number (Bonferroni); the same the other way round; the interval holds the differences that are not rejected
    so. One row a side is `paired_test`. Choosing the best row on all seeds but one and testing on that one would not
    do: those differences depend on each other, and 12 to 18 of 100 sweeps without a difference would have one at 5 %.

    The difference is that of the largest means seen. It always lies in the interval, and on the side of 0 on which an
    interval without 0 lies: max_a min_b and min_b max_a of the differences of means are both that number, one end of
    the interval is below the one, the other above the other. Interval and p are nan for fewer than two seeds, and
    where no two rows differ by more than a constant; `sd` is nan, since no single sample was tested.
    """
    nothing = float("nan")
    differences = left[:, None, :] - right[None, :, :]
    count = differences.shape[-1]
    is_known = np.isfinite(paired_p(differences))
    mean = differences.mean(axis=-1) if count else np.full(is_known.shape, nothing)
    difference = float(mean.min(axis=1).max())
    if not is_known.any():
        return PairedTest(difference, nothing, nothing, nothing, nothing, count)
    error = np.where(is_known, differences.std(axis=-1, ddof=1), np.inf) / count**0.5
    one_sided = special.stdtr(count - 1, -mean / error), special.stdtr(count - 1, mean / error)
    better, worse = (np.where(is_known, p, 1.0) for p in one_sided)
    p = 2 * min(len(left) * better.max(axis=1).min(), len(right) * worse.max(axis=0).min(), 0.5)
    widths = [t_quantile(count, (1 - confidence) / rows) for rows in (len(left), len(right))]
    low = (mean - widths[0] * error).min(axis=1).max()
    high = (mean + widths[1] * error).max(axis=0).min()
    return PairedTest(difference, float(low), float(high), float(p), nothing, count)


def holm(p_values: Any) -> Array:
    """Holm's step-down p values along the last axis; nan was not tested, stays nan and is not counted.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03]).tolist()]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, axis=-1)  # nan last
    ranked = np.take_along_axis(p, order, axis=-1)
    num_tests = np.isfinite(p).sum(axis=-1, keepdims=True)
    factors = np.maximum(num_tests - np.arange(p.shape[-1]), 1)
    stepped = np.minimum(np.maximum.accumulate(ranked * factors, axis=-1), 1.0)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, stepped, axis=-1)
    return np.where(np.isnan(p), np.nan, adjusted)


def power_of_t(effect: float, count: int, alpha: float) -> float:
    """Chance that a two-sided paired t test at `alpha` finds a mean difference of `effect` standard deviations."""
    critical, shift = t_quantile(count, alpha), abs(effect) * count**0.5
    if shift > _LARGEST_SHIFT:
        return float("nan")
    above = 1 - special.nctdtr(count - 1, shift, critical)
    return float(above + special.nctdtr(count - 1, shift, -critical))


def minimum_detectable(sd: float, count: int, alpha: float, power: float = POWER) -> float:
    """The smallest true mean difference that `count` pairs with spread `sd` find with chance `power`.

    nan for fewer than two pairs, without spread, or where it is beyond 300 standard errors.
    """
    return _detectable_effect(count, alpha, power) * sd if count > 1 and sd > 0 else float("nan")


@cache
def _detectable_effect(count: int, alpha: float, power: float) -> float:
    """`minimum_detectable` at a spread of 1."""
    low, high = 0.0, _LARGEST_SHIFT / count**0.5
    if not power_of_t(high * (1 - 1e-9), count, alpha) >= power:
        return float("nan")
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if power_of_t(middle, count, alpha) < power else (low, middle)
    return high


def seeds_needed(difference: float, sd: float, alpha: float, power: float = POWER) -> int | None:
    """The fewest pairs that find a true mean `difference` with chance `power`; None beyond `MOST_SEEDS` or for nothing.

    >>> seeds_needed(0.5, 1.0, 0.05)
    34
    """
    if not sd > 0 or not abs(difference) > 0:
        return None
    low, high = 1, MOST_SEEDS
    if _finds(difference / sd, high, alpha) < power:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _finds(difference / sd, middle, alpha) < power else (low, middle)
    return high


def _finds(effect: float, count: int, alpha: float) -> float:
    power = power_of_t(effect, count, alpha)
    return 1.0 if np.isnan(power) else power
