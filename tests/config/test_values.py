"""Laws of ranges: what is inside passes, what is outside is refused with the bound in the sentence."""

import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.config.values import explain
from dpo_lab.ranges import Fraction, NonNegativeInt, Positive


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_float_passes_exactly_inside_its_range(value: float) -> None:
    assert (explain(value, Positive) is None) == (math.isfinite(value) and value > 0)
    assert (explain(value, Fraction) is None) == (0 <= value < 1)


@given(st.integers())
def test_a_whole_number_is_a_number(value: int) -> None:
    assert (explain(value, Positive) is None) == (value > 0)
    assert (explain(value, NonNegativeInt) is None) == (value >= 0)


@given(st.text() | st.booleans() | st.none() | st.lists(st.integers()))
def test_nothing_else_is_a_number(value: Any) -> None:
    assert str(explain(value, Positive)).startswith("must be a number, got ")


@pytest.mark.parametrize(
    ("value", "annotation", "reason"),
    [
        ("x", PositiveOrAuto := Positive | Literal["auto"], "must be a number or 'auto', got 'x'"),
        (0, PositiveOrAuto, "must be greater than 0 or 'auto', got 0"),
        ("auto", PositiveOrAuto, None),
        (1, None, "must be null, got 1"),
        ([1, 2], tuple[int, int], None),
        (3, Any, None),
        ([float("nan")], Any, "must be finite, got [nan]"),
    ],
)
def test_unions_and_containers(value: Any, annotation: Any, reason: str | None) -> None:
    assert explain(value, annotation) == reason
