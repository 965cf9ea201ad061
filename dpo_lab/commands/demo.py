"""`make demo`: the default run, and a look at what it did."""

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dpo_lab.commands import hydra_entry
from dpo_lab.run import Run, read_run

OVERRIDES = ("name=demo", "samples.num=1000", "trainer.validate_every=25")
NUM_SHOWN = 6


def main(argv: list[str]) -> int:
    """Train with `argv` over the demo's own overrides, then show the run; the exit code of the training."""
    wall, cpu = time.monotonic(), time.process_time()
    before = set(Path("runs/demo").glob("*/run.json"))
    code = hydra_entry.main([*OVERRIDES, *argv])
    if code != 0:
        return code
    new = set(Path("runs/demo").glob("*/run.json")) - before
    folder = max(new or before, key=lambda path: path.stat().st_mtime).parent
    show(read_run(folder), Console())
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    print(f"picture: {folder / 'report' / 'curves.png'}")
    print(f"took {wall:.0f} s ({cpu:.0f} CPU seconds)")
    return 0


def show(run: Run, console: Console) -> None:
    """Samples side by side, then means with their intervals."""
    samples = read_samples(run.path)
    steps = sorted({sample["step"] for sample in samples})
    old, new = ([sample for sample in samples if sample["step"] == step] for step in (steps[0], steps[-1]))
    table = Table(title="the same prompts before and after preference training", show_lines=True)
    for column in ("prompt", "supervised model", "reward", "after training", "reward"):
        table.add_column(column, justify="right" if column == "reward" else "left")
    for first, second in list(zip(old, new, strict=True))[:NUM_SHOWN]:
        table.add_row(
            first["prompt"],
            first["response"].strip(),
            f"{first['true_reward']:+.0f}",
            second["response"].strip(),
            f"{second['true_reward']:+.0f}",
        )
    console.print(table)
    rows = [row for row in run.metrics if "samples/true_reward" in row]
    summary = Table(title=f"means over {len(new)} fresh samples (95 % interval)")
    for column in ("", "before", "after"):
        summary.add_column(column)
    for name, title in (("samples/true_reward", "true reward"), ("samples/kl", "KL to the reference, nats")):
        summary.add_row(title, *(f"{row[name]:.2f} ± {row[name + '_ci95']:.2f}" for row in (rows[0], rows[-1])))
    console.print(summary)


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """Rows of samples.jsonl."""
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
