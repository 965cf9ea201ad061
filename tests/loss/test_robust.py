from decimal import Decimal
from functools import partial

import pytest
from torch.testing import assert_close

from dpo_lab.loss import robust, sigmoid
from tests.loss.batch import RATIOS, by_decision, gradient, make_batch, margin_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid


def test_by_hand():
    """beta 0.5, margin 2: -log sigmoid(1) = 0.313262, -log sigmoid(-1) = 1.313262; e = 0.1.

    (0.9 * 0.313262 - 0.1 * 1.313262) / 0.8 = 0.188262; d/dh = -0.5 (sigmoid(-1) + 0.1 / 0.8) = -0.5 (0.268941 + 0.125)
    = -0.196971.
    """
    batch = margin_batch([2.0])
    output = robust(batch.policy, batch.reference, batch.pairs, beta=0.5, label_smoothing=0.1)
    assert output.loss.item() == pytest.approx(0.188262, abs=1e-6)
    assert gradient(output.loss.sum(), batch.policy)[:, 0].tolist() == pytest.approx([-0.196971, 0.196971], abs=1e-6)
    assert output.reward is not None and output.reward.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    b, e = Decimal(beta), Decimal("0.2")
    assert_exact(
        partial(robust, beta=beta, label_smoothing=0.2),
        lambda w, r: ((1 - e) * -log_sigmoid(b * (w - r)) - e * -log_sigmoid(-b * (w - r))) / (1 - 2 * e),
        steepness=beta,
    )


def test_flipped_labels_average_to_the_sigmoid_loss():
    """The paper's point: a pair given right with probability 0.7 and flipped with 0.3 costs what the true pair does."""
    batch = make_batch()
    flipped = batch.with_pairs(batch.pairs.flip(1))
    kept, turned = (
        robust(batch.policy, batch.reference, each.pairs, beta=0.4, label_smoothing=0.3).loss
        for each in (batch, flipped)
    )
    true = sigmoid(batch.policy, batch.reference, batch.pairs, beta=0.4).loss
    assert_close(0.7 * kept + 0.3 * turned, true)


def test_every_decision_of_a_response_has_the_same_gradient():
    """At policy = reference: -beta (1/2 + e / (1 - 2 e)) = -0.3 (0.5 + 0.5) = -0.3 for e = 0.25, over two pairs."""
    batch = make_batch()
    output = robust(batch.policy, batch.policy, batch.pairs, beta=0.3, label_smoothing=0.25)
    assert_close(gradient(reduce(output), batch.policy), by_decision([-0.15, 0.15, 0.15, -0.15]), atol=1e-12, rtol=0)
    scored = robust(batch.policy, batch.reference, batch.pairs, beta=0.3)
    assert scored.reward is not None
    assert scored.reward.tolist() == pytest.approx([0.3 * ratio for ratio in RATIOS])
