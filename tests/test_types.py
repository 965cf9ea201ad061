import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.types import LogProbs, PreferenceBatch

TOKEN = torch.tensor([[-1.0, -2.0, 0.0], [-4.0, 0.0, 0.0]], dtype=torch.float64)
MASK = torch.tensor([[True, True, False], [True, False, False]])


def test_sum_mean_and_length_by_hand():
    """Rows (-1, -2) and (-4): sums -3 and -4, lengths 2 and 1, means -1.5 and -4."""
    log_prob = LogProbs(TOKEN, MASK)
    assert log_prob.sum().tolist() == [-3.0, -4.0]
    assert log_prob.length().tolist() == [2.0, 1.0]
    assert log_prob.mean().tolist() == [-1.5, -4.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype: torch.dtype):
    log_prob = LogProbs(TOKEN.to(dtype), MASK)
    assert log_prob.sum().dtype == log_prob.mean().dtype == log_prob.length().dtype == dtype


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 3.0])
def test_what_stands_in_masked_positions_counts_for_nothing(garbage: float):
    token = torch.where(MASK, TOKEN, garbage).requires_grad_()
    log_prob = LogProbs(token, MASK)
    assert log_prob.sum().tolist() == [-3.0, -4.0]
    (gradient,) = torch.autograd.grad(log_prob.mean().sum(), token)
    assert gradient.tolist() == [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]


@given(st.lists(st.lists(st.floats(-100, 0), min_size=1, max_size=6), min_size=1, max_size=5))
def test_sum_is_that_of_python(rows: list[list[float]]):
    width = max(map(len, rows))
    token = torch.tensor([row + [0.0] * (width - len(row)) for row in rows], dtype=torch.float64)
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    log_prob = LogProbs(token, mask)
    assert log_prob.sum().tolist() == pytest.approx([math.fsum(row) for row in rows], abs=1e-9)
    assert log_prob.mean().tolist() == pytest.approx([math.fsum(row) / len(row) for row in rows], abs=1e-9)


@pytest.mark.parametrize(("num_pairs", "expected"), [(3, 3), (0, 2)])
def test_items_are_pairs_else_chosen_responses(num_pairs: int, expected: int):
    batch = PreferenceBatch(
        inputs={},
        group=torch.zeros(4, dtype=torch.long),
        key=torch.zeros(4, 2, dtype=torch.long),
        pairs=torch.zeros(num_pairs, 2, dtype=torch.long),
        chosen=torch.tensor([0, 2]),
    )
    assert batch.num_items == expected
