from decimal import Decimal
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.errors import UserError
from dpo_lab.loss.kto import kto
from tests.loss.batch import RATIOS, by_decision, gradient, list_batch, log_probs, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, one_token_pair, sigmoid_of

LABELS = torch.tensor([1, 0])
NONE = torch.tensor([], dtype=torch.long)
LAST = torch.tensor([2])


def three_rows(borrowed: float):
    """A desirable response of log-ratio 2, an undesirable one of -1, and one that is borrowed."""
    return log_probs([[2.0], [-1.0], [borrowed]]), log_probs([[0.0]] * 3)


def test_by_hand():
    """beta 0.5, z = 1. 1 - sigmoid(0.5 (2 - 1)) = 0.377541; 1 - sigmoid(0.5 (1 + 1)) = 0.268941.

    Slopes: -0.5 * 0.377541 * 0.622459 = -0.117502 and 0.5 * 0.268941 * 0.731059 = 0.098306; none through z.
    """
    policy, reference = three_rows(1.0)
    output = kto(policy, reference, torch.tensor([1, 0, -1]), LAST, beta=0.5)
    assert output.loss.tolist() == pytest.approx([0.377541, 0.268941], abs=1e-6)
    assert output.weight.tolist() == [1.0, 1.0]
    assert output.extra["drift"].tolist() == [1.0]
    assert output.reward is not None and output.reward.tolist() == [1.0, -0.5, 0.5]
    expected = torch.tensor([-0.117502, 0.098306, 0.0], dtype=torch.float64)
    assert_close(gradient(output.loss.sum(), policy)[:, 0], expected, atol=1e-6, rtol=0)


def test_a_negative_drift_counts_as_none():
    """z = max(0, -1) = 0: sigmoid(-1) = 0.268941 and sigmoid(-0.5) = 0.377541, as where nothing is borrowed."""
    policy, reference = three_rows(-1.0)
    for drift in (LAST, NONE):
        output = kto(policy, reference, torch.tensor([1, 0, -1]), drift, beta=0.5)
        assert output.loss.tolist() == pytest.approx([0.268941, 0.377541], abs=1e-6)
        assert output.extra["drift"].tolist() == [0.0]


def test_drift_is_the_mean_over_what_is_borrowed():
    """Row 6 has -1.7 + 1.3 = -0.4, row 7 has 0.1 - 0.4 = -0.3, row 4 has 0.4; (2 * 0.4 - 0.3 - 0.4) / 4 = 0.025."""
    batch = list_batch()
    drift = torch.tensor([4, 4, 6, 7])
    output = kto(batch.policy, batch.reference, torch.tensor([1, 0, 0, 1, 1, 0, -1, -1]), drift)
    assert output.extra["drift"].item() == pytest.approx(0.025, abs=1e-12)
    assert output.loss.shape == (6,)
    assert output.reward is not None and output.reward.shape == (8,)


def test_weights_multiply_and_are_not_divided_out():
    """At policy = reference each loss is half of its weight: 1.5, 0.25, 0.25, 1.5.

    Slopes are -+ beta w / 4 = -+ 0.1 w, averaged over four responses.
    """
    batch = make_batch()
    labels = torch.tensor([1, 0, 0, 1])
    output = kto(batch.policy, batch.policy, labels, NONE, beta=0.4, desirable_weight=3.0, undesirable_weight=0.5)
    assert output.loss.tolist() == pytest.approx([1.5, 0.25, 0.25, 1.5], abs=1e-15)
    expected = by_decision([-0.075, 0.0125, 0.0125, -0.075])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_alone(label: int):
    batch = make_batch()
    labels = torch.tensor([label, -1, -1, -1])
    output = kto(batch.policy, batch.reference, labels, torch.tensor([3]), beta=0.3)
    value = 0.3 * (RATIOS[0] - RATIOS[3]) * (1 if label else -1)
    assert output.loss.tolist() == pytest.approx([float(sigmoid_of(Decimal(-value)))], abs=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    """Two items. The rejected response is borrowed too, so z = max(0, its log-ratio), which no slope goes through."""
    b = Decimal(beta)

    def formula(w: Decimal, r: Decimal) -> Decimal:
        z = max(Decimal(0), constant(r))
        return (2 * sigmoid_of(-b * (w - z)) + sigmoid_of(-b * (z - r))) / 2

    assert_exact(partial(kto, beta=beta, desirable_weight=2.0), formula, steepness=beta)


def constant(x: Decimal) -> Decimal:
    """x rounded so that the step of a difference does not move it."""
    return x.quantize(Decimal("1e-18"))


def test_a_slope_far_out_is_not_rounded_to_zero():
    """beta r = 60: d/dr = -sigmoid(60) sigmoid(-60) = -exp(-60) = -8.756511e-27."""
    batch = one_token_pair((60.0, 0.0))
    loss = kto(batch.policy, batch.reference, LABELS, NONE, beta=1.0).loss
    assert gradient(loss.sum(), batch.policy)[0].item() == pytest.approx(-8.756511e-27, rel=1e-6, abs=0)


def test_rows_of_another_shape_are_refused():
    batch = make_batch()
    with pytest.raises(ValueError, match="same rows"):
        kto(batch.policy, log_probs([[0.0]] * 4), torch.tensor([1, 0, 0, 1]), NONE)


def test_weights_that_leave_nothing_are_refused():
    batch = list_batch()
    assert batch.labels is not None and batch.drift is not None
    with pytest.raises(UserError, match="both 0"):
        kto(batch.policy, batch.reference, batch.labels, batch.drift, desirable_weight=0.0, undesirable_weight=0.0)
