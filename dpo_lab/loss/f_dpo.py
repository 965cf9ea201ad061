"""DPO under divergences other than the reverse KL."""

import math
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from dpo_lab.errors import UserError
from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Interval, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs

Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]

# Far enough from the largest float for a margin, a slope and a sum over a batch to be finite too.
LARGEST_LOG = {torch.float32: math.log(1e30), torch.float64: math.log(1e300)}
# Below it (1 - u^-alpha) / alpha is log u to 1e-12 even where log u is 1e4.
SMALLEST_ALPHA = 1e-16


def f_dpo(
    policy: LogProbs,
    reference: LogProbs,
    pairs: Pairs,
    *,
    beta: Positive = 0.1,
    divergence: Divergence = "js",
    alpha: Annotated[float, Interval(gt=0, lt=1)] | None = None,
) -> LossOutput:
    """-log sigmoid(beta (f'(u chosen) - f'(u rejected))), with u = pi / pi_ref, the ratio of whole responses.

    Source: Wang et al. 2023, arXiv 2309.16240, f' from its table of divergences, less constants that cancel:
    reverse_kl: log u (this is `sigmoid`). forward_kl: -1 / u. js: log(2 u / (1 + u)). alpha: (1 - u^-alpha) / alpha,
    between reverse_kl (alpha to 0) and forward_kl (alpha to 1, but for a constant).

    Published code differs in alpha: the authors' repository and TRL up to 0.28 as here (TRL with the default 1, which
    is forward_kl); TRL from 0.29 writes u^(a - 1) / (a - 1), so that its a is 1 - alpha.

    At forward_kl and alpha the loss grows like u^-alpha, faster than a number can hold. Where u^-alpha is above 1e30
    (float32) or 1e300 (float64) it goes on as its tangent: finite, and still with a gradient towards the reference.
    The curve `bounded` is the share of pairs with such a response.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: strength of the pull to the reference; larger keeps the policy closer to it. In (0, inf).
        divergence: what the pull is measured by.
        alpha: with divergence alpha, and only there; larger is nearer to the forward KL. In (0, 1).

    Returns:
        loss in nats, one a pair, each of weight 1; ln 2 where policy equals reference. reward = beta * f'(u).

    Raises:
        UserError: for divergence alpha without an alpha, and for any other with one.
    """
    if (divergence == "alpha") != (alpha is not None):
        raise UserError(
            f"loss.alpha: loss.divergence=alpha needs one in (0, 1) and no other divergence has one, "
            f"got loss.divergence={divergence} and loss.alpha={'null' if alpha is None else alpha}"
        )
    ratio = log_ratio(policy, reference)
    dtype = ratio.dtype
    # In float64: far from u = 1 two scores are near 1 / alpha, and their difference small beside them.
    score, steepness = _score(ratio.double(), divergence, alpha, LARGEST_LOG[dtype])
    loss = -logsigmoid(beta * (score[pairs[:, 0]] - score[pairs[:, 1]])).to(dtype)
    extra = {} if steepness == 0 else {"bounded": bounded_share(-steepness * ratio, pairs)}
    reward = (beta * score.detach()).to(dtype)
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward, extra=extra)


def _score(
    ratio: Float[Tensor, " n"], divergence: Divergence, alpha: float | None, largest: float
) -> tuple[Float[Tensor, " n"], float]:
    """f'(u) of a log u, and the power of 1 / u that it grows like (0 where it grows like log u)."""
    if divergence == "js":
        return math.log(2) + logsigmoid(ratio), 0.0
    if divergence == "forward_kl":
        return -bounded_exp(-ratio, largest), 1.0
    return (ratio, 0.0) if alpha is None else (power_score(ratio, alpha, largest), alpha)


def power_score(log_value: Float[Tensor, " n"], alpha: float, largest: float) -> Float[Tensor, " n"]:
    """(1 - u^-alpha) / alpha of a log u, with u^-alpha as `bounded_exp` has it; log u itself where alpha is 0."""
    if abs(alpha) < SMALLEST_ALPHA:
        return log_value
    exponent = -alpha * log_value
    # Near u = 1 the difference would lose its digits; away from it expm1 would lose those of its slope.
    near = -torch.expm1(exponent.clamp(-1, 1))
    return torch.where(exponent.abs() < 1, near, 1 - bounded_exp(exponent, largest)) / alpha


def bounded_exp(exponent: Float[Tensor, " n"], largest: float) -> Float[Tensor, " n"]:
    """exp(x), and its tangent from x = `largest` on: finite, with a slope everywhere."""
    return exponent.clamp(max=largest).exp() * (1 + relu(exponent - largest))


def bounded_share(exponent: Float[Tensor, " n"], pairs: Pairs) -> Float[Tensor, " p"]:
    """1 for each pair with a response at which `bounded_exp` takes the tangent, else 0."""
    return (exponent.detach() > LARGEST_LOG[exponent.dtype])[pairs].any(-1).to(exponent.dtype)
