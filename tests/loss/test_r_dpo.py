from decimal import Decimal
from functools import partial

import pytest
from torch.testing import assert_close

from dpo_lab.loss import r_dpo
from tests.loss.batch import LENGTHS, RATIOS, by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid


def test_by_hand():
    """beta 0.5, alpha 0.1, margins 0.7 and 0.9, chosen longer by 3 - 1 and 4 - 2: 0.35 + 0.2 = 0.55; 0.45 + 0.2 = 0.65.

    -log sigmoid: 0.455492, 0.420055. d/dh = -0.5 sigmoid(-0.55) = -0.5 * 0.365864 = -0.182932; -0.5 * 0.342990 =
    -0.171495; halved by the average over two pairs.
    """
    batch = make_batch()
    output = r_dpo(batch.policy, batch.reference, batch.pairs, beta=0.5, alpha=0.1)
    assert output.loss.tolist() == pytest.approx([0.455492, 0.420055], abs=1e-6)
    expected = by_decision([-0.091466, 0.091466, 0.085747, -0.085747])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-6, rtol=0)
    assert output.reward is not None
    rewards = [0.5 * ratio + 0.1 * num for ratio, num in zip(RATIOS, LENGTHS, strict=True)]
    assert output.reward.tolist() == pytest.approx(rewards)


def test_the_sign_a_longer_chosen_response_pushes_less():
    batch = make_batch()
    without, fined, praised = (
        gradient(r_dpo(batch.policy, batch.reference, batch.pairs, alpha=alpha).loss.sum(), batch.policy).abs().sum()
        for alpha in (0.0, 0.5, -0.5)
    )
    assert fined < without < praised


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    """Of one token each, so that lengths cancel."""
    b = Decimal(beta)
    assert_exact(partial(r_dpo, beta=beta, alpha=0.3), lambda w, r: -log_sigmoid(b * (w - r)), steepness=beta)
