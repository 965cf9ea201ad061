from decimal import Decimal
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.loss.tdpo1 import tdpo1
from dpo_lab.loss.tdpo2 import tdpo2
from tests.loss.batch import by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid

# Pair (0, 1): rejected minus chosen 0.1 - 0.4 = -0.3; pair (3, 2): 0.7 - 0.2 = 0.5.
KL = (0.4, 0.1, 0.7, 0.2)


def sequential_kl() -> torch.Tensor:
    return torch.tensor(KL, dtype=torch.float64, requires_grad=True)


def test_by_hand():
    """beta 1, alpha 0.4: margins 0.7 + 0.12 = 0.82 and 0.9 - 0.2 = 0.7. -log sigmoid: 0.364943, 0.403186.

    Slopes of the log-ratios -sigmoid(-0.82) = -0.305764 and -sigmoid(-0.7) = -0.331812, halved by the average over two
    pairs; 0.4 of it for the divergence of the rejected rows 1 and 2, nothing for that of the chosen rows 0 and 3.
    Rewards: log-ratio + 0.4 KL.
    """
    batch, divergence = make_batch(), sequential_kl()
    output = tdpo2(batch.policy, batch.reference, batch.pairs, divergence, beta=1.0, alpha=0.4)
    assert output.loss.tolist() == pytest.approx([0.364943, 0.403186], abs=1e-6)
    one, two = 0.305764 / 2, 0.331812 / 2
    assert_close(gradient(reduce(output), batch.policy), by_decision([-one, one, two, -two]), atol=1e-6, rtol=0)
    (slopes,) = torch.autograd.grad(reduce(output), divergence)
    assert slopes.tolist() == pytest.approx([0.0, 0.4 * one, 0.4 * two, 0.0], abs=1e-6)
    assert output.weight.tolist() == [1.0, 1.0]
    assert output.reward is not None and not output.reward.requires_grad
    assert output.reward.tolist() == pytest.approx([0.76, -0.06, -0.52, 0.18])


def test_alpha_0_is_sigmoid():
    batch = make_batch()
    ours = tdpo2(batch.policy, batch.reference, batch.pairs, sequential_kl(), beta=0.7, alpha=0.0).loss
    theirs = sigmoid(batch.policy, batch.reference, batch.pairs, beta=0.7).loss
    assert_close(ours, theirs, atol=0, rtol=0)
    assert_close(gradient(ours.sum(), batch.policy), gradient(theirs.sum(), batch.policy), atol=0, rtol=0)


def test_alpha_1_has_the_value_of_tdpo1_and_half_its_slopes():
    batch, divergence = make_batch(), sequential_kl()
    ours = tdpo2(batch.policy, batch.reference, batch.pairs, divergence, beta=0.7, alpha=1.0)
    theirs = tdpo1(batch.policy, batch.reference, batch.pairs, divergence, beta=0.7)
    assert_close(ours.loss, theirs.loss, atol=0, rtol=0)
    (mine,), (full,) = (torch.autograd.grad(output.loss.sum(), divergence) for output in (ours, theirs))
    assert mine.tolist() == [0.0, full[1].item(), full[2].item(), 0.0]
    assert full[0].item() != 0


def test_reward_margins_are_what_the_loss_sees():
    batch = make_batch()
    output = tdpo2(batch.policy, batch.reference, batch.pairs, sequential_kl(), beta=0.3, alpha=2.0)
    assert output.reward is not None
    margins = (output.reward[batch.pairs[:, 0]] - output.reward[batch.pairs[:, 1]]).tolist()
    assert output.loss.tolist() == pytest.approx([float(-log_sigmoid(Decimal(margin))) for margin in margins])


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    """Divergences 0.1 and 0.7, as the batch has them."""
    b, apart = Decimal(beta), Decimal("0.6") * Decimal("0.25")
    loss = partial(tdpo2, beta=beta, alpha=0.25)
    assert_exact(loss, lambda w, r: -log_sigmoid(b * (w - r - apart)), steepness=max(beta, 1))
