import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from dpo_lab.loss import sigmoid
from tests.loss.batch import MARGINS, RATIOS, by_decision, gradient, make_batch, margin_batch, reduce

MARGIN = st.floats(-50, 50)
BETA = st.floats(0.01, 5)
SMOOTHING = st.floats(0, 0.49)


def by_hand(margin: float, beta: float, smoothing: float) -> tuple[float, float]:
    """Loss, and its derivative with respect to the margin, without torch: log sigmoid(x) = -log(1 + exp(-x))."""
    z = beta * margin
    value = (1 - smoothing) * math.log1p(math.exp(-z)) + smoothing * math.log1p(math.exp(z))
    slope = beta * (smoothing / (1 + math.exp(-z)) - (1 - smoothing) / (1 + math.exp(z)))
    return value, slope


def test_one_pair_by_hand():
    """beta 0.5, margin 2: sigmoid(1) = 0.731059, its log -0.313262; d/dh = -0.5 (1 - 0.731059) = -0.134471.

    With label_smoothing 0.1: 0.9 * 0.313262 + 0.1 * 1.313262 = 0.413262; d/dh = 0.5 (0.1 * 0.731059 - 0.9 * 0.268941)
    = -0.084471.
    """
    for smoothing, value, slope in ((0.0, 0.313262, -0.134471), (0.1, 0.413262, -0.084471)):
        batch = margin_batch([2.0])
        output = sigmoid(batch.policy, batch.reference, batch.pairs, beta=0.5, label_smoothing=smoothing)
        assert output.loss.item() == pytest.approx(value, abs=1e-6)
        grad = gradient(output.loss.sum(), batch.policy)
        assert_close(grad, torch.tensor([[slope], [-slope]], dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_value_reward_and_gradient_of_unequal_lengths(smoothing: float):
    """Every decision of a response carries the same gradient, however long the response is."""
    batch = make_batch()
    output = sigmoid(batch.policy, batch.reference, batch.pairs, beta=0.3, label_smoothing=smoothing)
    (first, down_first), (second, down_second) = (by_hand(margin, 0.3, smoothing) for margin in MARGINS)
    assert_close(output.loss.tolist(), [first, second], atol=1e-12, rtol=0)
    assert_close(output.weight.tolist(), [1.0, 1.0])
    assert output.reward is not None
    assert_close(output.reward.tolist(), [0.3 * ratio for ratio in RATIOS], atol=1e-12, rtol=0)
    expected = by_decision([down_first / 2, -down_first / 2, -down_second / 2, down_second / 2])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)


@given(margin=MARGIN, beta=BETA, smoothing=SMOOTHING)
def test_any_margin(margin: float, beta: float, smoothing: float):
    batch = margin_batch([margin])
    output = sigmoid(batch.policy, batch.reference, batch.pairs, beta=beta, label_smoothing=smoothing)
    value, slope = by_hand(margin, beta, smoothing)
    assert_close(output.loss.item(), value, atol=1e-9, rtol=1e-9)
    assert_close(gradient(output.loss.sum(), batch.policy)[0].item(), slope, atol=1e-9, rtol=1e-9)


@given(margin=MARGIN, beta=BETA, smoothing=SMOOTHING)
def test_a_swapped_pair_costs_the_margin(margin: float, beta: float, smoothing: float):
    """L(h) - L(-h) = -(1 - 2e) beta h, since log sigmoid(x) - log sigmoid(-x) = x."""
    batch = margin_batch([margin, -margin])
    loss = sigmoid(batch.policy, batch.reference, batch.pairs, beta=beta, label_smoothing=smoothing).loss
    assert_close((loss[0] - loss[1]).item(), -(1 - 2 * smoothing) * beta * margin, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_ln_2_where_policy_is_reference(smoothing: float):
    batch = make_batch()
    output = sigmoid(batch.policy, batch.policy, batch.pairs, beta=0.7, label_smoothing=smoothing)
    assert_close(output.loss.tolist(), [math.log(2)] * 2, atol=1e-15, rtol=0)


def test_smoothing_has_its_minimum_where_the_odds_are():
    """The derivative is 0 where sigmoid(beta h) = 1 - e, so h = log((1 - e) / e) / beta: no margin grows for ever."""
    best = math.log(0.9 / 0.1) / 0.2
    batch = margin_batch([best])
    loss = sigmoid(batch.policy, batch.reference, batch.pairs, beta=0.2, label_smoothing=0.1).loss
    assert gradient(loss.sum(), batch.policy)[0].item() == pytest.approx(0, abs=1e-12)
