"""Weighted sums of losses: the composite objective L + lambda P."""

import math
from collections.abc import Callable
from typing import TypedDict, cast

from dpo_lab.errors import UserError
from dpo_lab.needs import LossFunction, Objective, Term, is_composite
from dpo_lab.ranges import NonNegative


class WeightedLoss(TypedDict):
    """One term of `mix`: ``{"weight": 0.1, "loss": sft}``."""

    weight: NonNegative
    loss: LossFunction


def mix(*, terms: dict[str, WeightedLoss]) -> Objective:
    """sum_k weight_k loss_k, each loss reduced over its own items (pairs, tokens) before it is weighted.

    Weights are taken as they are: they need not add up to 1 and nothing divides by their sum. The reward that is
    logged is that of the first term that defines one; each term's own loss is logged as ``loss/<name>``. A term that is
    itself a sum (`orpo`, `rpo`, ...) gives its parts, each with the product of the weights, as ``<name>/<part>``.

    Args:
        terms: by name, in the order of the sum. Weights in [0, inf); a weight of 0 leaves the term out.

    Raises:
        UserError: when no term has a weight above 0; for a weight below 0.
    """
    for name, term in terms.items():
        if not 0 <= term["weight"] < math.inf:
            raise UserError(f"loss.terms.{name}.weight: must be a number in [0, inf), got {term['weight']}")
    kept = tuple(part for name, term in terms.items() if term["weight"] > 0 for part in _parts(name, term))
    if not kept:
        raise UserError("loss.terms: every weight is 0, so there is nothing to train; give one term a weight above 0")
    return Objective(kept)


def _parts(name: str, term: WeightedLoss) -> tuple[Term, ...]:
    """The term itself, or those of the sum that it stands for."""
    if not is_composite(term["loss"]):
        return (Term(name, term["loss"], term["weight"]),)
    inner: Objective = cast(Callable[[], Objective], term["loss"])()
    names = [name] if len(inner.terms) == 1 else [f"{name}/{part.name}" for part in inner.terms]
    weighted = zip(names, inner.terms, strict=True)
    return tuple(Term(own, part.loss, term["weight"] * part.weight) for own, part in weighted)
