"""The processors that a job of a sweep is pinned to, and the part of them that falls to each of its ranks."""

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

PINNED = "DPO_LAB_PROCESSORS"
"""Environment variable with the numbers of the processors that a job is pinned to, with all that it starts."""

MARK = "dpo_lab-processor"
TOPOLOGY = Path("/sys/devices/system/cpu")


def can_pin() -> bool:
    """Whether this platform lets a process be pinned to processors."""
    return hasattr(os, "sched_setaffinity")


def pin(process: int, processors: Sequence[int]) -> bool:
    """Have the threads that `process` starts from now on run on `processors` alone, if the platform will have it."""
    if not can_pin() or not processors:
        return False
    try:
        os.sched_setaffinity(process, processors)
    except OSError:  # one of them was taken from this process; or the process has ended, which its exit code tells
        return False
    return True


def pinned() -> list[int]:
    """The processors that the job which this process belongs to is pinned to; none outside of such a job."""
    return [int(number) for number in os.environ.get(PINNED, "").split(",") if number]


def by_core(processors: Iterable[int]) -> list[int]:
    """`processors` in the order in which they are best taken: one of every core first, then the second of each, ...

    Two that are threads of one core share its arithmetic, and on many machines bear neighbouring numbers.
    """
    numbers = sorted(processors)
    return sorted(numbers, key=lambda number: len({*numbers[: numbers.index(number)]} & _of_core(number)))


def _of_core(number: int) -> set[int]:
    """The processors of the core that `number` belongs to, itself among them, as far as the system tells."""
    try:
        told = (TOPOLOGY / f"cpu{number}" / "topology" / "thread_siblings_list").read_text()
        ranges = [each.split("-") for each in told.strip().split(",")]
        return {each for ends in ranges for each in range(int(ends[0]), int(ends[-1]) + 1)}
    except (OSError, ValueError):
        return {number}


def part(processors: Sequence[int], rank: int, num_ranks: int) -> list[int]:
    """What of `processors` falls to `rank`; all of them where there are fewer than ranks.

    >>> [part([2, 3, 4, 5, 6], rank, 2) for rank in range(2)]
    [[2, 3], [4, 5, 6]]
    >>> part([4], 1, 2)
    [4]
    """
    if len(processors) < num_ranks:
        return list(processors)
    return list(processors[rank * len(processors) // num_ranks : (rank + 1) * len(processors) // num_ranks])


@contextmanager
def reserved(processors: Sequence[int]) -> Iterator[bool]:
    """Whether no one else on this machine, of whatever user, has a job pinned to any of `processors`.

    If so, nobody else does during the block. Two jobs that are pinned to one processor would share it for as long as
    they run, whatever stands idle beside it.
    """
    with ExitStack() as marks:
        yield can_pin() and all(_mark(number, marks) for number in processors)


def _mark(number: int, marks: ExitStack) -> bool:
    mark = marks.enter_context(socket.socket(socket.AF_UNIX))
    try:
        mark.bind(f"\0{MARK}-{number}")  # a name that belongs to no file, and is free as soon as its process is gone
    except OSError:
        return False
    return True
