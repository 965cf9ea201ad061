"""In which order pairs were learnt: what each scored, time after time.

Mean and spread of the margin are the two axes of Swayamdipta et al. 2020 (arXiv 2009.10795), there of the label's
probability; how often a pair was forgotten is from Toneva et al. 2019 (arXiv 1812.05159).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dpo_lab.errors import UserError
from dpo_lab.report.pairs import TIE_NATS
from dpo_lab.report.statistics import Array

Rows = npt.NDArray[np.int64]
Outcome = Literal["learnt", "forgotten", "never right"]
Keys = tuple[str, str]
"""Of a pair: the key of its chosen and of its rejected response, as in predictions.parquet."""

_MEASURES = {
    "reward": "reward as the loss defines it",
    "log_ratio": "log-ratio to the reference, nats",
    "policy_log_prob": "log-probability, nats: the loss asks for no reference",
}


@final
@dataclass(frozen=True)
class History:
    """What one pair scored at `steps` (updates made before): margins, chosen less rejected, and whether it was right.

    A margin of a tie (log-ratios within `TIE_NATS`) is not right.
    """

    keys: Keys
    steps: tuple[int, ...]
    margins: tuple[float, ...]
    is_right: tuple[bool, ...]

    @cached_property
    def mean(self) -> float:
        return float(np.mean(self.margins))

    @cached_property
    def spread(self) -> float:
        """Standard deviation over the times that it was scored; 0 for one time."""
        return float(np.std(self.margins))

    @property
    def share_right(self) -> float:
        return sum(self.is_right) / len(self.is_right)

    @cached_property
    def learnt_at(self) -> int | None:
        """The first of `steps` from which on it was always right; None where it was wrong at the last."""
        since = None
        for step, is_right in zip(reversed(self.steps), reversed(self.is_right), strict=True):
            if not is_right:
                break
            since = step
        return since

    @property
    def num_forgotten(self) -> int:
        """How often it was wrong after it had been right the time before."""
        return sum(was and not now for was, now in zip(self.is_right, self.is_right[1:], strict=False))

    @property
    def outcome(self) -> Outcome:
        if self.learnt_at is not None:
            return "learnt"
        return "forgotten" if any(self.is_right) else "never right"


@final
@dataclass(frozen=True)
class Histories:
    """Of all pairs of a run, the lowest mean margin first. `num_left_out` counts groups that are no single pair, each
    time that they were scored."""

    pairs: tuple[History, ...]
    measure: str
    num_left_out: int

    def num(self, outcome: Outcome) -> int:
        return sum(pair.outcome == outcome for pair in self.pairs)


def read_histories(file: Path, split: str) -> Histories:
    """The pairs of `split` in a file like predictions.parquet.

    What was scored before the first update is left out: there the margin is 0 where the reference is the policy.

    Raises:
        UserError: the file is not there or damaged, or holds no pair that was scored after an update.
    """
    try:
        table = pq.read_table(file, filters=[("split", "==", split), ("step", ">", 0)])
    except FileNotFoundError:
        raise UserError(f"{file} is not there") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file} is damaged: {' '.join(str(error).split())}") from error
    chosen, rejected, num_left_out = _paired(table)
    if not len(chosen):
        raise UserError(f"{file} holds no pair of {split} that was scored after an update")
    name, values = _measured(table)
    margins = values[chosen] - values[rejected]
    ratio = _column(table, "policy_log_prob") - _column(table, "reference_log_prob")
    is_tied = np.abs(ratio[chosen] - ratio[rejected]) <= TIE_NATS  # nan, and so False, without a reference
    is_right = (margins > 0) & ~is_tied
    key, step = table["key"].to_pylist(), table["step"].to_numpy()
    found: dict[Keys, list[tuple[int, float, bool]]] = {}
    for row in np.argsort(step[chosen], kind="stable").tolist():
        keys = key[chosen[row]], key[rejected[row]]
        found.setdefault(keys, []).append((int(step[chosen[row]]), float(margins[row]), bool(is_right[row])))
    pairs = [History(keys, *map(tuple, zip(*seen, strict=True))) for keys, seen in found.items()]
    return Histories(tuple(sorted(pairs, key=lambda pair: (pair.mean, pair.keys))), _MEASURES[name], num_left_out)


def _paired(table: pa.Table) -> tuple[Rows, Rows, int]:
    """Rows of the chosen and of the rejected response of each group that has one of each."""
    group, step = table["group"].to_numpy(), table["step"].to_numpy()
    role = np.asarray(table["role"].to_pylist(), dtype=object)
    moments, moment = np.unique(np.stack([step, group]), axis=1, return_inverse=True)
    moment, num = moment.reshape(-1), moments.shape[1]
    sides = [np.flatnonzero(role == name) for name in ("chosen", "rejected")]
    counts = [np.bincount(moment[rows], minlength=num) for rows in sides]
    is_pair = (counts[0] == 1) & (counts[1] == 1)
    sides = [rows[is_pair[moment[rows]]] for rows in sides]
    chosen, rejected = (rows[np.argsort(moment[rows], kind="stable")] for rows in sides)
    return chosen, rejected, int((~is_pair).sum())


def _measured(table: pa.Table) -> tuple[str, Array]:
    if table["reward"].null_count == 0:
        return "reward", _column(table, "reward")
    policy = _column(table, "policy_log_prob")
    if table["reference_log_prob"].null_count == 0:
        return "log_ratio", policy - _column(table, "reference_log_prob")
    return "policy_log_prob", policy


def _column(table: pa.Table, name: str) -> Array:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)


def auroc(values: Sequence[float], is_positive: Sequence[bool]) -> float | None:
    """Probability that a positive has the larger value than a negative, ties counted half; None without both.

    >>> auroc([1.0, 2.0, 2.0], [False, True, False])
    0.75
    """
    _, place, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positive = np.asarray(is_positive, dtype=bool)
    num, others = int(positive.sum()), int((~positive).sum())
    if not num or not others:
        return None
    return float((rank[positive].sum() - num * (num + 1) / 2) / (num * others))
