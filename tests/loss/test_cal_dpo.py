from decimal import Decimal
from functools import partial

import pytest
from torch.testing import assert_close

from dpo_lab.loss import cal_dpo
from tests.loss.batch import RATIOS, by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid


def test_by_hand():
    """beta 0.5 seeks +1 and -1; weight 0.5. First pair 0.6, -0.1: 0.403186 + 0.5 (0.16 + 0.81) = 0.888186.

    Second pair 0.1, -0.8: 0.341154 + 0.5 (0.81 + 0.04) = 0.766154. sigmoid(-0.7) = 0.331812, sigmoid(-0.9) = 0.289050.
    Slopes -0.331812 - 0.4, 0.331812 + 0.9; -0.289050 - 0.9, 0.289050 + 0.2; halved by the average over two pairs.
    """
    batch = make_batch()
    output = cal_dpo(batch.policy, batch.reference, batch.pairs, beta=0.5, weight=0.5)
    assert output.loss.tolist() == pytest.approx([0.888186, 0.766154], abs=1e-6)
    expected = by_decision([-0.365906, 0.615906, 0.244525, -0.594525])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-6, rtol=0)
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([0.5 * ratio for ratio in RATIOS])


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    half = 1 / (2 * Decimal(beta))
    assert_exact(
        partial(cal_dpo, beta=beta, weight=0.25),
        lambda w, r: -log_sigmoid(w - r) + ((w - half) ** 2 + (r + half) ** 2) / 4,
    )
