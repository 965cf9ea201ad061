from decimal import Decimal
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.errors import UserError
from dpo_lab.loss.apo_zero import apo_zero
from dpo_lab.loss.apo_zero_unpaired import apo_zero_unpaired
from tests.loss.batch import RATIOS, by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, one_token_pair, sigmoid_of


def test_by_hand():
    """beta 0.5, log-ratios 2 (desirable) and -4: 1 - sigmoid(1) = 0.268941, sigmoid(-2) = 0.119203.

    d/da = -0.5 * 0.731059 * 0.268941 = -0.098306; d/db = 0.5 * 0.119203 * 0.880797 = 0.052497; halved by the average
    over two items.
    """
    batch = one_token_pair((2.0, -4.0))
    output = apo_zero_unpaired(batch.policy, batch.reference, torch.tensor([1, 0]), beta=0.5)
    assert output.loss.tolist() == pytest.approx([0.268941, 0.119203], abs=1e-6)
    slopes = gradient(reduce(output), batch.policy)[:, 0].tolist()
    assert slopes == pytest.approx([-0.098306 / 2, 0.052497 / 2], abs=1e-6)


def test_weights_by_hand():
    """As above, times 3 and 0.5: 0.806824 and 0.059601; the average still divides by two items."""
    batch = one_token_pair((2.0, -4.0))
    knobs = {"beta": 0.5, "desirable_weight": 3.0, "undesirable_weight": 0.5}
    output = apo_zero_unpaired(batch.policy, batch.reference, torch.tensor([1, 0]), **knobs)
    assert output.loss.tolist() == pytest.approx([0.806824, 0.059601], abs=1e-6)
    assert output.weight.tolist() == [1.0, 1.0]
    slopes = gradient(reduce(output), batch.policy)[:, 0].tolist()
    assert slopes == pytest.approx([-3 * 0.098306 / 2, 0.5 * 0.052497 / 2], abs=1e-6)


def test_both_weights_0_are_refused():
    batch = one_token_pair((2.0, -4.0))
    with pytest.raises(UserError, match="nothing to train"):
        apo_zero_unpaired(
            batch.policy, batch.reference, torch.tensor([1, 0]), desirable_weight=0.0, undesirable_weight=0.0
        )


def test_rows_that_are_not_judged_are_no_items_and_have_a_reward():
    batch = make_batch()
    output = apo_zero_unpaired(batch.policy, batch.reference, torch.tensor([0, -1, 1, -1]), beta=0.3)
    expected = [float(sigmoid_of(Decimal(0.3 * 0.6))), float(sigmoid_of(Decimal(0.3 * 0.8)))]
    assert output.loss.tolist() == pytest.approx(expected)
    assert output.weight.tolist() == [1.0, 1.0]
    assert not gradient(output.loss.sum(), batch.policy)[[1, 3]].any()
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([0.3 * ratio for ratio in RATIOS])


def test_half_where_policy_is_reference():
    """Slopes -+ beta / 4, divided by four items."""
    batch = make_batch()
    output = apo_zero_unpaired(batch.policy, batch.policy, torch.tensor([1, 0, 0, 1]), beta=0.4)
    assert output.loss.tolist() == pytest.approx([0.5] * 4, abs=1e-15)
    expected = by_decision([-0.025, 0.025, 0.025, -0.025])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)


def test_two_items_add_up_to_a_pair_of_apo_zero():
    batch = make_batch()
    items = apo_zero_unpaired(batch.policy, batch.reference, torch.tensor([1, 0, 0, 1]), beta=0.7).loss
    pairs = apo_zero(batch.policy, batch.reference, batch.pairs, beta=0.7).loss
    assert_close(items[batch.pairs].sum(-1), pairs, atol=0, rtol=1e-15)
    assert_close(gradient(items.sum(), batch.policy), gradient(pairs.sum(), batch.policy), atol=0, rtol=1e-15)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    """The average over two items, the chosen one desirable and the rejected one not."""
    b = Decimal(beta)
    loss = partial(apo_zero_unpaired, beta=beta)
    assert_exact(loss, lambda w, r: (sigmoid_of(-b * w) + sigmoid_of(b * r)) / 2, steepness=beta)
