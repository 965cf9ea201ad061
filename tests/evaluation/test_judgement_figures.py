"""Shares of pairs and areas under the ROC curve by hand, and by law."""

import random

import pytest

from dpo_lab.evaluation.judgement_figures import LENGTH, REFERENCE, REWARD, JudgedResponses, judgement_figures
from dpo_lab.explanation.learning import auroc


def test_pairs_by_hand():
    """Rewards: 2 > 1 right, 0 = 0 a tie, 1 < 3 wrong; lengths all right; log-probs a tie (1e-5), right, wrong."""
    scores = {
        REWARD: [2.0, 1.0, 0.0, 0.0, 1.0, 3.0],
        LENGTH: [2, 1, 3, 1, 4, 1],
        REFERENCE: [-1.0, -1.00001, -1.0, -2.0, -3.0, -2.0],
    }
    figures = judgement_figures(JudgedResponses(scores, "aabbcc", [(0, 1), (2, 3), (4, 5)]))
    assert {name: figure.value for name, figure in figures.items()} == {
        "accuracy": 0.5,
        "by_length/accuracy": 1.0,
        "by_reference/accuracy": 0.5,
    }
    assert figures["accuracy"].num == figures["accuracy"].num_clusters == 3


def test_single_judgements_by_hand():
    """Good 3 and 1, bad 2 and 1: of four pairs 3 > 2, 3 > 1, 1 < 2 and 1 = 1, so (1 + 1 + 0 + 1/2) / 4."""
    judged = JudgedResponses({REWARD: [3.0, 2.0, 9.0, 1.0, 1.0]}, "abbcd", labels=[1, 0, -1, 1, 0])
    figure = judgement_figures(judged)["auc"]
    assert figure.value == auroc([3.0, 1.0, 2.0, 1.0], [True, True, False, False]) == 0.625
    assert figure.num_clusters == 4 and figure.low <= 0.625 <= figure.high


def test_nothing_where_nothing_was_judged():
    assert judgement_figures(JudgedResponses({REWARD: [1.0, 2.0]}, "ab")) == {}
    assert judgement_figures(JudgedResponses({REWARD: [1.0, 2.0]}, "ab", labels=[1, 1])) == {}


def test_an_area_is_that_of_all_pairs_and_one_less_the_other_way_round():
    generator = random.Random(0)
    scores = [float(generator.randrange(6)) for _ in range(40)]
    is_good = [generator.random() < 0.4 for _ in scores]
    good, bad = ([s for s, g in zip(scores, is_good, strict=True) if g is side] for side in (True, False))
    counted = sum((a > b) + (a == b) / 2 for a in good for b in bad) / (len(good) * len(bad))
    for sign, area in ((1, counted), (-1, 1 - counted)):
        judged = JudgedResponses({REWARD: [sign * one for one in scores]}, range(40), labels=[int(g) for g in is_good])
        assert judgement_figures(judged)["auc"].value == pytest.approx(area)
        assert auroc(judged.scores[REWARD], is_good) == pytest.approx(area)


def test_copies_of_a_prompt_make_no_area_surer():
    scores, labels = [0.9, 0.4, 0.8, 0.1, 0.5, 0.3, 0.7, 0.2], [1, 1, 0, 0, 1, 0, 1, 0]
    once = judgement_figures(JudgedResponses({REWARD: scores}, "abcdefgh", labels=labels))["auc"]
    often = judgement_figures(JudgedResponses({REWARD: scores * 9}, "abcdefgh" * 9, labels=labels * 9))["auc"]
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high))
