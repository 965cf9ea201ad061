"""A sweep whose jobs are two processes each, as the command runs it; only the first one of each is forked."""

import os
import signal
import time
from pathlib import Path

import pytest

from dpo_lab import processors
from dpo_lab.processors import can_pin, part
from dpo_lab.run.read import read_info
from tests.torture.sweeps import Running, Sweep, children, command_of

JOBS = ("seed=1,2", "trainer.num_devices=2", "trainer.max_steps=2", "samples.num=0")
RANK = b"dpo_lab.commands.rank"


def test_jobs_of_several_ranks_run_and_end_with_their_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The first job comes to its end; the sweep is told to stop while the second rank of the second one begins."""
    monkeypatch.setattr(processors, "MARK", f"test-{os.getpid()}")
    sweep = Sweep(tmp_path / "sweep", JOBS)
    running = sweep.start()
    first, rank = wait_for_ranks(running, sweep, num_finished=0)
    check_processors(first, rank, sweep)
    both = wait_for_ranks(running, sweep, num_finished=1)
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait() == 143, sweep.log()
    assert [pid for pid in (first, rank, *both) if is_there(pid)] == []
    done, ended = sweep.folder().jobs()
    assert (done.status, ended.status) == ("finished", "interrupted"), sweep.log()
    assert done.run is not None and read_info(Path(done.run))["status"] == "finished"
    assert done.units is not None and len(done.units) == min(2, len(os.sched_getaffinity(0)))


def wait_for_ranks(running: Running, sweep: Sweep, num_finished: int) -> tuple[int, int]:
    """The processes of the job that follows so many finished ones, once there are two."""
    while running.is_alive():
        ready = any(sweep.path.glob("runs/.sweeps/*/sweep.json")) and len(sweep.runs()) == num_finished
        for first in children(running.pid) if ready else []:
            for rank in children(first):
                if RANK in command_of(rank):
                    return first, rank
        time.sleep(0.05)
    pytest.fail(f"no job of two processes\n{sweep.log()}")


def check_processors(first: int, rank: int, sweep: Sweep) -> None:
    """Each has its part of those that the job has."""
    (job,) = sweep.folder().jobs()
    assert job.is_pinned == can_pin()
    if job.is_pinned:
        units = [int(unit) for unit in job.units or []]
        assert [sorted(os.sched_getaffinity(pid)) for pid in (first, rank)] == [part(units, 0, 2), part(units, 1, 2)]


def is_there(pid: int) -> bool:
    """Whether the process is alive; of one that has ended and was not waited for it is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
