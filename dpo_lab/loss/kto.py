"""Kahneman-Tversky optimisation: single responses, judged desirable or not, against a common reference point."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.errors import UserError
from dpo_lab.log_ratio import log_ratio
from dpo_lab.needs import whole_batch
from dpo_lab.ranges import NonNegative, Positive
from dpo_lab.types import Drift, Labels, LogProbs, LossOutput


@whole_batch
def kto(
    policy: LogProbs,
    reference: LogProbs,
    labels: Labels,
    drift: Drift,
    *,
    beta: Positive = 0.1,
    desirable_weight: NonNegative = 1.0,
    undesirable_weight: NonNegative = 1.0,
) -> LossOutput:
    """w_D (1 - sigmoid(beta (r - z))) of a desirable, w_U (1 - sigmoid(beta (z - r))) of an undesirable response.

    r is the log-ratio of the response, z = max(0, mean log-ratio of the borrowed responses): an estimate, held
    constant, of how far the policy has drifted from the reference. Source: Ethayarajh et al. 2024, arXiv 2402.01306,
    equation 8 (7 in the first version); the weights are the paper's lambda_D and lambda_U. Losses are not divided by
    the weights. A gradient is largest at r = z and dies out either way.

    Where there is nothing to borrow, because the optimizer step holds one prompt only, `drift` is empty and z is 0.

    Published code differs in z. Here it is the mean over every borrowed response of the optimizer step. TRL rotates
    the responses within the batch of one device, takes the mean there, and then the mean of those means; so z changes
    with the batch of a device. HALOs leaves borrowed responses of log-ratio exactly 0 out of the mean.
    LLaMA-Factory rotates within blocks of the data set.

    Args:
        policy: n responses, nats; borrowed ones too.
        reference: the same rows, nats.
        labels: of each row: 1 desirable, 0 undesirable, -1 not judged.
        drift: d rows of borrowed responses; a row may stand in it more than once.
        beta: how fast a response's value saturates, per nat; a larger beta moves a response fewer nats before its
            gradient dies out. In (0, inf).
        desirable_weight: of the desirable responses. The paper's advice is that desirable_weight times their number
            be 1 to 4/3 times undesirable_weight times the number of the others. In [0, inf).
        undesirable_weight: of the undesirable responses. In [0, inf).

    Returns:
        loss without unit in [0, w], one a judged row, in the order of rows, each of weight 1; w / 2 where policy
        equals reference. reward = beta * log-ratio of every row. Curve "drift": z, nats.

    Raises:
        UserError: when both weights are 0.
        ValueError: when policy and reference score rows of another number or length.
    """
    if desirable_weight == undesirable_weight == 0:
        raise UserError("loss.desirable_weight and loss.undesirable_weight are both 0, so there is nothing to train")
    ratio = log_ratio(policy, reference)
    point = _reference_point(ratio.detach()[drift])
    is_desirable, value = labels[labels >= 0] == 1, beta * (ratio[labels >= 0] - point)
    # exp(logsigmoid) and not sigmoid: the gradient of sigmoid(x) is rounded to 0 from x of about 37 on.
    loss = torch.where(
        is_desirable,
        desirable_weight * logsigmoid(-value).exp(),
        undesirable_weight * logsigmoid(value).exp(),
    )
    return LossOutput(
        loss=loss,
        weight=loss.new_ones(loss.shape),
        reward=beta * ratio.detach(),
        extra={"drift": point.reshape(1)},
    )


def _reference_point(borrowed: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    """max(0, mean), nats. 0 of none."""
    return borrowed.mean().clamp(min=0) if len(borrowed) else borrowed.new_zeros(())
