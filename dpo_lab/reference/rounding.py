"""How far apart the same log-prob may be where it was computed in batches of two shapes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

EXACT_NATS = 1e-3
"""Of a whole response, float32."""

LOW_NATS = 5e-2
"""In bfloat16, times the square root of the number of decisions: the rounding of a logit near 10."""


def is_exact(*, precision: str, dtype: str) -> bool:
    """Whether all is computed in float32. `precision` is the trainer's, `dtype` that of the weights."""
    return precision == "32-true" and dtype == "float32"


def same_within(lengths: Int[Tensor, " n"] | Float[Tensor, " n"], *, is_exact: bool) -> Float[Tensor, " n"]:
    """Largest difference that is rounding, nats, of responses of so many decisions.

    >>> same_within(torch.tensor([1, 100]), is_exact=False)
    tensor([0.0500, 0.5000])
    """
    if is_exact:
        return torch.full(lengths.shape, EXACT_NATS, device=lengths.device)
    return LOW_NATS * lengths.float().sqrt()
