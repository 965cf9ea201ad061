"""Places in a catalogue, and what is made of them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.evaluation.ranking import ranking_measures, ranks_of

NOTHING = torch.zeros(1, 5, dtype=torch.bool)


def test_ranks_by_hand():
    """Scores 5 3 4 1 3: before item 1 stand items 0 and 2, and item 4, which has the same score."""
    scores = torch.tensor([[5.0, 3.0, 4.0, 1.0, 3.0]])
    assert [ranks_of(scores, torch.tensor([item]), NOTHING).item() for item in range(5)] == [1, 4, 2, 5, 4]


def test_what_was_seen_takes_no_place():
    scores = torch.tensor([[5.0, 3.0, 4.0, 1.0, 3.0]])
    seen = torch.tensor([[True, False, True, False, False]])
    assert ranks_of(scores, torch.tensor([1]), seen).tolist() == [2]
    assert ranks_of(scores, torch.tensor([0]), seen).tolist() == [1], "the target counts, whatever stands there"


def test_a_constant_ranks_nothing():
    assert ranks_of(torch.zeros(1, 5), torch.tensor([2]), NOTHING).tolist() == [5]


def test_measures_by_hand():
    """1/log2(2) = 1, 1/log2(4) = 0.5, 1/log2(11) = 0.2891, and nothing from place 11 on; reciprocals without an end."""
    measures = ranking_measures(torch.tensor([1, 3, 10, 11]))
    assert measures["ndcg@10"].tolist() == pytest.approx([1, 0.5, 1 / math.log2(11), 0])
    assert measures["hit@10"].tolist() == [1, 1, 1, 0]
    assert measures["mrr"].tolist() == pytest.approx([1, 1 / 3, 0.1, 1 / 11])
    assert list(ranking_measures(torch.tensor([2]), cutoff=1)) == ["ndcg@1", "hit@1", "mrr"]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=8), st.data())
def test_ranks_are_those_of_a_sort(values: list[int], data: st.DataObject):
    target = data.draw(st.integers(0, len(values) - 1))
    seen = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    others = [value for item, value in enumerate(values) if item != target and not seen[item]]
    found = ranks_of(torch.tensor([values]).float(), torch.tensor([target]), torch.tensor([seen]))
    assert found.item() == 1 + sum(value >= values[target] for value in others)
