from decimal import Decimal

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss import cpo, sigmoid
from dpo_lab.types import LogProbs
from tests.loss.batch import by_decision, gradient, make_batch, total
from tests.loss.exact import BETAS, assert_exact, log_sigmoid

# Log-probs of the rows: -3.5, -0.7, -3.1, -4; pairs (0, 1) and (3, 2).


def test_by_hand():
    """beta 0.5: 0.5 (-2.8) = -1.4 and 0.5 (-0.9) = -0.45; -log sigmoid 1.620417, 0.943249; mean 1.281833.

    Plus 0.2 of 7.5 / 7 a chosen token = 0.214286. Slopes: 0.25 sigmoid(1.4) = 0.25 * 0.802184 = 0.200546, 0.25 *
    0.610639 = 0.152660; chosen tokens 0.2 / 7 = 0.028571 more.
    """
    batch = make_batch()
    loss = total(cpo(beta=0.5, weight=0.2), batch)
    assert loss.item() == pytest.approx(1.281833 + 0.214286, abs=1e-6)
    expected = by_decision([-0.200546 - 0.028571, 0.200546, 0.152660, -0.152660 - 0.028571])
    assert_close(gradient(loss, batch.policy), expected, atol=1e-6, rtol=0)


def test_without_the_likelihood_it_is_sigmoid_against_a_uniform_reference():
    batch = make_batch()
    uniform = LogProbs(torch.zeros_like(batch.reference.token), batch.reference.mask)
    expected = sigmoid(batch.policy, uniform, batch.pairs, beta=0.5).loss.mean()
    assert_close(total(cpo(beta=0.5, weight=0.0), batch), expected)


def test_reward_and_needs():
    batch = make_batch()
    objective = cpo(beta=0.5)
    reward = objective(batch.ingredients())["preference"].reward
    assert reward is not None
    assert reward.tolist() == pytest.approx([-1.75, -0.35, -1.55, -2.0])
    assert objective.needs == {"policy", "pairs", "chosen"}


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    b, e = Decimal(beta), Decimal("0.1")
    assert_exact(
        cpo(beta=beta, label_smoothing=0.1, weight=0.5),
        lambda w, r: -(1 - e) * log_sigmoid(b * (w - r)) - e * log_sigmoid(-b * (w - r)) - w / 2,
        steepness=beta,
    )
