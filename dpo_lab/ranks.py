"""Several processes that train one policy: each computes its share of every optimizer step.

Without a process group of torch.distributed there is one rank, and nothing here communicates.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed


def num_ranks() -> int:
    """How many processes train together; 1 without a process group."""
    return distributed.get_world_size() if _is_grouped() else 1


def rank() -> int:
    """Which of them this one is, in [0, num_ranks)."""
    return distributed.get_rank() if _is_grouped() else 0


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of each rank's `values`, the same on every rank."""
    if num_ranks() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total


def gather_over_ranks(value: Any) -> list[Any]:
    """Each rank's `value`, in the order of ranks. Tensors must lie on the CPU."""
    if num_ranks() == 1:
        return [value]
    gathered: list[Any] = [None] * num_ranks()
    distributed.all_gather_object(gathered, value)
    return gathered


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by the sum over ranks; one exchange for each dtype. A rank without one adds 0."""
    if num_ranks() == 1:
        return
    by_dtype: dict[torch.dtype, list[torch.nn.Parameter]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
    for same_dtype in by_dtype.values():
        flat = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in same_dtype]
        total = sum_over_ranks(torch.cat(flat))
        for parameter, part in zip(same_dtype, total.split([p.numel() for p in same_dtype]), strict=True):
            parameter.grad = part.view_as(parameter)


def _is_grouped() -> bool:
    return distributed.is_available() and distributed.is_initialized()
