"""The picture of one run: its curves, and what its samples were worth before and after."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dpo_lab.run import Run

PANELS = (
    ("loss", "loss"),
    ("rewards/accuracies", "accuracy (ties count one half)"),
    ("rewards/margins", "reward margin"),
)
SAMPLES = (
    ("samples/true_reward", "mean true reward of fresh samples"),
    ("samples/kl", "KL(policy || reference) on fresh samples, nats"),
)
TRAIN, VALIDATION = "#4c72b0", "#c44e52"


def draw_run(run: Run, path: Path) -> None:
    """Write a PNG with a panel for every curve that `run` has; training as points, smoothed, and validation as dots."""
    panels = [
        (name, title)
        for name, title in PANELS
        if any(f"{side}/{name}" in row for row in run.metrics for side in ("train", "val"))
    ]
    bars = [(name, title) for name, title in SAMPLES if sum(name in row for row in run.metrics) >= 2]
    figure = Figure(figsize=(4.2 * max(1, len(panels) + len(bars)), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, max(1, len(panels) + len(bars)), squeeze=False)[0]
    for axis, (name, title) in zip(axes, panels, strict=False):
        _draw_curve(axis, run, name, title)
    for axis, (name, title) in zip(axes[len(panels) :], bars, strict=True):
        _draw_before_and_after(axis, run, name, title)
    figure.suptitle(f"{run.path.parent.name}/{run.path.name}", fontsize=9)
    figure.savefig(path, dpi=110)


def smooth(values: list[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average without the bias to its first value."""
    smoothed, total, norm = [], 0.0, 0.0
    for value in values:
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        smoothed.append(total / norm)
    return smoothed


def _points(run: Run, name: str) -> tuple[list[float], list[float]]:
    known = [(row["step"], row[name]) for row in run.metrics if name in row and math.isfinite(row[name])]
    return [step for step, _ in known], [value for _, value in known]


def _draw_curve(axis: Axes, run: Run, name: str, title: str) -> None:
    steps, values = _points(run, f"train/{name}")
    axis.plot(steps, values, ".", color=TRAIN, alpha=0.25, markersize=3)
    axis.plot(steps, smooth(values), color=TRAIN, label="train, smoothed")
    steps, values = _points(run, f"val/{name}")
    if steps:
        axis.plot(steps, values, "o-", color=VALIDATION, markersize=4, label="validation")
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("optimizer step")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def _draw_before_and_after(axis: Axes, run: Run, name: str, title: str) -> None:
    rows = [row for row in run.metrics if name in row]
    first, last = rows[0], rows[-1]
    heights = [first[name], last[name]]
    bars = axis.bar(
        ["before", "after"],
        heights,
        yerr=[first[f"{name}_ci95"], last[f"{name}_ci95"]],
        capsize=4,
        color=[TRAIN, VALIDATION],
        width=0.55,
    )
    axis.bar_label(bars, labels=[f"{height:.2f}" for height in heights], fontsize=9, padding=3)
    axis.axhline(0, color="black", linewidth=0.6)
    axis.margins(y=0.2)
    axis.set_title(title, fontsize=10)
