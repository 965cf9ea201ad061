from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from dpo_lab.loss import ipo
from tests.loss.batch import LENGTHS, MARGINS, RATIOS, by_decision, gradient, make_batch, margin_batch, reduce

Normalization = Literal["sum", "mean"]


def test_sum_by_hand():
    """beta 0.5 seeks a margin of 1 / (2 * 0.5) = 1. Margins 0.7 and 0.9: losses 0.3^2 = 0.09 and 0.1^2 = 0.01.

    d/dh = 2 (h - 1) = -0.6 and -0.2, halved by the average over two pairs; every token of a response carries it whole.
    """
    batch = make_batch()
    output = ipo(batch.policy, batch.reference, batch.pairs, beta=0.5, normalization="sum")
    assert_close(output.loss.tolist(), [0.09, 0.01], atol=1e-12, rtol=0)
    assert_close(gradient(reduce(output), batch.policy), by_decision([-0.3, 0.3, 0.1, -0.1]), atol=1e-12, rtol=0)
    assert output.reward is not None
    assert_close(output.reward.tolist(), [0.5 * ratio for ratio in RATIOS], atol=1e-12, rtol=0)


def test_mean_by_hand():
    """beta 0.5 seeks 1 nat a token. Log-ratios a token: 0.6 / 3 = 0.2, -0.1, -0.8 / 2 = -0.4, 0.1 / 4 = 0.025.

    Margins 0.3 and 0.425: losses 0.7^2 = 0.49 and 0.575^2 = 0.330625. d/dh = -1.4 and -1.15, halved by the average
    over two pairs; each token carries its response's share, divided by 3, 1, 2 and 4.
    """
    batch = make_batch()
    output = ipo(batch.policy, batch.reference, batch.pairs, beta=0.5, normalization="mean")
    assert_close(output.loss.tolist(), [0.49, 0.330625], atol=1e-12, rtol=0)
    expected = by_decision([-0.7 / 3, 0.7 / 1, 0.575 / 2, -0.575 / 4])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)
    assert output.reward is not None
    means = [0.5 * ratio / num for ratio, num in zip(RATIOS, LENGTHS, strict=True)]
    assert_close(output.reward.tolist(), means, atol=1e-12, rtol=0)


@given(margin=st.floats(-1e3, 1e3), beta=st.floats(0.01, 5))
def test_any_margin(margin: float, beta: float):
    batch = margin_batch([margin])
    output = ipo(batch.policy, batch.reference, batch.pairs, beta=beta)
    gap = margin - 0.5 / beta
    assert_close(output.loss.item(), gap * gap, atol=1e-9, rtol=1e-9)
    assert_close(gradient(output.loss.sum(), batch.policy)[0].item(), 2 * gap, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("normalization", ["sum", "mean"])
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_where_policy_is_reference(normalization: Normalization, beta: float):
    """(0 - 1 / (2 beta))^2 = 1 / (4 beta^2): 25 for beta 0.1, 0.0625 for beta 2."""
    batch = make_batch()
    loss = ipo(batch.policy, batch.policy, batch.pairs, beta=beta, normalization=normalization).loss
    assert_close(loss.tolist(), [{0.1: 25.0, 2.0: 0.0625}[beta]] * 2, atol=1e-12, rtol=0)


def test_no_loss_at_the_margin_sought():
    batch = margin_batch([5.0])
    output = ipo(batch.policy, batch.reference, batch.pairs, beta=0.1)
    assert output.loss.item() == pytest.approx(0, abs=1e-24)
    assert output.reward is not None and output.reward[0].item() == pytest.approx(0.5)


def test_the_convention_is_the_sum():
    """The paper's: of whole responses. MARGINS are sums; the default must see them."""
    batch = make_batch()
    loss = ipo(batch.policy, batch.reference, batch.pairs, beta=0.25).loss
    assert_close(loss.tolist(), [(margin - 2) ** 2 for margin in MARGINS], atol=1e-12, rtol=0)
