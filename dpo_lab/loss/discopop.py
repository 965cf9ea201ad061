"""DiscoPOP: the log-ratio modulated loss that a language model found."""

from typing import Annotated

from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Interval, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def discopop(
    policy: LogProbs,
    reference: LogProbs,
    pairs: Pairs,
    *,
    beta: Positive = 0.05,
    tau: Annotated[float, Interval(gt=0, le=1)] = 0.05,
) -> LossOutput:
    """-(1 - m) log sigmoid(x) + m exp(-x), with x = beta h, m = sigmoid(x / tau), h chosen minus rejected log-ratio.

    Source: Lu et al. 2024 (LRML), arXiv 2406.08414, equation 5, where beta and tau are 0.05. Not convex: with the
    paper's tau the loss rises while x goes from -0.12 to 0.07. policy = reference lies inside, so that the first step
    *lowers* the margin.

    Published code multiplies sigmoid(x / tau), which becomes 0, by exp(-x), which overflows: not a number at large
    negative margins. Here the product is taken in logarithms and is finite at every margin.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: reward per nat of log-ratio; larger keeps the policy closer to the reference. In (0, inf).
        tau: width in units of reward of the passage from the logistic to the exponential part; smaller is sharper.
            In (0, 1]: above 1 the exponential part grows without bound at negative margins.

    Returns:
        loss without unit, one a pair, each of weight 1; (1 + ln 2) / 2 where policy equals reference. reward =
        beta * log-ratio summed over the response.
    """
    ratio = log_ratio(policy, reference)
    logits = beta * (ratio[pairs[:, 0]] - ratio[pairs[:, 1]])
    logistic = -logsigmoid(-logits / tau).exp() * logsigmoid(logits)
    exponential = (logsigmoid(logits / tau) - logits).exp()
    loss = logistic + exponential
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
