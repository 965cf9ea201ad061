"""What a loss asks for, read from its signature and from nowhere else.

A loss is a function ``name(ingredient, ..., *, knob=default, ...)``. What stands before ``*`` the framework
gives (an ingredient of the closed list below); what stands after it the config gives.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, get_type_hints

from dpo_lab.types import LossOutput, State

INGREDIENTS: dict[str, str] = {
    "policy": "LogProbs of the policy that is trained",
    "reference": "LogProbs of the reference; a loss that does not name it gets none built, loaded or run",
    "pairs": "row indices (chosen, rejected), one line a pair",
    "chosen": "row indices of the responses to imitate",
    "ranking": "row indices, one line a list, best first, -1 behind the end of a shorter list",
    "labels": "of each row: 1 desirable, 0 undesirable, -1 not judged",
    "scores": "reward of each row as the data gives it",
    "win_probability": "of each pair: how likely its chosen response is the better one, as the data gives it",
    "drift": "row indices of borrowed responses, which answer another prompt",
    "generator": "a random generator a row, seeded by seed, optimizer step and the row's key",
    "state": "what the loss put into LossOutput.state at the step before; empty at the first",
    "policy_stats": "reductions of the policy's whole distribution at every decision",
    "sequential_kl": "of each row: KL(reference || policy) summed over its decisions, with gradient",
}

LossFunction = Callable[..., LossOutput]


def whole_batch(loss: LossFunction) -> LossFunction:
    """Declares that `loss` compares across items: it is given all items of an optimizer step, of every rank, at once.

    >>> @whole_batch
    ... def sorted_margins(policy, pairs): ...
    >>> Term("sorted", sorted_margins).whole_batch
    True
    """
    loss.__dict__["whole_batch"] = True
    return loss


def best_alone(loss: LossFunction) -> LossFunction:
    """Declares that of a `ranking` the loss needs only the best to be known; the order of the others may be none."""
    loss.__dict__["best_alone"] = True
    return loss


Sameness = Literal["length", "distributions"]
"""What responses to one prompt may have in common: their number of decisions; the distributions that these are drawn
from, whichever response it is, and so their number as well."""


def comes_to(instead: str, *, of_same: Sameness) -> Callable[[LossFunction], LossFunction]:
    """Declares that a loss acts on differences alone of what is `of_same`: without any it is what `instead` says.

    >>> @comes_to("sigmoid", of_same="length")
    ... def no_tails(policy, reference, pairs): ...
    >>> Term("no_tails", no_tails).comes_to
    ('sigmoid', 'length')
    """

    def declare(loss: LossFunction) -> LossFunction:
        loss.__dict__["comes_to"] = (instead, of_same)
        return loss

    return declare


class IngredientError(TypeError):
    """A loss asks, before ``*``, for something that the framework cannot give."""


def read_needs(loss: LossFunction) -> tuple[str, ...]:
    """Names of the ingredients that `loss` takes, in order.

    >>> def likelihood(policy, chosen, *, scale: float = 1.0): ...
    >>> read_needs(likelihood)
    ('policy', 'chosen')

    Raises:
        IngredientError: for a name outside `INGREDIENTS`, which the message lists; for `state` in a loss that does not
            see the whole batch.
    """
    parameters = inspect.signature(loss).parameters.values()
    names = tuple(p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY)
    unknown = [name for name in names if name not in INGREDIENTS]
    title = getattr(loss, "__name__", getattr(getattr(loss, "func", None), "__name__", str(loss)))
    if "state" in names and not _declares(loss, "whole_batch"):
        raise IngredientError(
            f"loss {title!r} keeps a state without @whole_batch: it would depend on how a step is split"
        )
    if unknown:
        known = "\n".join(f"  {name}: {meaning}" for name, meaning in INGREDIENTS.items())
        raise IngredientError(
            f"loss {title!r} asks for {', '.join(unknown)}, which no batch has. "
            f"Knobs stand after '*'. Ingredients are:\n{known}"
        )
    return names


class Ramp(NamedTuple):
    """A weight that moves on a straight line: to `final`, which it has from update `num_steps` (counted from 0) on."""

    final: float
    num_steps: int


@dataclass(frozen=True)
class Term:
    """One loss inside an objective, with its weight in the sum and the name its curves carry.

    `weight` is that of the first update; it stays unless there is a `ramp`.
    """

    name: str
    loss: LossFunction
    weight: float = 1.0
    ramp: Ramp | None = None

    def weight_at(self, step: int) -> float:
        """The weight in update `step`, counted from 0.

        >>> term = Term("penalty", lambda policy: None, 0.5, Ramp(final=0.1, num_steps=4))
        >>> [round(term.weight_at(step), 12) for step in range(6)]
        [0.5, 0.4, 0.3, 0.2, 0.1, 0.1]
        """
        if self.ramp is None:
            return self.weight
        return self.weight + (self.ramp.final - self.weight) * min(1.0, step / self.ramp.num_steps)

    @cached_property
    def needs(self) -> tuple[str, ...]:
        return read_needs(self.loss)

    @property
    def whole_batch(self) -> bool:
        """Whether the loss compares across items (`whole_batch`)."""
        return _declares(self.loss, "whole_batch")

    @property
    def best_alone(self) -> bool:
        """Whether of a ranking the loss needs the best only (`best_alone`)."""
        return _declares(self.loss, "best_alone")

    @property
    def comes_to(self) -> tuple[str, Sameness] | None:
        """What this is where responses to a prompt have the same of something; None where it stays what it is."""
        return getattr(_bare(self.loss), "comes_to", None)

    @property
    def title(self) -> str:
        """Its name, with that of its loss where this is another.

        >>> Term("penalty", len).title, Term("len", partial(len)).title
        ('penalty (len)', 'len')
        """
        function = getattr(_bare(self.loss), "__name__", self.name)
        return function if function.startswith(self.name) else f"{self.name} ({function})"

    def __call__(self, ingredients: Mapping[str, Any], state: State | None = None) -> LossOutput:
        given = {**ingredients, "state": state or {}}
        return self.loss(**{name: given[name] for name in self.needs})


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses, ``sum_k weight_k * loss_k``, each reduced over its own items."""

    terms: tuple[Term, ...]

    def at(self, step: int) -> "Objective":
        """The sum of update `step`, counted from 0: each ramp is replaced by the weight that it has there."""
        if all(term.ramp is None for term in self.terms):
            return self
        return Objective(tuple(replace(term, weight=term.weight_at(step), ramp=None) for term in self.terms))

    @cached_property
    def needs(self) -> frozenset[str]:
        """The union of what the terms need."""
        return frozenset(need for term in self.terms for need in term.needs)

    @property
    def needs_reference(self) -> bool:
        """Whether a reference has to be built and run."""
        return bool({"reference", "sequential_kl"} & self.needs)

    def who_needs(self, ingredient: str) -> str:
        """``loss NAME`` of the terms that ask for `ingredient`, of all where none does, for messages."""
        asking = [term.title for term in self.terms if ingredient in term.needs]
        return f"loss {', '.join(asking or [term.title for term in self.terms])}"

    @property
    def best_alone(self) -> bool:
        """Whether every term that asks for a ranking needs its best only."""
        return all(term.best_alone for term in self.terms if "ranking" in term.needs)

    @property
    def whole_batch(self) -> bool:
        """Whether a term compares across items, so that all of them have to be seen at once."""
        return any(term.whole_batch for term in self.terms)

    def __call__(
        self, ingredients: Mapping[str, Any], states: Mapping[str, State] | None = None
    ) -> dict[str, LossOutput]:
        """Each term's output by name; `states` are what the terms remember from the step before."""
        states = states or {}
        return {term.name: term(ingredients, states.get(term.name)) for term in self.terms}


def is_composite(loss: Callable[..., Any]) -> bool:
    """Whether `loss`, called with its knobs alone, gives an `Objective`; read from its return annotation."""
    return get_type_hints(_bare(loss)).get("return") is Objective


def _declares(loss: LossFunction, declaration: str) -> bool:
    return bool(getattr(_bare(loss), declaration, False))


def _bare(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The function of which `loss` is a partial, if it is one."""
    while isinstance(loss, partial):
        loss = loss.func
    return loss
