"""The best cell and checkpoint, and what their figure is worth: whoever wins was also lucky."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from dpo_lab.report.cells import Cell
from dpo_lab.report.compare import lower_is_better, values_of_pairs
from dpo_lab.report.pairs import Pairs, match
from dpo_lab.report.records import RunRecord
from dpo_lab.report.statistics import Array, Estimate, estimate

TESTED = "test/step"
"""The step whose weights a run has tested: those that it keeps."""


@final
@dataclass(frozen=True)
class Selection:
    """The cell with the best validation mean, and figures of it.

    `steps` are those whose weights were compared: where all runs were tested, the weights that each run keeps and has
    tested, by seed; else one step for all, the best at which all runs of the cell validated. `on_validation` is the
    figure by which it was chosen: optimistic. `on_test` is that of the untouched split; it takes away the luck with
    pairs, and none of the luck with seeds. `left_out_seed` chooses on all seeds but one and measures on that one,
    `half_of_pairs` on the other half of the validation pairs, `left_out_seed_on_test` on the test of the seed left out:
    what chose it is then of other seeds and of other pairs.
    """

    cell: Cell
    metric: str
    steps: tuple[int, ...]
    on_validation: Estimate
    at_last_step: Estimate
    on_test: Estimate | None
    baseline_on_test: Estimate | None
    left_out_seed: float | None
    half_of_pairs: float | None
    left_out_seed_on_test: float | None


class _Candidate(NamedTuple):
    """A cell at one set of weights a seed: their steps, and what validation says of them."""

    cell: Cell
    steps: tuple[int, ...]
    values: list[float]


def select(cells: Sequence[Cell], metric: str, pairs_of: Mapping[str, Pairs], baseline: Cell) -> Selection | None:
    """Choose among `cells` by the mean of `metric` over seeds, always that of validation; None where none has it.

    A metric of the test split chooses by the curve of the same name on validation.
    """
    metric = on_validation_split(metric)
    sign = -1.0 if lower_is_better(metric) else 1.0
    has_test = is_tested(cells, metric)
    candidates = _kept_weights(cells, metric) if has_test else _common_steps(cells, metric)
    if not candidates:
        return None
    best = max(candidates, key=lambda one: sign * float(np.mean(one.values)))
    return Selection(
        cell=best.cell,
        metric=metric,
        steps=best.steps,
        on_validation=estimate(best.values),
        at_last_step=estimate(list(best.cell.last(metric).values())),
        on_test=_on_test(best.cell, metric) if has_test else None,
        baseline_on_test=_on_test(baseline, metric) if has_test and best.cell is not baseline else None,
        left_out_seed=leave_one_seed_out(cells, metric, sign, is_kept=has_test),
        half_of_pairs=cross_halves(cells, metric, sign, pairs_of),
        left_out_seed_on_test=(
            leave_one_seed_out(cells, metric, sign, is_kept=True, measured=on_test_split(metric)) if has_test else None
        ),
    )


def on_test_split(metric: str) -> str:
    """The curve of the test that belongs to a curve of validation."""
    return f"test/{metric.partition('/')[2]}"


def on_validation_split(metric: str) -> str:
    """The curve of validation that belongs to a curve of the test; any other curve is itself."""
    return f"val/{metric.removeprefix('test/')}" if metric.startswith("test/") else metric


def is_tested(cells: Sequence[Cell], metric: str) -> bool:
    """Whether every run of `cells` has a test of `metric`, and validated the weights that it tested."""
    runs = [run for cell in cells for run in cell.runs.values()]
    values = [(run.last(on_test_split(metric)), _at_kept_weights(run, metric)) for run in runs]
    return bool(np.isfinite(np.asarray(values)).all()) and bool(runs)


def means_by_step(cell: Cell, metric: str, first: int = 1) -> dict[int, list[float]]:
    """Values of all runs of a cell at each step from `first` on at which all of them have one."""
    curves = [run.curves.get(metric) for run in cell.runs.values()]
    by_run = [{} if one is None else dict(zip(one.steps.tolist(), one.values.tolist(), strict=True)) for one in curves]
    steps = sorted(set.intersection(*(set(one) for one in by_run))) if by_run else []
    return {int(step): [one[step] for one in by_run] for step in steps if step >= first}


def leave_one_seed_out(
    cells: Sequence[Cell], metric: str, sign: float, *, is_kept: bool = False, measured: str | None = None
) -> float | None:
    """Mean, over seeds that all cells have, of the figure that the winner on the other seeds has on this one.

    The figure is `metric` itself, or the last value of the curve `measured`. `is_kept`: at the weights that runs keep
    and have tested; else at the last step.
    """
    seeds = sorted(set.intersection(*(set(cell.runs) for cell in cells))) if cells else []
    table = _table(cells, seeds, metric, is_kept=is_kept)
    figures = table if measured is None else _table(cells, seeds, measured)
    if len(seeds) < 2 or len(cells) < 2 or not (np.isfinite(table).all() and np.isfinite(figures).all()):
        return None
    others = (table.sum(axis=1, keepdims=True) - table) / (len(seeds) - 1)
    winners = np.argmax(sign * others, axis=0)
    return float(figures[winners, np.arange(len(seeds))].mean())


def cross_halves(cells: Sequence[Cell], metric: str, sign: float, pairs_of: Mapping[str, Pairs]) -> float | None:
    """Choose on the pairs of every other prompt, in the order of their hashes, measure on the rest, and the other way.

    Where there are fewer than four prompts, on every other pair.
    """
    runs = [[run.name for run in cell.runs.values()] for cell in cells]
    if len(cells) < 2 or not all(name in pairs_of for names in runs for name in names):
        return None
    matched, _ = match([pairs_of[name] for names in runs for name in names])
    values = [values_of_pairs(one, metric) for one in matched]
    if len(matched[0].key) < 4 or any(value is None for value in values):
        return None
    by_run = iter(np.asarray(values, dtype=np.float64))
    by_cell = np.asarray([np.mean([next(by_run) for _ in names], axis=0) for names in runs])
    is_even = _every_other(matched[0])
    even, odd = by_cell[:, is_even].mean(axis=1), by_cell[:, ~is_even].mean(axis=1)
    return float((odd[np.argmax(sign * even)] + even[np.argmax(sign * odd)]) / 2)


def _every_other(pairs: Pairs) -> np.ndarray:
    names, numbers = np.unique(np.asarray(pairs.prompt), return_inverse=True)
    return (numbers if len(names) >= 4 else np.arange(len(pairs.key))) % 2 == 0


def _kept_weights(cells: Sequence[Cell], metric: str) -> list[_Candidate]:
    return [
        _Candidate(
            cell,
            tuple(_kept_step(run) for run in cell.runs.values()),
            [_at_kept_weights(run, metric) for run in cell.runs.values()],
        )
        for cell in cells
    ]


def _common_steps(cells: Sequence[Cell], metric: str) -> list[_Candidate]:
    return [_Candidate(cell, (step,), values) for cell in cells for step, values in means_by_step(cell, metric).items()]


def _kept_step(run: RunRecord) -> int:
    tested = run.last(TESTED)
    return int(tested) if np.isfinite(tested) else run.last_step or 0


def _at_kept_weights(run: RunRecord, metric: str) -> float:
    """nan where the run did not validate them."""
    curve, step = run.curves.get(metric), _kept_step(run)
    if curve is None:
        return float("nan")
    return next((float(value) for at, value in zip(*curve, strict=True) if at == step), float("nan"))


def _on_test(cell: Cell, metric: str) -> Estimate:
    return estimate(list(cell.last(on_test_split(metric)).values()))


def _table(cells: Sequence[Cell], seeds: Sequence[str], metric: str, *, is_kept: bool = False) -> Array:
    read = _at_kept_weights if is_kept else RunRecord.last
    return np.asarray([[read(cell.runs[seed], metric) for seed in seeds] for cell in cells], dtype=np.float64)
