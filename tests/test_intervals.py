import math
from collections.abc import Hashable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.intervals import Z95, share, share_of_sums, student, wilson

values_in_clusters = st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 5))
votes = st.lists(values_in_clusters, min_size=1, max_size=30)


def interval(values: list[float], clusters: Sequence[Hashable]) -> tuple[float, float]:
    found = share(values, clusters)
    assert found is not None
    return found.low, found.high


def test_independent_zeros_and_ones_have_the_interval_of_the_books():
    """5 of 15: z^2 = 3.8415, centre (1/3 + z^2/30) / (1 + z^2/15) = 0.36732, half
    z / (1 + z^2/15) sqrt(2/9/15 + z^2/900) = 0.21555."""
    assert interval([1.0] * 5 + [0.0] * 10, range(15)) == pytest.approx((0.15177, 0.58287), abs=1e-5)


def test_clusters_by_hand():
    """Clusters 11, 10, 00 of zeros and ones: p 1/2, sums less p times 2 are 1, 0, -1, variance 2/36 * 3/2 = 1/12, so 3
    independent values, times (z/t)^2 with t(2)."""
    wanted = wilson(0.5, 3 * (Z95 / student(2)) ** 2)
    assert interval([1.0, 1.0, 1.0, 0.0, 0.0, 0.0], "aabbcc") == pytest.approx(wanted)


def test_fractions_by_hand():
    """p(1-p) is 0.25. 20 times 0.2 and 20 times 0.8: variance of the mean 0.09/39, so 108.3 zeros and ones, more than
    the 40 values. 20 times 0.4 and 20 times 0.6: 0.01/39, so 975; 40 values count for 40^2/z^2 = 416.5 at most."""
    narrower = (Z95 / student(39)) ** 2
    assert interval([0.2, 0.8] * 20, range(40)) == pytest.approx(wilson(0.5, 0.25 * 39 / 0.09 * narrower))
    assert interval([0.4, 0.6] * 20, range(40)) == pytest.approx(wilson(0.5, (40 / Z95) ** 2 * narrower))


def test_of_many_fractions_the_interval_is_that_of_their_mean():
    """600 rankings, most without a hit: half the width is 1.96 errors of the mean, as of the normal distribution."""
    ranks = np.exp(np.random.default_rng(0).normal(4, 2, size=600)).round() + 1
    gains = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0.0)
    found = share(gains.tolist(), range(600))
    assert found is not None and found.low > 0
    assert found.half_width == pytest.approx(Z95 * gains.std(ddof=1) / math.sqrt(600), rel=0.02)


def test_few_fractions_that_nearly_agree_are_not_certain():
    low, high = interval([0.43, 0.43, 0.431], "abc")
    assert low < 0.1 and high > 0.85


def test_copies_add_nothing():
    """Every value twenty times in its cluster is as sure as twice, and less sure than as often by itself."""
    twice, many = (interval([1.0, 0.0, 1.0, 1.0] * num, "abcd" * num) for num in (2, 20))
    assert many == pytest.approx(twice)
    alone = interval([1.0, 0.0, 1.0, 1.0] * 20, range(80))
    assert many[0] < alone[0] and alone[1] < many[1]


def test_nothing_and_certainty():
    """No value, no share; ten values that agree leave room on one side: 10 / (10 + 3.84) = 0.72."""
    assert share([], []) is None
    found = share([1.0] * 10, range(10))
    assert found is not None
    assert (found.estimate, found.low, found.high) == pytest.approx((1.0, 0.72246, 1.0), abs=1e-4)


@given(votes)
def test_laws(values: list[tuple[float, int]]):
    """The interval holds the estimate and stays in [0, 1]; turning every vote around mirrors it."""
    found = share([value for value, _ in values], [cluster for _, cluster in values])
    turned = share([1 - value for value, _ in values], [cluster for _, cluster in values])
    assert found is not None and turned is not None
    assert 0 <= found.low <= found.estimate + 1e-12 and found.estimate - 1e-12 <= found.high <= 1
    assert (1 - turned.high, 1 - turned.low) == pytest.approx((found.low, found.high), abs=1e-9)


def test_sums_are_the_same_as_values():
    assert share([1, 0, 1], "aab") == share_of_sums([1, 1], [2, 1])
