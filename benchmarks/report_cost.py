"""What a report costs: N made-up runs of 200 logged rows and 200 validation pairs, in a process of its own.

    python benchmarks/report_cost.py            500 runs: 5 losses, 10 betas, 10 seeds
    python benchmarks/report_cost.py 45         45 runs: 3 losses, 5 betas, 3 seeds

Prints the CPU and wall seconds of `dpo-lab report`, its peak memory, and the size of the page.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.report.folders import write_run  # noqa: E402 - found by the line above

SHAPES = {500: (5, 10, 10), 45: (3, 5, 3)}
LOSSES = ("sigmoid", "ipo", "hinge", "robust", "kto")
NUM_ROWS, VALIDATE_EVERY, NUM_PAIRS = 200, 20, 200


def make_runs(folder: Path, shape: tuple[int, int, int]) -> None:
    """Runs of so many losses, betas and seeds; numbers like those of a real run, curve by curve."""
    generator = np.random.default_rng(0)
    num_losses, num_betas, num_seeds = shape
    for loss in LOSSES[:num_losses]:
        for beta in np.geomspace(0.01, 1, num_betas).tolist():
            for seed in range(num_seeds):
                metrics = [_row(step, beta, generator) for step in range(1, NUM_ROWS + 1)]
                metrics[-1] |= {"samples/kl": 1 / (1 + beta) + generator.normal(0, 0.05), "samples/true_reward": 1.0}
                shifts = generator.normal((0.5, -0.5), 2.0, (NUM_PAIRS, 2))
                pairs = {"chosen": shifts[:, 0].tolist(), "rejected": shifts[:, 1].tolist()}
                write_run(folder, loss=loss, beta=round(beta, 4), seed=seed, metrics=metrics, pairs=pairs)


def _row(step: int, beta: float, generator: np.random.Generator) -> dict[str, float]:
    stems = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen")
    stems += ("logps/rejected", "log_ratios/chosen", "log_ratios/rejected", "lengths/chosen", "lengths/rejected")
    sides = ("train", "val") if step % VALIDATE_EVERY == 0 else ("train",)
    values = {f"{side}/{stem}": float(generator.normal(0.6, 0.1)) for side in sides for stem in stems}
    return {"step": step, "epoch": step / NUM_ROWS, "examples_seen": 8 * step, "train/grad_norm": 1.0, **values}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    if count not in SHAPES:
        sys.exit(f"one of {', '.join(map(str, SHAPES))} runs")
    with tempfile.TemporaryDirectory() as scratch:
        runs = Path(scratch) / "runs"
        make_runs(runs, SHAPES[count])
        started = time.monotonic()
        command = [sys.executable, "-m", "dpo_lab.commands.cli", "report", str(runs)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.monotonic() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (runs / ".reports" / "runs" / "report.html").stat().st_size
    print(
        f"{count} runs: {used.ru_utime + used.ru_stime:.1f} CPU s, {wall:.1f} s, "
        f"{used.ru_maxrss / 1024:.0f} MiB, page of {size / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    main()
