"""Explanations as one HTML page that needs nothing else: no script, no network; every text is escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from jinja2 import Environment, StrictUndefined

from dpo_lab.explanation.learning import Histories, History
from dpo_lab.explanation.pieces import Piece
from dpo_lab.explanation.shown import Teller, signed
from dpo_lab.whole_files import write_whole

TEMPLATE = Path(__file__).with_name("page.html.j2")

MAX_POINTS = 4000
"""More marks than that hide each other, and make a page slow; then every so many-th pair of the ranking is drawn."""

LEFT, RIGHT, TOP, BOTTOM = 70.0, 625.0, 20.0, 360.0


@final
@dataclass(frozen=True)
class Table:
    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def tokens_page(title: str, lines: Sequence[str], sources: Sequence[str], tellers: Sequence[Teller]) -> str:
    """What one or two runs say of the examples at `sources`, token by token."""
    return _render(title=title, lines=lines, sources=sources, tellers=tellers, learning=None)


def learning_page(title: str, lines: Sequence[str], histories: Histories, tables: Sequence[Table]) -> str:
    """Mean margin of each pair against its spread, and `tables`."""
    shown = histories.pairs[:: 1 + len(histories.pairs) // MAX_POINTS]
    x_ticks, across = _axis([pair.spread for pair in shown], LEFT, RIGHT, floor=0.0)
    y_ticks, up = _axis([pair.mean for pair in shown], BOTTOM, TOP)
    points = [{"x": across(pair.spread), "y": up(pair.mean), "outcome": pair.outcome} for pair in shown]
    learning = {
        "points": points,
        "num_pairs": len(histories.pairs),
        "counts": {name: histories.num(name) for name in ("learnt", "forgotten", "never right")},
        "measure": histories.measure,
        "x_ticks": x_ticks,
        "y_ticks": y_ticks,
        "tables": tables,
    }
    return _render(title=title, lines=lines, sources=(), tellers=(), learning=learning)


def write_page(file: Path, page: str) -> None:
    """Whole or not at all; half a character, which no file can hold, as its number."""
    write_whole(file, page.encode("utf-8", errors="backslashreplace"))


def history_row(pair: History) -> dict[str, Any]:
    """What is told of one pair, by column."""
    return {
        "mean margin": pair.mean,
        "its standard deviation": pair.spread,
        "times scored": len(pair.steps),
        "share right": pair.share_right,
        "right for good from step": pair.learnt_at,
        "times forgotten": pair.num_forgotten,
        "outcome": pair.outcome,
    }


def _render(**given: Any) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(**given, signed=signed, strength=_strength, worth=_worth, cell=_cell)


def _strength(value: float, scale: float) -> str:
    return f"{min(abs(value) / scale, 1.0):.2f}"


def _worth(piece: Piece) -> str:
    """What is said of a piece when the pointer rests on it."""
    if len(piece.values) == 1:
        return signed(piece.value)
    names = [f"{token} " for token in piece.tokens] or [""] * len(piece.values)
    parts = ", ".join(name + signed(value) for name, value in zip(names, piece.values, strict=True))
    return f"{signed(piece.value)}, of {len(piece.values)} tokens: {parts}"


def _cell(value: Any) -> str:
    if value is None:
        return "never"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _axis(values: Sequence[float], start: float, end: float, floor: float | None = None) -> tuple[list[Mapping], Any]:
    """Five ticks, and what takes a value to its place between `start` and `end`."""
    low = min(values) if floor is None else floor
    high = max(*values, low + 1e-6)

    def place(value: float) -> float:
        return round(start + (value - low) / (high - low) * (end - start), 1)

    marks = [low + (high - low) * part / 4 for part in range(5)]
    return [{"at": place(mark), "text": f"{mark:.2g}"} for mark in marks], place
