"""What lies behind an accuracy: which likelihoods moved, what length explains, what needs no training at all."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dpo_lab.report.pairs import Pairs
from dpo_lab.report.statistics import Array

# Of (chosen - rejected) / (chosen + rejected), so that long and short pairs are measured alike.
LENGTH_EDGES = (-0.2, -0.05, 0.05, 0.2)
LENGTH_BINS = ("much shorter", "shorter", "about equal", "longer", "much longer")


class Displacement(NamedTuple):
    """Shares of all pairs: those whose margin grew, by what moved, and those whose margin did not grow.

    `from_chosen` and `from_rejected` are how much of the mean margin (nats) comes from the chosen response going up and
    from the rejected going down; either may be negative, their sum is the margin.
    """

    up_and_down: float
    both_up: float
    both_down: float
    not_grown: float
    from_chosen: float
    from_rejected: float


def displacement(pairs: Pairs) -> Displacement | None:
    """How the margin of `pairs` came about; None without a reference."""
    chosen, rejected = pairs.chosen_shift, pairs.rejected_shift
    if np.isnan(chosen).any() or np.isnan(rejected).any():
        return None
    grown = chosen > rejected
    return Displacement(
        up_and_down=float((grown & (chosen >= 0) & (rejected <= 0)).mean()),
        both_up=float((grown & (rejected > 0)).mean()),
        both_down=float((grown & (chosen < 0)).mean()),
        not_grown=float((~grown).mean()),
        from_chosen=float(chosen.mean()),
        from_rejected=float(-rejected.mean()),
    )


def accuracy_by_length(pairs: Sequence[Pairs]) -> list[tuple[str, float, int]]:
    """Accuracy of runs on the same pairs, by how much longer the chosen response is; with the number of pairs."""
    bins = length_bins(pairs[0])
    correct = np.mean([one.correct for one in pairs], axis=0)
    rows = []
    for number, name in enumerate(LENGTH_BINS):
        inside = bins == number
        rows.append((name, float(correct[inside].mean()) if inside.any() else float("nan"), int(inside.sum())))
    return rows


def length_bins(pairs: Pairs) -> Array:
    """For each pair the place in `LENGTH_BINS`."""
    total = np.maximum(pairs.chosen_length + pairs.rejected_length, 1)
    return np.digitize((pairs.chosen_length - pairs.rejected_length) / total, LENGTH_EDGES).astype(np.float64)


def trivial_accuracies(pairs: Pairs) -> dict[str, float]:
    """Accuracy on the same pairs of rules that need no training; a tie counts one half."""
    rules = {"the longer wins": pairs.chosen_length - pairs.rejected_length}
    if not np.isnan(pairs.chosen_reference).any():
        rules["the likelier under the reference wins"] = pairs.chosen_reference - pairs.rejected_reference
        rules["the likelier under the reference, per token, wins"] = pairs.chosen_reference / np.maximum(
            pairs.chosen_length, 1
        ) - pairs.rejected_reference / np.maximum(pairs.rejected_length, 1)
    return {name: float(np.where(score == 0, 0.5, score > 0).mean()) for name, score in rules.items()}
