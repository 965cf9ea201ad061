"""APO-zero for responses that are judged one by one."""

import torch
from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Positive
from dpo_lab.types import Labels, LogProbs, LossOutput


def apo_zero_unpaired(policy: LogProbs, reference: LogProbs, labels: Labels, *, beta: Positive = 0.1) -> LossOutput:
    """1 - sigmoid(beta a) of a desirable and sigmoid(beta b) of an undesirable response, a and b log-ratios.

    Source: D'Oosterlinck et al. 2024, arXiv 2408.06266, equation 7, whose two terms need no pair, as in TRL
    (apo_zero_unpaired). TRL has a weight for either kind of response; here both are 1. On one chosen and one rejected
    response the two items add up to `apo_zero`.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        labels: of each row, 1 desirable, 0 undesirable, -1 not judged: no item.
        beta: reward per nat of log-ratio; a larger beta moves a response fewer nats before its gradient dies out.
            In (0, inf).

    Returns:
        loss without unit in (0, 1), one a judged row in the order of rows, each of weight 1; 1/2 where policy equals
        reference. reward = beta * log-ratio summed over the response.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    reward = beta * log_ratio(policy, reference)
    is_judged = labels >= 0
    wrongness = torch.where(labels == 1, -reward, reward)[is_judged]
    # exp(logsigmoid) and not sigmoid: the gradient of sigmoid(x) is rounded to 0 from x of about 37 on.
    loss = logsigmoid(wrongness).exp()
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward.detach())
