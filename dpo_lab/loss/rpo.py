"""DPO with the likelihood of the chosen response beside it."""

from functools import partial
from typing import Literal

from dpo_lab.loss.mix import mix
from dpo_lab.loss.sft import sft
from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.needs import Objective
from dpo_lab.ranges import BelowHalf, NonNegative, Positive


def rpo(
    *,
    beta: Positive = 0.1,
    label_smoothing: BelowHalf = 0.0,
    weight: NonNegative = 1.0,
    normalization: Literal["token", "sequence_mean", "sequence_sum"] = "sequence_mean",
) -> Objective:
    """`sigmoid` + weight * `sft`: an objective of two terms, each averaged over its own items.

    Source: Pang et al. 2024 (iterative RPO), arXiv 2404.19733, and Liu et al. 2024, arXiv 2405.16436. In the former
    the weight (alpha, 1) stands before the preference term and the likelihood is per token of the response,
    "sequence_mean"; in the latter before the likelihood of the whole response, "sequence_sum".

    Two terms and not one loss a pair: under "token" the likelihood is divided by all chosen tokens of the optimizer
    step, which no sum over pairs can do. Code that averages it within a micro-batch changes with the micro-batch;
    this does not.

    Args:
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).
        label_smoothing: of the preference term. In [0, 0.5).
        weight: of the likelihood; larger holds the chosen responses up more. 0 is `sigmoid`. In [0, inf).
        normalization: unit of the likelihood, as in `sft`.

    Returns:
        terms "preference" (items: pairs) and "nll" (items: chosen responses or their tokens). reward = that of
        `sigmoid`.
    """
    preference = partial(sigmoid, beta=beta, label_smoothing=label_smoothing)
    likelihood = partial(sft, normalization=normalization)
    return mix(terms={"preference": {"weight": 1.0, "loss": preference}, "nll": {"weight": weight, "loss": likelihood}})
