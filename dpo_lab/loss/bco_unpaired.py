"""Binary classifier optimisation: single responses, judged desirable or not, around a running mean of rewards."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.loss.bco import add_rewards, midpoint
from dpo_lab.needs import whole_batch
from dpo_lab.ranges import Positive
from dpo_lab.types import Labels, LogProbs, LossOutput, State

KINDS = ("desirable", "undesirable")


@whole_batch
def bco_unpaired(
    policy: LogProbs,
    reference: LogProbs,
    labels: Labels,
    state: State,
    *,
    beta: Positive = 0.1,
    shift: Literal["running_mean", "pooled_mean", "none"] = "running_mean",
) -> LossOutput:
    """-log sigmoid(r - d) of a desirable, -log sigmoid(-(r - d)) of an undesirable response, r = beta * log-ratio.

    d is a mean of rewards, held constant. Source: Jung et al. 2024, arXiv 2404.04656, equations 7 (d) and 8.

    `shift="running_mean"` is equation 7: half of the mean over desirable plus half of the mean over undesirable
    responses, so that it does not lean to the larger kind. `shift="pooled_mean"` is the mean over both kinds
    together, as in TRL; the two agree where there are as many of the one as of the other. Both take in all responses
    judged in this optimizer step and in every one before: they are brought up to date first, then used. TRL does so
    in each micro-batch. The paper speaks of an exponential moving average and names no rate.

    Equation 8 gives the two kinds the same weight; here, as in TRL, every response has weight 1. The authors repeat
    responses of the smaller kind to even them out. Their weighing of undesirable responses by the density of their
    prompts is not part of this loss.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        labels: of each row: 1 desirable, 0 undesirable, -1 not judged.
        state: of the step before: sums and counts of rewards, "desirable_sum", "desirable_count", "undesirable_sum"
            and "undesirable_count". Empty before the first step. Not read with `shift="none"`.
        beta: reward per nat of log-ratio; larger moves a response fewer nats before its gradient dies out. In (0, inf).
        shift: what d is: "running_mean", "pooled_mean", or "none" for 0. While only one kind has been seen, either
            mean is that of this kind.

    Returns:
        loss in nats, one a judged row, in the order of rows, each of weight 1; ln 2 where policy equals reference
        from the first step on. reward = beta * log-ratio of every row, not shifted. With a shift: curve "delta", d,
        nats, and the new `state`, scalars in float64, the same to the last bit in whatever order the rows come.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    reward = beta * log_ratio(policy, reference)
    if shift == "none":
        delta, extra, new = reward.new_zeros(()), {}, None
    else:
        new = {}
        for kind, label in zip(KINDS, (1, 0), strict=True):
            new |= add_rewards(state, kind, reward[labels == label])
        delta = (midpoint(new, KINDS) if shift == "running_mean" else _pooled(new)).to(reward.dtype)
        extra = {"delta": delta.reshape(1)}
    is_judged = labels >= 0
    value = reward[is_judged] - delta
    loss = -logsigmoid(torch.where(labels[is_judged] == 1, value, -value))
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward.detach(), extra=extra, state=new)


def _pooled(state: State) -> Float[Tensor, ""]:
    """Mean reward of all judged responses of both kinds, nats; 0 of none."""
    sums, counts = (torch.stack([state[f"{kind}_{what}"] for kind in KINDS]).sum() for what in ("sum", "count"))
    return sums / counts.clamp(min=1)
