"""Charts of a report: few shapes, one look, drawn small enough for a phone and readable on light and dark."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

PALETTE = ("#3b7dd8", "#d9583b", "#2a9d5c", "#b8860b", "#8e5bd0", "#d0478f", "#1f9bb0", "#7a7a7a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SIZE = (4.3, 3.3)
MOST_LINES = len(PALETTE)
# Drawn in this colour, and turned into the text colour of the page: black on light, white on dark.
_INK = "#010203"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name from a run folder is no formula
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#808080",
    "grid.alpha": 0.25,
    "font.size": 10.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}


class Line(NamedTuple):
    """Points joined in their order; `low` and `high` are the ends of intervals (nan: none), drawn as band or bars."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


class Dots(NamedTuple):
    """Points by themselves, in the colour of the line of that number."""

    number: int
    x: Sequence[float]
    y: Sequence[float]


def draw_lines(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    is_band: bool = False,
    is_log: bool = False,
    dots: Sequence[Dots] = (),
    names: Sequence[str] = (),
    levels: Sequence[tuple[str, float]] = (),
) -> Figure:
    """Lines over a number, or over `names`; intervals as bands or as bars; dashed `levels` across."""
    ticks = sorted({x for line in lines for x in line.x})
    if is_log:
        # Side by side, since intervals at the same place hide each other.
        middle = (len(lines) - 1) / 2
        lines = [line._replace(x=[x * 1.04 ** (place - middle) for x in line.x]) for place, line in enumerate(lines)]
    names_of_lines = fit_labels([line.label for line in lines], 44)
    lines = [line._replace(label=label) for line, label in zip(lines, names_of_lines, strict=True)]
    num_rows = _legend_rows([*names_of_lines, *(label for label, _ in levels)])
    with mpl.rc_context(_STYLE):
        figure, axis = _figure(height=SIZE[1] + 0.18 * max(0, num_rows - 2))
        for number, line in enumerate(lines):
            _draw_line(axis, number, line, is_band=is_band)
        for each in dots:
            axis.plot(each.x, each.y, MARKERS[each.number], color=PALETTE[each.number], alpha=0.35, markersize=3.5)
        for number, (label, height) in enumerate(levels):
            style = ("--", ":", "-.")[number % 3]
            axis.axhline(height, color=_INK, linestyle=style, linewidth=1, label=label, alpha=0.7)
        if is_log:
            _log_axis(axis, ticks)
        if names:
            axis.set_xticks(range(len(names)), names, rotation=20)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        _legend(figure, axis)
        return figure


def draw_differences(
    labels: Sequence[str], intervals: Sequence[tuple[float, float, float]], is_clear: Sequence[bool], x_label: str
) -> Figure:
    """One line a label, from top to bottom: the difference and its interval, beside a line at 0."""
    with mpl.rc_context(_STYLE):
        figure, axis = _figure(height=0.9 + 0.27 * len(labels))
        places = range(len(labels), 0, -1)
        for place, (middle, low, high), clear in zip(places, intervals, is_clear, strict=True):
            colour = PALETTE[0] if clear else PALETTE[-1]
            axis.plot([low, high], [place, place], color=colour)
            axis.plot([middle], [place], "o", color=colour)
        axis.axvline(0, color=_INK, linewidth=0.8)
        _name_bars(axis, list(places), labels)
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(x_label, loc="right")  # long, and there is room under the labels
        return figure


def draw_shares(labels: Sequence[str], shares: Mapping[str, Sequence[float]], x_label: str) -> Figure:
    """One bar a label, from top to bottom, made of `shares` that add up to 1."""
    with mpl.rc_context(_STYLE):
        figure, axis = _figure(height=1.1 + 0.2 * _legend_rows(list(shares)) + 0.27 * len(labels))
        places = list(range(len(labels), 0, -1))
        left = [0.0] * len(labels)
        for number, (name, values) in enumerate(shares.items()):
            axis.barh(places, values, left=left, color=PALETTE[number], label=name, height=0.7)
            left = [start + value for start, value in zip(left, values, strict=True)]
        _name_bars(axis, places, labels)
        axis.set_xlim(0, 1)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(x_label)
        _legend(figure, axis)
        return figure


