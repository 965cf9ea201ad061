"""A loss that does not move is said to, with the cause that the record shows."""

import pytest

from dpo_lab.stillness import why_still

HEALTHY = {"train/loss": 0.6931, "train/lr": 1e-3, "train/grad_norm": 1.0, "train/rewards/margins": 1e-5}


def said(num_steps: int = 20, warmup_steps: int = 0, **changes: float) -> str | None:
    rows = [
        {**HEALTHY, **{name.replace("__", "/"): value for name, value in changes.items()}} for _ in range(num_steps)
    ]
    return why_still(rows, num_steps=num_steps, warmup_steps=warmup_steps)


def test_a_loss_that_moves_is_not_spoken_of():
    """A change of 0.01 is more than a thousandth; one row, or none, says nothing."""
    rows = [HEALTHY, {**HEALTHY, "train/loss": 0.6831}]
    assert why_still(rows, num_steps=2, warmup_steps=0) is None
    assert why_still([HEALTHY], num_steps=1, warmup_steps=0) is None
    assert why_still([], num_steps=1, warmup_steps=0) is None


@pytest.mark.parametrize(
    ("knobs", "cause"),
    [
        ({"warmup_steps": 20}, "optimizer.warmup_steps=20 is not over"),
        ({"train__lr": 4e-6}, "add up to 8e-05"),
        ({"train__grad_norm": 0.0}, "every gradient is exactly zero"),
        ({"sanity__fraction_weights_moved": 0.25}, "only 25% of the weights changed"),
        ({"train__rewards__margins": 0.0, "train__logps__chosen": -3.0}, "every margin is exactly zero"),
    ],
)
def test_each_cause_alone(knobs: dict[str, float], cause: str):
    message = said(**knobs)  # pyright: ignore[reportArgumentType]
    assert message is not None and cause in message and ";" not in message
    assert message.startswith("the loss did not move: 0.6931 at first, 0.6931 at last.")


def test_a_cause_that_is_not_known_is_not_made_up():
    assert str(said()).endswith("none of those that are known (rate, warm-up, zero gradient, rounding, ties)")
