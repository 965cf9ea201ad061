"""Batches by hand: which rows, and which views of them."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpo_lab.data.batch import Item, response_key
from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.errors import DataError
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.view import View
from dpo_lab.types import Encoded, ImageFile, PreferenceBatch

DATASET = EncodedDataset(
    [
        Encoded((1, 10), ((11, 2), (12, 2), (13, 2))),
        Encoded((1, 20), ((21, 2),)),
        Encoded((1, 30), ((31, 2), (32, 2))),
    ],
    [
        Judgement(((2, 0), (2, 1), (0, 1)), (0.9, 0.8, 0.7), (0.25, -1.0, 0.5), ranking=(2, 0, 1)),
        Judgement(labels=(0,)),
        Judgement(((1, 0),), (0.6,)),
    ],
)
FIRST, SECOND, THIRD = Item(2, (1, 0), (0,)), Item(0, (2, 1), (1,)), Item(0, (2, 0), (0,))
"""A pair of the last example and two of the first."""


def collate(groups: Sequence[Encoded]) -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([[*group.prompt, *ids] for group in groups for ids in group.responses])}


def make(items: Sequence[Item], *wanted: str, max_length: int | None = None) -> PreferenceBatch:
    return DATASET.collate_items(items, collate, View(frozenset(wanted), max_length=max_length))


def responses(batch: PreferenceBatch) -> list[int]:
    """The first token of the response of each row."""
    return batch.inputs["input_ids"][:, 2].tolist()


def test_pairs_by_hand():
    """Items of examples 2, 0, 0: rows 32 31 | 13 12 11, in the order of first use, each group adjacent."""
    batch = make([FIRST, SECOND, THIRD], "pairs")
    assert responses(batch) == [32, 31, 13, 12, 11]
    assert batch.group.tolist() == [0, 0, 1, 1, 1]
    assert batch.pairs.tolist() == [[0, 1], [2, 3], [2, 4]]
    assert batch.chosen.tolist() == [0, 2, 2]
    assert batch.num_items == 3


def test_items_of_one_example_that_stand_apart_share_its_group():
    batch = make([SECOND, FIRST, THIRD], "pairs")
    assert responses(batch) == [13, 12, 11, 32, 31]
    assert batch.pairs.tolist() == [[0, 1], [3, 4], [0, 2]]


def test_views_that_are_not_wanted_are_not_there():
    batch = make([FIRST], "pairs", "chosen")
    views = (batch.ranking, batch.labels, batch.scores, batch.win_probability, batch.drift)
    assert views == (None,) * 5


def test_chosen_has_only_chosen_rows():
    batch = make([Item(0, (2,)), Item(1, (0,)), Item(2, (1,))], "chosen")
    assert responses(batch) == [13, 21, 32]
    assert batch.pairs.shape == (0, 2)
    assert batch.pairs.dtype == torch.long
    assert batch.chosen.tolist() == [0, 1, 2]
    assert batch.num_items == 3


def test_scores_and_probabilities_of_pairs():
    """Rows 32 31 | 13 12 11; example 2 has no scores. Pairs (1, 0) of example 2, (2, 1) and (2, 0) of example 0."""
    batch = make([FIRST, SECOND, THIRD], "win_probability", "scores")
    assert batch.scores is not None
    assert batch.win_probability is not None
    assert batch.scores.isnan().tolist() == [True, True, False, False, False]
    assert batch.scores[2:].tolist() == [0.5, -1.0, 0.25]
    assert batch.win_probability.tolist() == [0.6, 0.8, 0.9]
    assert batch.scores.dtype == batch.win_probability.dtype == torch.float64


def test_scores_are_not_rounded():
    dataset = EncodedDataset([Encoded((1,), ((2,), (3,)))], [Judgement(((0, 1),), (0.1,), (1000.1, 1000.0))])
    wanted = View(frozenset({"pairs", "scores", "win_probability"}))
    batch = dataset.collate_items(dataset.items(wanted), lambda groups: {}, wanted)
    assert batch.scores is not None
    assert batch.win_probability is not None
    assert (batch.scores.tolist(), batch.win_probability.tolist()) == ([1000.1, 1000.0], [0.1])


def test_pairs_with_labels_bring_rows_of_their_own():
    """13 is chosen twice and 11 is chosen and rejected: six rows of one group, labels by turns."""
    items = [THIRD, SECOND, Item(0, (0, 1), (2,))]
    batch = make(items, "pairs", "labels")
    assert responses(batch) == [13, 11, 13, 12, 11, 12]
    assert batch.group.tolist() == [0] * 6
    assert batch.pairs.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert batch.chosen.tolist() == [0, 2, 4]
    assert batch.num_items == 3
    assert batch.key[0].tolist() == batch.key[2].tolist()


def test_labels_by_hand():
    """11 is desirable and undesirable: two rows."""
    items = [Item(0, (2,), label=1), Item(0, (0,), label=0), Item(1, (0,), label=0), Item(0, (0,), label=1)]
    batch = make(items, "labels", "scores")
    assert responses(batch) == [13, 11, 11, 21]
    assert batch.labels is not None
    assert batch.scores is not None
    assert batch.labels.tolist() == [1, 0, 1, 0]
    assert batch.group.tolist() == [0, 0, 0, 1]
    assert (batch.pairs.shape, batch.chosen.tolist()) == ((0, 2), [0, 2])
    assert batch.scores[:3].tolist() == [0.5, 0.25, 0.25]
    assert batch.num_items == 4


def test_lists_by_hand():
    """Lists of two and of three: rows 32 31 | 13 11 12."""
    batch = make([FIRST, Item(0, (2, 0, 1), (0, 1, 2))], "ranking", "win_probability")
    assert responses(batch) == [32, 31, 13, 11, 12]
    assert batch.ranking is not None
    assert batch.win_probability is not None
    assert batch.ranking.tolist() == [[0, 1, -1], [2, 3, 4]]
    assert batch.pairs.tolist() == [[0, 1], [2, 3], [2, 4], [3, 4]]
    assert batch.win_probability.tolist() == [0.6, 0.9, 0.8, 0.7]
    assert (batch.chosen.tolist(), batch.num_items) == ([0, 2], 2)


def test_borrowed_rows_by_hand():
    """Both pairs of example 0 borrow 32, which stands once behind its prompt; the pair of example 2 borrows 13."""
    items = [FIRST._replace(borrowed=(0, 2)), SECOND._replace(borrowed=(2, 1)), THIRD._replace(borrowed=(2, 1))]
    batch = make(items, "pairs", "drift", "scores", "labels")
    assert responses(batch) == [32, 31, 13, 13, 12, 13, 11, 32]
    assert batch.inputs["input_ids"][:, 1].tolist() == [30, 30, 30, 10, 10, 10, 10, 10]
    assert batch.group.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert batch.drift is not None
    assert batch.labels is not None
    assert batch.scores is not None
    assert batch.drift.tolist() == [2, 7, 7]
    assert batch.labels.tolist() == [1, 0, -1, 1, 0, 1, 0, -1]
    assert [math.isnan(batch.scores[row]) for row in (2, 7)] == [True, True]
    assert batch.pairs.tolist() == [[0, 1], [3, 4], [5, 6]]
    assert batch.key[7].tolist() == list(response_key((1, 10), (32, 2)))
    assert batch.num_items == 3


def test_nothing_is_borrowed_of_a_window_with_one_prompt():
    batch = make([SECOND, THIRD], "pairs", "drift")
    assert batch.drift is not None
    assert (batch.drift.shape, batch.drift.dtype) == ((0,), torch.long)


def cut_of(max_length: int | None) -> tuple[int, ...]:
    """What is left of three tokens that are borrowed behind a prompt of four."""
    dataset = EncodedDataset([Encoded((1, 2, 3, 4), ((9,),)), Encoded((1,), ((5, 6, 7),))], [Judgement(), Judgement()])
    seen: list[Encoded] = []

    def keep(groups: Sequence[Encoded]) -> dict[str, Tensor]:
        seen.extend(groups)
        return {}

    wanted = View(frozenset({"chosen", "drift"}), max_length=max_length)
    batch = dataset.collate_items([Item(0, (0,), borrowed=(1, 0))], keep, wanted)
    assert batch.key[1].tolist() == list(response_key((1, 2, 3, 4), seen[0].responses[1]))
    return seen[0].responses[1]


def test_borrowed_response_is_cut_on_the_right():
    """The key is of what is left."""
    assert [cut_of(length) for length in (None, 7, 6, 5)] == [(5, 6, 7), (5, 6, 7), (5, 6), (5,)]


def test_prompt_that_leaves_no_room():
    with pytest.raises(DataError, match=r"4 tokens leaves no room .* data\.max_length=4"):
        cut_of(4)


def test_keys_are_of_prompt_and_response_and_do_not_depend_on_the_batch():
    batch = make([SECOND], "pairs")
    assert batch.key.tolist() == [list(response_key((1, 10), (13, 2))), list(response_key((1, 10), (12, 2)))]
    alone = make([Item(0, (2,))], "chosen")
    assert alone.key[0].tolist() == batch.key[0].tolist()


ids = st.lists(st.integers(0, 2**17), max_size=5)


@given(ids, ids, ids, ids)
def test_equal_keys_mean_equal_ids(prompt: list[int], response: list[int], prompt2: list[int], response2: list[int]):
    same = (prompt, response) == (prompt2, response2)
    assert (response_key(prompt, response) == response_key(prompt2, response2)) == same
    if prompt:  # the boundary is part of the key
        assert response_key(prompt, response) != response_key(prompt[:-1], [prompt[-1], *response])


def test_key_is_the_same_on_every_machine():
    """Golden value: reference caches and per-example outputs are found again by it."""
    assert response_key((1, 2), (3,)) == (706271355803174220, -4007711136226543821)


def test_key_of_a_response_to_an_image_is_of_its_contents():
    """Wherever the file lies; a second image, or another order of two, is another prompt."""
    here, there, other = ImageFile("a.png", "00" * 32), ImageFile("b.png", "00" * 32), ImageFile("a.png", "11" * 32)
    shown = [(), (here,), (other,), (here, other), (other, here)]
    keys = {response_key((1, 2), (3,), images) for images in shown}
    assert len(keys) == len(shown)
    assert response_key((1, 2), (3,), (here,)) == response_key((1, 2), (3,), (there,))
