"""Efficient exact optimisation: the reverse KL from the policy's preference to the label's."""

import math
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Interval, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def exo(
    policy: LogProbs,
    reference: LogProbs,
    pairs: Pairs,
    *,
    beta: Positive = 0.1,
    label_smoothing: Annotated[float, Interval(gt=0, lt=0.5)] = 1e-3,
) -> LossOutput:
    """q log(q / (1 - e)) + (1 - q) log((1 - q) / e), with q = sigmoid(beta h), h chosen minus rejected log-ratio.

    Source: Ji et al. 2024 (EXO-pref), arXiv 2402.00856, equation 16; `beta` is the paper's beta_pi. `sigmoid` with
    label_smoothing is the KL the other way round: this one seeks the mode. Its gradient with respect to beta h is
    q (1 - q) (beta h - log((1 - e) / e)): it dies out at margins that are large either way.

    Published code differs: TRL and Liger as here; the authors' repository fixes log e = -10 and takes log(1 - e) for
    0. At e = 0 the loss is infinite: older TRL then put 1e-3 in its place without a word.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: strength of the pull to the reference, per nat; the margin sought is log((1 - e) / e) / beta. In (0, inf).
        label_smoothing: the paper's epsilon, the probability that a label is flipped; larger seeks a smaller margin.
            In (0, 0.5).

    Returns:
        loss in nats, one a pair, each of weight 1; never negative, 0 at the margin sought. reward = beta * log-ratio
        summed over the response.
    """
    ratio = log_ratio(policy, reference)
    logits = beta * (ratio[pairs[:, 0]] - ratio[pairs[:, 1]])
    sought = math.log1p(-label_smoothing) - math.log(label_smoothing)
    exact = logits.detach().double()
    # exp(logsigmoid) and not sigmoid, which is rounded to 1 from x of about 37 on.
    slope = (logsigmoid(exact) + logsigmoid(-exact)).exp() * (exact - sought)
    # Value and slope by themselves: near the margin sought the terms of the sum cancel to a square.
    value = _divergence(exact, sought, label_smoothing)
    loss = value.to(logits) + slope.to(logits) * (logits - logits.detach())
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())


def _divergence(logits: Float[Tensor, " p"], sought: float, label_smoothing: float) -> Float[Tensor, " p"]:
    """The KL, as sum_i p_i ((1 + d_i) log(1 + d_i) - d_i) with d_i = q_i / p_i - 1: no term of it is negative."""
    gap = logits - sought
    # 1 - exp(-|gap|), and the probability of the side away from which q has moved.
    moved, source = -torch.expm1(-gap.abs()), logsigmoid(gap.sign() * logits).exp()
    towards, away = math.exp(-sought), math.exp(sought)
    chosen = torch.where(gap > 0, source * towards * moved, -source * moved)
    rejected = torch.where(gap > 0, -source * moved, source * away * moved)
    chosen_log = logsigmoid(logits) - math.log1p(-label_smoothing)
    rejected_log = logsigmoid(-logits) - math.log(label_smoothing)
    return (1 - label_smoothing) * _entropy(chosen, chosen_log) + label_smoothing * _entropy(rejected, rejected_log)


def _entropy(excess: Float[Tensor, " p"], log: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """(1 + d) log(1 + d) - d, given d and log(1 + d)."""
    series = excess**2 * (1 / 2 - excess * (1 / 6 - excess * (1 / 12 - excess * (1 / 20 - excess / 30))))
    return torch.where(excess.abs() < 1e-2, series, log.exp() * log - excess)
