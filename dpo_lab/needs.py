"""What a loss asks for, read from its signature and from nowhere else.

A loss is a function ``name(ingredient, ..., *, knob=default, ...)``. What stands before ``*`` the framework
gives (an ingredient of the closed list below); what stands after it the config gives.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dpo_lab.types import LossOutput

INGREDIENTS: dict[str, str] = {
    "policy": "LogProbs of the policy that is trained",
    "reference": "LogProbs of the reference; a loss that does not name it gets none built, loaded or run",
    "pairs": "row indices (chosen, rejected), one line a pair",
    "chosen": "row indices of the responses to imitate",
}

LossFunction = Callable[..., LossOutput]


class UnknownIngredientError(TypeError):
    """A loss names, before ``*``, something that the framework cannot give."""


def read_needs(loss: LossFunction) -> tuple[str, ...]:
    """Names of the ingredients that `loss` takes, in order.

    >>> def likelihood(policy, chosen, *, scale: float = 1.0): ...
    >>> read_needs(likelihood)
    ('policy', 'chosen')

    Raises:
        UnknownIngredientError: for a name outside `INGREDIENTS`; the message lists them.
    """
    parameters = inspect.signature(loss).parameters.values()
    names = tuple(p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY)
    unknown = [name for name in names if name not in INGREDIENTS]
    if unknown:
        known = "\n".join(f"  {name}: {meaning}" for name, meaning in INGREDIENTS.items())
        title = getattr(loss, "__name__", getattr(getattr(loss, "func", None), "__name__", str(loss)))
        raise UnknownIngredientError(
            f"loss {title!r} asks for {', '.join(unknown)}, which no batch has. "
            f"Knobs stand after '*'. Ingredients are:\n{known}"
        )
    return names


@dataclass(frozen=True)
class Term:
    """One loss inside an objective, with its weight in the sum and the name its curves carry."""

    name: str
    loss: LossFunction
    weight: float = 1.0

    @cached_property
    def needs(self) -> tuple[str, ...]:
        return read_needs(self.loss)

    def __call__(self, ingredients: Mapping[str, Any]) -> LossOutput:
        return self.loss(**{name: ingredients[name] for name in self.needs})


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses, ``sum_k weight_k * loss_k``, each reduced over its own items."""

    terms: tuple[Term, ...]

    @cached_property
    def needs(self) -> frozenset[str]:
        """The union of what the terms need."""
        return frozenset(need for term in self.terms for need in term.needs)

    def __call__(self, ingredients: Mapping[str, Any]) -> dict[str, LossOutput]:
        return {term.name: term(ingredients) for term in self.terms}
