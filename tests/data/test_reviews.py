"""The generator of reviews: its reward, its judge, and that nothing but its seed moves it."""

import hashlib
import math

import pytest

from dpo_lab.data.reviews import ASPECTS, reviews, true_reward


def small(**changes):
    return reviews(**{"num_pairs": 200, "num_validation_pairs": 20, "num_demonstrations": 30, **changes})


def test_reward_by_hand():
    """great +1, awful -1, dull -1, plain 0: -1. Case and punctuation do not matter; unknown words count nothing."""
    assert true_reward("The plot was GREAT. An awful, dull ending; plain music.") == -1
    assert true_reward("") == 0


def test_scores_are_the_rewards_of_the_texts():
    for example in small().train:
        assert example.scores == tuple(true_reward(str(response)) for response in example.responses)


def test_same_seed_same_rows_and_another_seed_others():
    assert small().fingerprint == small().fingerprint
    assert small().fingerprint != small(seed=1).fingerprint


def test_a_test_is_drawn_apart():
    """Nothing else moves with it, and it moves with nothing but the seed."""
    without, source = small(), small(num_test_pairs=5)
    assert (source.train, source.validation, source.demonstrations) == (
        without.train,
        without.validation,
        without.demonstrations,
    )
    assert source.test == small(num_pairs=7, num_test_pairs=9).test[:5] != small(seed=1, num_test_pairs=5).test
    assert without.fingerprint == small(num_test_pairs=0).fingerprint != source.fingerprint


def test_responses_of_a_pair_differ_and_fit_their_prompt():
    for example in small().train:
        first, second = (str(response) for response in example.responses)
        assert first != second
        (thing,) = [name for name in ASPECTS if name in str(example.prompt)]
        assert any(aspect in first.lower() for aspect in ASPECTS[thing])


def test_judge_is_bradley_terry():
    """Expected share of preferred-is-better = mean sigmoid(|difference|); 4000 pairs give it to about two points."""
    pairs = reviews(num_pairs=4000, num_validation_pairs=1, num_demonstrations=1).train
    unequal = [example for example in pairs if example.scores and example.scores[0] != example.scores[1]]
    expected = sum(1 / (1 + math.exp(-abs(e.scores[0] - e.scores[1]))) for e in unequal if e.scores) / len(unequal)
    right = [e for e in unequal if e.scores and e.scores[e.pairs[0][0]] > e.scores[e.pairs[0][1]]]
    assert abs(len(right) / len(unequal) - expected) < 0.025


def test_noisier_judge_is_right_less_often():
    def share(scale: float) -> float:
        pairs = [e for e in small(reward_scale=scale, num_pairs=1000).train if e.scores]
        return sum(e.scores[e.pairs[0][0]] > e.scores[e.pairs[0][1]] for e in pairs if e.scores) / len(pairs)

    assert share(0.05) + 0.1 < share(3.0)


def test_counts_are_reported():
    assert small().report.lines() == ["220 rows read: 200 train, 20 validation"]


def test_two_responses_are_drawn_as_ever():
    """Golden: the first pair of seed 0, as it was drawn before lists and probabilities were."""
    first = small().train[0]
    assert (first.prompt, first.source) == ("Review of a book:", "reviews pair 0")
    assert first.responses == (
        " A rather superb first chapter. I found the cover really plain. The cover was quite brilliant.",
        " The hero was average. A rather average hero. I found the cover really brilliant. A boring hero.",
    )
    digest = hashlib.sha256(repr([(e.responses, e.pairs) for e in small().train]).encode()).hexdigest()[:16]
    assert digest == "4ca689d67f719fdc"


def test_probability_and_order_of_a_pair():
    for example in small(reward_scale=0.7).train:
        assert example.scores
        ((better, worse),) = example.pairs
        difference = 0.7 * (example.scores[better] - example.scores[worse])
        assert example.win_probabilities == (pytest.approx(1 / (1 + math.exp(-difference)), rel=1e-12),)
        assert example.ranking == (better, worse)


def test_strict_judge_does_not_overflow():
    (example,) = small(num_pairs=1, reward_scale=1e4, num_responses=3).train
    assert example.scores
    assert example.win_probabilities
    assert [example.scores[index] for index in example.ranking or ()] == sorted(example.scores, reverse=True)
    assert all(probability >= 0.5 for probability in example.win_probabilities)
    assert all(e.win_probabilities and 0 <= e.win_probabilities[0] <= 1 for e in small(reward_scale=1e4).train)


@pytest.mark.parametrize(("rule", "num"), [("all", 6), ("adjacent", 3), ("best_vs_rest", 3)])
def test_lists(rule: str, num: int):
    for example in small(num_pairs=50, num_responses=4, pairs=rule).train:
        assert example.scores == tuple(true_reward(str(response)) for response in example.responses)
        assert len(set(map(str, example.responses))) == 4
        assert sorted(example.ranking or ()) == [0, 1, 2, 3]
        place = {index: number for number, index in enumerate(example.ranking or ())}
        assert all(place[better] < place[worse] for better, worse in example.pairs)
        assert len(example.pairs) == len(example.win_probabilities or ()) == num
        assert example.source.startswith("reviews list ")


def test_order_of_a_list_is_plackett_luce():
    """The first place goes to r with probability exp(reward) / sum exp(reward), the second so among the others.

    Of 4000 lists of three the share in which the drawn first has the expected probability p has a standard deviation
    of sum p (1 - p) / 4000^2 or less, 0.008; four of them are 0.032.
    """
    lists = small(num_pairs=4000, num_responses=3).train
    for place in (0, 1):
        hits = expected = 0.0
        for example in lists:
            assert example.scores
            assert example.ranking
            left = example.ranking[place:]
            weights = [math.exp(example.scores[index]) for index in left]
            # The response that stands first in the file among those left: drawn without regard to the order.
            first = min(left)
            hits += left[0] == first
            expected += weights[left.index(first)] / sum(weights)
        assert abs(hits - expected) / len(lists) < 0.032


def test_probabilities_of_a_list_are_bradley_terrys():
    (example,) = small(num_pairs=1, num_responses=3, reward_scale=0.5).train
    assert example.scores
    assert example.win_probabilities == tuple(
        pytest.approx(1 / (1 + math.exp(-0.5 * (example.scores[better] - example.scores[worse]))))
        for better, worse in example.pairs
    )
