import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.intervals import share, share_of_sums, student, wilson

votes = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5)), min_size=1, max_size=30)


def test_independent_values_by_hand():
    """100 ones and 100 zeros, a cluster each: variance p(1-p)/199, so 199 independent values, times (z/t)^2."""
    found = share([1.0] * 100 + [0.0] * 100, range(200))
    assert found is not None
    assert (found.estimate, found.num) == (0.5, 200)
    assert (found.low, found.high) == pytest.approx(wilson(0.5, 199 * (1.959964 / student(199)) ** 2))


def test_copies_add_nothing():
    """Every value ten times in its cluster is as sure as once."""
    once, ten = share([1, 0, 1, 1], "abcd"), share([1, 0, 1, 1] * 10, "abcd" * 10)
    assert once is not None and ten is not None
    assert (ten.low, ten.high) == pytest.approx((once.low, once.high))
    assert (once.num, ten.num) == (4, 40)


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
