"""Intervals of figures: by hand where there is a formula, else how often they hold the truth."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

from dpo_lab.evaluation.classes import calibration_error, chance_calibration_error
from dpo_lab.evaluation.figure import bootstrap_figure, mean_figure, share_figure


def test_a_mean_by_hand():
    """1, 2, 3 of a prompt each: sd 1, error 1/sqrt(3), t(2) 4.3027. Each value twice within its prompt says no more."""
    once, twice = mean_figure([1.0, 2.0, 3.0], "abc"), mean_figure([1.0, 2.0, 3.0] * 2, "abcabc")
    half = 4.3027 / math.sqrt(3)
    assert (once.value, once.low, once.high) == pytest.approx((2, 2 - half, 2 + half))
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))
    assert (twice.num, twice.num_clusters) == (6, 3)


def test_what_is_always_the_same_is_not_certain():
    """One cluster, or clusters that agree to the last digit: a mean has no interval, a share has Wilson's."""
    for figure in (mean_figure([1.0, 2.0], "aa"), mean_figure([0.1] * 7, range(7))):
        assert math.isnan(figure.low) and math.isnan(figure.high)
        assert "[" not in figure.text()
    ties = share_figure([0.5] * 40, range(40))
    assert 0.3 < ties.low < 0.5 < ties.high < 0.7


def test_a_bootstrap_of_a_mean_is_nearly_the_interval_of_the_mean():
    values = np.random.default_rng(1).uniform(size=200)
    found = bootstrap_figure(lambda times: float((times * values).sum() / times.sum()), 200)
    wanted = mean_figure(values.tolist(), range(200))
    assert found.value == pytest.approx(wanted.value)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.006)


def test_the_interval_of_a_calibration_error_may_reach_zero():
    """Of a model whose probabilities are right chance alone makes the error; plain percentiles would exclude the truth,
    0, every time."""
    holds = []
    for seed in range(5):
        generator = np.random.default_rng(seed)
        confidence = generator.uniform(0.5, 1, size=300)
        is_right = (generator.uniform(size=300) < confidence).astype(float)
        found = bootstrap_figure(
            lambda times, c=confidence, r=is_right: calibration_error(c, r, times),
            300,
            by_chance=partial(chance_calibration_error, confidence),
        )
        assert found.low <= found.value <= found.high and found.interval == "bootstrap, reversed"
        holds.append(found.low == 0)
    assert sum(holds) >= 4


def test_the_interval_of_a_large_calibration_error_is_above_zero():
    """Said with 0.9, right in one half: 0.4, give or take two errors of 0.5 / sqrt(400)."""
    confidence, is_right = np.full(400, 0.9), np.tile([0.0, 1.0], 200)
    found = bootstrap_figure(
        lambda times: calibration_error(confidence, is_right, times),
        400,
        by_chance=partial(chance_calibration_error, confidence),
    )
    assert (found.value, found.low, found.high) == pytest.approx((0.4, 0.351, 0.449), abs=0.006)


@pytest.mark.parametrize("by_chance", [None, lambda generator: 0.0])
def test_a_bootstrap_of_one_value_has_no_interval(by_chance: Any):
    """Every draw of one text is that text, which says nothing of others."""
    figure = bootstrap_figure(lambda times: 0.5, 1, by_chance=by_chance)
    assert figure.value == 0.5 and math.isnan(figure.low) and math.isnan(figure.high)
