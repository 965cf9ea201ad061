"""Hinge loss on the implicit reward margin."""

from torch.nn.functional import relu

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def hinge(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: Positive = 0.1) -> LossOutput:
    """max(0, 1 - beta h), with h the chosen minus the rejected log-ratio.

    Source: Liu et al. 2023 (RSO), arXiv 2309.06657, equation 11: the hinge of SLiC (arXiv 2305.10425) on
    log-ratios. The margin asked for is 1 in units of reward, so 1 / beta nats: a larger beta asks for a *smaller*
    margin in nats. SLiC without a reference, where some code calls the margin itself "beta", is another loss.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: reward per nat of log-ratio. In (0, inf).

    Returns:
        loss without unit, one a pair, each of weight 1; 1 where policy equals reference. reward =
        beta * log-ratio summed over the response.
    """
    ratio = log_ratio(policy, reference)
    loss = relu(1 - beta * (ratio[pairs[:, 0]] - ratio[pairs[:, 1]]))
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
