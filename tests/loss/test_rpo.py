from decimal import Decimal
from typing import Literal

import pytest
from torch.testing import assert_close

from dpo_lab.loss import rpo
from tests.loss.batch import by_decision, gradient, make_batch, total
from tests.loss.exact import BETAS, assert_exact, log_sigmoid

# Chosen are row 0 (log-prob -3.5, 3 tokens) and row 3 (-4, 4 tokens).


@pytest.mark.parametrize(
    ("normalization", "likelihood"),
    [("token", 7.5 / 7), ("sequence_mean", (3.5 / 3 + 4 / 4) / 2), ("sequence_sum", 7.5 / 2)],
)
def test_by_hand(normalization: Literal["token", "sequence_mean", "sequence_sum"], likelihood: float):
    """beta 0.5, margins 0.7, 0.9: (0.533382 + 0.493249) / 2 = 0.513316; plus 0.2 of a likelihood of its own items."""
    batch = make_batch()
    objective = rpo(beta=0.5, weight=0.2, normalization=normalization)
    assert total(objective, batch).item() == pytest.approx(0.513316 + 0.2 * likelihood, abs=1e-6)


def test_gradient_by_hand():
    """Sum of two parts: -+0.5 sigmoid(-0.35) / 2 and -+0.5 sigmoid(-0.45) / 2, and -0.2 / 7 a chosen token.

    sigmoid(-0.35) = 0.413382, sigmoid(-0.45) = 0.389361; over four: 0.103346, 0.097340; 0.2 / 7 = 0.028571.
    """
    batch = make_batch()
    found = gradient(total(rpo(beta=0.5, weight=0.2, normalization="token"), batch), batch.policy)
    expected = by_decision([-0.103346 - 0.028571, 0.103346, 0.097340, -0.097340 - 0.028571])
    assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    b, e = Decimal(beta), Decimal("0.1")
    assert_exact(
        rpo(beta=beta, label_smoothing=0.1, weight=0.5),
        lambda w, r: -(1 - e) * log_sigmoid(b * (w - r)) - e * log_sigmoid(-b * (w - r)) - w / 2,
        steepness=beta,
    )


def test_needs_and_terms():
    objective = rpo()
    assert [(term.name, term.weight) for term in objective.terms] == [("preference", 1.0), ("nll", 1.0)]
    assert objective.needs == {"policy", "reference", "pairs", "chosen"}
    assert rpo(weight=0.0).needs == {"policy", "reference", "pairs"}
