from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.data.rank import PairsRule, rank, rank_positions


def test_ties_give_no_pair_within_a_level():
    """Scores 3 2 2 1: levels {0}, {1, 2}, {3}."""
    scores = [3.0, 2.0, 2.0, 1.0]
    assert rank(scores, "all") == ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3))
    assert rank(scores, "adjacent") == ((0, 1), (0, 2), (1, 3), (2, 3))
    assert rank(scores, "best_vs_rest") == ((0, 1), (0, 2), (0, 3))


@given(st.lists(st.integers(0, 4).map(float), max_size=7), st.sampled_from(["all", "adjacent", "best_vs_rest"]))
def test_pairs_are_strict_and_distinct(scores: list[float], pairs: PairsRule):
    ranked = rank(scores, pairs)
    assert all(scores[better] > scores[worse] for better, worse in ranked)
    assert len(set(ranked)) == len(ranked)
    assert set(ranked) <= set(rank(scores, "all"))


def test_complete_order():
    """Best is 2, then 0, then 1."""
    assert rank_positions((2, 0, 1), "all") == ((2, 0), (2, 1), (0, 1))
    assert rank_positions((2, 0, 1), "adjacent") == ((2, 0), (0, 1))
    assert rank_positions((2, 0, 1), "best_vs_rest") == ((2, 0), (2, 1))
    assert rank_positions((0,), "all") == ()
