"""A process that SLURM tells that it will be stopped: it saves, says so, and leaves requeueing to the job's script."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from dpo_lab.run import read_run
from dpo_lab.run.checkpoint import saved_checkpoints
from tests.small import SMALL

IN_SLURM = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1"}


def test_sigusr1_in_a_slurm_job(root: Path):
    """Lightning has a way of its own there: it saves into the working folder and calls scontrol."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dpo_lab.commands.cli", "train", *SMALL, "trainer.max_steps=20000"],
        env={**os.environ, **IN_SLURM, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "run folder" in line:
            break
    (folder,) = Path("runs").glob("*/*/")
    wait_for_rows(folder / "metrics.jsonl")
    process.send_signal(signal.SIGUSR1)
    try:
        _, rest = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 138, rest
    assert "Traceback" not in rest and "requeue" not in rest
    run = read_run(folder)
    assert run.status == "interrupted"
    (last,) = saved_checkpoints(folder / "checkpoints")
    assert last.stem == f"step-{run.metrics[-1]['step']:08d}"
    assert {path.name for path in Path().iterdir()} == {"runs", "cache"}


def wait_for_rows(path: Path) -> None:
    """Until training has begun: rows are written at least every second."""
    deadline = 120
    for _ in range(deadline * 10):
        if path.exists() and path.read_text().count("\n") > 2:
            return
        signal.sigtimedwait([], 0.1)
    raise AssertionError(f"no rows in {path} after {deadline} s")
