"""Weighted sums of losses: the composite objective L + lambda P."""

import math
from collections.abc import Callable
from typing import NotRequired, TypedDict, cast

from dpo_lab.errors import UserError
from dpo_lab.needs import LossFunction, Objective, Ramp, Term, is_composite
from dpo_lab.ranges import NonNegative, PositiveInt


class WeightedLoss(TypedDict):
    """One term of `mix`: ``{"weight": 0.1, "loss": sft}``, or with ``{"final_weight": 0.0, "ramp_steps": 100}`` beside.

    With the latter two the weight moves on a straight line from `weight`, in the first update, to `final_weight`,
    which it has after `ramp_steps` updates and keeps.
    """

    weight: NonNegative
    loss: LossFunction
    final_weight: NotRequired[NonNegative | None]
    ramp_steps: NotRequired[PositiveInt | None]


def mix(*, terms: dict[str, WeightedLoss]) -> Objective:
    """sum_k weight_k loss_k, each loss reduced over its own items (pairs, tokens) before it is weighted.

    Weights are taken as they are: they need not add up to 1 and nothing divides by their sum. The reward that is
    logged is that of the first term that defines one; each term's own loss is logged as ``loss/<name>``. A term that is
    itself a sum (`orpo`, `rpo`, ...) gives its parts, each with the product of the weights, as ``<name>/<part>``.

    Args:
        terms: by name, in the order of the sum. Weights in [0, inf); a weight of 0 leaves the term out, unless it moves
            to another one.

    Raises:
        UserError: when no term has a weight above 0; for a weight below 0; for one of `final_weight` and `ramp_steps`
            without the other.
    """
    for name, term in terms.items():
        _check(name, term)
    kept = tuple(
        part
        for name, term in terms.items()
        if term["weight"] > 0 or (term.get("final_weight") or 0) > 0
        for part in _parts(name, term)
    )
    if not kept:
        raise UserError("loss.terms: every weight is 0, so there is nothing to train; give one term a weight above 0")
    return Objective(kept)


def _check(name: str, term: WeightedLoss) -> None:
    final, num_steps = term.get("final_weight"), term.get("ramp_steps")
    for key, weight in (("weight", term["weight"]), ("final_weight", final)):
        if weight is not None and not 0 <= weight < math.inf:
            raise UserError(f"loss.terms.{name}.{key}: must be a number in [0, inf), got {weight}")
    if (final is None) != (num_steps is None):
        raise UserError(
            f"loss.terms.{name}: final_weight and ramp_steps go together, got final_weight={final} and "
            f"ramp_steps={num_steps}"
        )
    if num_steps is not None and num_steps < 1:
        raise UserError(f"loss.terms.{name}.ramp_steps: must be 1 or more, got {num_steps}")


def _parts(name: str, term: WeightedLoss) -> tuple[Term, ...]:
    """The term itself, or those of the sum that it stands for."""
    final, num_steps = term.get("final_weight"), term.get("ramp_steps")
    ramp = None if final is None or num_steps is None else Ramp(final, num_steps)
    if not is_composite(term["loss"]):
        return (Term(name, term["loss"], term["weight"], ramp),)
    inner: Objective = cast(Callable[[], Objective], term["loss"])()
    names = [name] if len(inner.terms) == 1 else [f"{name}/{part.name}" for part in inner.terms]
    return tuple(
        Term(own, part.loss, term["weight"] * part.weight, ramp and Ramp(ramp.final * part.weight, ramp.num_steps))
        for own, part in zip(names, inner.terms, strict=True)
    )
