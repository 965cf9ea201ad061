"""The generator of reviews: its reward, its judge, and that nothing but its seed moves it."""

import math

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
