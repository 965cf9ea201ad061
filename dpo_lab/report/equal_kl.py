"""Losses at equal distance from the reference: a beta of one loss is not a beta of another, a nat of KL is.

A family is what differs in beta alone. For one seed its runs are points (KL, value), joined in the order of KL; two
families are compared by the mean height of their lines over the KLs that both reach. That is one number a seed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from dpo_lab.report.cells import Cell
from dpo_lab.report.compare import ALPHA, INDISTINCT, lower_is_better
from dpo_lab.report.statistics import Array, PairedTest, holm, paired_test

KL = "samples/kl"
Line = tuple[Array, Array]


@final
@dataclass(frozen=True)
class EqualKL:
    """A family less the baseline's family at equal KL, in one metric.

    `adjusted_p` is Holm's over all families and metrics of the table. `overlap` is the range of KL that all compared
    seeds share, None where there is none; `apart` says for each seed that could not be compared why.
    """

    family: str
    metric: str
    test: PairedTest
    adjusted_p: float
    overlap: tuple[float, float] | None
    apart: dict[str, str]
    at_middle: tuple[float, float]


def families(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells by family, in the order of their betas."""
    found: defaultdict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.family].append(cell)
    return {name: sorted(members, key=lambda cell: cell.beta or 0.0) for name, members in found.items()}


def line_of(cells: Sequence[Cell], metric: str, seed: str) -> Line:
    """KL and `metric` at the end of the runs of one seed, ordered by KL; runs without either are left out."""
    runs = [cell.runs[seed] for cell in cells if seed in cell.runs]
    points = np.asarray([(run.last(KL), run.last(metric)) for run in runs], dtype=np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    points = points[np.argsort(points[:, 0], kind="stable")]
    return points[:, 0], points[:, 1]


def mean_height(line: Line, low: float, high: float) -> float:
    """Mean of the line between `low` and `high`, both inside of it.

    >>> import numpy as np
    >>> mean_height((np.array([0.0, 2.0]), np.array([0.0, 4.0])), 0.0, 1.0)
    1.0
    """
    kl, value = line
    knots = np.concatenate([[low], kl[(kl > low) & (kl < high)], [high]])
    return float(np.trapezoid(np.interp(knots, kl, value), knots) / (high - low))


def compare_families(cells: Sequence[Cell], baseline: Cell, metrics: Sequence[str]) -> list[EqualKL]:
    """Every family against that of `baseline`, in each metric."""
    by_name = families(cells)
    base = by_name[baseline.family]
    asked = [(name, metric) for metric in metrics for name in by_name if name != baseline.family]
    results = [compare_lines(by_name[name], base, metric) for name, metric in asked]
    adjusted = holm([test.p for test, *_ in results])
    return [
        EqualKL(name, metric, test, p, overlap, apart, middle)
        for (name, metric), (test, overlap, apart, middle), p in zip(asked, results, adjusted.tolist(), strict=True)
    ]


def verdict(one: EqualKL) -> str:
    """In words: better, worse, not distinguishable, or why it was not tested."""
    if np.isnan(one.adjusted_p):
        return "not tested: fewer than two seeds" if one.test.count < 2 else "not tested: no spread over seeds"
    if one.adjusted_p >= ALPHA:
        return INDISTINCT
    sign = -1 if lower_is_better(one.metric) else 1
    return "better" if sign * one.test.difference > 0 else "worse"


def compare_lines(
    left: Sequence[Cell], right: Sequence[Cell], metric: str
) -> tuple[PairedTest, tuple[float, float] | None, dict[str, str], tuple[float, float]]:
    """Mean height of `left` less that of `right`, by seed; the common range; who is apart; heights in its middle."""
    lines: dict[str, tuple[Line, Line]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    apart: dict[str, str] = {}
    for seed in _shared_seeds(left, right):
        one, other = line_of(left, metric, seed), line_of(right, metric, seed)
        if min(len(one[0]), len(other[0])) < 2:
            apart[seed] = "fewer than two betas with a KL"
            continue
        low, high = max(one[0][0], other[0][0]), min(one[0][-1], other[0][-1])
        if not low < high:
            apart[seed] = f"KLs {_range(one[0])} and {_range(other[0])} do not overlap"
            continue
        lines[seed], ranges[seed] = (one, other), (float(low), float(high))
    heights = {seed: [mean_height(line, *ranges[seed]) for line in two] for seed, two in lines.items()}
    test = paired_test([one - other for one, other in heights.values()])
    common = _common(ranges)
    return test, common, apart, _at_middle(lines, common)


def _shared_seeds(left: Sequence[Cell], right: Sequence[Cell]) -> list[str]:
    of_right = {seed for cell in right for seed in cell.runs}
    return [seed for seed in dict.fromkeys(seed for cell in left for seed in cell.runs) if seed in of_right]


def _common(ranges: Mapping[str, tuple[float, float]]) -> tuple[float, float] | None:
    if not ranges:
        return None
    low, high = max(low for low, _ in ranges.values()), min(high for _, high in ranges.values())
    return (low, high) if low < high else None


def _at_middle(lines: Mapping[str, tuple[Line, Line]], common: tuple[float, float] | None) -> tuple[float, float]:
    """Means over seeds of both lines at the middle of the common range; nan without one."""
    if common is None:
        return float("nan"), float("nan")
    middle = sum(common) / 2
    values = [[np.interp(middle, *line) for line in two] for two in lines.values()]
    left, right = np.asarray(values, dtype=np.float64).mean(axis=0).tolist()
    return left, right


def _range(kl: Array) -> str:
    return f"{kl[0]:.3g} to {kl[-1]:.3g}"
