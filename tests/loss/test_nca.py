from decimal import Decimal
from functools import partial

import pytest
from torch.testing import assert_close

from dpo_lab.loss import nca
from tests.loss.batch import RATIOS, by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid, one_token_pair


def test_by_hand():
    """Policy = reference: ln 2 + ln 2 / 2 + ln 2 / 2 = 1.386294. beta 0.5: d/da = -0.25 + 0.125, d/db = 0.125.

    Over two pairs each is halved.
    """
    batch = make_batch()
    output = nca(batch.policy, batch.policy, batch.pairs, beta=0.5)
    assert output.loss.tolist() == pytest.approx([1.386294] * 2, abs=1e-6)
    expected = by_decision([-0.0625, 0.0625, 0.0625, -0.0625])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)


def test_the_chosen_reward_has_its_minimum_at_ln_2():
    """-sigmoid(-x) + sigmoid(x) / 2 = 0 where sigmoid(x) = 2/3, x = ln 2 = 0.693147."""
    batch = one_token_pair((0.6931471805599453 / 0.5, 0.0))
    output = nca(batch.policy, batch.reference, batch.pairs, beta=0.5)
    assert gradient(output.loss.sum(), batch.policy)[0].item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    b = Decimal(beta)
    assert_exact(
        partial(nca, beta=beta),
        lambda w, r: -log_sigmoid(b * w) - (log_sigmoid(-b * w) + log_sigmoid(-b * r)) / 2,
        steepness=beta,
    )


def test_reward():
    batch = make_batch()
    reward = nca(batch.policy, batch.reference, batch.pairs, beta=0.3).reward
    assert reward is not None
    assert reward.tolist() == pytest.approx([0.3 * ratio for ratio in RATIOS])
