import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.audit.noise import estimate_noise, flipped
from dpo_lab.types import Example


def pair(prompt: str, chosen: str, rejected: str) -> Example:
    return Example(prompt, (chosen, rejected), ((0, 1),))


def test_nothing_judged_twice():
    found = estimate_noise([pair("p", "a", "b"), pair("q", "a", "b")])
    assert (found["num_judged"], found["num_judged_again"]) == (2, 0)
    assert found["disagreement"] is None and found["flipped"] is None and found["declared"] is None


def test_by_hand():
    """Judged a>b, a>b, b>a: 2 of 3 pairs of judgements disagree. Judged twice alike: 0 of 1. In all 2 of 4."""
    examples = [
        pair("p", "a", "b"),
        pair("p", "a", "b"),
        pair("P ", "B", "a"),
        pair("q", "a", "b"),
        pair("q", "a", "b"),
    ]
    found = estimate_noise(examples)
    assert (found["num_judged"], found["num_judged_again"], found["num_contradicted"]) == (2, 2, 1)
    assert found["disagreement"]["estimate"] == 0.5
    assert found["flipped"][0] == 0.5


def test_labels_contradict_each_other():
    labelled = [Example("p", ("a",), labels=(label,)) for label in (1, 0)]
    assert estimate_noise(labelled)["num_contradicted"] == 1


def test_declared_noise():
    """Probabilities 0.9 and 0.6 of being right: (0.1 + 0.4) / 2."""
    examples = [Example("p", ("a", "b"), ((0, 1),), win_probabilities=(p,)) for p in (0.9, 0.6)]
    assert estimate_noise(examples)["declared"] == pytest.approx(0.25)


def test_planted_noise_is_found():
    """1000 pairs judged twice, each judgement flipped with probability 0.2: the interval holds 0.2."""
    generator = random.Random(0)
    examples = []
    for number in range(1000):
        for _ in range(2):
            sides = ("a", "b") if generator.random() < 0.8 else ("b", "a")
            examples.append(pair(f"p{number}", *sides))
    estimate, low, high = estimate_noise(examples)["flipped"]
    assert low < 0.2 < high
    assert high - low < 0.06
    assert estimate == pytest.approx(0.2, abs=0.03)


@given(st.floats(0, 0.5))
def test_flipped_is_the_inverse(share: float):
    assert flipped(2 * share * (1 - share)) == pytest.approx(share, abs=1e-6)
