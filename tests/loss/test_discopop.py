from decimal import Decimal
from functools import partial

import pytest

from dpo_lab.loss import discopop
from tests.loss.batch import RATIOS, gradient, make_batch, margin_batch
from tests.loss.exact import BETAS, assert_exact, log_sigmoid, sigmoid_of


def test_by_hand():
    """beta 0.05, tau 0.05. Margin 20: x = 1, m = sigmoid(20) = 1 - 2e-9, so exp(-1) = 0.367879, d/dh = -0.05 of it.

    Policy = reference: m = 1/2, (ln 2 + 1) / 2 = 0.846574. dm/dx = 1 / (4 tau) = 5, so d/dx = 5 (1 - 0.693147) - 0.25
    - 0.5 = 0.784264, d/dh = 0.039213: above 0, the first step lowers the margin.
    """
    for margin, value, slope in ((20.0, 0.367879, -0.018394), (0.0, 0.846574, 0.039213)):
        batch = margin_batch([margin])
        output = discopop(batch.policy, batch.reference, batch.pairs, beta=0.05, tau=0.05)
        assert output.loss.item() == pytest.approx(value, abs=1e-6)
        assert gradient(output.loss.sum(), batch.policy)[:, 0].tolist() == pytest.approx([slope, -slope], abs=1e-6)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("tau", [0.05, 1.0])
def test_is_exact(beta: float, tau: float):
    def formula(chosen: Decimal, rejected: Decimal) -> Decimal:
        x = Decimal(beta) * (chosen - rejected)
        m = sigmoid_of(x / Decimal(tau))
        return -(1 - m) * log_sigmoid(x) + m * (-x).exp()

    assert_exact(partial(discopop, beta=beta, tau=tau), formula, steepness=beta / tau)


def test_reward():
    batch = make_batch()
    reward = discopop(batch.policy, batch.reference, batch.pairs, beta=0.3).reward
    assert reward is not None
    assert reward.tolist() == pytest.approx([0.3 * ratio for ratio in RATIOS])
