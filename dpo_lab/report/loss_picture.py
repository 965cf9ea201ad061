"""Pictures of losses: loss and gradient weight against the margin, as PNG and in a terminal."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.text import Text

from dpo_lab.catalogue.curve import Curve, Picture

PANELS = (("loss", "loss"), ("weight", "gradient weight: minus d loss / d margin"))
# Light to dark as the knob grows; the default in the middle.
COLOURS = ("#7fb3d5", "#1f618d", "#e59866")
TERMINAL = (("cyan", "·"), ("bold", "●"), ("yellow", "x"))
KIND_COLOURS = {
    "pairs with a reference": "#1f618d",
    "pairs without a reference": "#117a65",
    "single labels": "#7d3c98",
    "lists": "#b9770e",
    "likelihood and mixtures": "#566573",
}
LIGHT, GREY = "55", "#999999b0"
COLUMNS = 6


def draw_loss(picture: Picture, path: Path) -> None:
    """Write a PNG with the two panels of one loss."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (name, title) in zip(figure.subplots(1, 2), PANELS, strict=True):
        for curve, colour in _coloured(picture):
            axis.plot(
                curve.margin,
                _values(curve, name),
                color=colour,
                linewidth=2.2 if curve.is_default else 1.4,
                label=f"{curve.label} (default)" if curve.is_default else curve.label,
            )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("margin, chosen minus rejected, nats")
        _frame(axis, with_zero=name == "weight")
    if len(picture.curves) > 1:
        figure.axes[0].legend(fontsize=9)
    figure.suptitle(picture.name)
    figure.savefig(path, dpi=110, format="png")


def draw_gallery(pictures: Sequence[Picture], path: Path) -> None:
    """Write a PNG with all of `pictures`, in their order: over each other loss and gradient weight of one loss."""
    num_rows = math.ceil(len(pictures) / COLUMNS)
    figure = Figure(figsize=(2.35 * COLUMNS, 2.75 * num_rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    cells = figure.subfigures(num_rows, COLUMNS, squeeze=False).reshape(-1)
    for cell, picture in zip(cells, pictures, strict=False):
        axes = cell.subplots(2, 1, sharex=True)
        for axis, (name, _) in zip(axes, PANELS, strict=True):
            for curve, colour in _shaded(picture):
                axis.plot(curve.margin, _values(curve, name), color=colour, linewidth=1.6 if curve.is_default else 1.0)
            _frame(axis, with_zero=name == "weight", labelsize=6)
            axis.locator_params(nbins=4)
            axis.set_ylabel(name.replace("weight", "gradient weight"), fontsize=6)
        axes[1].set_xlabel("margin, nats", fontsize=6)
        cell.suptitle(picture.name, fontsize=10, fontweight="bold", color=KIND_COLOURS[picture.kind])
    kinds = dict.fromkeys(picture.kind for picture in pictures)
    handles = [Line2D([], [], color=KIND_COLOURS[kind], label=kind) for kind in kinds]
    handles += [
        Line2D([], [], color=KIND_COLOURS["pairs with a reference"] + LIGHT, label="knob halved"),
        Line2D([], [], color=GREY, label="doubled"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8.5, frameon=False)
    figure.savefig(path, dpi=90, format="png")


def terminal_lines(picture: Picture, width: int, height: int = 11) -> list[Text]:
    """The two panels as lines of characters, at most `width` wide: side by side from 76 columns on, else stacked."""
    legend = Text("  ").join(
        Text(f"{glyph} {curve.label}{' (default)' if curve.is_default else ''}", style=style)
        for curve, (style, glyph) in _styled(picture)
        if curve.label
    )
    panels = [
        _panel(picture, name, title.partition(":")[0], width if width < 76 else (width - 3) // 2, height)
        for name, title in PANELS
    ]
    if width < 76:
        return [legend, *(line for panel in panels for line in panel)]
    return [legend, *(Text("   ").join(lines) for lines in zip(*panels, strict=True))]


def _panel(picture: Picture, name: str, title: str, width: int, height: int) -> list[Text]:
    values = [value for curve in picture.curves for value in getattr(curve, name) if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if name == "weight" or 0 < low < 0.1 * high:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-9 * max(abs(low), abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    margin = picture.curves[0].margin
    num_columns = width - 9
    grid = [[(" ", "")] * num_columns for _ in range(height)]
    for column in range(num_columns):
        grid[_row(0.0, low, high, height)][column] = ("─", "dim") if low <= 0 <= high else grid[-1][column]
    for row in grid:
        row[num_columns // 2] = ("│", "dim")
    # The default last, so that it lies above the others.
    for curve, (style, glyph) in sorted(_styled(picture), key=lambda styled: styled[0].is_default):
        shown = getattr(curve, name)
        for column in range(num_columns):
            value = shown[round(column * (len(shown) - 1) / (num_columns - 1))]
            if value is not None:
                grid[_row(value, low, high, height)][column] = (glyph, style)
    labels = {0: f"{high:.3g}", height - 1: f"{low:.3g}"}
    lines = [Text(f"{title:^{width}}", style="bold")]
    for number, row in enumerate(grid):
        lines.append(Text.assemble((f"{labels.get(number, ''):>7} ┤", "dim"), *row))
    ends = f"{margin[0]:.3g}", f"{margin[-1]:.3g}"
    middle = "margin, nats".center(num_columns - len(ends[0]) - len(ends[1]))
    lines.append(Text(f"{'':9}{ends[0]}{middle}{ends[1]}", style="dim"))
    return lines


def _row(value: float, low: float, high: float, height: int) -> int:
    inside = min(max((high - value) / (high - low), 0.0), 1.0)
    return round(inside * (height - 1))


def _values(curve: Curve, name: str) -> list[float]:
    return [math.nan if value is None else value for value in getattr(curve, name)]


def _coloured(picture: Picture) -> list[tuple[Curve, str]]:
    colours = COLOURS if len(picture.curves) > 1 else COLOURS[1:2]
    return list(zip(picture.curves, colours, strict=True))


def _shaded(picture: Picture) -> list[tuple[Curve, str]]:
    """The default in the colour of its kind; less of the knob lighter, more of it grey."""
    colour = KIND_COLOURS[picture.kind]
    colours = (colour + LIGHT, colour, GREY) if len(picture.curves) > 1 else (colour,)
    return list(zip(picture.curves, colours, strict=True))


def _styled(picture: Picture) -> list[tuple[Curve, tuple[str, str]]]:
    styles = TERMINAL if len(picture.curves) > 1 else TERMINAL[1:2]
    return list(zip(picture.curves, styles, strict=True))


def _frame(axis: Axes, *, with_zero: bool, labelsize: float = 9) -> None:
    axis.axvline(0, color="black", linewidth=0.5)
    if with_zero:
        axis.axhline(0, color="black", linewidth=0.5)
    axis.grid(alpha=0.3)
    axis.tick_params(labelsize=labelsize)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
