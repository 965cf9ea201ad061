"""Measures of classes by hand, and by law against another way to compute them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.evaluation.classes import (
    accuracy,
    brier_scores,
    calibration_bins,
    calibration_error,
    class_f1,
    class_measures,
    confusion_counts,
    macro_f1,
)


def test_by_hand():
    """Gold a a a b, decided a a b b: of a 2 hits in 3 + 2, F1 4/5; of b 1 hit in 1 + 2, F1 2/3; nothing of c."""
    counts = confusion_counts(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 3)
    assert counts.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert accuracy(counts) == 0.75
    assert class_f1(counts) == pytest.approx([0.8, 2 / 3, 0])
    assert macro_f1(counts) == pytest.approx((0.8 + 2 / 3) / 2)


def test_calibration_by_hand():
    """Bin 0.5 to 0.6: mean 0.55 against 1 of 2; bin 0.9 to 1: mean 0.95 against 1 of 1. (2 * 0.05 + 0.05) / 3."""
    assert calibration_error(np.array([0.5, 0.6 - 1e-9, 0.95]), np.array([1.0, 0.0, 1.0])) == pytest.approx(0.05)
    assert calibration_error(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0


def test_measures_of_probabilities():
    """-log 0.8 and -log 0.3: the second is given another class."""
    found = class_measures(np.array([0, 1]), np.log(np.array([[0.8, 0.2], [0.7, 0.3]])))
    assert found["accuracy"] == 0.5
    assert found["log_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.3)) / 2)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["calibration_error"] == pytest.approx((0.2 + 0.7) / 2)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(rows: list[tuple[int, int]]):
    gold, decided = np.array(rows).T
    f1 = class_f1(confusion_counts(gold, decided, 5))
    for number in range(5):
        hits = ((gold == number) & (decided == number)).sum()
        precision, recall = (hits / max(1, (side == number).sum()) for side in (decided, gold))
        wanted = 2 * precision * recall / (precision + recall) if hits else 0
        assert f1[number] == pytest.approx(wanted)


def test_brier_scores_by_hand():
    """0.2^2 + 0.2^2, and 0.7^2 + 0.7^2; a certain mistake has 2, the most there is."""
    scores = brier_scores(np.array([0, 1, 0]), np.array([[0.8, 0.2], [0.7, 0.3], [0.0, 1.0]]))
    assert scores == pytest.approx([0.08, 0.98, 2.0])


def test_bins_are_what_the_calibration_error_is_made_of():
    generator = np.random.default_rng(0)
    confidence = generator.uniform(size=500)
    is_right = (generator.uniform(size=500) < confidence**2).astype(float)
    bins = calibration_bins(confidence, is_right)
    assert [bin.num for bin in bins] == np.histogram(confidence, 10, (0, 1))[0].tolist()
    gap = sum(bin.num * abs(bin.confidence - bin.accuracy) for bin in bins) / 500
    assert gap == pytest.approx(calibration_error(confidence, is_right))
    twice = calibration_error(np.repeat(confidence, 2), np.repeat(is_right, 2))
    assert calibration_error(confidence, is_right, np.full(500, 2)) == pytest.approx(twice)
    assert np.isnan(calibration_bins(np.array([0.95]), np.array([1.0]))[0].accuracy)
