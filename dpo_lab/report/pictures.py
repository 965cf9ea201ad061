"""The charts of a study: which cells, which numbers; how they are drawn is `charts`' to know."""

import math
from collections.abc import Sequence

import numpy as np

from dpo_lab.report.behaviour import LENGTH_BINS, accuracy_by_length, displacement, trivial_accuracies
from dpo_lab.report.cells import Cell
from dpo_lab.report.charts import MOST_LINES, Dots, Line, draw_differences, draw_lines, draw_shares
from dpo_lab.report.compare import Comparison, lower_is_better
from dpo_lab.report.content import Chart, Table, Value, file_name
from dpo_lab.report.equal_kl import KL
from dpo_lab.report.pairs import match
from dpo_lab.report.priority import by_priority, cells_by_priority, height_of, left_out
from dpo_lab.report.selection import means_by_step
from dpo_lab.report.statistics import Estimate, estimate
from dpo_lab.report.study import Study

TITLES = {
    "val/rewards/accuracies": "validation accuracy",
    "val/rewards/margins": "validation margin, reward units",
    "val/log_ratios/margins": "validation margin, nats",
    "val/log_ratios/chosen": "chosen log-ratio, nats",
    "val/log_ratios/rejected": "rejected log-ratio, nats",
    "val/loss": "validation loss",
    "samples/kl": "KL(policy || reference), nats",
    "samples/true_reward": "true reward of samples",
}
CURVES = ("val/log_ratios/margins", "val/log_ratios/chosen")
OVER_BETA = ("val/log_ratios/margins", "val/log_ratios/chosen", KL, "samples/true_reward")
_OF_CURVES = ("cell", "step", "mean", "low", "high", "seeds")
MOST_FAMILIES = 6
MOST_BARS = 30


def title_of(metric: str) -> str:
    return TITLES.get(metric, metric)


def learning_curves(study: Study) -> list[Chart]:
    """For each family and metric a picture with a line a cell, and a band where there are seeds."""
    charts = []
    for number, (family, cells) in enumerate(list(by_priority(study).items())[:MOST_FAMILIES]):
        for metric in _curves(study):
            lines, rows = [], []
            for cell in cells:
                means = _means(cell, metric)
                rows += _rows(cell, means)
                ends = ([e.mean for e in means.values()], [e.low for e in means.values()])
                lines += [Line(_short(cell, family), list(means), *ends, [e.high for e in means.values()])] * bool(
                    means
                )
            if any(len(line.x) > 1 for line in lines):
                name = file_name(f"curve-{number}-{metric}")
                figure = draw_lines(lines[:MOST_LINES], "optimizer step", title_of(metric), is_band=True)
                title = f"{family}: {title_of(metric)}"
                caption = left_out(len(lines), MOST_LINES, "lines", "the smallest betas")
                charts.append(Chart(name, title, caption, figure, Table(name, title, _OF_CURVES, rows)))
    return charts


def all_curves(study: Study) -> Table:
    """The numbers of the learning curves of all families, whether they are drawn or not."""
    rows: list[list[Value]] = [
        [family, metric, *row]
        for family, cells in by_priority(study).items()
        for metric in _curves(study)
        for cell in cells
        for row in _rows(cell, _means(cell, metric))
    ]
    return Table("curves", "learning curves of all families", ("family", "metric", *_OF_CURVES), rows)


def over_beta(study: Study) -> list[Chart]:
    """Metrics against beta, a line a family; none where no family has two betas."""
    by_family = {
        name: cells
        for name, members in by_priority(study).items()
        if len(cells := [cell for cell in members if cell.beta is not None and cell.beta > 0]) > 1
    }
    charts = []
    for metric in dict.fromkeys((study.metric, *OVER_BETA)):
        lines, rows = [], []
        for name, cells in by_family.items():
            found = [(cell.beta or 0.0, estimate(list(cell.last(metric).values()))) for cell in cells]
            found = [(beta, e) for beta, e in found if e.count]
            rows += [[name, beta, e.mean, e.low, e.high, e.count] for beta, e in found]
            if found:
                columns = zip(*((beta, e.mean, e.low, e.high) for beta, e in found), strict=True)
                lines.append(Line(name, *map(list, columns)))
        if lines and len({value for line in lines for value in line.y}) > 1:
            name = file_name(f"beta-{metric}")
            title = f"{title_of(metric)} over beta"
            figure = draw_lines(lines[:MOST_LINES], "beta", title_of(metric), is_log=True)
            columns = ("family", "beta", "mean", "low", "high", "seeds")
            caption = left_out(len(lines), MOST_LINES, "lines")
            charts.append(Chart(name, title, caption, figure, Table(name, title, columns, rows)))
    return charts


