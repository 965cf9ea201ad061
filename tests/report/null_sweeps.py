"""Sweeps in which no loss and no beta is better than another, made of numbers alone, and what a report says of them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dpo_lab.report.cells import Cell, make_cells
from dpo_lab.report.claims import Claim, check_claims
from dpo_lab.report.compare import ALPHA, compare_to_baseline
from dpo_lab.report.equal_kl import KL, compare_families, verdict
from dpo_lab.report.records import Curve, RunRecord

METRIC, REWARD = "val/rewards/accuracies", "samples/true_reward"
LOSSES = ("sigmoid", "ipo", "hinge", "robust", "exo")
SPREADS = (0.05, 0.02)
"""Of accuracies over seeds: what all cells of a seed share, and what each has for itself."""


class Shape(NamedTuple):
    num_losses: int
    num_betas: int
    num_seeds: int

    @property
    def num_cells(self) -> int:
        return self.num_losses * self.num_betas


class Alarms(NamedTuple):
    """Whether a sweep without any difference was told to have one: by a table of the report, or by plain 5 %."""

    comparisons: bool
    equal_kl: bool
    claims: bool
    uncorrected: bool


def claims_of(shape: Shape) -> list[Claim]:
    """That each other loss beats sigmoid, in each of the three ways."""
    return [
        Claim(f"{loss} at {at}", METRIC, f"loss={loss}", "loss=sigmoid", at)
        for loss in LOSSES[1 : shape.num_losses]
        for at in ("equal_beta", "equal_kl", "best")
    ]


def false_alarms(shape: Shape, count: int, *, seed: int = 0, bend: float = 0.0) -> Iterator[Alarms]:
    """What is said of `count` sweeps, through the functions that a report calls.

    Args:
        bend: accuracy and reward rise with KL, by the same bent curve for every loss; then only what is compared at
            equal KL is the same in all cells.
    """
    claims = claims_of(shape)
    for drawn in draw_sweeps(shape, count, seed=seed, bend=bend):
        (baseline,) = [cell for cell in drawn if cell.chosen_by("loss=sigmoid loss.beta=0.1")]
        comparisons = compare_to_baseline(drawn, baseline, METRIC)
        at_equal_kl = compare_families(drawn, baseline, [METRIC, REWARD])
        checked = check_claims(claims, drawn)
        yield Alarms(
            comparisons=any(one.verdict in ("better", "worse") for one in comparisons),
            equal_kl=any(verdict(one) in ("better", "worse") for one in at_equal_kl),
            claims=any(one.verdict in ("holds", "refuted") for one in checked),
            uncorrected=any(one.seeds.p < ALPHA for one in comparisons),
        )


def draw_sweeps(shape: Shape, count: int, *, seed: int = 0, bend: float = 0.0) -> Iterator[list[Cell]]:
    """The cells of `count` sweeps."""
    cells = _cells(shape)
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield _draw(cells, shape, generator, bend)


def _cells(shape: Shape) -> list[Cell]:
    betas = np.geomspace(0.1, 1.0, shape.num_betas).round(3).tolist()
    configs = [
        {"loss": loss, "loss.beta": beta, "seed": seed}
        for loss in LOSSES[: shape.num_losses]
        for beta in betas
        for seed in range(shape.num_seeds)
    ]
    names = (Path("made") / "-".join(map(str, config.values())) for config in configs)
    return make_cells(RunRecord(path, config, {}, {}, {}, (), ()) for path, config in zip(names, configs, strict=True))


def _draw(cells: Sequence[Cell], shape: Shape, generator: np.random.Generator, bend: float) -> list[Cell]:
    shared, own = SPREADS
    of_seed = dict(zip(cells[0].runs, generator.normal(0, shared, shape.num_seeds).tolist(), strict=True))
    drawn = []
    for cell in cells:
        runs = {}
        for name, run in cell.runs.items():
            # Each loss has a scale of its own: a beta of one is no beta of another.
            scale = 1 + 0.3 * LOSSES.index(cell.loss)
            kl = float(scale / (cell.beta or 1.0) ** 0.5 * np.exp(generator.normal(0, 0.05)))
            gain = bend * (1 - np.exp(-kl))
            values = {
                METRIC: 0.6 + of_seed[name] + gain + generator.normal(0, own),
                REWARD: 2.0 + gain + generator.normal(0, 0.3),
                KL: kl,
            }
            steps = np.asarray([1.0])
            runs[name] = replace(run, curves={key: Curve(steps, np.asarray([v])) for key, v in values.items()})
        drawn.append(replace(cell, runs=runs))
    return drawn
