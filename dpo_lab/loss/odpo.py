"""DPO with an offset that grows with how much better the chosen response was scored."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import NonNegative, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs, Scores


def odpo(
    policy: LogProbs,
    reference: LogProbs,
    pairs: Pairs,
    scores: Scores,
    *,
    beta: Positive = 0.1,
    alpha: NonNegative = 1.0,
    offset: Literal["log", "difference"] = "log",
) -> LossOutput:
    """-log sigmoid(beta h - alpha f(d)), with h the difference of the log-ratios and d that of the scores.

    Both are chosen minus rejected. Source: Amini et al. 2024, arXiv 2402.10571, and the authors' repository, whose f is
    log and alpha 1 (0.5 for sentiment). Under `offset="log"` a pair with d < 1 has an offset below 0 and asks for less
    than `sigmoid` does.

    d is to be positive. A pair with equal scores, with the better score on the rejected response or with a score
    missing has no offset and is a pair of `sigmoid`; the curve `has_offset` shows how many are not. The authors leave
    pairs of equal scores out of the data, and their code gives not a number where the scores are the wrong way round.
    It can also take the logarithm of the quotient of the scores, which this does not.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        scores: of each row, larger is better; in whatever unit the data has.
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).
        alpha: size of the offset; larger asks for a larger margin between unequal responses. 0 is `sigmoid`. In
            [0, inf).
        offset: f, the logarithm of d ("log") or d itself ("difference").

    Returns:
        loss in nats, one a pair, each of weight 1. reward = beta * log-ratio summed over the response; the margin of
        the rewards is compared with the offset. Curves: `offset`, alpha f(d), and `has_offset`, 1 or 0, a pair.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    ratio = log_ratio(policy, reference)
    shift, has_offset = _offset(scores[pairs[:, 0]] - scores[pairs[:, 1]], alpha, offset)
    shift = shift.to(ratio)
    loss = -logsigmoid(beta * (ratio[pairs[:, 0]] - ratio[pairs[:, 1]]) - shift)
    extra = {"offset": shift, "has_offset": has_offset.to(ratio)}
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach(), extra=extra)


def _offset(difference: Float[Tensor, " p"], alpha: float, offset: str) -> tuple[Float[Tensor, " p"], Tensor]:
    """alpha f(difference) and where there is one: not at 0, below 0 or where a score is not a number."""
    is_better = difference > 0
    size = torch.where(is_better, difference, 1.0)
    size = size.log() if offset == "log" else size
    return torch.where(is_better, alpha * size, 0.0), is_better
