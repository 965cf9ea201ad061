"""What the `search` of a plan may hold."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from dpo_lab.ranges import NonNegativeInt, PositiveInt

Direction = Literal["minimize", "maximize"]


class Ends(TypedDict):
    """What every range has."""

    low: float
    high: float


class Range(Ends, total=False):
    """Numbers from `low` to `high`: whole where both ends and the step are.

    `log`: equal chances to equal ratios. `step`: low, low + step, ... `times`: multiples of what a run would have
    without this.
    """

    log: bool
    step: float
    times: bool


Space = dict[str, list[Any] | Range]
"""By dotted key: a list to choose from, or a range."""


@dataclass(frozen=True, kw_only=True)
class Prune:
    """When a trial is not worth its end, judged by the objective whenever validation says it.

    Attributes:
        rule: "median" ends a trial whose best so far is worse than the median of earlier trials at the same step;
            "halving" goes on with the best third at steps `warmup_step`, 3 `warmup_step`, 9 `warmup_step`, ...
        warmup_trials: of "median": trials that run to their end first.
        warmup_step: optimizer steps before which none is ended.
    """

    rule: Literal["median", "halving"] = "median"
    warmup_trials: NonNegativeInt = 4
    warmup_step: PositiveInt = 1


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search whose trials are the cells of a plan.

    Attributes:
        space: what is varied.
        losses: what is varied beside it where the loss is this one; the loss is then chosen among these.
        objective: curves of validation (or samples) by name, with what is sought; their last values count. With several
            the answer is the trials that none other beats in all of them.
        num_trials: how many, those that were pruned or failed included.
        sampler: "tpe" learns from earlier trials (tree-structured Parzen estimator); "random" does not.
        warmup_trials: of "tpe": so many random ones first.
        batch: trials that are asked for at a time, null for as many as run at once here. All of a batch have ended
            before the next is asked for.
        prune: null lets every trial run to its end.
        seed: draws the trials; the run's `seed` does not.
    """

    space: Space = field(default_factory=dict)
    losses: dict[str, Space] = field(default_factory=dict)
    objective: dict[str, Direction]
    num_trials: PositiveInt
    sampler: Literal["tpe", "random"] = "tpe"
    warmup_trials: PositiveInt = 8
    batch: PositiveInt | None = None
    prune: Prune | None = None
    seed: NonNegativeInt = 0


def read_search(plain: Mapping[str, Any]) -> Search:
    """The `search` of a plan without faults."""
    prune = plain.get("prune")
    return Search(**{**plain, "prune": None if prune is None else Prune(**prune)})


def find_search_faults(plain: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a well-formed `search`: nothing to search or to seek, ranges that hold nothing."""
    spaces = {"search.space": plain.get("space", {})}
    spaces |= {f"search.losses.{loss}": space for loss, space in plain.get("losses", {}).items()}
    if not any(spaces.values()) and len(plain.get("losses", {})) < 2:
        yield "search.space: is empty; say something to vary"
    if not plain["objective"]:
        yield "search.objective: is empty; name a curve, as in {val/rewards/accuracies: maximize}"
    if plain.get("prune") is not None and len(plain["objective"]) > 1:
        yield "search.prune: with several objectives no trial is the worse one before its end; use one, or prune: null"
    if "loss" in plain.get("space", {}) and plain.get("losses"):
        yield "search.space.loss: the losses are those of search.losses; say it once"
    shared = set(spaces.pop("search.space"))
    yield from _range_faults("search.space", plain.get("space", {}))
    for place, space in spaces.items():
        yield from (f"{place}.{key}: stands in search.space already" for key in space if key in shared)
        yield from _range_faults(place, space)


def _range_faults(place: str, space: Mapping[str, Any]) -> Iterator[str]:
    for key, values in space.items():
        if isinstance(values, list):
            if not values:
                yield f"{place}.{key}: has no value"
            elif any(isinstance(value, list | dict) for value in values):
                yield f"{place}.{key}: a search chooses among numbers, texts, true, false and null"
        elif values["low"] >= values["high"]:
            yield f"{place}.{key}: low must be below high, got {values['low']} and {values['high']}"
        elif values.get("log") and values["low"] <= 0:
            yield f"{place}.{key}: a log range begins above 0, got {values['low']}"
        elif values.get("log") and values.get("step"):
            yield f"{place}.{key}: a log range has no step"
        elif values.get("step", 1) <= 0:
            yield f"{place}.{key}: step must be greater than 0, got {values['step']}"
