from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpo_lab.data.encoded import EncodedDataset, Item, response_key
from dpo_lab.types import Encoded

DATASET = EncodedDataset(
    [Encoded((1, 10), ((11, 2), (12, 2), (13, 2))), Encoded((1, 20), ((21, 2),)), Encoded((1, 30), ((31, 2), (32, 2)))],
    [((2, 0), (2, 1)), (), ((1, 0),)],
)


def collate(groups: Sequence[Encoded]) -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([[*group.prompt, *ids] for group in groups for ids in group.responses])}


def test_items():
    assert DATASET.items("pairs") == [Item(0, 2, 0), Item(0, 2, 1), Item(2, 1, 0)]
    assert DATASET.items("chosen") == [Item(0, 2, -1), Item(1, 0, -1), Item(2, 1, -1)]


def test_pairs_batch_by_hand():
    """Items of examples 2, 0, 0: rows 32 31 | 13 12 11, in the order of first use, each group adjacent."""
    batch = DATASET.collate_items([Item(2, 1, 0), Item(0, 2, 1), Item(0, 2, 0)], collate)
    assert batch.inputs["input_ids"][:, 2].tolist() == [32, 31, 13, 12, 11]
    assert batch.group.tolist() == [0, 0, 1, 1, 1]
    assert batch.pairs.tolist() == [[0, 1], [2, 3], [2, 4]]
    assert batch.chosen.tolist() == [0, 2, 2]
    assert batch.num_items == 3


def test_items_of_one_example_that_stand_apart_share_its_group():
    batch = DATASET.collate_items([Item(0, 2, 1), Item(2, 1, 0), Item(0, 2, 0)], collate)
    assert batch.inputs["input_ids"][:, 2].tolist() == [13, 12, 11, 32, 31]
    assert batch.pairs.tolist() == [[0, 1], [3, 4], [0, 2]]


def test_chosen_batch_has_only_chosen_rows():
    batch = DATASET.collate_items(DATASET.items("chosen"), collate)
    assert batch.inputs["input_ids"][:, 2].tolist() == [13, 21, 32]
    assert batch.pairs.shape == (0, 2)
    assert batch.pairs.dtype == torch.long
    assert batch.chosen.tolist() == [0, 1, 2]
    assert batch.num_items == 3


def test_keys_are_of_prompt_and_response_and_do_not_depend_on_the_batch():
    batch = DATASET.collate_items([Item(0, 2, 1)], collate)
    assert batch.key.tolist() == [list(response_key((1, 10), (13, 2))), list(response_key((1, 10), (12, 2)))]
    alone = DATASET.collate_items([Item(0, 2, -1)], collate)
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
