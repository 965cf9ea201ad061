"""Learning-rate schedules as factors of the peak rate."""

import math
from typing import Literal

ScheduleName = Literal["constant", "linear", "cosine"]


def rate_factor(step: int, *, name: ScheduleName, warmup_steps: int, num_steps: int) -> float:
    """Factor in [0, 1] on the learning rate of update number `step`, counted from 0.

    Warm-up rises linearly and reaches 1 at update `warmup_steps`; its first update is not wasted on a rate of 0,
    as it is where the factor is step / warmup_steps. "linear" and "cosine" then fall so that the update after the
    last would have rate 0.

    >>> [rate_factor(step, name="linear", warmup_steps=2, num_steps=6) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if name == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, num_steps - warmup_steps))
    return 1.0 - progress if name == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
