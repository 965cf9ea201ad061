from decimal import Decimal

import pytest
from torch.testing import assert_close

from dpo_lab.loss import slic
from tests.loss.batch import by_decision, gradient, make_batch, total
from tests.loss.exact import assert_exact


def test_by_hand():
    """gamma 1: chosen minus rejected are -2.8 and -0.9, so 3.8 and 1.9, mean 2.85; plus 0.7 * 7.5 / 7 = 0.75.

    Slopes -+1/2; chosen tokens 0.7 / 7 = 0.1 more.
    """
    batch = make_batch()
    loss = total(slic(gamma=1.0, weight=0.7), batch)
    assert loss.item() == pytest.approx(3.6)
    assert_close(gradient(loss, batch.policy), by_decision([-0.6, 0.5, 0.5, -0.6]), atol=1e-12, rtol=0)


def test_nothing_beyond_the_margin():
    """Chosen and rejected swapped: 2.8 and 0.9 against a margin of 1: 0 and 0.1."""
    batch = make_batch()
    objective = slic(gamma=1.0, weight=0.0)
    output = objective(batch.with_pairs(batch.pairs.flip(1)).ingredients())["preference"]
    assert output.loss.tolist() == pytest.approx([0.0, 0.1])
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([-3.5, -0.7, -3.1, -4.0])
    assert objective.needs == {"policy", "pairs"}


def test_is_exact():
    assert_exact(slic(gamma=1.5, weight=0.5), lambda w, r: max(Decimal(0), Decimal("1.5") - (w - r)) - w / 2)
