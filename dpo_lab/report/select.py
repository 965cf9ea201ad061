"""The words by which runs and cells are chosen: ``loss.beta>0.1 status=finished val/rewards/accuracies>0.6``."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dpo_lab.errors import UserError

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION = re.compile(r"(?P<key>[^\s=!<>~]+?)(?P<operator>!=|>=|<=|=|>|<|~)(?P<value>.*)", re.DOTALL)


class Condition(NamedTuple):
    """`key` is a name of a config key, a metric or a field of the run; `value` is as it was typed."""

    key: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}{self.operator}{self.value}"

    def holds(self, actual: Any) -> bool:
        """Whether `actual` satisfies it. A key that a run does not have (None) satisfies ``!=`` alone."""
        if self.operator == "=":
            return _same(actual, self.value)
        if self.operator == "!=":
            return not _same(actual, self.value)
        if actual is None:
            return False
        if self.operator == "~":
            return self.value in str(actual)
        left, right = _number(actual), _number(self.value)
        return left is not None and right is not None and COMPARISONS[self.operator](left, right)


def parse_conditions(text: str | Sequence[str]) -> list[Condition]:
    """Conditions joined by spaces, all of which must hold.

    >>> parse_conditions("loss=ipo loss.beta>0.1")
    [Condition(key='loss', operator='=', value='ipo'), Condition(key='loss.beta', operator='>', value='0.1')]

    Raises:
        UserError: a word is no condition, or compares with what is no number.
    """
    words = text.split() if isinstance(text, str) else list(text)
    conditions = []
    for word in words:
        match = _CONDITION.fullmatch(word)
        if match is None:
            raise UserError(
                f"{word!r} is no condition: write KEY=VALUE, KEY!=VALUE, KEY>NUMBER, KEY<=NUMBER or KEY~TEXT"
            )
        condition = Condition(match["key"], match["operator"], match["value"])
        if condition.operator in COMPARISONS and _number(condition.value) is None:
            raise UserError(f"{word!r} compares with {condition.value!r}, which is no number")
        conditions.append(condition)
    return conditions


def unknown_keys(conditions: Iterable[Condition], known: Iterable[str]) -> list[str]:
    """Keys of `conditions` that no one has, each with the nearest that someone has."""
    from difflib import get_close_matches

    names = sorted(set(known))
    lines = []
    for condition in conditions:
        if condition.key not in names:
            close = get_close_matches(condition.key, names, n=1)
            lines.append(f"{condition.key}: no run has it" + (f"; did you mean {close[0]}?" if close else ""))
    return lines


def matches(conditions: Iterable[Condition], fields: Mapping[str, Any]) -> bool:
    """Whether all of `conditions` hold of `fields`."""
    return all(condition.holds(fields.get(condition.key)) for condition in conditions)


def shown(value: Any) -> str:
    """A config value as it is typed on a command line.

    >>> shown(0.1), shown(1.0), shown(None), shown(True)
    ('0.1', '1', 'null', 'true')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value)


def _same(actual: Any, text: str) -> bool:
    left, right = _number(actual), _number(text)
    if left is not None and right is not None:
        return math.isclose(left, right, rel_tol=1e-12, abs_tol=0.0)
    return shown(actual) == text or (actual is None and text == "")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number
