"""Contrastive preference optimisation: DPO against a uniform reference, with the likelihood of the chosen response."""

from functools import partial
from typing import Literal

from torch.nn.functional import logsigmoid

from dpo_lab.loss.mix import mix
from dpo_lab.loss.sft import sft
from dpo_lab.needs import Objective
from dpo_lab.ranges import BelowHalf, NonNegative, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def cpo(
    *,
    beta: Positive = 0.1,
    label_smoothing: BelowHalf = 0.0,
    weight: NonNegative = 1.0,
    normalization: Literal["token", "sequence_mean", "sequence_sum"] = "token",
) -> Objective:
    """-(1 - e) log sigmoid(beta d) - e log sigmoid(-beta d) + weight * `sft`, d the chosen minus rejected log-prob.

    Source: Xu et al. 2024, arXiv 2401.08417, equation 3 for the first term; label_smoothing e as in the authors'
    repository. An objective of two terms, each averaged over its own items (see `rpo` for why).

    Published code differs in the unit of the likelihood: the authors' repository, TRL and Liger average it over
    tokens ("token", in their case of a micro-batch); the paper writes that of a whole response ("sequence_sum").

    Args:
        beta: reward per nat of log-probability; larger steepens the loss. In (0, inf).
        label_smoothing: e, the probability that a label is flipped. In [0, 0.5).
        weight: of the likelihood; larger imitates the chosen responses more. In [0, inf).
        normalization: unit of the likelihood, as in `sft`.

    Returns:
        terms "preference" (items: pairs) and "nll" (items: chosen responses or their tokens). reward =
        beta * log-probability of the response.
    """
    preference = partial(_preference, beta=beta, label_smoothing=label_smoothing)
    likelihood = partial(sft, normalization=normalization)
    return mix(terms={"preference": {"weight": 1.0, "loss": preference}, "nll": {"weight": weight, "loss": likelihood}})


def _preference(policy: LogProbs, pairs: Pairs, *, beta: float, label_smoothing: float) -> LossOutput:
    log_prob = policy.sum()
    logits = beta * (log_prob[pairs[:, 0]] - log_prob[pairs[:, 1]])
    loss = -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * log_prob.detach())
