"""Token-level DPO: the margin also counts how far the policy is from the reference along either response."""

from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.needs import comes_to
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs, SequentialKL


@comes_to("sigmoid", of_same="distributions")
def tdpo1(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, sequential_kl: SequentialKL, *, beta: Positive = 0.1
) -> LossOutput:
    """-log sigmoid(beta (h - (D rejected - D chosen))), with h the chosen minus the rejected log-ratio.

    D is the sum over the tokens of a response of KL(reference || policy) of the whole distribution. Source: Zeng et al.
    2024, arXiv 2404.11999 (TDPO_1), as in the authors' repository. The gradient flows through D of both responses: it
    lets the chosen one drift from the reference and holds the rejected one back. See `tdpo2`.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        sequential_kl: D of each row, nats, with gradient.
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).

    Returns:
        loss in nats, one a pair, each of weight 1; ln 2 where policy equals reference. reward =
        beta * (log-ratio + D), so that the margin of the rewards is what the loss sees.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    ratio = log_ratio(policy, reference)
    chosen, rejected = pairs[:, 0], pairs[:, 1]
    divergence = sequential_kl[rejected] - sequential_kl[chosen]
    loss = -logsigmoid(beta * (ratio[chosen] - ratio[rejected] - divergence))
    reward = beta * (ratio + sequential_kl).detach()
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward)
