"""Numbers of 50 digits that know what they were made of, so that a formula of them has a gradient."""

from collections.abc import Iterable, Iterator
from typing import Any

from mpmath import mp, mpf

mp.dps = 50

Real = Any
"""A float or an `mpf`, which has no type."""


class Number:
    """A value, and what it was made of: each part with the derivative of this value with respect to it."""

    def __init__(self, value: Real, parts: tuple[tuple["Number", Real], ...] = ()) -> None:
        self.value = mpf(value)
        self.parts = parts
        self.slope = mpf(0)

    def __add__(self, other: "Number | Real") -> "Number":
        if isinstance(other, Number):
            return Number(self.value + other.value, ((self, mpf(1)), (other, mpf(1))))
        return Number(self.value + mpf(other), ((self, mpf(1)),))

    def __mul__(self, other: "Number | Real") -> "Number":
        if isinstance(other, Number):
            return Number(self.value * other.value, ((self, other.value), (other, self.value)))
        return Number(self.value * mpf(other), ((self, mpf(other)),))

    def __sub__(self, other: "Number | Real") -> "Number":
        return self + (other * -1 if isinstance(other, Number) else -mpf(other))

    def __truediv__(self, other: Real) -> "Number":
        return self * (1 / mpf(other))

    def __neg__(self) -> "Number":
        return self * -1

    def __rsub__(self, other: Real) -> "Number":
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__


def exp(x: Number) -> Number:
    value = mp.exp(x.value)
    return Number(value, ((x, value),))


def log(x: Number) -> Number:
    return Number(mp.log(x.value), ((x, 1 / x.value),))


def log_one_minus_exp(x: Number) -> Number:
    """log(1 - exp(x)) of an x below 0."""
    rest = -mp.expm1(x.value)
    return Number(mp.log(rest), ((x, -mp.exp(x.value) / rest),))


def sigmoid(x: Number) -> Number:
    value = _logistic(x.value)
    return Number(value, ((x, value * _logistic(-x.value)),))


def log_sigmoid(x: Number) -> Number:
    value = min(x.value, mpf(0)) - mp.log1p(mp.exp(-abs(x.value)))
    return Number(value, ((x, _logistic(-x.value)),))


def relu(x: Number) -> Number:
    return Number(max(x.value, mpf(0)), ((x, mpf(x.value > 0)),))


def constant(x: Number) -> Number:
    """The same value, through which no slope passes."""
    return Number(x.value)


def total(numbers: Iterable[Number]) -> Number:
    parts = tuple((number, mpf(1)) for number in numbers)
    return Number(mp.fsum(part.value for part, _ in parts), parts)


def mean(numbers: Iterable[Number]) -> Number:
    numbers = list(numbers)
    return total(numbers) / len(numbers)


def differentiate(number: Number) -> None:
    """Give everything that `number` was made of its `slope`, the derivative of `number` with respect to it."""
    order = list(_parts_first(number))
    for one in order:
        one.slope = mpf(0)
    number.slope = mpf(1)
    for one in reversed(order):
        for part, derivative in one.parts:
            part.slope += one.slope * derivative


def _parts_first(number: Number) -> Iterator[Number]:
    seen: set[int] = set()
    waiting = [(number, False)]
    while waiting:
        one, is_ready = waiting.pop()
        if is_ready:
            yield one
        elif id(one) not in seen:
            seen.add(id(one))
            waiting.append((one, True))
            waiting.extend((part, False) for part, _ in one.parts)


def _logistic(x: Real) -> Real:
    """No digit is lost at either end."""
    return 1 / (1 + mp.exp(-x)) if x >= 0 else mp.exp(x) / (1 + mp.exp(x))
