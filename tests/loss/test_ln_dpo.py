from decimal import Decimal
from functools import partial

import pytest
from torch.testing import assert_close

from dpo_lab.loss import ln_dpo
from tests.loss.batch import LENGTHS, RATIOS, by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid


def test_by_hand():
    """Log-ratios a token 0.2, -0.1, -0.4, 0.025: margins 0.3 and 0.425; beta 2: 0.6 and 0.85.

    -log sigmoid: 0.437488, 0.355865. d/dh = -2 * 0.354344 = -0.708687; -2 * 0.299433 = -0.598866; halved by the average
    over two pairs, and each token carries its response's share: over 3, 1, 2, 4.
    """
    batch = make_batch()
    output = ln_dpo(batch.policy, batch.reference, batch.pairs, beta=2.0)
    assert output.loss.tolist() == pytest.approx([0.437488, 0.355865], abs=1e-6)
    expected = by_decision([-0.354344 / 3, 0.354344, 0.299433 / 2, -0.299433 / 4])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-6, rtol=0)
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([2 * r / num for r, num in zip(RATIOS, LENGTHS, strict=True)])


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    b, e = Decimal(beta), Decimal("0.2")
    assert_exact(
        partial(ln_dpo, beta=beta, label_smoothing=0.2),
        lambda w, r: -(1 - e) * log_sigmoid(b * (w - r)) - e * log_sigmoid(-b * (w - r)),
        steepness=beta,
    )
