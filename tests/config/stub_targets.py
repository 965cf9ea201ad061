"""Functions with the shapes that targets have, so that the config's tests need no room but `config`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from dpo_lab.ranges import BelowHalf, Fraction, NonNegative, NonNegativeInt, Positive, PositiveInt


class Weighted(TypedDict):
    weight: NonNegative
    loss: Callable[..., Any]


def sigmoid(policy: Any, reference: Any, *, beta: Positive = 0.1, label_smoothing: BelowHalf = 0.0) -> None: ...


def ipo(policy: Any, *, beta: Positive, normalization: Literal["sum", "mean"] = "sum") -> None: ...


def hungry(policy: Any, weather: Any, *, beta: Positive = 0.1) -> None: ...


def mix(*, terms: dict[str, Weighted]) -> None: ...


def data(encode: Any, *, path: str | None = None, columns: dict[str, str] | None = None) -> None: ...


def model(*, path: str, betas: tuple[Fraction, Fraction] = (0.9, 0.99), tags: list[str] | None = None) -> None: ...


def anything(**settings: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Trainer:
    accelerator: Literal["cpu", "gpu"] = "cpu"
    max_steps: PositiveInt | None = None
    max_epochs: PositiveInt | None = 1
    global_batch_size: PositiveInt = 8
    micro_batch_size: PositiveInt | None = None
    warmup: NonNegativeInt = 0
    fused: bool = True
    validate_every: PositiveInt | None = None


not_callable = 3
