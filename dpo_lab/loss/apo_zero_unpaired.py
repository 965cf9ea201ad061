"""APO-zero for responses that are judged one by one."""

import torch
from torch.nn.functional import logsigmoid

from dpo_lab.errors import UserError
from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import NonNegative, Positive
from dpo_lab.types import Labels, LogProbs, LossOutput


def apo_zero_unpaired(
    policy: LogProbs,
    reference: LogProbs,
    labels: Labels,
    *,
    beta: Positive = 0.1,
    desirable_weight: NonNegative = 1.0,
    undesirable_weight: NonNegative = 1.0,
) -> LossOutput:
    """w_D (1 - sigmoid(beta a)) of a desirable and w_U sigmoid(beta b) of an undesirable response, a, b log-ratios.

    Source: D'Oosterlinck et al. 2024, arXiv 2408.06266, equation 7, whose two terms need no pair; the weights are those
    of TRL (apo_zero_unpaired) and, as in `kto`, losses are not divided by them. On one chosen and one rejected response
    the two items, unweighted, add up to `apo_zero`.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        labels: of each row, 1 desirable, 0 undesirable, -1 not judged: no item.
        beta: reward per nat of log-ratio; a larger beta moves a response fewer nats before its gradient dies out.
            In (0, inf).
        desirable_weight: of the desirable responses. In [0, inf).
        undesirable_weight: of the undesirable responses. In [0, inf).

    Returns:
        loss without unit in [0, w], one a judged row in the order of rows, each of weight 1; w / 2 where policy equals
        reference. reward = beta * log-ratio summed over the response.

    Raises:
        UserError: when both weights are 0.
        ValueError: when policy and reference score rows of another number or length.
    """
    if desirable_weight == undesirable_weight == 0:
        raise UserError("loss.desirable_weight and loss.undesirable_weight are both 0, so there is nothing to train")
    reward = beta * log_ratio(policy, reference)
    is_desirable, value = labels[labels >= 0] == 1, reward[labels >= 0]
    # exp(logsigmoid) and not sigmoid: the gradient of sigmoid(x) is rounded to 0 from x of about 37 on.
    loss = torch.where(
        is_desirable,
        desirable_weight * logsigmoid(-value).exp(),
        undesirable_weight * logsigmoid(value).exp(),
    )
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward.detach())
