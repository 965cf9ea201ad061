"""Softmax DPO: one good response against several others at once."""

from dpo_lab.log_ratio import log_ratio
from dpo_lab.loss.plackett_luce import choice_loss
from dpo_lab.needs import best_alone
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Ranking


@best_alone
def s_dpo(policy: LogProbs, reference: LogProbs, ranking: Ranking, *, beta: Positive = 0.1) -> LossOutput:
    """-log sigmoid(-log sum_l exp(beta (b_l - a))), with a the log-ratio of the best response, b_l those of the others.

    Source: Chen et al. 2024, arXiv 2406.09215. The others are in no order; it is the first step of `plackett_luce`, and
    with one other response it is `sigmoid`. The authors' code is the same formula, but adds the exponentials up as they
    are, which overflows where beta (b_l - a) is above 88 (float32).

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        ranking: l lists of at most k rows, the best one first; -1 behind the end of a shorter list.
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).

    Returns:
        loss in nats, one a list, each of weight 1; the logarithm of the number of responses where policy equals
        reference, and 0 for a list of one response. reward = beta * log-ratio summed over the response.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    ratio = log_ratio(policy, reference)
    best, others = ranking[:, :1], ranking[:, 1:]
    exact = ratio.double()
    loss = choice_loss(beta * (exact[best] - exact[others.clamp(min=0)]), others >= 0).to(ratio.dtype)
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
