"""Self-play fine-tuning."""

from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def spin(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: Positive = 0.1) -> LossOutput:
    """log(1 + exp(-beta h)), with h the chosen minus the rejected log-ratio.

    Source: Chen et al. 2024, arXiv 2401.01335, with the logistic loss; `beta` is the paper's lambda. The formula is
    that of `sigmoid` without label_smoothing. What differs is what it is given: chosen = a demonstration, rejected =
    a response that the reference (the policy of the round before) gave to the same prompt.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats; the opponent.
        pairs: p lines (demonstration's row, row of the opponent's response).
        beta: strength of the pull to the opponent, per nat; larger keeps the policy closer to it. In (0, inf).

    Returns:
        loss in nats, one a pair, each of weight 1; ln 2 where policy equals reference. reward = beta * log-ratio
        summed over the response.
    """
    ratio = log_ratio(policy, reference)
    loss = -logsigmoid(beta * (ratio[pairs[:, 0]] - ratio[pairs[:, 1]]))
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
