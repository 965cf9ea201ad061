"""AlphaPO: SimPO with a reward of another shape."""

from typing import Annotated

from torch.nn.functional import logsigmoid

from dpo_lab.loss.f_dpo import LARGEST_LOG, bounded_share, power_score
from dpo_lab.ranges import Interval, NonNegative, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def alphapo(
    policy: LogProbs,
    pairs: Pairs,
    *,
    beta: Positive = 2.0,
    gamma: NonNegative = 0.5,
    alpha: Annotated[float, Interval(ge=-100, le=100)] = 0.25,
) -> LossOutput:
    """-log sigmoid(r chosen - r rejected - gamma), with r = beta (1 - p^-alpha) / alpha.

    p is the geometric mean of the probabilities of a response's tokens. Source: Gupta et al. 2025, arXiv 2501.03884.
    alpha 0 is the limit r = beta log p, which is `simpo`.

    Published code differs in gamma as it does for `simpo` (here: in units of reward). TRL takes p out of its
    logarithm first, so that it underflows; here it stays in it.

    p^-alpha grows faster than a number can hold. Where it is above 1e30 (float32) or 1e300 (float64) it goes on as its
    tangent: finite, and still with a gradient. The curve `bounded` is the share of pairs with such a response.

    The authors' runs are at other values (beta 2.5, gamma 0.1, alpha 0.25 for a 7B model, by TRL's index of papers).

    Args:
        policy: n responses, nats.
        pairs: p lines (chosen row, rejected row).
        beta: scale of the reward; larger steepens the loss. In (0, inf).
        gamma: margin of reward sought; larger pushes further. In [0, inf).
        alpha: shape. Above 0 the reward is steepest at unlikely responses, below 0 at likely ones. In [-100, 100].

    Returns:
        loss in nats, one a pair, each of weight 1. reward = r, at most beta / alpha for alpha above 0.
    """
    log_prob = policy.mean()
    dtype = log_prob.dtype
    # In float64, for the reason that `f_dpo` gives.
    reward = beta * power_score(log_prob.double(), alpha, LARGEST_LOG[dtype])
    loss = -logsigmoid(reward[pairs[:, 0]] - reward[pairs[:, 1]] - gamma).to(dtype)
    extra = {"bounded": bounded_share(-alpha * log_prob, pairs)}
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward.detach().to(dtype), extra=extra)
