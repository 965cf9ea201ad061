import math

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.errors import UserError
from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.loss.wpo import wpo
from dpo_lab.types import LossOutput, PolicyStats
from tests.loss.batch import RATIOS, Batch, gradient, log_probs, make_batch, margin_batch
from tests.loss.exact import BETAS, POINTS, one_token_pair

# log sum_v pi(v)^2 of each decision: sums -1.2 (3 decisions), -0.3 (1), -1.0 (2), -2.0 (4).
COLLISION = ((-0.5, -0.3, -0.4), (-0.3,), (-0.9, -0.1), (-0.2, -0.4, -0.6, -0.8))


def call(batch: Batch, collision: torch.Tensor, **knobs) -> LossOutput:
    return wpo(batch.policy, batch.reference, batch.pairs, PolicyStats(collision.to(batch.policy.token)), **knobs)


def plain(batch: Batch, beta: float) -> torch.Tensor:
    return sigmoid(batch.policy, batch.reference, batch.pairs, beta=beta).loss


def collision() -> torch.Tensor:
    return log_probs(COLLISION).token.detach()


def test_sampled_by_hand():
    """Row 0: (-3.5 + 1.2) / 3 = -0.766667. Row 1: -0.7 + 0.3 = -0.4. Row 2: (-3.1 + 1) / 2 = -1.05.

    Row 3: (-4 + 2) / 4 = -0.5. Pair (0, 1): exp(-1.166667) = 0.311403; pair (3, 2): exp(-1.55) = 0.212248. Times
    -log sigmoid(0.7) = 0.403186 and -log sigmoid(0.9) = 0.341154.
    """
    output = call(make_batch(), collision(), beta=1.0)
    assert output.extra["weight"].tolist() == pytest.approx([0.311403, 0.212248], abs=1e-6)
    assert output.loss.tolist() == pytest.approx([0.311403 * 0.403186, 0.212248 * 0.341154], abs=1e-6)
    assert output.weight.tolist() == [1.0, 1.0]
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx(list(RATIOS))


def test_none_by_hand():
    """Mean log-probs -3.5 / 3, -0.7, -1.55, -1: exp(-1.866667) = 0.154638 and exp(-2.55) = 0.078082."""
    weights = [call(make_batch(), part, alignment="none").extra["weight"] for part in (collision(), collision() - 1)]
    for weight in weights:
        assert weight.tolist() == pytest.approx([0.154638, 0.078082], abs=1e-6)


def test_clamp_by_hand():
    """All collisions -1.5: -3.5 / 3 - 0.7 + 3 = 1.133333, exp 3.105992, and -2.55 + 3 = 0.45, exp 1.568312.

    The product is cut and not either factor: with -1, pair (0, 1) has exp(-1.166667 + 1) exp(-0.7 + 1) =
    exp(0.133333), above 1 too, although row 0 by itself is below.
    """
    batch, even = make_batch(), torch.full_like(collision(), -1.5)
    assert call(batch, even, clamp=False).extra["weight"].tolist() == pytest.approx([3.105992, 1.568312], abs=1e-6)
    clamped = call(batch, even, beta=0.3, clamp=True)
    assert clamped.extra["weight"].tolist() == [1.0, 1.0]
    assert_close(clamped.loss, plain(batch, 0.3), atol=0, rtol=0)
    assert call(batch, even + 0.5, clamp=True).extra["weight"].tolist() == pytest.approx([1.0, math.exp(-0.55)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("beta", BETAS)
def test_is_the_weight_times_sigmoid_and_no_gradient_flows_through_the_weight(beta: float, dtype: torch.dtype):
    """`sigmoid` is exact by its own tests. Log-ratios from -1e4 to 1e4, lowered so that they are log-probs."""
    for point in POINTS:
        batch = one_token_pair((point[0] - 1e4, point[1] - 1e4) if max(point) > 0 else point, dtype)
        stats = torch.full_like(batch.policy.token, -0.25).requires_grad_()
        output = call(batch, stats, beta=beta, clamp=True)
        log_weight = sum(batch.policy.token.detach().double()[:, 0].tolist()) + 0.5
        assert output.extra["weight"].item() == pytest.approx(math.exp(min(0, log_weight)), rel=1e-5, abs=1e-35)
        expected = output.extra["weight"] * plain(batch, beta)
        assert_close(output.loss, expected, atol=0, rtol=1e-9 if dtype == torch.float64 else 1e-5)
        found, wanted = (gradient(loss.sum(), batch.policy) for loss in (output.loss, expected))
        assert_close(found, wanted, atol=0, rtol=1e-9 if dtype == torch.float64 else 1e-5)
        assert not output.extra["weight"].requires_grad


def test_a_clamp_that_would_cut_nothing_is_refused():
    with pytest.raises(UserError, match=r"loss\.clamp: with loss\.alignment=none"):
        call(make_batch(), collision(), alignment="none", clamp=True)


def test_no_gradient_reaches_the_statistics():
    batch = make_batch()
    stats = PolicyStats(collision().requires_grad_())
    loss = wpo(batch.policy, batch.reference, batch.pairs, stats).loss.sum()
    (slope,) = torch.autograd.grad(loss, stats.log_collision, allow_unused=True)
    assert slope is None


def test_what_stands_in_masked_positions_does_not_matter():
    batch = make_batch()
    noise = torch.where(batch.policy.mask, collision(), 7.0)
    assert_close(call(batch, noise).loss, call(batch, collision()).loss, atol=0, rtol=0)


def test_a_response_that_the_policy_never_writes_counts_nothing():
    """Weights exp(-1e4): below the smallest number."""
    batch = margin_batch([-1e4, 2.0])
    output = call(batch, torch.zeros_like(batch.policy.token))
    assert output.loss[0].item() == 0 and output.loss[1].item() > 0
    assert gradient(output.loss.sum(), batch.policy).isfinite().all()
