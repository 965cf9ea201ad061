"""Length-desensitised DPO: what a response has beyond the length of the other one counts less."""

from typing import Literal

from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.needs import comes_to
from dpo_lab.pair_rows import mean_over_pairs, weigh_tails
from dpo_lab.ranges import Positive, Probability
from dpo_lab.types import LogProbs, LossOutput, Pairs


@comes_to("sigmoid", of_same="length")
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
    unweighed = beta * log_ratio(policy, reference).detach()
    theirs = weigh_tails(reference, pairs, 1.0 if scope == "policy" else alpha)
    ratio = log_ratio(weigh_tails(policy, pairs, alpha), theirs)
    chosen, rejected = ratio.reshape(2, -1)
    loss = -logsigmoid(beta * (chosen - rejected))
    reward = mean_over_pairs(beta * ratio.detach(), pairs, unweighed)
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward)
