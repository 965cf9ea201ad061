"""What a step sees does not depend on how ranks and micro-batches share it: for every kind of item."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.rank import rank
from dpo_lab.data.view import View
from dpo_lab.data.windows import WindowLoader, window_bounds
from dpo_lab.types import Encoded, PreferenceBatch, Window

WANTED = {
    "pairs": {"pairs", "scores", "win_probability"},
    "pairs, borrowing": {"pairs", "drift", "scores"},
    "pairs with labels": {"pairs", "labels", "drift", "scores", "win_probability"},
    "labels": {"labels", "drift", "scores"},
    "lists": {"ranking", "pairs", "win_probability", "scores", "drift"},
    "chosen": {"chosen", "drift", "scores"},
}


def collate(groups: Sequence[Encoded]) -> dict[str, Tensor]:
    rows = [(group.prompt[0], response[0]) for group in groups for response in group.responses]
    return {"rows": torch.tensor(rows).reshape(-1, 2)}


# Of each example: its prompt and the scores of its responses, all different tokens. Only plain values are drawn: the
# runtime type checker draws random numbers, which a strategy must not.
examples = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.integers(0, 3).map(float), min_size=2, max_size=4)),
    min_size=2,
    max_size=6,
)


def make(parts: list[tuple[int, list[float]]]) -> EncodedDataset:
    encoded, judgements = [], []
    for number, (prompt, scores) in enumerate(parts):
        encoded.append(Encoded((prompt,), tuple((100 * number + index,) for index in range(len(scores)))))
        pairs = rank(scores, "all")
        probabilities = tuple((number + place) / 100 for place in range(len(pairs)))
        judgements.append(Judgement(pairs, probabilities, tuple(scores)))
    return EncodedDataset(encoded, judgements)


def facts(batch: PreferenceBatch) -> Iterator[tuple[Any, ...]]:
    """Everything that is said of this batch, in token ids instead of row numbers, item by item."""
    rows = [tuple(row) for row in batch.inputs["rows"].tolist()]
    scores = [None] * len(rows) if batch.scores is None else batch.scores.tolist()
    labels = [None] * len(rows) if batch.labels is None else batch.labels.tolist()
    shown = ["none" if score != score else score for score in scores]
    told = [(*row, label, score) for row, label, score in zip(rows, labels, shown, strict=True)]
    probabilities = [None] * len(batch.pairs) if batch.win_probability is None else batch.win_probability.tolist()
    for (chosen, rejected), probability in zip(batch.pairs.tolist(), probabilities, strict=True):
        yield "pair", told[chosen], told[rejected], probability
    for line in [] if batch.ranking is None else batch.ranking.tolist():
        yield "list", *(told[row] for row in line if row >= 0)
    for row in [] if batch.drift is None else batch.drift.tolist():
        yield "borrowed", told[row]
    for row in batch.chosen.tolist():
        yield "chosen", told[row]
    if batch.labels is not None:
        yield from (("judged", row) for row in told if row[2] != -1)


def windows_of(dataset: EncodedDataset, name: str, **knobs: Any) -> list[Window]:
    view = View(frozenset(WANTED[name]), best_alone=True)
    return list(WindowLoader(dataset, view, collate, seed=0, shuffle=True, is_continued=False, **knobs))


@pytest.mark.parametrize("name", WANTED)
@given(examples, st.integers(2, 6), st.integers(1, 4), st.integers(1, 3))
def test_split_of_a_window_changes_nothing(
    name: str, parts: list[tuple[int, list[float]]], global_batch_size: int, micro_batch_size: int, num_ranks: int
):
    dataset = make(parts)
    num_items = len(dataset.items(View(frozenset(WANTED[name]), best_alone=True)))
    assume(min(num_items, global_batch_size) >= num_ranks)
    bounds = window_bounds(num_items, global_batch_size, num_ranks)
    assume(bounds == window_bounds(num_items, global_batch_size, 1))
    whole = windows_of(dataset, name, global_batch_size=global_batch_size)
    shares = [
        windows_of(
            dataset,
            name,
            global_batch_size=global_batch_size,
            micro_batch_size=micro_batch_size,
            rank=rank,
            num_ranks=num_ranks,
        )
        for rank in range(num_ranks)
    ]
    for (batch,), *of_ranks in zip(whole, *shares, strict=True):
        pieces = list(chain.from_iterable(of_ranks))
        assert Counter(facts(batch)) == Counter(chain.from_iterable(facts(piece) for piece in pieces))
        assert batch.num_items == sum(piece.num_items for piece in pieces)


@pytest.mark.parametrize("name", [name for name, wanted in WANTED.items() if "drift" in wanted])
@given(examples, st.integers(1, 6))
def test_each_item_borrows_once_and_of_another_prompt(
    name: str, parts: list[tuple[int, list[float]]], global_batch_size: int
):
    """Unless all prompts of the window are the same: then nothing is borrowed."""
    dataset = make(parts)
    assume(dataset.items(View(frozenset(WANTED[name]), best_alone=True)))
    prompt_of = {response[0]: encoded.prompt[0] for encoded in dataset.encoded for response in encoded.responses}
    for window in windows_of(dataset, name, global_batch_size=global_batch_size, micro_batch_size=2):
        prompts = {prompt for batch in window for prompt, _ in batch.inputs["rows"].tolist()}
        for batch in window:
            assert batch.drift is not None
            assert len(batch.drift) == (batch.num_items if len(prompts) > 1 else 0)
            for row in batch.drift.tolist():
                prompt, response = batch.inputs["rows"][row].tolist()
                assert prompt_of[response] != prompt
                assert row not in batch.pairs
                assert row not in batch.chosen


def test_response_is_borrowed_over_ranks_and_micro_batches():
    """Four items in order, prompts 0 0 1 2, two ranks with micro-batches of one: each borrows as in one batch.

    0 and 1 borrow of 2, 2 of 3 (another rank's item for none, another micro-batch's for all), 3 of 0.
    """
    dataset = EncodedDataset(
        [Encoded((prompt,), ((10 + n,),)) for n, prompt in enumerate((0, 0, 1, 2))], [Judgement(labels=(1,))] * 4
    )
    borrowed = []
    for rank_number in range(2):
        (window,) = WindowLoader(
            dataset,
            View(frozenset({"labels", "drift"})),
            collate,
            seed=0,
            shuffle=False,
            global_batch_size=4,
            micro_batch_size=1,
            rank=rank_number,
            num_ranks=2,
        )
        borrowed += [told[1][:2] for batch in window for told in facts(batch) if told[0] == "borrowed"]
    assert borrowed == [(0, 12), (0, 12), (1, 13), (2, 10)]
