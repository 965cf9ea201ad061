from decimal import Decimal
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.loss.tdpo1 import tdpo1
from tests.loss.batch import by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid

# Pair (0, 1): rejected minus chosen 0.1 - 0.4 = -0.3; pair (3, 2): 0.7 - 0.2 = 0.5.
KL = (0.4, 0.1, 0.7, 0.2)


def sequential_kl() -> torch.Tensor:
    return torch.tensor(KL, dtype=torch.float64, requires_grad=True)


def test_by_hand():
    """beta 1: margins 0.7 + 0.3 = 1 and 0.9 - 0.5 = 0.4. -log sigmoid: 0.313262, 0.513015.

    Slopes -sigmoid(-1) = -0.268941 and -sigmoid(-0.4) = -0.401312, halved by the average over two pairs; the same for
    the log-ratio and for the divergence of a row. Rewards: log-ratio + KL.
    """
    batch, divergence = make_batch(), sequential_kl()
    output = tdpo1(batch.policy, batch.reference, batch.pairs, divergence, beta=1.0)
    assert output.loss.tolist() == pytest.approx([0.313262, 0.513015], abs=1e-6)
    one, two = 0.268941 / 2, 0.401312 / 2
    assert_close(gradient(reduce(output), batch.policy), by_decision([-one, one, two, -two]), atol=1e-6, rtol=0)
    (slopes,) = torch.autograd.grad(reduce(output), divergence)
    assert slopes.tolist() == pytest.approx([-one, one, two, -two], abs=1e-6)
    assert output.weight.tolist() == [1.0, 1.0]
    assert output.reward is not None and not output.reward.requires_grad
    assert output.reward.tolist() == pytest.approx([1.0, 0.0, -0.1, 0.3])


def test_a_rejected_response_along_which_the_policy_has_drifted_costs_more():
    batch = make_batch()
    near, far = (torch.tensor([0.4, 0.1 + drift, 0.7, 0.2]).double() for drift in (0, 1))
    losses = [tdpo1(batch.policy, batch.reference, batch.pairs, divergence).loss for divergence in (near, far)]
    assert losses[1][0] > losses[0][0] and losses[1][1] == losses[0][1]


def test_without_divergence_it_is_sigmoid():
    batch = make_batch()
    ours = tdpo1(batch.policy, batch.reference, batch.pairs, torch.zeros(4).double(), beta=0.7).loss
    theirs = sigmoid(batch.policy, batch.reference, batch.pairs, beta=0.7).loss
    assert_close(ours, theirs, atol=0, rtol=0)
    assert_close(gradient(ours.sum(), batch.policy), gradient(theirs.sum(), batch.policy), atol=0, rtol=0)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    """Divergences 0.1 and 0.7, as the batch has them."""
    b, apart = Decimal(beta), Decimal("0.6")
    loss = partial(tdpo1, beta=beta)
    assert_exact(loss, lambda w, r: -log_sigmoid(b * (w - r - apart)), steepness=max(beta, 1))
