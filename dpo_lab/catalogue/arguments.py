"""The knobs of a loss: type, default, range and choices, read from its signature."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Lt

from dpo_lab.config.signature import read_target

TYPES: dict[Any, str] = {float: "number", int: "whole number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Argument:
    """One knob. `range` is in interval notation; `meaning` is its line of the docstring."""

    name: str
    type: str
    nullable: bool
    default: Any
    range: str | None
    choices: tuple[Any, ...] | None
    meaning: str

    @property
    def allowed(self) -> str:
        """What it may be: its choices, its range, or its type."""
        if self.choices is not None:
            allowed = " | ".join(map(str, self.choices))
        elif self.type == "number":
            allowed = self.range or "any number"
        else:
            allowed = self.type + (f" in {self.range}" if self.range else "")
        return f"{allowed} | null" if self.nullable else allowed

    @property
    def short(self) -> str:
        """What it may be beside its default, in a few characters; nothing where that says nothing."""
        if self.type == "true or false":
            return "(or false)" if self.default else "(or true)"
        if self.choices is not None:
            others = [str(choice) for choice in self.choices if choice != self.default]
            return f"(or {', '.join(others)})"
        limits = self.range or ("any number" if self.type == "number" else "")
        return f"or {limits}" if self.default is None and limits else limits

    @property
    def shown_default(self) -> str:
        """The default as a command line would have it."""
        if isinstance(self.default, dict):
            return " + ".join(f"{term['weight']:g} {term['loss']}" for term in self.default.values())
        if isinstance(self.default, bool) or self.default is None:
            return {True: "true", False: "false", None: "null"}[self.default]
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


def read_arguments(loss: Callable[..., Any], node: dict[str, Any], meanings: dict[str, str]) -> tuple[Argument, ...]:
    """The knobs of `loss` in the order of its signature; `node` is its config, which has every default."""
    return tuple(
        _argument(name, knob.annotation, node[name], meanings.get(name, ""))
        for name, knob in read_target(loss).knobs.items()
    )


def _argument(name: str, annotation: Any, default: Any, meaning: str) -> Argument:
    branches = list(_branches(annotation))
    kinds, limits = zip(*(branch for branch in branches if branch[0] is not NoneType), strict=True)
    choices = tuple(choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind))
    named = [_type(kind) for kind in kinds if get_origin(kind) is not Literal]
    return Argument(
        name=name,
        type=" or ".join(dict.fromkeys([*named, *(["choice"] if choices else [])])),
        nullable=len(kinds) < len(branches),
        default=default,
        range=_interval([limit for part in limits for limit in part]),
        choices=choices or None,
        meaning=meaning,
    )


def _type(kind: Any) -> str:
    if get_origin(kind) is Callable:
        return "loss"
    return TYPES.get(kind, "losses")


def _branches(annotation: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Each branch of a union without its ranges, and the ranges."""
    if get_origin(annotation) in (Union, UnionType):
        for branch in get_args(annotation):
            yield from _branches(branch)
    elif get_origin(annotation) is Annotated:
        inner, *limits = get_args(annotation)
        for kind, others in _branches(inner):
            yield kind, (*others, *limits)
    else:
        yield annotation, ()


def _interval(limits: list[Any]) -> str | None:
    low, high, opens, closes = -math.inf, math.inf, "(", ")"
    parts = [part for limit in limits for part in (limit if isinstance(limit, Interval) else (limit,))]
    if not parts:
        return None
    for part in parts:
        if isinstance(part, Gt | Ge):
            low, opens = (part.gt, "(") if isinstance(part, Gt) else (part.ge, "[")
        elif isinstance(part, Lt | Le):
            high, closes = (part.lt, ")") if isinstance(part, Lt) else (part.le, "]")
    return f"{opens}{low:g}, {high:g}{closes}"
