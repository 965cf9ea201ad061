"""Where two runs do not have the same numbers: in their curves, predictions, samples and weights."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpo_lab.errors import UserError
from dpo_lab.run.predictions import SCHEMA

SMALLEST_SCALE = 0.1
"""The largest value of a curve counts as at least this: a margin of 1e-6 is zero, with rounding."""

Rows = Sequence[Mapping[str, float]]
Array = np.ndarray[Any, np.dtype[np.float64]]


class Gap(NamedTuple):
    """Two values that are not the same. `share` is their distance over the largest value of their curve, or nan where
    one of them is not there or no number."""

    step: int
    name: str
    then: float
    now: float
    share: float

    def __str__(self) -> str:
        return f"{self.name} at step {self.step}: {self.values()}"

    def values(self) -> str:
        there, here = ("none" if math.isnan(value) else f"{value:.10g}" for value in (self.then, self.now))
        return f"{there} then, {here} now"


class Compared(NamedTuple):
    """How many things were compared, and where they differ."""

    num: int
    gaps: list[Gap]


def gaps_of_rows(then: Rows, now: Rows, last_step: int) -> Compared:
    """Every number of metrics.jsonl up to `last_step`. A curve that was not recorded then is not compared."""
    here = {row["step"]: row for row in now}
    compared = [row for row in then if row["step"] <= last_step]
    scales: dict[str, float] = {}
    for row in compared:
        for name, value in row.items():
            scales[name] = max(scales.get(name, SMALLEST_SCALE), abs(value) if math.isfinite(value) else 0.0)
    gaps = []
    for row in compared:
        other = here.get(row["step"], {})
        for name, value in ((name, value) for name, value in row.items() if name != "step"):
            found = other.get(name, math.nan)
            if name not in other or not (value == found or (math.isnan(value) and math.isnan(found))):
                gaps.append(_gap(int(row["step"]), name, value, found, scales[name]))
    return Compared(len(compared), gaps)


def gaps_of_predictions(then: Path, now: Path, last_step: int) -> Compared:
    """Of each evaluation the largest difference of each column of then; nan where its responses are others.

    Raises:
        UserError: a file cannot be read.
    """
    old, new = (_predictions(folder, last_step) for folder in (then, now))
    gaps = []
    for step in sorted(set(old["step"].to_pylist())):
        parts = [table.filter(pa.array(table["step"].to_numpy() == step)) for table in (old, new)]
        exact = [name for name in old.column_names if not pa.types.is_floating(old.schema.field(name).type)]
        missing = [name for name in old.column_names if name not in new.column_names]
        odd = missing or [name for name in exact if parts[0][name].to_pylist() != parts[1][name].to_pylist()]
        if odd:
            gaps.append(Gap(step, f"predictions/{odd[0]}", math.nan, math.nan, math.nan))
            continue
        for name in (name for name in old.column_names if name not in exact):
            values = [np.asarray(part[name].to_numpy(zero_copy_only=False), dtype=np.float64) for part in parts]
            gaps += _largest(step, f"predictions/{name}", *values)
    return Compared(old.num_rows, gaps)


def gaps_of_samples(then: Path, now: Path, last_step: int) -> Compared:
    """Whether samples.jsonl, where it was kept then, holds the same; the gap counts the samples that differ.

    Raises:
        UserError: a file cannot be read.
    """
    old, new = (_lines(folder / "samples.jsonl") for folder in (then, now))
    if not old:
        return Compared(0, [])
    num = sum(one != other for one, other in zip(old, new, strict=False)) + abs(len(old) - len(new))
    return Compared(len(old), [Gap(last_step, "samples", 0.0, float(num), math.nan)] if num else [])


def gaps_of_weights(then: Path, now: Path, last_step: int) -> Compared:
    """The largest difference of each tensor in ``model/``; nothing is compared where either run has none there.

    Raises:
        UserError: a file cannot be read.
    """
    old, new = (_tensors(folder / "model") for folder in (then, now))
    if not old or not new:
        return Compared(0, [])
    gaps = []
    for name, tensor in old.items():
        other = new.get(name)
        if other is None or other.shape != tensor.shape or other.dtype != tensor.dtype:
            gaps.append(Gap(last_step, f"weights/{name}", math.nan, math.nan, math.nan))
        elif not tensor.equal(other):
            values = [one.double().reshape(-1).numpy() for one in (tensor, other)]
            gaps += _largest(last_step, f"weights/{name}", *values)
    return Compared(len(old), gaps)


def _largest(step: int, name: str, then: Array, now: Array) -> Iterator[Gap]:
    """The largest of all differences of two columns, if any."""
    differs = ~((then == now) | (np.isnan(then) & np.isnan(now)))
    if differs.any():
        distance = np.where(differs, np.nan_to_num(np.abs(then - now), nan=np.inf), -1.0)
        at, scale = int(np.argmax(distance)), float(np.nanmax(np.abs(then), initial=0.0))
        yield _gap(step, name, float(then[at]), float(now[at]), max(SMALLEST_SCALE, scale))


def _gap(step: int, name: str, then: float, now: float, scale: float) -> Gap:
    return Gap(step, name, then, now, abs(then - now) / scale if math.isfinite(then - now) else math.nan)


def _predictions(folder: Path, last_step: int) -> pa.Table:
    """Up to `last_step`; empty without a file."""
    file = folder / "predictions.parquet"
    if not file.exists():
        return SCHEMA.empty_table()
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if missing := {"step", "policy_log_prob"} - set(table.column_names):
        raise UserError(f"{file} lacks the columns {', '.join(sorted(missing))}")
    return table.filter(pa.array(table["step"].to_numpy() <= last_step))


def _lines(file: Path) -> list[Any]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    except ValueError as error:
        raise UserError(f"{file} is damaged: {error}") from error


def _tensors(folder: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be read: {error}") from error
