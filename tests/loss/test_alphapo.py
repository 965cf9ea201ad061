import math
from decimal import Decimal
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss import alphapo
from tests.loss.batch import by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid, one_token_pair

LOG_PROBS = ((-0.5, -1.0), (-1.0, -0.5), (-1e-3, -3.0), (-3.0, -1e-3), (-0.1, -0.1), (-50.0, -1e-12), (0.0, -2.0))
FAR = (*LOG_PROBS, (-1e4, -0.5), (-0.5, -1e4), (-1e4, -1e4))


def test_by_hand():
    """p = 1/4 and 1, alpha 0.5: (1 - 2) / 0.5 = -2 and 0. beta 0.5, gamma 0.25: chosen 1/4 -1 - 0.25 = -1.25.

    -log sigmoid(-1.25) = 1.501929. dr/dlog p = beta p^-alpha = 1 and 0.5; slopes -0.777300 * 1, 0.777300 * 0.5.
    """
    batch = one_token_pair((math.log(0.25), 0.0))
    output = alphapo(batch.policy, batch.pairs, beta=0.5, gamma=0.25, alpha=0.5)
    assert output.loss.item() == pytest.approx(1.501929, abs=1e-6)
    assert gradient(output.loss.sum(), batch.policy)[:, 0].tolist() == pytest.approx([-0.777300, 0.388650], abs=1e-6)
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([-1.0, 0.0])


def test_each_token_carries_its_share():
    batch = make_batch()
    mean = batch.policy.mean()
    output = alphapo(batch.policy, batch.pairs, beta=2.0, gamma=0.5, alpha=0.25)
    slope = 2.0 * (-0.25 * mean).exp()
    rest = -(1 - (-output.loss).exp()) / 2  # -sigmoid(-z), over two pairs
    expected = by_decision(
        [
            (rest[0] * slope[0] / 3).item(),
            (-rest[0] * slope[1]).item(),
            (-rest[1] * slope[2] / 2).item(),
            (rest[1] * slope[3] / 4).item(),
        ]
    )
    assert_close(gradient(reduce(output), batch.policy), expected)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("alpha", [0.25, -0.5, 1e-3])
def test_is_exact(beta: float, alpha: float):
    b, a, gamma = Decimal(beta), Decimal(alpha), Decimal("0.5")
    assert_exact(
        partial(alphapo, beta=beta, gamma=0.5, alpha=alpha),
        lambda w, r: -log_sigmoid(b * ((-a * r).exp() - (-a * w).exp()) / a - gamma),
        steepness=2 + beta,
        points=LOG_PROBS if alpha == 0.25 else FAR,
    )


def test_the_bound():
    """alpha 1, log p = -1e4: p^-1 = exp(1e4) goes on as the tangent at 1e300; 1e300 (1 + 1e4 - 690.78) = 9.31e303."""
    batch = one_token_pair((-1e4, -0.5))
    output = alphapo(batch.policy, batch.pairs, beta=1.0, gamma=0.0, alpha=1.0)
    assert output.loss.item() == pytest.approx(1e300 * (1 + 1e4 - math.log(1e300)))
    assert gradient(output.loss.sum(), batch.policy)[0].item() == pytest.approx(-1e300)
    assert output.extra["bounded"].tolist() == [1.0]


@pytest.mark.parametrize("alpha", [1e-300, 1e-46, 1e-17, -1e-40])
def test_an_alpha_next_to_0_is_0(alpha: float):
    for dtype in (torch.float32, torch.float64):
        batch = make_batch(dtype=dtype)
        found, plain = (alphapo(batch.policy, batch.pairs, alpha=value) for value in (alpha, 0.0))
        assert_close(found.loss, plain.loss)
        assert_close(gradient(reduce(found), batch.policy), gradient(reduce(plain), batch.policy))
