"""Runs as plain rows for whoever asks questions of their own: ``pandas.DataFrame(run_rows(["runs"]))``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpo_lab.report.cells import Cell
from dpo_lab.report.fields import fields_of
from dpo_lab.report.records import RunRecord, find_runs, read_record
from dpo_lab.report.study import Study


def run_rows(folders: Sequence[Path | str]) -> list[dict[str, Any]]:
    """`fields_of` every run that `folders` are or hold, finished or not.

    That is config, last values of curves, `id`, `name`, `path`, `status`, `sweep`, `step` (the last), `started` and
    `reason`: why it failed, or cannot be read.

    Raises:
        UserError: one of `folders` does not exist, or holds no run.
    """
    return [fields_of(read_record(path)) for path in find_runs([Path(folder) for folder in folders])]


def curve_rows(study: Study, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """A row a logged value: `cell`, `loss`, `beta`, `seed`, `run`, `metric`, `step`, `value`."""
    return [
        {**_place(cell, seed, run), "metric": metric, "step": int(step), "value": float(value)}
        for cell in study.cells
        for seed, run in cell.runs.items()
        for metric in metrics
        if metric in run.curves
        for step, value in zip(*run.curves[metric], strict=True)
    ]


def pair_rows(study: Study) -> list[dict[str, Any]]:
    """A row a validation pair and run, at its last evaluation; shifts are log-ratios in nats, hashes name the texts.

    `cell`, `loss`, `beta`, `seed`, `run`, `pair`, `prompt`, `chosen_shift`, `rejected_shift`, `chosen_length`,
    `rejected_length`, `margin`, `correct`.
    """
    numbers = ("chosen_shift", "rejected_shift", "chosen_length", "rejected_length", "margin", "correct")
    rows = []
    for cell in study.cells:
        for seed, run in cell.runs.items():
            pairs = study.pairs_of.get(run.name)
            if pairs is not None:
                columns = [getattr(pairs, name).tolist() for name in numbers]
                rows += [
                    {
                        **_place(cell, seed, run),
                        "pair": key,
                        "prompt": prompt,
                        **dict(zip(numbers, values, strict=True)),
                    }
                    for key, prompt, *values in zip(pairs.key, pairs.prompt, *columns, strict=True)
                ]
    return rows


def _place(cell: Cell, seed: str, run: RunRecord) -> dict[str, Any]:
    return {"cell": cell.label, "loss": cell.loss, "beta": cell.beta, "seed": seed, "run": run.name}
