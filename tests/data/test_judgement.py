import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.data.judgement import Judgement
from dpo_lab.types import Example


@pytest.mark.parametrize(
    ("judgement", "order", "with_best_alone"),
    [
        (Judgement(scores=(1.0, 3.0, 2.0)), (1, 2, 0), (1, 2, 0)),
        (Judgement(scores=(1.0, 3.0, 1.0)), None, (1, 0, 2)),
        (Judgement(scores=(3.0, 3.0, 1.0)), None, None),
        (Judgement(scores=(2.0, 2.0), pairs=((1, 0),)), (1, 0), (1, 0)),
        (Judgement(scores=(1.0, 2.0), ranking=(0, 1)), (0, 1), (0, 1)),
        (Judgement(ranking=(2, 0, 1)), (2, 0, 1), (2, 0, 1)),
        (Judgement(ranking=(2, 0, 1), is_best_alone=True), None, (2, 0, 1)),
        (Judgement(ranking=(1, 0), is_best_alone=True), (1, 0), (1, 0)),
        (Judgement(ranking=(0,), scores=(1.0,)), None, None),
        (Judgement(((1, 0),)), (1, 0), (1, 0)),
        (Judgement(((0, 1), (1, 2))), None, None),
        (Judgement(), None, None),
        (Judgement(labels=(1,)), None, None),
    ],
)
def test_order(judgement: Judgement, order: tuple[int, ...] | None, with_best_alone: tuple[int, ...] | None):
    assert judgement.order(best_alone=False) == order
    assert judgement.order(best_alone=True) == with_best_alone


@pytest.mark.parametrize(
    ("judgement", "chosen"),
    [
        (Judgement(((2, 0), (1, 0), (2, 1))), [2, 1]),
        (Judgement(labels=(0, 1, 1)), [1, 2]),
        (Judgement(labels=(0,)), []),
        (Judgement(ranking=(1, 0)), [1]),
        (Judgement(scores=(0.0, 1.0, 0.5)), [1]),
        (Judgement(scores=(1.0,)), [0]),
        (Judgement(), [0]),
    ],
)
def test_chosen(judgement: Judgement, chosen: list[int]):
    assert judgement.chosen() == chosen


def test_labels_win_over_pairs():
    assert Judgement(((0, 1),), labels=(1, 1)).judged() == [(0, 1), (1, 1)]


scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=6)


@given(scores, st.data())
def test_keeping_some_is_judging_some(values: list[float], data: st.DataObject):
    """Without the best of a best-alone list aside, the order of what is left is the order among all."""
    kept = data.draw(st.lists(st.sampled_from(range(len(values))), unique=True, min_size=1))
    judgement = Judgement(scores=tuple(values), labels=tuple(int(value > 0) for value in values))
    left = judgement.keep(kept)
    assert left.scores == tuple(values[index] for index in kept)
    assert left.labels == tuple(int(values[index] > 0) for index in kept)
    order = judgement.order(best_alone=False)
    if order is not None and len(kept) > 1:
        assert [kept[index] for index in left.order(best_alone=False) or ()] == [i for i in order if i in kept]


def test_empty_is_not_none():
    """Of two responses only the one without a pair stays: no pair has a probability, and that is known."""
    left = Judgement(((0, 1),), (0.5,), ranking=(0, 1), is_best_alone=True).keep([1])
    assert left == Judgement((), (), ranking=None, is_best_alone=False)
    assert Judgement().keep([]) == Judgement()


def test_every_judgement_of_an_example_is_taken():
    example = Example("p", ("a", "b"), ((0, 1),), (1.0, 0.0), "here", (0.5,), (1, 0), (0, 1), True)
    assert Judgement.of(example) == Judgement(((0, 1),), (0.5,), (1.0, 0.0), (1, 0), (0, 1), True)
