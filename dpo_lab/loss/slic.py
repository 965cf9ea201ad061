"""Sequence likelihood calibration: a margin of likelihood, with the likelihood of the chosen response."""

from functools import partial
from typing import Literal

from torch.nn.functional import relu

from dpo_lab.loss.mix import mix
from dpo_lab.loss.sft import sft
from dpo_lab.needs import Objective
from dpo_lab.ranges import NonNegative
from dpo_lab.types import LogProbs, LossOutput, Pairs


def slic(
    *,
    gamma: NonNegative = 1.0,
    weight: NonNegative = 0.1,
    normalization: Literal["token", "sequence_mean", "sequence_sum"] = "token",
) -> Objective:
    """max(0, gamma - d) + weight * `sft`, with d the log-probability of the chosen minus that of the rejected response.

    Source: Zhao et al. 2023 (SLiC-HF), arXiv 2305.10425; `gamma` is the paper's delta, `weight` its lambda. The
    paper imitates the targets of supervised training; here it is the chosen responses. An objective of two terms,
    each averaged over its own items (see `rpo` for why).

    Published code differs: HALOs calls the margin beta, so that a larger beta asks for more; in `hinge`, the form with
    a reference, a larger beta asks for less. Its likelihood is per token.

    Args:
        gamma: margin asked for, nats a response; larger pushes further. In [0, inf).
        weight: of the likelihood; larger imitates the chosen responses more. In [0, inf).
        normalization: unit of the likelihood, as in `sft`.

    Returns:
        terms "preference" (items: pairs, nats) and "nll" (items: chosen responses or their tokens). reward =
        log-probability of the response, nats.
    """
    likelihood = partial(sft, normalization=normalization)
    return mix(
        terms={
            "preference": {"weight": 1.0, "loss": partial(_preference, gamma=gamma)},
            "nll": {"weight": weight, "loss": likelihood},
        }
    )


def _preference(policy: LogProbs, pairs: Pairs, *, gamma: float) -> LossOutput:
    log_prob = policy.sum()
    loss = relu(gamma - (log_prob[pairs[:, 0]] - log_prob[pairs[:, 1]]))
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=log_prob.detach())
