"""Length-normalised DPO."""

from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import mean_log_ratio
from dpo_lab.ranges import BelowHalf, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def ln_dpo(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: Positive = 5.0, label_smoothing: BelowHalf = 0.0
) -> LossOutput:
    """-(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h), with h the difference of log-ratios *per token*.

    Source: Lambert et al. 2024 (Tulu 3), arXiv 2411.15124, length-normalised DPO: `sigmoid` with each log-ratio
    divided by the number of tokens of its response. Known as dpo_norm (open-instruct) and sigmoid_norm (TRL).

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: strength of the pull to the reference, per nat *a token*, hence larger than in `sigmoid` by about the
            length of a response; larger keeps the policy closer to the reference. In (0, inf).
        label_smoothing: e, the probability that a label is flipped. In [0, 0.5).

    Returns:
        loss in nats, one a pair, each of weight 1; ln 2 where policy equals reference. reward = beta * log-ratio
        per token.
    """
    ratio = mean_log_ratio(policy, reference)
    logits = beta * (ratio[pairs[:, 0]] - ratio[pairs[:, 1]])
    loss = -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
