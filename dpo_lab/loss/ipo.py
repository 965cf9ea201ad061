"""Identity preference optimisation."""

from typing import Literal

from dpo_lab.log_ratio import log_ratio, mean_log_ratio
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def ipo(
    policy: LogProbs,
    reference: LogProbs,
    pairs: Pairs,
    *,
    beta: Positive = 0.1,
    normalization: Literal["sum", "mean"] = "sum",
) -> LossOutput:
    """(h - 1 / (2 beta))^2, with h the chosen minus the rejected log-ratio.

    Source: Azar et al. 2023, arXiv 2310.12036, equation 17; `beta` is the paper's tau.

    Published code disagrees on h. The paper's h is of whole responses: `normalization="sum"`, as in the original
    DPO repository and OpenRLHF; the margin sought is 1 / (2 beta) nats a response. TRL (from 0.8) and HALOs divide
    each log-ratio by its length: `normalization="mean"`; the same beta then asks for 1 / (2 beta) nats *a token*,
    so a beta tuned for one is of no use to the other.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: the paper's tau; the margin sought is 1 / (2 beta), so a larger beta stays closer to the
            reference. In (0, inf).
        normalization: "sum" over the decisions of a response, or "mean".

    Returns:
        loss in nats squared, one a pair, each of weight 1; 1 / (4 beta^2) where policy equals reference. reward =
        beta * log-ratio, summed or averaged as `normalization` says, so that the margin sought is 1/2.
    """
    ratio = (log_ratio if normalization == "sum" else mean_log_ratio)(policy, reference)
    loss = (ratio[pairs[:, 0]] - ratio[pairs[:, 1]] - 1 / (2 * beta)) ** 2
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