def over_kl(study: Study, metrics: Sequence[str]) -> list[Chart]:
    """Metrics against KL: a dot a run, a line through the means of the cells of a family."""
    charts = []
    for metric in metrics:
        lines, dots, rows = [], [], []
        for name, cells in by_priority(study).items():
            runs = [(c.label, seed, run.last(KL), run.last(metric)) for c in cells for seed, run in c.runs.items()]
            runs = [run for run in runs if math.isfinite(run[2]) and math.isfinite(run[3])]
            labels = dict.fromkeys(label for label, *_ in runs)
            means = sorted(np.mean([run[2:] for run in runs if run[0] == label], axis=0).tolist() for label in labels)
            rows += [list(run) for run in runs]
            if means:
                if len(lines) < MOST_LINES:
                    dots.append(Dots(len(lines), [run[2] for run in runs], [run[3] for run in runs]))
                lines.append(Line(name, [kl for kl, _ in means], [value for _, value in means]))
        if lines:
            name = file_name(f"kl-{metric}")
            title = f"{title_of(metric)} over KL"
            figure = draw_lines(lines[:MOST_LINES], title_of(KL), title_of(metric), dots=dots)
            table = Table(name, title, ("cell", "seed", KL, metric), rows)
            charts.append(Chart(name, title, left_out(len(lines), MOST_LINES, "lines"), figure, table))
    return charts


def differences(study: Study, comparisons: Sequence[Comparison]) -> list[Chart]:
    """Every cell less the baseline, with the interval over seeds."""
    metric, by_label = study.metric, {one.cell.label: one for one in comparisons if math.isfinite(one.seeds.low)}
    cells = cells_by_priority(study, MOST_BARS + 1)  # the baseline is no bar
    shown = [by_label[cell.label] for cell in cells if cell.label in by_label]
    if not shown:
        return []
    rows: list[list[Value]] = [[one.cell.label, *one.seeds[:3]] for one in shown]
    title = f"{title_of(metric)} less the baseline's"
    better = "lower" if lower_is_better(metric) else "higher"
    caption = (
        "95 % interval over shared seeds, each for itself; blue: better or worse after Holm's correction; "
        f"{better} is better. The primary family of tests. {left_out(len(shown), MOST_BARS, 'cells')}"
    )
    figure = draw_differences(
        [one.cell.label for one in shown[:MOST_BARS]],
        [one.seeds[:3] for one in shown[:MOST_BARS]],
        [one.verdict in ("better", "worse") for one in shown[:MOST_BARS]],
        title,
    )
    return [
        Chart("differences", title, caption, figure, Table("differences", title, ("cell", "mean", "low", "high"), rows))
    ]


def displacements(study: Study) -> list[Chart]:
    """What moved to make the margins: shares of pairs, a bar a cell."""
    names = ("chosen up, rejected down", "both up, chosen more", "both down, rejected more", "margin not grown")
    rows: list[list[Value]] = []
    for cell in cells_by_priority(study, MOST_BARS):
        found = [d for pairs in study.pairs_in(cell) if (d := displacement(pairs)) is not None]
        if found:
            rows.append([cell.label, *np.mean([each[:4] for each in found], axis=0).tolist()])
    if not rows:
        return []
    title = "what moved, in shares of validation pairs"
    shown = rows[:MOST_BARS]
    shares = {name: [float(row[place] or 0) for row in shown] for place, name in enumerate(names, start=1)}
    figure = draw_shares([str(row[0]) for row in shown], shares, "share of validation pairs")
    data = Table("displacement-shares", title, ("cell", *names), rows)
    return [Chart("displacement-shares", title, left_out(len(rows), MOST_BARS, "cells"), figure, data)]


def lengths(study: Study) -> list[Chart]:
    """Accuracy by length difference: the best cell of each family, and rules that need no training."""
    lines, rows, levels = [], [], []
    for cells in by_priority(study).values():
        cell = max(cells, key=lambda cell: height_of(cell, study.metric))
        pairs = study.pairs_in(cell)
        if not pairs:
            continue
        matched, _ = match(pairs)
        if not matched[0].key:
            continue
        found = accuracy_by_length(matched)
        rows += [[cell.label, *row] for row in found]
        lines.append(Line(cell.label, list(range(len(found))), [accuracy for _, accuracy, _ in found]))
        rules = trivial_accuracies(matched[0]).items()
        levels = levels or [(f"{rule} (all pairs)", accuracy) for rule, accuracy in rules]
    if not lines:
        return []
    title = "accuracy by how much longer the chosen response is"
    most = MOST_LINES - 2  # the rules are lines as well
    figure = draw_lines(lines[:most], "chosen is ... than rejected", "accuracy", names=LENGTH_BINS, levels=levels[:2])
    data = Table("lengths", title, ("cell", "chosen is", "accuracy", "pairs"), rows)
    caption = "Difference over sum of lengths; edges at 5 % and 20 %. The best cell of each family. " + left_out(
        len(lines), most, "families"
    )
    return [Chart("lengths", title, caption, figure, data)]


def _curves(study: Study) -> list[str]:
    return list(dict.fromkeys((study.metric, *CURVES)))


def _means(cell: Cell, metric: str) -> dict[int, Estimate]:
    return {step: estimate(values) for step, values in means_by_step(cell, metric, first=0).items()}


def _rows(cell: Cell, means: dict[int, Estimate]) -> list[list[Value]]:
    return [[cell.label, step, e.mean, e.low, e.high, e.count] for step, e in means.items()]


def _short(cell: Cell, family: str) -> str:
    return cell.label if cell.beta is None or cell.label == family else f"beta {cell.beta:g}"
