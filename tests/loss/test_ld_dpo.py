from decimal import Decimal
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss import ld_dpo
from tests.loss.batch import gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid


def test_both_by_hand():
    """alpha 0.5, beta 1. Row 0 is longer than row 1 by two: 0.2 + 0.5 (-0.1 + 0.5) = 0.4; margin 0.4 + 0.1 = 0.5.

    Row 3 is longer than row 2 by two: 0.1 + 0.4 + 0.5 (-0.1 - 0.3) = 0.3; margin 0.3 + 0.8 = 1.1. -log sigmoid:
    0.474077, 0.287335; sigmoid(-0.5) = 0.377541, sigmoid(-1.1) = 0.249740, halved by the two pairs, and again past the
    shorter length.
    """
    batch = make_batch()
    output = ld_dpo(batch.policy, batch.reference, batch.pairs, beta=1.0, alpha=0.5)
    assert output.loss.tolist() == pytest.approx([0.474077, 0.287335], abs=1e-6)
    one, two = 0.377541 / 2, 0.249740 / 2
    expected = [[-one, -one / 2, -one / 2, 0], [one, 0, 0, 0], [two, two, 0, 0], [-two, -two, -two / 2, -two / 2]]
    assert_close(gradient(reduce(output), batch.policy), torch.tensor(expected).double(), atol=1e-6, rtol=0)
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([0.4, -0.1, -0.8, 0.3])


def test_policy_by_hand():
    """Row 0: -1 + 0.5 (-2.5) = -2.25 against -4.1 of the reference; margin 1.85 + 0.1. Row 3: -2.3 + 4.1 = 1.8; 2.6."""
    batch = make_batch()
    output = ld_dpo(batch.policy, batch.reference, batch.pairs, beta=1.0, alpha=0.5, scope="policy")
    expected = [float(-log_sigmoid(Decimal(margin))) for margin in (1.95, 2.6)]
    assert output.loss.tolist() == pytest.approx(expected)
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([1.85, -0.1, -0.8, 1.8])


def test_a_response_in_several_pairs_has_a_length_to_share_in_each():
    """Row 0 (3 tokens) against row 1 (1) and row 2 (2): 0.2 + 0.5 * 0.4 = 0.4 and 0.1 + 0.5 * 0.5 = 0.35, mean 0.375.

    Row 3 is in no pair: its plain log-ratio, 0.1.
    """
    batch = make_batch()
    output = ld_dpo(batch.policy, batch.reference, torch.tensor([[0, 1], [0, 2]]), beta=1.0, alpha=0.5)
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([0.375, -0.1, -0.8, 0.1])
    expected = [float(-log_sigmoid(Decimal(margin))) for margin in (0.5, 1.15)]
    assert output.loss.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    """Of one token each, so that nothing is past the shorter length."""
    b = Decimal(beta)
    assert_exact(partial(ld_dpo, beta=beta, alpha=0.3), lambda w, r: -log_sigmoid(b * (w - r)), steepness=beta)
