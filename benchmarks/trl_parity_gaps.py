"""How far apart two frameworks are after training the same weights on the same pairs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LOSS_GOAL = 1e-5  # of every step, in the loss's own unit
NORM_GOAL = 1e-6  # relative, of all weights together and of each tensor


class Side(NamedTuple):
    """What one framework made of a setting: `losses` and `grad_norms` of each step, before clipping; final weights."""

    losses: list[float]
    grad_norms: list[float]
    weights: dict[str, Tensor]
    cpu_seconds: float


class Gaps(NamedTuple):
    """How far the sides are apart. All but `loss` are relative; `weights` is relative to the way that was gone."""

    loss: float
    norm: float
    tensor_norm: float
    grad_norm: float
    weights: float

    @property
    def are_within_goals(self) -> bool:
        """A gap that is not a number is not."""
        return self.loss <= LOSS_GOAL and self.norm <= NORM_GOAL and self.tensor_norm <= NORM_GOAL


def compare(mine: Side, theirs: Side, initial: Mapping[str, Tensor]) -> Gaps:
    """Gaps between two sides that started from the weights `initial`.

    Raises:
        SystemExit: they did not take the same number of steps, or do not have the same tensors.
    """
    if mine.weights.keys() != theirs.weights.keys() or len(mine.losses) != len(theirs.losses):
        raise SystemExit(
            f"not comparable: {len(mine.losses)} and {len(theirs.losses)} steps; tensors of one side alone: "
            f"{sorted(mine.weights.keys() ^ theirs.weights.keys())}"
        )
    names = sorted(mine.weights)
    apart = _norm([mine.weights[name].double() - theirs.weights[name].double() for name in names])
    way = _norm([mine.weights[name].double() - initial[name].double() for name in names])
    tensor_gaps = [_relative(_norm([mine.weights[name]]), _norm([theirs.weights[name]])) for name in names]
    return Gaps(
        loss=_largest(abs(a - b) for a, b in zip(mine.losses, theirs.losses, strict=True)),
        norm=_relative(_norm(list(mine.weights.values())), _norm(list(theirs.weights.values()))),
        tensor_norm=_largest(tensor_gaps),
        grad_norm=_largest(_relative(a, b) for a, b in zip(mine.grad_norms, theirs.grad_norms, strict=True)),
        weights=apart / way,
    )


def _largest(gaps: Iterable[float]) -> float:
    # The built-in max passes over a nan.
    return float(torch.tensor(list(gaps), dtype=torch.float64).max())


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack([tensor.double().square().sum() for tensor in tensors]).sum().sqrt())


def _relative(value: float, other: float) -> float:
    return abs(value - other) / abs(other)
