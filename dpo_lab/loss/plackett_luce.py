"""DPO over a whole ranking."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Ranking


def plackett_luce(policy: LogProbs, reference: LogProbs, ranking: Ranking, *, beta: Positive = 0.1) -> LossOutput:
    """-sum_i log(exp(beta r_i) / sum_(j >= i) exp(beta r_j)), with r_i the log-ratio of the response ranked i-th.

    The ranking is read as drawn without replacement, best first, each response with odds exp(beta r). Source:
    Rafailov et al. 2023, arXiv 2305.18290, appendix A.3. With two responses it is `sigmoid`.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        ranking: l lists of at most k rows, best first; -1 behind the end of a shorter list.
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).

    Returns:
        loss in nats, one a list, each of weight 1; the logarithm of (number of responses)! where policy equals
        reference, and 0 for a list of one response. reward = beta * log-ratio summed over the response.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    ratio = log_ratio(policy, reference)
    # In float64: two responses far below a third differ by little, which float32 would lose beside the distance.
    listed, is_there = ratio.double()[ranking.clamp(min=0)], ranking >= 0
    lead = beta * (listed[:, :, None] - listed[:, None, :])
    is_below = torch.ones_like(lead, dtype=torch.bool).triu(1) & is_there[:, None, :]
    loss = choice_loss(lead, is_below).sum(-1).to(ratio.dtype)
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())


def choice_loss(lead: Float[Tensor, " *picks k"], is_other: Bool[Tensor, " *picks k"]) -> Float[Tensor, " *picks"]:
    """-log of the probability of a choice whose log-odds against each of k others are `lead`, nats.

    log(1 + sum over the others of exp(-lead)), from differences alone, so that a loss of exp(-100) is not rounded to
    0. Where `is_other` is False there is no other one; 0 with gradient 0 where there is none at all. To be given in
    float64: the gradient of a logsumexp x is exp(lead - x), which takes the rounding of x times 1e4 and more.
    """
    # Of no others at all it is minus infinity with a gradient of not a number, which `where` makes 0.
    odds = torch.where(is_other, -lead, -torch.inf).logsumexp(-1)
    return -logsigmoid(-odds)
