"""Draws what step_cost.py has measured: CPU seconds a step and peak memory of each side, one row of panels a record.

    python benchmarks/step_cost_picture.py RECORD.json [RECORD.json ...] PICTURE.png

Bars begin at zero: a longer one costs more.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from step_cost import SIDES

OURS, THEIRS = "#1f618d", "#e59866"
PANELS = (("cpu_seconds_a_step", 1.0, "CPU seconds a step"), ("peak_bytes", 1e9, "peak memory, GB"))


def draw(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a PNG with a row of panels a record."""
    heights = [1.0 + 0.32 * len(record["summary"]) for record in records]
    figure = Figure(figsize=(10, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(records), len(PANELS), squeeze=False, height_ratios=heights, sharex="col")
    for row, record in zip(grid, records, strict=True):
        for axis, (name, unit, title) in zip(row, PANELS, strict=True):
            _bars(axis, record["summary"], name, unit)
            axis.set_title(f"{title}, {record['num_weights'] / 1e6:.1f} M weights", fontsize=10)
        row[1].set_yticklabels([])
    figure.savefig(path, dpi=110, format="png")


def _bars(axis: Axes, summary: Mapping[str, Mapping[str, float]], name: str, unit: float) -> None:
    values = [found[name] / unit for found in summary.values()]
    colours = [THEIRS if SIDES[side].is_trl else OURS for side in summary]
    bars = axis.barh(range(len(values)), values, color=colours)
    axis.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=9)
    axis.set_yticks(range(len(values)), [SIDES[side].title for side in summary], fontsize=9)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    *found, target = map(Path, sys.argv[1:])
    draw([json.loads(path.read_text()) for path in found], target)
