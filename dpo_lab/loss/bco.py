"""Binary classifier optimisation of pairs: chosen responses above a running mean of rewards, rejected ones below."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.needs import whole_batch
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs, State

KINDS = ("chosen", "rejected")


@whole_batch
def bco(
    policy: LogProbs,
    reference: LogProbs,
    pairs: Pairs,
    state: State,
    *,
    beta: Positive = 0.1,
    shift: Literal["running_mean", "none"] = "running_mean",
) -> LossOutput:
    """-log sigmoid(beta a - d) - log sigmoid(-(beta b - d)), with a the chosen and b the rejected log-ratio.

    d is a mean of rewards, held constant: half of the mean over chosen plus half of the mean over rejected responses.
    Source: Jung et al. 2024, arXiv 2404.04656, equations 7 (d) and 8. Whatever d is, the loss is above that of
    `sigmoid`; this d brings it near.

    `shift="running_mean"` takes the means over all pairs of this optimizer step and of every one before: they are
    brought up to date first, then used, as in TRL up to 0.28. The paper speaks of an exponential moving average and
    names no rate. Published code differs: TRL averages the means of its micro-batches, which is the same where these
    are of equal size and the policy does not move between them; TRL from 0.29 and Liger have no d: `shift="none"`.

    The authors' runs are at beta 0.01, by TRL's index of papers.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        state: of the step before: sums and counts of rewards, "chosen_sum", "chosen_count", "rejected_sum" and
            "rejected_count". Empty before the first step. Not read with `shift="none"`.
        beta: reward per nat of log-ratio; larger moves a response fewer nats before its gradient dies out. In (0, inf).
        shift: what d is: "running_mean", or "none" for 0.

    Returns:
        loss in nats, one a pair, each of weight 1; 2 ln 2 where policy equals reference from the first step on.
        reward = beta * log-ratio, not shifted. With a shift: curve "delta", d, nats, and the new `state`, scalars in
        float64, the same to the last bit in whatever order the rows come.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    reward = beta * log_ratio(policy, reference)
    sides = reward[pairs[:, 0]], reward[pairs[:, 1]]
    if shift == "none":
        delta, extra, new = reward.new_zeros(()), {}, None
    else:
        new = {}
        for kind, values in zip(KINDS, sides, strict=True):
            new |= add_rewards(state, kind, values)
        delta = midpoint(new, KINDS).to(reward.dtype)
        extra = {"delta": delta.reshape(1)}
    loss = -logsigmoid(sides[0] - delta) - logsigmoid(delta - sides[1])
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward.detach(), extra=extra, state=new)


def add_rewards(state: State, kind: str, rewards: Float[Tensor, " r"]) -> State:
    """Sum and count of the rewards of one kind: those in `state`, if any, and `rewards`, in float64.

    >>> add_rewards({}, "chosen", torch.tensor([1.0, 2.0]))
    {'chosen_sum': tensor(3., dtype=torch.float64), 'chosen_count': tensor(2., dtype=torch.float64)}
    """
    # In ascending order, so that the order of the rows does not show in the rounding.
    values = rewards.detach().double().sort().values
    added = {f"{kind}_sum": values.sum(), f"{kind}_count": values.new_tensor(len(values))}
    return {name: value + state[name].to(value) if name in state else value for name, value in added.items()}


def midpoint(state: State, kinds: tuple[str, str]) -> Float[Tensor, ""]:
    """Mean of the two kinds' mean rewards, nats; that of one kind where the other has none, 0 where neither has."""
    counts = torch.stack([state[f"{kind}_count"] for kind in kinds])
    sums = torch.stack([state[f"{kind}_sum"] for kind in kinds])
    return (sums / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)
