"""Token-level DPO that holds the rejected response back and does not let the chosen one drift for it."""

from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import NonNegative, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs, SequentialKL


def tdpo2(
    policy: LogProbs,
    reference: LogProbs,
    pairs: Pairs,
    sequential_kl: SequentialKL,
    *,
    beta: Positive = 0.1,
    alpha: NonNegative = 0.5,
) -> LossOutput:
    """-log sigmoid(beta (h - alpha (D rejected - D chosen))), where D chosen is a constant.

    h is the chosen minus the rejected log-ratio, D the sum over the tokens of a response of KL(reference || policy) of
    the whole distribution. Source: Zeng et al. 2024, arXiv 2404.11999 (TDPO_2), as in the authors' repository, where
    alpha is 0.5 too. At alpha 1 the value is that of `tdpo1`; the gradient is not, for none flows through D of the
    chosen response.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        sequential_kl: D of each row, nats, with gradient.
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).
        alpha: what the divergences count; larger holds the policy closer to the reference along the rejected
            response. 0 is `sigmoid`. In [0, inf).

    Returns:
        loss in nats, one a pair, each of weight 1; ln 2 where policy equals reference. reward =
        beta * (log-ratio + alpha D), so that the margin of the rewards is what the loss sees; the authors' code reports
        beta * (log-ratio + D) at any alpha.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    ratio = log_ratio(policy, reference)
    chosen, rejected = pairs[:, 0], pairs[:, 1]
    divergence = sequential_kl[rejected] - sequential_kl[chosen].detach()
    loss = -logsigmoid(beta * (ratio[chosen] - ratio[rejected] - alpha * divergence))
    reward = beta * (ratio + alpha * sequential_kl).detach()
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward)
