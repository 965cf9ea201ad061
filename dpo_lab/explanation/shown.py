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
class ShownAttribution:
    """Which pieces of what was read a number comes from: that of the response `name` (chosen, ...) whose text is
    `response`. `parts` are texts under their names (question, passage).

    The pieces add up to `at_text` - `at_baseline`, but for `gap`.
    """

    name: str
    response: str
    parts: tuple[tuple[str, tuple[Piece, ...]], ...]
    at_text: float
    at_baseline: float
    gap: float

    @property
    def pieces(self) -> list[Piece]:
        return [piece for _, pieces in self.parts for piece in pieces]

    @property
    def is_inexact(self) -> bool:
        """Whether the gap is more than 5 % of what the pieces should add up to, and more than rounding."""
        return abs(self.gap) > max(LARGE_GAP * abs(self.at_text - self.at_baseline), ROUNDING)


SMALLEST_SCALE = 0.01
"""Numbers are shown with three digits: what is far below that should look like nothing."""

LARGE_GAP = 0.05
ROUNDING = 1e-4


@final
@dataclass(frozen=True)
class AttributionMethod:
    """What attributions of a run are of: log π, or with `is_reward` the number of the page; `baseline` is the name of
    the token that stands for a hidden one, and `num_steps` the points on the way from there."""

    is_reward: bool
    baseline: str
    num_steps: int


@final
@dataclass(frozen=True)
class Told:
    """What one run says of one example: its responses, or all classes that it could choose; `prompt` as it reads it.

    `num_hidden` counts classes that are not shown. `attributions` are of the responses in turn, and of their margin.
    `images` are those that the prompt shows, small and as ``data:`` addresses.
    """

    prompt: str
    responses: tuple[ShownResponse, ...] = ()
    classes: tuple[ShownClass, ...] = ()
    num_hidden: int = 0
    attributions: tuple[ShownAttribution, ...] = ()
    images: tuple[str, ...] = ()

    @property
    def values(self) -> list[float]:
        pieces = [piece.value for response in self.responses for piece in response.pieces]
        return pieces + [one.value for one in self.classes]

    @property
    def margin(self) -> float | None:
        """Chosen less rejected, of what is one pair."""
        totals = {response.name: response.total for response in self.responses}
        totals |= {one.role: one.value for one in self.classes if one.role}
        return totals["chosen"] - totals["rejected"] if totals.keys() == {"chosen", "rejected"} else None


@final
@dataclass(frozen=True)
class Teller:
    """A run, and what it says of each example, in their order; None of one that it cannot read whole.

    `method` is that of the attributions; None where there are none.
    """

    name: str
    measure: Measure
    told: tuple[Told | None, ...]
    method: AttributionMethod | None = None

    @property
    def scale(self) -> float:
        """The size at which a colour is at its strongest: all but the largest 2 in 100 stay below it."""
        return _scale([value for one in self.told if one is not None for value in one.values])

    @property
    def attribution_scale(self) -> float:
        """The same of attributions."""
        shown = (shown for one in self.told if one is not None for shown in one.attributions)
        return _scale([piece.value for one in shown for piece in one.pieces])


def _scale(values: Sequence[float]) -> float:
    return max(float(np.quantile(np.abs(values), 0.98)), SMALLEST_SCALE) if len(values) else 1.0


def signed(value: float) -> str:
    """Three digits with a sign, of what is not 0.

    >>> signed(0.12345), signed(-12.3), signed(-1e-9)
    ('+0.123', '-12.3', '0')
    """
    text = f"{abs(value):.3f}" if abs(value) < 10 else f"{abs(value):.1f}"
    if float(text) == 0:
        return "0"
    return ("+" if value > 0 else "-") + text
