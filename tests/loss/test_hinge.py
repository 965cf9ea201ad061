import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from dpo_lab.loss import hinge
from tests.loss.batch import RATIOS, by_decision, gradient, make_batch, margin_batch, reduce


def test_both_sides_of_the_kink_by_hand():
    """beta 1.25, margins 0.7 and 0.9: 1 - 0.875 = 0.125 on the slope, and 1 - 1.125 < 0, so no loss beyond the kink.

    d/dh = -1.25 and 0, halved by the average over two pairs.
    """
    batch = make_batch()
    output = hinge(batch.policy, batch.reference, batch.pairs, beta=1.25)
    assert_close(output.loss.tolist(), [0.125, 0.0], atol=1e-12, rtol=0)
    assert_close(gradient(reduce(output), batch.policy), by_decision([-0.625, 0.625, 0.0, 0.0]), atol=1e-12, rtol=0)
    assert_close(output.weight.tolist(), [1.0, 1.0])
    assert output.reward is not None
    assert_close(output.reward.tolist(), [1.25 * ratio for ratio in RATIOS], atol=1e-12, rtol=0)


def test_per_token_by_hand():
    """Log-ratios per token 0.6 / 3 = 0.2, -0.1, -0.4, 0.025: margins 0.3 and 0.425, so 1 - 1.25 * 0.3 = 0.625, 0.46875.

    d/dh = -1.25 for both, halved by the average over two pairs and divided by the length of each response.
    """
    batch = make_batch()
    output = hinge(batch.policy, batch.reference, batch.pairs, beta=1.25, normalization="mean")
    assert_close(output.loss.tolist(), [0.625, 0.46875], atol=1e-12, rtol=0)
    expected = by_decision([-0.625 / 3, 0.625, 0.625 / 2, -0.625 / 4])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)
    assert output.reward is not None
    assert_close(output.reward.tolist(), [0.25, -0.125, -0.5, 0.03125], atol=1e-12, rtol=0)


@given(margin=st.floats(-1e3, 1e3), beta=st.floats(0.01, 5))
def test_any_margin(margin: float, beta: float):
    batch = margin_batch([margin])
    output = hinge(batch.policy, batch.reference, batch.pairs, beta=beta)
    is_short = 1 - beta * margin > 0
    assert_close(output.loss.item(), 1 - beta * margin if is_short else 0.0, atol=1e-9, rtol=1e-9)
    slope = gradient(output.loss.sum(), batch.policy)[0].item()
    assert slope == pytest.approx(-beta if is_short else 0.0)


@pytest.mark.parametrize("beta", [0.1, 3.0])
def test_1_where_policy_is_reference(beta: float):
    batch = make_batch()
    assert hinge(batch.policy, batch.policy, batch.pairs, beta=beta).loss.tolist() == [1.0, 1.0]
