"""DPO-positive: no margin is won by making the chosen response less likely."""

from torch.nn.functional import logsigmoid, relu

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import NonNegative, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def dpop(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: Positive = 0.3, weight: NonNegative = 50.0
) -> LossOutput:
    """-log sigmoid(beta (a - b - weight max(0, -a))), with a the chosen and b the rejected log-ratio.

    Source: Pal et al. 2024 (Smaug), arXiv 2402.13228, the loss DPOP. With weight 0 it is `sigmoid`.

    Published restatements differ: here, as in the paper, the penalty stands inside the sigmoid and is multiplied by
    beta; some leave beta out, some add it outside. At a = 0, the kink, its derivative is taken for 0, so that the
    first step from policy = reference is that of `sigmoid`.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).
        weight: the paper's lambda, margin lost per nat by which the chosen response is less likely than under the
            reference; larger forbids that more. In [0, inf).

    Returns:
        loss in nats, one a pair, each of weight 1; ln 2 where policy equals reference. reward = beta * log-ratio
        summed over the response, without the penalty.
    """
    ratio = log_ratio(policy, reference)
    chosen, rejected = ratio[pairs[:, 0]], ratio[pairs[:, 1]]
    loss = -logsigmoid(beta * (chosen - rejected - weight * relu(-chosen)))
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
