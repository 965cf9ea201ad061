"""Calibrated DPO: the scale of the rewards is pinned as well as their difference."""

from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import NonNegative, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def cal_dpo(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: Positive = 0.1, weight: NonNegative = 1.0
) -> LossOutput:
    """-log sigmoid(a - b) + weight ((a - 1 / (2 beta))^2 + (b + 1 / (2 beta))^2), a, b chosen and rejected log-ratio.

    Source: Xiao et al. 2024, arXiv 2412.14516. beta does not stand in the first term: it is not `sigmoid` plus a
    penalty. The second term is `sppo`.

    Published code differs: the paper adds the squares as they are (weight 1), the authors' repository takes half of
    them (weight 0.5).

    The authors' script has beta 0.001.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: the log-ratios sought are +-1 / (2 beta) nats, so a larger beta stays closer to the reference.
            In (0, inf).
        weight: of the squares. In [0, inf).

    Returns:
        loss in nats plus weighted nats squared, one a pair, each of weight 1; ln 2 + weight / (2 beta^2) where policy
        equals reference. reward = beta * log-ratio summed over the response, so that those sought are +-1/2.
    """
    ratio = log_ratio(policy, reference)
    chosen, rejected = ratio[pairs[:, 0]], ratio[pairs[:, 1]]
    target = 1 / (2 * beta)
    loss = -logsigmoid(chosen - rejected) + weight * ((chosen - target) ** 2 + (rejected + target) ** 2)
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
