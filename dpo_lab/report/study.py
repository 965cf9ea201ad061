"""A set of run folders, read once and put in order: what every section of a report looks at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from dpo_lab.errors import UserError
from dpo_lab.report.cells import SEED_KEYS, Cell, choose_cell, default_baseline, make_cells
from dpo_lab.report.pairs import Pairs, read_pairs
from dpo_lab.report.records import RunRecord, find_runs, read_record
from dpo_lab.run.digests import check_digest

METRICS = ("val/rewards/accuracies", "train/rewards/accuracies", "val/loss", "train/loss")
"""The first that every cell has is what cells are compared by, unless another is asked for."""


@final
@dataclass(frozen=True)
class Study:
    """Runs of a report. `records` are all that were found; `cells` hold those that finished and could be read.

    `pairs_of` has the validation pairs at the end of each run, by the run's name; `pair_faults` says whose could not be
    read and why.
    """

    records: tuple[RunRecord, ...]
    cells: tuple[Cell, ...]
    baseline: Cell
    is_baseline_declared: bool
    metric: str
    pairs_of: dict[str, Pairs]
    pair_faults: dict[str, str]

    @property
    def unused(self) -> list[tuple[RunRecord, str]]:
        """Runs that are in no figure, and why."""
        return [(record, reason) for record in self.records if (reason := why_unused(record))]

    @property
    def not_in_figures(self) -> list[RunRecord]:
        """`unused` runs, and further attempts at a seed."""
        return [*(record for record, _ in self.unused), *(run for cell in self.cells for run in cell.repeats)]

    @property
    def seeds(self) -> list[str]:
        """All seeds of all cells, in order."""
        return list(dict.fromkeys(seed for cell in self.cells for seed in cell.runs))

    def pairs_in(self, cell: Cell) -> list[Pairs]:
        """Validation pairs of the runs of a cell that have any."""
        return [self.pairs_of[run.name] for run in cell.runs.values() if run.name in self.pairs_of]


def read_study(
    folders: Sequence[Path],
    *,
    metric: str | None = None,
    baseline: str | None = None,
    seed_keys: Sequence[str] = SEED_KEYS,
) -> Study:
    """Read all runs below `folders`.

    Args:
        metric: the curve that cells are compared by; the first of `METRICS` that is there unless given.
        baseline: selector of one cell, such as ``loss=sigmoid loss.beta=0.1``.
        seed_keys: config keys that only repeat an experiment.

    Raises:
        UserError: no run, no finished run, no such metric, or `baseline` does not name one cell.
    """
    records = [read_record(path) for path in find_runs(folders)]
    used = [record for record in records if not why_unused(record)]
    if not used:
        reasons = "\n  ".join(f"{record.name}: {why_unused(record)}" for record in records[:20])
        raise UserError(f"none of {len(records)} runs has finished and can be read:\n  {reasons}")
    cells = make_cells(used, seed_keys)
    pairs_of: dict[str, Pairs] = {}
    pair_faults: dict[str, str] = {}
    for run in (run for cell in cells for run in cell.runs.values()):
        try:
            check_digest(run.path / "predictions.parquet", run.info)
            pairs = read_pairs(run.path)
        except UserError as error:
            pair_faults[run.name] = str(error)
        else:
            pairs_of |= {} if pairs is None else {run.name: pairs}
    chosen = default_baseline(cells) if baseline is None else choose_cell(cells, baseline)
    return Study(
        records=tuple(records),
        cells=tuple(cells),
        baseline=chosen,
        is_baseline_declared=baseline is not None,
        metric=_metric(used, metric),
        pairs_of=pairs_of,
        pair_faults=pair_faults,
    )


def why_unused(record: RunRecord) -> str:
    """Why a run takes no part; empty for a run that finished and could be read."""
    repeated = record.info.get("reproduces")
    if isinstance(repeated, dict):
        verdict = repeated.get("verdict") or "no verdict"
        return f"made {repeated.get('id')} again ({verdict}), so it is no run of its own"
    if record.faults:
        return "cannot be read: " + "; ".join(record.faults)
    if record.status != "finished":
        reason = record.info.get("exit_reason")
        step = "" if record.last_step is None else f" after step {record.last_step}"
        return f"{record.status}{step}" + (f": {reason}" if reason else "")
    if not record.config:
        return "cannot be read: config.yaml: missing"
    return ""


def _metric(records: Sequence[RunRecord], asked: str | None) -> str:
    names = sorted({name for record in records for name in record.curves})
    if asked is not None:
        if asked not in names:
            from difflib import get_close_matches

            close = get_close_matches(asked, names, n=3)
            raise UserError(
                f"metric={asked}: no run has such a curve" + (f"; close: {', '.join(close)}" if close else "")
            )
        return asked
    for metric in METRICS:
        if all(np.isfinite(record.last(metric)) for record in records):
            return metric
    return next((metric for metric in METRICS if metric in names), names[0] if names else METRICS[0])
