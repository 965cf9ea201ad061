"""What a page of explanations shows: examples, in each what one or two runs say of the responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from dpo_lab.explanation.pieces import Piece


@final
@dataclass(frozen=True)
class Measure:
    """What the numbers of a run are: ``beta * (log pi - log rho)``, or `log pi` where there is no reference.

    `beta` is None where the loss has none, and stands for 1. With `is_uniform` log rho is 0.
    """

    has_reference: bool
    beta: float | None
    is_uniform: bool = False

    @property
    def formula(self) -> str:
        if not self.has_reference:
            return "log π, nats: the loss has no reference, so this is the log-probability itself and no reward"
        factor = "log π - log π_ref, nats (the loss has no β)"
        if self.beta is not None:
            factor = f"β (log π - log π_ref) with β = {self.beta:g}: nats times β"
        return f"{factor}; the reference is uniform: log π_ref is 0" if self.is_uniform else factor


@final
@dataclass(frozen=True)
class ShownResponse:
    """A response under its name (chosen, rejected, rank 1, desirable, ...), cut into pieces; `key` in hex digits."""

    name: str
    key: str
    pieces: tuple[Piece, ...]

    @property
    def total(self) -> float:
        return sum(piece.value for piece in self.pieces)

    @property
    def num_decisions(self) -> int:
        return sum(len(piece.values) for piece in self.pieces)


@final
@dataclass(frozen=True)
class ShownClass:
    """One class of a policy that chooses one: its worth, and its probability under policy and reference."""

    text: str
    role: str
    value: float
    policy: float
    reference: float | None


@final
@dataclass(frozen=True)
class Told:
    """What one run says of one example: its responses, or all classes that it could choose; `prompt` as it reads it.

    `num_hidden` counts classes that are not shown.
    """

    prompt: str
    responses: tuple[ShownResponse, ...] = ()
    classes: tuple[ShownClass, ...] = ()
    num_hidden: int = 0

    @property
    def values(self) -> list[float]:
        pieces = [piece.value for response in self.responses for piece in response.pieces]
        return pieces + [one.value for one in self.classes]

    @property
    def margin(self) -> float | None:
        """Chosen less rejected, of what is one pair."""
        totals = {response.name: response.total for response in self.responses}
        return totals["chosen"] - totals["rejected"] if totals.keys() == {"chosen", "rejected"} else None


@final
@dataclass(frozen=True)
class Teller:
    """A run, and what it says of each example, in their order; None of one that it cannot read whole."""

    name: str
    measure: Measure
    told: tuple[Told | None, ...]

    @property
    def scale(self) -> float:
        """The size at which a colour is at its strongest: all but the largest 2 in 100 stay below it."""
        sizes = np.abs([value for one in self.told if one is not None for value in one.values])
        return max(float(np.quantile(sizes, 0.98)), 1e-6) if len(sizes) else 1.0


def table_rows(sources: Sequence[str], tellers: Sequence[Teller]) -> list[list[str | int | float]]:
    """The same as rows of `TABLE_COLUMNS`, one a piece or a class."""
    rows: list[list[str | int | float]] = []
    for teller in tellers:
        for source, told in zip(sources, teller.told, strict=True):
            if told is None:
                continue
            for response in told.responses:
                for place, piece in enumerate(response.pieces):
                    rows.append([teller.name, source, response.name, place, piece.text, piece.value])
            for place, one in enumerate(told.classes):
                rows.append([teller.name, source, one.role, place, one.text, one.value])
    return rows


TABLE_COLUMNS = ("run", "source", "response", "place", "text", "value")
