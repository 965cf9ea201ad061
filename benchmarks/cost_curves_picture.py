"""Draws what cost_curves.py has measured: CPU seconds a step and its memory, a column of panels an axis.

python benchmarks/cost_curves_picture.py RECORD.json PICTURE.png
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cost_curves import AXES
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = {"shared": "#1f618d", "packed": "#28b463", "padded": "#e59866"}
Found = Mapping[str, Any]
READ_X: dict[str, tuple[str, Callable[[Found], float]]] = {
    "tokens": ("unique tokens a step", lambda found: found["unique_tokens"]),
    "prompt": ("tokens of the prompt", lambda found: found["point"]["prompt"]),
    "response": ("tokens of a response", lambda found: found["point"]["response"]),
    "responses": ("responses behind a prompt", lambda found: found["point"]["responses"]),
    "vocabulary": ("vocabulary", lambda found: found["point"]["vocab"]),
    "size": ("weights, millions", lambda found: found["num_weights"] / 1e6),
}
ROWS: tuple[tuple[str, Callable[[Found], float]], ...] = (
    ("CPU seconds a step", lambda found: found["cpu_seconds"]),
    ("memory of a step, MB", lambda found: found["step_bytes"] / 1e6),
)


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """Write a PNG; all axes begin at zero, so that what is proportional lies on a line through the corner."""
    axes = [axis for axis in AXES if axis in summary["curves"]]
    figure = Figure(figsize=(3.2 * len(axes), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(ROWS), len(axes), squeeze=False)
    for column, axis in enumerate(axes):
        title, read_x = READ_X[axis]
        for row, (label, read_y) in enumerate(ROWS):
            panel: Axes = grid[row][column]
            for attention, colour in COLOURS.items():
                found = [one for one in summary["curves"][axis] if one["point"]["attention"] == attention]
                if found:
                    panel.plot([*map(read_x, found)], [*map(read_y, found)], "o-", color=colour, label=attention)
            panel.set_xlim(left=0)
            panel.set_ylim(bottom=0)
            panel.tick_params(labelsize=8)
            panel.spines[["top", "right"]].set_visible(False)
            if column == 0:
                panel.set_ylabel(label, fontsize=9)
        grid[0][column].legend(fontsize=8, frameon=False)
        grid[-1][column].set_xlabel(title, fontsize=9)
    figure.savefig(path, dpi=100, format="png")


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text())["summary"], Path(sys.argv[2]))
