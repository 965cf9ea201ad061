"""Claims that were written down before a sweep, checked against its runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import yaml

from dpo_lab.errors import UserError
from dpo_lab.report.cells import Cell, choose_cells
from dpo_lab.report.compare import ALPHA, INDISTINCT, differences_by_seed, lower_is_better
from dpo_lab.report.equal_kl import compare_lines, families
from dpo_lab.report.select import parse_conditions, shown
from dpo_lab.report.statistics import Array, PairedTest, best_of_sides, holm, minimum_detectable, paired_test

PLACES = ("equal_beta", "equal_kl", "best")
HOLDS, REFUTED = "holds", "refuted"
EXIT_CODES = {HOLDS: 0, INDISTINCT: 3, REFUTED: 4}
"""Of the worst verdict: 3 where a claim is neither shown nor refuted, 4 where one is refuted."""

_KEYS = {"name": str, "metric": str, "better": str, "worse": str, "at": str}


@final
@dataclass(frozen=True)
class Claim:
    """`better` and `worse` select cells; `by` is how much better, in the metric's unit, 0 unless said."""

    name: str
    metric: str
    better: str
    worse: str
    at: str
    by: float = 0.0


@final
@dataclass(frozen=True)
class Checked:
    """A claim and what the runs say: `test` is of (better - worse - by), turned so that positive is in its favour."""

    claim: Claim
    test: PairedTest
    adjusted_p: float
    verdict: str
    detectable: float
    note: str


