"""Direct preference optimisation, the original loss."""

from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import BelowHalf, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def sigmoid(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: Positive = 0.1, label_smoothing: BelowHalf = 0.0
) -> LossOutput:
    """-(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h), with h the chosen minus the rejected log-ratio.

    Source: Rafailov et al. 2023, arXiv 2305.18290, equation 7. With `label_smoothing` e > 0 it is
    conservative DPO (Mitchell 2023, "A note on DPO with noisy preferences and relationship to IPO", equation 3):
    e is the probability that a label is flipped.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).
        label_smoothing: in [0, 0.5). Some libraries accept it and ignore it; here it always acts.

    Returns:
        loss in nats, one a pair, each of weight 1; ln 2 where policy equals reference. reward =
        beta * log-ratio summed over the response.
    """
    ratio = log_ratio(policy, reference)
    logits = beta * (ratio[pairs[:, 0]] - ratio[pairs[:, 1]])
    loss = -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
