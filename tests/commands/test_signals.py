"""A run that is told to stop says so: exit code, status, and a W&B record that is closed."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from dpo_lab.run import read_run
from tests.small import SMALL


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_run_as_interrupted(number: signal.Signals, exit_code: int, root: Path):
    overrides = [*SMALL, "trainer.max_steps=20000", f"seed={exit_code}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dpo_lab.commands.cli", "train", *overrides],
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # A shell starts what runs in the background with Ctrl-C ignored, and that is inherited.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "run folder" in line:
            break
    (folder,) = Path("runs").glob("*/*/")
    wait_for_rows(folder / "metrics.jsonl")
    process.send_signal(number)
    try:
        _, rest = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == exit_code, rest
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
