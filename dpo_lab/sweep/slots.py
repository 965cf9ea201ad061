"""Shares of this machine: a job runs while it holds one, so that jobs do not crowd each other, whoever starts them."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from dpo_lab.errors import UserError
from dpo_lab.processors import PINNED, by_core, reserved
from dpo_lab.sweep.settings import SweepSettings

POLL_SECONDS = 0.2
VISIBLE = "CUDA_VISIBLE_DEVICES"
CLUSTER_JOB = "SLURM_JOB_ID"
FOLDER = "DPO_LAB_SLOTS"
"""Environment variable with the folder where shares are claimed, instead of one for each user of this machine."""


class Share(NamedTuple):
    """What one job needs: `num` of the `units`, which are processors, or GPUs where `is_gpu`; threads of each rank.

    `pins`: it is to be pinned to its processors, where it has any.
    """

    units: tuple[str, ...]
    num: int
    num_threads: int
    is_gpu: bool = False
    pins: bool = False

    @property
    def num_at_once(self) -> int:
        """So many jobs of this kind run side by side."""
        return len(self.units) // self.num


class Slot(NamedTuple):
    """What one job holds: processors or GPUs by name, and the threads of each rank.

    `is_exclusive`: no other job of this machine is pinned to one of these processors, so this one can be.
    """

    units: tuple[str, ...]
    num_threads: int
    is_gpu: bool = False
    is_exclusive: bool = False

    @property
    def processors(self) -> list[int]:
        """Those that a job is to be pinned to; none where that is left to the system."""
        return [int(unit) for unit in self.units] if self.is_exclusive else []

    def environment(self) -> dict[str, str]:
        """What a process needs to be told at its start."""
        told = {"OMP_NUM_THREADS": str(self.num_threads), "MKL_NUM_THREADS": str(self.num_threads)}
        told[PINNED] = ",".join(map(str, self.processors))
        return {**told, VISIBLE: ",".join(self.units)} if self.is_gpu else told


def share_of(config: Mapping[str, Any]) -> Share:
    """What a job with this config needs of this machine.

    Raises:
        UserError: there are fewer GPUs here than it wants.
    """
    trainer, settings = config.get("trainer", {}), SweepSettings(**config.get("sweep", {}))
    num_ranks, num_threads = trainer.get("num_devices") or 1, trainer.get("num_threads") or settings.cpus_per_job
    if trainer.get("accelerator") == "gpu":
        share = gpu_share(visible_devices(), num_ranks, len(visible_cpus()))
        return share._replace(num_threads=trainer.get("num_threads") or share.num_threads)
    return cpu_share(visible_cpus(), num_ranks, num_threads, pins=settings.pin)


def cpu_share(cpus: Sequence[str], num_ranks: int, num_threads: int, *, pins: bool = False) -> Share:
    """A processor for each thread of each rank; all that there are where those are fewer.

    >>> cpu_share(["0", "1", "2", "3", "4"], 1, 2).num_at_once
    2
    """
    return Share(tuple(cpus), min(num_ranks * num_threads, len(cpus)), num_threads, pins=pins)


def gpu_share(devices: Sequence[str], num_ranks: int, num_cpus: int) -> Share:
    """A device for each rank, and of the processors the part that falls to a device.

    >>> gpu_share(["0", "1", "2", "3"], 2, 16)
    Share(units=('0', '1', '2', '3'), num=2, num_threads=4, is_gpu=True, pins=False)

    Raises:
        UserError: there are fewer devices than one job wants.
    """
    if len(devices) < num_ranks:
        raise UserError(f"trainer.num_devices: {num_ranks} is more than the {len(devices)} GPUs that can be seen here")
    return Share(tuple(devices), num_ranks, max(1, num_cpus // len(devices)), is_gpu=True)


def visible_cpus() -> list[str]:
    """Processors that this process may run on, by number; those come first that share no core."""
    if hasattr(os, "sched_getaffinity"):
        return [str(number) for number in by_core(os.sched_getaffinity(0))]
    return [str(number) for number in range(os.cpu_count() or 1)]


def visible_devices() -> list[str]:
    """Names of the NVIDIA devices that this process may use, without asking torch, whose import takes seconds."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    # Some virtual machines and containers have the one and not the other.
    found = list(Path("/proc/driver/nvidia/gpus").glob("*")) or list(Path("/dev").glob("nvidia[0-9]*"))
    return [str(number) for number in range(len(found))]


def slots_folder() -> Path:
    """Where this user's shares of this machine are claimed, by whatever sweep.

    A job of a cluster has processors and devices to itself, which it may see under the numbers of its neighbour's.
    """
    cluster_job = os.environ.get(CLUSTER_JOB)
    name = f"dpo_lab-slots-{os.getuid()}" + (f"-{cluster_job}" if cluster_job else "")
    folder = Path(os.environ.get(FOLDER) or Path(tempfile.gettempdir()) / name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def claim_slot(share: Share, folder: Path, *, check: Callable[[], object] = lambda: None) -> Iterator[Slot]:
    """Wait until what `share` says is free; it is let go at the end of the block, and when this process dies.

    Whoever waits for several units keeps those that it has found, and nobody else takes any meanwhile: small jobs
    cannot starve a large one.

    Args:
        check: called while waiting; may raise.
    """
    kind = "gpu" if share.is_gpu else "cpu"
    with ExitStack() as held:
        with ExitStack() as turn:
            while not _lock(folder / f"{kind}-turn", turn):
                check()
                time.sleep(POLL_SECONDS)
            taken: list[str] = []
            while True:
                for unit in share.units:
                    if len(taken) < share.num and unit not in taken and _lock(folder / f"{kind}-{unit}", held):
                        taken.append(unit)
                if len(taken) == share.num:
                    break
                check()
                time.sleep(POLL_SECONDS)
        units = tuple(sorted(taken, key=share.units.index))
        is_exclusive = share.pins and held.enter_context(reserved([int(unit) for unit in units]))
        yield Slot(units, share.num_threads, share.is_gpu, is_exclusive)


def _lock(path: Path, held: ExitStack) -> bool:
    """Whether the file could be locked; it is unlocked when `held` is closed."""
    file: IO[bytes] = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    held.enter_context(file)
    return True
