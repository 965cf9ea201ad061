"""Weighted sums of losses: the composite objective L + lambda P."""

import inspect
import math
from typing import TypedDict

from dpo_lab.errors import UserError
from dpo_lab.needs import LossFunction, Objective, Term
from dpo_lab.ranges import NonNegative


class WeightedLoss(TypedDict):
    """One term of `mix`: ``{"weight": 0.1, "loss": sft}``."""

    weight: NonNegative
    loss: LossFunction


def mix(*, terms: dict[str, WeightedLoss]) -> Objective:
    """sum_k weight_k loss_k, each loss reduced over its own items (pairs, tokens) before it is weighted.

    Weights are taken as they are: they need not add up to 1 and nothing divides by their sum. The reward that is
    logged is that of the first term that defines one; each term's own loss is logged as ``loss/<name>``.

    Args:
        terms: by name, in the order of the sum. Weights in [0, inf); a weight of 0 leaves the term out.

    Raises:
        UserError: when no term has a weight above 0; for a weight below 0; for a term that is a mix itself.
    """
    for name, term in terms.items():
        if not 0 <= term["weight"] < math.inf:
            raise UserError(f"loss.terms.{name}.weight: must be a number in [0, inf), got {term['weight']}")
        if inspect.signature(term["loss"]).return_annotation is Objective:
            raise UserError(f"loss.terms.{name}: a mix cannot hold a mix; name its terms beside the others")
    kept = tuple(Term(name, term["loss"], term["weight"]) for name, term in terms.items() if term["weight"] > 0)
    if not kept:
        raise UserError("loss.terms: every weight is 0, so there is nothing to train; give one term a weight above 0")
    return Objective(kept)
