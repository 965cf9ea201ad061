"""Which streams changed and what each contributes: all figures by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpo_lab.report.build import build_report
from dpo_lab.report.cells import Cell
from dpo_lab.report.seed_streams import REST, components, contributions, says, seed_streams_section
from dpo_lab.report.study import Study, read_study
from tests.report.folders import rows, write_run

METRIC = "val/rewards/accuracies"
GRID = {(1, 1): 1.0, (1, 2): 2.0, (2, 1): 3.0, (2, 2): 6.0}
"""By seeds of order and of initial weights. Means 1.5 and 4.5 by order, 2 and 4 by weights, 3 of all."""


def write(
    value: float,
    *,
    order: int = 0,
    init: int = 0,
    sampling: int = 0,
    kl: float | None = None,
    gave: Mapping[str, Any] | None = None,
) -> None:
    """A run whose streams gave what their seeds say, unless `gave` says otherwise; the metric ends at `value`."""
    found = {"order": [f"o{order}"], "windows": [f"w{order}"], "init": f"i{init}", "dropout": None, "sampling": None}
    seeds = {"order": order, "init": init, "dropout": 0, "sampling": sampling}
    write_run(
        Path("runs"),
        id=f"{order}-{init}-{sampling}",
        config={"seeds": seeds},
        info={"seeds": seeds, "streams": {**found, **(gave or {})}},
        metrics=rows(value, kl=kl),
    )


def study() -> Study:
    return read_study([Path("runs")])


def the_cell() -> Cell:
    (cell,) = study().cells
    return cell


@pytest.fixture
def grid() -> None:
    for (order, init), value in GRID.items():
        write(value, order=order, init=init)


@pytest.mark.usefixtures("grid")
def test_contributions_of_a_grid_by_hand():
    """Order: 1, 3 and 2, 6 around their means: 2 + 8 over 2 degrees of freedom. Weights: 1, 2 and 3, 6: 0.5 + 4.5."""
    found = contributions(the_cell(), METRIC)
    assert found.keys() == {"order", "init"}
    assert [one.sd for one in found.values()] == pytest.approx([5**0.5, 2.5**0.5])
    assert [one.df for one in found.values()] == [2, 2]


@pytest.mark.usefixtures("grid")
def test_components_of_a_grid_by_hand():
    """Squares: 14 in all, 2 * (1.5^2 + 1.5^2) = 9 of order, 2 * (1 + 1) = 4 of weights, so 1 is left over 1 degree of
    freedom: (9 - 1) / 2 = 4, (4 - 1) / 2 = 1.5, and 1."""
    found = components(the_cell(), METRIC)
    assert found == pytest.approx({"order": 4.0, "init": 1.5, REST: 1.0})
    rows_ = {(row[0], row[1]): row for row in seed_streams_section(study()).tables[1].rows}
    (label,) = {label for label, _ in rows_}
    assert rows_[label, "order"][-1] == pytest.approx(4 / 6.5) and rows_[label, REST][2] is None


@pytest.mark.usefixtures("grid")
def test_a_grid_with_a_hole_has_no_components():
    write(1.0, order=3, init=1)
    assert components(the_cell(), METRIC) is None
    assert contributions(the_cell(), METRIC)["order"].df == 3


def test_components_find_what_was_put_in(workplace: Path):
    """Over 200 grids of 4 orders and 5 weights with variances 4, 1 and 0.25, the means are those, within a tenth."""
    draw = np.random.default_rng(0)
    for order in range(4):
        for init in range(5):
            write(0.0, order=order, init=init)
    cell, sums = the_cell(), np.zeros(3)
    for _ in range(200):
        values = draw.normal(0, 2, (4, 1)) + draw.normal(0, 1, (1, 5)) + draw.normal(0, 0.5, (4, 5))
        for run in cell.runs.values():
            seeds = run.info["seeds"]
            run.curves[METRIC].values[-1] = values[seeds["order"], seeds["init"]]
        found = components(cell, METRIC)
        assert found is not None
        sums += list(found.values())
    assert sums / 200 == pytest.approx([4.0, 1.0, 0.25], rel=0.1)


def test_what_changed_is_told_by_what_was_drawn_and_not_by_the_seed():
    """Two seeds of everything: the start is the same, nothing was dropped, and a step holds the same items."""
    for seed in (1, 2):
        write(0.5 + seed / 10, order=seed, init=seed, sampling=seed, gave={"windows": ["w"], "init": "same"})
    cell = the_cell()
    assert says(cell, "order") == "changed inside of steps alone: the same items in each, so no more than rounding"
    assert says(cell, "init") == "could not change: the seed is another, the result the same"
    assert says(cell, "dropout") == "could not change: nothing was drawn from it"
    section = seed_streams_section(study())
    assert "In 1 of 1 cells nothing that moves val/rewards/accuracies changed but the order of the data" in str(
        section.paragraphs
    )
    assert contributions(cell, METRIC)["order"].sd == pytest.approx(0.1 / 2**0.5)


def test_samples_move_their_own_curves_alone():
    for seed in (1, 2):
        write(0.5, kl=float(seed), sampling=seed, gave={"sampling": f"s{seed}"})
    cell = the_cell()
    assert says(cell, "sampling") == "changed" and says(cell, "order") == "was held fixed"
    assert contributions(cell, METRIC) == {}
    assert contributions(cell, "samples/kl").keys() == {"sampling"}


def test_runs_without_a_record_are_told():
    write_run(Path("runs"), seed=0, metrics=rows(0.5))
    write_run(Path("runs"), seed=1, metrics=rows(0.6))
    section = seed_streams_section(study())
    assert section.tables == [] and section.paragraphs[0].startswith("No cell has two runs that recorded")
    assert "seed-streams" in [part.name for part in build_report(study(), "title").sections]
