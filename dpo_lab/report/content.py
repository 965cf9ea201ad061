"""What a report is made of, whatever it is written as: sections of text, tables and charts."""

import base64
import csv
import io
import math
import re
from dataclasses import dataclass, field
from typing import Any, final

from matplotlib.figure import Figure

Value = str | float | int | None


@final
@dataclass(frozen=True)
class Table:
    """`name` is a file's name; numbers stay numbers until they are written. `note` stands below."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[list[Value]]
    note: str = ""

    def csv(self) -> str:
        """All digits; what is unknown is empty."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([[_raw(value) for value in row] for row in self.rows])
        return buffer.getvalue()

    def link(self) -> str:
        """The CSV as an address that holds it."""
        return "data:text/csv;charset=utf-8;base64," + base64.b64encode(self.csv().encode()).decode()


@final
@dataclass(frozen=True)
class Chart:
    """A picture and the numbers in it."""

    name: str
    title: str
    caption: str
    figure: Figure
    data: Table


@final
@dataclass(frozen=True)
class Section:
    name: str
    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    numbers: list[Table] = field(default_factory=list)
    """Tables that are only offered as CSV."""


@final
@dataclass(frozen=True)
class Report:
    """`main` is the table of cells: table.csv and the LaTeX table."""

    title: str
    summary: list[str]
    sections: list[Section]
    main: Table


def text(value: Value) -> str:
    """A cell as people read it: three or four digits, nothing for what is unknown.

    >>> [text(value) for value in (0.123456, 1234.5, float("nan"), 3, "ipo", 1e-7)]
    ['0.1235', '1234', '', '3', 'ipo', '1e-07']
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"
    return str(value)


def with_interval(mean: float, low: float, high: float) -> str:
    """``0.62 [0.58, 0.66]``; the mean alone where there is no interval."""
    if math.isnan(mean):
        return ""
    if math.isnan(low) or math.isnan(high):
        return f"{mean:.4g}"
    # A mean of differences that cancel is nothing but rounding.
    mean = 0.0 if abs(mean) < 1e-9 * (high - low) else mean
    return f"{mean:.4g} [{low:.3g}, {high:.3g}]"


def p_text(p: float) -> str:
    """>>> p_text(0.00001), p_text(0.0312), p_text(float("nan"))
    ('< 0.001', '0.031', '')
    """
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def _raw(value: Value) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def file_name(words: str) -> str:
    """A name for a file and an id: letters, digits and dashes.

    >>> file_name("kl-val/rewards/../x")
    'kl-val-rewards-x'
    """
    return re.sub(r"\W+", "-", words, flags=re.ASCII).strip("-")
