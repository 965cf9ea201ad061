"""Hinge loss on the implicit reward margin."""

from typing import Literal

from torch.nn.functional import relu

from dpo_lab.log_ratio import log_ratio, mean_log_ratio
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def hinge(
    policy: LogProbs,
    reference: LogProbs,
    pairs: Pairs,
    *,
    beta: Positive = 0.1,
    normalization: Literal["sum", "mean"] = "sum",
) -> LossOutput:
    """max(0, 1 - beta h), with h the chosen minus the rejected log-ratio.

    Source: Liu et al. 2023 (RSO), arXiv 2309.06657, equation 11: the hinge of SLiC (arXiv 2305.10425) on
    log-ratios. The margin asked for is 1 in units of reward, so 1 / beta nats: a larger beta asks for a *smaller*
    margin in nats. SLiC without a reference, where some code calls the margin itself "beta", is another loss (`slic`).

    Published code differs in h: that of whole responses here, in TRL and torchtune, `normalization="sum"`; the SimPO
    repository has a hinge on log-probabilities per token, `normalization="mean"` with reference=uniform.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: reward per nat of log-ratio; larger asks for fewer nats. In (0, inf).
        normalization: "sum" over the decisions of a response, or "mean"; the margin asked for is then 1 / beta nats a
            token.

    Returns:
        loss without unit, one a pair, each of weight 1; 1 where policy equals reference. reward =
        beta * log-ratio, summed or averaged as `normalization` says.
    """
    ratio = (log_ratio if normalization == "sum" else mean_log_ratio)(policy, reference)
    loss = relu(1 - beta * (ratio[pairs[:, 0]] - ratio[pairs[:, 1]]))
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
