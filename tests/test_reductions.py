import math

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.reductions import Choices, log_collision, sequential_kl

HALF = [[[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]]
QUARTER = [[[0.25, 0.25, 0.5], [0.5, 0.5, 0.0]]]


def log(probabilities: list[list[list[float]]]) -> torch.Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


def kl(reference: torch.Tensor, policy: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return sequential_kl(Choices.held(reference, mask), Choices.held(policy, mask))


def test_log_collision_by_hand():
    """1/4 + 1/16 + 1/16 = 3/8; a certain choice agrees with itself: log 1 = 0. Masked decisions are 0."""
    mask = torch.tensor([[True, True]])
    assert log_collision(Choices.held(log(HALF), mask)).exp().tolist() == [[0.375, 1.0]]
    assert log_collision(Choices.held(log(HALF), ~mask)).tolist() == [[0.0, 0.0]]


def test_sequential_kl_by_hand():
    """KL = 1/2 log 2 + 1/4 log 1 + 1/4 log 1/2 = 1/4 log 2, and 1 log 2: 5/4 log 2; of the first decision alone 1/4."""
    both, first = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    assert kl(log(HALF), log(QUARTER), both).item() == pytest.approx(1.25 * math.log(2))
    assert kl(log(HALF), log(QUARTER), first).item() == pytest.approx(0.25 * math.log(2))
    assert kl(log(HALF), log(HALF), both).item() == 0.0


def test_gradient_of_sequential_kl_is_policy_minus_reference():
    """With respect to logits: pi - pi_ref at each decision; none at a masked one, none to the reference."""
    generator = torch.Generator().manual_seed(0)
    logits, other = (torch.randn(2, 3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    logits.requires_grad_()
    other.requires_grad_()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    kl(other.log_softmax(-1), logits.log_softmax(-1), mask).sum().backward()
    expected = torch.where(mask[..., None], logits.softmax(-1) - other.softmax(-1), 0.0)
    assert_close(logits.grad, expected.detach())
    assert other.grad is None


def test_impossible_choices_add_nothing_and_break_no_gradient():
    reference = log(QUARTER)
    policy = torch.zeros(1, 2, 3, dtype=torch.float64).log_softmax(-1).requires_grad_()
    kl(reference, policy, torch.tensor([[True, True]])).sum().backward()
    assert policy.grad is not None
    assert policy.grad.isfinite().all()
