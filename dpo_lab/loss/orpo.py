"""Odds ratio preference optimisation: supervised training with a preference in it, no reference."""

from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.loss.mix import mix
from dpo_lab.loss.sft import sft
from dpo_lab.needs import Objective
from dpo_lab.ranges import NonNegative
from dpo_lab.types import LogProbs, LossOutput, Pairs


def orpo(
    *, weight: NonNegative = 0.1, normalization: Literal["token", "sequence_mean", "sequence_sum"] = "token"
) -> Objective:
    """`sft` - weight log sigmoid(log odds chosen - log odds rejected), odds = p / (1 - p).

    p is the geometric mean of the probabilities of a response's tokens. Source: Hong et al. 2024, arXiv 2403.07691,
    equations 4 (odds) and 7 (odds ratio). An objective of two terms, each averaged over its own items (see `rpo`).

    Published code differs: the authors' repository (alpha) and TRL (beta) call the weight otherwise and let the
    likelihood run over prompt and response, unless told not to; LLaMA-Factory takes the mean per response. Here the
    prompt is never scored. Several compute log(1 - exp(log p)), infinite as p -> 1; here it is exact for every
    log p down to 1e-30 (float32) or 1e-300 (float64) from 0. A log p of exactly 0 is a rounded one: it is taken for
    -3e-8 or -6e-17, which a softmax just rounds away, so that log odds are at most 17 or 37 there.

    Args:
        weight: of the odds ratio, the paper's lambda; larger prefers more and imitates less. In [0, inf).
        normalization: unit of the likelihood, as in `sft`.

    Returns:
        terms "nll" (items: chosen responses or their tokens) and "preference" (items: pairs). reward = log odds of
        the response.
    """
    likelihood = partial(sft, normalization=normalization)
    return mix(
        terms={"nll": {"weight": 1.0, "loss": likelihood}, "preference": {"weight": weight, "loss": _preference}}
    )


def _preference(policy: LogProbs, pairs: Pairs) -> LossOutput:
    reward = _log_odds(policy.mean())
    loss = -logsigmoid(reward[pairs[:, 0]] - reward[pairs[:, 1]])
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward.detach())


def _log_odds(log_prob: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """log p - log(1 - p). A log p of 0 keeps a value and a slope."""
    nearest = -1e-30 if log_prob.dtype == torch.float32 else -1e-300
    # Half the distance from 1 to the number below it: what a softmax rounds to 1 may be as far from it. A steeper slope
    # would not be undone by the softmax's own, and would be a gradient of 1e30 where the true one is at most 1.
    rounded = -torch.finfo(log_prob.dtype).eps / 4
    constant = torch.where(log_prob.detach() < 0, nearest, rounded)
    log_prob = torch.where(log_prob > nearest, log_prob - log_prob.detach() + constant, log_prob)
    return log_prob - (-torch.expm1(log_prob)).log()
