import math
from decimal import Decimal
from functools import partial

import pytest
import torch

from dpo_lab.loss import exo
from tests.loss.batch import RATIOS, gradient, make_batch, margin_batch
from tests.loss.exact import BETAS, assert_exact, sigmoid_of


def test_by_hand():
    """Policy = reference, so q = 1/2; e = 0.2: (ln(0.5 / 0.8) + ln(0.5 / 0.2)) / 2 = 0.223144.

    That is (-0.470004 + 0.916291) / 2. d/dh = beta q (1 - q) (0 - ln(0.8 / 0.2)) = 0.5 * 0.25 * -1.386294 = -0.173287.
    """
    batch = margin_batch([0.0])
    output = exo(batch.policy, batch.reference, batch.pairs, beta=0.5, label_smoothing=0.2)
    assert output.loss.item() == pytest.approx(0.223144, abs=1e-6)
    assert gradient(output.loss.sum(), batch.policy)[:, 0].tolist() == pytest.approx([-0.173287, 0.173287], abs=1e-6)


def test_no_loss_at_the_margin_sought():
    """e = 0.2, beta 0.5: ln(0.8 / 0.2) / 0.5 = 2.772589."""
    batch = margin_batch([2.772588722239781])
    output = exo(batch.policy, batch.reference, batch.pairs, beta=0.5, label_smoothing=0.2)
    assert output.loss.item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    """Steeper than beta by far: near its minimum the loss is a small difference of larger numbers."""

    def formula(chosen: Decimal, rejected: Decimal) -> Decimal:
        logits, e = Decimal(beta) * (chosen - rejected), Decimal("0.001")
        q, rest = sigmoid_of(logits), sigmoid_of(-logits)
        return q * (q / (1 - e)).ln() + rest * (rest / e).ln()

    assert_exact(partial(exo, beta=beta), formula, steepness=30 * beta)


def test_reward():
    batch = make_batch()
    reward = exo(batch.policy, batch.reference, batch.pairs, beta=0.3).reward
    assert reward is not None
    assert reward.tolist() == pytest.approx([0.3 * ratio for ratio in RATIOS])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("label_smoothing", [0.49, 0.4999999, 0.3])
def test_near_the_margin_sought_it_is_a_square(dtype: torch.dtype, label_smoothing: float):
    """Where the terms of the sum cancel. At policy = reference no input is rounded, and the KL of 1/2 from 1 - e is
    -log(4 e (1 - e)) / 2 = -log1p(-4 (1/2 - e)^2) / 2."""
    batch = margin_batch([0.0], dtype)
    loss = exo(batch.policy, batch.reference, batch.pairs, label_smoothing=label_smoothing).loss
    expected = -math.log1p(-4 * (0.5 - label_smoothing) ** 2) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6 if dtype == torch.float32 else 1e-9)


def test_is_never_negative():
    """Around the margin sought, ln(0.51 / 0.49) / 0.01 = 4.0005 nats, and far from it."""
    for dtype in (torch.float32, torch.float64):
        batch = margin_batch([4.0, 4.0005, 4.001, 4.1, 3.9, 0.0, 700.0, -700.0, 1e4, -1e4], dtype)
        assert exo(batch.policy, batch.reference, batch.pairs, beta=0.01, label_smoothing=0.49).loss.min() >= 0
