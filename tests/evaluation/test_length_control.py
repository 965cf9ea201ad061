"""The length-controlled win rate: its laws, and a fit against the equations that define it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.evaluation.figure import share_figure
from dpo_lab.evaluation.length_control import PRIOR_SD, controlled_win_rate

contests = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(-300, 300)), min_size=2, max_size=40)


@given(contests, st.integers(-5, 5))
def test_of_equal_lengths_it_is_the_plain_one(rows: list[tuple[float, int]], difference: int):
    scores = [score for score, _ in rows]
    found, coefficient = controlled_win_rate(scores, [difference] * len(rows), range(len(rows)))
    plain = share_figure(scores, range(len(rows)))
    assert coefficient == 0
    assert (found.value, found.low, found.high) == (plain.value, plain.low, plain.high)


@given(contests)
def test_with_the_sides_changed_it_is_one_less(rows: list[tuple[float, int]]):
    scores, lengths = zip(*rows, strict=True)
    numbers = range(len(rows))
    one, first = controlled_win_rate(scores, lengths, numbers)
    other, second = controlled_win_rate([1 - score for score in scores], [-length for length in lengths], numbers)
    assert 0 <= one.value <= 1
    assert other.value == pytest.approx(1 - one.value, abs=1e-7)
    assert first == pytest.approx(second, abs=1e-6)  # a liking for length stays one
    if not math.isnan(one.low):
        assert one.low - 1e-9 <= one.value <= one.high + 1e-9
        assert (1 - other.high, 1 - other.low) == pytest.approx((one.low, one.high), abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_of_one_prompt_there_is_no_interval():
    found, _ = controlled_win_rate([0.5, 1.0, 0.0], [1, 2, 0], [0, 0, 0])
    assert 0 < found.value < 1 and math.isnan(found.low) and math.isnan(found.high)


def test_a_fit_solves_its_equations():
    """At the maximum the residuals add up to 0, and along tanh(d / sd) to phi over the prior's variance."""
    generator = np.random.default_rng(0)
    lengths = generator.normal(20, 100, size=400)
    chance = 1 / (1 + np.exp(-(0.4 + 1.5 * np.tanh(lengths / lengths.std()))))
    scores = (generator.uniform(size=400) < chance).astype(float)
    found, phi = controlled_win_rate(scores.tolist(), lengths.tolist(), range(400))
    theta = math.log(found.value / (1 - found.value))
    feature = np.tanh(lengths / lengths.std())
    residual = scores - 1 / (1 + np.exp(-(theta + phi * feature)))
    assert residual.sum() == pytest.approx(0, abs=1e-8)
    assert (residual * feature).sum() == pytest.approx(phi / PRIOR_SD**2, abs=1e-8)
    assert found.low < 1 / (1 + math.exp(-0.4)) < found.high and phi == pytest.approx(1.5, abs=0.5)


def test_a_judge_that_sees_nothing_but_length():
    """The longer one always wins, and 30 of 40 responses are longer: plain 3/4, at equal length no better than luck."""
    lengths = [float(number % 40 + 1) for number in range(30)] + [-float(number + 1) for number in range(10)]
    scores = [float(length > 0) for length in lengths]
    found, phi = controlled_win_rate(scores, lengths, range(40))
    assert sum(scores) / 40 == 0.75
    assert phi > 3
    assert found.low < 0.5 < found.high
