import math
from decimal import Decimal
from functools import partial

import pytest
from torch.testing import assert_close

from dpo_lab.loss import dpop, sigmoid
from tests.loss.batch import RATIOS, gradient, make_batch, reduce
from tests.loss.exact import BETAS, POINTS, assert_exact, log_sigmoid, one_token_pair


def test_by_hand():
    """beta 0.5, weight 2, log-ratios -1 and -3: 0.5 (2 - 2 * 1) = 0, ln 2. The argument is 0.5 (3 a - b).

    d/da = -1/2 * 1.5 = -0.75, d/db = 1/2 * 0.5 = 0.25.
    """
    batch = one_token_pair((-1.0, -3.0))
    output = dpop(batch.policy, batch.reference, batch.pairs, beta=0.5, weight=2.0)
    assert output.loss.item() == pytest.approx(math.log(2))
    assert gradient(output.loss.sum(), batch.policy)[:, 0].tolist() == pytest.approx([-0.75, 0.25])


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    """But at the kink, which a central difference takes the middle of."""
    b = Decimal(beta)
    assert_exact(
        partial(dpop, beta=beta, weight=5.0),
        lambda w, r: -log_sigmoid(b * (w - r - 5 * max(Decimal(0), -w))),
        steepness=6 * beta,
        points=[point for point in POINTS if point[0] != 0],
    )


def test_the_first_step_is_that_of_sigmoid():
    batch = make_batch()
    ours, theirs = (reduce(loss(batch.policy, batch.policy, batch.pairs, beta=0.3)) for loss in (dpop, sigmoid))
    assert_close(gradient(ours, batch.policy), gradient(theirs, batch.policy))


def test_reward_is_without_the_penalty():
    batch = make_batch()
    reward = dpop(batch.policy, batch.reference, batch.pairs.flip(1), beta=0.3).reward
    assert reward is not None
    assert reward.tolist() == pytest.approx([0.3 * ratio for ratio in RATIOS])
