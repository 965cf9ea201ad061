"""What is drawn where not everything can be: the baseline, then every loss where it is best, then the rest."""

import numpy as np

from dpo_lab.report.cells import Cell
from dpo_lab.report.compare import lower_is_better
from dpo_lab.report.equal_kl import families
from dpo_lab.report.selection import on_validation_split
from dpo_lab.report.statistics import estimate
from dpo_lab.report.study import Study

ORDER = "the baseline's, then each loss at its best other settings by validation, then the next best"


def by_priority(study: Study) -> dict[str, list[Cell]]:
    """The families of `study` in the order in which charts draw them.

    First that of the baseline, then of every loss the family whose best cell is the best of that loss on validation,
    the better loss first, then what is left, the better family first. So a chart that holds few lines leaves out
    learning rates, and no loss before it must.
    """
    found = families(study.cells)
    heights = {name: max(height_of(cell, study.metric) for cell in cells) for name, cells in found.items()}
    by_height = sorted(found, key=lambda name: -heights[name])
    best_of_losses = {found[name][0].loss: name for name in reversed(by_height)}
    first = [study.baseline.family, *(name for name in by_height if name in best_of_losses.values())]
    return {name: found[name] for name in dict.fromkeys([*first, *by_height])}


def cells_by_priority(study: Study, most: int) -> list[Cell]:
    """All cells, as they stand in the tables where `most` can be drawn, else by the priority of their families."""
    if len(study.cells) <= most:
        return list(study.cells)
    return [cell for cells in by_priority(study).values() for cell in cells]


def height_of(cell: Cell, metric: str) -> float:
    """How good a cell is on validation, higher better; of a metric of the test, by its curve on validation."""
    metric = on_validation_split(metric)
    mean = estimate(list(cell.last(metric).values())).mean
    return -np.inf if np.isnan(mean) else (-mean if lower_is_better(metric) else mean)


def left_out(count: int, most: int, things: str, order: str = ORDER) -> str:
    """For a caption: what is not drawn of `count`; empty where all is."""
    return "" if count <= most else f"Drawn are {most} of {count} {things}: {order}. The CSV has all {count}."
