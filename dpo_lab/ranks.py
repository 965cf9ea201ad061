"""Several processes that train one policy: each computes its share of every optimizer step.

Without a process group of torch.distributed there is one rank, and nothing here communicates.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

BUCKET = 2**26
"""Numbers that are exchanged at once: their copy is what the exchange needs of memory."""

PATIENCE = timedelta(days=1)
"""How long a rank waits for others: while the first one samples, they do. One that has died is noticed otherwise."""

Value = TypeVar("Value")

_waiting_since: float | None = None


def join(rank: int, num_ranks: int, meeting_place: Path, accelerator: str) -> None:
    """Become rank `rank` of `num_ranks` processes on this machine, which all name one file; it waits for the others.

    Args:
        accelerator: "gpu" where each rank computes on the one device that it sees, else "cpu".
    """
    # All are on this machine: else gloo asks what the machine is called, which not every network knows.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if os.uname().sysname == "Darwin" else "lo")
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if accelerator == "gpu" else "gloo",
        init_method=f"file://{meeting_place}",
        rank=rank,
        world_size=num_ranks,
        timeout=PATIENCE,
    )


def leave(*, is_broken: bool = False) -> None:
    """Be one rank again. Of a broken group on devices nothing is torn down: that may wait for what is gone."""
    if _is_grouped() and not (is_broken and torch.cuda.is_initialized()):
        distributed.destroy_process_group()


def num_ranks() -> int:
    """How many processes train together; 1 without a process group."""
    return distributed.get_world_size() if _is_grouped() else 1


def rank() -> int:
    """Which of them this one is, in [0, num_ranks)."""
    return distributed.get_rank() if _is_grouped() else 0


def seconds_waiting() -> float:
    """How long this process has been waiting for other ranks by now; 0 where it is not."""
    since = _waiting_since
    return 0.0 if since is None else time.monotonic() - since


@contextmanager
def _waiting() -> Iterator[None]:
    global _waiting_since
    _waiting_since = time.monotonic()
    try:
        yield
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # what is exchanged on a device is waited for later, where nobody would look
    finally:
        _waiting_since = None


@_waiting()
def _all_reduce(values: Tensor) -> None:
    distributed.all_reduce(values)


@_waiting()
def _all_gather(value: Any) -> list[Any]:
    gathered: list[Any] = [None] * num_ranks()
    distributed.all_gather_object(gathered, value)
    return gathered


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of each rank's `values`, the same on every rank."""
    if num_ranks() == 1:
        return values
    total = values.detach().clone()
    _all_reduce(total)
    return total


def gather_over_ranks(value: Value) -> list[Value]:
    """Each rank's `value`, in the order of ranks. Tensors must lie on the CPU."""
    return [value] if num_ranks() == 1 else _all_gather(value)


def from_first_rank(value: Value) -> Value:
    """What the first rank says; that of the others does not count."""
    return cast(Value, gather_over_ranks(value if rank() == 0 else None)[0])


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by the sum over ranks, with an exchange for each dtype and `BUCKET`.

    A rank without one adds 0; where no rank has one, there stays none.
    """
    if num_ranks() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    is_there = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.int32)
    somewhere = sum_over_ranks(is_there).tolist()
    for bucket in _buckets([parameter for parameter, count in zip(trained, somewhere, strict=True) if count]):
        flat = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in bucket]
        total = sum_over_ranks(torch.cat(flat))
        for parameter, part in zip(bucket, total.split([p.numel() for p in bucket]), strict=True):
            parameter.grad = part.view_as(parameter)


def _buckets(parameters: Iterable[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Of one dtype each, and of no more than `BUCKET` numbers unless a single one has more."""
    by_dtype: dict[torch.dtype, list[torch.nn.Parameter]] = {}
    for parameter in parameters:
        by_dtype.setdefault(parameter.dtype, []).append(parameter)
    for same_dtype in by_dtype.values():
        bucket: list[torch.nn.Parameter] = []
        num_numbers = 0
        for parameter in same_dtype:
            if bucket and num_numbers + parameter.numel() > BUCKET:
                yield bucket
                bucket, num_numbers = [], 0
            bucket.append(parameter)
            num_numbers += parameter.numel()
        yield bucket


def _is_grouped() -> bool:
    return distributed.is_available() and distributed.is_initialized()
