"""A report as files: one page, Markdown, CSV, LaTeX, and its charts as SVG and PNG."""

import html
import math
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dpo_lab.report import charts
from dpo_lab.report.content import Report, Table, Value, text
from dpo_lab.report.pictures import title_of
from dpo_lab.run.links import own_folder
from dpo_lab.whole_files import write_whole

TEMPLATE = Path(__file__).with_name("page.html.j2")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
MOST_EMBEDDED = 1_000_000
"""Bytes of a CSV that the page holds itself; a larger one lies in charts/ alone, so that the page stays light."""
_VERDICTS = ("better", "worse", "holds", "refuted")


def write_report(report: Report, folder: Path) -> None:
    """Write report.html, report.md, table.csv, table.tex and charts/*.svg, *.png, *.csv into `folder`."""
    pictures = {chart.name: chart for section in report.sections for chart in section.charts}
    drawn = {name: charts.svg(chart.figure, name) for name, chart in pictures.items()}
    own_folder(folder, "charts").mkdir(parents=True, exist_ok=True)
    for old in (path for ending in ("svg", "png", "csv") for path in (folder / "charts").glob(f"*.{ending}")):
        old.unlink()  # of an earlier report with other charts
    for table in (table for section in report.sections for table in section.numbers):
        _write(folder / "charts" / f"{table.name}.csv", table.csv())
    for name, chart in pictures.items():
        _write(folder / "charts" / f"{name}.svg", drawn[name].replace("<svg ", '<svg style="color:#000" ', 1))
        write_whole(folder / "charts" / f"{name}.png", charts.png(chart.figure))
    _write(folder / "table.csv", report.main.csv())
    _write(folder / "table.tex", latex(report))
    _write(folder / "report.md", markdown(report))
    _write(folder / "report.html", page(report, drawn))


def page(report: Report, drawn: Mapping[str, str]) -> str:
    """The page. Every text is escaped; only `drawn`, by chart, goes in as it is."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    marked = {name: Markup(picture) for name, picture in drawn.items()}
    return template.render(report=report, drawn=marked, text=text, kind=_kind, most=MOST_EMBEDDED)


def markdown(report: Report) -> str:
    """The same without colours: tables as pipes, charts as links to their PNGs."""
    lines = [f"# {_plain(report.title)}", "", *(f"{_plain(line)}\n" for line in report.summary)]
    for section in report.sections:
        lines += [f"## {_plain(section.title)}", "", *(f"{_plain(paragraph)}\n" for paragraph in section.paragraphs)]
        for table in section.tables:
            lines += [
                f"### {_plain(table.title)}",
                "",
                *_pipes(table),
                "",
                *([_plain(table.note), ""] if table.note else []),
            ]
        for chart in section.charts:
            lines += [f"![{_plain(chart.title)}](charts/{chart.name}.png)", ""]
        for table in section.numbers:
            lines += [f"{_plain(table.title)}: charts/{table.name}.csv", ""]
    return "\n".join(lines)


def latex(report: Report) -> str:
    """The table of cells for a paper (needs the package booktabs): mean and half of the interval of each metric."""
    columns = report.main.columns
    first = columns.index("seeds") + 1
    metrics = [name for name in columns if f"{name} low" in columns]
    place = {name: number for number, name in enumerate(columns)}
    header = " & ".join(_latex(name) for name in (*columns[:first], *map(title_of, metrics)))
    rows = [
        " & ".join(
            [_latex(text(value)) for value in row[:first]]
            + [_plus_minus(row[place[name]], row[place[f"{name} low"]]) for name in metrics]
        )
        + r" \\"
        for row in report.main.rows
    ]
    opening = rf"\begin{{tabular}}{{{'l' * (first - 1)}{'r' * (1 + len(metrics))}}}"
    lines = [opening, r"\toprule", rf"{header} \\", r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines)


def _plus_minus(mean: Value, low: Value) -> str:
    """Two digits of the half width, and as many decimals of the mean."""
    if not isinstance(mean, int | float) or math.isnan(mean):
        return ""
    if not isinstance(low, int | float) or not mean > low:
        return f"${mean:.4g}$"
    half = mean - low
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return rf"${mean:.{decimals}f} \pm {half:.{decimals}f}$"


def _kind(value: Value) -> str:
    if isinstance(value, int | float):
        return "number"
    word = value or ""
    if word in _VERDICTS:
        return word
    if len(word) > 60:
        return "long"
    return "interval" if word.endswith("]") or word.startswith(("<", ">")) else ""


def _pipes(table: Table) -> list[str]:
    rows = [[_plain(text(value)).replace("|", r"\|") for value in row] for row in table.rows]
    lines = [[_plain(column).replace("|", r"\|") for column in table.columns], ["---"] * len(table.columns), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _plain(words: str) -> str:
    """One line in which no word is markup."""
    return html.escape(" ".join(words.split()), quote=False).replace("`", "&#96;").replace("[", r"\[")


def _latex(words: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in words)


def _write(path: Path, content: str) -> None:
    write_whole(path, content.encode("utf-8", errors="backslashreplace"))
