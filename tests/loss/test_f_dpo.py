import math
from decimal import Decimal
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.errors import UserError
from dpo_lab.loss import f_dpo
from dpo_lab.loss.f_dpo import Divergence
from tests.loss.batch import by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, POINTS, assert_exact, log_sigmoid, one_token_pair

HARMLESS = [point for point in POINTS if min(point) > -5]


def test_js_by_hand():
    """Policy = reference: f' = log 1 = 0 and a slope of 1/2 a nat; beta 0.5: ln 2, -0.5 / 2 / 2 halved by two pairs."""
    batch = make_batch()
    output = f_dpo(batch.policy, batch.policy, batch.pairs, beta=0.5)
    assert output.loss.tolist() == pytest.approx([math.log(2)] * 2)
    expected = by_decision([-0.0625, 0.0625, 0.0625, -0.0625])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)
    assert output.reward is not None and output.reward.tolist() == pytest.approx([0.0] * 4, abs=1e-15)


def test_forward_kl_by_hand():
    """beta 2, u = 1 and 2: 2 (-1 + 1/2) = -1, -log sigmoid(-1) = 1.313262. Slopes -+2 sigmoid(1) / u.

    sigmoid(1) = 0.731059.
    """
    batch = one_token_pair((0.0, math.log(2)))
    output = f_dpo(batch.policy, batch.reference, batch.pairs, beta=2.0, divergence="forward_kl")
    assert output.loss.item() == pytest.approx(1.313262, abs=1e-6)
    assert gradient(output.loss.sum(), batch.policy)[:, 0].tolist() == pytest.approx([-1.462117, 0.731059], abs=1e-6)
    assert output.reward is not None and output.reward.tolist() == pytest.approx([-2.0, -1.0])


def test_alpha_by_hand():
    """alpha 0.5, beta 1, u = 1 and 4: f' = 0 and (1 - 1/2) / 0.5 = 1, so -1 and 1.313262.

    Slopes -+sigmoid(1) u^-0.5 = -0.731059 and 0.731059 / 2.
    """
    batch = one_token_pair((0.0, math.log(4)))
    output = f_dpo(batch.policy, batch.reference, batch.pairs, beta=1.0, divergence="alpha", alpha=0.5)
    assert output.loss.item() == pytest.approx(1.313262, abs=1e-6)
    assert gradient(output.loss.sum(), batch.policy)[:, 0].tolist() == pytest.approx([-0.731059, 0.365529], abs=1e-6)
    assert output.reward is not None and output.reward.tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    b, alpha = Decimal(beta), Decimal("0.3")
    assert_exact(
        partial(f_dpo, beta=beta), lambda w, r: -log_sigmoid(b * (log_sigmoid(w) - log_sigmoid(r))), steepness=1 + beta
    )
    assert_exact(
        partial(f_dpo, beta=beta, divergence="forward_kl"),
        lambda w, r: -log_sigmoid(b * ((-r).exp() - (-w).exp())),
        steepness=2 + beta,
        points=HARMLESS,
    )
    assert_exact(
        partial(f_dpo, beta=beta, divergence="alpha", alpha=0.3),
        lambda w, r: -log_sigmoid(b * ((-alpha * r).exp() - (-alpha * w).exp()) / alpha),
        steepness=2 + beta,
        points=HARMLESS,
    )


@pytest.mark.parametrize(("dtype", "largest"), [(torch.float32, 1e30), (torch.float64, 1e300)])
def test_the_bound(dtype: torch.dtype, largest: float):
    """Log-ratio -1e4, u^-1 = exp(1e4): the tangent at log(largest) = x gives largest (1 + 1e4 - x), slope -largest.

    Less is exact: exp(60) = 1.142e26. Two responses as far below the reference as each other make ln 2, not inf - inf.
    """
    forward = partial(f_dpo, beta=1.0, divergence="forward_kl")
    far, near, both = (one_token_pair(point, dtype) for point in ((-1e4, 0.0), (-60.0, 0.0), (-1e4, -1e4)))
    output = forward(far.policy, far.reference, far.pairs)
    assert output.loss.item() == pytest.approx(largest * (1 + 1e4 - math.log(largest)), rel=1e-4)
    assert gradient(output.loss.sum(), far.policy)[0].item() == pytest.approx(-largest, rel=1e-4)
    assert output.extra["bounded"].tolist() == [1.0]
    assert forward(near.policy, near.reference, near.pairs).loss.item() == pytest.approx(math.exp(60), rel=1e-5)
    assert forward(near.policy, near.reference, near.pairs).extra["bounded"].tolist() == [0.0]
    assert forward(both.policy, both.reference, both.pairs).loss.item() == pytest.approx(math.log(2))


def test_alpha_lies_between_the_two_kls():
    """alpha to 1 is forward_kl, alpha to 0 reverse_kl."""
    batch = make_batch()

    def loss(divergence: Divergence, alpha: float | None = None) -> list[float]:
        return f_dpo(batch.policy, batch.reference, batch.pairs, divergence=divergence, alpha=alpha).loss.tolist()

    assert loss("alpha", 1 - 1e-9) == pytest.approx(loss("forward_kl"), rel=1e-8)
    assert loss("alpha", 1e-9) == pytest.approx(loss("reverse_kl"), rel=1e-8)


@pytest.mark.parametrize(("divergence", "alpha"), [("alpha", None), ("js", 0.5), ("reverse_kl", 0.5)])
def test_an_alpha_that_would_not_be_used_is_refused(divergence: Divergence, alpha: float | None):
    batch = make_batch()
    with pytest.raises(UserError, match=r"loss\.alpha: loss\.divergence=alpha needs one"):
        f_dpo(batch.policy, batch.reference, batch.pairs, divergence=divergence, alpha=alpha)


def test_float32_keeps_small_differences_of_large_scores():
    """alpha 1/1000, log-ratios 9998 and 9999: scores 1000 (1 - e^-9.998) and 1000 (1 - e^-9.999), which differ by
    1000 e^-9.999 (e^0.001 - 1) = 0.045468."""
    batch = one_token_pair((9999.0, 9998.0), torch.float32)
    output = f_dpo(batch.policy, batch.reference, batch.pairs, beta=10.0, divergence="alpha", alpha=0.001)
    margin = 10 * 1000 * math.exp(-9.999) * math.expm1(0.001)
    assert output.loss.item() == pytest.approx(math.log1p(math.exp(-margin)), rel=1e-6)
