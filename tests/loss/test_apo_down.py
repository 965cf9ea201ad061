from decimal import Decimal
from functools import partial

import pytest
from torch.testing import assert_close

from dpo_lab.loss import apo_down
from tests.loss.batch import RATIOS, by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, one_token_pair, sigmoid_of


def test_by_hand():
    """beta 0.5, log-ratios 2 and -2: sigmoid(1) = 0.731059, 1 - sigmoid(2) = 0.119203, in all 0.850262.

    d/da = 0.5 (0.731059 * 0.268941 - 0.880797 * 0.119203) = 0.5 (0.196612 - 0.104994) = 0.045809; d/db = 0.5 * 0.104994
    = 0.052497.
    """
    batch = one_token_pair((2.0, -2.0))
    output = apo_down(batch.policy, batch.reference, batch.pairs, beta=0.5)
    assert output.loss.item() == pytest.approx(0.850262, abs=1e-6)
    assert gradient(output.loss.sum(), batch.policy)[:, 0].tolist() == pytest.approx([0.045809, 0.052497], abs=1e-6)


def test_only_the_rejected_response_moves_where_policy_is_reference():
    batch = make_batch()
    output = apo_down(batch.policy, batch.policy, batch.pairs, beta=0.4)
    assert output.loss.tolist() == pytest.approx([1.0, 1.0], abs=1e-15)
    expected = by_decision([0.0, 0.05, 0.05, 0.0])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    b = Decimal(beta)
    assert_exact(
        partial(apo_down, beta=beta), lambda w, r: sigmoid_of(b * w) + sigmoid_of(-b * (w - r)), steepness=beta
    )


def test_reward():
    batch = make_batch()
    reward = apo_down(batch.policy, batch.reference, batch.pairs, beta=0.3).reward
    assert reward is not None
    assert reward.tolist() == pytest.approx([0.3 * ratio for ratio in RATIOS])
