"""Shares of this machine: a job runs while it holds one, so that jobs do not crowd each other, whoever starts them."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dpo_lab.errors import UserError

POLL_SECONDS = 0.2
VISIBLE = "CUDA_VISIBLE_DEVICES"


class Slot(NamedTuple):
    """One share: a number from 0, threads to compute with, and the names of its GPUs; None without GPUs."""

    number: int
    num_threads: int
    devices: tuple[str, ...] | None = None

    def environment(self) -> dict[str, str]:
        """What a process needs to be told at its start."""
        threads = {"OMP_NUM_THREADS": str(self.num_threads), "MKL_NUM_THREADS": str(self.num_threads)}
        return threads if self.devices is None else {**threads, VISIBLE: ",".join(self.devices)}


def cpu_slots(num_cpus: int, per_job: int) -> list[Slot]:
    """As many shares of `per_job` processors as there are, at least one.

    >>> [slot.num_threads for slot in cpu_slots(5, 2)]
    [2, 2]
    """
    return [Slot(number, per_job) for number in range(max(1, num_cpus // per_job))]


def gpu_slots(devices: Sequence[str], per_job: int, num_cpus: int) -> list[Slot]:
    """Shares of `per_job` devices each, and of the processors in equal parts.

    >>> gpu_slots(["0", "1", "2", "3"], 2, 16)[1]
    Slot(number=1, num_threads=8, devices=('2', '3'))

    Raises:
        UserError: there are fewer devices than one job wants.
    """
    num_slots = len(devices) // per_job
    if not num_slots:
        raise UserError(f"sweep.gpus_per_job: {per_job} is more than the {len(devices)} GPUs that can be seen here")
    parts = [tuple(devices[number * per_job : (number + 1) * per_job]) for number in range(num_slots)]
    return [Slot(number, max(1, num_cpus // num_slots), part) for number, part in enumerate(parts)]


def visible_cpus() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_devices() -> list[str]:
    """Names of the NVIDIA devices that this process may use, without asking torch, whose import takes seconds."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    return [str(number) for number in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]


def slots_folder() -> Path:
    """Where this user's shares of this machine are claimed, by whatever sweep."""
    folder = Path(tempfile.gettempdir()) / f"dpo_lab-slots-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextmanager
def claim_slot(slots: Sequence[Slot], folder: Path) -> Iterator[Slot]:
    """Wait for a free one of `slots`; it is let go at the end of the block, and when this process dies."""
    kind = "cpu" if slots[0].devices is None else "gpu"
    files = [(folder / f"{kind}-{slot.num_threads}-{slot.number}").open("wb") for slot in slots]
    try:
        while True:
            for slot, file in zip(slots, files, strict=True):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield slot
                return
            time.sleep(POLL_SECONDS)
    finally:
        for file in files:
            file.close()
