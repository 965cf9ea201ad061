"""Robust DPO: the sigmoid loss, unbiased under labels that are flipped at a known rate."""

from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import BelowHalf, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def robust(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: Positive = 0.1, label_smoothing: BelowHalf = 0.1
) -> LossOutput:
    """(-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2 e), h the chosen minus the rejected log-ratio.

    Source: Chowdhury et al. 2024 (rDPO), arXiv 2403.00409, section 3: over labels flipped with probability e its mean
    is the sigmoid loss on the true labels. With e = 0 it is `sigmoid`. Conservative DPO (`sigmoid` with
    label_smoothing) has the other sign before e: it stops at a finite margin, this loss falls without bound.

    Published code differs in what it does at e >= 0.5, where the formula has no meaning: some only warns, and at 0.5
    divides by zero. It is outside of the range here.

    The authors' runs are at beta 0.01, by TRL's index of papers.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).
        label_smoothing: the paper's epsilon, the rate of flipped labels; larger weighs every pair up. In [0, 0.5).

    Returns:
        loss in nats, one a pair, each of weight 1; ln 2 where policy equals reference; negative at large margins.
        reward = beta * log-ratio summed over the response.
    """
    ratio = log_ratio(policy, reference)
    logits = beta * (ratio[pairs[:, 0]] - ratio[pairs[:, 1]])
    loss = label_smoothing * logsigmoid(-logits) - (1 - label_smoothing) * logsigmoid(logits)
    loss = loss / (1 - 2 * label_smoothing)
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
