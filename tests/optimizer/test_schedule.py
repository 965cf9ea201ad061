import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.optimizer.schedule import ScheduleName, rate_factor

NAMES: list[ScheduleName] = ["constant", "linear", "cosine"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 3 / 4, 2 / 4, 1 / 4]),
        ("cosine", [0.5, 1, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    ],
)
def test_six_steps_two_of_warm_up(name: ScheduleName, expected: list[float]):
    """cosine: 0.5 (1 + cos(pi k / 4)) for k = 0, 1, 2, 3, with cos 45 degrees = sqrt(1/2)."""
    found = [rate_factor(step, name=name, warmup_steps=2, num_steps=6) for step in range(6)]
    assert found == pytest.approx(expected)


@given(st.sampled_from(NAMES), st.integers(0, 30), st.integers(1, 40))
def test_no_step_is_wasted_and_none_exceeds_the_peak(name: ScheduleName, warmup_steps: int, num_steps: int):
    """Neither the first step of the warm-up nor the last step of the decay has rate 0."""
    factors = [
        rate_factor(step, name=name, warmup_steps=warmup_steps, num_steps=num_steps) for step in range(num_steps)
    ]
    assert all(0 < factor <= 1 for factor in factors)
    rise, fall = factors[:warmup_steps], factors[warmup_steps:]
    assert rise == sorted(rise) and fall == sorted(fall, reverse=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_rate_never_rises_again_past_the_end(name: ScheduleName):
    assert rate_factor(100, name=name, warmup_steps=0, num_steps=10) == (1.0 if name == "constant" else 0.0)
