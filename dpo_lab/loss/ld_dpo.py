"""Length-desensitised DPO: what a response has beyond the length of the other one counts less."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Positive, Probability
from dpo_lab.types import LogProbs, LossOutput, Pairs


def ld_dpo(
    policy: LogProbs,
    reference: LogProbs,
    pairs: Pairs,
    *,
    beta: Positive = 0.1,
    alpha: Probability = 0.5,
    scope: Literal["policy", "both"] = "both",
) -> LossOutput:
    """-log sigmoid(beta (a - b)), a and b log-ratios in which the tokens past the shorter length are worth alpha each.

    log p(y) = sum over the first m tokens + alpha * sum over the others, where m is the length of the shorter response
    of the pair. Source: Liu et al. 2024, arXiv 2409.06411. alpha 1 is `sigmoid`.

    Published code differs: `scope="both"` weighs policy and reference alike (TRL); `scope="policy"` takes the
    reference whole (LLaMA-Factory), so that policy = reference no longer has margin 0.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).
        alpha: what a token past the shorter length is worth; smaller desensitises more. In [0, 1].
        scope: whose log-probabilities are weighed.

    Returns:
        loss in nats, one a pair, each of weight 1. reward = beta * weighed log-ratio, averaged over the pairs that a
        response is in; unweighed for a response in none.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    reward = beta * log_ratio(policy, reference).detach()
    length = policy.mask.sum(-1)
    shared = length[pairs].amin(-1)
    sides = [_weighed(policy, reference, pairs[:, side], shared, alpha, scope) for side in (0, 1)]
    loss = -logsigmoid(beta * (sides[0] - sides[1]))
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=_spread(reward, pairs, beta, sides))


def _weighed(
    policy: LogProbs, reference: LogProbs, rows: Tensor, shared: Tensor, alpha: float, scope: str
) -> Float[Tensor, " p"]:
    """Log-ratio of each of `rows`, nats, with weight `alpha` past its first `shared` tokens."""
    mask = policy.mask[rows]
    is_tail = mask.cumsum(-1) > shared[:, None]
    theirs, ours = reference.token.detach()[rows], policy.token[rows]
    weighed = torch.where(is_tail, alpha * ours, ours) - (
        theirs if scope == "policy" else torch.where(is_tail, alpha * theirs, theirs)
    )
    return LogProbs(weighed, mask).sum()


def _spread(
    reward: Float[Tensor, " n"], pairs: Pairs, beta: float, sides: list[Float[Tensor, " p"]]
) -> Float[Tensor, " n"]:
    """Mean over a response's pairs of beta times its log-ratio there; `reward` for a response in none."""
    rows = pairs.T.reshape(-1)
    values = beta * torch.cat(sides).detach()
    num_pairs = torch.zeros_like(reward).index_add(0, rows, torch.ones_like(values))
    total = torch.zeros_like(reward).index_add(0, rows, values)
    return torch.where(num_pairs > 0, total / num_pairs.clamp(min=1), reward)
