import random

import numpy
import pytest

from dpo_lab.audit.judged import JudgedPair, Labelled
from dpo_lab.audit.surface import FEATURES, RIDGE, compare_labels, compare_pairs, features, fit_logistic

WORDS = [
    "the",
    "a",
    "of",
    "it",
    "one",
    "two",
    "red",
    "blue",
    "green",
    "hill",
    "tree",
    "road",
    "house",
    "river",
    "cloud",
]


def text(generator: random.Random, num: int = 8) -> str:
    return " ".join(generator.choices(WORDS, k=num))


def pairs(num: int, mark: str = "", seed: int = 0) -> list[JudgedPair]:
    """Chosen and rejected drawn alike, but for `mark` behind each chosen one."""
    generator = random.Random(seed)
    return [JudgedPair(n, n, "p", text(generator) + mark, text(generator), (0, 1)) for n in range(num)]


def test_newton_finds_the_minimum():
    """The gradient of the penalised loss is zero there."""
    generator = numpy.random.default_rng(0)
    rows, targets = generator.normal(size=(50, 3)), generator.integers(0, 2, 50).astype(float)
    weights = fit_logistic(rows, targets)
    predicted = 1 / (1 + numpy.exp(-rows @ weights))
    assert numpy.abs(rows.T @ (predicted - targets) + RIDGE * weights).max() < 1e-9


def test_noise_is_not_predicted():
    """400 pairs without any difference: the interval of the accuracy holds one half."""
    found = compare_pairs(pairs(400))
    assert found is not None
    for name in ("length_only", "all_features"):
        assert found[name]["low"] < 0.5 < found[name]["high"]


@pytest.mark.parametrize(
    ("mark", "feature"), [("!", "exclamation marks"), ("\n", "white space last"), ("?", "question marks")]
)
def test_a_planted_mark_is_found(mark: str, feature: str):
    found = compare_pairs(pairs(100, mark))
    assert found is not None
    assert found["all_features"]["estimate"] == 1.0
    # A line break at the end is a line break as well.
    best = {one["feature"] for one in found["single"] if one["estimate"] == 1.0}
    assert feature in best


def test_length_alone():
    """Chosen has twice the words, so length tells every pair, in whatever direction."""
    generator = random.Random(0)
    longer = [JudgedPair(n, n, "p", text(generator, 16), text(generator, 8), (0, 1)) for n in range(60)]
    shorter = [one._replace(chosen=one.rejected, rejected=one.chosen) for one in longer]
    for judged in (longer, shorter):
        found = compare_pairs(judged)
        assert found is not None and found["length_only"]["estimate"] == 1.0


def test_pairs_of_one_prompt_are_on_one_side():
    """Ten random pairs, each ten times: 18 features could learn them by heart, were a copy not held out with the pair.

    And a copy adds no certainty: the interval is that of ten.
    """
    distinct = pairs(10, seed=3)
    repeated = [
        one._replace(example=n, prompt_id=one.prompt_id)
        for n, one in enumerate(one for one in distinct for _ in range(10))
    ]
    found = compare_pairs(repeated)
    assert found is not None
    assert found["all_features"]["estimate"] < 0.8
    assert found["all_features"]["high"] - found["all_features"]["low"] > 0.3
    assert compare_pairs(pairs(4)) is None


def test_labels():
    """Desirable responses end on a mark; of 60, 40 are desirable, which the commoner label alone scores."""
    generator = random.Random(0)
    labelled = [Labelled(n, n, "p", text(generator) + "!" * (n % 3 > 0), int(n % 3 > 0)) for n in range(60)]
    found = compare_labels(labelled)
    assert found is not None
    assert found["majority"]["estimate"] == pytest.approx(2 / 3)
    assert found["all_features"]["estimate"] == 1.0
    assert compare_labels([one._replace(label=1) for one in labelled]) is None


def test_every_feature_is_a_finite_number_of_any_text():
    for sample in ("", " ", "a", "# A\n- b\n1. c `d` **e**", "I can\u2019t.", "\u4f60\u597d\uff01"):
        assert len(features(sample)) == len(FEATURES)
        assert numpy.isfinite(features(sample)).all()
    assert dict(zip(FEATURES, features("I can\u2019t."), strict=True))["words of refusal"] == 1.0
    assert dict(zip(FEATURES, features("- b\n2) c"), strict=True))["list items"] == pytest.approx(numpy.log(3))
