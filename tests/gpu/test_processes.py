"""Runs as processes of their own: interrupted on the device, compiled, and side by side in a sweep."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dpo_lab.run import read_run
from dpo_lab.sweep.record import SweepFolder
from tests.gpu.wide import write_wide_model
from tests.small import SMALL
from tests.torture.torture import compare

PLENTY = (*SMALL, "model.hidden_size=64", "trainer=gpu", "trainer.max_steps=300", "trainer.checkpoint_every=20")


def start(root: Path, *overrides: str, visible: str | None = None) -> "subprocess.Popen[str]":
    """`visible`: the devices that it may see; None is those that this process may."""
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    devices = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return subprocess.Popen(
        [sys.executable, "-m", "dpo_lab.commands.cli", "train", *overrides],
        env={**os.environ, "PYTHONPATH": path, **devices},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> int:
    _, said = process.communicate(timeout=300)
    if process.returncode not in (0, 143, -signal.SIGKILL):
        raise AssertionError(said[-4000:])
    return process.returncode


def wait_for_checkpoint(process: "subprocess.Popen[str]", runs: Path) -> None:
    deadline = time.monotonic() + 300
    while not list(runs.glob("*/*/checkpoints/step-*.json")):
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize(
    "knobs",
    [(), ("trainer.precision=32-true",), ("model.dropout=0.2", "trainer.micro_batch_size=3")],
    ids=["bfloat16", "float32", "dropout"],
)
def test_what_was_interrupted_goes_on_to_the_same_bits(knobs: tuple[str, ...], number: signal.Signals, root: Path):
    """The run that is left in peace is a process too, so nothing that was tuned or drawn in one is there in another."""
    whole = start(root, *PLENTY, *knobs, "runs_dir=whole")
    assert finish(whole) == 0
    cut = start(root, *PLENTY, *knobs, "runs_dir=cut")
    wait_for_checkpoint(cut, Path("cut"))
    cut.send_signal(number)
    assert finish(cut) == (143 if number == signal.SIGTERM else -number)
    assert finish(start(root, *PLENTY, *knobs, "runs_dir=cut")) == 0
    (left,), (found,) = (list(Path(name).glob("*/*/")) for name in ("whole", "cut"))
    assert compare(found, left) == []
    assert len(read_run(found).info["resumed"]) == 1


def test_compiled_layers_give_the_same_numbers(root: Path, tmp_path: Path):
    """One set of kernels for all layers and rows: before, around and after attention, and that of attention."""
    folder = write_wide_model(tmp_path / "model", "qwen2")
    command = [sys.executable, "-m", "tests.model.compiled_layers", str(folder), "cuda"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["graphs"] <= 6, found
    assert found["log_probs"] <= 1e-4
    assert found["gradients"] <= 1e-4
    assert found["repeats"] and found["same_names"]


def test_a_compiled_run_repeats_its_bits_in_another_process(root: Path):
    for runs in ("one", "two"):
        assert (
            finish(start(root, *SMALL, "model.hidden_size=64", "trainer=gpu", "model.compile=true", f"runs_dir={runs}"))
            == 0
        )
    (one,), (two,) = (list(Path(name).glob("*/*/")) for name in ("one", "two"))
    assert compare(two, one) == []


def test_jobs_of_a_sweep_take_turns_on_a_device(root: Path):
    """Two jobs and one device: the second begins where the first has ended."""
    sweep = start(root, "-m", *SMALL, "model.hidden_size=64", "trainer=gpu", "seed=1,2", visible="0")
    assert finish(sweep) == 0
    (folder,) = Path("runs/.sweeps").iterdir()
    first, second = sorted(SweepFolder(folder).jobs(), key=lambda job: job.started or 0.0)
    assert first.status == second.status == "finished"
    assert first.units == second.units == ["0"]
    assert first.started is not None and first.seconds is not None and second.started is not None
    assert second.started >= first.started + first.seconds
    assert {read_run(path).info["num_visible_devices"] for path in Path("runs").glob("default/*/")} == {1}
