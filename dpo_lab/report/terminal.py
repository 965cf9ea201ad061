"""One run, shown in a terminal: its curves, its samples side by side, what they were worth."""

import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dpo_lab.report.curves import PANELS, SAMPLES, smooth
from dpo_lab.run import Run

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 32


def show_run(run: Run, console: Console, *, num_samples: int = 6) -> None:
    """Print all that `run` has of curves, `num_samples` samples and means over all samples."""
    curves = Table(title="training, smoothed, from the first optimizer step to the last")
    for column in ("curve", "first", "", "last", "validation"):
        curves.add_column(column, no_wrap=True)
    for name, title in PANELS:
        values = [value for value in run.curve(f"train/{name}")[1] if math.isfinite(value)]
        if values:
            smoothed = smooth(values)
            validated = run.curve(f"val/{name}")[1]
            ends = f"{validated[0]:.3f} to {validated[-1]:.3f}" if validated else ""
            curves.add_row(
                title.partition(" (")[0], f"{smoothed[0]:.3f}", sparkline(smoothed), f"{smoothed[-1]:.3f}", ends
            )
    console.print(curves)
    samples = read_samples(run.path)
    if samples:
        console.print(_side_by_side(samples, num_samples))
        console.print(_means(run))


def sparkline(values: list[float], width: int = WIDTH) -> str:
    """One character a point, at most `width` of them, evenly chosen; the lowest is ▁, the highest █.

    >>> sparkline([0.0, 1.0, 2.0, 7.0])
    '▁▂▃█'
    """
    count = min(width, len(values))
    chosen = [values[index * (len(values) - 1) // max(1, count - 1)] for index in range(count)]
    low, high = min(chosen), max(chosen)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in chosen)


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """Rows of samples.jsonl; none where no samples were drawn."""
    file = folder / "samples.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def _side_by_side(samples: list[dict[str, Any]], num_samples: int) -> Table:
    steps = sorted({sample["step"] for sample in samples})
    before, after = ([sample for sample in samples if sample["step"] == step] for step in (steps[0], steps[-1]))
    table = Table(title="the same prompts before and after", show_lines=True)
    for column in ("prompt", "before", "reward", "after", "reward"):
        table.add_column(column, justify="right" if column == "reward" else "left")
    for old, new in list(zip(before, after, strict=True))[:num_samples]:
        table.add_row(old["prompt"], old["response"].strip(), _reward(old), new["response"].strip(), _reward(new))
    return table


def _reward(sample: dict[str, Any]) -> str:
    return "" if sample["true_reward"] is None else f"{sample['true_reward']:+g}"


def _means(run: Run) -> Table:
    table = Table(title="means over fresh samples (95 % interval)")
    for column in ("", "before", "after"):
        table.add_column(column)
    for name, title in SAMPLES:
        rows = [row for row in run.metrics if name in row]
        if rows:
            table.add_row(
                title, *(f"{round(row[name], 2) + 0.0:.2f} ± {row[name + '_ci95']:.2f}" for row in (rows[0], rows[-1]))
            )
    return table
