from decimal import Decimal
from functools import partial

import pytest
from torch.testing import assert_close

from dpo_lab.loss import sppo
from tests.loss.batch import RATIOS, by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact


def test_by_hand():
    """beta 0.5 seeks +1 and -1. Log-ratios (0.6, -0.1) and (0.1, -0.8): 0.4^2 + 0.9^2 = 0.97; 0.9^2 + 0.2^2 = 0.85.

    Slopes 2 (0.6 - 1), 2 (-0.1 + 1), 2 (0.1 - 1), 2 (-0.8 + 1), halved by the average over two pairs.
    """
    batch = make_batch()
    output = sppo(batch.policy, batch.reference, batch.pairs, beta=0.5)
    assert output.loss.tolist() == pytest.approx([0.97, 0.85])
    expected = by_decision([-0.4, 0.9, 0.2, -0.9])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([0.5 * ratio for ratio in RATIOS])


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    half = 1 / (2 * Decimal(beta))
    assert_exact(partial(sppo, beta=beta), lambda w, r: (w - half) ** 2 + (r + half) ** 2)
