import math
from decimal import Decimal
from functools import partial

import pytest

from dpo_lab.loss import spin
from tests.loss.batch import RATIOS, gradient, make_batch, margin_batch
from tests.loss.exact import BETAS, assert_exact


def test_by_hand():
    """beta 0.5, margin 2: log(1 + exp(-1)) = 0.313262; d/dh = -0.5 / (1 + e) = -0.134471."""
    batch = margin_batch([2.0])
    output = spin(batch.policy, batch.reference, batch.pairs, beta=0.5)
    assert output.loss.item() == pytest.approx(math.log1p(math.exp(-1)))
    assert gradient(output.loss.sum(), batch.policy)[:, 0].tolist() == pytest.approx([-0.134471, 0.134471], abs=1e-6)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    def formula(demonstration: Decimal, own: Decimal) -> Decimal:
        x = Decimal(beta) * (own - demonstration)
        return (1 + x.exp()).ln() if x < 0 else x + (1 + (-x).exp()).ln()

    assert_exact(partial(spin, beta=beta), formula, steepness=beta)


def test_reward():
    batch = make_batch()
    reward = spin(batch.policy, batch.reference, batch.pairs, beta=0.3).reward
    assert reward is not None
    assert reward.tolist() == pytest.approx([0.3 * ratio for ratio in RATIOS])
