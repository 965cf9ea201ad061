"""Alignment by optimal transport: desirable above undesirable responses, as distributions of log-ratios."""

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.needs import whole_batch
from dpo_lab.ranges import BelowHalf, Positive
from dpo_lab.types import Labels, LogProbs, LossOutput


@whole_batch
def aot_unpaired(
    policy: LogProbs, reference: LogProbs, labels: Labels, *, beta: Positive = 0.1, label_smoothing: BelowHalf = 0.0
) -> LossOutput:
    """-(1 - e) log sigmoid(beta q) - e log sigmoid(-beta q), with q the difference of two quantiles of log-ratios.

    The log-ratios of all desirable and of all undesirable responses of the optimizer step are sorted, each kind by
    itself, and q is the desirable minus the undesirable, quantile by quantile: desirable responses are to dominate as
    a distribution. That is the cost of optimal transport between the two on a line. Source: Melnyk et al. 2024,
    arXiv 2406.05882, the unpaired form. TRL calls it `aot_unpaired`, before `aot_pair`.

    u desirable and v undesirable responses make quantile functions with steps at i / u and j / v. Between two
    neighbouring steps of either both are constant: such a stretch is one item, weighed by its length. Where u = v,
    place is subtracted from place, one item each. Published code (TRL) takes both kinds from pairs, so u = v always,
    and sorts within the micro-batch of one device; here it is the whole optimizer step.

    A step with one kind alone compares nothing: it has no item, and moves nothing.

    Where log-ratios tie, the earlier row of the batch takes the lower place.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        labels: of each row: 1 desirable, 0 undesirable, -1 not judged.
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).
        label_smoothing: bounds how far the distributions are driven apart: the probability of a flipped label, as in
            `sigmoid`. In [0, 0.5).

    Returns:
        loss in nats, one a stretch of quantiles, ascending, at most u + v - 1; weight: length of the stretch times
        (u + v) / 2, which is 1 where u = v. ln 2 where policy equals reference. reward = beta * log-ratio of every
        row.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    ratio = log_ratio(policy, reference)
    kinds = [ratio[labels == label].sort(stable=True).values for label in (1, 0)]
    num_couples = len(kinds[0]) * len(kinds[1])
    desirable, undesirable, length = _quantile_grid(len(kinds[0]), len(kinds[1]), labels.device)
    logits = beta * (kinds[0][desirable] - kinds[1][undesirable])
    loss = -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)
    weight = length.to(loss.dtype) * (len(kinds[0]) + len(kinds[1])) / max(2 * num_couples, 1)
    return LossOutput(loss=loss, weight=weight, reward=beta * ratio.detach())


def _quantile_grid(
    num_first: int, num_second: int, device: torch.device
) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"], Int[Tensor, " s"]]:
    """Stretches on which two quantile functions are constant: place in the first, in the second, and length.

    Lengths are in units of 1 / (num_first * num_second), so that all is integer and exact.

    >>> _quantile_grid(2, 3, torch.device("cpu"))
    (tensor([0, 0, 1, 1]), tensor([0, 1, 1, 2]), tensor([2, 1, 1, 2]))
    """
    if not num_first or not num_second:
        none = torch.zeros(0, dtype=torch.long, device=device)
        return none, none, none
    steps = torch.cat(
        [
            torch.arange(num_first + 1, device=device) * num_second,
            torch.arange(num_second + 1, device=device) * num_first,
        ]
    ).unique()
    start = steps[:-1]
    return start // num_second, start // num_first, steps.diff()
