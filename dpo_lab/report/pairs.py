"""Validation pairs of a run, one by one, from predictions.parquet; keyed, so that those of several runs match."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpo_lab.errors import UserError
from dpo_lab.report.statistics import Array

TIE_NATS = 1e-4
"""As in `dpo_lab.metrics`, which cannot be imported here since it imports torch; a test holds them equal."""

COLUMNS = ["key", "group", "role", "policy_log_prob", "reference_log_prob", "length", "reward"]


@final
@dataclass(frozen=True)
class Pairs:
    """Pairs of one evaluation, in the order of their keys; `key` is that of the chosen and the rejected response, and
    `prompt` that of their prompt (of a run from before prompts were recorded each pair has one of its own).

    Arrays have one value a pair: shifts are log-ratios in nats (nan without a reference), `margin` is the difference
    of rewards as the loss defines them, `correct` is 1, 0, or one half for a tie. `num_left_out` counts groups that
    are no single pair (lists, single judgements).
    """

    step: int
    split: str
    key: tuple[str, ...]
    prompt: tuple[str, ...]
    chosen_shift: Array
    rejected_shift: Array
    chosen_reference: Array
    rejected_reference: Array
    chosen_length: Array
    rejected_length: Array
    margin: Array
    correct: Array
    num_left_out: int

    @property
    def margin_nats(self) -> Array:
        return self.chosen_shift - self.rejected_shift


def read_pairs(folder: Path, split: str = "val", step: int | None = None) -> Pairs | None:
    """Pairs of the evaluation at `step`, the last one unless given; None where the run has none.

    Raises:
        UserError: predictions.parquet is damaged.
    """
    file = folder / "predictions.parquet"
    if not file.exists():
        return None
    try:
        table = pq.read_table(file, filters=[("split", "==", split)])
        names = set(table.column_names)
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names of columns that are no text
        raise UserError(f"{file} is damaged: {' '.join(str(error).split())}") from error
    if missing := {"step", "split", *COLUMNS} - names:
        raise UserError(f"{file} lacks the columns {', '.join(sorted(missing))}")
    if table.num_rows == 0:
        return None
    steps = table["step"].to_numpy()
    at = int(steps.max()) if step is None else step
    table = table.filter(pa.array(steps == at))
    try:
        return _pair_up(table, at, split) if table.num_rows else None
    except (pa.ArrowException, TypeError, ValueError) as error:  # nulls where numbers belong
        raise UserError(f"{file} is damaged: {' '.join(str(error).split())}") from error


def match(pairs: list[Pairs]) -> tuple[list[Pairs], int]:
    """The pairs that all of `pairs` have, in one order, and how many of all are not shared."""
    shared = sorted(set.intersection(*(set(one.key) for one in pairs)))
    union = len(set.union(*(set(one.key) for one in pairs)))
    return [take(one, shared) for one in pairs], union - len(shared)


def take(pairs: Pairs, keys: list[str]) -> Pairs:
    """The pairs with `keys`, in that order."""
    place = {key: index for index, key in enumerate(pairs.key)}
    at = np.asarray([place[key] for key in keys], dtype=np.int64)
    arrays = {name: value[at] for name, value in vars(pairs).items() if isinstance(value, np.ndarray)}
    prompts = tuple(pairs.prompt[index] for index in at.tolist())
    return replace(pairs, **arrays, key=tuple(keys), prompt=prompts)


def _pair_up(table: pa.Table, step: int, split: str) -> Pairs | None:
    # Numbered anew: of a damaged file a group may have any number.
    group = np.unique(table["group"].to_numpy(), return_inverse=True)[1]
    role = np.asarray(table["role"].to_pylist(), dtype=object)
    key = np.asarray(table["key"].to_pylist(), dtype=object)
    chosen, rejected = (np.flatnonzero(role == name) for name in ("chosen", "rejected"))
    num_groups = int(group.max()) + 1 if len(group) else 0
    counts = [np.bincount(group[rows], minlength=num_groups) for rows in (chosen, rejected)]
    is_pair = (counts[0] == 1) & (counts[1] == 1)
    chosen, rejected = (rows[is_pair[group[rows]]] for rows in (chosen, rejected))
    chosen, rejected = (rows[np.argsort(group[rows], kind="stable")] for rows in (chosen, rejected))
    if len(chosen) == 0:
        return None
    keys = [f"{a}{b}" for a, b in zip(key[chosen], key[rejected], strict=True)]
    _, first = np.unique(keys, return_index=True)  # a pair that is twice in the data counts once
    chosen, rejected = chosen[first], rejected[first]
    if "prompt" in table.column_names and table["prompt"].null_count == 0:
        prompts = np.asarray(table["prompt"].to_pylist(), dtype=object)[chosen].tolist()
    else:
        prompts = [keys[index] for index in first]
    columns = {
        name: np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)
        for name in ("policy_log_prob", "reference_log_prob", "length", "reward")
    }
    ratio = columns["policy_log_prob"] - columns["reference_log_prob"]
    margin = columns["reward"][chosen] - columns["reward"][rejected]
    difference = ratio[chosen] - ratio[rejected]
    tied = (margin == 0) | (np.abs(difference) <= TIE_NATS)
    correct = np.where(np.isnan(margin), np.nan, np.where(tied, 0.5, margin > 0))
    return Pairs(
        step=step,
        split=split,
        key=tuple(keys[index] for index in first),
        prompt=tuple(prompts),
        chosen_shift=ratio[chosen],
        rejected_shift=ratio[rejected],
        chosen_reference=columns["reference_log_prob"][chosen],
        rejected_reference=columns["reference_log_prob"][rejected],
        chosen_length=columns["length"][chosen],
        rejected_length=columns["length"][rejected],
        margin=margin,
        correct=correct,
        num_left_out=int((~is_pair).sum()),
    )
