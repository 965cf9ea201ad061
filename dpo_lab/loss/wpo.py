"""Weighted preference optimisation: pairs that the policy would write itself count more."""

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.errors import UserError
from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs, PolicyStats

# A distribution over v choices has sum pi^2 >= 1 / v, so a weight of at most v^2: what is above this is no probability.
LARGEST_LOG_WEIGHT = math.log(1e30)


def wpo(
    policy: LogProbs,
    reference: LogProbs,
    pairs: Pairs,
    policy_stats: PolicyStats,
    *,
    beta: Positive = 0.1,
    alignment: Literal["sampled", "none"] = "sampled",
    clamp: bool = False,
) -> LossOutput:
    """-w(chosen) w(rejected) log sigmoid(beta h), with h the chosen minus the rejected log-ratio and w a constant.

    log w(y) is the mean over the tokens of y of log pi(y_t) - log sum_v pi(v)^2: how likely y is beside a response
    that the policy samples. Source: Zhou et al. 2024, arXiv 2406.11827, equation 2 (sampled alignment). No gradient
    flows through w. The paper also aligns by the likeliest token, which this does not.

    Published code differs: the authors' repository and TRL up to 0.28 cut the product of the weights to 1, as
    `clamp=True` does; equation 2 and TRL from 0.29 do not; open-instruct does not align and lets the gradient flow
    through the weights.

    The authors' configuration has beta 0.01.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        policy_stats: of the policy at every decision; log_collision is log sum_v pi(v)^2, nats.
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).
        alignment: "sampled", or "none": w is then the geometric mean of the token probabilities, smaller wherever
            the policy is undecided.
        clamp: whether the weight of a pair is cut to 1, as the authors' code does and equation 2 does not. Not with
            alignment "none", which has no weight above 1.

    Returns:
        loss in nats, one a pair. It has the weight as a factor; `weight` of the average is 1. reward = beta * log-ratio
        summed over the response. Curve `weight`: w(chosen) w(rejected), one a pair; at most 1e30, which no
        distribution reaches.

    Raises:
        UserError: for a clamp with alignment "none".
        ValueError: when policy and reference score rows of another number or length.
    """
    if clamp and alignment == "none":
        raise UserError("loss.clamp: with loss.alignment=none no weight is above 1, so that nothing would be cut")
    ratio = log_ratio(policy, reference)
    weight = pair_weight(policy, policy_stats, pairs, alignment, clamp)
    loss = -weight * logsigmoid(beta * (ratio[pairs[:, 0]] - ratio[pairs[:, 1]]))
    ones = loss.new_ones(loss.shape)
    return LossOutput(loss=loss, weight=ones, reward=beta * ratio.detach(), extra={"weight": weight})


def pair_weight(
    policy: LogProbs,
    policy_stats: PolicyStats,
    pairs: Pairs,
    alignment: Literal["sampled", "none"] = "sampled",
    clamp: bool = False,
) -> Float[Tensor, " p"]:
    """w(chosen) w(rejected) of each pair, without unit and without gradient; arguments as in `wpo`."""
    token = policy.token.detach()
    if alignment == "sampled":
        token = token - policy_stats.log_collision.detach()
    log_weight = LogProbs(token, policy.mask).mean()[pairs].sum(-1)
    return log_weight.clamp(max=0.0 if clamp else LARGEST_LOG_WEIGHT).exp()