def read_claims(file: Path) -> list[Claim]:
    """Claims of a YAML file: a list under ``claims``.

    Raises:
        UserError: the file cannot be read, or a claim has an unknown, missing or wrong key, naming it.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"claims={file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"claims={file} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping) or set(content) != {"claims"} or not isinstance(content["claims"], list):
        raise UserError(f"claims={file}: write a list of claims under the one key `claims:`")
    if not content["claims"]:
        raise UserError(f"claims={file} holds no claim")
    return [_claim(entry, f"{file}, claim {number}") for number, entry in enumerate(content["claims"], start=1)]


def check_claims(claims: Sequence[Claim], cells: Sequence[Cell]) -> list[Checked]:
    """Check all claims, with Holm's correction over them.

    Raises:
        UserError: a claim names a cell or a metric that is not there.
    """
    checked = [_check(claim, cells) for claim in claims]
    adjusted = holm([one.test.p for one in checked])
    num_tested = max(1, int(np.isfinite(adjusted).sum()))
    return [
        replace(
            one,
            adjusted_p=p,
            verdict=_verdict(one.test, p),
            detectable=minimum_detectable(one.test.sd, one.test.count, ALPHA / num_tested),
        )
        for one, p in zip(checked, adjusted.tolist(), strict=True)
    ]


def exit_code(checked: Sequence[Checked]) -> int:
    """0 all hold; 3 none is refuted, some is not distinguishable; 4 some is refuted."""
    return max((EXIT_CODES[one.verdict] for one in checked), default=0)


def _claim(entry: Any, where: str) -> Claim:
    if not isinstance(entry, Mapping):
        raise UserError(f"{where}: not a mapping with the keys {', '.join(_KEYS)}")
    unknown, missing = sorted(set(map(str, entry)) - {*_KEYS, "by"}), [key for key in _KEYS if key not in entry]
    if unknown or missing:
        parts = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(missing)}"] * bool(missing)
        raise UserError(f"{where}: {'; '.join(parts)}; a claim has {', '.join(_KEYS)} and may have by")
    for key, kind in _KEYS.items():
        if not isinstance(entry[key], kind):
            raise UserError(f"{where}: {key} must be a text, got {entry[key]!r}")
    if entry["at"] not in PLACES:
        raise UserError(f"{where}: at must be one of {', '.join(PLACES)}, got {entry['at']!r}")
    by = entry.get("by", 0.0)
    if isinstance(by, bool) or not isinstance(by, int | float):
        raise UserError(f"{where}: by must be a number, got {by!r}")
    parse_conditions(entry["better"])
    parse_conditions(entry["worse"])
    return Claim(**{key: entry[key] for key in _KEYS}, by=float(by))


def _check(claim: Claim, cells: Sequence[Cell]) -> Checked:
    try:
        better, worse = choose_cells(cells, claim.better), choose_cells(cells, claim.worse)
    except UserError as error:
        raise UserError(f"claim {claim.name!r}: {error}") from error
    if both := [cell.label for cell in better if any(cell is other for other in worse)]:
        raise UserError(f"claim {claim.name!r}: better and worse both name {both[0]}")
    if not any(claim.metric in run.curves for cell in (*better, *worse) for run in cell.runs.values()):
        raise UserError(f"claim {claim.name!r}: no run of its cells has the metric {claim.metric}")
    if claim.at == "best":
        test, note = _at_best(better, worse, claim)
    else:
        differences, note = _PLACES[claim.at](better, worse, claim.metric)
        sign = -1 if lower_is_better(claim.metric) else 1
        test = paired_test([sign * difference - claim.by for difference in differences])
    return Checked(claim, test, float("nan"), INDISTINCT, float("nan"), note)


def _at_equal_beta(better: Sequence[Cell], worse: Sequence[Cell], metric: str) -> tuple[list[float], str]:
    """One difference a seed: the mean over the betas that both sides have."""
    by_beta = {shown(cell.beta): cell for cell in worse}
    if len(by_beta) < len(worse) or len({shown(cell.beta) for cell in better}) < len(better):
        raise UserError("at equal_beta each side needs one cell a beta; say more in better and worse")
    couples = [(cell, by_beta[shown(cell.beta)]) for cell in better if shown(cell.beta) in by_beta]
    found = [differences_by_seed(one.last(metric), other.last(metric)) for one, other in couples]
    # A seed that lacks a beta would weigh the others differently.
    seeds = [seed for seed in (found[0] if found else {}) if all(seed in differences for differences in found)]
    betas = ", ".join(shown(one.beta) for one, _ in couples) or "none"
    return [float(np.mean([each[seed] for each in found])) for seed in seeds], f"betas of both sides: {betas}"


def _at_equal_kl(better: Sequence[Cell], worse: Sequence[Cell], metric: str) -> tuple[list[float], str]:
    for side in (better, worse):
        if len(families(side)) > 1:
            raise UserError("at equal_kl each side must be cells that differ in loss.beta alone; say more")
    seeds = list(dict.fromkeys(seed for cell in better for seed in cell.runs))
    differences, notes = [], []
    for seed in seeds:
        one, other = ([_only(cell, seed) for cell in side if seed in cell.runs] for side in (better, worse))
        test, overlap, apart, _ = compare_lines(one, other, metric)
        differences += [test.difference] if test.count else []
        notes += [f"seed {seed}: KL {overlap[0]:.3g} to {overlap[1]:.3g}"] if overlap else []
        notes += [f"seed {seed}: {reason}" for reason in apart.values()]
    return differences, "; ".join(notes)


def _at_best(better: Sequence[Cell], worse: Sequence[Cell], claim: Claim) -> tuple[PairedTest, str]:
    """Each side's best cell, whichever that is; the note tells what choosing on the other seeds would have got."""
    sign = -1 if lower_is_better(claim.metric) else 1
    tables = [[cell.last(claim.metric) for cell in side] for side in (better, worse)]
    every = [values for table in tables for values in table]
    seeds = [seed for seed in every[0] if all(np.isfinite(values.get(seed, np.nan)) for values in every)]
    note = "each side's best cell, whichever it is"
    if not seeds:
        return paired_test([]), f"{note}; no seed that all cells of both sides have"
    left, right = (
        sign * np.asarray([[v[seed] for seed in seeds] for v in table], dtype=np.float64) for table in tables
    )
    if len(left) == len(right) == 1:
        return paired_test(left[0] - claim.by - right[0]), "one cell a side"
    if len(seeds) > 1:
        tuned = float(np.mean(_tuned(left) - _tuned(right))) - claim.by
        note += f"; chosen on the other seeds and measured on the one left out: {tuned:.4g}, no part of the test"
    return best_of_sides(left - claim.by, right), note


def _tuned(table: Array) -> Array:
    """Of each column what the row has there that is best on the other columns."""
    if len(table) == 1 or table.shape[1] == 1:
        return table.max(axis=0)
    others = (table.sum(axis=1, keepdims=True) - table) / (table.shape[1] - 1)
    return table[np.argmax(others, axis=0), np.arange(table.shape[1])]


def _only(cell: Cell, seed: str) -> Cell:
    return replace(cell, runs={seed: cell.runs[seed]})


def _verdict(test: PairedTest, adjusted_p: float) -> str:
    if not adjusted_p < ALPHA:
        return INDISTINCT
    return HOLDS if test.difference > 0 else REFUTED


_PLACES = {"equal_beta": _at_equal_beta, "equal_kl": _at_equal_kl}
