"""Every cell against one declared baseline: over shared seeds, and over the validation pairs that both have seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from dpo_lab.report.cells import Cell
from dpo_lab.report.pairs import Pairs, match
from dpo_lab.report.statistics import (
    Array,
    ClusteredTest,
    PairedTest,
    clustered_test,
    holm,
    minimum_detectable,
    paired_test,
    seeds_needed,
)

ALPHA = 0.05
ACCURACY, MARGIN = "rewards/accuracies", "rewards/margins"
INDISTINCT = "not distinguishable"


@final
@dataclass(frozen=True)
class Comparison:
    """A cell less the baseline, in one metric.

    `seeds` is over the shared seeds: what another seed would give. `pairs` is over shared validation pairs, each
    averaged over the shared seeds: what other prompts would give to *these* runs; pairs of one prompt are one cluster.
    None where the metric is no mean over pairs. `adjusted_p` is Holm's over all comparisons of the table; `detectable`
    and `needed` are at a power of 80 % and the first threshold of Holm (5 % over the number of comparisons).
    """

    cell: Cell
    seeds: PairedTest
    adjusted_p: float
    pairs: ClusteredTest | None
    num_unshared_pairs: int
    detectable: float
    needed: int | None
    verdict: str
    shared: tuple[str, ...] = ()


def lower_is_better(metric: str) -> bool:
    """Losses, errors and divergences are better low; everything else is better high."""
    return metric.endswith(("loss", "/kl", "_error", "/brier")) or "/loss/" in metric


def compare_to_baseline(
    cells: Sequence[Cell], baseline: Cell, metric: str, pairs_of: Mapping[str, Pairs] | None = None
) -> list[Comparison]:
    """All of `cells` but `baseline` against it; `pairs_of` are the pairs of each run, by the run's name."""
    others = [cell for cell in cells if cell is not baseline]
    differences = [differences_by_seed(cell.last(metric), baseline.last(metric)) for cell in others]
    tests = [paired_test(list(by_seed.values())) for by_seed in differences]
    adjusted = holm([test.p for test in tests])
    num_tested = max(1, int(np.isfinite(adjusted).sum()))
    sign = -1 if lower_is_better(metric) else 1
    comparisons = []
    for cell, by_seed, test, p in zip(others, differences, tests, adjusted.tolist(), strict=True):
        item_test, unshared = _test_pairs(cell, baseline, list(by_seed), metric, pairs_of or {})
        comparisons.append(
            Comparison(
                cell=cell,
                seeds=test,
                adjusted_p=p,
                pairs=item_test,
                num_unshared_pairs=unshared,
                detectable=minimum_detectable(test.sd, test.count, ALPHA / num_tested),
                needed=seeds_needed(test.difference, test.sd, ALPHA / num_tested),
                verdict=verdict(test, p, sign),
                shared=tuple(by_seed),
            )
        )
    return comparisons


def verdict(test: PairedTest, adjusted_p: float, sign: int = 1) -> str:
    """In words: better, worse, not distinguishable, or why it was not tested. `sign` -1: lower is better."""
    if test.count == 0:
        return "not tested: no shared seed with this metric"
    if test.count == 1:
        return "not tested: one shared seed has no spread"
    if np.isnan(test.p):
        same = "the same result" if test.difference == 0 else "the same difference"
        return f"not tested: {same} for every seed"
    if adjusted_p >= ALPHA:
        return INDISTINCT
    return "better" if sign * test.difference > 0 else "worse"


def differences_by_seed(left: Mapping[str, float], right: Mapping[str, float]) -> dict[str, float]:
    """`left` less `right` for every seed at which both are numbers."""
    found = {seed: left[seed] - right[seed] for seed in left if seed in right}
    return {seed: difference for seed, difference in found.items() if np.isfinite(difference)}


def values_of_pairs(pairs: Pairs, metric: str) -> Array | None:
    """What `metric` is the mean of, pair by pair; None for a metric that is no such mean."""
    stem = metric.partition("/")[2]
    return {ACCURACY: pairs.correct, MARGIN: pairs.margin, "log_ratios/margins": pairs.margin_nats}.get(stem)


def _test_pairs(
    cell: Cell, baseline: Cell, seeds: Sequence[str], metric: str, pairs_of: Mapping[str, Pairs]
) -> tuple[ClusteredTest | None, int]:
    """The test over pairs, and how many pairs the runs do not share."""
    names = [(cell.runs[seed].name, baseline.runs[seed].name) for seed in seeds]
    both = [(pairs_of[left], pairs_of[right]) for left, right in names if left in pairs_of and right in pairs_of]
    if not both or not metric.startswith(f"{both[0][0].split}/"):
        return None, 0
    matched, unshared = match([one for two in both for one in two])
    values = [values_of_pairs(one, metric) for one in matched]
    if any(value is None for value in values) or len(matched[0].key) < 2:
        return None, unshared
    table = np.asarray(values, dtype=np.float64)
    return clustered_test((table[0::2] - table[1::2]).mean(axis=0), matched[0].prompt), unshared
