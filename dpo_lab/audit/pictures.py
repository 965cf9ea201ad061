"""Pictures of an audit, from its numbers alone."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Audit = dict[str, Any]

COLORS = {"prompt": "#8c8c8c", "chosen": "#4c72b0", "rejected": "#c44e52"}
NUM_FEATURES = 8


def draw_audit(audit: Audit, folder: Path) -> list[str]:
    """Write PNG files into `folder` and return their names: lengths, and what the surface gives away."""
    names = []
    unit = "tokens" if "tokens" in audit["lengths"] else "characters"
    lengths = audit["lengths"][unit]
    if lengths["prompt"]["num"]:
        _draw_lengths(lengths, unit, audit["fitting"], folder / "lengths.png")
        names.append("lengths.png")
    found = audit["surface"]["pairs"]
    if found is not None:
        _draw_surface(found, lengths["longer_wins"], unit, folder / "surface.png")
        names.append("surface.png")
    return names


def _figure(num_panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.8 * num_panels, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, num_panels, squeeze=False)[0])


def _draw_lengths(lengths: Audit, unit: str, fits: Audit | None, path: Path) -> None:
    figure, (axis,) = _figure(1)
    for side, color in COLORS.items():
        histogram = lengths[side].get("histogram")
        if histogram:
            axis.stairs(histogram["counts"], histogram["edges"], color=color, label=side, linewidth=1.5)
    if unit == "tokens" and fits is not None:
        axis.axvline(fits["max_length"], color="black", linestyle=":", label="data.max_length")
    axis.set_xscale("log")
    axis.set_xlabel(unit)
    axis.set_title("lengths", fontsize=10)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _draw_surface(found: Audit, won: Audit | None, unit: str, path: Path) -> None:
    groups = [] if won is None else won["by_difference"]
    figure, axes = _figure(2 if groups else 1)
    shown = [one for one in found["single"] if one["num_different"]][:NUM_FEATURES][::-1]
    bars = [("all features", found["all_features"]), ("length alone", found["length_only"])]
    rows = [(one["feature"], one) for one in shown] + [bar for bar in bars[::-1] if bar[1] is not None]
    for place, (name, one) in enumerate(rows):
        color = COLORS["chosen"] if name in ("all features", "length alone") else COLORS["prompt"]
        axes[0].plot([one["low"], one["high"]], [place, place], color=color)
        axes[0].plot(one["estimate"], place, "o", color=color, markersize=5)
    axes[0].set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axes[0].axvline(0.5, color="black", linewidth=0.6)
    axes[0].set_title("accuracy held out (blue); share in which chosen has more (grey)", fontsize=8)
    if groups:
        _draw_by_difference(axes[1], groups, unit)
    figure.savefig(path, dpi=110)


def _draw_by_difference(axis: Axes, groups: list[Audit], unit: str) -> None:
    at = [group["ratio"] for group in groups]
    estimates = [group["estimate"] for group in groups]
    low = [group["estimate"] - group["low"] for group in groups]
    high = [group["high"] - group["estimate"] for group in groups]
    axis.errorbar(at, estimates, yerr=[low, high], fmt="o-", color=COLORS["chosen"], capsize=3, markersize=4)
    axis.axhline(0.5, color="black", linewidth=0.6)
    axis.set_xscale("log")
    axis.set_xlabel(f"longer / shorter, {unit}")
    axis.set_title("how often the longer response wins, 95 %", fontsize=10)
