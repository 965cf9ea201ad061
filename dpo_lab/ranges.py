"""Ranges that a signature can declare, so that a config is checked against them before anything heavy.

A knob says its range in its type (``beta: Positive``); `dpo_lab.config.check` reads it from there and
the docs print it from there. Not-a-number and infinity are outside of every range.
"""

from typing import Annotated

from annotated_types import Ge, Gt, Interval, Le, Lt

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, lt=1)]
OpenFraction = Annotated[float, Interval(gt=0, lt=1)]
Probability = Annotated[float, Interval(ge=0, le=1)]
BelowHalf = Annotated[float, Interval(ge=0, lt=0.5)]
UpToHalf = Annotated[float, Interval(ge=0, le=0.5)]
PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
Seed = Annotated[int, Interval(ge=0, lt=2**63)]
NumThreads = Annotated[int, Interval(gt=0, le=1024)]

__all__ = [
    "BelowHalf",
    "Fraction",
    "Ge",
    "Gt",
    "Interval",
    "Le",
    "Lt",
    "NonNegative",
    "NonNegativeInt",
    "NumThreads",
    "OpenFraction",
    "Positive",
    "PositiveInt",
    "Probability",
    "Seed",
    "UpToHalf",
]
