from decimal import Decimal
from functools import partial

import pytest
from torch.testing import assert_close

from dpo_lab.loss import simpo
from tests.loss.batch import by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid


def test_by_hand():
    """Log-probs a token -3.5 / 3, -0.7, -1.55, -1; beta 3, gamma 0.6: -3.5 + 2.1 - 0.6 = -2; 4.65 - 3 - 0.6 = 1.05.

    -log sigmoid: 2.126928, 0.300058. Slopes of the difference a token: -3 * 0.880797 and -3 * 0.259225, halved by the
    average over two pairs, shared among 3, 1, 2 and 4 tokens.
    """
    batch = make_batch()
    output = simpo(batch.policy, batch.pairs, beta=3.0, gamma=0.6)
    assert output.loss.tolist() == pytest.approx([2.126928, 0.300058], abs=1e-6)
    one, two = 1.5 * 0.880797, 1.5 * 0.259225
    expected = by_decision([-one / 3, one, two / 2, -two / 4])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-6, rtol=0)
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([-3.5, -2.1, -4.65, -3.0])


def test_gamma_is_in_units_of_reward():
    """(beta 2, gamma / beta 0.25) of the authors' code is gamma 0.5: the logit is 2 (difference a token - 0.25)."""
    batch = make_batch()
    means = batch.policy.mean()
    expected = -log_sigmoid(Decimal(2 * ((means[0] - means[1]).item() - 0.25)))
    assert simpo(batch.policy, batch.pairs, beta=2.0, gamma=0.5).loss[0].item() == pytest.approx(float(expected))


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    b, gamma, e = Decimal(beta), Decimal("0.7"), Decimal("0.2")
    assert_exact(
        partial(simpo, beta=beta, gamma=0.7, label_smoothing=0.2),
        lambda w, r: -(1 - e) * log_sigmoid(b * (w - r) - gamma) - e * log_sigmoid(gamma - b * (w - r)),
        steepness=beta,
    )
