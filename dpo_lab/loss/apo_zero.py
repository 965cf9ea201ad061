"""Anchored preference optimisation that raises the chosen and lowers the rejected response."""

from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def apo_zero(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: Positive = 0.1) -> LossOutput:
    """(1 - sigmoid(beta a)) + sigmoid(beta b), with a the chosen and b the rejected log-ratio.

    Source: D'Oosterlinck et al. 2024 (APO-zero), arXiv 2408.06266, equation 7, plus 1, as in TRL and Liger, so that
    the loss is not negative. For a policy that is worse than the chosen responses. A gradient is largest where
    policy equals reference and dies out away from it, either way.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: reward per nat of log-ratio; a larger beta moves a response fewer nats before its gradient dies out.
            In (0, inf).

    Returns:
        loss without unit in (0, 2), one a pair, each of weight 1; 1 where policy equals reference. reward =
        beta * log-ratio summed over the response.
    """
    reward = beta * log_ratio(policy, reference)
    # exp(logsigmoid) and not sigmoid: the gradient of sigmoid(x) is rounded to 0 from x of about 37 on.
    loss = logsigmoid(-reward[pairs[:, 0]]).exp() + logsigmoid(reward[pairs[:, 1]]).exp()
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward.detach())
