"""One value against one annotation, in a sentence."""

import json
import math
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

_LIMITS = {
    "greater_than": ("must be greater than {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than": ("must be less than {}", "lt"),
    "less_than_equal": ("must be at most {}", "le"),
    "multiple_of": ("must be a multiple of {}", "multiple_of"),
    "too_short": ("must have at least {} entries", "min_length"),
    "too_long": ("must have at most {} entries", "max_length"),
    "string_too_short": ("must be text of at least {} characters", "min_length"),
    "literal_error": ("must be {}", "expected"),
    "enum": ("must be {}", "expected"),
    "value_error": ("{}", "error"),
}
_TYPES = {
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "none_required": "must be null",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "missing": "must have more entries",
}


def show(value: Any) -> str:
    """`value` as YAML writes it; text in quotes, so that ``'nan'`` cannot be taken for a number."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(value)


def explain(value: Any, annotation: Any) -> str | None:
    """Why `value` cannot stand where `annotation` is declared; None where it can.

    Strict: ``True`` is no number, ``"1"`` is no number, a whole number is a number, not-a-number and infinity are
    none. A list stands for a tuple, since YAML has no tuples.

    >>> from dpo_lab.ranges import Positive
    >>> explain(-1, Positive)
    'must be greater than 0, got -1'
    >>> explain("1e-5x", Positive)
    "must be a number, got '1e-5x'"
    """
    if not _is_finite(value):
        return f"must be finite, got {show(value)}"
    reasons = _reasons(value, annotation)
    if not reasons:
        return None
    first, *others = reasons if len(reasons) == 1 else [reason for reason in reasons if reason != "must be null"]
    alternatives = [first, *(other.removeprefix("must be ") for other in others)]
    is_nullable = first != "must be null" and not _reasons(None, annotation)
    return f"{' or '.join([*alternatives, 'null'] if is_nullable else alternatives)}, got {show(value)}"


def _reasons(value: Any, annotation: Any) -> list[str]:
    """One sentence for each way in which `annotation` refuses `value`: a union has a way per branch."""
    try:
        _adapter(annotation).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        return list(dict.fromkeys(_reason(detail) for detail in error.errors()))
    return []


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_finite(entry) for entry in value.values())
    if isinstance(value, list):
        return all(_is_finite(entry) for entry in value)
    return not isinstance(value, float) or math.isfinite(value)


@cache
def _adapter(annotation: Any) -> TypeAdapter:
    return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))


def _reason(detail: Any) -> str:
    kind: str = detail["type"]
    context: dict[str, Any] = detail.get("ctx", {})
    if kind in _LIMITS:
        sentence, limit = _LIMITS[kind]
        return sentence.format(_plain_number(context[limit]))
    return _TYPES[kind] if kind in _TYPES else str(detail["msg"]).replace("Input should", "must")


def _plain_number(limit: Any) -> str:
    return str(int(limit)) if isinstance(limit, float) and limit.is_integer() else str(limit)
