"""Which judgements an objective asks for, and so what an item of a batch size is."""

from dataclasses import dataclass
from typing import Literal

from dpo_lab.data.errors import DataError

Kind = Literal["pairs", "chosen", "labels", "lists"]
"""What an item is: a pair, a response to imitate, a judged response, or a list of responses."""

UNITS: dict[Kind, str] = {"pairs": "pairs", "lists": "lists", "labels": "responses", "chosen": "responses"}
"""What items are called, in the plural."""

VIEWS = frozenset({"pairs", "chosen", "ranking", "labels", "scores", "win_probability", "drift"})
"""The ingredients of a loss that a batch holds as judgements."""


@dataclass(frozen=True)
class View:
    """What is read off the data for one objective.

    >>> View(frozenset({"labels", "drift"})).kind, View(frozenset({"win_probability"})).kind
    ('labels', 'pairs')

    `wanted` is a subset of `VIEWS`. With `best_alone`, a list needs only its best to be known, not the order of the
    others. A borrowed response (`drift`) is cut to `max_length` tokens with its prompt; None: never.

    Raises:
        DataError: for `ranking` together with `labels`: an item is a list or a single response, not both.
        ValueError: for a name outside of `VIEWS`.
    """

    wanted: frozenset[str]
    best_alone: bool = False
    max_length: int | None = None

    def __post_init__(self):
        if self.wanted - VIEWS:
            raise ValueError(f"{', '.join(sorted(self.wanted - VIEWS))}: no view of the data")
        if {"ranking", "labels"} <= self.wanted:
            raise DataError(
                "one loss needs lists (ranking) and another single responses (labels), and an item of a batch is one "
                "of the two. Train with one of them, or mix each with losses on pairs."
            )

    @property
    def kind(self) -> Kind:
        if "ranking" in self.wanted:
            return "lists"
        if self.wanted & {"pairs", "win_probability"}:
            return "pairs"
        return "labels" if "labels" in self.wanted else "chosen"


def view_of(needs: frozenset[str], best_alone: bool, max_length: int | None) -> View:
    """The view for an objective with these `needs`; what is no judgement (policy, reference, ...) is left out.

    Raises:
        DataError: for `ranking` together with `labels`.
    """
    return View(needs & VIEWS, best_alone, max_length)
