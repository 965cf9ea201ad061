"""The best cell and checkpoint, and what their figure is worth: whoever wins was also lucky."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from dpo_lab.errors import UserError
from dpo_lab.report.cells import Cell
from dpo_lab.report.compare import lower_is_better, values_of_pairs
from dpo_lab.report.pairs import Pairs, match, read_pairs
from dpo_lab.report.records import RunRecord
from dpo_lab.report.statistics import Estimate, estimate


@final
@dataclass(frozen=True)
class Selection:
    """The cell and the step with the best validation mean, and figures of it.

    `on_validation` is the figure by which it was chosen: optimistic. `on_test` is that of an untouched split, where
    the runs have one. `left_out_seed` chooses on all seeds but one and measures on that one; `half_of_pairs` chooses on
    one half of the validation pairs and measures on the other: each takes away one source of luck, not both.
    """

    cell: Cell
    metric: str
    step: int
    on_validation: Estimate
    at_last_step: Estimate
    on_test: Estimate | None
    left_out_seed: float | None
    half_of_pairs: float | None


def select(cells: Sequence[Cell], metric: str, pairs_of: Mapping[str, Pairs]) -> Selection | None:
    """Choose among `cells` by the mean of `metric` over seeds at each step that all runs of a cell validated."""
    sign = -1.0 if lower_is_better(metric) else 1.0
    best: tuple[float, Cell, int, list[float]] | None = None
    for cell in cells:
        for step, values in means_by_step(cell, metric).items():
            score = sign * float(np.mean(values))
            if best is None or score > best[0]:
                best = (score, cell, step, values)
    if best is None:
        return None
    _, cell, step, values = best
    on_test = estimate([on_test_split(run, metric, step) for run in cell.runs.values()])
    return Selection(
        cell=cell,
        metric=metric,
        step=step,
        on_validation=estimate(values),
        at_last_step=estimate(list(cell.last(metric).values())),
        on_test=on_test if on_test.count else None,
        left_out_seed=leave_one_seed_out(cells, metric, sign),
        half_of_pairs=cross_halves(cells, metric, sign, pairs_of),
    )


def on_test_split(run: RunRecord, metric: str, step: int) -> float:
    """What `metric` is on the split named test at `step`, logged or by its predictions; nan where it is not known."""
    name = f"test/{metric.partition('/')[2]}"
    if name in run.curves:
        curve = run.curves[name]
        return next((float(value) for at, value in zip(*curve, strict=True) if at == step), float("nan"))
    try:
        pairs = read_pairs(run.path, "test", step)
    except UserError:  # reading the validation pairs of this run has said so
        return float("nan")
    values = None if pairs is None else values_of_pairs(pairs, name)
    return float("nan") if values is None else float(values.mean())


def means_by_step(cell: Cell, metric: str) -> dict[int, list[float]]:
    """Values of all runs of a cell at each step above 0 at which all of them have one."""
    curves = [run.curves.get(metric) for run in cell.runs.values()]
    by_run = [{} if one is None else dict(zip(one.steps.tolist(), one.values.tolist(), strict=True)) for one in curves]
    steps = sorted(set.intersection(*(set(one) for one in by_run))) if by_run else []
    return {int(step): [one[step] for one in by_run] for step in steps if step > 0}


def leave_one_seed_out(cells: Sequence[Cell], metric: str, sign: float) -> float | None:
    """Mean, over seeds that all cells have, of the figure that the winner on the other seeds has on this one."""
    seeds = sorted(set.intersection(*(set(cell.runs) for cell in cells))) if cells else []
    table = np.asarray([[cell.runs[seed].last(metric) for seed in seeds] for cell in cells], dtype=np.float64)
    if len(seeds) < 2 or len(cells) < 2 or not np.isfinite(table).all():
        return None
    others = (table.sum(axis=1, keepdims=True) - table) / (len(seeds) - 1)
    winners = np.argmax(sign * others, axis=0)
    return float(table[winners, np.arange(len(seeds))].mean())


def cross_halves(cells: Sequence[Cell], metric: str, sign: float, pairs_of: Mapping[str, Pairs]) -> float | None:
    """Choose on pairs of even place among the sorted keys, measure on the odd ones, and the other way round."""
    runs = [[run.name for run in cell.runs.values()] for cell in cells]
    if len(cells) < 2 or not all(name in pairs_of for names in runs for name in names):
        return None
    matched, _ = match([pairs_of[name] for names in runs for name in names])
    values = [values_of_pairs(one, metric) for one in matched]
    if len(matched[0].key) < 4 or any(value is None for value in values):
        return None
    by_run = iter(np.asarray(values, dtype=np.float64))
    by_cell = np.asarray([np.mean([next(by_run) for _ in names], axis=0) for names in runs])
    even, odd = by_cell[:, 0::2].mean(axis=1), by_cell[:, 1::2].mean(axis=1)
    return float((odd[np.argmax(sign * even)] + even[np.argmax(sign * odd)]) / 2)
