"""Items, and what one item borrows of another."""

from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.data.batch import Item
from dpo_lab.data.encoded import EncodedDataset, known_order, next_other
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.view import View
from dpo_lab.types import Encoded

DATASET = EncodedDataset(
    [
        Encoded((1, 10), ((11, 2), (12, 2), (13, 2))),
        Encoded((1, 20), ((21, 2),)),
        Encoded((1, 30), ((31, 2), (32, 2))),
        Encoded((1, 40), ((41, 2),)),
    ],
    [
        Judgement(((2, 0), (2, 1)), scores=(1.0, 1.0, 3.0)),
        Judgement(),
        Judgement(((1, 0),)),
        Judgement(labels=(0,)),
    ],
)


def view(*wanted: str, best_alone: bool = False) -> View:
    return View(frozenset(wanted), best_alone)


def test_pairs_and_chosen():
    assert DATASET.items(view("pairs")) == [Item(0, (2, 0), (0,)), Item(0, (2, 1), (1,)), Item(2, (1, 0), (0,))]
    assert DATASET.items(view("pairs", "labels")) == DATASET.items(view("pairs"))
    assert DATASET.items(view("chosen")) == [Item(0, (2,)), Item(1, (0,)), Item(2, (1,))]


def test_labels_come_from_pairs_where_there_are_none():
    """Response 2 of the first example is chosen in both of its pairs, and stands once."""
    assert DATASET.items(view("labels")) == [
        Item(0, (2,), label=1),
        Item(0, (0,), label=0),
        Item(0, (1,), label=0),
        Item(2, (1,), label=1),
        Item(2, (0,), label=0),
        Item(3, (0,), label=0),
    ]


def test_response_that_is_chosen_and_rejected_is_two_items():
    dataset = EncodedDataset([Encoded((1,), ((11,), (12,), (13,)))], [Judgement(((0, 1), (1, 2)))])
    assert [(item.responses, item.label) for item in dataset.items(view("labels"))] == [
        ((0,), 1),
        ((1,), 0),
        ((1,), 1),
        ((2,), 0),
    ]


def test_lists():
    """Of the first, the two below the best are tied: an order only for a loss that needs no more than the best."""
    assert DATASET.items(view("ranking")) == [Item(2, (1, 0), (0,))]
    assert DATASET.items(view("ranking", best_alone=True)) == [Item(0, (2, 0, 1), (0, 1)), Item(2, (1, 0), (0,))]


def test_equal_tokens_stand_once_in_a_list_at_their_best_place():
    encoded = Encoded((1,), ((5,), (6,), (5,)))
    assert known_order(encoded, Judgement(ranking=(1, 2, 0)), best_alone=False) == (1, 2)
    assert known_order(Encoded((1,), ((5,), (5,))), Judgement(ranking=(0, 1)), best_alone=False) is None


def test_borrowing_by_hand():
    """Prompts a a b a: 0 and 1 borrow of 2, 2 of 3, and 3, around the end, of 2: 0 and 1 have its own prompt."""
    dataset = EncodedDataset(
        [Encoded((7,), ((1,), (2,))), Encoded((8,), ((3,), (4,))), Encoded((7,), ((5,), (6,)))],
        [Judgement(((0, 1),)), Judgement(((1, 0),)), Judgement(((0, 1),))],
    )
    items = [Item(0, (0, 1), (0,)), Item(2, (0, 1), (0,)), Item(1, (1, 0), (0,)), Item(0, (0, 1), (0,))]
    assert [item.borrowed for item in dataset.borrow(items)] == [(1, 1), (1, 1), (0, 0), (1, 1)]
    assert dataset.borrow(items[:2]) == items[:2], "one prompt, though of two examples"


@given(st.lists(st.integers(0, 2).map(lambda value: (value,)), max_size=8))
def test_next_other_is_the_first_that_differs(values: list[tuple[int, ...]]):
    for place, found in enumerate(next_other(values)):
        others = [(place + step) % len(values) for step in range(1, len(values))]
        assert found == next((other for other in others if values[other] != values[place]), None)
