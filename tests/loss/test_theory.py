"""What the papers prove, on a policy over a few responses whose rewards and preferences are known exactly.

The expected loss over all ordered pairs is minimised to the end, and the policy found is compared with the closed form.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dpo_lab.loss.ipo import ipo
from dpo_lab.loss.plackett_luce import plackett_luce
from dpo_lab.loss.robust import robust
from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.types import LogProbs, LossOutput

REWARD = torch.tensor([1.2, -0.4, 0.3, 0.0, -1.1], dtype=torch.float64)
REFERENCE = torch.tensor([0.05, 0.3, 0.2, 0.1, 0.35], dtype=torch.float64).log()
NUM = len(REWARD)
PAIRS = torch.tensor([(i, j) for i in range(NUM) for j in range(NUM) if i != j])
BRADLEY_TERRY = torch.sigmoid(REWARD[PAIRS[:, 0]] - REWARD[PAIRS[:, 1]])
DETERMINISTIC = (REWARD[PAIRS[:, 0]] > REWARD[PAIRS[:, 1]]).double()

Loss = Callable[[LogProbs], LossOutput]


def as_log_probs(log_prob: Tensor) -> LogProbs:
    """Every response is one decision: the choice of it."""
    return LogProbs(log_prob[:, None], torch.ones(len(log_prob), 1, dtype=torch.bool))


def expected(loss: Loss, probability: Tensor, logits: Tensor) -> Tensor:
    """The loss of each judgement times how often it is made."""
    return (probability * loss(as_log_probs(torch.log_softmax(logits, 0))).loss).sum() / probability.sum()


def minimise(loss: Loss, probability: Tensor) -> Tensor:
    """The policy (log-probabilities) at which the expected loss is smallest, by L-BFGS from the reference."""
    logits = REFERENCE.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=2000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = expected(loss, probability, logits)
        value.backward()
        return value

    optimizer.step(closure)
    return torch.log_softmax(logits.detach(), 0)


def on_pairs(loss: Callable[..., LossOutput], **knobs: float) -> Loss:
    return partial(_on_pairs, loss, knobs)


def _on_pairs(loss: Callable[..., LossOutput], knobs: dict[str, float], policy: LogProbs) -> LossOutput:
    return loss(policy, as_log_probs(REFERENCE), PAIRS, **knobs)


def tilted(exponent: Tensor) -> Tensor:
    """log of reference * exp(exponent), normalised."""
    return torch.log_softmax(REFERENCE + exponent, 0)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_sigmoid_finds_the_optimum_of_reward_minus_beta_kl(beta: float):
    """Rafailov et al. 2023, equation 4: pi* is proportional to pi_ref exp(r / beta)."""
    found = minimise(on_pairs(sigmoid, beta=beta), BRADLEY_TERRY)
    assert_close(found, tilted(REWARD / beta), atol=1e-5, rtol=0)


def test_sigmoid_finds_no_other_optimum():
    """The same check with another temperature fails: it can tell optima apart."""
    found = minimise(on_pairs(sigmoid, beta=0.5), BRADLEY_TERRY)
    assert (found - tilted(REWARD / 0.6)).abs().max() > 0.1


@pytest.mark.parametrize("probability", [BRADLEY_TERRY, DETERMINISTIC], ids=["bradley_terry", "deterministic"])
@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_ipo_finds_its_own_optimum(beta: float, probability: Tensor):
    """Azar et al. 2023: pi* is proportional to pi_ref exp(p(y preferred to mu) / tau), with mu uniform here.

    The derivative of sum_ij P_ij (s_i - s_j - c)^2, c = 1 / (2 tau), s the log-ratios, with respect to s_i is 0 where
    s_i = mean_j s_j + c mean_j (2 P_ij - 1), P_ii = 1/2. So s_i = constant + mean_j P_ij / tau: finite for any P.
    """
    matrix = torch.full((NUM, NUM), 0.5, dtype=torch.float64)
    matrix[PAIRS[:, 0], PAIRS[:, 1]] = probability
    found = minimise(on_pairs(ipo, beta=beta), probability)
    assert_close(found, tilted(matrix.mean(1) / beta), atol=1e-6, rtol=0)


def test_deterministic_preferences_drive_sigmoid_to_infinity_and_not_ipo():
    """Azar et al. 2023, section 4: then the pull to the reference does nothing, whatever beta is.

    Gradient descent on -log sigmoid(beta h) without an opposite pair: h grows like log(steps) / beta, without end. That
    on (h - c)^2 stands still where its optimum is.
    """
    spread = {name: [] for name in ("sigmoid", "ipo")}
    for name, loss, rate in (("sigmoid", sigmoid, 4.0), ("ipo", ipo, 0.25)):
        logits = REFERENCE.clone().requires_grad_()
        for step in range(1, 3001):
            (slope,) = torch.autograd.grad(expected(on_pairs(loss, beta=1.0), DETERMINISTIC, logits), logits)
            logits = (logits - rate * slope).detach().requires_grad_()
            if step in (300, 3000):
                ratio = (torch.log_softmax(logits, 0) - REFERENCE).detach()
                spread[name].append(float(ratio.max() - ratio.min()))
    assert spread["sigmoid"][1] > spread["sigmoid"][0] + math.log(10) / 2
    assert spread["ipo"][1] == pytest.approx(spread["ipo"][0], abs=1e-6)
    # Best and worst of five win against 4/5 + 1/10 and 1/10 of uniform draws.
    assert spread["ipo"][1] == pytest.approx(0.9 - 0.1, abs=1e-6)


def test_robust_undoes_flipped_labels():
    """Chowdhury et al. 2024: with 20 % of labels flipped, `robust` finds what `sigmoid` finds without noise."""
    flipped = 0.8 * BRADLEY_TERRY + 0.2 * (1 - BRADLEY_TERRY)
    clean = tilted(REWARD / 0.5)
    assert_close(minimise(on_pairs(robust, beta=0.5, label_smoothing=0.2), flipped), clean, atol=1e-5, rtol=0)
    assert (minimise(on_pairs(sigmoid, beta=0.5), flipped) - clean).abs().max() > 0.1


def test_plackett_luce_finds_the_optimum_from_rankings():
    """Rafailov et al. 2023, appendix A.3: every ranking of four responses, as often as Plackett-Luce makes it."""
    rankings = torch.tensor(list(permutations(range(4))))
    rewards = REWARD[rankings]
    probability = (
        torch.stack([rewards[:, i] - torch.logsumexp(rewards[:, i:], dim=1) for i in range(4)], dim=1).sum(1).exp()
    )
    assert float(probability.sum()) == pytest.approx(1)

    def loss(policy: LogProbs) -> LossOutput:
        return plackett_luce(policy, as_log_probs(REFERENCE), rankings, beta=0.5)

    found = minimise(loss, probability)
    # The fifth response is in no ranking, so nothing says how likely it should be.
    assert_close(torch.log_softmax(found[:4], 0), torch.log_softmax(tilted(REWARD / 0.5)[:4], 0), atol=1e-5, rtol=0)
