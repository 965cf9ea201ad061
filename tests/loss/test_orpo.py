import math
from decimal import Decimal

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss import orpo
from dpo_lab.types import LogProbs
from tests.loss.batch import by_decision, gradient, make_batch, total
from tests.loss.exact import assert_exact, log_sigmoid, one_token_pair

# The last ones go to p = 1 as far as a step of the exact derivative can follow, and far from it.
POINTS = (
    (-0.5, -1.0),
    (-1.0, -0.5),
    (-0.1, -0.1),
    (-50.0, -0.01),
    (-1e-3, -3.0),
    (-3.0, -1e-3),
    (-1e-12, -2.0),
    (-2.0, -1e-12),
    (-1e-12, -1e4),
    (-1e4, -1e-12),
    (-1e4, -1e4),
)


def test_by_hand():
    """p = 0.8 and 0.5: odds 4 and 1, -log sigmoid(log 4) = -log 0.8 = 0.223144. Likelihood 0.223144 too, weight 2.

    d log odds / d log p = 1 / (1 - p) = 5 and 2: slopes -1 - 2 * 0.2 * 5 = -3 and 2 * 0.2 * 2 = 0.8.
    """
    batch = one_token_pair((math.log(0.8), math.log(0.5)))
    loss = total(orpo(weight=2.0), batch)
    assert loss.item() == pytest.approx(3 * 0.223144, abs=1e-5)
    assert gradient(loss, batch.policy)[:, 0].tolist() == pytest.approx([-3.0, 0.8])
    reward = orpo()(batch.ingredients())["preference"].reward
    assert reward is not None
    assert reward.tolist() == pytest.approx([math.log(4), 0.0], abs=1e-12)


def test_tokens_carry_their_share():
    """The mean over tokens: with log-probs all log(1/2) the odds are 1, slopes -1/2 * 2 / 2 pairs over 3, 1, 2, 4."""
    half = math.log(0.5)
    batch = make_batch([[half] * 3, [half], [half] * 2, [half] * 4])
    found = gradient(total(orpo(weight=1.0), batch), batch.policy)
    expected = by_decision([-0.5 / 3 - 1 / 7, 0.5, 0.5 / 2, -0.5 / 4 - 1 / 7])
    assert_close(found, expected)


def test_is_exact():
    def log_odds(log_p: Decimal) -> Decimal:
        return log_p - (1 - log_p.exp()).ln()

    assert_exact(orpo(weight=0.5), lambda w, r: -w - log_sigmoid(log_odds(w) - log_odds(r)) / 2, points=POINTS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_p_of_1(dtype: torch.dtype):
    """Chosen p = 1, rejected 1/2: hardly a preference loss, and the slope its limit, -odds rejected = -1.

    The other way round the loss is infinite: held at log odds of -log(2^-25) = 17.33, or -log(2^-54) = 37.43.
    """
    half = math.log(0.5)
    batch = one_token_pair((0.0, half), dtype)
    loss = orpo(weight=1.0)(batch.ingredients())["preference"].loss.sum()
    assert loss.item() == pytest.approx(0, abs=torch.finfo(dtype).eps)
    assert gradient(loss, batch.policy)[0].item() == pytest.approx(-1.0, rel=1e-4)
    turned = one_token_pair((half, 0.0), dtype)
    loss = orpo(weight=1.0)(turned.ingredients())["preference"].loss.sum()
    assert loss.item() == pytest.approx(17.3287 if dtype == torch.float32 else 37.4299, rel=1e-4)
    assert gradient(loss, turned.policy).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_softmax_rounded_to_1_gets_the_gradient_of_logits(dtype: torch.dtype):
    """A rejected response of one token, 20 (or 40) above two others: d log odds / d logits is 1, -1/2, -1/2.

    The other probabilities are 2e-9 (4e-18), which 1 - p does not show. Within the factor that this rounding is.
    """
    high = 20.0 if dtype == torch.float32 else 40.0
    logits = torch.tensor([[0.0, 0.0, 0.0], [high, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    log_prob = LogProbs(torch.log_softmax(logits, -1)[:, :1], torch.ones(2, 1, dtype=torch.bool))
    assert log_prob.token[1].item() == 0
    loss = orpo(weight=1.0)({"policy": log_prob, "pairs": torch.tensor([[0, 1]]), "chosen": torch.tensor([0])})
    loss["preference"].loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad[1].abs().max() < 1