def svg(figure: Figure, name: str) -> str:
    """The picture as SVG that takes the colour and the font of the text around it; ids begin with `name`."""
    buffer = io.BytesIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(
            buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    drawn = buffer.getvalue().decode()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"|height="[\d.]+pt" width="[\d.]+pt"', "", drawn, count=1)
    drawn = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', drawn)
    drawn = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", drawn)
    return drawn.replace(_INK, "currentColor")


def png(figure: Figure) -> bytes:
    """The picture on white."""
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        FigureCanvasAgg(figure).print_figure(buffer, dpi=130, facecolor="white", format="png")
    return buffer.getvalue()


def fit_labels(labels: Sequence[str], most: int) -> list[str]:
    """Labels that leave room for their chart.

    Where one is longer than `most`, all lose the groups of their keys, if they still tell what they name apart; what is
    too long even so loses its middle.

    >>> fit_labels(["loss=ipo loss.beta=0.5 optimizer.lr=0.0003", "loss=ipo loss.beta=1 optimizer.lr=0.0003"], 30)
    ['ipo beta=0.5 lr=0.0003', 'ipo beta=1 lr=0.0003']
    """
    if max(map(len, labels), default=0) <= most:
        return list(labels)
    brief = [" ".join(_without_group(word) for word in label.split(" ")) for label in labels]
    chosen = brief if len(set(brief)) == len(set(labels)) else labels
    return [label if len(label) <= most else f"{label[: most - 12]}…{label[-11:]}" for label in chosen]


def _without_group(word: str) -> str:
    key, sign, value = word.partition("=")
    return value if key == "loss" else f"{key.rpartition('.')[2]}{sign}{value}"


def _name_bars(axis: Axes, places: Sequence[int], labels: Sequence[str]) -> None:
    """Labels at the left of bars; long ones in smaller letters, since a bar needs its room."""
    names = fit_labels(labels, 30)
    if any("…" in name for name in names):
        names = fit_labels(labels, 42)
    size = _STYLE["font.size"] * min(1.0, 30 / max(map(len, names), default=1))
    axis.set_yticks(list(places), names, fontsize=size)


def _figure(height: float = SIZE[1]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(SIZE[0], height), layout="constrained", facecolor="none")
    axis = figure.subplots()
    axis.set_facecolor("none")
    return figure, axis


def _draw_line(axis: Axes, number: int, line: Line, *, is_band: bool) -> None:
    colour = PALETTE[number]
    marker = "" if len(line.x) > 30 else MARKERS[number]
    axis.plot(line.x, line.y, marker=marker, color=colour, label=line.label)
    if not len(line.low) or all(math.isnan(low) for low in line.low):
        return
    if is_band:
        axis.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    else:
        below = [y - low for y, low in zip(line.y, line.low, strict=True)]
        above = [high - y for y, high in zip(line.y, line.high, strict=True)]
        axis.errorbar(line.x, line.y, yerr=[below, above], fmt="none", ecolor=colour, capsize=2.5, linewidth=1)


def _legend_rows(labels: Sequence[str]) -> int:
    """Rows of a legend: two labels beside each other where all are short."""
    return len(labels) if max(map(len, labels), default=0) > 20 else math.ceil(len(labels) / 2)


def _log_axis(axis: Axes, ticks: list[float]) -> None:
    axis.set_xscale("log")
    # matplotlib's own labels of powers are formulas, and formulas are off.
    axis.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    if len(ticks) <= 6:
        axis.set_xticks(ticks)
        axis.minorticks_off()


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        ncols = 1 if _legend_rows(labels) == len(labels) else 2
        figure.legend(handles, labels, loc="outside lower center", ncols=ncols)
