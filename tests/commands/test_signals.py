"""A run that is told to stop says so: exit code, status, and a W&B record that is closed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_lab.run import read_run
from tests.small import SMALL


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_run_as_interrupted(number: signal.Signals, exit_code: int, root: Path):
    overrides = [*SMALL, "trainer.max_epochs=null", "trainer.max_steps=20000", f"seed={exit_code}"]
    command = [sys.executable, "-m", "dpo_lab.commands.cli", "train", *overrides]
    environment_path = {"PYTHONPATH": str(root)}
    process = subprocess.Popen(
        ["env", *(f"{key}={value}" for key, value in environment_path.items()), *command],
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
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait() == exit_code, rest
    assert "Traceback" not in rest
    assert read_run(folder).status == "interrupted"


def wait_for_rows(path: Path) -> None:
    """Until training has begun: rows are written at least every second."""
    deadline = 120
    for _ in range(deadline * 10):
        if path.exists() and path.read_text().count("\n") > 2:
            return
        signal.sigtimedwait([], 0.1)
    raise AssertionError(f"no rows in {path} after {deadline} s")
