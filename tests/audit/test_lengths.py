import math

from dpo_lab.audit.lengths import NUM_BINS, longer_wins, summarize


def test_summary_by_hand():
    """1 to 5: mean 3, median 3; every value is in one bin of the histogram."""
    found = summarize([5, 1, 2, 4, 3])
    assert (found["num"], found["mean"]) == (5, 3.0)
    assert (found["quantiles"]["0"], found["quantiles"]["0.5"], found["quantiles"]["1"]) == (1.0, 3.0, 5.0)
    assert sum(found["histogram"]["counts"]) == 5
    assert len(found["histogram"]["edges"]) == NUM_BINS + 1
    assert summarize([]) == {"num": 0}


def test_empty_texts_are_counted():
    assert sum(summarize([0, 0, 7])["histogram"]["counts"]) == 3


def test_longer_wins_by_hand():
    """Two longer, one shorter, one tie: (1 + 1 + 0 + 1/2) / 4 = 0.625."""
    found = longer_wins([3, 9, 1, 2], [1, 3, 2, 2], "abcd")
    assert found is not None
    assert (found["share"]["estimate"], found["num_ties"]) == (0.625, 1)
    assert longer_wins([], [], []) is None


def test_groups_go_from_like_to_unlike():
    """The longer one wins where it is twice as long, and loses where it is four times as long; ties are in no group."""
    chosen, rejected = [20] * 50 + [10] * 50 + [5] * 3, [10] * 50 + [40] * 50 + [5] * 3
    found = longer_wins(chosen, rejected, range(103))
    assert found is not None
    groups = found["by_difference"]
    assert [round(group["ratio"], 6) for group in groups] == [2.0] * 5 + [4.0] * 5
    assert [group["estimate"] for group in groups] == [1.0] * 5 + [0.0] * 5
    assert math.isclose(sum(group["num"] for group in groups), 100)
